"""Writes tables of predictions as DeepLabCut's ``analyze_videos`` does, as .h5 or .csv.

Rows have all frames from 0 to the last, float64, NaN where there is nothing; see
`dpk_io_formats.deeplabcut_predictions`. The HDF5 is in pandas' fixed format under the key
``df_with_missing``, which ``pandas.read_hdf(path)`` opens as DeepLabCut does. CSV numbers have the
nine digits that tell single precision numbers apart.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.streams import PoseStream
from dpk_io_formats.deeplabcut_hdf_write import write_frame
from dpk_io_formats.deeplabcut_prediction_table import XY_LIKELIHOOD, rows_at_once
from dpk_io_formats.deeplabcut_table import LEVELS, LEVELS_MULTI
from dpk_io_formats.deeplabcut_write import animal_parts, split_unique
from dpk_io_formats.tidy import without_infinite

_MOST_FRAMES = 200_000_000
_KEPT = {"scorer", "track_names", "n_frames"}


@attrs.frozen(eq=False)
class _Plan:
    """What a first look at the stream has told.

    ids: track ids, in the order of the individuals; names: theirs, [""] for one animal without a
    name; n_frames: rows of the table; is_sorted: whether frames come in order; columns: labels;
    cells: where each number stands in (individuals, k, 3).
    """

    ids: np.ndarray
    names: list[str]
    n_frames: int
    is_sorted: bool
    columns: list[tuple[str, ...]]
    cells: np.ndarray


def write_predictions(
    path: Path,
    poses: PoseStream,
    report: LossReport,
    *,
    scorer: str = "",
    unique: tuple[str, ...] = (),
    **options: Any,
) -> None:
    """Write .csv when the path ends so, and else HDF5.

    Parameters
    ----------
    scorer
        Default: the one in the provenance, or "dpk".
    unique
        Body parts that are there once a frame. Default: those that only the individual called
        "single" has.

    Raises
    ------
    ValidationError
        On unknown options, a frame with two rows of one individual, or a negative frame number.
    """
    if options:
        raise ValidationError(f"deeplabcut-predictions: unknown options {sorted(options)}")
    plan = _look(poses, scorer or str(poses.provenance.get("scorer") or "dpk"), unique, report)
    blocks = (block.reshape(len(block), -1) for block in _blocks(poses, plan, path, report))
    pieces = (b if len(plan.cells) == b.shape[1] else b[:, plan.cells] for b in blocks)
    levels = LEVELS if plan.names == [""] else LEVELS_MULTI
    if path.suffix.lower() == ".csv":
        _write_csv(path, plan, levels, pieces)
    else:
        write_frame(path, plan.columns, levels, np.arange(plan.n_frames), pieces)


# -- the first look -----------------------------------------------------------------------------


def _look(poses: PoseStream, scorer: str, unique: tuple[str, ...], report: LossReport) -> _Plan:
    k = len(poses.skeleton)
    there: dict[int, np.ndarray] = {}
    last, is_sorted, previous = -1, True, -1
    for given in poses:
        piece = without_infinite(given, report)
        if not len(piece):
            continue
        if piece.frames.min() < 0:
            raise ValidationError(f"expected frames from 0, found {piece.frames.min()}")
        is_sorted &= bool(piece.frames[0] >= previous and (np.diff(piece.frames) >= 0).all())
        last, previous = max(last, int(piece.frames.max())), int(piece.frames[-1])
        seen = np.isfinite(piece.keypoints).all(axis=2)
        for track in np.unique(piece.track_ids).tolist():
            found = seen[piece.track_ids == track].any(axis=0)
            there[track] = there.get(track, np.zeros(k, bool)) | found
    if last < 0:
        raise ValidationError("nothing to write: the poses have no row")
    n_frames = max(last + 1, _whole(poses.provenance.get("n_frames")))
    if n_frames > _MOST_FRAMES:
        raise ValidationError(f"expected up to {_MOST_FRAMES} frames, found {n_frames}")
    ids, names = _individuals(poses, there, report)
    seen = np.array([there.get(track, np.zeros(k, bool)) for track in ids])
    last_parts = split_unique(seen, names, [poses.skeleton.index(name) for name in unique])
    order = [i for i in range(k) if i not in last_parts] + last_parts
    if order != list(range(k)):
        report.add("places of body parts", k, "unique body parts come last in DeepLabCut")
    parts = [poses.skeleton.names[i] for i in order]
    columns, cells = [], []
    for place, individual, i, part in animal_parts(parts, len(last_parts), names):
        for c, coord in enumerate(XY_LIKELIHOOD):
            columns.append((scorer, *((individual,) if individual else ()), part, coord))
            cells.append((place * k + order[i]) * 3 + c)
    _report(poses, report)
    identical = cells == list(range(len(ids) * k * 3))
    return _Plan(
        np.array(ids), names, n_frames, is_sorted, columns,
        np.arange(len(cells)) if identical else np.array(cells),
    )  # fmt: skip


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _individuals(
    poses: PoseStream, there: dict[int, np.ndarray], report: LossReport
) -> tuple[list[int], list[str]]:
    """Track ids and their names in the order of the columns."""
    if set(there) == {NO_TRACK}:
        return [NO_TRACK], [""]
    given = poses.provenance.get("track_names")
    given = given if isinstance(given, dict) else {}
    ids = sorted(track for track in there if track != NO_TRACK)
    names: list[str] = []
    unnamed = 0
    for track in [*ids, *([NO_TRACK] if NO_TRACK in there else [])]:
        name = str(given.get(str(track), ""))
        if not name:
            unnamed += 1
            name = "untracked" if track == NO_TRACK else f"individual{track + 1}"
        while name in names or (name in given.values() and str(track) not in given):
            name += "_"
        names.append(name)
    ids += [NO_TRACK] if NO_TRACK in there else []
    report.add("names of tracks", unnamed, "DeepLabCut names every animal; they are numbered")
    numbered = ids == list(range(len(ids)))
    report.add(
        "track ids", 0 if numbered else len(ids), "DeepLabCut has names alone; numbers start anew"
    )
    return ids, names


def _report(poses: PoseStream, report: LossReport) -> None:
    skeleton = poses.skeleton
    report.add("skeleton edges", len(skeleton.edges), "tables of DeepLabCut have no skeleton")
    swaps = sum(swap >= 0 for swap in skeleton.swap)
    report.add("swap partners", swaps, "tables of DeepLabCut have no skeleton")
    lost = sorted(set(poses.provenance) - _KEPT)
    report.add("entries of the provenance", len(lost), f"{', '.join(lost)}: not in the table")


# -- rows in order ------------------------------------------------------------------------------


def _blocks(poses: PoseStream, plan: _Plan, path: Path, report: LossReport) -> Iterator[np.ndarray]:
    """(m, individuals, k, 3) float64 of all frames, in order."""
    filled = _Filler(poses, plan)
    yield from filled.in_order() if plan.is_sorted else filled.sorted_on_disk(path.parent)
    if plan.names == [""]:
        report.add(
            "frames without poses", plan.n_frames - filled.n_rows,
            "DeepLabCut has a row for every frame",
        )  # fmt: skip


class _Filler:
    """Puts rows of animals in frames where they belong, in frames as many at once as in a piece."""

    def __init__(self, poses: PoseStream, plan: _Plan) -> None:
        self.n_rows = 0
        self._poses, self._plan = poses, plan
        self._shape = (len(plan.ids), len(poses.skeleton), 3)
        self._n = rows_at_once(len(plan.ids) * len(poses.skeleton) * 3)

    def in_order(self) -> Iterator[np.ndarray]:
        start = 0
        block, taken = self._new(0)
        for piece in self._poses:
            rows = 0
            while rows < len(piece):
                end = start + len(block)
                stop = int(np.searchsorted(piece.frames, end, "left"))
                if stop > rows:
                    self._put(block, taken, start, piece[rows:stop])
                    rows = stop
                if rows < len(piece):
                    yield block
                    start = end
                    block, taken = self._new(start)
        while len(block):
            yield block
            start += len(block)
            block, taken = self._new(start)

    def sorted_on_disk(self, folder: Path) -> Iterator[np.ndarray]:
        n = self._plan.n_frames
        with tempfile.TemporaryFile(dir=folder) as file, tempfile.TemporaryFile(dir=folder) as seen:
            block = np.memmap(file, np.float64, "w+", shape=(n, *self._shape))
            taken = np.memmap(seen, np.bool_, "w+", shape=(n, self._shape[0]))
            for i in range(0, n, self._n):
                block[i : i + self._n] = np.nan
            for piece in self._poses:
                self._put(block, taken, 0, piece)
            for i in range(0, n, self._n):
                yield np.array(block[i : i + self._n])
            del block, taken

    def _new(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        n = min(self._n, self._plan.n_frames - start)
        return np.full((n, *self._shape), np.nan), np.zeros((n, self._shape[0]), bool)

    def _put(self, block: np.ndarray, taken: np.ndarray, start: int, rows: Poses) -> None:
        order = np.argsort(self._plan.ids)
        animal = order[np.searchsorted(self._plan.ids, rows.track_ids, sorter=order)]
        frame = rows.frames - start
        again = taken[frame, animal]
        flat = frame * self._shape[0] + animal
        if again.any() or len(np.unique(flat)) < len(flat):
            _, first = np.unique(flat, return_index=True)
            twice = np.setdiff1d(np.arange(len(flat)), first)
            i = int(np.flatnonzero(again)[0]) if again.any() else int(twice[0])
            name = self._plan.names[animal[i]]
            what = f"the individual {name!r} twice" if name else "several animals without a track"
            raise ValidationError(
                f"frame {rows.frames[i]} has {what}; DeepLabCut has one row for each: track them "
                "first, or write another format"
            )
        taken[frame, animal] = True
        self.n_rows += len(rows)
        xy = without_infinite(rows, None).keypoints.astype(np.float64)
        scores = rows.scores.astype(np.float64)
        missing = np.asarray(np.isnan(xy).any(axis=2))
        if self._plan.names == [""]:
            scores[missing] = np.nan
        else:  # likelihoods of 0 tell an animal without any position from one that is not there
            scores[missing & ~missing.all(axis=1, keepdims=True)] = np.nan
        block[frame, animal, :, :2] = xy
        block[frame, animal, :, 2] = scores


# -- CSV ----------------------------------------------------------------------------------------


def _write_csv(
    path: Path, plan: _Plan, levels: tuple[str, ...], pieces: Iterator[np.ndarray]
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for level, name in enumerate(levels):
            writer.writerow([name, *(column[level] for column in plan.columns)])
        line = "%d" + ",%.9g" * len(plan.columns) + "\n"
        start = 0
        for piece in pieces:
            numbered = np.column_stack([np.arange(start, start + len(piece)), piece])
            text = (line * len(piece)) % tuple(numbered.ravel().tolist())
            file.write(text.replace("nan", ""))
            start += len(piece)
