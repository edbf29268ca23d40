"""Takes noise out of tracks, as much as there is."""

from __future__ import annotations

import attrs
import numpy as np
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

from dpk_core.errors import ValidationError
from dpk_core.tracks import Tracks

_GRID = 10.0 ** np.arange(-4.0, 6.5, 0.5)
"""Of smoothness: variance of the noise over that of the acceleration."""
_PIECES = 40
_LONGEST = 400
_OUTLIER = 3.0


def smooth(
    tracks: Tracks,
    smoothness: float | None = None,
    columns: tuple[str, ...] = ("x", "y", "width", "height"),
) -> Tracks:
    """Move each row to where the rows before and after it suggest that it is.

    Penalized least squares with the second difference (Whittaker 1923; Eilers 2003), which gives
    what a Kalman smoother with constant velocity does. Outliers get less weight (Huber's); rows
    that were filled in get none, so that a gap is bridged in a smooth curve. Frames without a row
    stay so. Longer gaps than `_LONGEST` frames end a piece.

    Parameters
    ----------
    tracks
        In any order.
    smoothness
        Variance of the noise over that of the acceleration, in frames^4. Default: what explains
        each column best (restricted maximum likelihood), so that nothing happens to tracks that
        have no noise.
    columns
        To smooth. Angles, which are not by default, are unrolled first: they must not be of a
        detector that takes head for tail.

    Returns
    -------
    Tracks
        The same rows in the same order.
    """
    if smoothness is not None and not smoothness >= 0:
        raise ValidationError(f"smoothness: expected a number of 0 or more, found {smoothness}")
    if not len(tracks):
        return tracks
    order = np.lexsort((tracks.frame, tracks.id))
    frame, ids = tracks.frame[order], tracks.id[order]
    breaks = np.flatnonzero((np.diff(ids) != 0) | (np.diff(frame) > _LONGEST)) + 1
    pieces = np.split(order, breaks)
    changed = {}
    for name in columns:
        values = getattr(tracks, name).astype(np.float64)
        weight = np.isfinite(values) & ~tracks.interpolated
        series = [_series(tracks.frame[p], values[p], weight[p], name == "angle") for p in pieces]
        factor = best_smoothness(series) if smoothness is None else float(smoothness)
        changed[name] = values.copy()
        for piece, (at, grid, known) in zip(pieces, series, strict=True):
            if known.sum() > 2 and factor > 0:
                found = _robustly(grid, known, factor)[at]
                found = np.angle(np.exp(1j * found)) if name == "angle" else found
                changed[name][piece] = np.where(np.isnan(values[piece]), np.nan, found)
    return attrs.evolve(tracks, **changed)


def best_smoothness(series: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """The smoothness under which the longest pieces are likeliest; 0 when there is no noise."""
    chosen = sorted((s for s in series if s[2].sum() > 9), key=lambda s: -len(s[1]))[:_PIECES]
    if not chosen:
        return 0.0
    parts = [(grid[:_LONGEST], known[:_LONGEST].astype(float)) for _, grid, known in chosen]
    parts = [part for part in parts if part[1].sum() > 9]
    totals = np.array([_log_likelihood(parts, factor) for factor in _GRID])
    if not np.isfinite(totals).any():
        return 0.0
    best = int(np.nanargmax(totals))
    return 0.0 if best == 0 else float(_GRID[best])


def _series(
    frame: np.ndarray, values: np.ndarray, known: np.ndarray, circular: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each row is on a grid of all frames, the values there, and which are known."""
    at = frame - frame[0]
    grid, given = np.zeros(int(at[-1]) + 1), np.zeros(int(at[-1]) + 1, bool)
    rows = np.flatnonzero(known)
    grid[at[rows]] = np.unwrap(values[rows]) if circular else values[rows]
    given[at[rows]] = True
    return at, grid, given


def _robustly(grid: np.ndarray, known: np.ndarray, factor: float) -> np.ndarray:
    weight = known.astype(float)
    found = _solve(grid, weight, factor)[0]
    for _ in range(2):
        error = np.abs(grid - found)
        usual = 1.4826 * np.median(error[known])
        if usual <= 1e-9:
            break
        weight = known * np.minimum(1, _OUTLIER * usual / np.maximum(error, 1e-12))
        found = _solve(grid, weight, factor)[0]
    return found


def _solve(grid: np.ndarray, weight: np.ndarray, factor: float) -> tuple[np.ndarray, float]:
    """The smoothed values, and the log determinant of the system."""
    n = len(grid)
    bands = np.zeros((3, n))  # upper form: of the second differences' square, and the weights
    bands[2] = 6.0
    bands[2, [0, -1]], bands[2, [1, -2]] = 1.0, 5.0
    bands[1, 1:] = -4.0
    bands[1, [1, -1]] = -2.0
    bands[0, 2:] = 1.0
    if n < 4:  # the general pattern does not fit
        difference = np.diff(np.eye(n), 2, axis=0)
        square = difference.T @ difference
        bands = np.stack([np.r_[np.zeros(k), np.diagonal(square, k)] for k in (2, 1, 0)])
    bands *= factor
    bands[2] += weight
    factored = cholesky_banded(bands)
    return cho_solve_banded((factored, False), weight * grid), 2 * float(np.log(factored[2]).sum())


def _log_likelihood(parts: list[tuple[np.ndarray, np.ndarray]], factor: float) -> float:
    """Restricted likelihood, the noise's variance profiled out over all pieces."""
    squares, logs, count = 0.0, 0.0, 0
    for grid, weight in parts:
        try:
            found, determinant = _solve(grid, weight, factor)
        except LinAlgError:
            return -np.inf
        bend = np.diff(found, 2)
        squares += float((weight * (grid - found) ** 2).sum() + factor * (bend**2).sum())
        logs += determinant - len(bend) * np.log(factor)
        count += int(weight.sum()) - 2
    if squares <= 1e-18:
        return -np.inf
    return -0.5 * (count * np.log(squares / count) + logs)
