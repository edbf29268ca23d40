"""Ranks: criteria of different units on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError

_MIDDLE = 0.5


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value from 0 (lowest) to 1 (highest); equal values share their mean rank.

    Unlike the values themselves, ranks of one wild criterion can't outweigh all others. A single
    value is in the middle: 0.5. NaN stays NaN.

    Examples
    --------
    >>> ranks(np.array([3.0, 1, np.nan, 3, 900])).round(3).tolist()
    [0.5, 0.0, nan, 0.5, 1.0]
    """
    values = as_array("values", values, np.float64, ("n",))
    found = np.full(len(values), np.nan)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < 2:
        found[known] = _MIDDLE
        return found
    _, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    found[known] = (first + (counts - 1) / 2)[place] / (len(known) - 1)
    return found


def rank_average(criteria: Sequence[np.ndarray], kinds: Sequence[str] | None = None) -> np.ndarray:
    """The mean of each frame's ranks, (n,) in [0, 1], over those criteria that are known of it.

    A frame of which none is known is in the middle: 0.5.

    Parameters
    ----------
    criteria
        Each (n,), NaN where it is not known.
    kinds
        A name for each: ranks are averaged within a kind first, so that three ways to see one
        thing don't outvote the only way to see another. Default: each its own kind.

    Raises
    ------
    ValidationError
        When there is no criterion, or they differ in length.

    References
    ----------
    Borda 1781; Dwork et al. 2001, "Rank aggregation methods for the web".

    Examples
    --------
    >>> low, high = np.array([1.0, 2, 3]), np.array([3.0, 2, 1])
    >>> rank_average([low, np.array([5.0, np.nan, 4])]).tolist()
    [0.5, 0.5, 0.5]
    >>> rank_average([low, low, high], ["motion", "motion", "scores"]).tolist()
    [0.5, 0.5, 0.5]
    """
    if not len(criteria):
        raise ValidationError("criteria: expected at least one")
    lengths = {len(values) for values in criteria}
    if len(lengths) > 1:
        raise ValidationError(f"criteria: expected equal lengths, found {sorted(lengths)}")
    names = np.arange(len(criteria)) if kinds is None else np.asarray(kinds)
    if len(names) != len(criteria):
        raise ValidationError(f"kinds: expected {len(criteria)}, found {len(names)}")
    each = np.stack([ranks(values) for values in criteria])
    of_kinds = [_known_mean(each[names == name]) for name in np.unique(names)]
    found = _known_mean(np.stack(of_kinds))
    return np.where(np.isnan(found), _MIDDLE, found)


def _known_mean(each: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is known, NaN where nothing is."""
    known = np.isfinite(each)
    total = np.where(known, each, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(1, known.sum(axis=0)), np.nan)
