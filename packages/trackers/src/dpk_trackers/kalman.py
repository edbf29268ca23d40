"""Follows many animals by how they move: Kalman filters, gates, weak detections, moving cameras."""

from __future__ import annotations

from math import sqrt

import numpy as np

from dpk_core.detections import NO_ID, Detections
from dpk_core.errors import ValidationError
from dpk_core.interfaces import Tracker
from dpk_core.tracks import Tracks
from dpk_trackers.assignment import (
    assign_pairs,
    check_flag,
    check_number,
    check_setting,
    check_whole,
    in_order,
    join,
    rows_of,
)
from dpk_trackers.beginnings import Beginnings
from dpk_trackers.camera_motion import METHODS, CameraMotion
from dpk_trackers.clutter import Clutter
from dpk_trackers.field_of_view import FieldOfView
from dpk_trackers.heading import are_axes, orient
from dpk_trackers.individuals import Individuals
from dpk_trackers.interpolation import interpolate
from dpk_trackers.kalman_filter import MotionFilter
from dpk_trackers.pair_costs import SETTLED, PairCosts, Pairs
from dpk_trackers.sightings import Sightings
from dpk_trackers.similarity import SIGMA, BodyScale, check_sigmas, iou
from dpk_trackers.smoothing import smooth as smoothed
from dpk_trackers.stabilizing import Stabilizer
from dpk_trackers.stitching import stitch
from dpk_trackers.swaps import Evidence, correct_swaps
from dpk_trackers.voting import vote

_WEAK_GAP = 3
"""Frames after which a weak detection is too little to bring an individual back."""
_SURE = 10.0
"""Log odds of being an animal, from which on there is no more to be gained."""
_HIT, _MISS = 1.0, 1.0
"""What a sighting adds to the log odds beside its score, and each of the first misses takes."""
_MISSES = 3
_PACE, _LEAST_PACE = 1.0, 0.1
"""Presumed standard deviation of a newcomer's velocity along each axis, in body sizes a frame,
before anything is learned; and the least."""
_DRIVE = 0.03
"""Presumed change of velocity in a frame, in body sizes a frame, before anything is learned."""
_DOUBLE = 0.7
"""Overlap from which a detection that nobody got is a second one of what somebody got."""


