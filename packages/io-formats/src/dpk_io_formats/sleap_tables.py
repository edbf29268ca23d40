"""The tables of a SLEAP file (.slp, .pkg.slp): frames, instances and points, read piece by piece.

A frame has a range of instances, an instance has a range of points, of user's or of predicted ones
(sleap-io 0.9, io/slp.py). sleap-io holds all tables in memory at once, makes an object for each
instance, and follows links out of the file; here a file of a million instances is read in pieces,
and every index is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import h5py
import numpy as np

from dpk_core.errors import FileFormatError
from dpk_io_formats.sleap_columns import column, open_table, pick, whole, width_of
from dpk_io_formats.sleap_header import Header

USER, PREDICTED = 0, 1
FARTHEST = 1e30
"""Pixels; what is farther away is damage, and no number of single precision any more."""

_FRAME, _VIDEO, _NUMBER, _FIRST, _END = range(5)
_TYPE, _SKELETON, _TRACK, _FROM, _SCORE, _POINT, _POINT_END, _TRACKING = 1, 3, 4, 5, 6, 7, 8, 9


@attrs.frozen
class FrameTable:
    """The frames: video (index into the header's), number, and their instances."""

    video: np.ndarray
    stored_video: np.ndarray
    number: np.ndarray
    first: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.number)


@attrs.frozen(eq=False)
class Instances:
    """Some rows of the table of instances; ``frame`` are rows of the table of frames."""

    id: np.ndarray
    frame: np.ndarray
    type: np.ndarray
    skeleton: np.ndarray
    track: np.ndarray
    from_predicted: np.ndarray
    score: np.ndarray
    tracking_score: np.ndarray
    first_point: np.ndarray
    end_point: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, rows: np.ndarray) -> Instances:
        return Instances(*(value[rows] for value in attrs.astuple(self, recurse=False)))


@attrs.frozen(eq=False)
class Points:
    """xy (n, k, 2) in dpk's coordinates, visible and complete (n, k), score (n, k) or None."""

    xy: np.ndarray
    visible: np.ndarray
    complete: np.ndarray
    score: np.ndarray | None


def read_frames(file: h5py.File, header: Header) -> FrameTable:
    """All frames; every range of instances lies in their table and in one frame only.

    Raises
    ------
    FileFormatError
    """
    path = header.path
    rows = open_table(file, "frames", path)[:]
    stored, number, first, end = (
        whole(column(rows, i), f"{path}, frames, {what}")
        for i, what in ((_VIDEO, "video"), (_NUMBER, "frame_idx"), (_FIRST, "instances"),
                        (_END, "instances"))
    )  # fmt: skip
    n = len(open_table(file, "instances", path))
    wrong = np.flatnonzero((first > end) | (end > n))
    if len(wrong):
        i = int(wrong[0])
        raise FileFormatError(
            f"{path} is damaged: frame {number[i]} (row {i + 1} of frames) has the instances "
            f"{first[i]} to {end[i]} of {n}"
        )
    filled = np.flatnonzero(end > first)
    order = filled[np.argsort(first[filled], kind="stable")]
    twice = np.flatnonzero(end[order[:-1]] > first[order[1:]])
    if len(twice):
        a, b = order[twice[0]], order[twice[0] + 1]
        raise FileFormatError(
            f"{path} is damaged: the frames {number[a]} and {number[b]} (rows {a + 1} and {b + 1} "
            "of frames) share an instance"
        )
    return FrameTable(_video_rows(stored, header), stored, number, first, end)


def _video_rows(stored: np.ndarray, header: Header) -> np.ndarray:
    """Indices into the header's videos.

    Packages of older SLEAP number their videos by the names of the embedded datasets ("video15");
    all other files by the place in the list (sleap-io 0.9, io/slp.py, read_labels).
    """
    n = len(header.videos)
    used = np.unique(stored)
    places = {i: i for i in range(n)}
    if not (len(used) == n and n and used[-1] == n - 1):
        for i, video in enumerate(header.videos):
            group = video.dataset.split("/")[0]
            if "/" in video.dataset and group[:5] == "video" and group[5:].isdigit():
                if places.get(i) == i:
                    del places[i]
                places[int(group[5:])] = i
    unknown = [int(v) for v in used if int(v) not in places]
    if unknown:
        raise FileFormatError(
            f"{header.path} is damaged: a frame belongs to video {unknown[0]}, and there are {n}"
        )
    if not len(stored):
        return stored
    lookup = np.array([places[int(v)] for v in used])
    return lookup[np.searchsorted(used, stored)]


