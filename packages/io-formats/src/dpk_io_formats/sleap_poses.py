"""Reading the predictions of a SLEAP file in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import FileFormatError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.services.video_paths import file_name, locate
from dpk_core.streams import PIECE, PoseStream
from dpk_io_formats.plain_hdf5 import opened
from dpk_io_formats.sleap_adapter import from_sleap_skeleton
from dpk_io_formats.sleap_header import Header, choose_skeleton, read_header
from dpk_io_formats.sleap_tables import (
    PREDICTED,
    FrameTable,
    Instances,
    Points,
    read_frames,
    read_instances,
    read_points,
    windows,
)
from dpk_io_formats.sleap_track_numbers import NOTED, OURS, numbers_of
from dpk_io_formats.tidy import with_track_names

THEIRS = "sleap"
"""Where SLEAP's provenance stands within dpk's."""

UNNAMED = "video"
"""SLEAP's files need a video; this one is nobody's."""

_CLOSE = 1e-5


def read_poses(
    path: Path,
    report: LossReport,
    *,
    skeleton: str | int | None = None,
    video: str | int | None = None,
) -> PoseStream:
    """The predicted instances of one video; for the options see `SleapFormat.read`.

    Raises
    ------
    FileMissingError, FileFormatError, SkeletonError, ValidationError
    """
    with opened(path) as file:
        header = read_header(file, path)
        frames = read_frames(file, header)
        used, users, skeletons = _survey(file, header, frames)
    index = choose_video(header, used, video)
    report.add("users' instances", users, "are no predictions; read them as annotations")
    report.add(
        "predicted instances", sum(n for v, n in used.items() if v != index),
        "are in another video than the one chosen",
    )  # fmt: skip
    chosen = choose_skeleton(header, np.array(sorted(skeletons)), skeleton)
    ours = from_sleap_skeleton(header.skeletons[chosen], path, report)
    _report_rest(header, report)
    frames = frames_of(frames, index)
    counted = False

    def pieces() -> Iterator[Poses]:
        nonlocal counted
        losses = LossReport() if counted else report
        counted = True
        for window in windows(frames, PIECE):
            with opened(path) as file:
                instances = read_instances(file, header, frames, window)
                rows = (instances.type == PREDICTED) & (instances.skeleton == chosen)
                losses.add(
                    "predicted instances",
                    int(((instances.type == PREDICTED) & (instances.skeleton != chosen)).sum()),
                    "have another skeleton than the one chosen",
                )
                instances = instances[np.flatnonzero(rows)]
                if not len(instances):
                    continue
                points = read_points(file, header, frames, instances, PREDICTED)
            yield _poses(instances, points, frames, ours, numbers, provenance, losses)

    provenance = provenance_of(header, index)
    numbers = numbers_of(header.tracks, header.provenance)
    several = len(skeletons) > 1
    return PoseStream(ours, pieces, None if several else used.get(index, 0), provenance)


def _survey(
    file: h5py.File, header: Header, frames: FrameTable
) -> tuple[dict[int, int], int, set[int]]:
    """Predicted instances of each video, users' instances, skeletons of the predicted ones."""
    predicted: dict[int, int] = {}
    users, skeletons = 0, set()
    for window in windows(frames, 2**16):
        instances = read_instances(file, header, frames, window)
        is_predicted = instances.type == PREDICTED
        users += int((~is_predicted).sum())
        skeletons |= set(np.unique(instances.skeleton[is_predicted]).tolist())
        videos = frames.video[instances.frame[is_predicted]]
        for video, count in zip(*np.unique(videos, return_counts=True), strict=True):
            predicted[int(video)] = predicted.get(int(video), 0) + int(count)
    return predicted, users, skeletons


def choose_video(header: Header, used: dict[int, int], wanted: str | int | None) -> int:
    """Index of the one video to read; FileFormatError when several have instances."""
    names = [video.name or f"number {i}" for i, video in enumerate(header.videos)]
    if wanted is not None:
        for i, name in enumerate(names):
            if str(wanted) in (name, file_name(name), str(i)):
                return i
        raise ValidationError(f"{header.path} has no video {wanted!r}; it has {', '.join(names)}")
    if len(used) > 1:
        several = ", ".join(names[i] for i in sorted(used))
        raise FileFormatError(
            f"{header.path} has instances in {len(used)} videos: {several}; say which to read "
            "with the option video=NAME"
        )
    return next(iter(used), 0)


