"""Ranks: criteria of different units on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError

UNKNOWN = 0.5
"""The rank of what is not known: in the middle, neither for nor against a frame."""


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value from 0 (lowest) to 1 (highest); equal values share their mean rank.

    Unlike the values themselves, ranks of one wild criterion can't outweigh all others. NaN, and
    a single value, are in the middle: 0.5.

    Examples
    --------
    >>> ranks(np.array([3.0, 1, np.nan, 3, 900])).round(3).tolist()
    [0.5, 0.0, 0.5, 0.5, 1.0]
    """
    values = as_array("values", values, np.float64, ("n",))
    found = np.full(len(values), UNKNOWN)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < 2:
        return found
    _, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    found[known] = (first + (counts - 1) / 2)[place] / (len(known) - 1)
    return found


def rank_average(criteria: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over criteria of each frame's rank, (n,) in [0, 1].

    Raises
    ------
    ValidationError
        When there is no criterion, or they differ in length.

    References
    ----------
    Borda 1781; Dwork et al. 2001, "Rank aggregation methods for the web".
    """
    if not len(criteria):
        raise ValidationError("criteria: expected at least one")
    lengths = {len(values) for values in criteria}
    if len(lengths) > 1:
        raise ValidationError(f"criteria: expected equal lengths, found {sorted(lengths)}")
    return np.mean([ranks(values) for values in criteria], axis=0)
