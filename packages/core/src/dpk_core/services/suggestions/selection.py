"""Choosing some of the highest-ranked frames, not all from one moment."""

from __future__ import annotations

import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError

_GOLDEN = (5**0.5 - 1) / 2


def select(
    values: np.ndarray,
    n: int,
    frames: np.ndarray,
    track_ids: np.ndarray | None = None,
    min_distance: int = 1,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """The n rows of highest value, of which no two are nearer than ``min_distance`` frames.

    Parameters
    ----------
    values
        (m,); NaN comes last.
    n
        How many; fewer are given when no more are far enough from each other.
    frames, track_ids
        (m,) number of the frame, and of whom the row is: only rows of one individual keep their
        distance.
    min_distance
        In frames; 1 asks only for different ones.
    allowed
        (m,) bool. Default: all.

    Returns
    -------
    np.ndarray
        (at most n,) int64 rows, best first. Rows of equal value come in an order that spreads over
        all of them.

    Raises
    ------
    ValidationError
        When n or ``min_distance`` is below 1.

    Examples
    --------
    >>> select(np.array([1.0, 9, 8, 2]), 2, np.arange(4), min_distance=2).tolist()
    [1, 3]
    """
    for name, number in (("n", n), ("min_distance", min_distance)):
        if number < 1:
            raise ValidationError(f"{name}: expected at least 1, found {number}")
    values = as_array("values", values, np.float64, ("m",))
    free = np.ones(len(values), bool) if allowed is None else np.array(allowed, bool)
    tracks = np.zeros(len(values), np.int64) if track_ids is None else np.asarray(track_ids)
    spread = np.arange(len(values)) * _GOLDEN % 1  # no two near each other follow each other
    order = np.lexsort((spread, -np.where(np.isnan(values), -np.inf, values)))
    chosen: list[int] = []
    for i in order:
        if len(chosen) == n:
            break
        if free[i]:
            chosen.append(int(i))
            free[too_near(int(i), frames, tracks, min_distance)] = False
    return np.array(chosen, np.int64)


def too_near(i: int, frames: np.ndarray, tracks: np.ndarray, min_distance: int) -> np.ndarray:
    """(m,) bool: rows of the same individual less than ``min_distance`` frames from row i."""
    near = np.abs(frames - frames[i]) < min_distance
    return near & (tracks == tracks[i])
