"""Poses that are there already as what a tracker follows, instead of a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import ValidationError
from dpk_core.poses import Poses
from dpk_core.services.fingerprints import fingerprint
from dpk_core.services.storage import is_complete, read_poses
from dpk_core.services.storage.video_links import video_fingerprint
from dpk_core.workflow.frames import FrameSource


class PoseRows:
    """The rows of a file of poses, frame by frame, in the place of a `DetectionsLog`.

    Each row is a detection with keypoints; its box is the smallest around them, its score their
    mean score. Track ids in the file say nothing: who is who is what a tracker finds out.

    Parameters
    ----------
    path
        A finished file of poses of this video.
    source
        The video.
    threshold
        Keypoints with a lower score are left out.
    keypoints
        That many a row must have, at least.

    Raises
    ------
    FileMissingError, FileFormatError
    ValidationError
        When the poses are of another video, or not all there yet; on settings out of range.
    """

    def __init__(
        self, path: Path, source: FrameSource, threshold: float = 0.2, keypoints: int = 2
    ) -> None:
        if not (0 <= threshold <= 1 and keypoints >= 1):
            raise ValidationError(
                "poses: expected threshold in [0, 1] and keypoints of at least 1, found "
                f"{threshold} and {keypoints}"
            )
        poses = read_poses(path)
        check_same_frames(poses, path, source)
        if not is_complete(path):
            raise ValidationError(
                f"{path} is not finished; run the same dpk predict again, which carries on"
            )
        self._threshold, self._least = float(threshold), int(keypoints)
        order = np.argsort(poses.frames, kind="stable")
        self._poses, self._frames = poses[order], poses.frames[order]
        self._limit = np.array(source.size[::-1]) - 0.5
        self._n = len(source.numbers)

    def get(self, number: int) -> Detections:
        """What the file has of a frame."""
        low, high = np.searchsorted(self._frames, [number, number + 1])
        points = self._poses.keypoints[low:high].astype(np.float64)
        scores = self._poses.scores[low:high].astype(np.float64)
        good = np.isfinite(points).all(axis=2) & (scores >= self._threshold)
        kept = np.flatnonzero(good.sum(axis=1) >= self._least)
        if not len(kept):
            return Detections.none()
        points, scores, good = points[kept], scores[kept], good[kept]
        first = np.where(good[..., None], points, np.inf).min(axis=1) - 0.5
        last = np.where(good[..., None], points, -np.inf).max(axis=1) + 0.5
        # Keypoints may lie beyond the edge of the picture; the box does not.
        first, last = np.clip(first, -0.5, self._limit), np.clip(last, -0.5, self._limit)
        (x, y), (width, height) = ((first + last) / 2).T, (last - first).T
        mean = np.where(good, scores, 0).sum(axis=1) / good.sum(axis=1)
        shown = np.where(good[..., None], points, np.nan)
        return Detections(x, y, width, height, score=mean.clip(0, 1), keypoints=shown)

    def put(self, number: int, detections: Detections) -> None:
        """Nothing is to be kept: all is in the file."""

    def commit(self) -> None:
        """Nothing is to be kept."""

    def remove(self) -> None:
        """The file is the user's."""

    def __len__(self) -> int:
        return self._n

    def __enter__(self) -> PoseRows:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def describe_poses(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Which poses, for the description of a job."""
    return {"name": "poses", "settings": {**settings, "content": fingerprint(path)}}


def check_same_frames(poses: Poses, path: Path, source: FrameSource) -> None:
    """ValidationError when poses are of a video of another size, length or content."""
    facts = poses.provenance
    for name in ("n_frames", "height", "width"):
        value, found = facts.get(name), source.facts.get(name)
        if value is not None and value != found:
            raise ValidationError(
                f"{path} is of another video ({facts.get('video', '?')}): {source.path} has "
                f"{name.replace('n_', '')} {found}, not {value}"
            )
    content = video_fingerprint(facts)
    if content is not None and content != source.fingerprint:
        raise ValidationError(
            f"{path} is of another video ({facts.get('video', '?')}): the content of {source.path} "
            "differs (its fingerprint); choose the video that was predicted"
        )
    if len(poses) and poses.frames.max() >= source.facts["n_frames"]:
        raise ValidationError(
            f"{path} has rows up to frame {poses.frames.max()}; {source.path} has only the frames "
            f"0 to {source.facts['n_frames'] - 1}"
        )
