"""Trajectories of TRex (Walter & Couzin 2021, eLife 10:e64000): one ``.npz`` for each individual.

What this reader is based on: "File formats" of TRex's manual (docs/formats.rst), and the code that
exports, ``OutputLibrary.cpp`` and the export of ``tracklet_vxys`` (github.com/mooch443/trex).

=====================  ============================================================================
``frame``              number of the frame in the video, from 0; a file may begin late, end early
``X#wcentroid``, ``Y`` centre of the body in cm; ``X`` without a suffix is the head
``missing``            1 where the individual was not found; its values are infinite, or, with
                       ``output_interpolate_positions``, filled in
``ANGLE``              radians from the x axis of the image towards its y axis, which points down
``poseX0``, ``poseY0`` first keypoint in pixels, when a pose model was in use; infinite when missing
``cm_per_pixel``       by which positions were multiplied; absent from files of TRex 1
``id``, ``frame_rate`` of the individual, of the video; absent from files of TRex 1
=====================  ============================================================================

Coordinates: X and Y are divided by ``cm_per_pixel`` to get pixels. A centroid is a mean of whole
numbers that pixels are counted with, and a pose is what the pose model gave, so (0, 0) is the
centre of the top-left pixel. With ``output_centered`` or ``output_origin`` TRex subtracts a point
that the file does not name: give it back as ``origin=``.

Given one file, its individual is read; given a folder, all individuals of its one video.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PIECE, PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats import tidy
from dpk_io_formats.npz_archive import Npz

_SOURCES = ("wcentroid", "centroid", "pcentroid", "")
_NAME = re.compile(r"(?P<video>.*?)_?(?P<name>[A-Za-z]+(?P<number>\d+))$")
_MOST_KEYPOINTS = 1000


class TrexFormat(PoseFormat):
    """Reads the ``.npz`` files that TRex exports."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            return bool(_individuals(Path(path)))
        except (DpkError, OSError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        found = _individuals(Path(path))
        return ("tracks", "poses") if any(one.n_keypoints for one in found) else ("tracks",)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "tracks",
        *,
        report: LossReport | None = None,
        source: str | None = None,
        cm_per_pixel: float | None = None,
        origin: tuple[float, float] = (0.0, 0.0),
        keypoint_names: tuple[str, ...] | None = None,
        **options: Any,
    ) -> PoseStream | Tracks:
        """Tracks, or poses of all individuals one after the other.

        Parameters
        ----------
        source
            Which position of the body tracks have: "wcentroid", "centroid", "pcentroid", or "" for
            the head. Default: the first of them that is there.
        cm_per_pixel
            For files of TRex 1, which do not say; 1 when positions are in pixels already.
        origin
            Pixel that positions of tracks are relative to.
        keypoint_names
            Of the poses, which TRex only numbers.

        Raises
        ------
        FileMissingError, FileFormatError
        ValidationError
            On unknown options, and names that do not fit.
        """
        if options:
            raise ValidationError(f"trex: unknown options {', '.join(sorted(options))}")
        if source not in (None, *_SOURCES):
            raise ValidationError(f"source: expected one of {_SOURCES}, found {source!r}")
        path = Path(path)
        found = _individuals(path)
        if not found:
            raise FileFormatError(f"{path} is no export of TRex: expected .npz files with X and Y")
        provenance: dict[str, Any] = {"source_software": "TRex"}
        if found[0].fps is not None:
            provenance["fps"] = found[0].fps
        provenance |= tidy.with_track_names({one.id: one.name for one in found})
        if kind == "tracks":
            parts = [_read_track(one, source, cm_per_pixel, origin, report) for one in found]
            columns = {
                name: np.concatenate([part.columns()[name] for part in parts])
                for name in parts[0].columns()
            }
            order = np.lexsort((columns["id"], columns["frame"]))
            chosen = {name: column[order] for name, column in columns.items()}
            return Tracks(**chosen, provenance=provenance)
        skeleton = _skeleton(found, keypoint_names, path)
        posed = [one for one in found if one.n_keypoints]

        def pieces() -> Iterator[Poses]:
            for one in posed:
                yield from _read_poses(one, skeleton, provenance, report)

        return PoseStream(skeleton, pieces, None, provenance)


# -- which files ----------------------------------------------------------------------------------