def read_instances(file: h5py.File, header: Header, frames: FrameTable, rows: slice) -> Instances:
    """The instances of some frames, in the order of the frames.

    Raises
    ------
    FileFormatError
    """
    path = header.path
    first, count = frames.first[rows], frames.end[rows] - frames.first[rows]
    total = int(count.sum())
    owner = np.repeat(np.arange(len(frames))[rows], count)
    ids = np.repeat(first - np.cumsum(count) + count, count) + np.arange(total)
    found = pick(open_table(file, "instances", path), ids)
    has_tracking = width_of(found) > _TRACKING and header.version >= 1.2
    columns = {
        i: whole(column(found, i), f"{path}, instances")
        for i in (_TYPE, _SKELETON, _TRACK, _FROM, _POINT, _POINT_END)
    }
    tracking = column(found, _TRACKING) if has_tracking else np.zeros(total)
    instances = Instances(
        ids, owner, columns[_TYPE], columns[_SKELETON], columns[_TRACK], columns[_FROM],
        column(found, _SCORE).astype(np.float64), tracking.astype(np.float64),
        columns[_POINT], columns[_POINT_END],
    )  # fmt: skip
    _check_instances(instances, header, frames)
    return instances


def _check_instances(instances: Instances, header: Header, frames: FrameTable) -> None:
    sizes = np.array([len(s.nodes) for s in header.skeletons], np.int64)
    skeleton, track = instances.skeleton, instances.track
    known = (skeleton >= 0) & (skeleton < len(sizes))
    k = sizes[np.where(known, skeleton, 0)] if len(sizes) else np.zeros(len(skeleton), np.int64)
    for right, what in (
        ((instances.type == USER) | (instances.type == PREDICTED), "is neither a user's nor "
         "predicted"),
        (known, "has a skeleton that is not there"),
        ((track >= -1) & (track < len(header.tracks)), "has a track that is not there"),
        (instances.end_point - instances.first_point == k, "has another number of points than "
         "its skeleton"),
    ):  # fmt: skip
        wrong = np.flatnonzero(~right)
        if len(wrong):
            i = int(wrong[0])
            raise FileFormatError(
                f"{header.path} is damaged: instance {instances.id[i]} in frame "
                f"{frames.number[instances.frame[i]]} {what}"
            )


def read_points(
    file: h5py.File, header: Header, frames: FrameTable, instances: Instances, kind: int
) -> Points:
    """Points of instances that all have one skeleton and are all of one type.

    Up to format 1.0 the corner of the top-left pixel was (0, 0) for user's points, and for theirs
    alone (SLEAP 1.3, sleap/io/format/hdf5.py, LabelsV1Adaptor: "Shift the *non-predicted*
    points"); these are shifted by half a pixel.

    Raises
    ------
    FileFormatError
        Also for infinite coordinates.
    """
    key = "points" if kind == USER else "pred_points"
    path = header.path
    stored = open_table(file, key, path)
    n, k = (
        len(instances),
        len(header.skeletons[instances.skeleton[0]].nodes) if len(instances) else 0,
    )
    wrong = np.flatnonzero((instances.first_point < 0) | (instances.end_point > len(stored)))
    if len(wrong):
        i = int(wrong[0])
        raise FileFormatError(
            f"{path} is damaged: instance {instances.id[i]} in frame "
            f"{frames.number[instances.frame[i]]} has the points {instances.first_point[i]} to "
            f"{instances.end_point[i]} of {len(stored)}"
        )
    ids = (instances.first_point[:, None] + np.arange(k)).ravel()
    rows = pick(stored, ids)
    xy = np.stack([column(rows, 0), column(rows, 1)], axis=-1).astype(np.float64)
    xy = xy.reshape(n, k, 2)
    strange = np.argwhere((np.abs(xy) > FARTHEST).any(axis=2))
    if len(strange):
        i, j = strange[0]
        name = header.skeletons[instances.skeleton[i]].nodes[j].name
        raise FileFormatError(
            f"{path}: keypoint {name!r} of instance {instances.id[i]} in frame "
            f"{frames.number[instances.frame[i]]} is infinitely far away; delete it in SLEAP"
        )
    xy[np.isnan(xy).any(axis=2)] = np.nan
    if kind == USER and header.version < 1.1:
        xy -= 0.5
    flags = [column(rows, i).astype(bool).reshape(n, k) for i in (2, 3)]
    score = column(rows, 4).astype(np.float64).reshape(n, k) if kind == PREDICTED else None
    return Points(xy, flags[0], flags[1], score)


def windows(frames: FrameTable, most: int) -> Iterator[slice]:
    """Rows of frames with at most so many instances together, or one frame with more."""
    end = np.cumsum(frames.end - frames.first)
    start = 0
    while start < len(frames):
        before = end[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(end, before + most, side="right")))
        yield slice(start, stop)
        start = stop


def instance_types(file: h5py.File, path: Path) -> tuple[bool, bool, bool]:
    """Whether there are instances of users, predicted ones, and any with a track."""
    stored = open_table(file, "instances", path)
    user = predicted = tracked = False
    for i in range(0, len(stored), 2**18):
        rows = stored[i : i + 2**18]
        types = column(rows, _TYPE)
        user |= bool((types == USER).any())
        predicted |= bool((types == PREDICTED).any())
        tracked |= bool((column(rows, _TRACK) >= 0).any())
    return user, predicted, tracked
