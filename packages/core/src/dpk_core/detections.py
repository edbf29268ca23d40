"""Detections: what a detector finds in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError

NO_ID = -1
"""Id of a detection that does not say who it is."""

_COLUMNS: dict[str, Any] = {
    "x": np.float64,
    "y": np.float64,
    "width": np.float64,
    "height": np.float64,
    "angle": np.float64,
    "score": np.float32,
    "id": np.int64,
}

_DEFAULTS: dict[str, Any] = {"score": 1.0, "id": NO_ID}


@attrs.frozen(repr=False, eq=False)
class Detections:
    """Individuals in a frame, in no order.

    Parameters
    ----------
    x, y
        (m,) centres in pixels; (0, 0) is the centre of the top-left pixel. Finite.
    width, height
        (m,) extent along and across the body axis in pixels, or of an upright box where the angle
        is NaN; NaN where nothing is known.
    angle
        (m,) radians from the x axis towards the y axis (clockwise on the screen), NaN for none.
    score
        (m,) in [0, 1]. Default 1.
    id
        (m,) who it is, where the detector itself can tell (a tag); `NO_ID` elsewhere.
    keypoints
        (m, k, 2) pixels, NaN missing; None from detectors that find none.

    Raises
    ------
    ValidationError
        On columns of different length or wrong type, a centre that is not finite, a score outside
        [0, 1].
    """

    x: np.ndarray
    y: np.ndarray
    width: np.ndarray = attrs.field(default=None)
    height: np.ndarray = attrs.field(default=None)
    angle: np.ndarray = attrs.field(default=None)
    score: np.ndarray = attrs.field(default=None)
    id: np.ndarray = attrs.field(default=None)
    keypoints: np.ndarray | None = None

    def __attrs_post_init__(self) -> None:
        m = len(self.x)
        for name, dtype in _COLUMNS.items():
            value = getattr(self, name)
            if value is None:
                value = np.full(m, _DEFAULTS.get(name, np.nan))
            object.__setattr__(self, name, as_array(name, value, dtype, (m,)))
        if not (np.isfinite(self.x).all() and np.isfinite(self.y).all()):
            raise ValidationError("detections: expected finite centres, found NaN or infinity")
        if m and not (self.score.min() >= 0 and self.score.max() <= 1):
            raise ValidationError(
                f"score: expected values in [0, 1], found {self.score.min()} to {self.score.max()}"
            )
        if self.keypoints is not None:
            keypoints = as_array("keypoints", self.keypoints, np.float32, (m, "k", 2))
            object.__setattr__(self, "keypoints", keypoints)

    @classmethod
    def none(cls) -> Detections:
        """No detection at all."""
        return cls(np.empty(0), np.empty(0))

    @classmethod
    def from_boxes(cls, boxes: np.ndarray, scores: np.ndarray | None = None) -> Detections:
        """From (m, 4) upright boxes of x0, y0, x1, y1: the outer edges of their pixels.

        A box around the single pixel (3, 5) is 2.5, 4.5, 3.5, 5.5.
        """
        boxes = as_array("boxes", boxes, np.float64, ("m", 4))
        center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        if not np.all(size >= 0):
            raise ValidationError("boxes: expected x0 <= x1 and y0 <= y1, and no NaN")
        (x, y), (width, height) = center.T, size.T
        return cls(x, y, width, height, score=np.ones(len(x)) if scores is None else scores)

    @property
    def boxes(self) -> np.ndarray:
        """(m, 4) upright boxes around the (turned) ones, x0, y0, x1, y1; NaN without an extent."""
        turn = np.nan_to_num(self.angle)
        cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
        half_x = (cos * self.width + sin * self.height) / 2
        half_y = (sin * self.width + cos * self.height) / 2
        return np.stack([self.x - half_x, self.y - half_y, self.x + half_x, self.y + half_y], 1)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns by name, without the keypoints."""
        return {name: getattr(self, name) for name in _COLUMNS}

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> Detections:
        """The chosen rows."""
        # They were checked when these were made: trackers choose rows many times a frame.
        chosen = object.__new__(Detections)
        for name, column in self.columns().items():
            object.__setattr__(chosen, name, column[rows])
        if chosen.x.ndim != 1:
            raise ValidationError(f"detections: expected a list of rows to choose, found {rows!r}")
        keypoints = None if self.keypoints is None else self.keypoints[rows]
        object.__setattr__(chosen, "keypoints", keypoints)
        return chosen

    def __repr__(self) -> str:
        known = int((self.id != NO_ID).sum())
        return f"Detections({len(self)}, {known} with an id)"
