"""Dictionaries of OpenCV's ArUco module as files: YAML, XML or JSON of its FileStorage."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_trackers.barcodes.dictionary import MAX_BITS, MAX_CODES, TagDictionary

SUFFIXES = (".yml", ".yaml", ".xml")
MAX_BYTES = 64_000_000


def write_opencv(
    dictionary: TagDictionary, path: str | PathLike[str], *, overwrite: bool = False
) -> None:
    """Write what ``cv2.aruco.Dictionary.readDictionary`` reads.

    Its numbers are positions: number i is the code of ``dictionary.ids[i]``. A white ring becomes
    part of the code (`TagDictionary.to_opencv`).

    Raises
    ------
    ValidationError
        When the suffix is none of .yml, .yaml and .xml.
    OutputExistsError
        When the file exists and ``overwrite`` is False.
    """
    import cv2

    from dpk_core.services.storage import atomic_path

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValidationError(f"expected a file that ends with .yml or .xml, found {path.name}")
    storage = cv2.FileStorage(path.suffix.lower(), cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY)
    dictionary.to_opencv().writeDictionary(storage)
    text = storage.releaseAndGetString()
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_opencv(path: str | PathLike[str]) -> TagDictionary:
    """Read what ``cv2.aruco.Dictionary.writeDictionary`` wrote; ids count from 0.

    Raises
    ------
    FileMissingError, FileFormatError
        When there is no file, or it is no such dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise FileMissingError(f"expected a tag dictionary at {path}, found no file")
    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(f"{path}: expected at most {MAX_BYTES} bytes for tags")
    size, rows = _rows(path)
    if not 2 <= size <= MAX_BITS or not 1 <= len(rows) <= MAX_CODES:
        raise FileFormatError(
            f"{path}: expected 1 to {MAX_CODES} codes of 2 to {MAX_BITS} modules a side, found "
            f"{len(rows)} of {size}"
        )
    if any(len(row) != size**2 or set(row) - {"0", "1"} for row in rows):
        raise FileFormatError(f"{path}: expected {size**2} digits 0 or 1 for each marker")
    codes = np.array([[int(bit) for bit in row] for row in rows], np.uint8)
    try:
        return TagDictionary(codes.reshape(-1, size, size), rings="single", name=path.stem)
    except ValidationError as error:
        raise FileFormatError(f"{path}: {error}") from None


def _rows(path: Path) -> tuple[int, list[str]]:
    """Modules along a side, and the text of each marker."""
    import cv2

    wrong = FileFormatError(
        f"{path}: expected nmarkers, markersize and marker_0, ... as OpenCV writes them"
    )
    try:
        text = path.read_text(encoding="utf-8")
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        numbers = [storage.getNode(name) for name in ("markersize", "nmarkers")]
        if not all(node.isInt() for node in numbers):
            raise wrong
        size, count = (int(node.real()) for node in numbers)
        rows = [storage.getNode(f"marker_{i}").string() for i in range(min(count, MAX_CODES + 1))]
    except (cv2.error, SystemError, ValueError):  # what OpenCV's parser raises on other files
        raise wrong from None
    return size, rows
