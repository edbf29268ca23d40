"""Reading the tracks of a SLEAP file: where its tracked instances were."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from dpk_core.errors import FileFormatError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.streams import PIECE
from dpk_core.tracks import Tracks
from dpk_io_formats.plain_hdf5 import opened
from dpk_io_formats.sleap_header import Header, read_header
from dpk_io_formats.sleap_poses import choose_video, frames_of, instance_scores, provenance_of
from dpk_io_formats.sleap_tables import (
    PREDICTED,
    USER,
    FrameTable,
    Instances,
    Points,
    read_frames,
    read_instances,
    read_points,
    windows,
)
from dpk_io_formats.sleap_track_numbers import numbers_of
from dpk_io_formats.tidy import with_track_names

BOX, MEAN = "box", "mean"
"""What the place of an animal is: the middle of its box, or the mean of its keypoints."""


def read_tracks(
    path: Path,
    report: LossReport,
    *,
    skeleton: str | int | None = None,
    video: str | int | None = None,
    center: str = BOX,
) -> Tracks:
    """Where the instances with a track were; for the options see `SleapFormat.read`.

    Raises
    ------
    FileMissingError, FileFormatError, ValidationError
    """
    if center not in (BOX, MEAN):
        raise ValidationError(f"center: expected {BOX!r} or {MEAN!r}, found {center!r}")
    with opened(path) as file:
        header = read_header(file, path)
        frames = read_frames(file, header)
        tracked = _tracked(file, header, frames)
    index = choose_video(header, tracked, video)
    frames = frames_of(frames, index)
    with opened(path) as file:
        parts = []
        for window in windows(frames, PIECE):
            instances = read_instances(file, header, frames, window)
            report.add(
                "instances", int((instances.track < 0).sum()), "have no track; read them as poses"
            )
            instances = instances[np.flatnonzero(instances.track >= 0)]
            for kind in (USER, PREDICTED):
                for number in range(len(header.skeletons)):
                    chosen = (instances.type == kind) & (instances.skeleton == number)
                    part = instances[np.flatnonzero(chosen)]
                    if len(part):
                        points = read_points(file, header, frames, part, kind)
                        parts.append(_boxes(part, points, frames, center, report))
    table = np.concatenate(parts) if parts else np.empty((0, 8))
    # A person's instance stands for the prediction that it was made from.
    table = table[np.lexsort((table[:, 7], table[:, 1], table[:, 0]))]
    same = np.flatnonzero((np.diff(table[:, :2], axis=0) == 0).all(axis=1)) + 1
    _check_twice(table, same, header)
    report.add("predicted instances", len(same), "a user's instance has the same track and frame")
    table = np.delete(table, same, axis=0)
    numbers, places = numbers_of(header.tracks, header.provenance), table[:, 1].astype(np.int64)
    names = {int(numbers[i]): header.tracks[i] for i in np.unique(places)}
    report.add("tracks", len(header.tracks) - len(names), "have no instance")
    x, y, width, height = table[:, 2:6].T
    return Tracks(
        table[:, 0].astype(np.int64),
        numbers[places],
        x,
        y,
        width,
        height,
        score=table[:, 6].astype(np.float32),
        provenance=provenance_of(header, index) | with_track_names(names),
    )


def _tracked(file: h5py.File, header: Header, frames: FrameTable) -> dict[int, int]:
    found: dict[int, int] = {}
    for window in windows(frames, 2**16):
        instances = read_instances(file, header, frames, window)
        videos = frames.video[instances.frame[instances.track >= 0]]
        for video in np.unique(videos):
            found[int(video)] = 1
    return found


def _boxes(
    instances: Instances, points: Points, frames: FrameTable, center: str, report: LossReport
) -> np.ndarray:
    """Rows of frame, track, x, y, width, height, score, type."""
    seen = np.isfinite(points.xy).all(axis=2) & points.visible
    report.add("keypoints", int(seen.sum()), "tracks have a centre and a box of each animal")
    some = seen.any(axis=1)
    report.add("instances", int((~some).sum()), "have no keypoint, and so no place")
    xy = np.where(seen[..., None], points.xy, np.nan)[some]
    low = np.where(np.isnan(xy), np.inf, xy).min(axis=1)
    high = np.where(np.isnan(xy), -np.inf, xy).max(axis=1)
    size = high - low
    middle = (low + high) / 2
    if center == MEAN:
        middle = np.nansum(xy, axis=1) / seen[some].sum(axis=1)[:, None]
        size = np.full_like(size, np.nan)
    score = np.ones(len(instances))
    if points.score is not None:
        score = instance_scores(np.clip(np.nan_to_num(points.score), 0, 1), seen)
    chosen = instances[np.flatnonzero(some)]
    return np.column_stack(
        [frames.number[chosen.frame], chosen.track, middle, size, score[some], chosen.type]
    )


def _check_twice(table: np.ndarray, same: np.ndarray, header: Header) -> None:
    """Two instances of one type may not share a track and a frame."""
    wrong = same[table[same, 7] == table[same - 1, 7]]
    if len(wrong):
        frame, track = table[wrong[0], :2].astype(int)
        raise FileFormatError(
            f"{header.path}: the track {header.tracks[track]!r} is in two places in frame {frame}; "
            "correct it in SLEAP, or read the file as poses"
        )
