"""Follows a known number of animals: none is ever created, none is ever given up."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from scipy.optimize import linear_sum_assignment

from dpk_core.detections import NO_ID, Detections
from dpk_core.errors import ValidationError
from dpk_core.interfaces import Tracker
from dpk_core.tracks import COLUMNS, Tracks
from dpk_trackers.assignment import (
    assign,
    check_flag,
    check_number,
    check_setting,
    in_order,
    rows_of,
)
from dpk_trackers.chains import chain
from dpk_trackers.growing_columns import GrowingColumns
from dpk_trackers.heading import orient
from dpk_trackers.interpolation import interpolate
from dpk_trackers.kalman_filter import MotionFilter
from dpk_trackers.likeness import Likeness, forms
from dpk_trackers.similarity import BodyScale, iou
from dpk_trackers.smoothing import smooth as smoothed
from dpk_trackers.swaps import Evidence, correct_swaps
from dpk_trackers.voting import vote_unique

_GATE = 25.0
"""Largest squared Mahalanobis distance: animals leap more often than Gaussians do."""
_ALONE = 14.0
"""What it costs to leave an animal without a detection: -2 log of one false detection in the
area of a thousand bodies."""
_LOST = 10.0
"""Variance of a position, in squared body sizes, from which on it is not held against an animal
that nobody knows where it is."""
_FORBIDDEN = 1e6
_DRIVE = 0.03
"""Presumed change of velocity in a frame, in body sizes a frame, before anything is learned."""
_LEAP = 3.0
"""Body sizes that an animal may be from where it was expected, when there is nobody else whom a
detection could be of."""
_CLEAN = 0.01
"""Detections beyond the number of animals, on the running mean, below which nothing is false."""
_RATE = 0.1
"""Of running means: of scores, by which slots are compared, and of surplus."""
_USURP, _LONG = 2.0, 2
"""How many times the mean score of an animal's slot a spare one needs to take its place, though
the animal is seen; and for how many times the patience."""
_PAUSE = 3
"""Frames that end a piece of which it is taken for granted that it is of one animal."""
_BLINK = 3
"""Frames for which a spare slot is kept when it is not seen."""
_TOGETHER = 0.35
"""Share of a blob's length that is too much for one animal, from which on there may be two."""
_DOUBLE = 0.7
"""Overlap from which a detection that nobody got is a second one of what somebody got."""


