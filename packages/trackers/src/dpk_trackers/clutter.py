"""How densely newcomers and false detections lie, learned from the detections nobody wants."""

from __future__ import annotations

from math import log

import numpy as np

from dpk_trackers.sightings import Sightings

_RATE = 0.03
_PRESUMED = 0.05
"""Detections that are added to those of each frame, so that a density is never 0."""
_LEAST = 10.0
"""Bodies that have room in the place in which animals are seen, at least."""


class Clutter:
    """Running means of strong and of weak detections that nobody wants, on the area of a body.

    Parameters
    ----------
    presumed
        Both, before anything is learned.
    """

    def __init__(self, presumed: float) -> None:
        self._density = {"strong": presumed, "weak": presumed}

    def limit(self, kind: str, size: float) -> float:
        """-2 log of the density of the strong or the weak ones, a square pixel.

        Parameters
        ----------
        kind
            "strong" or "weak".
        size
            Of a body in pixels.
        """
        return -2 * log(self._density[kind] / size**2)

    def learn(self, seen: Sightings, taken: np.ndarray, area: float, size: float) -> None:
        """Take a frame into account.

        Parameters
        ----------
        taken
            (r,) the detections that somebody wanted.
        area
            Square pixels of the place in which detections lie.
        size
            Of a body in pixels.
        """
        bodies = max(area / size**2, _LEAST)
        strong = np.count_nonzero(seen.strong)
        strong_taken = np.count_nonzero(seen.strong[taken])
        free = {
            "strong": strong - strong_taken,
            "weak": len(seen) - strong - (len(taken) - strong_taken),
        }
        for kind, count in free.items():
            before = self._density[kind]
            self._density[kind] = before + _RATE * ((count + _PRESUMED) / bodies - before)
