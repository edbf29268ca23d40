"""Where the camera looks, from its pictures or from where animals were found."""

from __future__ import annotations

from math import inf

import numpy as np

from dpk_core.tracks import Tracks
from dpk_trackers.sightings import Sightings

_OUT = 0.25
"""Body sizes beyond all detections, from which on somebody is out of view rather than turning
round where nobody was seen to."""


class FieldOfView:
    """The edges of the picture; where none is seen, those of the place of all detections."""

    def __init__(self) -> None:
        self._picture: tuple[int, int] | None = None
        self._low, self._high = (inf, inf), (-inf, -inf)

    def watch(self, frame: np.ndarray) -> None:
        """Learn from a picture (h, w, ...) how large pictures are."""
        self._picture = frame.shape[0], frame.shape[1]

    def see(self, seen: Sightings) -> None:
        """Learn from the detections of a frame."""
        if not len(seen):
            return
        x, y = seen.place
        self._low = min(self._low[0], float(x.min())), min(self._low[1], float(y.min()))
        self._high = max(self._high[0], float(x.max())), max(self._high[1], float(y.max()))

    @property
    def area(self) -> float:
        """Square pixels of the place in which detections lay so far."""
        if self._high[0] < self._low[0]:
            return 0.0
        return (self._high[0] - self._low[0]) * (self._high[1] - self._low[1])

    def within(self, tracks: Tracks, size: float) -> Tracks:
        """Without what was filled in where the camera did not look. Rows that were seen stay.

        Somebody who left the picture and came back was out of sight in between, on ground behind
        its edge. Where no picture was seen, and all who live there may turn round before its edges,
        gaps are cut only where they lead clearly beyond where anybody was found.

        Parameters
        ----------
        tracks
            In pixels of the frames.
        size
            Of a body in pixels.
        """
        if not tracks.interpolated.any():
            return tracks
        beyond = self._beyond(tracks)
        outside = tracks.interpolated & (beyond > 0)
        if self._picture is None:
            outside &= _farthest(tracks, beyond) > _OUT * size
        return tracks[np.flatnonzero(~outside)]

    def _beyond(self, tracks: Tracks) -> np.ndarray:
        """(n,) pixels by which each row lies outside; NaN where it has no place."""
        low, high = self._low, self._high
        if self._picture is not None:
            low, high = (-0.5, -0.5), (self._picture[1] - 0.5, self._picture[0] - 0.5)
        over_x = np.maximum(low[0] - tracks.x, tracks.x - high[0])
        return np.maximum(over_x, np.maximum(low[1] - tracks.y, tracks.y - high[1]))


def _farthest(tracks: Tracks, beyond: np.ndarray) -> np.ndarray:
    """(n,) for each row the most that its gap, or run of sightings, leads outside."""
    order = np.lexsort((tracks.frame, tracks.id))
    ids, filled = tracks.id[order], tracks.interpolated[order]
    starts = (np.diff(ids) != 0) | (filled[1:] != filled[:-1])
    run = np.concatenate(([0], np.cumsum(starts)))
    most = np.full(run[-1] + 1, -np.inf)
    np.fmax.at(most, run, beyond[order])
    found = np.empty(len(tracks))
    found[order] = most[run]
    return found
