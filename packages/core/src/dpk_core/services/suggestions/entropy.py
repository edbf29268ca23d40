"""Entropy: confidence maps that spread over many places instead of one."""

from __future__ import annotations

import numpy as np

from dpk_core.checks import as_array


def map_entropy(maps: np.ndarray) -> np.ndarray:
    """How widely each confidence map spreads: 0 for a single pixel, 1 for all pixels alike.

    A map, divided by its sum, is taken as the distribution over where the keypoint is; its entropy
    is divided by the logarithm of the number of pixels. A map of zeros knows nothing: 1. It sees
    what a score doesn't: two peaks of equal height, or one that is wide. It is the entropy of what
    one trained network predicts; what is not known of the network's weights (as measured by
    dropout or an ensemble: Gal & Ghahramani 2016) is not in it. As confidence maps have peaks of a
    fixed width, differences matter, not the value itself.

    Parameters
    ----------
    maps
        (n, h, w, k) of at least 0; what is below counts as 0, NaN too.

    Returns
    -------
    np.ndarray
        (n, k) float64 in [0, 1].

    References
    ----------
    Maximum entropy sampling: Shannon 1948; Settles 2009, "Active learning literature survey",
    section 3.1.

    Examples
    --------
    >>> one, all_alike = np.zeros((1, 4, 4, 1)), np.ones((1, 4, 4, 1))
    >>> one[0, 2, 1] = 0.7
    >>> float(map_entropy(one)[0, 0]), round(float(map_entropy(all_alike)[0, 0]), 6)
    (0.0, 1.0)
    """
    maps = np.nan_to_num(as_array("maps", maps, np.float64, ("n", "h", "w", "k"))).clip(0)
    n, height, width, k = maps.shape
    if height * width < 2:
        return np.zeros((n, k))
    flat = maps.reshape(n, height * width, k)
    total = flat.sum(axis=1)
    p = flat / np.where(total > 0, total, 1)[:, None]
    logarithms = np.log(p, where=p > 0, out=np.zeros_like(p))
    entropy = -(p * logarithms).sum(axis=1) / np.log(height * width)
    return np.where(total > 0, np.abs(entropy), 1.0).clip(0, 1)
