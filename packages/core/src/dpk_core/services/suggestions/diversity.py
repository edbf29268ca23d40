"""Diversity: frames that differ from each other and from those labelled already."""

from __future__ import annotations

import numpy as np

from dpk_core.checks import as_array


def farthest_points(
    features: np.ndarray,
    n: int,
    centers: np.ndarray | None = None,
    first: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose points one by one, each the farthest from all that were chosen before.

    What is left is then nowhere farther from a chosen point than twice what the best choice could
    reach (Gonzalez 1985), which is what core-set selection asks of the images to label.

    Parameters
    ----------
    features
        (m, d) finite.
    n
        How many; fewer are given when there are no more.
    centers
        (c, d) points that count as chosen already, such as labelled frames.
    first
        Where to begin when there are no centers.

    Returns
    -------
    tuple of np.ndarray
        (n,) int64 positions in the order in which they were chosen, and (n,) float64 the distance
        of each from the nearest that was chosen before it (infinity for the very first).

    References
    ----------
    Gonzalez 1985, Theoretical Computer Science 38:293, "Clustering to minimize the maximum
    intercluster distance"; Sener & Savarese 2018, ICLR, "Active learning for convolutional neural
    networks: a core-set approach", Algorithm 1 (k-Center-Greedy).

    Examples
    --------
    >>> line = np.array([[0.0], [1], [2], [9], [10]])
    >>> [a.tolist() for a in farthest_points(line, 3)]
    [[0, 4, 2], [inf, 10.0, 2.0]]
    """
    features = as_array("features", features, np.float64, ("m", "d"))
    free = np.ones(len(features), bool)
    nearest = np.full(len(features), np.inf)
    for center in () if centers is None else centers:
        nearest = np.minimum(nearest, np.linalg.norm(features - center, axis=1))
    chosen: list[int] = []
    distances: list[float] = []
    while len(chosen) < n and free.any():
        i = int(np.argmax(np.where(free, nearest, -1.0)))
        if np.isinf(nearest[i]):
            i = first
        chosen.append(i)
        distances.append(float(nearest[i]))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[i], axis=1))
        free[i] = False
    return np.array(chosen, np.int64), np.array(distances)
