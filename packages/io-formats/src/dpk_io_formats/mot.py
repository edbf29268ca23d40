"""Tracks as MOT Challenge text (Leal-Taixe et al. 2015, arXiv:1504.01942; motchallenge.net).

One row for each individual in each frame, without a header::

    frame, id, bb_left, bb_top, bb_width, bb_height, conf, x, y, z

"All frame numbers, target IDs and bounding boxes are 1-based" (motchallenge.net/instructions,
File Format). So frame 1 is dpk's frame 0, and a box counts pixels as MATLAB does: ``bb_left`` 1 is
the first column of the image, and a box of width w covers the columns bb_left to bb_left + w - 1.
Its centre in dpk's coordinates, where 0 is the centre of the first column, is
bb_left - 1 + (w - 1) / 2.

Ground truth (``gt.txt``) has nine columns: the seventh says whether the row counts, then follow a
class and a visibility. World coordinates, classes and visibilities have no place in `Tracks`, and
are reported.

A box is upright and has no direction. From tracks with an angle, the upright box around the turned
animal is written, and the angle is lost. Boxes that are read have no angle; their width lies along
the x axis.
"""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats import tidy

_COLUMNS = ("frame", "id", "bb_left", "bb_top", "bb_width", "bb_height", "conf")
_FEWEST, _MOST = 7, 10
_LARGEST_WHOLE = 2.0**53
_DIGITS = 6
"""Decimals of a pixel: more than any tracker knows, fewer than halving a float brings up."""


class MotFormat(PoseFormat):
    """Reads and writes MOT Challenge text."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            cells = _first_row(Path(path))
        except DpkError:
            return False
        if not _FEWEST <= len(cells) <= _MOST:
            return False
        try:
            frame, number, _, _, width, height = map(float, cells[:6])
            list(map(float, cells))
        except ValueError:
            return False
        return frame % 1 == 0 and number % 1 == 0 and min(frame, width, height) >= 0

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        return ("tracks",)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "tracks",
        *,
        report: LossReport | None = None,
        first_frame: int = 1,
        **options: Any,
    ) -> Tracks:
        """Tracks whose ids count from 0, named after their numbers in the file.

        Parameters
        ----------
        first_frame
            Number of the video's first frame, for files of programs that count from 0.

        Raises
        ------
        FileMissingError
        FileFormatError
            That names the row.
        ValidationError
            On unknown options.
        """
        if options:
            raise ValidationError(f"mot: unknown options {', '.join(sorted(options))}")
        path = Path(path)
        table = _read_table(path)
        where = tidy.Rows(path, 1)
        frame, number, left, top, width, height, score = table[:, :7].T
        whole = (np.mod(table[:, :2], 1) == 0) & (np.abs(table[:, :2]) < _LARGEST_WHOLE)
        where.check(whole.all(axis=1), "frame and id must be whole numbers")
        where.check(
            frame >= first_frame,
            lambda i: (
                f"found frame {frame[i]:.0f}; frames count from {first_frame}; if this file's "
                "count from 0, read it with first_frame=0"
            ),
        )
        where.check(
            number >= 0,
            lambda i: f"the id {number[i]:.0f} is no track: these are detections, not tracks",
        )
        box = np.stack([left, top, width, height], axis=1)
        where.check(np.isfinite(box).all(axis=1), "the box is not finite")
        where.check((box[:, 2:] >= 0).all(axis=1), "the box has a negative size")
        tidy.check_pairs(frame.astype(np.int64), number.astype(np.int64), where)
        ids = number.astype(np.int64) - int(len(number) > 0 and number.min() >= 1)
        names = {int(i): f"{n:.0f}" for i, n in zip(ids, number, strict=True)}
        if report is not None:
            _count_extras(table, report)
        return Tracks(
            frame.astype(np.int64) - first_frame,
            ids,
            left - 1 + (width - 1) / 2,
            top - 1 + (height - 1) / 2,
            width,
            height,
            score=_scores(score, report),
            provenance=tidy.with_track_names(names),
        )

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        box_size: float | None = None,
        **options: Any,
    ) -> None:
        """Write tracks.

        An id is written as its name where all names are different whole numbers, as after reading
        MOT text, and otherwise as id + 1.

        Parameters
        ----------
        box_size
            Side in pixels of the box around animals whose width and height are unknown. Default:
            one pixel, which is reported.

        Raises
        ------
        ValidationError
            For poses and labels, negative ids and unknown options.
        """
        if options:
            raise ValidationError(f"mot: unknown options {', '.join(sorted(options))}")
        if not isinstance(data, Tracks):
            raise ValidationError("mot holds tracks only; choose another format for this")
        tracks = with_position(data, report)
        width, height = upright_boxes(tracks, report)
        unknown = np.isnan(width) | np.isnan(height)
        if report is not None:
            if box_size is None:
                report.add("boxes", int(unknown.sum()), "without a size they are one pixel large")
            report.add("interpolations", int(tracks.interpolated.sum()), "MOT text does not say")
        width, height = (np.where(unknown, box_size or 1.0, size) for size in (width, height))
        numbers = _numbers(tracks, report)
        columns = (
            (tracks.x - (width - 1) / 2 + 1),
            (tracks.y - (height - 1) / 2 + 1),
            width,
            height,
        )
        cells = [[_short(value) for value in column] for column in np.round(columns, _DIGITS)]
        scores = [np.format_float_positional(value, trim="-") for value in tracks.score]
        order = np.lexsort((numbers, tracks.frame))
        with Path(path).open("w", encoding="ascii", newline="\n") as file:
            file.writelines(
                f"{tracks.frame[i] + 1},{numbers[i]},{','.join(c[i] for c in cells)},{scores[i]}"
                ",-1,-1,-1\n"
                for i in order.tolist()
            )


def with_position(tracks: Tracks, report: LossReport | None) -> Tracks:
    """The rows that say where the individual was; the others, and infinite ones, are reported."""
    there = np.isfinite(tracks.x) & np.isfinite(tracks.y)
    if report is not None:
        report.add("rows", int((~there).sum()), "without a position there is no box")
    return tracks if there.all() else tracks[there]


def upright_boxes(tracks: Tracks, report: LossReport | None) -> tuple[np.ndarray, np.ndarray]:
    """(n,) widths and heights of the upright boxes around the animals, NaN where unknown."""
    turned = ~np.isnan(tracks.angle)
    cos, sin = (np.where(turned, np.abs(f(tracks.angle)), d) for f, d in ((np.cos, 1), (np.sin, 0)))
    width = tracks.width * cos + tracks.height * sin
    height = tracks.width * sin + tracks.height * cos
    if report is not None:
        why = "an upright box stands around the turned animal"
        report.add("angles", int(turned.sum()), "a box has none")
        for what, before, after in (
            ("widths", tracks.width, width),
            ("heights", tracks.height, height),
        ):
            changed = turned & ~np.isnan(before) & (before != after)
            report.add(what, int(changed.sum()), why)
    return width, height


# -- writing --------------------------------------------------------------------------------------


def _numbers(tracks: Tracks, report: LossReport | None) -> np.ndarray:
    """The id of each row in the file."""
    names = tidy.track_names(tracks.provenance)
    tidy.count_provenance(tracks.provenance, report, "MOT text has no place for them")
    ids = np.unique(tracks.id).tolist()
    if ids and ids[0] < 0:
        raise ValidationError(f"mot: ids count from 0, found {ids[0]}; give the tracks other ids")
    texts = [names.get(i, "") for i in ids]
    numbered = all(t.isascii() and t.isdigit() and str(int(t)) == t for t in texts)
    if ids and numbered and len(set(texts)) == len(ids) and max(map(len, texts)) < 15:
        lost = len(names) - len(ids)
        table = {i: int(name) for i, name in zip(ids, texts, strict=True)}
    else:
        lost = len(names)
        table = {i: i + 1 for i in ids}
    if report is not None:
        report.add("track names", lost, "MOT text has numbers only")
    return np.array([table[i] for i in tracks.id.tolist()], np.int64)


def _short(value: float) -> str:
    return str(int(value)) if value % 1 == 0 and abs(value) < _LARGEST_WHOLE else repr(float(value))


# -- reading --------------------------------------------------------------------------------------


def _first_row(path: Path) -> list[str]:
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; expected MOT text")
    if not path.is_file():
        raise FileMissingError(f"no file at {path}")
    try:
        with path.open("rb") as file:
            line = file.readline(4096)
        return line.decode("utf-8-sig").strip().split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} is no MOT text: {error}") from None


def _read_table(path: Path) -> np.ndarray:
    """(n, 7 to 10) float64."""
    n = len(_first_row(path))
    try:
        with path.open(encoding="utf-8-sig") as file:
            table = numbers_in(file)
    except (ValueError, OSError, UnicodeDecodeError, OverflowError) as error:
        raise _explain(path, n, error) from None
    if not table.size:
        raise FileFormatError(f"{path} is empty; expected rows of {', '.join(_COLUMNS)}, ...")
    if not _FEWEST <= table.shape[1] <= _MOST:
        raise _explain(path, n, ValueError(f"{table.shape[1]} columns"))
    return table


def numbers_in(file: TextIO) -> np.ndarray:
    """Rows of numbers between commas, (0, 1) when there are none; ValueError on anything else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="loadtxt: input contained no data")
        return np.loadtxt(file, delimiter=",", comments=None, ndmin=2)


