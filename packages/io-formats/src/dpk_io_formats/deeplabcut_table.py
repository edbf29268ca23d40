"""The tables of DeepLabCut: which columns are there, and ``CollectedData_SCORER.csv``.

Three header rows (``scorer``, ``bodyparts``, ``coords``), four in multi-animal projects (with
``individuals`` after the scorer), where body parts that are there once a frame (a corner of the
box, say) belong to an individual called ``single``. The image stands in one column as a path, or
since version 2.2 in three: ``labeled-data``, the video's folder, the file. An empty cell is a
missing coordinate.

Source: DeepLabCut 2.3 and 3.0, ``generate_training_dataset/trainingsetmanipulation.py`` and
``utils/conversioncode.py``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np

from dpk_core.errors import FileFormatError, FileMissingError

SINGLE = "single"
"""DeepLabCut's name for the individual that has the unique body parts."""

LEVELS = ("scorer", "bodyparts", "coords")
LEVELS_MULTI = ("scorer", "individuals", "bodyparts", "coords")
XY = ("x", "y")

_LONGEST_NAME = 255
"""Bytes in the name of a file, on all common disks."""


@attrs.frozen(eq=False)
class Layout:
    """What the columns of a table mean.

    Parameters
    ----------
    scorer
        Whose columns these are.
    individuals
        Names in order; one empty name in a table without individuals.
    bodyparts
        Names in order, those of every animal before the unique ones.
    unique
        How many of the last body parts belong to `SINGLE` alone.
    columns
        (individuals, bodyparts, coords) int: where each number stands among the columns, -1
        nowhere.
    other_scorers
        Whose columns these are not.
    ignored
        The names of columns that are no coordinates, one for each of them.
    """

    scorer: str
    individuals: tuple[str, ...]
    bodyparts: tuple[str, ...]
    unique: int
    columns: np.ndarray
    other_scorers: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def is_multi(self) -> bool:
        """Whether the table tells individuals apart."""
        return self.individuals != ("",)

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """(n, columns) -> (n, individuals, bodyparts, coords), NaN where there is no column."""
        if values.shape[1] == self.columns.size and np.array_equal(
            self.columns.ravel(), np.arange(self.columns.size)
        ):
            return values.reshape(len(values), *self.columns.shape)
        found = values[:, np.maximum(self.columns, 0)].astype(np.float64)
        found[:, self.columns < 0] = np.nan
        return found


def make_layout(
    columns: Sequence[Sequence[str]],
    coords: Sequence[str],
    where: object,
    *,
    scorer: str = "",
    extra: bool = False,
) -> Layout:
    """Understand the columns of a table.

    Parameters
    ----------
    columns
        (scorer, bodypart, coord) or (scorer, individual, bodypart, coord) of each.
    coords
        What each body part has, in this order: x and y, with or without likelihood.
    where
        The file, for messages.
    scorer
        Whose columns to take when there are several; the first by default.
    extra
        Whether further columns of a body part may follow; they are ignored.

    Raises
    ------
    FileFormatError
    """
    listed = [tuple(str(cell).strip() for cell in column) for column in columns]
    if not listed or len({len(column) for column in listed}) > 1 or len(listed[0]) not in (3, 4):
        raise FileFormatError(
            f"{where}: expected columns with {', '.join(LEVELS)} (or {', '.join(LEVELS_MULTI)}), "
            f"found {listed[:3]}"
        )
    scorers = tuple(dict.fromkeys(column[0] for column in listed if column[-1] == coords[0]))
    chosen = scorer if scorer in scorers or not scorers else scorers[0]
    groups = _groups(listed, chosen, coords, where, extra)
    individuals = tuple(dict.fromkeys(individual for individual, _ in groups))
    several = individuals != (SINGLE,)
    shared = dict.fromkeys(p for i, p in groups if i != SINGLE or not several)
    only_once = dict.fromkeys(p for i, p in groups if i == SINGLE and several and p not in shared)
    bodyparts = (*shared, *only_once)
    places = np.full((len(individuals), len(bodyparts), len(coords)), -1)
    for (individual, bodypart), start in groups.items():
        row, column = individuals.index(individual), bodyparts.index(bodypart)
        places[row, column] = np.arange(start, start + len(coords))
    return Layout(
        chosen, individuals, bodyparts, len(only_once), places,
        tuple(s for s in scorers if s != chosen),
        tuple(c[-1] or c[0] for c in listed if c[-1] not in coords),
    )  # fmt: skip


