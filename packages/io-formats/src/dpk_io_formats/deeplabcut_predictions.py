"""The tables that DeepLabCut's ``analyze_videos`` writes, as .h5 and as .csv.

A row for each frame of the video, from 0; columns with the levels scorer, (individuals,)
bodyparts, coords, the last being x, y and likelihood. Multi-animal projects have the individuals;
body parts that are there once a frame belong to one called "single". What is missing is NaN, or -1
where version 3 had nothing to put in.

Coordinates are those of the labels, see `dpk_io_formats.deeplabcut`: (0, 0) is the centre of the
top-left pixel. With ``cropping`` in the project's configuration (or ``cropping=[x1, x2, y1, y2]``),
they count from the corner of that rectangle, and the table does not say so: give
``offset=(x1, y1)``. Source: DeepLabCut 2.3 and 3.0, ``utils/make_labeled_video.py`` (``df_x +=
x1``), ``utils/auxiliaryfunctions.py`` (save_data), ``pose_estimation_pytorch/apis/
analyze_videos.py`` (create_df_from_prediction), ``refine_training_dataset/stitch.py`` (whose
tables have the key "tracks").

Poses hold single precision: coordinates are kept to 24 bits, a thousandth of a pixel at 8,000.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PIECE, PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.deeplabcut import frame_number
from dpk_io_formats.deeplabcut_hdf import PickledDataError, has_frame, open_frame
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


class DeepLabCutPredictionsFormat(PoseFormat):
    """Reads and writes .h5 and .csv, as the suffix says."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            layout = peek_layout(Path(path))
        except PickledDataError:
            return has_frame(Path(path))  # reading says what to do
        except (DpkError, OSError, ValueError):
            return False
        return not layout.scorer.endswith("_tracker")  # those of Lightning Pose

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        return ("poses",)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "poses",
        *,
        report: LossReport | None = None,
        scorer: str = "",
        offset: tuple[float, float] = (0.0, 0.0),
        video: str = "",
        **options: Any,
    ) -> PoseStream:
        """Poses of a video, with the scorer and the names of individuals in the provenance.

        Without individuals there is a row for each frame. With them, there is one for each that
        has anything; their numbers follow the columns.

        Parameters
        ----------
        scorer
            Whose columns, when there are several; the first by default.
        offset
            x and y of the corner of the rectangle that was analysed, added to all coordinates.
        video
            Of predictions for labelled images, the folder whose images to read as frames.

        Raises
        ------
        FileMissingError
        FileFormatError
            When the table is not what DeepLabCut writes; while the stream is read, with the row.
        ValidationError
            On an option that there is not.
        """
        if options:
            raise ValidationError(f"deeplabcut-predictions: unknown options {sorted(options)}")
        if kind != "poses":
            raise ValidationError(f"predictions of DeepLabCut are poses, not {kind}")
        table = open_predictions(Path(path), scorer=scorer, video=video)
        return stream_of(table, Path(path), report, offset=offset)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> None:
        """Write a table; see `deeplabcut_predictions_write.write_predictions`."""
        from dpk_io_formats.deeplabcut_predictions_write import write_predictions

        if not isinstance(data, PoseStream):
            raise ValidationError(
                f"predictions of DeepLabCut are poses, found {type(data).__name__}; for labels "
                "write deeplabcut"
            )
        write_predictions(Path(path), data, LossReport() if report is None else report, **options)


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


def stream_of(
    table: PredictionTable,
    path: Path,
    report: LossReport | None,
    *,
    offset: tuple[float, float] = (0.0, 0.0),
) -> PoseStream:
    """Poses as a stream; what is lost is counted the first time it is read to the end."""
    layout = table.layout
    skeleton = Skeleton(layout.bodyparts)
    provenance: dict[str, Any] = {"scorer": layout.scorer, "n_frames": table.n_frames}
    if layout.is_multi:
        provenance["track_names"] = {str(i): name for i, name in enumerate(layout.individuals)}
    if table.video:
        provenance["video"] = table.video
    shift = np.array(offset, np.float64)
    if shift.shape != (2,) or not np.isfinite(shift).all():
        raise ValidationError(f"offset: expected two numbers, found {offset!r}")
    counted = report is None
    if report is not None:
        others = ", ".join(layout.other_scorers)
        report.add("scorers", len(layout.other_scorers), f"{others}: choose with scorer=NAME")
        report.add("splits", int("set" in layout.ignored), "poses do not tell training from test")
        names = [name for name in layout.ignored if name != "set"]
        listed = ", ".join(dict.fromkeys(names))
        report.add("columns", len(names), f"{listed}: neither x, y nor likelihood")

    def pieces() -> Iterator[Poses]:
        nonlocal counted
        counter = _Counter(layout)
        for frames, values in table.pieces():
            counter.rows, counter.end = counter.rows + len(frames), int(frames[-1]) + 1
            yield _poses(layout, skeleton, frames, values, shift, provenance, counter, path)
        if not counted and report is not None:
            counted = True
            counter.tell(report)

    length = None if layout.is_multi else table.n_frames
    return PoseStream(skeleton, pieces, length, provenance)


