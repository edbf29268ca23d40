"""Follows many animals by how they move: Kalman filters, gates, weak detections, moving cameras."""

from __future__ import annotations

from collections import deque

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
    in_order,
    join,
    rows_of,
)
from dpk_trackers.camera_motion import METHODS, CameraMotion
from dpk_trackers.heading import are_axes, orient
from dpk_trackers.interpolation import interpolate
from dpk_trackers.kalman_filter import MotionFilter
from dpk_trackers.similarity import (
    SIGMA,
    BodyScale,
    body_areas,
    check_sigmas,
    iou,
    log_sizes,
    oks,
)
from dpk_trackers.smoothing import smooth as smoothed
from dpk_trackers.stabilizing import Stabilizer
from dpk_trackers.stitching import stitch
from dpk_trackers.swaps import Evidence, correct_swaps
from dpk_trackers.voting import vote

_GATE = 25.0
"""Largest squared Mahalanobis distance: animals leap more often than Gaussians do."""
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
_SETTLED = 3
"""Sightings from which on the velocity of an individual is known well enough to foretell it."""
_USUAL = 0.7
"""Presumed overlap, and OKS, of what belongs together, before anything is learned."""
_DOUBT = 0.2
"""More than usual by which two must agree for it to speak for neither side."""
_SIZES = 30
"""Sightings over which the size of an individual is averaged."""
_LEAST_SIZE = 4e-4
"""Variance of the log of a size, that of 2 %: no detector is better for long."""
_DRIVE = 0.03
"""Presumed change of velocity in a frame, in body sizes a frame, before anything is learned."""


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
        Scores from which a detection counts in the first assignment, in the second, and may begin
        a new individual.
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
        keep: float = 0.55,
        smooth: bool = True,
        heading: bool = True,
    ) -> None:
        if camera not in METHODS:
            raise ValidationError(f"camera: expected one of {METHODS}, found {camera!r}")
        self.max_gap = int(check_setting("max_gap", max_gap, 0))
        self.wait = min(self.max_gap, int(check_setting("wait", wait, 0)))
        self.strong = check_setting("strong", strong, 0, 1)
        self.weak = check_setting("weak", weak, 0, 1)
        self.start = check_setting("start", start, 0, 1)
        self.min_hits = int(check_setting("min_hits", min_hits, 1))
        self.noise = None if noise is None else check_setting("noise", noise, 1e-6)
        self.clutter = check_setting("clutter", clutter, 1e-9)
        self.overlap = check_setting("overlap", overlap, 0)
        self.pose = check_setting("pose", pose, 0)
        self.sigmas = check_sigmas(sigmas)
        gaps = [max_gap if gap is None else gap for gap in (stitch_gap, fill_gap)]
        self.stitch_gap = int(check_setting("stitch_gap", gaps[0], 0))
        self.fill_gap = int(check_setting("fill_gap", gaps[1], 0))
        self.keep = check_setting("keep", keep, 0, 1)
        self.smooth = check_flag("smooth", smooth)
        self.heading = check_flag("heading", heading)
        self.uses_frames = camera != "none"
        self._motion = CameraMotion(camera) if self.uses_frames else None
        self._move: np.ndarray | None = None
        self._filter = MotionFilter(check_setting("persistence", persistence, 1))
        self._scale = BodyScale()
        self._drive = 1.0  # learned: how much the motion differs from what was presumed
        self._pace = _PACE  # learned
        self._last: int | None = None
        self._next = 0
        self._of = _columns(0)
        self._pose: np.ndarray | None = None
        self._sizes: tuple[float, ...] = 0.0, 0.0, 0.0  # mean log, variance in one, variance in all
        self._usual = {name: np.full(2, _USUAL) for name in ("overlap", "pose")}
        self._alike: dict[str, np.ndarray] = {}  # in this frame, of everybody with everything
        self._density = np.full(2, self.clutter)
        self._extent = np.full((2, 2), np.nan)
        self._boxes = np.empty((0, 4))  # around what was found in this frame
        self._born = 0
        self._just_confirmed = np.empty(0, np.int64), np.empty(0, np.int64)
        self._unsure: deque[tuple[int, np.ndarray, Detections]] = deque(maxlen=3 * self.min_hits)
        self._early: list[Tracks] = []
        self._evidence = Evidence()
        self._stabilizer = Stabilizer()
        self._size: tuple[int, ...] | None = None

    def watch(self, detections: Detections, frame: np.ndarray) -> None:
        """See how the camera moved; `update` does it where it has not been done."""
        if self._motion is not None:
            self._move = self._motion.see(frame, detections)
            self._size = frame.shape[:2]

    def update(
        self, number: int, detections: Detections, frame: np.ndarray | None = None
    ) -> Tracks:
        passed = check_number(number, self._last)
        self._follow_camera(number, detections, frame)
        found = in_order(detections, self.weak)
        self._boxes = found.boxes
        size = self._scale.see(found)
        self._filter.predict(passed, self._drive * _DRIVE * size)
        rows, columns = self._associate(found, number)
        self._learn(found, rows, columns, number - passed)
        self._learn_likeness(rows, columns)
        self._last = number
        self._of["column"][:] = -1
        self._take(number, found, rows, columns)
        self._forget(number)
        self._begin(number, found, columns)
        return self._rows(number, found)

    def finish(self, tracks: Tracks) -> Tracks:
        whole = join([tracks, *self._early])
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
        return self._in_view(self._stabilizer.to_frames(whole))

    def _in_view(self, tracks: Tracks) -> Tracks:
        """Without what was filled in where the camera did not look: animals on the ground behind
        the edge of the picture. Rows that were seen stay."""
        if self._size is None:
            return tracks
        limit = np.array(self._size[::-1]) - 0.5
        place = np.stack([tracks.x, tracks.y], axis=1)
        with np.errstate(invalid="ignore"):
            outside = ((place < -0.5) | (place > limit)).any(axis=1)
        return tracks[np.flatnonzero(~(outside & tracks.interpolated))]

    # -- one frame --------------------------------------------------------------------------------

    def _follow_camera(self, number: int, detections: Detections, frame: np.ndarray | None) -> None:
        if self._motion is None:
            return
        if self._move is None:
            if frame is None:
                raise ValidationError(
                    f"frame {number}: expected its image, since camera={self._motion.method!r} "
                    "looks at how the background moves; found none"
                )
            self.watch(detections, frame)
        assert self._move is not None
        self._filter.warp(self._move)
        self._stabilizer.see(number, self._move)
        self._of["place"] = self._of["place"] @ self._move[:, :2].T + self._move[:, 2]
        if self._pose is not None:
            self._pose = self._pose @ self._move[:, :2].T + self._move[:, 2]
        self._move = None

    def _associate(self, found: Detections, number: int) -> tuple[np.ndarray, np.ndarray]:
        cost = self._costs(found, number)
        strong = found.score >= self.strong
        confirmed = self._of["id"] >= 0
        recent = number - self._of["seen"] <= _WEAK_GAP
        rows, columns = np.empty(0, int), np.empty(0, int)
        # The sure ones first; then weak detections; newcomers get what nobody else wanted.
        stages = ((confirmed.copy(), strong), (confirmed & recent, ~strong), (~confirmed, strong))
        for k, (which, candidates) in enumerate(stages):
            limit = self._limit(weak=k == 1)
            which[rows], candidates = False, candidates.copy()
            candidates[columns] = False
            i, j = np.flatnonzero(which), np.flatnonzero(candidates)
            r, c = assign(cost[np.ix_(i, j)], limit)
            rows, columns = np.append(rows, i[r]), np.append(columns, j[c])
        self._learn_clutter(found, columns)
        return rows, columns

    def _learn_clutter(self, found: Detections, taken: np.ndarray) -> None:
        """How many strong and weak detections nobody wants, on the area of a body."""
        if len(found):
            corners = np.array([[found.x.min(), found.y.min()], [found.x.max(), found.y.max()]])
            here = self._extent
            corners = np.stack([np.fmin(here[0], corners[0]), np.fmax(here[1], corners[1])])
            self._extent = corners
        bodies = np.nan_to_num(np.ptp(self._extent, axis=0).prod()) / self._scale.value**2
        free = np.ones(len(found), bool)
        free[taken] = False
        strong = found.score >= self.strong
        count = np.array([(free & strong).sum(), (free & ~strong).sum()])
        self._density += 0.03 * ((count + 0.05) / max(bodies, 10.0) - self._density)

    def _costs(self, found: Detections, number: int) -> np.ndarray:
        measured = np.stack([found.x, found.y], axis=1)
        squared, variance = self._filter.distances(measured, self._variance(found))
        cost = np.where(squared < _GATE, squared, np.inf) + 2 * np.log(2 * np.pi * variance)
        # The longer one is gone, the less likely it comes back in just this frame.
        cost += 2 * np.log(np.maximum(1, number - self._of["seen"]))[:, None]
        shift = self._filter.position - self._of["place"]
        boxes = self._of["boxes"] + np.tile(self._filter.position, 2)
        extents = self._boxes
        old = (self._of["hits"] >= _SETTLED).astype(int)
        self._alike = {}
        if self.overlap and np.isfinite(extents).any():
            self._alike["overlap"] = np.where(
                np.isfinite(boxes).all(axis=1)[:, None] & np.isfinite(extents).all(axis=1),
                iou(boxes, extents),
                np.nan,
            )
        if self.pose and self._pose is not None and found.keypoints is not None:
            expected, area = self._pose + shift[:, None], self._of["area"]
            slack = self._filter.covariance[:, 0]
            self._alike["pose"] = oks(expected, found.keypoints, area, self.sigmas, slack)
        for name, alike in self._alike.items():
            # More than usual speaks for a pair, less against it: fast animals never overlap.
            less = np.minimum(1, self._usual[name] + _DOUBT)[old][:, None] - alike
            cost = cost + getattr(self, name) * np.where(np.isnan(less), 0, less)
        cost = cost + self._size_costs(found)
        mine, theirs = self._of["tag"][:, None], found.id
        return np.where((mine != theirs) & (mine != NO_ID) & (theirs != NO_ID), np.inf, cost)

    def _learn_likeness(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """How much boxes and poses that belong together usually agree, of newcomers and others."""
        old = self._of["hits"][rows] >= _SETTLED
        for name, alike in self._alike.items():
            for k, group in enumerate((~old, old)):
                seen = alike[rows[group], columns[group]]
                seen = seen[np.isfinite(seen)]
                if len(seen):
                    rate = 0.05 * min(1.0, len(seen) / 5)
                    self._usual[name][k] += rate * (float(seen.mean()) - self._usual[name][k])

    def _size_costs(self, found: Detections) -> np.ndarray:
        """-2 log of how much likelier a size is of one than of any other."""
        size = log_sizes(found.width, found.height, found.angle)
        mean, within, spread = self._sizes
        if not (np.isfinite(size).any() and spread > within > 0):
            return np.zeros((1, 1))
        gap = (size - self._of["size"][:, None]) ** 2
        same = within * (1 + 1 / np.maximum(1, np.minimum(self._of["hits"], _SIZES)))[:, None]
        said = gap / same + np.log(same / spread) - np.minimum((size - mean) ** 2 / spread, 4)
        return np.where(np.isnan(said), 0.0, np.clip(said, -4, 8))

    def _learn_sizes(self, found: Detections, rows: np.ndarray, columns: np.ndarray) -> None:
        """Average the sizes of individuals; how they vary in one, and from one to the other."""
        size = log_sizes(found.width, found.height, found.angle)[columns]
        known = np.isfinite(size)
        rows, size = rows[known], size[known]
        if not len(rows):
            return
        old, hits = self._of["size"][rows], self._of["hits"][rows]
        gap = size - old
        step = 1 / np.clip(hits, 1, _SIZES)
        self._of["size"][rows] = np.where(np.isnan(gap), size, old + step * np.nan_to_num(gap))
        settled = (hits >= 10) & np.isfinite(gap)
        if settled.sum() < 2:
            return
        before, all_sizes, gap = self._sizes, size[settled], gap[settled]
        mean = float(self._of["size"][rows[settled]].mean())
        within = float(np.minimum(gap**2, 9 * before[1] if before[1] else np.inf).mean())
        now = mean, max(within, _LEAST_SIZE), float(((all_sizes - mean) ** 2).mean())
        rate = 0.03 * min(1.0, len(gap) / 10) if before[1] else 1.0
        self._sizes = tuple(old + rate * (new - old) for old, new in zip(before, now, strict=True))

    def _limit(self, weak: bool) -> float:
        """-2 log of how densely newcomers and false detections lie."""
        return -2 * float(np.log(self._density[int(weak)] / self._scale.value**2))

    def _variance(self, found: Detections) -> np.ndarray:
        """Of positions; weak detections are hidden in part, and less exact."""
        noise = 0.05 * self._scale.value if self.noise is None else self.noise
        return (noise * np.where(found.score >= self.strong, 1.0, 1.5)) ** 2

    def _learn(self, found: Detections, rows: np.ndarray, columns: np.ndarray, before: int) -> None:
        """Adapt the noise of the motion until errors are as large as they are expected to be."""
        settled = (self._of["hits"][rows] >= _SETTLED) & (self._of["seen"][rows] == before)
        if not settled.any():
            return
        rows, columns = rows[settled], columns[settled]
        error = self._filter.position[rows] - np.stack([found.x, found.y], axis=1)[columns]
        variance = self._filter.covariance[rows, 0] + self._variance(found)[columns]
        # The mean of chi-squared with two degrees of freedom is 2. Most animals may be at rest:
        # the few that are not say what is to be reckoned with.
        ratio = float(np.mean((error**2).sum(axis=1) / variance)) / 2
        step = 0.05 * min(1.0, len(rows) / 10)
        speed = np.sqrt(np.mean(self._filter.velocity[rows] ** 2)) / self._scale.value
        self._pace += step * (max(_LEAST_PACE, 2 * float(speed)) - self._pace)
        self._drive = float(np.clip(self._drive * np.clip(ratio, 0.1, 10) ** step, 0.3, 30))

    def _take(self, number: int, found: Detections, rows: np.ndarray, columns: np.ndarray) -> None:
        measured = np.stack([found.x, found.y], axis=1)[columns]
        self._filter.update(rows, measured, self._variance(found)[columns])
        self._describe(rows, found, columns)
        self._of["seen"][rows] = number
        self._of["hits"][rows] += 1
        odds = self._of["odds"]
        missed = np.ones(len(odds), bool)
        missed[rows] = False
        odds[missed & (number - self._of["seen"] <= _MISSES)] -= _MISS
        odds[rows] = np.minimum(_SURE, odds[rows] + _HIT + _logit(found.score[columns]))
        sure = (self._of["hits"][rows] >= self.min_hits) & (odds[rows] > 0)
        new = np.sort(rows[sure & (self._of["id"][rows] < 0)])
        self._of["id"][new] = self._next + np.arange(len(new))
        self._just_confirmed = self._of["key"][new], self._of["id"][new]
        self._next += len(new)

    def _describe(self, rows: np.ndarray, found: Detections, columns: np.ndarray) -> None:
        """Remember what they looked like, and which detection is theirs."""
        of = self._of
        of["place"][rows] = np.stack([found.x, found.y], axis=1)[columns]
        boxes = self._boxes[columns] - np.tile(of["place"][rows], 2)
        of["boxes"][rows] = np.where(np.isnan(boxes), of["boxes"][rows], boxes)
        self._learn_sizes(found, rows, columns)
        areas = body_areas(found)[columns]
        of["area"][rows] = np.where(np.isnan(areas), of["area"][rows], areas)
        of["tag"][rows] = np.where(found.id[columns] == NO_ID, of["tag"][rows], found.id[columns])
        of["column"][rows] = columns
        if found.keypoints is None:
            return
        if self._pose is None:
            self._pose = np.full((len(of["id"]), *found.keypoints.shape[1:]), np.nan)
        self._pose[rows] = found.keypoints[columns]

    def _forget(self, number: int) -> None:
        gap = number - self._of["seen"]
        alive = np.where(self._of["id"] >= 0, gap <= self.wait + 1, gap <= 2)
        self._keep(alive & (self._of["odds"] >= 0))

    def _keep(self, chosen: np.ndarray) -> None:
        if chosen.all():
            return
        self._filter.keep(chosen)
        self._of = {name: column[chosen] for name, column in self._of.items()}
        self._pose = None if self._pose is None else self._pose[chosen]

    def _begin(self, number: int, found: Detections, taken: np.ndarray) -> None:
        free = found.score >= self.start
        free[taken] = False
        new = np.flatnonzero(free)
        if len(taken) and len(new):  # a second box around one that has been assigned
            new = new[iou(self._boxes[new], self._boxes[taken]).max(axis=1) < 0.7]
        if not len(new):
            return
        before = len(self._filter)
        measured = np.stack([found.x, found.y], axis=1)[new]
        size = self._scale.value
        self._filter.add(measured, self._variance(found)[new], size * self._pace)
        fresh = _columns(len(new))
        fresh["seen"][:], fresh["hits"][:] = number, 1
        fresh["odds"][:] = np.maximum(0, _logit(found.score[new]))
        fresh["key"][:] = self._born + np.arange(len(new))
        self._born += len(new)
        if self.min_hits == 1:
            fresh["id"][:] = self._next + np.arange(len(new))
            self._next += len(new)
        self._of = {k: np.concatenate([v, fresh[k]]) for k, v in self._of.items()}
        if self._pose is not None:
            blank = np.full((len(new), *self._pose.shape[1:]), np.nan)
            self._pose = np.concatenate([self._pose, blank])
        self._describe(before + np.arange(len(new)), found, new)

    def _rows(self, number: int, found: Detections) -> Tracks:
        """Of those that count; the first rows of those that just began to are kept for the end."""
        here = self._of["column"] >= 0
        columns, ids = self._of["column"][here], self._of["id"][here]
        keys = self._of["key"][here]
        sure = ids >= 0
        ids, mine = ids[sure], found[columns[sure]]
        self._evidence.see(number, ids, mine)
        confirmed, names = self._just_confirmed
        for n, k, some in self._unsure if len(confirmed) else ():
            i, j = np.nonzero(k[:, None] == confirmed)
            if len(i):
                self._early.append(rows_of(n, names[j], some[i]))
        self._unsure.append((number, keys[~sure], found[columns[~sure]]))
        return rows_of(number, ids, mine)


def _mean_score(tracks: Tracks) -> np.ndarray:
    """(n,) for each row that of its individual."""
    _, who, count = np.unique(tracks.id, return_inverse=True, return_counts=True)
    return (np.bincount(who, tracks.score, len(count)) / count)[who]


def _logit(score: np.ndarray) -> np.ndarray:
    score = np.clip(score.astype(np.float64), 0.1, 0.9)
    return np.log(score / (1 - score))


def _columns(n: int) -> dict[str, np.ndarray]:
    """What is known of n individuals: id (-1 not yet), key (from birth on), tag that was read,
    sightings, frame of the last one, the detection that is theirs, place and area when seen last,
    mean log of the size, and box around that place."""
    return {
        "id": np.full(n, -1),
        "key": np.full(n, -1),
        "tag": np.full(n, NO_ID),
        "hits": np.zeros(n, np.int64),
        "seen": np.zeros(n, np.int64),
        "odds": np.zeros(n),
        "column": np.full(n, -1),
        "place": np.full((n, 2), np.nan),
        "area": np.full(n, np.nan),
        "size": np.full(n, np.nan),
        "boxes": np.full((n, 4), np.nan),
    }
