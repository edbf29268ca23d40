"""The detections of one frame, with what a tracker wants to know of them more than once."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from dpk_core.detections import NO_ID, Detections
from dpk_trackers.similarity import body_areas, log_sizes


class Sightings:
    """Detections, and what follows from them, each computed once.

    Parameters
    ----------
    found
        In the order that they shall have.
    strong
        Score from which a detection is a strong one.

    Attributes
    ----------
    found
        As above.
    place
        (2, m) x and y of the centres.
    strong
        (m,) whether it is a strong one.
    area, size
        (m,) of the body in square pixels, and the log of its size; NaN unknown.
    """

    def __init__(self, found: Detections, strong: float) -> None:
        self.found = found
        self.place = np.array((found.x, found.y))
        self.strong = found.score >= strong
        self.area = body_areas(found)
        self.size = log_sizes(found.width, found.height, found.angle)

    def __len__(self) -> int:
        return len(self.found)

    @cached_property
    def tagged(self) -> bool:
        """Whether any says who it is."""
        return bool((self.found.id != NO_ID).any())

    @cached_property
    def boxes(self) -> np.ndarray:
        """(4, m) upright boxes of x0, y0, x1, y1; NaN without an extent."""
        found = self.found
        if not (np.isnan(found.angle).all() and np.isfinite(found.width + found.height).all()):
            return found.boxes.T
        half = np.array((found.width, found.height)) / 2
        return np.concatenate((self.place - half, self.place + half))

    @cached_property
    def boxed(self) -> bool:
        """Whether every one has a box and an area."""
        return bool(np.isfinite(self.boxes).all() and np.isfinite(self.area).all())