class FixedCountTracker(Tracker):
    """Follows as many animals as there are, with identities 0 to count - 1 from first to last.

    In each frame one linear assignment of all animals to all detections, by where they should be
    now (a Kalman filter each), the extent and direction of their bodies, poses and tags where the
    detector gives them. Detections that are too many go to nobody; an animal without one is missing
    until one is near where it may be. Whoever was missing for `patience` frames is found again in
    any detection that nobody else had for as long, however far away.

    At the end swaps that extent, shape or tags contradict are mended, frames in which an animal
    was missing between two sightings are filled in (marked as interpolated), and axes of bodies
    are turned to the side that the animals go to. Before its first sighting and after its last an
    animal has no rows.

    Parameters
    ----------
    count
        Number of animals. Default: as many as there are in the first frame in which any is found.
        `dpk track` tells it to a detector that has a setting of this name.
    start
        Score from which a detection may be the first of an animal.
    min_score
        Weaker detections are ignored.
    patience
        Frames, see above.
    noise
        Standard deviation of a position in pixels. Default: 5 % of the body size.
    form, turn, pose
        Weights of differences in extent, in direction, and in the places of keypoints (one less
        OKS), beside those in position; 0 for none.
    persistence
        Frames after which the velocity of one that is missing has faded to 1/e.
    fill_gap
        Longest gap in frames that is filled in. Default: any.
    mend
        Whether to mend swaps at the end.
    smooth
        Whether to take the noise out of positions and extents at the end, as much as there is.
    heading
        Whether to tell heads from tails at the end, where the detector cannot.

    Raises
    ------
    ValidationError
        On a setting out of its range, or frames that are not in order.

    Examples
    --------
    >>> tracker = FixedCountTracker(count=2)
    >>> for i in range(3):
    ...     tracks = tracker.update(i, Detections([10.0 + i, 50.0 - i, 90.0], [10.0, 12.0, 90.0]))
    >>> tracks.id.tolist(), tracks.x.tolist()
    ([0, 1], [12.0, 48.0])
    """

    def __init__(
        self,
        count: int | None = None,
        *,
        start: float = 0.3,
        min_score: float = 0.1,
        patience: int = 20,
        noise: float | None = None,
        form: float = 1.0,
        turn: float = 1.0,
        pose: float = 8.0,
        persistence: float = 20.0,
        fill_gap: int | None = None,
        mend: bool = True,
        smooth: bool = True,
        heading: bool = True,
    ) -> None:
        self.count = None if count is None else _whole("count", count, 1)
        self.start = check_setting("start", start, 0, 1)
        self.min_score = check_setting("min_score", min_score, 0, 1)
        self.patience = _whole("patience", patience, 1)
        self.noise = None if noise is None else check_setting("noise", noise, 1e-6)
        self.fill_gap = None if fill_gap is None else _whole("fill_gap", fill_gap, 0)
        self.mend = check_flag("mend", mend)
        self.smooth = check_flag("smooth", smooth)
        self.heading = check_flag("heading", heading)
        self._filter = MotionFilter(check_setting("persistence", persistence, 1))
        self._likeness = Likeness(
            form=check_setting("form", form, 0),
            turn=check_setting("turn", turn, 0),
            pose=check_setting("pose", pose, 0),
        )
        self._scale = BodyScale()
        self._drive = 1.0  # learned: how much the motion differs from what was presumed
        self._surplus = 0.0
        self._last: int | None = None
        self._of = _slots(0)
        self._born = 0
        self._pieces = GrowingColumns()
        self._evidence = Evidence()

    def update(
        self, number: int, detections: Detections, frame: np.ndarray | None = None
    ) -> Tracks:
        passed = check_number(number, self._last)
        found = in_order(detections[detections.score >= self.min_score])
        if self.count is None and len(found):
            self.count = len(found)
        size = self._scale.see(found)
        self._filter.predict(passed, self._drive * _DRIVE * size)
        self._of["column"][:] = -1
        rows, columns = self._associate(number, found)
        self._learn(found, rows, columns, number - passed)
        self._take(number, found, rows, columns)
        self._begin(number, found, columns)
        self._hand_over(number, found)
        self._forget(number)
        self._last = number
        return self._rows(number, found)

    def finish(self, tracks: Tracks) -> Tracks:
        whole = self._chained(tracks) if self.mend else tracks
        if self.heading:
            whole = orient(whole)
        gap = int(np.ptp(whole.frame)) if self.fill_gap is None and len(whole) else self.fill_gap
        whole = interpolate(whole, gap or 0)
        return smoothed(whole) if self.smooth else whole

    def _chained(self, tracks: Tracks) -> Tracks:
        """The pieces that all slots saw, put together anew with all that is known at the end."""
        if not self._pieces or not self.count:
            return tracks
        seen = self._pieces.joined()
        columns: dict[str, Any] = {name: seen[name] for name in COLUMNS}
        pieces, online = Tracks(**columns), seen["online"]
        shapes, tags = self._evidence.of(pieces)
        who = chain(pieces, self.count, seen["form"], tags, online)
        who = _as_before(who, online, self.count)
        kept = np.flatnonzero(who >= 0)
        whole = attrs.evolve(pieces, id=who, provenance=tracks.provenance)[kept]
        shapes, tags = shapes[kept], tags[kept]
        whole = _named(correct_swaps(whole, shapes, tags), tags)
        return whole[np.lexsort((whole.id, whole.frame))]

    # -- one frame --------------------------------------------------------------------------------

    def _associate(self, number: int, found: Detections) -> tuple[np.ndarray, np.ndarray]:
        """Animals first, all of them at once, then those that leapt; spare slots get the rest."""
        cost = self._costs(number, found)
        mine = (self._of["id"] >= 0)[:, None]
        strong = found.score >= self.start
        stages = [(mine, np.ones(len(found), bool), cost, _ALONE), (~mine, strong, cost, _ALONE)]
        surplus = max(0, int(strong.sum()) - (self.count or 0))
        self._surplus += _RATE * (surplus - self._surplus)
        if self._surplus < _CLEAN:
            stages.insert(1, (mine, strong, self._leap_costs(number, found), _FORBIDDEN))
        rows, columns = np.empty(0, int), np.empty(0, int)
        for who, what, price, limit in stages:
            allowed = who & what
            allowed[rows], allowed[:, columns] = False, False
            r, c = assign(np.where(allowed, price, np.inf), limit)
            rows, columns = np.append(rows, r), np.append(columns, c)
        return rows, columns

    def _leap_costs(self, number: int, found: Detections) -> np.ndarray:
        """(slots, detections) by body sizes from where they should be, or were, for each frame."""
        before = self._filter.position, self._likeness.place
        gap = np.min(
            [np.hypot(*(p[:, None] - _places(found)).transpose(2, 0, 1)) for p in before], axis=0
        )
        leap = gap / self._scale.value / np.maximum(1, number - self._of["seen"])[:, None]
        cost = 2 * leap**2 + self._likeness.costs(number, found, self._filter.position)
        return np.where(leap < _LEAP, cost, np.inf)

    def _costs(self, number: int, found: Detections) -> np.ndarray:
        """(slots, detections) -2 log likelihood, but for a constant; infinite where impossible."""
        squared, variance = self._filter.distances(_places(found), self._variance(found))
        spread = np.minimum(variance / self._scale.value**2, _LOST)
        cost = np.where(squared < _GATE, squared, np.inf) + 2 * np.log(2 * np.pi * spread)
        return cost + self._likeness.costs(number, found, self._filter.position)

    def _variance(self, found: Detections) -> np.ndarray:
        """(m,) of positions; weak detections are hidden in part, and less exact."""
        noise = 0.05 * self._scale.value if self.noise is None else self.noise
        return (noise * np.where(found.score >= self.start, 1.0, 1.5)) ** 2

    def _learn(self, found: Detections, rows: np.ndarray, columns: np.ndarray, before: int) -> None:
        """Adapt the noise of the motion until errors are as large as they are expected to be."""
        settled = (self._of["hits"][rows] >= 3) & (self._of["seen"][rows] == before)
        if not settled.any():
            return
        rows, columns = rows[settled], columns[settled]
        error = self._filter.position[rows] - _places(found)[columns]
        variance = self._filter.covariance[rows, 0] + self._variance(found)[columns]
        # The mean of chi-squared with two degrees of freedom is 2. Most animals may be at rest:
        # the few that are not say what is to be reckoned with.
        ratio = float(np.mean((error**2).sum(axis=1) / variance)) / 2
        self._drive = float(np.clip(self._drive * np.clip(ratio, 0.1, 10) ** 0.02, 0.3, 30))

    def _take(self, number: int, found: Detections, rows: np.ndarray, columns: np.ndarray) -> None:
        squared, _ = self._filter.distances(_places(found), self._variance(found))
        rows, columns, alone = self._with_hidden(found, rows, columns)
        leapt = squared[rows, columns] > _GATE
        # Of a blob in which several touch, the middle is nobody's.
        aside = self._likeness.surplus(found, rows, columns) / 2
        variance = self._variance(found)[columns] + aside**2
        self._filter.update(rows, _places(found)[columns], variance)
        of = self._of
        score = np.zeros(len(of["id"]))
        score[rows] = found.score[columns]
        of["score"] += _RATE * (score - of["score"])
        of["hits"][rows] += 1
        of["seen"][rows] = number
        rows, columns = rows[alone], columns[alone]
        self._likeness.see(number, found, rows, columns)
        of["column"][rows] = columns
        again = rows[(number - of["alone"][rows] > _PAUSE) | leapt[alone]]
        of["key"][again] = self._new_keys(len(again))
        of["alone"][rows] = number

    def _with_hidden(
        self, found: Detections, rows: np.ndarray, columns: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Animals that nobody sees since they are in one blob with another, with that blob.

        Returns rows, columns, and whether a row's detection is its own: it is nobody's where it is
        much too long for one, and others that have none should be in it.
        """
        alone = np.ones(len(rows), bool)
        surplus = self._likeness.surplus(found, rows, columns)
        for k in np.flatnonzero(surplus > _TOGETHER * found.width[columns]):
            hidden = np.flatnonzero((self._of["id"] >= 0) & (self._of["hits"] > 0))
            hidden = np.setdiff1d(hidden, rows)
            column = columns[k]
            away = self._filter.position[hidden] - _places(found)[column]
            hidden = hidden[np.hypot(*away.T) < found.width[column] / 2]
            if len(hidden):
                rows = np.append(rows, hidden)
                columns = np.append(columns, np.full(len(hidden), column))
                alone = np.append(alone, np.zeros(len(hidden), bool))
                alone[k] = False
        return rows, columns, alone

    def _begin(self, number: int, found: Detections, taken: np.ndarray) -> None:
        """Animals never seen get what nobody has, the clearest first; the rest gets spare slots."""
        free = found.score >= self.start
        free[taken] = False
        new = np.flatnonzero(free)
        if len(taken) and len(new):
            boxes = found.boxes
            new = new[iou(boxes[new], boxes[taken]).max(axis=1) < _DOUBLE]
        count = self.count or 0
        unseen = np.setdiff1d(np.arange(count), self._of["id"])
        room = len(unseen) + max(0, count + 5 - int((self._of["id"] < 0).sum()))
        new = new[np.argsort(-found.score[new], kind="stable")][:room]
        if not len(new):
            return
        first = np.sort(new[: len(unseen)])  # ids from left to right, however clear they are
        new = np.concatenate([first, new[len(unseen) :]])
        fresh = _slots(len(new))
        fresh["id"][: len(first)] = unseen[: len(first)]
        fresh["key"][:] = self._new_keys(len(new))
        fresh["seen"][:], fresh["alone"][:] = number, number
        fresh["hits"][:], fresh["column"][:] = 1, new
        fresh["score"][:] = _RATE * found.score[new]
        before, speed = len(self._filter), 0.15 * self._scale.value * max(1, self._drive)
        self._filter.add(_places(found)[new], self._variance(found)[new], speed)
        self._of = {k: np.concatenate([v, fresh[k]]) for k, v in self._of.items()}
        self._likeness.add(len(new))
        self._likeness.see(number, found, before + np.arange(len(new)), new)

    def _hand_over(self, number: int, found: Detections) -> None:
        """Find missing animals, and those that sit on something faint, in spare slots."""
        of = self._of
        seen = of["column"] >= 0
        ripe = np.flatnonzero((of["id"] < 0) & seen & (of["hits"] >= self.patience))
        if not len(ripe):
            return
        missing = np.flatnonzero((of["id"] >= 0) & (number - of["seen"] >= self.patience))
        if len(missing):
            cost = self._far_costs(number, found, missing, of["column"][ripe])
            i, j = linear_sum_assignment(cost - 10 * of["score"][ripe])
            self._give(missing[i], ripe[j])
            ripe = np.delete(ripe, j)
        long = of["hits"][ripe] >= _LONG * self.patience
        for spare in ripe[long][np.argsort(-of["score"][ripe[long]], kind="stable")]:
            mine = np.flatnonzero(of["id"] >= 0)
            faintest = mine[np.argmin(of["score"][mine])]
            if of["score"][spare] > _USURP * of["score"][faintest]:
                self._give(np.array([faintest]), np.array([spare]))

    def _far_costs(
        self, number: int, found: Detections, rows: np.ndarray, columns: np.ndarray
    ) -> np.ndarray:
        """As `_costs`, but nothing is too far: the tails of a distribution that leaps have."""
        some = found[columns]
        squared, _ = self._filter.distances(_places(some), self._variance(some))
        alike = self._likeness.costs(number, some, self._filter.position)
        return np.minimum(6 * np.log1p(squared / 4) + alike, _FORBIDDEN)[rows]

    def _give(self, olds: np.ndarray, spares: np.ndarray) -> None:
        """Animals move from their slots to spare ones."""
        of = self._of
        for old, spare in zip(olds, spares, strict=True):
            of["id"][spare], of["id"][old] = of["id"][old], -1
            of["hits"][old] = 0
            self._likeness.give(int(old), int(spare))

    def _forget(self, number: int) -> None:
        keep = (self._of["id"] >= 0) | (number - self._of["seen"] <= _BLINK)
        if not keep.all():
            self._filter.keep(keep)
            self._likeness.keep(keep)
            self._of = {name: column[keep] for name, column in self._of.items()}

    def _rows(self, number: int, found: Detections) -> Tracks:
        here = self._of["column"] >= 0
        columns, ids, keys = (self._of[name][here] for name in ("column", "id", "key"))
        mine = ids >= 0
        if len(keys):
            self._evidence.see(number, keys, found[columns])
            order = np.argsort(keys)  # as rows_of sorts them
            self._pieces.append(
                **rows_of(number, keys, found[columns]).columns(),
                form=forms(found)[columns[order]],
                online=ids[order],
            )
        return rows_of(number, ids[mine], found[columns[mine]])

    def _new_keys(self, n: int) -> np.ndarray:
        self._born += n
        return np.arange(self._born - n, self._born)


def _places(found: Detections) -> np.ndarray:
    return np.stack([found.x, found.y], axis=1)


def _as_before(who: np.ndarray, online: np.ndarray, count: int) -> np.ndarray:
    """(n,) the numbers of chains changed such that most rows bear the id that they had."""
    both = (who >= 0) & (online >= 0)
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (who[both], online[both]), 1)
    new = linear_sum_assignment(table, maximize=True)[1]
    return np.where(who >= 0, new[who], -1)


def _named(tracks: Tracks, tags: np.ndarray) -> Tracks:
    """With the tags that animals bear, where any was read, as their names."""
    if not len(tracks) or (tags == NO_ID).all():
        return tracks
    names = {str(who): f"tag {tag}" for who, tag in vote_unique(tracks.id, tags).items()}
    known = tracks.provenance.get("track_names", {})
    return attrs.evolve(tracks, provenance={**tracks.provenance, "track_names": {**known, **names}})


def _whole(name: str, value: int, least: int) -> int:
    if not np.isfinite(check_setting(name, value, least)) or value != int(value):
        raise ValidationError(f"{name}: expected a whole number of at least {least}, found {value}")
    return int(value)


def _slots(n: int) -> dict[str, np.ndarray]:
    """What is known of n slots: id of the animal (-1 spare), key (from birth on), frame of the
    last sighting, of the last one not in a blob with others, sightings, the detection that is
    theirs, running mean of scores."""
    return {
        "id": np.full(n, -1),
        "key": np.full(n, -1),
        "seen": np.zeros(n, np.int64),
        "alone": np.zeros(n, np.int64),
        "hits": np.zeros(n, np.int64),
        "column": np.full(n, -1),
        "score": np.zeros(n),
    }
