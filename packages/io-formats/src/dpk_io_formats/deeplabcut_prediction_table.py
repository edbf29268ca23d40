"""Tables of predictions, opened as HDF5 or CSV and read in pieces."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import attrs
import numpy as np

from dpk_core.errors import FileFormatError, FileMissingError
from dpk_core.streams import PIECE
from dpk_io_formats.deeplabcut_hdf import open_frame
from dpk_io_formats.deeplabcut_project import frame_number
from dpk_io_formats.deeplabcut_table import (
    Layout,
    count_header_rows,
    count_index_columns,
    cut_short,
    header_columns,
    image_parts,
    make_layout,
    parse_number,
    read_rows,
)

XY_LIKELIHOOD = ("x", "y", "likelihood")
_MAX_HEADER = 1 << 24
"""Bytes in which the header rows must end."""

_HDF = b"\x89HDF\r\n\x1a\n"
Pieces = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]
"""Gives (frames (n,), values (n, columns)) of some rows each."""


@attrs.frozen(eq=False)
class PredictionTable:
    """Columns, and rows in pieces; length None when it is not known."""

    layout: Layout
    pieces: Pieces
    n_frames: int
    video: str = ""


def peek_layout(path: Path, *, extra: bool = False) -> Layout:
    """What the columns of a table of predictions are.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    if _is_hdf(path):
        with open_frame(path) as frame:
            return make_layout(frame.columns, XY_LIKELIHOOD, path, extra=extra)
    return _csv_layout(csv_header(path)[0], path, "", extra)[0]