class KalmanTracker(Tracker):
    """Associates detections by likelihood under constant velocity, overlap and pose.

    Strong detections are assigned to all individuals at once, weak ones to those then left over
    that were just seen (as in ByteTrack, Zhang et al. 2022); what remains of the strong ones
    begins new individuals, which count from their third sighting on. How noisy the motion is, is
    learned on the way. At the end pieces are joined over gaps, gaps filled, and swaps that tags,
    size or shape of body contradict mended.

    Parameters
    ----------
    max_gap
        Frames that an individual may be missing and still be the same one.
    wait
        Frames of them that it is waited for as the video goes on; pieces with a longer gap between
        them are joined at the end, when it is known how both go on.
    strong, weak, start
        Scores from which a detection counts in the first assignment, in the second (never above
        that of the first), and may begin a new individual.
    min_hits
        Sightings after which an individual counts; its first rows are there in the end.
    camera
        "none", or how to make up for a moving camera: "flow" follows corners of the background,
        "ecc" aligns whole frames.
    noise
        Standard deviation of a position in pixels. Default: 5 % of the body size.
    clutter
        Detections of something new that are expected in a frame on the area of a body: what an
        unlikely move is weighed against.
    overlap, pose
        Weight of one less intersection over union (`iou`), and of one less OKS with the keypoints
        that are foretold, in terms of a squared Mahalanobis distance. Both are weighed against
        what is usual for those that belong together.
    sigmas
        Of the keypoints for OKS, relative to body size: one, or one for each.
    persistence
        Frames after which the velocity of one out of sight has faded to 1/e.
    stitch_gap
        Longest gap in frames over which pieces are joined at the end; 0 for none. Default:
        `max_gap`.
    fill_gap
        Longest gap that is interpolated at the end; 0 for none. Default: `max_gap`.
    keep
        Mean score of an individual below which it is dropped at the end as no animal.
    smooth
        Whether to take the noise out of positions and extents at the end, as much as there is.
    heading
        Whether to tell heads from tails at the end, where the detector cannot: of angles that are
        only axes of bodies.

    Examples
    --------
    >>> tracker = KalmanTracker(min_hits=1)
    >>> for i in range(3):
    ...     tracks = tracker.update(i, Detections([10.0 + i, 50.0 - i], [10.0, 12.0]))
    >>> tracks.id.tolist(), tracks.x.tolist()
    ([0, 1], [12.0, 48.0])
    """

    def __init__(
        self,
        max_gap: int = 60,
        wait: int = 10,
        strong: float = 0.5,
        weak: float = 0.1,
        start: float = 0.6,
        min_hits: int = 3,
        camera: str = "none",
        noise: float | None = None,
        clutter: float = 0.003,
        overlap: float = 5.0,
        pose: float = 8.0,
        sigmas: float | list[float] = SIGMA,
        persistence: float = 20.0,
        stitch_gap: int | None = None,
        fill_gap: int | None = None,
        keep: float = 0.6,
        smooth: bool = True,
        heading: bool = True,
    ) -> None:
        if camera not in METHODS:
            raise ValidationError(f"camera: expected one of {METHODS}, found {camera!r}")
        self.max_gap = check_whole("max_gap", max_gap, 0)
        self.wait = min(self.max_gap, check_whole("wait", wait, 0))
        self.strong = check_setting("strong", strong, 0, 1)
        self.weak = min(check_setting("weak", weak, 0, 1), self.strong)
        self.start = check_setting("start", start, 0, 1)
        self.min_hits = check_whole("min_hits", min_hits, 1)
        self.noise = None if noise is None else check_setting("noise", noise, 1e-6)
        self.clutter = check_setting("clutter", clutter, 1e-9)
        self.overlap = check_setting("overlap", overlap, 0)
        self.pose = check_setting("pose", pose, 0)
        self.sigmas = check_sigmas(sigmas)
        gaps = [max_gap if gap is None else gap for gap in (stitch_gap, fill_gap)]
        self.stitch_gap = check_whole("stitch_gap", gaps[0], 0)
        self.fill_gap = check_whole("fill_gap", gaps[1], 0)
        self.keep = check_setting("keep", keep, 0, 1)
        self.smooth = check_flag("smooth", smooth)
        self.heading = check_flag("heading", heading)
        self.uses_frames = camera != "none"
        self._camera = CameraMotion(camera) if self.uses_frames else None
        self._move: np.ndarray | None = None
        self._filter = MotionFilter(check_setting("persistence", persistence, 1))
        self._scale = BodyScale()
        self._drive = 1.0  # learned: how much the motion differs from what was presumed
        self._pace = _PACE  # learned
        self._last: int | None = None
        self._next = 0
        self._born = 0
        self._known = Individuals()
        self._costs = PairCosts(self.overlap, self.pose, self.sigmas)
        self._clutter = Clutter(self.clutter)
        self._beginnings = Beginnings(3 * self.min_hits)
        self._evidence = Evidence()
        self._stabilizer = Stabilizer()
        self._field = FieldOfView()

    def watch(self, detections: Detections, frame: np.ndarray) -> None:
        """See how the camera moved; `update` does it where it has not been done."""
        if self._camera is not None:
            self._move = self._camera.see(frame, detections)
            self._field.watch(frame)

    def update(
        self, number: int, detections: Detections, frame: np.ndarray | None = None
    ) -> Tracks:
        passed = check_number(number, self._last)
        self._follow_camera(number, detections, frame)
        seen = Sightings(in_order(detections, self.weak), self.strong)
        size = self._scale.see(seen.found, seen.area)
        noise = self._noise_of(seen)
        self._filter.predict(passed, self._drive * _DRIVE * size)
        rows, columns = self._associate(number, seen, noise)
        self._field.see(seen)
        self._clutter.learn(seen, columns, self._field.area, size)
        self._learn(seen, noise, rows, columns, number - passed)
        self._last = number
        self._known.column[:] = -1
        self._take(number, seen, noise, rows, columns)
        self._forget(number)
        self._begin(number, seen, noise, columns)
        return self._rows(number, seen)

    def finish(self, tracks: Tracks) -> Tracks:
        whole = join([tracks, self._beginnings.rows()])
        axes = are_axes(whole.angle)
        whole = self._stabilizer.to_ground(whole)
        whole = whole[_mean_score(whole) >= self.keep]
        shapes, tags = self._evidence.of(whole)
        if self.stitch_gap:
            whole = stitch(whole, self.stitch_gap)
        whole = correct_swaps(whole, shapes, tags)
        whole = vote(whole, tags)
        if self.heading:
            # The angle of a tag is that of its picture, however it was glued on.
            whole = orient(whole, axes=axes and bool((tags == NO_ID).all()))
        whole = interpolate(whole, self.fill_gap)
        if self.smooth:
            whole = smoothed(whole)
        return self._field.within(self._stabilizer.to_frames(whole), self._scale.value)

    # -- one frame --------------------------------------------------------------------------------

    def _follow_camera(self, number: int, detections: Detections, frame: np.ndarray | None) -> None:
        if self._camera is None:
            return
        if self._move is None:
            if frame is None:
                raise ValidationError(
                    f"frame {number}: expected its image, since camera={self._camera.method!r} "
                    "looks at how the background moves; found none"
                )
            self.watch(detections, frame)
        assert self._move is not None
        self._filter.warp(self._move)
        self._known.warp(self._move)
        self._stabilizer.see(number, self._move)
        self._move = None

    def _noise_of(self, seen: Sightings) -> np.ndarray:
        """(m,) variances of places; weak detections are hidden in part, and less exact."""
        noise = 0.05 * self._scale.value if self.noise is None else self.noise
        return (noise * np.where(seen.strong, 1.0, 1.5)) ** 2

    def _associate(
        self, number: int, seen: Sightings, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The sure ones first; then weak detections; newcomers get what nobody else wanted."""
        known, size = self._known, self._scale.value
        pairs = self._costs.of(number, known, self._filter, seen, noise)
        strong, sure = seen.strong[pairs.columns], (known.id >= 0)[pairs.rows]
        recent = (number - known.seen <= _WEAK_GAP)[pairs.rows]
        # How much less likely somebody new would be, or nobody.
        gain = pairs.cost - np.where(
            strong, self._clutter.limit("strong", size), self._clutter.limit("weak", size)
        )
        likely = gain < 0
        first = _best(pairs, gain, (likely & sure & strong).nonzero()[0])
        free_rows, free_columns = np.ones(len(known), bool), np.ones(len(seen), bool)
        free_rows[pairs.rows[first]], free_columns[pairs.columns[first]] = False, False
        # Weak ones are for the sure, strong ones that are left for newcomers: two in one go.
        left = likely & free_rows[pairs.rows] & free_columns[pairs.columns]
        second = _best(pairs, gain, (left & np.where(sure, recent & ~strong, strong)).nonzero()[0])
        chosen = np.concatenate((first, second))
        self._costs.learn(pairs, chosen, known)
        return pairs.rows[chosen], pairs.columns[chosen]

    def _learn(
        self, seen: Sightings, noise: np.ndarray, rows: np.ndarray, columns: np.ndarray, before: int
    ) -> None:
        """Adapt the noise of the motion until errors are as large as they are expected to be."""
        known = self._known
        settled = (known.hits[rows] >= SETTLED) & (known.seen[rows] == before)
        rows, columns = rows[settled], columns[settled]
        count = len(rows)
        if not count:
            return
        error = self._filter.position[rows].T - seen.place[:, columns]
        variance = self._filter.covariance[rows, 0] + noise[columns]
        # The mean of chi-squared with two degrees of freedom is 2. Most animals may be at rest:
        # the few that are not say what is to be reckoned with.
        ratio = float(((error**2).sum(axis=0) / variance).sum()) / count / 2
        speed = sqrt(float((self._filter.velocity[rows] ** 2).sum()) / (2 * count))
        step = 0.05 * min(1.0, count / 10)
        self._pace += step * (max(_LEAST_PACE, 2 * speed / self._scale.value) - self._pace)
        self._drive = min(max(self._drive * min(max(ratio, 0.1), 10.0) ** step, 0.3), 30.0)

    def _take(
        self,
        number: int,
        seen: Sightings,
        noise: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
    ) -> None:
        known = self._known
        self._filter.update(rows, seen.place.T[columns], noise[columns])
        self._costs.learn_sizes(known, seen.size[columns], rows)
        known.see(rows, seen, columns)
        known.seen[rows] = number
        known.hits[rows] += 1
        missed = number - known.seen <= _MISSES
        missed[rows] = False
        known.odds[missed] -= _MISS
        odds = known.odds[rows] + _HIT + _logit(seen.found.score[columns])
        known.odds[rows] = np.minimum(_SURE, odds)
        sure = (known.hits[rows] >= self.min_hits) & (odds > 0) & (known.id[rows] < 0)
        if sure.any():
            self._confirm(np.sort(rows[sure]))

    def _confirm(self, rows: np.ndarray) -> None:
        """They count from now on."""
        ids = self._next + np.arange(len(rows))
        self._known.id[rows] = ids
        self._next += len(rows)
        self._beginnings.confirm(self._known.key[rows], ids)

    def _forget(self, number: int) -> None:
        known = self._known
        longest = np.where(known.id >= 0, self.wait + 1, 2)
        alive = (number - known.seen <= longest) & (known.odds >= 0)
        if alive.all():
            return
        self._beginnings.forget(known.key[~alive])
        rows = alive.nonzero()[0]
        self._filter.keep(rows)
        known.keep(rows)

    def _begin(self, number: int, seen: Sightings, noise: np.ndarray, taken: np.ndarray) -> None:
        free = seen.found.score >= self.start
        free[taken] = False
        new = free.nonzero()[0]
        if len(taken) and len(new):
            overlap = iou(seen.boxes.T[new], seen.boxes.T[taken])
            new = new[overlap.max(axis=1) < _DOUBLE]
        if not len(new):
            return
        self._filter.add(seen.place.T[new], noise[new], self._scale.value * self._pace)
        keys = self._born + np.arange(len(new))
        self._born += len(new)
        odds = np.maximum(0, _logit(seen.found.score[new]))
        rows = self._known.add(number, keys, odds)
        self._known.see(rows, seen, new)
        self._known.size[rows] = seen.size[new]
        if self.min_hits == 1:
            self._confirm(rows)

    def _rows(self, number: int, seen: Sightings) -> Tracks:
        """Of those that count; the first rows of others are kept until it is known."""
        known = self._known
        here = known.column >= 0
        sure = here & (known.id >= 0)
        unsure = (here & ~sure).nonzero()[0]
        self._beginnings.see(number, known.key[unsure], seen.found, known.column[unsure])
        ids, columns = known.id[sure], known.column[sure]
        if seen.tagged or seen.found.keypoints is not None:
            self._evidence.see(number, ids, seen.found[columns])
        return rows_of(number, ids, seen.found, at=columns)


def _best(pairs: Pairs, gain: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Which of those pairs are chosen."""
    return some[assign_pairs(pairs.rows[some], pairs.columns[some], gain[some])]


def _mean_score(tracks: Tracks) -> np.ndarray:
    """(n,) for each row that of its individual."""
    _, who, count = np.unique(tracks.id, return_inverse=True, return_counts=True)
    return (np.bincount(who, tracks.score, len(count)) / count)[who]


def _logit(score: np.ndarray) -> np.ndarray:
    score = np.clip(score.astype(np.float64), 0.1, 0.9)
    return np.log(score / (1 - score))