@attrs.frozen
class _Individual:
    """One file."""

    path: Path
    id: int
    name: str
    names: tuple[str, ...]
    n_keypoints: int
    fps: float | None


def _individuals(path: Path) -> list[_Individual]:
    """The individuals of a file or folder, in the order of their ids; none when TRex wrote none."""
    if not path.exists():
        raise FileMissingError(f"nothing is at {path}")
    if not path.is_dir():
        one = _open(path)
        return [] if one is None else [one]
    if (path / "data").is_dir() and not any(path.glob("*.npz")):
        path = path / "data"
    videos: dict[str, list[_Individual]] = {}
    for file in sorted(path.glob("*.npz")):
        named = _NAME.fullmatch(file.stem)
        if named is None or named["video"].endswith(("_posture", "_recognition", "_visual_field")):
            continue
        one = _open(file)
        if one is not None:
            videos.setdefault(named["video"], []).append(one)
    if len(videos) > 1:
        raise FileFormatError(
            f"{path} holds exports of several videos ({', '.join(sorted(videos))}); put each into "
            "a folder of its own, or read single files"
        )
    found = sorted((one for ones in videos.values() for one in ones), key=lambda one: one.id)
    for before, after in pairwise(found):
        if before.id == after.id:
            raise FileFormatError(f"{before.path} and {after.path} have the same id {before.id}")
    return found


def _open(path: Path) -> _Individual | None:
    with path.open("rb") as start:
        if start.read(2) != b"PK":
            return None
    with Npz(path) as file:
        names = set(file.names)
        if not _position(names) or "frame" not in names:
            return None
        named = _NAME.fullmatch(path.stem)
        number = int(named["number"][:9]) if named else 0
        given = _scalar(file, "id")
        if given is not None and 0 <= given < 2**31:
            number = int(given)
        k = 0
        while k < _MOST_KEYPOINTS and {f"poseX{k}", f"poseY{k}"} <= names:
            k += 1
        return _Individual(
            path,
            number,
            named["name"] if named else f"id{number}",
            tuple(file.names),
            k,
            _scalar(file, "frame_rate"),
        )


def _position(names: set[str], source: str | None = None) -> tuple[str, str] | None:
    for one in _SOURCES if source is None else (source,):
        pair = tuple(f"{axis}#{one}" if one else axis for axis in "XY")
        if names >= set(pair):
            return pair[0], pair[1]
    return None


def _scalar(file: Npz, name: str) -> float | None:
    """A number that stands in an array of its own, None when it is not there or no number."""
    if name not in file.names:
        return None
    column = file.column(name)
    if column.dtype.kind not in "fiu" or column.shape not in ((), (1,)):
        return None
    value = float(np.ravel(file.array(name))[0])
    return value if np.isfinite(value) else None


# -- tracks ---------------------------------------------------------------------------------------


def _read_track(
    one: _Individual,
    source: str | None,
    cm_per_pixel: float | None,
    origin: tuple[float, float],
    report: LossReport | None,
) -> Tracks:
    pair = _position(set(one.names), source)
    if pair is None:
        there = ", ".join(name for name in one.names if name[0] == "X")
        raise FileFormatError(f"{one.path} has no position {source!r}; it has {there}")
    used = {"frame", *pair, "id", "frame_rate", "cm_per_pixel"}
    with Npz(one.path) as file:
        scale = cm_per_pixel if cm_per_pixel is not None else _scalar(file, "cm_per_pixel")
        if scale is None or not (np.isfinite(scale) and scale > 0):
            raise FileFormatError(
                f"{one.path} does not say how many cm a pixel is, as files of TRex 1; read it with "
                "cm_per_pixel= (TRex's setting of that name; 1 when positions are in pixels)"
            )
        frames = _frames(file, one.path)
        x, y = (_numbers(file, name, len(frames)) for name in pair)
        extra = {}
        for name in ("missing", "ANGLE", "detection_p"):
            if name in one.names:
                extra[name] = _numbers(file, name, len(frames))
                used.add(name)
    found = np.isfinite(x) & np.isfinite(y)
    absent = extra.get("missing", np.zeros(len(frames))) == 1
    angle = extra.get("ANGLE", np.full(len(frames), np.nan))
    score = extra.get("detection_p", np.full(len(frames), np.nan))
    known = (score >= 0) & (score <= 1)
    if report is not None:
        poses = {f"pose{axis}{i}" for axis in "XYP" for i in range(one.n_keypoints)}
        others = [name for name in one.names if name not in used | poses]
        report.add("measurements", len(others), "tracks have a position, an angle and a score")
        report.add("keypoints", one.n_keypoints, "read them as poses")
        half = int((np.isfinite(x) != np.isfinite(y)).sum())
        report.add("coordinates", half, "the other one of the same position is missing")
    tidy.check_pairs(frames[found], np.full(found.sum(), one.id), tidy.Rows(one.path, 0))
    return Tracks(
        frames[found],
        np.full(found.sum(), one.id),
        x[found] / scale + origin[0],
        y[found] / scale + origin[1],
        angle=np.where(np.isfinite(angle), angle, np.nan)[found],
        score=np.where(known, score, 1.0)[found].astype(np.float32),
        interpolated=absent[found],
    )