def _groups(
    columns: list[tuple[str, ...]], scorer: str, coords: Sequence[str], where: object, extra: bool
) -> dict[tuple[str, str], int]:
    """(individual, bodypart) -> the first of its columns."""
    expected = "an x and a y column" if len(coords) == 2 else "columns x, y and likelihood"
    starts = [i for i, column in enumerate(columns) if column[-1] == coords[0]]
    groups: dict[tuple[str, str], int] = {}
    for start, end in zip(starts, [*starts[1:], len(columns)], strict=True):
        column = columns[start]
        if column[0] != scorer:
            continue
        same = [c[-1] for c in columns[start:end] if c[:-1] == column[:-1]]
        if tuple(same[: len(coords)]) != tuple(coords) or (
            not extra and (len(same) > len(coords) or end - start > len(coords))
        ):
            raise FileFormatError(
                f"{where}: expected {expected} for each body part, in this order; found "
                f"{[(c[-2], c[-1]) for c in columns[start:end]][:6]}"
            )
        individual, bodypart = ("" if len(column) == 3 else column[1]), column[-2]
        if not bodypart or (len(column) == 4 and not individual):
            raise FileFormatError(f"{where}: column {start + 1} has no name of a body part")
        if (individual, bodypart) in groups:
            of = f" of {individual!r}" if individual else ""
            raise FileFormatError(f"{where}: the body part {bodypart!r}{of} stands twice")
        groups[individual, bodypart] = start
    if not groups or (starts[0] and not extra):
        raise FileFormatError(
            f"{where}: expected {expected} for each body part, in this order; found the columns "
            f"{[column[-2:] for column in columns[:6]]}"
        )
    return groups


@attrs.frozen(eq=False)
class LabelTable:
    """Labels as they stand in a table.

    images: the parts of each row's path; layout: what the columns are; keypoints:
    (n, individuals, bodyparts, 2) float64, NaN is missing.
    """

    images: tuple[tuple[str, ...], ...]
    layout: Layout
    keypoints: np.ndarray


def read_table(path: Path, *, scorer: str = "", n_parts: int = 2) -> LabelTable:
    """Read one table of labels from CSV.

    Parameters
    ----------
    n_parts
        How many parts of an image's path make it unique, from the end; 0 all.

    Raises
    ------
    FileFormatError
        With the row, where the table is not what DeepLabCut writes.
    """
    rows = read_rows(path)
    header, body = _split_header(rows, path)
    n_index = count_index_columns(header[-1], path)
    layout = make_layout(header_columns(header, n_index), XY, path, scorer=scorer)
    width = len(header[-1])
    images, values = [], np.full((len(body), width - n_index), np.nan)
    for i, row in enumerate(body):
        line = f"{path}, row {len(header) + i + 1}"
        if len(row) != width:
            raise FileFormatError(f"{line}: expected {width} columns, found {len(row)}")
        images.append(image_parts(row[:n_index], line, max(n_parts, 1)))
        values[i] = [parse_number(cell, line) for cell in row[n_index:]]
    return label_table(images, layout, values, path, n_parts)


def label_table(
    images: Sequence[tuple[str, ...]],
    layout: Layout,
    values: np.ndarray,
    path: Path,
    n_parts: int = 2,
) -> LabelTable:
    """Put together what a CSV or HDF5 file says; FileFormatError for a frame that stands twice."""
    seen: set[tuple[str, ...]] = set()
    for image in images:
        if image[-n_parts:] in seen:
            raise FileFormatError(
                f"{path}: the frame {'/'.join(image[-n_parts:])} is labelled twice; remove one of "
                "its rows"
            )
        seen.add(image[-n_parts:])
    keypoints = np.array(layout.arrange(values), np.float64)
    infinite = np.argwhere(np.isinf(keypoints))
    if len(infinite):
        raise FileFormatError(
            f"{path}, row of {'/'.join(images[infinite[0][0]])}: expected a finite number, found "
            "inf"
        )
    keypoints[np.isnan(keypoints).any(axis=-1)] = np.nan
    return LabelTable(tuple(images), layout, keypoints)


