"""DeepLabCut's ``CollectedData_SCORER.csv``: which image, which body part, where.

Three header rows (``scorer``, ``bodyparts``, ``coords``), four in multi-animal projects (with
``individuals``). The image stands in one column as a path, or since version 2.2 in three:
``labeled-data``, the video's folder, the file. An empty cell is a missing coordinate.
"""

from __future__ import annotations

import csv
from pathlib import Path

import attrs
import numpy as np

from dpk_core.errors import FileFormatError


@attrs.frozen(eq=False)
class LabelTable:
    """Labels as they stand in a table.

    images: (folder, file) of each row; bodyparts: names in order; keypoints: (n, k, 2) float64, NaN
    is missing.
    """

    images: tuple[tuple[str, str], ...]
    bodyparts: tuple[str, ...]
    keypoints: np.ndarray


def read_table(path: Path) -> LabelTable:
    """Read one table.

    Raises
    ------
    FileFormatError
        With the row, where the table is not what DeepLabCut writes.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path} is not UTF-8 text ({error})") from None
    header, body = _split_header(rows, path)
    n_index = _count_index_columns(header, path)
    bodyparts = _bodyparts(header, n_index, path)
    width = n_index + 2 * len(bodyparts)
    images, values = [], np.full((len(body), len(bodyparts) * 2), np.nan)
    for i, row in enumerate(body):
        line = f"{path}, row {len(header) + i + 1}"
        if len(row) != width:
            raise FileFormatError(f"{line}: expected {width} columns, found {len(row)}")
        images.append(_image(row[:n_index], line))
        values[i] = [_number(cell, line) for cell in row[n_index:]]
    _check_unique(images, path)
    keypoints = values.reshape(len(body), len(bodyparts), 2)
    keypoints[np.isnan(keypoints).any(axis=2)] = np.nan
    return LabelTable(tuple(images), bodyparts, keypoints)


def _split_header(rows: list[list[str]], path: Path) -> tuple[list[list[str]], list[list[str]]]:
    names = [row[0].strip() for row in rows[:4]]
    if names[:4] == ["scorer", "individuals", "bodyparts", "coords"]:
        raise FileFormatError(
            f"{path} has labels of several individuals (an 'individuals' row); this reader knows "
            "single-animal projects"
        )
    if names[:3] != ["scorer", "bodyparts", "coords"]:
        raise FileFormatError(
            f"{path} is not a DeepLabCut table: expected rows that begin with scorer, bodyparts, "
            f"coords; found {', '.join(names[:3]) or 'an empty file'}"
        )
    if len(rows) == 3:
        raise FileFormatError(f"{path} has no labelled frame; label some first")
    return rows[:3], rows[3:]


def _count_index_columns(header: list[list[str]], path: Path) -> int:
    coords = [cell.strip() for cell in header[2]]
    n_index = coords.index("x") if "x" in coords else 0
    if n_index not in (1, 3):
        raise FileFormatError(
            f"{path}: expected the image in one column or in three before the first x, found "
            f"{n_index}"
        )
    return n_index


def _bodyparts(header: list[list[str]], n_index: int, path: Path) -> tuple[str, ...]:
    names = [cell.strip() for cell in header[1][n_index:]]
    coords = [cell.strip() for cell in header[2][n_index:]]
    if coords != ["x", "y"] * (len(coords) // 2) or names[::2] != names[1::2]:
        raise FileFormatError(
            f"{path}: expected an x and a y column for each body part, in this order; found "
            f"{list(zip(names, coords, strict=False))[:6]}"
        )
    bodyparts = tuple(names[::2])
    twice = sorted({name for name in bodyparts if bodyparts.count(name) > 1})
    if twice:
        raise FileFormatError(f"{path}: the body part {twice[0]!r} stands twice")
    return bodyparts


def _image(cells: list[str], line: str) -> tuple[str, str]:
    """(folder, file) below ``labeled-data``; a path that leads elsewhere is refused."""
    parts = [p for cell in cells for p in cell.strip().replace("\\", "/").split("/") if p]
    if ".." in parts:
        raise FileFormatError(f"{line}: the image {'/'.join(parts)!r} leads out of the project")
    if len(parts) < 2:
        raise FileFormatError(
            f"{line}: expected labeled-data/VIDEO/IMAGE, found {'/'.join(parts)!r}"
        )
    return parts[-2], parts[-1]


def _number(cell: str, line: str) -> float:
    cell = cell.strip()
    if not cell or cell.lower() == "nan":
        return np.nan
    try:
        value = float(cell)
    except ValueError:
        raise FileFormatError(f"{line}: expected a number, found {cell!r}") from None
    if not np.isfinite(value):
        raise FileFormatError(f"{line}: expected a finite number, found {cell}")
    return value


def _check_unique(images: list[tuple[str, str]], path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for image in images:
        if image in seen:
            raise FileFormatError(
                f"{path}: the frame {'/'.join(image)} is labelled twice; remove one of its rows"
            )
        seen.add(image)