def rows_at_once(n_columns: int) -> int:
    """Rows in a piece: fewer of a table with many animals, so that memory stays flat."""
    return max(1, min(PIECE, 4_000_000 // max(n_columns, 1)))


class _Counter:
    """What does not come over, counted while it streams."""

    def __init__(self, layout: Layout) -> None:
        self.clipped = self.orphans = self.placeholders = self.unscored = 0
        self.rows = self.end = 0
        self.seen = np.zeros(layout.columns.shape[:2], bool)
        self._layout = layout

    def tell(self, report: LossReport) -> None:
        report.add("scores", self.clipped, "outside 0 to 1, they are moved to the nearest of both")
        report.add("scores", self.unscored, "there is a position and no likelihood: taken for 1")
        report.add("scores", self.orphans, "of keypoints without a position, they become 0")
        report.add("placeholders", self.placeholders, "negative likelihoods stand for missing")
        gaps = self.end - self.rows
        report.add("gaps in the frames", gaps, "tables that dpk writes have a row for each frame")
        layout = self._layout
        if layout.is_multi:
            seen = np.flatnonzero(self.seen.any(axis=1))
            lost = [name for i, name in enumerate(layout.individuals) if i not in seen]
            report.add("individuals", len(lost), f"{', '.join(lost)}: nowhere in the table")
        if layout.unique:
            unseen = ~self.seen[:, -layout.unique :].any(axis=0)
            report.add(
                "unique body parts",
                int(unseen.sum()),
                "nowhere in the table, so that nothing tells them from those of every animal",
            )


def _poses(
    layout: Layout,
    skeleton: Skeleton,
    frames: np.ndarray,
    values: np.ndarray,
    shift: np.ndarray,
    provenance: dict[str, Any],
    counter: _Counter,
    path: Path,
) -> Poses:
    found = layout.arrange(values)  # (n, individuals, k, 3)
    infinite = np.argwhere(np.isinf(found))
    if len(infinite):
        raise FileFormatError(
            f"{path}, frame {frames[infinite[0][0]]}: expected finite numbers, found inf"
        )
    xy, scores = found[..., :2] + shift, found[..., 2].copy()
    placeholder = scores < 0
    if placeholder.any():
        at = (found[..., :2] == found[..., 2:]).all(axis=-1) & placeholder  # -1, -1, -1
        counter.placeholders += int(at.sum())
        xy[at], scores[at] = np.nan, np.nan
    missing = np.isnan(xy).any(axis=-1)
    there = ~missing | np.isfinite(scores)
    in_row = ~missing.all(axis=-1)
    orphans = missing & np.isfinite(scores)
    if layout.is_multi:  # an animal without any position has likelihoods of 0, see the writer
        orphans &= (scores != 0) | in_row[..., None]
    counter.orphans += int(orphans.sum())
    counter.unscored += int((~missing & np.isnan(scores)).sum())
    scores = np.where(missing, 0.0, np.where(np.isnan(scores), 1.0, scores))
    counter.clipped += int(((scores < 0) | (scores > 1)).sum())
    scores = np.clip(scores, 0.0, 1.0)
    xy[missing] = np.nan
    counter.seen |= (~missing).any(axis=0)
    if not layout.is_multi:
        return Poses(
            xy[:, 0].astype(np.float32), scores[:, 0].astype(np.float32), skeleton, frames,
            provenance=provenance,
        )  # fmt: skip
    row, individual = np.nonzero(there.any(axis=-1))
    return Poses(
        xy[row, individual].astype(np.float32),
        scores[row, individual].astype(np.float32),
        skeleton,
        frames[row],
        individual.astype(np.int32),
        provenance,
    )


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
