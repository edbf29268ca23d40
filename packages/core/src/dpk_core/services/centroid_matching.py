"""Which of the points that a detector found is which of the animals that a person labelled."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs
import numpy as np


def match_points(
    found: np.ndarray, labelled: np.ndarray, limit: float = math.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points that lie nearest, each point in one pair at most.

    The nearest pair of all comes first, then the nearest of what is left, and so on, as detections
    are matched in COCO's evaluation (Lin et al. 2014, ECCV, arXiv:1405.0312).

    Parameters
    ----------
    found, labelled
        (m, 2) and (l, 2) of x, y in pixels; NaN is no point.
    limit
        Largest distance of a pair in pixels.

    Returns
    -------
    (p,) rows of ``found`` and of ``labelled``, the nearest pair first.

    Examples
    --------
    >>> match_points(np.array([[0.0, 0], [9, 0]]), np.array([[8.0, 0], [7, 0]]), limit=5)
    (array([1]), array([0]))
    """
    distance = np.linalg.norm(found[:, None] - labelled[None], axis=2)
    distance = np.where(distance <= limit, distance, np.inf)  # NaN compares false
    pairs = []
    for _ in range(min(distance.shape)):
        i, j = np.unravel_index(np.argmin(distance), distance.shape)
        if not np.isfinite(distance[i, j]):
            break
        pairs.append((i, j))
        distance[i], distance[:, j] = np.inf, np.inf
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    return rows, columns


def in_order_of(found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Points in the order of the labels that they match.

    Parameters
    ----------
    found
        (n, m, 3) of x, y, score in no order.
    labelled
        (n, m, 2) of x, y; NaN is no label.

    Returns
    -------
    (n, m, 3): row j of each image is what matches its label j, NaN where there is no label.
    """
    ordered = np.full_like(found, np.nan)
    for points, labels, places in zip(found, labelled, ordered, strict=True):
        rows, columns = match_points(points[:, :2], labels)
        places[columns] = points[rows]
    return ordered


@attrs.frozen
class DetectionScore:
    """How well animals are found.

    Parameters
    ----------
    n_labelled, n_found, n_matched
        Animals in the labels, detections, and pairs of the two within the limit.
    error_px
        Median distance of those pairs in pixels, NaN without one.
    """

    n_labelled: int
    n_found: int
    n_matched: int
    error_px: float

    @property
    def recall(self) -> float:
        """Share of the labelled animals that were found, NaN without any."""
        return self.n_matched / self.n_labelled if self.n_labelled else math.nan

    @property
    def precision(self) -> float:
        """Share of the detections that are labelled animals, NaN without any."""
        return self.n_matched / self.n_found if self.n_found else math.nan


def score_detections(
    found: Iterable[np.ndarray], labelled: Iterable[np.ndarray], limit: float
) -> DetectionScore:
    """Compare detections with labels, image by image.

    Parameters
    ----------
    found, labelled
        For each image (m, 2) and (l, 2) of x, y in pixels; NaN is no point.
    limit
        Distance in pixels within which a detection is the animal.
    """
    n_labelled = n_found = 0
    distances: list[np.ndarray] = []
    for points, labels in zip(found, labelled, strict=True):
        rows, columns = match_points(points, labels, limit)
        distances.append(np.linalg.norm(points[rows] - labels[columns], axis=1))
        n_found += int(np.isfinite(points).all(axis=1).sum())
        n_labelled += int(np.isfinite(labels).all(axis=1).sum())
    matched = np.concatenate([np.empty(0), *distances])
    error = float(np.median(matched)) if len(matched) else math.nan
    return DetectionScore(n_labelled, n_found, len(matched), error)
