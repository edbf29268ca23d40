"""Tracks: what a tracker finds, one row for each individual in each frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from dpk_core.checks import as_array

COLUMNS: dict[str, Any] = {
    "frame": np.int64,
    "id": np.int64,
    "x": np.float64,
    "y": np.float64,
    "width": np.float64,
    "height": np.float64,
    "angle": np.float64,
    "score": np.float32,
    "interpolated": np.bool_,
}
"""Names and types of the columns, in the order in which they are stored."""


@attrs.frozen(repr=False, eq=False)
class Tracks:
    """Where each individual was, in pixels of the video frame.

    Parameters
    ----------
    frame, id
        (n,) integers: number of the frame from 0, and the individual. A pair stands once.
    x, y
        (n,) centre of the individual; (0, 0) is the centre of the top-left pixel; NaN is missing.
    width, height
        (n,) extent along and across the body axis in pixels, NaN where the tracker has none.
    angle
        (n,) radians from the x axis towards the y axis (clockwise on the screen), NaN for none.
    score
        (n,) in [0, 1]. Default 1.
    interpolated
        (n,) True where the row was filled in between sightings, False where it was seen.

    Raises
    ------
    ValidationError
        On columns of different length or the wrong type.
    """

    frame: np.ndarray
    id: np.ndarray
    x: np.ndarray
    y: np.ndarray
    width: np.ndarray = attrs.field(default=None)
    height: np.ndarray = attrs.field(default=None)
    angle: np.ndarray = attrs.field(default=None)
    score: np.ndarray = attrs.field(default=None)
    interpolated: np.ndarray = attrs.field(default=None)
    provenance: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        n = len(self.frame)
        defaults = {"score": 1.0, "interpolated": False}
        for name, dtype in COLUMNS.items():
            value = getattr(self, name)
            if value is None:
                value = np.full(n, defaults.get(name, np.nan))
            object.__setattr__(self, name, as_array(name, value, dtype, (n,)))

    def columns(self) -> dict[str, np.ndarray]:
        """The columns by name, in storage order."""
        return {name: getattr(self, name) for name in COLUMNS}

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> Tracks:
        """The chosen rows."""
        chosen: dict[str, Any] = {name: column[rows] for name, column in self.columns().items()}
        return attrs.evolve(self, **chosen)

    def __repr__(self) -> str:
        filled = int(self.interpolated.sum())
        span = f"frames {self.frame.min()}-{self.frame.max()}" if len(self) else "no frames"
        return (
            f"Tracks({len(self)} rows, {len(np.unique(self.id))} individuals, {span}, "
            f"{filled} interpolated)"
        )