def _explain(path: Path, n: int, error: Exception) -> FileFormatError:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                cells = line.strip().split(",")
                if not line.strip():
                    continue
                if len(cells) != n or not _FEWEST <= n <= _MOST:
                    return FileFormatError(
                        f"{path}, row {number}: expected {_FEWEST} to {_MOST} cells, as many in "
                        f"every row ({', '.join(_COLUMNS)}, ...), found {len(cells)}"
                    )
                for cell in cells:
                    try:
                        float(cell)
                    except ValueError:
                        return FileFormatError(
                            f"{path}, row {number}: expected a number, found {cell.strip()[:80]!r}"
                        )
    except (OSError, UnicodeDecodeError) as damage:
        error = damage
    return FileFormatError(f"{path} is no MOT text: {error}")


def _scores(found: np.ndarray, report: LossReport | None) -> np.ndarray:
    absent = np.isnan(found) | (found == -1)
    clipped = np.clip(np.where(absent, 1.0, found), 0, 1)
    if report is not None:
        report.add("scores", int(absent.sum()), "the file has none (-1); 1 stands in their place")
        changed = ~absent & (clipped != found)
        report.add("scores", int(changed.sum()), "they lie outside 0 to 1 and are clipped")
    return clipped.astype(np.float32)


def _count_extras(table: np.ndarray, report: LossReport) -> None:
    n_columns = table.shape[1]
    if n_columns == _MOST:
        known = (table[:, 7:] != -1).any(axis=1)
        report.add("world coordinates", int(known.sum()), "tracks are in pixels of the video")
        return
    for column, what in ((7, "categories"), (8, "visibilities")):
        if n_columns > column:
            known = table[:, column] != -1
            report.add(what, int(known.sum()), "tracks have none")
