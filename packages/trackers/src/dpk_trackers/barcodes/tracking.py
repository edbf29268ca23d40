"""Tags through time: who is where is what the tags say, and doubtful readings count only where
they are expected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import ValidationError
from dpk_core.interfaces import Tracker
from dpk_core.tracks import Tracks
from dpk_trackers.assignment import check_number, check_setting, check_whole, in_order, rows_of
from dpk_trackers.interpolation import interpolate
from dpk_trackers.kalman_filter import MotionFilter

GATE = 13.8
"""Squared Mahalanobis distance within which 99.9 % of readings of a tag lie (two dimensions)."""
REACH = 3.0
"""Sides of a tag from where it is expected beyond which no doubtful reading of it counts: after a
long gap the gate is as large as the picture, and lets in what only looks like the tag."""


class BarcodeTracker(Tracker):
    """Takes identities from the tags, each once in a frame.

    A certain reading counts wherever it is. A doubtful one counts where a Kalman filter with
    constant velocity expects that very tag, and at most 3 sides of a tag from there; elsewhere it
    is left out. Of several readings of one id a certain one counts before a doubtful one, then one
    that is expected, then the one with the higher score.

    Parameters
    ----------
    ids
        Those in use; readings of others are left out. Default: all.
    certain
        Score from which a reading needs no expectation.
    doubtful
        Score below which a reading never counts. The detector ``barcode`` gives doubtful readings
        scores below 0.4 (`SoftReader`).
    max_gap
        Frames without a reading after which nothing is expected of a tag any more.
    fill_gap
        Longest gap in frames that is interpolated at the end; 0 for none.
    agility
        How much an animal changes its speed in one frame (standard deviation), as a part of the
        side of its tag.

    Examples
    --------
    >>> tracker = BarcodeTracker()
    >>> def read(x, score): return Detections([x], [10.0], [20.0], [20.0], score=[score], id=[7])
    >>> tracker.update(0, read(30.0, 0.95)).id.tolist()
    [7]
    >>> tracker.update(1, read(31.0, 0.3)).id.tolist()  # doubtful, and expected there
    [7]
    >>> tracker.update(2, read(300.0, 0.3)).id.tolist()  # doubtful, and not
    []
    """

    def __init__(
        self,
        ids: Sequence[int] | None = None,
        certain: float = 0.8,
        doubtful: float = 0.05,
        max_gap: int = 30,
        fill_gap: int = 30,
        agility: float = 0.15,
    ) -> None:
        self.ids = None if ids is None else np.unique(np.asarray(ids))
        whole = self.ids is None or self.ids.dtype.kind in "iu"
        if self.ids is not None and not (whole and self.ids.min(initial=0) >= 0):
            raise ValidationError(f"ids: expected whole numbers from 0, found {ids!r}")
        self.certain = check_setting("certain", certain, 0, 1)
        self.doubtful = check_setting("doubtful", doubtful, 0, certain)
        self.max_gap = check_whole("max_gap", max_gap, 0)
        self.fill_gap = check_whole("fill_gap", fill_gap, 0)
        self.agility = check_setting("agility", agility, 0)
        self._filter = MotionFilter()
        self._known = np.empty(0, np.int64)
        self._seen = np.empty(0, np.int64)
        self._side = 0.0
        self._last: int | None = None

    def update(
        self, number: int, detections: Detections, frame: np.ndarray | None = None
    ) -> Tracks:
        passed = check_number(number, self._last)
        self._last = number
        found = in_order(self._in_use(detections))
        self._learn_side(found)
        self._forget(number)
        self._filter.predict(passed, self.agility * self._side)
        expected = self._expected(found)
        certain = found.score >= self.certain
        counts = np.flatnonzero(certain | expected)
        # The last of those with the same id is the best.
        keys = (found.score, expected, certain, found.id)
        order = counts[np.lexsort([key[counts] for key in keys])]
        last = np.append(found.id[order][1:] != found.id[order][:-1], True)[: len(order)]
        chosen = found[order[last]]
        self._take_in(number, chosen, expected[order[last]])
        return rows_of(number, chosen.id, chosen)

    def finish(self, tracks: Tracks) -> Tracks:
        """With gaps filled in, on straight lines."""
        return interpolate(tracks, self.fill_gap)

    def _in_use(self, detections: Detections) -> Detections:
        wanted = (detections.id >= 0) & (detections.score >= self.doubtful)
        if self.ids is not None:
            wanted &= np.isin(detections.id, self.ids)
        return detections[np.flatnonzero(wanted)]

    def _learn_side(self, found: Detections) -> None:
        """The typical side of a tag: motion is reckoned in it."""
        sides = found.width[np.isfinite(found.width) & (found.width > 0)]
        if len(sides):
            side = float(np.median(sides))
            self._side = side if self._side == 0 else 0.9 * self._side + 0.1 * side
        elif self._side == 0:
            self._side = 20.0

    def _forget(self, number: int) -> None:
        alive = number - self._seen - 1 <= self.max_gap
        self._known, self._seen = self._known[alive], self._seen[alive]
        self._filter.keep(alive)

    def _noise(self) -> float:
        """Variance of where a tag is read."""
        return (0.02 * self._side + 0.1) ** 2

    def _expected(self, found: Detections) -> np.ndarray:
        """(m,) whether each lies where its own tag is expected."""
        places = np.column_stack([found.x, found.y])
        squared, _ = self._filter.distances(places, self._noise())
        away = np.linalg.norm(places - self._filter.position[:, None], axis=2)
        near = (away <= REACH * self._side) | (found.score >= self.certain)
        return ((squared <= GATE) & near & (self._known[:, None] == found.id)).any(axis=0)

    def _take_in(self, number: int, chosen: Detections, expected: np.ndarray) -> None:
        """Expected ones correct the filter; the others, new or far away, begin anew."""
        afresh = chosen.id[~expected]
        keep = ~np.isin(self._known, afresh)
        self._known, self._seen = self._known[keep], self._seen[keep]
        self._filter.keep(keep)
        places = np.column_stack([chosen.x, chosen.y])
        rows = np.searchsorted(self._known, chosen.id[expected])
        self._filter.update(rows, places[expected], self._noise())
        self._seen[rows] = number
        noise = np.full(len(afresh), self._noise())
        self._filter.add(places[~expected], noise, 0.5 * self._side)
        self._known = np.append(self._known, afresh)
        self._seen = np.append(self._seen, np.full(len(afresh), number))
        order = np.argsort(self._known)
        self._known, self._seen = self._known[order], self._seen[order]
        self._filter.keep(order)
