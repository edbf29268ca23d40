"""Opening HDF5 files with errors that a user understands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import FileFormatError, FileMissingError, SkeletonError, ValidationError
from dpk_core.skeleton import NONE, Skeleton

FORMAT_VERSION = 1
"""Version of our files; a reader refuses newer ones."""


@contextmanager
def open_for_reading(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read from, while others may replace it.

    No lock is taken: our writers never change a finished file in place.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; expected an HDF5 file (.h5)")
    if not path.is_file():
        raise FileMissingError(f"no file at {path}")
    try:
        file = open_shared(path, (False, None))
    except OSError as error:
        what = "empty" if path.stat().st_size == 0 else f"not HDF5, or cut short ({error})"
        raise FileFormatError(f"{path} is {what}; expected an HDF5 file (.h5)") from None
    with file:
        with damage_as_format_error(path):
            check_version(file, path)
        yield file


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """As `open_for_reading`, for a block that only reads: its failures are the file's.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    with open_for_reading(path) as file, damage_as_format_error(path):
        yield file


@contextmanager
def damage_as_format_error(path: Path) -> Iterator[None]:
    """Say which file is meant when HDF5 cannot read, or when values make no sense."""
    try:
        yield
    except SkeletonError as error:
        raise SkeletonError(f"{path}: {error}") from None
    except ValidationError as error:
        raise FileFormatError(f"{path} holds values that cannot be: {error}") from None
    except (OSError, RuntimeError, KeyError) as error:
        if isinstance(error, (FileFormatError, FileMissingError)):
            raise
        raise FileFormatError(
            f"{path} is damaged ({error}); expected a whole HDF5 file; restore it from a copy"
        ) from error


def open_shared(path: Path, lockings: tuple[bool | None, ...]) -> h5py.File:
    """Open for reading with the first way of locking that works.

    HDF5 refuses a second handle in one process that locks in another way than the first (a user's
    own, with h5py's default; a `PosesWriter`'s, without), and any while another program has the
    file open for writing with a lock. Neither is a reason not to read.
    """
    for locking in lockings[:-1]:
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError:
            continue
    return h5py.File(path, "r", locking=lockings[-1])


def check_version(file: h5py.File, path: Path) -> None:
    """FileFormatError when a newer dpk wrote the file."""
    version = int(file.attrs.get("dpk_format_version", 0))
    if version > FORMAT_VERSION:
        raise FileFormatError(
            f"{path} was written by a newer dpk (format {version}, this one reads up to "
            f"{FORMAT_VERSION}); update with: python -m pip install -U dpk-core"
        )


def stamp(file: h5py.File, kind: str) -> None:
    """Note what the file is and who wrote it."""
    from dpk_core import __version__

    file.attrs["dpk_kind"] = kind
    file.attrs["dpk_format_version"] = FORMAT_VERSION
    file.attrs["dpk_version"] = __version__


def require_dataset(file: h5py.File, key: str, path: Path, kind: str) -> h5py.Dataset:
    """The dataset, or FileFormatError with the keys that are there.

    Links are not followed: a file that somebody sent must not open others here.
    """
    links, name = file.id.links, key.encode()
    if links.exists(name) and links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise FileFormatError(
            f"{path}: {key!r} is a link to elsewhere, which is not followed; copy what it leads to "
            "into the file (with h5repack, say)"
        )
    item = file.get(key)
    if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
        raise FileFormatError(
            f"{path}: the data of {key!r} lie in other files, which are not opened; copy them into "
            "this one"
        )
    if isinstance(item, h5py.Group):
        raise FileFormatError(f"{path}: {key!r} is a group; expected a dataset, of {kind}")
    if not isinstance(item, h5py.Dataset):
        raise FileFormatError(
            f"{path} has no {key!r}; expected {kind}, found the keys "
            f"{', '.join(sorted(map(str, file))) or '(none)'}"
        )
    return item


def write_skeleton(file: h5py.File, skeleton: Skeleton) -> None:
    """``skeleton`` (k, 2) int32 and ``skeleton_names``, as DeepPoseKit has them."""
    names = [name.encode() for name in skeleton.names]
    file.create_dataset("skeleton", data=skeleton.to_array())
    file.create_dataset("skeleton_names", data=np.array(names, dtype=f"S{max(map(len, names))}"))


def read_skeleton(file: h5py.File, path: Path, n_keypoints: int) -> Skeleton:
    """The inverse of `write_skeleton`; without names, keypoints are numbered.

    Raises
    ------
    FileFormatError, SkeletonError
    """
    names = None
    if "skeleton_names" in file:
        stored = require_dataset(file, "skeleton_names", path, "names of keypoints")
        names = [_text(name) for name in np.ravel(stored[()])]
        _check_length(path, "'skeleton_names'", len(names), n_keypoints)
    if "skeleton" not in file:
        array = np.full((n_keypoints, 2), NONE)
    else:
        array = require_dataset(file, "skeleton", path, "a skeleton")[()]
        if array.dtype.kind not in "iu" and not (array.dtype.kind == "f" and _is_whole(array)):
            raise FileFormatError(
                f"{path}: 'skeleton' holds {array.dtype} numbers that are not whole; expected "
                "indices of parents and swap partners, -1 for none"
            )
    if array.ndim == 2 and array.shape[1] == 2:
        _check_length(path, "the skeleton", len(array), n_keypoints)
    try:
        return Skeleton.from_array(array, names)
    except SkeletonError as error:
        raise SkeletonError(f"{path}: {error}") from None


def write_json(file: h5py.File, name: str, value: Any) -> None:
    """A JSON attribute; see `to_json` for what it may hold."""
    file.attrs[name] = to_json(value)


def to_json(value: Any) -> str:
    """JSON text of dicts, lists, texts and numbers, NumPy's and paths included.

    Raises
    ------
    ValidationError
        When there is something else in it.
    """
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError) as error:
        raise ValidationError(f"provenance: expected texts and numbers; {error}") from None


def read_json(file: h5py.File, name: str, path: Path) -> dict[str, Any]:
    """The inverse of `write_json`; an empty dict when it is not there."""
    text = file.attrs.get(name, "{}")
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: the attribute {name!r} is damaged ({error})") from None
    if not isinstance(value, dict):
        raise FileFormatError(f"{path}: the attribute {name!r} is not a JSON object, found {text}")
    return value


def _check_length(path: Path, what: str, found: int, n_keypoints: int) -> None:
    if found != n_keypoints:
        raise FileFormatError(
            f"{path}: {what} has {found} keypoints, the coordinates have {n_keypoints}; "
            "they must agree"
        )


def _is_whole(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all() and (array == np.round(array)).all())


def _plain(value: object) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, PathLike):
        return os.fspath(value)
    raise TypeError(f"found {type(value).__name__}")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
