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
    allowed = gain < 0
    options, wishes = allowed.sum(axis=1), allowed.sum(axis=0)
    alone = allowed & (options == 1)[:, None] & (wishes == 1)
    rows, columns = np.nonzero(alone)
    hard = np.flatnonzero((options > 0) & ~alone.any(axis=1))
    if not len(hard):
        return rows, columns
    wanted = np.flatnonzero(allowed[hard].any(axis=0))
    part = np.ix_(hard, wanted)
    i, j = linear_sum_assignment(np.where(allowed[part], gain[part], 0.0))
    chosen = allowed[hard[i], wanted[j]]
    rows = np.concatenate([rows, hard[i][chosen]])
    columns = np.concatenate([columns, wanted[j][chosen]])
    order = np.argsort(rows)
    return rows[order], columns[order]


def in_order(detections: Detections, min_score: float = 0.0) -> Detections:
    """Those of at least that score in an order of their own: by x, then y, ...

    Ids of newcomers and ties are settled in that order, so that a detector may list what it found
    as it likes.
    """
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


def rows_of(number: int, ids: np.ndarray, detections: Detections, **changed: Any) -> Tracks:
    """One row for each detection, sorted by id; ``changed`` columns stand in for theirs."""
    columns = {key: value for key, value in detections.columns().items() if key in COLUMNS}
    columns.update(changed)
    order = np.argsort(ids, kind="stable")
    rows: dict[str, Any] = {key: value[order] for key, value in columns.items()}
    rows["frame"], rows["id"] = np.full(len(ids), number), np.asarray(ids)[order]
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
    if not number or isinstance(value, bool) or not low <= value <= high:
        bounds = f"at least {low}" if np.isinf(high) else f"from {low} to {high}"
        raise ValidationError(f"{name}: expected a number {bounds}, found {value!r}")
    return value


def check_flag(name: str, value: bool) -> bool:
    """The value, True or False, or ValidationError: a text such as "no" would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValidationError(f"{name}: expected true or false, found {value!r}")
    return bool(value)
