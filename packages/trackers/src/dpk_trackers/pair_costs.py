"""What it costs to take a detection for an individual, and what is learned about that."""

from __future__ import annotations

import attrs
import numpy as np

from dpk_core.detections import NO_ID
from dpk_trackers.individuals import Individuals
from dpk_trackers.kalman_filter import MotionFilter
from dpk_trackers.sightings import Sightings
from dpk_trackers.similarity import iou_of_pairs, oks_of_pairs

SETTLED = 3
"""Sightings from which on the velocity of an individual is known well enough to foretell it."""
_GATE = 25.0
"""Largest squared Mahalanobis distance: animals leap more often than Gaussians do."""
_USUAL = 0.7
"""Presumed overlap, and OKS, of what belongs together, before anything is learned."""
_DOUBT = 0.2
"""More than usual by which two must agree for it to speak for neither side."""
_SIZES = 30
"""Sightings over which the size of an individual is averaged."""
_KNOWN = 10
"""Sightings from which on it says how much sizes vary."""
_LEAST_SIZE = 4e-4
"""Variance of the log of a size, that of 2 %: no detector is better for long."""


@attrs.frozen(eq=False)
class Pairs:
    """Individuals and detections near enough to each other.

    Attributes
    ----------
    rows, columns
        (p,) of individuals, and of detections; sorted by rows and then columns.
    cost
        (p,) -2 log likelihood, but for a constant; infinite where tags differ.
    alike
        For "overlap" and "pose", where they are looked at, (p,) how much the two agree; NaN
        unknown.
    """

    rows: np.ndarray
    columns: np.ndarray
    cost: np.ndarray
    alike: dict[str, np.ndarray]


class PairCosts:
    """Distance, overlap, pose, size and tags, weighed against what is usual.

    Parameters
    ----------
    overlap, pose
        Weight of one less intersection over union, and of one less OKS.
    sigmas
        Of the keypoints for OKS, relative to body size: one, or one for each.
    """

    def __init__(self, overlap: float, pose: float, sigmas: np.ndarray) -> None:
        self.weights = {"overlap": overlap, "pose": pose}
        self.sigmas = sigmas
        self._usual = {name: [_USUAL, _USUAL] for name in self.weights}  # newcomers, others
        self._sizes: tuple[float, ...] = 0.0, 0.0, 0.0  # mean log, variance in one, and in all

    def of(
        self,
        number: int,
        known: Individuals,
        motion: MotionFilter,
        seen: Sightings,
        noise: np.ndarray,
    ) -> Pairs:
        """All pairs within the gate, in the frame of that number.

        Parameters
        ----------
        noise
            (m,) variances of the places of the detections.
        """
        squared, variance = motion.distances(seen.place.T, noise)
        rows, columns = (squared < _GATE).nonzero()
        cost = squared[rows, columns] + 2 * np.log(2 * np.pi * variance[rows, columns])
        # The longer one is gone, the less likely it comes back in just this frame.
        cost += (2 * np.log(np.maximum(1, number - known.seen)))[rows]
        alike = self._alike(known, motion, seen, rows, columns)
        old = known.hits >= SETTLED
        for name, agree in alike.items():
            # More than usual speaks for a pair, less against it: fast animals never overlap.
            usual = [min(1.0, value + _DOUBT) for value in self._usual[name]]
            less = np.where(old, usual[1], usual[0])[rows] - agree
            cost += self.weights[name] * np.where(np.isnan(less), 0, less)
        cost += self._size_costs(known, seen, rows, columns)
        if seen.tagged:
            mine, theirs = known.tag[rows], seen.found.id[columns]
            cost[(mine != theirs) & (mine != NO_ID) & (theirs != NO_ID)] = np.inf
        return Pairs(rows, columns, cost, alike)

    def learn(self, pairs: Pairs, chosen: np.ndarray, known: Individuals) -> None:
        """How much boxes and poses that belong together usually agree, of newcomers and others."""
        old = known.hits[pairs.rows[chosen]] >= SETTLED
        for name, alike in pairs.alike.items():
            agree = alike[chosen]
            finite = np.isfinite(agree)
            for k, group in enumerate((finite & ~old, finite & old)):
                count = np.count_nonzero(group)
                if count:
                    rate = 0.05 * min(1.0, count / 5)
                    mean = float(agree[group].sum()) / count
                    self._usual[name][k] += rate * (mean - self._usual[name][k])

    def learn_sizes(self, known: Individuals, size: np.ndarray, rows: np.ndarray) -> None:
        """Average the sizes of individuals, and how they vary in one and from one to the other.

        Parameters
        ----------
        size
            (r,) logs of the sizes of those rows in this frame, NaN unknown.
        """
        old, hits = known.size[rows], known.hits[rows]
        gap = size - old
        step = gap / np.minimum(np.maximum(hits, 1), _SIZES)
        known.size[rows] = np.where(np.isnan(gap), np.where(np.isnan(size), old, size), old + step)
        settled = (hits >= _KNOWN) & np.isfinite(gap)
        count = np.count_nonzero(settled)
        if count < 2:
            return
        within_before = self._sizes[1]
        squared = gap[settled] ** 2
        if within_before:
            squared = np.minimum(squared, 9 * within_before)
        mean = float(known.size[rows[settled]].sum()) / count
        within = max(float(squared.sum()) / count, _LEAST_SIZE)
        spread = float(((size[settled] - mean) ** 2).sum()) / count
        rate = 0.03 * min(1.0, count / 10) if within_before else 1.0
        now = zip(self._sizes, (mean, within, spread), strict=True)
        self._sizes = tuple(before + rate * (new - before) for before, new in now)

    def _alike(
        self,
        known: Individuals,
        motion: MotionFilter,
        seen: Sightings,
        rows: np.ndarray,
        columns: np.ndarray,
    ) -> dict[str, np.ndarray]:
        alike, position = {}, motion.position.T
        if self.weights["overlap"] and np.isfinite(seen.boxes).any():
            expected = known.boxes + np.concatenate((position, position))
            alike["overlap"] = iou_of_pairs(
                expected.take(rows, axis=1), seen.boxes.take(columns, axis=1)
            )
        keypoints = seen.found.keypoints
        if self.weights["pose"] and known.pose is not None and keypoints is not None:
            shift = (position - known.place).T
            poses = (known.pose + shift[:, None])[rows]
            slack = motion.covariance[rows, 0]
            area = known.area[rows]
            alike["pose"] = oks_of_pairs(poses, keypoints[columns], area, self.sigmas, slack)
        return alike

    def _size_costs(
        self, known: Individuals, seen: Sightings, rows: np.ndarray, columns: np.ndarray
    ) -> np.ndarray | float:
        """-2 log of how much likelier a size is of one than of any other."""
        mean, within, spread = self._sizes
        if not spread > within > 0:
            return 0.0
        same = within * (1 + 1 / np.minimum(np.maximum(known.hits, 1), _SIZES))
        usual = np.minimum((seen.size - mean) ** 2 / spread, 4)
        gap = seen.size[columns] - known.size[rows]
        said = gap**2 / same[rows] + np.log(same / spread)[rows] - usual[columns]
        said = np.minimum(np.maximum(said, -4), 8)
        return np.where(np.isnan(said), 0.0, said)
