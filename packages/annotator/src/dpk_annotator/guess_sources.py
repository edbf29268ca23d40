"""Which predicted keypoints are of which image of a set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dpk_core.annotations import Source
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.video_paths import file_name, locate
from dpk_core.skeleton import Skeleton


def guesses_from_poses(
    poses: Poses,
    video: str,
    sources: Sequence[Source],
    size: tuple[int, int],
    skeleton: Skeleton,
    folder: Path,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (m,), keypoints (m, k, 2) in pixels of the images, and scores (m, k).

    Parameters
    ----------
    poses
        Of one video, in pixels of its frames.
    video
        Path or name of that video.
    sources
        Where each image of the set is from; those of other videos get nothing.
    size
        (height, width) of the images.
    skeleton
        The set's; keypoints are matched by name.
    folder
        Of the set: its sources may name videos relative to it.

    Notes
    -----
    Of several animals in a frame, an image gets the one whose track has the name of its
    individual, else the one nearest to the image's centre among those inside.
    """
    at: dict[int, list[int]] = {}
    for i, frame in enumerate(poses.frames.tolist()):
        at.setdefault(frame, []).append(i)
    ours, theirs = shared_keypoints(skeleton, poses.skeleton)
    same = _same_video(video, folder)
    known: dict[str, bool] = {}
    rows, keypoints, scores = [], [], []
    for row, source in enumerate(sources):
        found = at.get(source.frame)
        if not found or not known.setdefault(source.video, same(source.video)):
            continue
        points = _in_image(poses.keypoints[found].astype(np.float64), source)
        choice = _choice(points, poses.track_ids[found], source, size)
        if choice is None:
            continue
        placed = np.full((len(skeleton), 2), np.nan, np.float32)
        score = np.zeros(len(skeleton), np.float32)
        placed[ours], score[ours] = points[choice][theirs], poses.scores[found[choice]][theirs]
        rows.append(row)
        keypoints.append(placed)
        scores.append(score)
    k = len(skeleton)
    return (
        np.array(rows, np.int64),
        np.array(keypoints, np.float32).reshape(-1, k, 2),
        np.array(scores, np.float32).reshape(-1, k),
    )


def shared_keypoints(ours: Skeleton, theirs: Skeleton) -> tuple[list[int], list[int]]:
    """Positions in both skeletons of the keypoints that both have, by name."""
    pairs = [(i, theirs.names.index(n)) for i, n in enumerate(ours.names) if n in theirs.names]
    return [i for i, _ in pairs], [j for _, j in pairs]


def _same_video(video: str, folder: Path) -> Callable[[str], bool]:
    here = locate(video, folder)
    place = None if here is None else here.resolve()

    def same(name: str) -> bool:
        if not name:
            return False
        found = locate(name, folder)
        if found is not None and place is not None:
            return found.resolve() == place
        return file_name(name) == file_name(video)

    return same


def _in_image(points: np.ndarray, source: Source) -> np.ndarray:
    """From pixels of the video to those of the image that was cropped out of it."""
    if source.crop is None:
        return points
    matrix = np.array(source.crop, np.float64).reshape(2, 3)
    return points @ matrix[:, :2].T + matrix[:, 2]


def _choice(
    points: np.ndarray, tracks: np.ndarray, source: Source, size: tuple[int, int]
) -> int | None:
    """Which of the animals in the frame the image shows; None when none of them."""
    if source.individual:
        for i, track in enumerate(tracks.tolist()):
            if track != NO_TRACK and source.individual in (str(track), f"track {track}"):
                return i
    if len(points) == 1 and source.crop is None:
        return 0
    height, width = size if source.size is None else source.size
    best, nearest = None, np.inf
    for i, animal in enumerate(points):
        seen = animal[~np.isnan(animal[:, 0])]
        if not len(seen):
            continue
        x, y = seen.mean(axis=0)
        distance = float(np.hypot(x - (width - 1) / 2, y - (height - 1) / 2))
        if 0 <= x <= width - 1 and 0 <= y <= height - 1 and distance < nearest:
            best, nearest = i, distance
    return best
