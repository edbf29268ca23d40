"""Who is who: the assignment of individuals to detections, and what all trackers do around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from dpk_core.detections import Detections
from dpk_core.errors import ValidationError
from dpk_core.tracks import COLUMNS, Tracks


def assign(cost: np.ndarray, limit: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """The one-to-one assignment that saves most, where staying alone is allowed.

    The sum of ``cost - limit`` over the chosen pairs is the smallest that there is: a pair is
    chosen only where it costs less than ``limit``, and dear pairs make room for cheap ones. Solved
    by ``scipy.optimize.linear_sum_assignment`` (a modified Jonker-Volgenant algorithm; the problem
    is that of Munkres 1957), after the pairs that have no alternative were taken out.

    Parameters
    ----------
    cost
        (n, m); NaN and infinity forbid a pair.
    limit
        What leaving a pair unassigned costs; anything that broadcasts to (n, m).

    Returns
    -------
    rows, columns
        (p,) each, sorted by rows.

    Examples
    --------
    >>> rows, columns = assign(np.array([[1.0, 2.0], [1.5, 9.0]]), limit=5.0)
    >>> rows.tolist(), columns.tolist()
    ([0, 1], [1, 0])
    """
    gain = cost - limit
    rows, columns = np.nonzero(gain < 0)
    chosen = assign_pairs(rows, columns, gain[rows, columns])
    return rows[chosen], columns[chosen]


def assign_pairs(rows: np.ndarray, columns: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """As `assign`, of a list of the pairs that are allowed.

    Parameters
    ----------
    rows, columns
        (p,) the pairs, each once, sorted by rows and then columns.
    gain
        (p,) what choosing each costs beyond leaving both alone, below 0.

    Returns
    -------
    ndarray
        Numbers of the chosen pairs, ascending.
    """
    if not len(rows):
        return np.empty(0, np.int64)
    hard = (np.bincount(rows)[rows] > 1) | (np.bincount(columns)[columns] > 1)
    if not hard.any():
        return np.arange(len(rows))
    pairs = hard.nonzero()[0]
    row, column = _numbered(rows[pairs]), _numbered(columns[pairs])
    part = np.zeros((row.max() + 1, column.max() + 1))
    number = np.full(part.shape, -1)
    part[row, column], number[row, column] = gain[pairs], pairs
    chosen = ~hard
    best = number[linear_sum_assignment(part)]
    chosen[best[best >= 0]] = True
    return chosen.nonzero()[0]


def _numbered(values: np.ndarray) -> np.ndarray:
    """Each by its place among those that occur; whole numbers from 0."""
    occurs = np.zeros(values.max() + 1, np.int64)
    occurs[values] = 1
    return (occurs.cumsum() - 1)[values]


def in_order(detections: Detections, min_score: float = 0.0) -> Detections:
    """Those of at least that score in an order of their own: by x, then y, ...

    Ids of newcomers and ties are settled in that order, so that a detector may list what it found
    as it likes.
    """
    x = detections.x
    order = x.argsort(kind="stable")
    placed = x[order]
    if (placed[1:] == placed[:-1]).any():
        order = np.lexsort(list(detections.columns().values())[::-1])
    return detections[order[detections.score[order] >= min_score]]


def check_number(number: int, last: int | None) -> int:
    """Frames since the last one, at least 1; ValidationError when numbers do not grow."""
    if last is None:
        return 1
    if number <= last:
        raise ValidationError(
            f"expected frames in order, found frame {number} after frame {last}; make a new "
            "tracker for another pass over the video"
        )
    return int(number - last)


def rows_of(
    number: int,
    ids: np.ndarray,
    detections: Detections,
    *,
    at: np.ndarray | None = None,
    **changed: Any,
) -> Tracks:
    """One row for each detection, sorted by id; ``changed`` columns stand in for theirs.

    With ``at``, (r,) numbers of detections, one for each of those; the others are left out.
    """
    ids = np.asarray(ids)
    order = ids.argsort(kind="stable")
    chosen = order if at is None else at[order]
    rows: dict[str, Any] = {
        key: value[chosen] for key, value in detections.columns().items() if key in COLUMNS
    }
    rows.update((key, value[order]) for key, value in changed.items())
    rows["frame"], rows["id"] = np.full(len(ids), number), ids[order]
    return Tracks(**rows)


def join(parts: list[Tracks]) -> Tracks:
    """All rows one under the other, sorted by frame and id; provenance of the first."""
    columns: dict[str, Any] = {
        name: np.concatenate([np.empty(0, kind), *(part.columns()[name] for part in parts)])
        for name, kind in COLUMNS.items()
    }
    order = np.lexsort((columns["id"], columns["frame"]))
    provenance = parts[0].provenance if parts else {}
    return Tracks(**{k: v[order] for k, v in columns.items()}, provenance=provenance)


def check_setting(name: str, value: float, low: float, high: float = np.inf) -> float:
    """The value, within low and high (both allowed), or ValidationError."""
    number = isinstance(value, (int, float, np.integer, np.floating))
    good = number and not isinstance(value, bool) and np.isfinite(value) and low <= value <= high
    if not good:
        bounds = f"at least {low}" if np.isinf(high) else f"from {low} to {high}"
        raise ValidationError(f"{name}: expected a number {bounds}, found {value!r}")
    return value


def check_whole(name: str, value: int, low: int) -> int:
    """The value, a whole number from low on, or ValidationError: half a frame is no frame."""
    if int(check_setting(name, value, low)) != value:
        raise ValidationError(f"{name}: expected a whole number from {low} on, found {value!r}")
    return int(value)


def check_flag(name: str, value: bool) -> bool:
    """The value, True or False, or ValidationError: a text such as "no" would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValidationError(f"{name}: expected true or false, found {value!r}")
    return bool(value)