def read_rows(path: Path) -> list[list[str]]:
    """All rows of a CSV file that is whole.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    text = read_text(path)
    try:
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise FileFormatError(f"{path} is not a CSV table ({error})") from None


def read_text(path: Path) -> str:
    """The text of a CSV file.

    Raises
    ------
    FileMissingError
    FileFormatError
        When it is not UTF-8, or its last line does not end: then it was cut short, and the last
        number may be any.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not UTF-8 text ({error})") from None
    except OSError as error:
        raise FileMissingError(f"{path} cannot be read: {error.strerror}") from None
    if text and not text.endswith(("\n", "\r")):
        raise cut_short(path)
    return text


def cut_short(path: Path) -> FileFormatError:
    """The error about a last line without an end."""
    return FileFormatError(
        f"{path} is cut short: its last row has no end of line; write it again, or end the row if "
        "it is whole"
    )


def header_columns(header: Sequence[Sequence[str]], n_index: int) -> list[tuple[str, ...]]:
    """The columns after the index, each with its cell of every header row."""
    return list(zip(*(row[n_index:] for row in header), strict=False))


def count_header_rows(rows: Iterable[Sequence[str]], path: object) -> int:
    """3 or 4, by the names of the header rows; FileFormatError when they are not there."""
    names = tuple(row[0].strip() if row else "" for row in rows)
    for levels in (LEVELS, LEVELS_MULTI):
        if names[: len(levels)] == levels:
            return len(levels)
    raise FileFormatError(
        f"{path} is not a DeepLabCut table: expected rows that begin with scorer, bodyparts, "
        f"coords (with individuals after scorer, of several animals); found "
        f"{', '.join(names[:4]) or 'an empty file'}"
    )


def count_index_columns(coords: Sequence[str], path: object) -> int:
    """1 or 3, by what stands before the first x."""
    stripped = [cell.strip() for cell in coords]
    n_index = stripped.index("x") if "x" in stripped else 0
    if n_index not in (1, 3):
        raise FileFormatError(
            f"{path}: expected an x and a y column for each body part, after the image in one "
            f"column or in three; found {n_index} columns before the first x"
        )
    return n_index


def image_parts(cells: Sequence[str], line: str, least: int = 2) -> tuple[str, ...]:
    """The parts of an image's path; FileFormatError when it leads out of the project."""
    parts = tuple(p for cell in cells for p in cell.strip().replace("\\", "/").split("/") if p)
    if ".." in parts:
        raise FileFormatError(f"{line}: the image {'/'.join(parts)!r} leads out of the project")
    parts = tuple(p for p in parts if p != ".")
    if len(parts) < least:
        raise FileFormatError(
            f"{line}: expected labeled-data/VIDEO/IMAGE, found {'/'.join(parts)!r}"
        )
    for part in parts[-2:]:
        if "\0" in part or len(part.encode("utf-8", "replace")) > _LONGEST_NAME:
            raise FileFormatError(
                f"{line}: {part[:40]!r}... cannot be the name of a file: it has "
                f"{len(part)} characters, or one that no name has"
            )
    return parts


def parse_number(cell: str, line: str) -> float:
    """A finite number, or NaN for an empty cell."""
    cell = cell.strip()
    if not cell or cell.lower() == "nan":
        return np.nan
    try:
        value = float(cell)
    except ValueError:
        raise FileFormatError(f"{line}: expected a number, found {cell[:40]!r}") from None
    if not np.isfinite(value):
        raise FileFormatError(f"{line}: expected a finite number, found {cell}")
    return value


def _split_header(rows: list[list[str]], path: Path) -> tuple[list[list[str]], list[list[str]]]:
    n_header = count_header_rows(rows[:4], path)
    if len({len(row) for row in rows[:n_header]}) > 1:
        raise FileFormatError(
            f"{path}: expected as many columns in each header row, found "
            f"{[len(row) for row in rows[:n_header]]}"
        )
    if len(rows) == n_header:
        raise FileFormatError(f"{path} has no labelled frame; label some first")
    return rows[:n_header], rows[n_header:]
