"""From confidence maps to coordinates in NumPy: what every other implementation has to agree with.

Engines whose output is maps use these functions. They compute in float64 and search exhaustively
where the compiled layers of a model package take short cuts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dpk_core.checks import check_positive
from dpk_core.errors import ValidationError

NARROWEST = 0.35
"""Map pixels. A Gaussian with a smaller standard deviation falls between the pixels."""

NARROWEST_CURVE = 0.8
"""Map pixels. Neighbouring values of a narrower Gaussian tell too little of its logarithm."""

LOWEST = 1e-6
"""Smaller values have the logarithm of this one."""

SMALLEST = 3
"""Map pixels a side. On a smaller map whole pixels are all that can be told."""

TIE = 1e-5
"""Two maxima closer than this, relative to the larger one, are equal: the first is taken."""

REACH = 0.75
"""Map pixels to each side of the coarse maximum that a fine search covers."""


def maxima(maps: Any, sigma: float = 1.25) -> np.ndarray:
    """The brightest pixel of each map; of several, the first from the top, then from the left.

    Parameters
    ----------
    maps
        (n, h, w, k) confidence maps on the scale 0 to 1.
    sigma
        Standard deviation of the peaks in map pixels; not used here.

    Returns
    -------
    np.ndarray
        (n, k, 3) float32 of x, y in map pixels, (0, 0) the centre of the top-left one, and the
        height of the map clipped to [0, 1]; 0 where the map has a value that is not finite.

    Raises
    ------
    ValidationError
        When the maps are no (n, h, w, k).

    Examples
    --------
    >>> maps = np.zeros((1, 4, 5, 1))
    >>> maps[0, 2, 3, 0] = 0.75
    >>> maxima(maps).tolist()
    [[[3.0, 2.0, 0.75]]]
    """
    images, shape, good = _one_by_one(maps)
    rows, columns = _first_maximum(images)
    return _result(columns, rows, images, good, shape)


def subpixel_maxima(maps: Any, sigma: float = 1.25, upsample_factor: int = 100) -> np.ndarray:
    """Where a Gaussian fits each map best, to ``1 / upsample_factor`` of a map pixel.

    Each map is correlated with a Gaussian at whole pixels, then at all steps around the maximum
    that lie within `REACH`. Every correlation is divided by the norm of the part of the Gaussian
    that lies within the map (within three sigma of the maximum), so that a border that cuts off a
    peak does not draw it inwards.

    Parameters
    ----------
    maps
        (n, h, w, k) confidence maps on the scale 0 to 1.
    sigma
        Standard deviation of the peaks in map pixels (`NARROWEST` if that is more).
    upsample_factor
        Steps to a map pixel.

    Returns
    -------
    np.ndarray
        (n, k, 3) float32, as from `maxima`.

    Raises
    ------
    ValidationError
        When the maps are no (n, h, w, k), or sigma or the factor is out of range.

    References
    ----------
    Guizar-Sicairos, Thurman & Fienup 2008, Optics Letters 33:156; Graving et al. 2019, eLife
    8:e47994, "Subpixel maxima".

    Examples
    --------
    >>> y, x = np.mgrid[:9, :9]
    >>> maps = np.exp(-((x - 3.3) ** 2 + (y - 5.8) ** 2) / 2)[None, :, :, None]
    >>> print(*(f"{v:.2f}" for v in subpixel_maxima(maps, sigma=1.0)[0, 0, :2]))
    3.30 5.80
    """
    sigma = _usable(sigma)
    if not isinstance(upsample_factor, (int, np.integer)) or upsample_factor < 1:
        raise ValidationError(
            f"upsample_factor: expected a whole number from 1, found {upsample_factor!r}"
        )
    images, shape, good = _one_by_one(maps)
    rows, columns = _first_maximum(correlate(images, sigma), TIE)
    reach = int(REACH * upsample_factor) if min(images.shape[1:]) >= SMALLEST else 0
    offsets = np.arange(-reach, reach + 1) / upsample_factor
    found = [
        _search(image, row, column, offsets, sigma)
        for image, row, column in zip(images, rows, columns, strict=True)
    ]
    x, y = np.reshape(found, (-1, 2)).T
    return _result(x, y, images, good, shape)


def dark(maps: Any, sigma: float = 1.25) -> np.ndarray:
    """The top of a parabola through the logarithms of each smoothed map, around its maximum.

    The second-order Taylor expansion is fitted to the maximum and its eight neighbours (one pixel
    further in for a maximum on the border). The result is at most a pixel from the maximum.

    Parameters
    ----------
    maps
        (n, h, w, k) confidence maps on the scale 0 to 1.
    sigma
        Standard deviation of the peaks in map pixels, by which the maps are smoothed
        (`NARROWEST_CURVE` if that is more).

    Returns
    -------
    np.ndarray
        (n, k, 3) float32, as from `maxima`.

    Raises
    ------
    ValidationError
        When the maps are no (n, h, w, k), or sigma is out of range.

    References
    ----------
    Zhang, Zhu, Dai, Ye & Zhu 2020, CVPR, arXiv:1910.06278, "Coordinate decoding".

    Examples
    --------
    >>> y, x = np.mgrid[:15, :15]
    >>> maps = np.exp(-((x - 7.3) ** 2 + (y - 5.8) ** 2) / 4)[None, :, :, None]
    >>> print(*(f"{v:.2f}" for v in dark(maps, sigma=1.0)[0, 0, :2]))
    7.30 5.80
    """
    check_positive("sigma", sigma)
    images, shape, good = _one_by_one(maps)
    smooth = correlate(images, max(float(sigma), NARROWEST_CURVE))
    rows, columns = _first_maximum(smooth, TIE)
    x, y = columns.astype(float), rows.astype(float)
    if min(images.shape[1:]) >= SMALLEST:
        for i, (image, row, column) in enumerate(zip(smooth, rows, columns, strict=True)):
            right, down = _curve_top(image, int(row), int(column))
            x[i], y[i] = column + right, row + down
    return _result(x, y, images, good, shape)


DETECTORS: dict[str, Callable[..., np.ndarray]] = {
    "maxima": maxima,
    "subpixel_maxima": subpixel_maxima,
    "dark": dark,
}
"""By the names under which model packages announce theirs."""


def correlate(images: np.ndarray, sigma: float) -> np.ndarray:
    """(m, h, w) -> the same, correlated with a Gaussian and divided by its norm in the image."""
    _, height, width = images.shape
    rows = _gaussians(np.arange(height), height, sigma)
    columns = _gaussians(np.arange(width), width, sigma)
    with np.errstate(over="ignore", invalid="ignore"):
        return rows @ images @ columns.T


def _one_by_one(maps: Any) -> tuple[np.ndarray, tuple[int, int], np.ndarray]:
    """Maps as (n * k, h, w) float64 without NaN; (n, k); which of them were finite."""
    maps = np.asarray(maps, dtype=np.float64)
    if maps.ndim != 4:
        raise ValidationError(f"maps: expected (n, h, w, k), found {maps.shape}")
    n, height, width, k = maps.shape
    images = maps.transpose(0, 3, 1, 2).reshape(n * k, height, width)
    good = np.isfinite(images).all(axis=(1, 2))
    return np.where(good[:, None, None], images, 0.0), (n, k), good


def _usable(sigma: float) -> float:
    check_positive("sigma", sigma)
    return max(float(sigma), NARROWEST)


def _first_maximum(images: np.ndarray, tie: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the first value of each image within `tie` of the highest."""
    flat = images.reshape(len(images), -1)
    highest = flat.max(axis=1, keepdims=True)
    index = (flat >= highest - tie * np.abs(highest)).argmax(axis=1)
    return np.divmod(index, images.shape[2])