def open_predictions(
    path: Path, *, scorer: str = "", video: str = "", extra: bool = False
) -> PredictionTable:
    """A table of predictions in either format, judged by content.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    if _is_hdf(path):
        return _open_hdf(path, scorer, video, extra)
    return _open_csv(path, scorer, video, extra)


def rows_at_once(n_columns: int) -> int:
    """Rows in a piece: fewer of a table with many animals, so that memory stays flat."""
    return max(1, min(PIECE, 1_000_000 // max(n_columns, 1)))


# -- HDF5 ---------------------------------------------------------------------------------------


def _is_hdf(path: Path) -> bool:
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; expected a table, .h5 or .csv")
    try:
        with path.open("rb") as file:
            return file.read(8) == _HDF
    except OSError as error:
        raise FileMissingError(f"{path} cannot be read: {error.strerror or error}") from None


def _open_hdf(path: Path, scorer: str, video: str, extra: bool) -> PredictionTable:
    with open_frame(path) as frame:
        layout = make_layout(frame.columns, XY_LIKELIHOOD, path, scorer=scorer, extra=extra)
        n_rows = len(frame)
        if not n_rows:
            raise FileFormatError(f"{path} has no frame; the table is empty")
        if frame.index.ndim == 2:
            names = [tuple(map(str, row)) for row in frame.index]
            numbers, video = _frames_of_images(names, video, path, 0)
        else:
            numbers = frame.index
            _check_frames(numbers, -1, path, 0)

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with open_frame(path) as again:
            if len(again) != n_rows:
                raise FileFormatError(f"{path} changed while it was read")
            step = rows_at_once(len(again.columns))
            for start in range(0, n_rows, step):
                stop = min(start + step, n_rows)
                chosen = numbers[start:stop] >= 0
                yield numbers[start:stop][chosen], again.read(start, stop)[chosen]

    return PredictionTable(layout, pieces, _count_frames(numbers), video)


def _count_frames(numbers: np.ndarray) -> int:
    return int((numbers >= 0).sum())


# -- CSV ----------------------------------------------------------------------------------------


def csv_header(path: Path) -> tuple[list[list[str]], int]:
    """The header rows, and how many bytes they take."""
    rows: list[list[str]] = []
    try:
        with path.open("rb") as file:
            for line in islice(file, 4):
                text = line[:_MAX_HEADER].decode("utf-8-sig" if not rows else "utf-8")
                rows.append(next(csv.reader([text.rstrip("\r\n")]), []))
                if len(rows) >= 3 and rows[-1] and rows[-1][0].strip() == "coords":
                    break
                if len(line) > _MAX_HEADER or not rows[0] or rows[0][0].strip() != "scorer":
                    break
            size = file.tell()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not UTF-8 text ({error})") from None
    except csv.Error as error:
        raise FileFormatError(f"{path} is not a CSV table ({error})") from None
    return rows, size


def _csv_layout(
    header: list[list[str]], path: Path, scorer: str, extra: bool
) -> tuple[Layout, int]:
    n_header = count_header_rows(header, path)
    widths = {len(row) for row in header[:n_header]}
    if len(widths) > 1:
        raise FileFormatError(f"{path}: the header rows have {sorted(widths)} columns")
    n_index = count_index_columns(header[n_header - 1], path)
    columns = header_columns(header[:n_header], n_index)
    return make_layout(columns, XY_LIKELIHOOD, path, scorer=scorer, extra=extra), n_index


def _open_csv(path: Path, scorer: str, video: str, extra: bool) -> PredictionTable:
    header, start = csv_header(path)
    layout, n_index = _csv_layout(header, path, scorer, extra)
    width, n_header = len(header[-1]), len(header)
    n_lines, first = _count_lines(path, start)
    if not n_lines:
        raise FileFormatError(f"{path} has no frame; the table is empty")
    plain = _is_number(first.split(",")[0])
    if n_index > 1 or not plain or _last_is_text(first):
        return _open_image_csv(path, layout, n_index, n_header, width, video)

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        last = -1
        with path.open("rb") as file:
            file.seek(start)
            row = n_header + 1
            while lines := list(islice(file, rows_at_once(width))):
                values = _parse(lines, width, row, path)
                _check_frames(values[:, 0], last, path, row)
                frames = values[:, 0].astype(np.int64)
                last = int(frames[-1])
                yield frames, values[:, 1:]
                row += len(lines)

    return PredictionTable(layout, pieces, n_lines)


def _count_lines(path: Path, start: int) -> tuple[int, str]:
    """How many rows follow the header, and the first of them."""
    with path.open("rb") as file:
        file.seek(start)
        first = file.readline(_MAX_HEADER)
        file.seek(start)
        n_lines, end = 0, b"\n"
        while chunk := file.read(1 << 20):
            n_lines += chunk.count(b"\n")
            end = chunk[-1:]
    if end != b"\n":
        raise cut_short(path)
    return n_lines, first.decode("utf-8", "replace")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _last_is_text(line: str) -> bool:
    """Whether a column tells of the set (train, test), as Lightning Pose adds one."""
    cell = line.strip().rsplit(",", 1)[-1]
    return bool(cell) and not _is_number(cell)


def _parse(lines: list[bytes], width: int, row: int, path: Path) -> np.ndarray:
    """(n, width) numbers of some lines; NaN for empty cells.

    Raises
    ------
    FileFormatError
        With the row.
    """
    commas = width - 1
    if all(line.count(b",") == commas for line in lines):
        text = b"".join(lines).replace(b"\r\n", b"\n")
        if b",," in text or b",\n" in text:
            text = text.replace(b",,", b",nan,").replace(b",,", b",nan,")
            text = text.replace(b",\n", b",nan\n")
        try:
            values = np.loadtxt(
                io.StringIO(text.decode("ascii")), delimiter=",", ndmin=2, comments=None
            )
        except ValueError:
            values = np.empty((0, 0))
        if values.shape == (len(lines), width) and not np.isinf(values).any():
            return values
    return np.array([_parse_row(line, width, row + i, path) for i, line in enumerate(lines)])


def _parse_row(line: bytes, width: int, row: int, path: Path) -> list[float]:
    where = f"{path}, row {row}"
    cells = line.decode("utf-8", "replace").rstrip("\r\n").split(",")
    if len(cells) != width:
        raise FileFormatError(f"{where}: expected {width} columns, found {len(cells)}")
    return [parse_number(cell, where) for cell in cells]


def _check_frames(frames: np.ndarray, last: int, path: Path, row: int) -> None:
    """Frame numbers are whole, from 0, and grow."""
    place = "row" if row else "row of the table"
    whole = (frames >= 0) & (frames == np.floor(frames)) & (frames < 1e15)
    if not whole.all():
        i = int(np.argmin(whole))
        raise FileFormatError(
            f"{path}, {place} {row + i}: expected the number of a frame, found {frames[i]:g}"
        )
    grows = np.diff(frames, prepend=last) > 0
    if not grows.all():
        i = int(np.argmin(grows))
        raise FileFormatError(
            f"{path}, {place} {row + i}: the frame {int(frames[i])} stands twice, or after a later "
            "one; a table has each frame once, in order"
        )


# -- predictions for images ---------------------------------------------------------------------


def _open_image_csv(
    path: Path, layout: Layout, n_index: int, n_header: int, width: int, video: str
) -> PredictionTable:
    """A table whose rows are images rather than frames; these are never long."""
    rows = read_rows(path)[n_header:]
    names, values = [], np.full((len(rows), width - n_index), np.nan)
    for i, row in enumerate(rows):
        where = f"{path}, row {n_header + i + 1}"
        if len(row) != width:
            raise FileFormatError(f"{where}: expected {width} columns, found {len(row)}")
        names.append(tuple(row[:n_index]))
        for column in np.unique(layout.columns[layout.columns >= 0]).tolist():
            values[i, column] = parse_number(row[n_index + column], where)
    numeric = n_index == 1 and all(name[0].strip().isdecimal() for name in names)
    if numeric:
        frames = np.array([int(name[0]) for name in names])
        _check_frames(frames, -1, path, n_header + 1)
    else:
        frames, video = _frames_of_images(names, video, path, n_header + 1)
    chosen = frames >= 0

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, int(chosen.sum()), PIECE):
            part = slice(start, start + PIECE)
            yield frames[chosen][part], values[chosen][part]

    return PredictionTable(layout, pieces, _count_frames(frames), video)


def _frames_of_images(
    names: list[tuple[str, ...]], video: str, path: Path, row: int
) -> tuple[np.ndarray, str]:
    """The frame that each image shows, -1 for those of other folders; and the folder."""
    parts = [
        image_parts(name, f"{path}, row {row + i}")
        if len(name) > 1 or _has_folder(name[0])
        else ("", name[0].strip())
        for i, name in enumerate(names)
    ]
    folders = sorted({part[-2] for part in parts})
    if not video and len(folders) > 1:
        raise FileFormatError(
            f"{path} has predictions for images of several videos ({', '.join(folders[:5])}); "
            "poses are of one: choose it with the option video=NAME"
        )
    video = video or folders[0]
    frames = np.array([frame_number(p[-1]) if p[-2] == video else -1 for p in parts], np.int64)
    chosen = np.array([part[-2] == video for part in parts])
    known = frames[chosen]
    if not len(known) or (known < 0).any() or len(np.unique(known)) < len(known):
        raise FileFormatError(
            f"{path}: the images of {video or 'this table'} ({', '.join(folders[:5])}) are not "
            "named after the numbers of their frames; poses are of the frames of a video"
        )
    return frames, video


def _has_folder(name: str) -> bool:
    return "/" in name.strip("/") or "\\" in name.strip("\\")
