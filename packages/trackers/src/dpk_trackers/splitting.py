"""Animals that touch are one blob: how many are in it, and where does one end?"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dpk_trackers.blobs import PIXEL_VARIANCE, Blob, find_blobs

MISSING = 0.8
"""What it costs to find an animal less than there are; as a unit, to take one for 2.7 times as
large as animals are costs 1. From 1.2 times the usual area on, the last blob is taken for two."""
MOST = 12
"""Animals in one blob."""
_POINTS = 700
"""Pixels of a blob that are looked at to find the mixture."""
_LEVELS = 10


def allot(areas: Sequence[float], count: int, usual: float) -> np.ndarray:
    """How many animals are in each blob: 0 for specks.

    Parameters
    ----------
    areas
        (m,) of the blobs in pixels.
    count
        Number of animals in all. Fewer are allotted when the blobs are too small for so many.
    usual
        Area of an animal.

    Returns
    -------
    (m,) integers, at most ``count`` together: those with the least cost
        An animal costs the distance of the logarithm of its share of the blob's area from the
        usual one's, a blob that is left out its area in units of the usual one, an animal that is
        not found `MISSING`.
    """
    sizes = np.asarray(areas, np.float64) / usual
    if len(sizes) == count and np.all((sizes > 0.5) & (sizes < 1.6)):
        return np.ones(count, int)
    # cost[t]: the least with t animals in the blobs so far; choice[i, t]: those in blob i then.
    cost = np.full(count + 1, np.inf)
    cost[0] = 0.0
    choice = np.zeros((len(sizes), count + 1), int)
    for i, size in enumerate(sizes):
        best = cost + size
        for k in range(1, min(count, MOST) + 1):
            taken = cost[:-k] + k * abs(np.log(size / k))
            better = taken < best[k:]
            best[k:][better] = taken[better]
            choice[i, k:][better] = k
        cost = best
    total = int(np.argmin(cost + MISSING * np.arange(count, -1, -1)))
    alloted = np.zeros(len(sizes), int)
    for i in range(len(sizes) - 1, -1, -1):
        alloted[i] = choice[i, total]
        total -= alloted[i]
    return alloted


def split_blob(
    blob: Blob, k: int, length: float, width: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Divide a blob between animals.

    A mixture of as many Gaussians is fitted to its pixels, drawn towards the size that animals
    have. Fits start from bodies that come apart at a higher contrast or further from the outline,
    from cuts along and across the blob, and from bodies laid crosswise; the likeliest is taken.

    Parameters
    ----------
    blob
        What is to be divided.
    k
        Into how many.
    length, width
        Full axes of one animal's ellipse in pixels.
    weights
        (n,) of the pixels. Default: 1 each.

    Returns
    -------
    (k, n) float64
        The share of each pixel that belongs to each animal; they add up to 1.
    """
    if k < 2:
        return np.ones((1, blob.area))
    weights = np.ones(blob.area) if weights is None else weights.astype(np.float64)
    shape = np.array([width, length]) ** 2 / 16
    step = max(1, blob.area // _POINTS)
    points, some = blob.points[::step], weights[::step]
    best: _Mixture | None = None
    best_value = -np.inf
    round_ones = np.tile(np.eye(2) * shape.mean(), (k, 1, 1))
    starts = [(centers, round_ones, np.full(k, 1 / k)) for centers in _starts(blob, k)]
    for mixture in [*starts, _crossed(blob, k, shape)]:
        for _ in range(6):
            mixture, value = _improved(mixture, points, some, shape)
        if value > best_value:
            best, best_value = mixture, value
    assert best is not None
    for _ in range(15):
        best, _ = _improved(best, points, some, shape)
    return _shares(_log_densities(best, blob.points))[0]


# A mixture: (k, 2) means, (k, 2, 2) covariances, (k,) portions.
_Mixture = tuple[np.ndarray, np.ndarray, np.ndarray]


def _improved(
    mixture: _Mixture, points: np.ndarray, weights: np.ndarray, shape: np.ndarray
) -> tuple[_Mixture, float]:
    """One step of expectation and maximization, and the value of the mixture before it."""
    shares, likelihood = _shares(_log_densities(mixture, points))
    k, total = len(shares), weights.sum()
    prior = total / k  # the usual size counts as much as the pixels of one animal
    value = float(weights @ likelihood) + _prior_value(mixture[1], shape, prior)
    amounts = shares * weights
    sums = amounts.sum(axis=1) + 1e-9
    means = amounts @ points / sums[:, None]
    away = points[None] - means[:, None]
    scatter = np.einsum("kn,kni,knj->kij", amounts, away, away)
    scatter += sums[:, None, None] * np.eye(2) * PIXEL_VARIANCE
    # Turned as its pixels lie, but sized between what they and what animals are.
    variances, axes = np.linalg.eigh(scatter)
    variances = (variances + prior * shape) / (sums + prior)[:, None]
    covariances = np.einsum("kij,kj,klj->kil", axes, variances, axes)
    portions = (sums + prior) / (total + k * prior)
    return (means, covariances, portions), value


def _log_densities(mixture: _Mixture, points: np.ndarray) -> np.ndarray:
    """(k, n) logarithm of portion times density."""
    means, covariances, portions = mixture
    away = points[None] - means[:, None]
    inverse = np.linalg.inv(covariances)
    distance = np.einsum("kni,kij,knj->kn", away, inverse, away)
    norm = np.log(portions) - 0.5 * np.log(np.linalg.det(covariances)) - np.log(2 * np.pi)
    return norm[:, None] - distance / 2


def _shares(log_densities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, n) responsibilities, (n,) log-likelihood."""
    highest = log_densities.max(axis=0)
    shares = np.exp(log_densities - highest)
    sums = shares.sum(axis=0)
    return shares / sums, highest + np.log(sums)


def _prior_value(covariances: np.ndarray, shape: np.ndarray, prior: float) -> float:
    variances = np.linalg.eigvalsh(covariances)
    return float(-prior / 2 * (np.log(variances) + shape / variances).sum())


def _starts(blob: Blob, k: int) -> list[np.ndarray]:
    """(k, 2) centres each, from which a mixture may be found."""
    points = blob.points
    low = points.min(axis=0)
    x, y = (points - low).astype(int).T
    contrast = np.zeros((y.max() + 3, x.max() + 3), np.float32)
    contrast[y + 1, x + 1] = blob.contrast
    depth = cv2.distanceTransform((contrast > 0).astype(np.uint8), cv2.DIST_L2, 3)
    found = [_apart(height, k, blob.area / k) for height in (contrast, depth)]
    starts = [centers + low - 1 for centers in found if centers is not None]
    middle = points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((points - middle).T) + np.eye(2) * PIXEL_VARIANCE)
    for axis in axes.T:
        order = np.argsort((points - middle) @ axis, kind="stable")
        starts.append(np.stack([points[part].mean(axis=0) for part in np.array_split(order, k)]))
    starts.append(_far_apart(points, middle, k))
    return starts


def _crossed(blob: Blob, k: int, shape: np.ndarray) -> _Mixture:
    """All in the middle, one across the other."""
    middle = blob.points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((blob.points - middle).T))
    angles = np.arctan2(axes[1, 1], axes[0, 1]) + (np.arange(k) + 0.5) * np.pi / k
    along = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    covariances = shape[1] * np.einsum("ki,kj->kij", along, along)
    covariances += shape[0] * np.einsum("ki,kj->kij", across, across)
    return np.tile(middle, (k, 1)), covariances, np.full(k, 1 / k)


def _apart(height: np.ndarray, k: int, area: float) -> np.ndarray | None:
    """Centres of the parts into which a blob falls as the water rises; None if it never does."""
    top = float(np.percentile(height[height > 0], 95))
    for level in np.linspace(0, top, _LEVELS, endpoint=False)[1:]:
        parts = find_blobs(height, level, 0.1 * area)
        if len(parts) >= k:
            return np.stack([part.points.mean(axis=0) for part in parts[:k]])
    return None


def _far_apart(points: np.ndarray, middle: np.ndarray, k: int) -> np.ndarray:
    """Ends of the blob, each as far from the others as can be, drawn in a bit."""
    chosen = [points[np.argmax(((points - middle) ** 2).sum(axis=1))]]
    while len(chosen) < k:
        apart = ((points[:, None] - np.stack(chosen)[None]) ** 2).sum(axis=2).min(axis=1)
        chosen.append(points[np.argmax(apart)])
    return 0.6 * np.stack(chosen) + 0.4 * middle