def frames_of(frames: FrameTable, index: int) -> FrameTable:
    """The frames of one video in the order of their numbers."""
    rows = np.flatnonzero(frames.video == index)
    rows = rows[np.argsort(frames.number[rows], kind="stable")]
    return FrameTable(
        frames.video[rows], frames.stored_video[rows], frames.number[rows], frames.first[rows],
        frames.end[rows],
    )  # fmt: skip


def _poses(
    instances: Instances,
    points: Points,
    frames: FrameTable,
    skeleton: Any,
    numbers: np.ndarray,
    provenance: dict[str, Any],
    losses: LossReport,
) -> Poses:
    placed = np.isfinite(points.xy).all(axis=2)
    seen = placed & points.visible
    losses.add(
        "coordinates of points that are not visible",
        int((placed & ~seen).sum()),
        "SLEAP takes those points for missing",
    )
    losses.add("marks of points", int(points.complete.sum()), "predictions have none")
    assert points.score is not None
    scores = np.where(seen, points.score, 0.0)
    bad = ~((scores >= 0) & (scores <= 1))
    losses.add("scores", int(bad.sum()), "are outside of 0 to 1, and are put to the nearer end")
    scores = np.clip(np.nan_to_num(scores), 0, 1)
    losses.add(
        "scores of missing points",
        int((~seen & (np.nan_to_num(points.score) != 0)).sum()),
        "a keypoint that is missing has the score 0",
    )
    mean = instance_scores(scores, seen)
    losses.add(
        "instance scores",
        int((~(np.abs(instances.score - mean) <= _CLOSE * np.maximum(1, np.abs(mean)))).sum()),
        "poses have scores of keypoints; their mean is written instead",
    )
    losses.add(
        "tracking scores",
        int((np.nan_to_num(instances.tracking_score) != 0).sum()),
        "poses have none",
    )
    return Poses(
        np.where(seen[..., None], points.xy, np.nan).astype(np.float32),
        scores.astype(np.float32),
        skeleton,
        frames.number[instances.frame],
        numbers[np.maximum(instances.track, -1)],
        provenance,
    )


def instance_scores(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(n,) mean score of the keypoints that are not missing, 0 without any."""
    return np.where(seen, scores, 0).sum(axis=1) / np.maximum(1, seen.sum(axis=1))


def provenance_of(header: Header, index: int) -> dict[str, Any]:
    """Where the poses in one video come from."""
    name = header.videos[index].name if index < len(header.videos) else ""
    numbers = numbers_of(header.tracks, header.provenance).tolist()
    names = dict(zip(numbers, header.tracks, strict=False))
    return ours_of_provenance(header.provenance, name, header.path.parent) | with_track_names(names)


def ours_of_provenance(stored: dict[str, Any], video: str, folder: Path) -> dict[str, Any]:
    """What a file says of where poses come from: ours as it was, SLEAP's under its name."""
    theirs = {key: value for key, value in stored.items() if key != "filename"}
    ours = theirs.pop(OURS, None)
    provenance = dict(ours) if isinstance(ours, dict) else {}
    provenance.pop(NOTED, None)
    if theirs:
        provenance[THEIRS] = theirs
    if video not in ("", UNNAMED):
        found = None if "://" in video else locate(video, folder)
        provenance["video"] = video if found is None else found.as_posix()
    return provenance


def _report_rest(header: Header, report: LossReport) -> None:
    report.add("suggestions", len(header.suggestions), "poses have no frames to label")
    report.add("negative frames", len(header.negative), "poses have none")
    for what, count in header.others.items():
        report.add(what, count, "they are no part of labels or poses")
    unnamed = sum(not name for name in header.tracks)
    report.add("tracks", unnamed, "have no name, and get a number instead")
