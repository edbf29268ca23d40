"""What individuals look like, learned while they are followed: extent, direction, pose, tag."""

from __future__ import annotations

import numpy as np

from dpk_core.detections import NO_ID, Detections
from dpk_trackers.similarity import SIGMA, body_areas, oks

_FEWEST = 5
"""Sightings after which an extent is known."""
_SLOW = 0.02
"""Least weight of a new sighting in what is known of an extent."""
_PRESUMED = 0.15
"""Standard deviation of the logarithm of an extent, before anything is learned."""
_LEAST = 0.03
_UNLIKE = 8.0
"""Most that a difference in extent costs: bodies that touch are cut apart badly."""
_TURN, _TURNED = 0.35, 4.0
"""Radians that an animal may well turn in a frame; the most that a turn costs."""
_LONG = 1.3
"""Length over width from which a body has a direction."""
_RECENT = 5
"""Frames after which a direction is old news."""
_APART = 1.3
"""Body lengths that the next animal is away at least, where an extent is learned from."""


class Likeness:
    """Costs of detections for individuals by what they look like.

    Parameters
    ----------
    form, turn, pose
        Weights: of extents, of directions, of one less object keypoint similarity.

    Notes
    -----
    Extents vary together over many frames (a wing is spread, a body is bent), so that one frame's
    difference counts half of what it would if frames were independent.
    """

    def __init__(self, form: float = 1.0, turn: float = 1.0, pose: float = 8.0) -> None:
        self.form, self.turn, self.pose = form, turn, pose
        self._variance = np.full(2, _PRESUMED**2)
        self._of = _blank(0)
        self._pose: np.ndarray | None = None

    def add(self, n: int) -> None:
        """Begin n more, of whom nothing is known."""
        self._of = {k: np.concatenate([v, _blank(n)[k]]) for k, v in self._of.items()}
        if self._pose is not None:
            more = np.full((n, *self._pose.shape[1:]), np.nan)
            self._pose = np.concatenate([self._pose, more])

    def keep(self, chosen: np.ndarray) -> None:
        """Forget all but those."""
        self._of = {name: column[chosen] for name, column in self._of.items()}
        self._pose = None if self._pose is None else self._pose[chosen]

    def give(self, old: int, new: int) -> None:
        """The second is the first: what is known for long moves over, what is of now stays."""
        for name in ("form", "known", "tag"):
            column = self._of[name]
            column[new] = column[old]
        self._of["form"][old], self._of["known"][old], self._of["tag"][old] = np.nan, 0, NO_ID

    def costs(self, number: int, found: Detections, position: np.ndarray) -> np.ndarray:
        """(n, m) added to a squared Mahalanobis distance; infinite where tags differ.

        Parameters
        ----------
        number
            Of the frame.
        found
            What is in it.
        position
            (n, 2) where they are expected, to which remembered poses are moved.
        """
        of = self._of
        cost = self.form * self._form_costs(found) + self.turn * self._turn_costs(number, found)
        if self.pose and self._pose is not None and found.keypoints is not None:
            expected = self._pose + (position - of["place"])[:, None]
            alike = oks(expected, found.keypoints, of["area"], SIGMA)
            cost = cost + self.pose * np.where(np.isnan(alike), 0, 1 - alike)
        mine, theirs = of["tag"][:, None], found.id
        return np.where((mine != theirs) & (mine != NO_ID) & (theirs != NO_ID), np.inf, cost)

    @property
    def place(self) -> np.ndarray:
        """(n, 2) where each was seen last."""
        return self._of["place"]

    def surplus(self, found: Detections, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(r,) pixels by which detections are longer than the individuals whose they are."""
        length = np.exp(self._of["form"][rows, 0])
        longer = np.nan_to_num(found.width[columns] - length)
        return np.where(self._of["known"][rows] >= _FEWEST, np.maximum(longer, 0), 0.0)

    def see(self, number: int, found: Detections, rows: np.ndarray, columns: np.ndarray) -> None:
        """Those rows were seen as those detections."""
        of = self._of
        self._learn_form(found, rows, columns)
        of["angle"][rows], of["seen"][rows] = found.angle[columns], number
        of["long"][rows] = found.width[columns] > _LONG * found.height[columns]
        of["tag"][rows] = np.where(found.id[columns] == NO_ID, of["tag"][rows], found.id[columns])
        of["place"][rows] = np.stack([found.x, found.y], axis=1)[columns]
        areas = body_areas(found)[columns]
        of["area"][rows] = np.where(np.isnan(areas), of["area"][rows], areas)
        if found.keypoints is not None:
            if self._pose is None:
                self._pose = np.full((len(of["tag"]), *found.keypoints.shape[1:]), np.nan)
            self._pose[rows] = found.keypoints[columns]

    def _form_costs(self, found: Detections) -> np.ndarray:
        apart = self._of["form"][:, None] - _extent(found)
        apart[self._of["known"] < _FEWEST] = np.nan
        squared = np.nan_to_num(apart**2 / self._variance).sum(axis=2)
        return np.minimum(squared / 2, _UNLIKE)

    def _turn_costs(self, number: int, found: Detections) -> np.ndarray:
        """The smaller of the two angles between axes: which end is ahead nobody knows."""
        turn = self._of["angle"][:, None] - found.angle
        turn = np.abs((turn + np.pi / 2) % np.pi - np.pi / 2)
        frames = number - self._of["seen"]
        said = (self._of["long"] & (frames <= _RECENT))[:, None]
        said = said & (found.width > _LONG * found.height) & np.isfinite(turn)
        cost = np.nan_to_num(turn / _TURN) ** 2 / np.maximum(frames, 1)[:, None]
        return np.where(said, np.minimum(cost, _TURNED), 0.0)

    def _learn_form(self, found: Detections, rows: np.ndarray, columns: np.ndarray) -> None:
        form = forms(found)[columns]
        known = np.isfinite(form).all(axis=1)
        rows, form = rows[known], form[known]
        if not len(rows):
            return
        of = self._of
        settled = of["known"][rows] >= _FEWEST
        if settled.any():
            mine = of["form"][rows[settled]]
            # What is far off was somebody else, or several that touch: it counts, but not more
            # than what is somewhat off.
            most = 1.5 * np.sqrt(self._variance)
            error = np.clip(form[settled] - mine, -most, most)
            form[settled] = mine + error
            squared = 1.3 * (error**2).mean(axis=0)
            self._variance = np.maximum(0.99 * self._variance + 0.01 * squared, _LEAST**2)
        of["known"][rows] += 1
        weight = np.maximum(1 / of["known"][rows], _SLOW)[:, None]
        before = np.where(np.isnan(of["form"][rows]), form, of["form"][rows])
        of["form"][rows] = before + weight * (form - before)


def forms(found: Detections) -> np.ndarray:
    """(m, 2) logs of length and width where they say something of the individual: NaN where
    another detection is so near that the two may touch."""
    return np.where(_apart(found)[:, None], _extent(found), np.nan)


def _extent(found: Detections) -> np.ndarray:
    """(m, 2) logs of length and width; of upright boxes, which change as animals turn, twice that
    of their geometric mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        extent = np.log(np.stack([found.width, found.height], axis=1))
    extent[~np.isfinite(extent)] = np.nan
    upright = np.isnan(found.angle)
    extent[upright] = extent[upright].mean(axis=1, keepdims=True)
    return extent


def _apart(found: Detections) -> np.ndarray:
    """(m,) whether no other detection is so near that it may touch."""
    x, y = found.x, found.y
    gaps = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(gaps, np.inf)
    near = gaps.min(axis=1, initial=np.inf)
    length = np.fmax(found.width, found.height)
    return ~(near < _APART * length)


def _blank(n: int) -> dict[str, np.ndarray]:
    """Of n individuals: logs of extent and from how many sightings, tag, and of the last sighting
    its frame, angle, whether that counts, place and area."""
    return {
        "form": np.full((n, 2), np.nan),
        "known": np.zeros(n, np.int64),
        "tag": np.full(n, NO_ID),
        "seen": np.zeros(n, np.int64),
        "angle": np.full(n, np.nan),
        "long": np.zeros(n, bool),
        "place": np.full((n, 2), np.nan),
        "area": np.full(n, np.nan),
    }
