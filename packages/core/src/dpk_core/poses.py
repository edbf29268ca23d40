"""Poses: what a model predicts, one row for each frame (or each individual in a frame)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError
from dpk_core.skeleton import Skeleton

NO_TRACK = -1
"""Track id of a row that belongs to no track (one animal, whole frames)."""


@attrs.frozen(repr=False, eq=False)
class Poses:
    """Keypoints with scores, in pixels of the original video frame.

    Parameters
    ----------
    keypoints
        (n, k, 2) float32 of x, y; (0, 0) is the centre of the top-left pixel; NaN is missing.
    scores
        (n, k) float32 in [0, 1]; a NaN coordinate has score 0.
    skeleton
        The `Skeleton` with k keypoints.
    frames
        (n,) int64, number of the frame in the video, from 0. Default: 0, 1, 2, ...
    track_ids
        (n,) int32, `NO_TRACK` for none.
    provenance
        Where this came from (video, model, versions): strings and numbers, stored as JSON.

    Raises
    ------
    ValidationError
        On shapes that disagree or scores outside [0, 1].
    """

    keypoints: np.ndarray
    scores: np.ndarray
    skeleton: Skeleton
    frames: np.ndarray = attrs.field(default=None)
    track_ids: np.ndarray = attrs.field(default=None)
    provenance: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        k = len(self.skeleton)
        keypoints = as_array("keypoints", self.keypoints, np.float32, ("n", k, 2))
        n = len(keypoints)
        scores = as_array("scores", self.scores, np.float32, (n, k))
        missing = np.isnan(keypoints).any(axis=2)
        if missing.any():
            keypoints = np.where(missing[..., None], np.float32(np.nan), keypoints)
            scores = np.where(missing, np.float32(0), scores)
        if n and not (np.all(scores >= 0) and np.all(scores <= 1)):
            raise ValidationError(
                f"scores: expected values in [0, 1], found {np.nanmin(scores)} to "
                f"{np.nanmax(scores)}"
            )
        frames = np.arange(n) if self.frames is None else self.frames
        tracks = np.full(n, NO_TRACK) if self.track_ids is None else self.track_ids
        for name, value in (
            ("keypoints", keypoints),
            ("scores", scores),
            ("frames", as_array("frames", frames, np.int64, (n,))),
            ("track_ids", as_array("track_ids", tracks, np.int32, (n,))),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def from_predictions(cls, predictions: np.ndarray, skeleton: Skeleton, **fields: Any) -> Poses:
        """From a model's (n, k, 3) array of x, y, score."""
        predictions = as_array("predictions", predictions, np.float32, ("n", len(skeleton), 3))
        return cls(predictions[..., :2], predictions[..., 2], skeleton, **fields)

    def to_predictions(self) -> np.ndarray:
        """(n, k, 3) float32 of x, y, score."""
        return np.concatenate([self.keypoints, self.scores[..., None]], axis=2)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> Poses:
        """The chosen rows as Poses (one row for an integer)."""
        if isinstance(rows, (int, np.integer)):
            rows = [range(len(self))[rows]]
        return attrs.evolve(
            self,
            keypoints=self.keypoints[rows],
            scores=self.scores[rows],
            frames=self.frames[rows],
            track_ids=self.track_ids[rows],
        )

    def __repr__(self) -> str:
        n, k = self.scores.shape
        tracks = len(np.unique(self.track_ids[self.track_ids != NO_TRACK]))
        span = f"frames {self.frames.min()}-{self.frames.max()}" if n else "no frames"
        return f"Poses({n} rows, {k} keypoints, {span}, {tracks} tracks)"
