"""How far a value lies above what is usual, whatever a few wild values are."""

from __future__ import annotations

import warnings

import numpy as np

from dpk_core.checks import as_array

_NORMAL_MAD = 1.4826
"""Standard deviations in a median absolute deviation of a normal distribution: 1 / 0.6745."""
_NORMAL_MEAN = 1.2533
"""The same for a mean absolute deviation: sqrt(pi / 2)."""


def robust_outliers(values: np.ndarray) -> np.ndarray:
    """How many robust standard deviations each value lies above the median of its column.

    Parameters
    ----------
    values
        (n, k), a column a keypoint; NaN is unknown and stays NaN.

    Returns
    -------
    np.ndarray
        (n, k) float64 from 0: what lies below the median is no outlier here. The deviation is
        1.4826 times the median absolute deviation; where that is 0 (an animal that mostly sits
        still), 1.2533 times the mean absolute deviation; where all are equal, nothing stands out.

    References
    ----------
    Iglewicz & Hoaglin 1993, "How to detect and handle outliers", modified z-scores.

    Examples
    --------
    >>> robust_outliers(np.array([[1.0], [2], [3], [4], [30]])).round(2).ravel().tolist()
    [0.0, 0.0, 0.0, 0.67, 18.21]
    """
    values = as_array("values", values, np.float64, ("n", "k"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value
        above = values - np.nanmedian(values, axis=0)
        deviation = _NORMAL_MAD * np.nanmedian(np.abs(above), axis=0)
        mean = _NORMAL_MEAN * np.nanmean(np.abs(above), axis=0)
    deviation = np.where(deviation > 0, deviation, mean)
    return np.where(deviation > 0, above / np.where(deviation > 0, deviation, 1), above * 0).clip(0)


def worst(values: np.ndarray) -> np.ndarray:
    """(n,) the largest value of each row of (n, k), NaN where none is known."""
    found = np.where(np.isnan(values), -np.inf, values).max(axis=1, initial=-np.inf)
    return np.where(np.isneginf(found), np.nan, found)
