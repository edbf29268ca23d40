"""The paper's tracker: linear assignment on positions (Munkres 1957)."""

from __future__ import annotations

import numpy as np

from dpk_core.detections import NO_ID, Detections
from dpk_core.errors import ValidationError
from dpk_core.interfaces import Tracker
from dpk_core.tracks import Tracks
from dpk_trackers.assignment import (
    assign,
    check_flag,
    check_number,
    check_setting,
    check_whole,
    in_order,
    rows_of,
)
from dpk_trackers.heading import orient
from dpk_trackers.interpolation import interpolate
from dpk_trackers.similarity import SIGMA, BodyScale, body_areas, check_sigmas, oks

BODIES = 3.0
"""Default of the farthest that one can get between two frames, in body sizes."""


class MunkresTracker(Tracker):
    """Assigns each individual the detection nearest to where it was last, all of them at once.

    As in Graving et al. (2019): the sum of distances between centroids is the smallest that there
    is. No model of motion; good where animals move less between frames than they are apart.

    Parameters
    ----------
    max_distance
        Farthest in pixels between two sightings. Default: three body sizes, which are learned from
        the detections.
    max_gap
        Frames that an individual may be missing and still be the same one.
    fill_gap
        Longest gap in frames that is interpolated at the end; 0 for none.
    min_score
        Weaker detections are ignored.
    match
        "position", or "pose": by object keypoint similarity (COCO's OKS) where both have
        keypoints, a perfect match being as good as no distance and none as bad as the farthest.
    sigmas
        Of the keypoints for OKS, relative to body size: one, or one for each.
    heading
        Whether to tell heads from tails at the end, where the detector cannot: of angles that are
        only axes of bodies.

    Examples
    --------
    >>> tracker = MunkresTracker()
    >>> tracker.update(0, Detections([10.0, 50.0], [10.0, 50.0])).id.tolist()
    [0, 1]
    >>> tracker.update(1, Detections([51.0, 12.0], [50.0, 10.0])).x.tolist()
    [12.0, 51.0]
    """

    def __init__(
        self,
        max_distance: float | None = None,
        max_gap: int = 30,
        fill_gap: int = 30,
        min_score: float = 0.1,
        match: str = "position",
        sigmas: float | list[float] = SIGMA,
        heading: bool = True,
    ) -> None:
        if match not in ("position", "pose"):
            raise ValidationError(f"match: expected 'position' or 'pose', found {match!r}")
        if max_distance is not None:
            check_setting("max_distance", max_distance, 0)
        self.max_distance = max_distance
        self.max_gap = check_whole("max_gap", max_gap, 0)
        self.fill_gap = check_whole("fill_gap", fill_gap, 0)
        self.min_score = check_setting("min_score", min_score, 0, 1)
        self.match = match
        self.sigmas = check_sigmas(sigmas)
        self.heading = check_flag("heading", heading)
        self._tagged = False
        self._scale = BodyScale()
        self._last: int | None = None
        self._next = 0
        self._ids = np.empty(0, np.int64)
        self._seen = np.empty(0, np.int64)
        self._known = Detections.none()

    def update(
        self, number: int, detections: Detections, frame: np.ndarray | None = None
    ) -> Tracks:
        check_number(number, self._last)
        self._last = number
        found = in_order(detections, self.min_score)
        self._tagged |= bool((found.id != NO_ID).any())
        size = self._scale.see(found)
        reach = BODIES * size if self.max_distance is None else float(self.max_distance)
        alive = number - self._seen - 1 <= self.max_gap
        self._ids, self._seen = self._ids[alive], self._seen[alive]
        self._known = self._known[alive]
        rows, columns = assign(self._costs(found, reach), np.nextafter(reach, np.inf))
        ids = np.full(len(found), -1)
        ids[columns] = self._ids[rows]
        new = np.flatnonzero(ids < 0)
        ids[new] = self._next + np.arange(len(new))
        self._next += len(new)
        self._remember(number, ids, found)
        return rows_of(number, ids, found)

    def finish(self, tracks: Tracks) -> Tracks:
        # The angle of a tag is that of its picture, however it was glued on.
        if self.heading and not self._tagged:
            tracks = orient(tracks)
        return interpolate(tracks, self.fill_gap)

    def _costs(self, found: Detections, reach: float) -> np.ndarray:
        known = self._known
        distance = np.hypot(known.x[:, None] - found.x, known.y[:, None] - found.y)
        if self.match == "position" or known.keypoints is None or found.keypoints is None:
            return distance
        like = oks(known.keypoints, found.keypoints, body_areas(known), self.sigmas)
        by_pose = np.where(distance <= reach, reach * (1 - like), np.inf)
        return np.where(np.isnan(like), distance, by_pose)

    def _remember(self, number: int, ids: np.ndarray, found: Detections) -> None:
        """Those seen now as they are now, the others as they were."""
        missing = np.flatnonzero(~np.isin(self._ids, ids))
        self._known = _together(self._known[missing], found)
        self._seen = np.concatenate([self._seen[missing], np.full(len(ids), number)])
        self._ids = np.concatenate([self._ids[missing], ids])


def _together(first: Detections, second: Detections) -> Detections:
    """Both; keypoints where the two agree on their number, else those of neither."""
    if not len(first):
        return second
    if not len(second):
        return first
    columns = {
        name: np.concatenate([column, second.columns()[name]])
        for name, column in first.columns().items()
    }
    if first.keypoints is None or second.keypoints is None:
        return Detections(**columns)
    return Detections(**columns, keypoints=np.concatenate([first.keypoints, second.keypoints]))
