"""Autoregression: keypoints that are not where their past lets expect them."""

from __future__ import annotations

import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError
from dpk_core.services.suggestions.motion import neighbours

_BISQUARE = 4.685
"""Tukey's constant: 95 % efficient where errors are normal."""
_NORMAL_MAD = 1.4826
_STEPS = 50
_STILL = 1e-6


def autoregressive_residuals(
    keypoints: np.ndarray,
    frames: np.ndarray,
    track_ids: np.ndarray | None = None,
    *,
    order: int = 3,
) -> np.ndarray:
    """Pixels between each keypoint and where an autoregressive model expects it.

    Each coordinate of each keypoint has a model of its own, x[t] = c + a1 x[t-1] + ... +
    ap x[t-p], fitted by `fit_autoregression` over all tracks.

    Parameters
    ----------
    keypoints, frames, track_ids
        As for `dpk_core.services.suggestions.speed`.
    order
        p, the number of frames that the model looks back.

    Returns
    -------
    np.ndarray
        (n, k) float64; NaN where the keypoint, or one of the ``order`` frames before it, is
        missing, or is itself an outlier: what follows a wrong keypoint can't be judged by it.

    Raises
    ------
    ValidationError
        When ``order`` is below 1.

    References
    ----------
    "fitting" in Nath et al. 2019, Nature Protocols 14:2152, which fits ARIMA models and takes
    frames whose keypoints lie far from them; here without a moving average part, and robustly.

    Examples
    --------
    >>> x = 100 * 0.9 ** np.arange(30.0)
    >>> x[20] += 5
    >>> points = np.stack([x, x], axis=1)[:, None]
    >>> found = autoregressive_residuals(points, np.arange(30), order=1)[:, 0]
    >>> int(np.nanargmax(found)), round(float(found[20]), 3)
    (20, 7.071)
    """
    if order < 1:
        raise ValidationError(f"order: expected at least 1, found {order}")
    keypoints = as_array("keypoints", keypoints, np.float64, ("n", "k", 2))
    frames = as_array("frames", frames, np.int64, (len(keypoints),))
    windows = _windows(frames, track_ids, order)
    residuals = np.full(keypoints.shape[:2], np.nan)
    if len(windows):
        for j in range(keypoints.shape[1]):
            residuals[windows[:, 0], j] = _distances(keypoints[:, j], windows, frames)
    return residuals


def fit_autoregression(values: np.ndarray, pasts: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Intercept and coefficients of an autoregressive model, hardly moved by outliers.

    Weighted least squares, again and again: a value's weight is Tukey's bisquare of its residual,
    an equation's that of all values in it. For an outlier spoils the equations in which it stands
    on the right, too, and there its leverage is large. It begins with "stays where it was".

    Parameters
    ----------
    values
        (m,) finite: the left sides.
    pasts
        (m, p) finite: the p values before each, the latest first.
    sources
        (m, p + 1) which value stands where, as positions in ``values``, -1 for one that is on no
        left side: the first column is 0, 1, ..., m - 1.

    Returns
    -------
    np.ndarray
        (p + 1,) c, a1, ..., ap. "Stays where it was" (0, 1, 0, ...) when there are fewer than two
        equations for each unknown.

    References
    ----------
    Generalized M-estimates of Mallows' type: Maronna, Martin, Yohai & Salibian-Barrera 2019,
    "Robust statistics", sections 5.11 and 8.5. Weights: Beaton & Tukey 1974.
    """
    m, p = pasts.shape
    coefficients = np.zeros(p + 1)
    coefficients[1] = 1.0
    if m < 2 * (p + 1):
        return coefficients
    center = np.median(values)
    y, x = values - center, np.column_stack([np.ones(m), pasts - center])
    smallest = _STILL * max(1.0, float(np.abs(values).max()))
    for _ in range(_STEPS):
        residuals = y - x @ coefficients
        weights = _weights(residuals, sources, _scale(residuals, values))
        if np.count_nonzero(weights) < 2 * (p + 1):
            break
        root = np.sqrt(weights)
        found = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
        moved = np.abs(x @ (found - coefficients)).max()
        coefficients = found
        if moved < smallest:
            break
    coefficients = coefficients.copy()
    coefficients[0] += center * (1 - coefficients[1:].sum())
    return coefficients


def _weights(residuals: np.ndarray, sources: np.ndarray, scale: float) -> np.ndarray:
    own = np.maximum(0, 1 - (residuals / (_BISQUARE * scale)) ** 2) ** 2
    return np.where(sources >= 0, own[sources], 1.0).min(axis=1)


def _windows(frames: np.ndarray, track_ids: np.ndarray | None, order: int) -> np.ndarray:
    """(m, order + 1) rows, the latest first, of frames that follow each other without a gap."""
    before, _ = neighbours(frames, track_ids)
    before = np.where((before >= 0) & (frames - frames[before] == 1), before, -1)
    columns = [np.arange(len(frames))]
    for _ in range(order):
        last = columns[-1]
        columns.append(np.where(last >= 0, before[last], -1))
    windows = np.stack(columns, axis=1)
    return windows[(windows >= 0).all(axis=1)]


def _distances(points: np.ndarray, windows: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """(m,) of each window, NaN where a value in it is missing or its past holds an outlier."""
    distances = np.full(len(windows), np.nan)
    known = np.isfinite(points[windows]).all(axis=(1, 2))
    used = windows[known]
    if not len(used):
        return distances
    place = np.full(len(points), -1)
    place[used[:, 0]] = np.arange(len(used))
    residuals = np.stack([_residuals(points[:, axis], used, place) for axis in range(2)], axis=1)
    wild = np.zeros(len(points), bool)
    scales = np.array([_scale(residuals[:, axis], points[:, axis]) for axis in range(2)])
    suspects = np.flatnonzero((np.abs(residuals) > _BISQUARE * scales).any(axis=1))
    for i in suspects[np.argsort(frames[used[suspects, 0]], kind="stable")]:
        wild[used[i, 0]] = not wild[used[i, 1:]].any()
    found = np.linalg.norm(residuals, axis=1)
    found[wild[used[:, 1:]].any(axis=1)] = np.nan
    distances[known] = found
    return distances


def _residuals(series: np.ndarray, windows: np.ndarray, place: np.ndarray) -> np.ndarray:
    values, pasts = series[windows[:, 0]], series[windows[:, 1:]]
    fitted = fit_autoregression(values, pasts, place[windows])
    return values - fitted[0] - pasts @ fitted[1:]


def _scale(residuals: np.ndarray, series: np.ndarray) -> float:
    smallest = _STILL * max(1.0, float(np.nanmax(np.abs(series))))
    return max(_NORMAL_MAD * float(np.median(np.abs(residuals))), smallest)