def _search(
    image: np.ndarray, row: int, column: int, offsets: np.ndarray, sigma: float
) -> tuple[float, float]:
    """x and y of the best of all places row + offset, column + offset."""
    radius = math.ceil(3 * sigma)
    top, left = (
        min(max(i - radius, 0), max(n - 2 * radius - 1, 0))
        for i, n in zip((row, column), image.shape, strict=True)
    )
    patch = image[top : top + 2 * radius + 1, left : left + 2 * radius + 1]
    rows = _gaussians(row - top + offsets, patch.shape[0], sigma)
    columns = _gaussians(column - left + offsets, patch.shape[1], sigma)
    i, j = np.divmod((rows @ patch @ columns.T).argmax(), len(offsets))
    return column + offsets[j], row + offsets[i]


def _curve_top(image: np.ndarray, row: int, column: int) -> tuple[float, float]:
    """How far right and down of a maximum the parabola through the logarithms has its top."""
    i = min(max(row, 1), image.shape[0] - 2)
    j = min(max(column, 1), image.shape[1] - 2)
    curve = np.log(np.maximum(image[i - 1 : i + 2, j - 1 : j + 2], LOWEST))
    gradient = np.array([curve[1, 2] - curve[1, 0], curve[2, 1] - curve[0, 1]]) / 2
    xx, yy = curve[1, 0] + curve[1, 2], curve[0, 1] + curve[2, 1]
    xy = (curve[0, 0] + curve[2, 2] - curve[0, 2] - curve[2, 0]) / 4
    hessian = np.array([[xx - 2 * curve[1, 1], xy], [xy, yy - 2 * curve[1, 1]]])
    if not (hessian[0, 0] < 0 and np.linalg.det(hessian) > 0):
        return 0.0, 0.0
    top = np.array([j - column, i - row]) - np.linalg.solve(hessian, gradient)
    right, down = np.clip(top, -1, 1)
    return float(right), float(down)


def _gaussians(centres: np.ndarray, n: int, sigma: float) -> np.ndarray:
    """(g,) centres -> (g, n) Gaussians over n pixels, each of norm 1."""
    gaussians = np.exp(-((centres[:, None] - np.arange(n)) ** 2) / (2 * sigma**2))
    return gaussians / np.linalg.norm(gaussians, axis=1, keepdims=True)


def _result(
    x: np.ndarray,
    y: np.ndarray,
    images: np.ndarray,
    good: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    _, height, width = images.shape
    x, y = np.clip(x, -0.5, width - 0.5), np.clip(y, -0.5, height - 0.5)
    score = np.where(good, np.clip(images.max(axis=(1, 2)), 0.0, 1.0), 0.0)
    return np.stack([x, y, score], axis=-1).reshape(*shape, 3).astype(np.float32)