def _frames(file: Npz, path: Path) -> np.ndarray:
    frames = file.array("frame")
    whole = frames.ndim == 1 and frames.dtype.kind in "fiu"
    if not whole or (np.mod(frames, 1) != 0).any() or (np.abs(frames) > 2**53).any():
        raise FileFormatError(f"{path}: 'frame' holds no whole numbers")
    return frames.astype(np.int64)


def _numbers(file: Npz, name: str, n: int) -> np.ndarray:
    found = file.array(name)
    if found.shape != (n,) or found.dtype.kind not in "fiub":
        raise FileFormatError(
            f"{file.path}: {name!r} is {found.dtype} of the shape {found.shape}; expected {n} "
            "numbers, one for each frame"
        )
    return found.astype(np.float64)


# -- poses ----------------------------------------------------------------------------------------


def _skeleton(found: list[_Individual], names: tuple[str, ...] | None, path: Path) -> Skeleton:
    k = max(one.n_keypoints for one in found)
    if not k:
        raise FileFormatError(f"{path} has no poses (poseX0, poseY0, ...); read it as tracks")
    if names is None:
        return Skeleton(tuple(f"keypoint_{i}" for i in range(k)))
    if len(names) != k:
        raise ValidationError(f"keypoint_names: expected {k} names, found {len(names)}")
    return Skeleton(tuple(names))


def _read_poses(
    one: _Individual, skeleton: Skeleton, provenance: dict[str, Any], report: LossReport | None
) -> Iterator[Poses]:
    k = len(skeleton)
    with Npz(one.path) as file:
        frames = _frames(file, one.path)
        n = len(frames)
        columns = []
        for i in range(k):
            for axis in "XYP":
                name = f"pose{axis}{i}"
                column = file.column(name) if name in one.names else None
                if column is not None and (column.shape != (n,) or column.dtype.kind not in "fiu"):
                    raise FileFormatError(
                        f"{one.path}: {name!r} is {column.dtype} of the shape {column.shape}; "
                        f"expected {n} numbers, one for each frame"
                    )
                columns.append(column)
        if report is not None:
            others = len(one.names) - sum(column is not None for column in columns) - 1
            report.add("measurements", others, "poses have coordinates and scores only")
        for start in range(0, n, PIECE):
            rows = min(PIECE, n - start)
            taken = [
                np.full(rows, np.inf) if column is None else column.take(rows) for column in columns
            ]
            values = np.stack(taken, axis=1).astype(np.float32).reshape(rows, k, 3)
            yield _poses(values, frames[start : start + rows], one, skeleton, provenance)


def _poses(
    values: np.ndarray,
    frames: np.ndarray,
    one: _Individual,
    skeleton: Skeleton,
    provenance: dict[str, Any],
) -> Poses:
    """Rows of frames in which the individual was seen."""
    xy, p = values[..., :2], values[..., 2]
    # TRex itself takes (0, 0) for a keypoint that its model did not find
    there = np.isfinite(xy).all(axis=2) & (xy != 0).any(axis=2)
    seen = there.any(axis=1)
    keypoints = np.where(there[..., None], xy, np.float32(np.nan))
    scores = np.where((p >= 0) & (p <= 1), p, np.float32(1))
    return Poses(
        keypoints[seen],
        np.where(there, scores, np.float32(0))[seen],
        skeleton,
        frames[seen],
        np.full(int(seen.sum()), one.id),
        provenance,
    )
