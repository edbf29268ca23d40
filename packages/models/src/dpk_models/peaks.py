"""Peak detectors: from confidence maps to coordinates, inside the compiled prediction."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from dpk_core.checks import check_positive
from dpk_core.errors import ValidationError
from dpk_core.interfaces import PeakDetector
from dpk_core.services.peaks import LOWEST, NARROWEST, NARROWEST_CURVE, REACH, SMALLEST, TIE
from dpk_models.device import has_accelerator

Tensor = Any

FINE = 0.1
"""Sigma. Between places that lie no farther apart, the correlation is as good as a parabola."""


class _MapLayer(keras.layers.Layer, PeakDetector):
    """What the detectors here share: they are Keras layers without weights, in float32."""

    def __init__(self, sigma: float = 1.25, **kwargs: Any) -> None:
        # Coordinates need all 24 bits, also where the network runs in half precision.
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        check_positive("sigma", sigma)
        self.sigma = float(sigma)

    def call(self, maps: Tensor) -> Tensor:
        if len(maps.shape) != 4:
            raise ValidationError(f"maps: expected (n, h, w, k), found {tuple(maps.shape)}")
        height, width = maps.shape[1:3]
        x, y, is_finite = self.locate(maps)
        x, y = ops.clip(x, -0.5, width - 0.5), ops.clip(y, -0.5, height - 0.5)
        score = ops.clip(ops.max(ops.max(maps, axis=2), axis=1), 0.0, 1.0)
        # A network that diverged gives NaN; its peaks are worth nothing but must be numbers.
        return ops.stack([x, y, ops.where(is_finite, score, 0.0)], axis=-1)

    def locate(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, h, w, k) -> x, y, and whether all of the map was finite; each (n, k).

        x and y are float32 and finite whatever the maps are.
        """
        raise NotImplementedError

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape[0], input_shape[3], 3

    def get_config(self) -> dict:
        return {**super().get_config(), "sigma": self.sigma}


@keras.saving.register_keras_serializable(package="dpk")
class Maxima2D(_MapLayer):
    """The brightest pixel of each map; of several, the first from the top, then from the left.

    Parameters
    ----------
    sigma
        Standard deviation of the peaks in map pixels; not used here.

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.zeros((1, 4, 5, 1), "float32")
    >>> maps[0, 2, 3, 0] = 0.75
    >>> np.asarray(Maxima2D(sigma=1.0)(maps)).tolist()
    [[[3.0, 2.0, 0.75]]]
    """

    def locate(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        column, row = _first_maximum(maps)
        is_finite = ops.isfinite(ops.sum(ops.sum(maps, axis=2), axis=1))
        return ops.cast(column, "float32"), ops.cast(row, "float32"), is_finite


@keras.saving.register_keras_serializable(package="dpk")
class SubpixelMaxima2D(_MapLayer):
    """Where a Gaussian fits each map best, to a hundredth of a map pixel.

    The map is correlated with a Gaussian of the width that it was trained on, at whole pixels
    over the map and then around the maximum every tenth of sigma; a parabola through the best of
    these and its neighbours gives the rest, rounded to ``1 / upsample_factor`` pixels. A map
    without a peak gives a point within it and a score near 0; of two equal peaks the first from
    the top, then from the left, is taken; a peak at the border is found as well as one in the
    middle, and one beyond it is put on it. The result is never more than a pixel from the whole
    pixel that fits best.

    Parameters
    ----------
    sigma
        Standard deviation of the peaks in map pixels (`NARROWEST` if that is more).
    upsample_factor
        Steps to a map pixel.

    Notes
    -----
    This is the alignment of Guizar-Sicairos, Thurman & Fienup 2008, Optics Letters 33:156, that
    Graving et al. 2019 use: cross-correlate, then upsample the correlation by matrix products
    around its maximum. They resample it through the DFT, which takes map and Gaussian to repeat
    beyond the border. As the second image is a Gaussian, known at every fraction of a pixel,
    its shifted copies are used instead of Fourier terms: in the middle of a map the two agree to
    rounding, and nothing wraps around. Each correlation is divided by the norm of that part of
    the shifted Gaussian that lies within the map (or within three sigma of the maximum). By the
    Cauchy-Schwarz inequality it is then largest at the true place even where the border cuts a
    peak off; without this, a peak on the border would be drawn inwards by 0.7 sigma. Over
    a tenth of sigma the correlation is so smooth that the parabola gives what a search over all
    hundredths gives (as `dpk_core.services.peaks` does it, to which this is compared).

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:9, :9]
    >>> maps = np.exp(-((x - 3.3) ** 2 + (y - 5.8) ** 2) / 2)[None, :, :, None]
    >>> x, y, score = np.asarray(SubpixelMaxima2D(sigma=1.0)(maps))[0, 0]
    >>> print(f"{x:.2f} {y:.2f}")
    3.30 5.80
    """

    def __init__(self, sigma: float = 1.25, upsample_factor: int = 100, **kwargs: Any) -> None:
        super().__init__(sigma, **kwargs)
        if not isinstance(upsample_factor, (int, np.integer)) or upsample_factor < 1:
            raise ValidationError(
                f"upsample_factor: expected a whole number from 1, found {upsample_factor!r}"
            )
        self.upsample_factor = int(upsample_factor)

    def locate(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigma = max(self.sigma, NARROWEST)
        fit = _correlate(maps, sigma)
        column, row = _first_maximum(fit, TIE)
        # Every map pixel is in every sum of products: one that is not finite makes all so.
        is_finite = ops.isfinite(fit[:, 0, 0, :])
        x, y = ops.cast(column, "float32"), ops.cast(row, "float32")
        if self.upsample_factor > 1 and min(maps.shape[1:3]) >= SMALLEST:
            right, down = _fine_shift(maps, column, row, sigma)
            x, y = x + self._on_grid(right), y + self._on_grid(down)
        return x, y, is_finite

    def _on_grid(self, shift: Tensor) -> Tensor:
        return ops.round(shift * self.upsample_factor) / self.upsample_factor

    def get_config(self) -> dict:
        return {**super().get_config(), "upsample_factor": self.upsample_factor}


@keras.saving.register_keras_serializable(package="dpk")
class Dark2D(_MapLayer):
    """The top of a parabola through the logarithms of each smoothed map, around its maximum.

    The logarithm of a Gaussian is a parabola whatever its width, so peaks wider than those that
    the network learned, as it draws them where it is in doubt, lie where they should. It takes
    about two thirds of the time of `SubpixelMaxima2D`. It is never more than a pixel from the
    brightest one of the smoothed map; ties and borders are dealt with as in `SubpixelMaxima2D`.

    Parameters
    ----------
    sigma
        Standard deviation of the peaks in map pixels, by which the maps are smoothed
        (`NARROWEST_CURVE` if that is more).

    Notes
    -----
    The distribution-aware decoding of Zhang, Zhu, Dai, Ye & Zhu 2020, CVPR, arXiv:1910.06278:
    smooth, take the logarithm, and go to the top of its second-order Taylor expansion at the
    maximum. Unlike there, the maximum is the one of the smoothed map, which noise moves less; and
    the smoothing Gaussian has norm 1 within the map, not sum 1. Zeros beyond the border draw the
    smoothed peak inwards half as much as they lower the sum of squares, so that dividing by the
    root of that puts it back.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:15, :15]
    >>> maps = np.exp(-((x - 7.3) ** 2 + (y - 5.8) ** 2) / 4)[None, :, :, None]
    >>> x, y, score = np.asarray(Dark2D(sigma=1.0)(maps))[0, 0]
    >>> print(f"{x:.2f} {y:.2f}")
    7.30 5.80
    """

    def locate(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fit = _correlate(maps, max(self.sigma, NARROWEST_CURVE))
        column, row = _first_maximum(fit, TIE)
        is_finite = ops.isfinite(fit[:, 0, 0, :])
        x, y = ops.cast(column, "float32"), ops.cast(row, "float32")
        if min(maps.shape[1:3]) >= SMALLEST:
            right, down = _curve_top(fit, column, row)
            x, y = x + right, y + down
        return x, y, is_finite


def _curve_top(fit: Tensor, column: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """How far right and down of each maximum the logarithm of the map has its top."""
    _, height, width, k = fit.shape
    # On the border the parabola goes through the values one pixel further in.
    centre_column, centre_row = ops.clip(column, 1, width - 2), ops.clip(row, 1, height - 2)
    centre = _first_pixels(fit) + (centre_row * width + centre_column) * k
    near = _pick(fit, centre[..., None] + ops.convert_to_tensor(k * _around(width), "int32"))
    logarithms = ops.log(ops.maximum(near, LOWEST))
    right, down, is_top = _top_of_parabola([logarithms[..., i] for i in range(9)])
    right = right + ops.cast(centre_column - column, "float32")
    down = down + ops.cast(centre_row - row, "float32")
    shifts = [ops.where(is_top, ops.clip(way, -1.0, 1.0), 0.0) for way in (right, down)]
    return shifts[0], shifts[1]


def _around(width: int) -> np.ndarray:
    """Offsets of a pixel and its neighbours in an image of that width, row by row."""
    return (np.arange(-1, 2)[:, None] * width + np.arange(-1, 2)).ravel()


def _first_maximum(maps: Tensor, tie: float = 0.0) -> tuple[Tensor, Tensor]:
    """(n, h, w, k) -> column and row, (n, k) int32, of the first value within `tie` of the top."""
    _, _, width, k = maps.shape
    of_rows = ops.max(maps, axis=2)
    highest = ops.max(of_rows, axis=1, keepdims=True)
    enough = highest - tie * ops.abs(highest)
    row = _first_true(of_rows >= enough, axis=1)
    in_row = (_first_pixels(maps) + row * (width * k))[..., None]
    line = _pick(maps, in_row + ops.convert_to_tensor(k * np.arange(width), "int32"))
    return _first_true(line >= ops.swapaxes(enough, 1, 2), axis=2), row


def _first_true(values: Tensor, axis: int) -> Tensor:
    # Keras' argmax of floats takes several passes to care for negative zeros.
    return ops.cast(ops.argmax(ops.cast(values, "int32"), axis=axis), "int32")


def _first_pixels(maps: Tensor) -> Tensor:
    """(n, k) int32: where each map's first pixel lies in the flattened (n, h, w, k)."""
    _, height, width, k = maps.shape
    images = ops.arange(ops.shape(maps)[0], dtype="int32") * (height * width * k)
    return images[:, None] + ops.arange(k, dtype="int32")


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """The values at the given places of the flattened array.

    Places count in int32: enough for maps of 8 GB at once.
    """
    return ops.take(ops.reshape(values, (-1,)), index, axis=0)


def _correlate(maps: Tensor, sigma: float) -> Tensor:
    """(n, h, w, k) -> the same, correlated with a Gaussian and divided by its norm in the map."""
    _, height, width, k = maps.shape
    rows, columns = _whole_gaussians(height, sigma), _whole_gaussians(width, sigma)
    # Both factors have the same number of axes: OpenVINO multiplies no others of some shapes.
    fit = ops.matmul(rows[None], ops.reshape(maps, (-1, height, width * k)))
    return ops.matmul(columns[None, None], ops.reshape(fit, (-1, height, width, k)))


def _whole_gaussians(n: int, sigma: float) -> np.ndarray:
    """(n, n) float32: row i is a Gaussian around i, of norm 1."""
    i = np.arange(n)
    gaussians = np.exp(-((i[:, None] - i) ** 2) / (2 * sigma**2))
    gaussians /= np.linalg.norm(gaussians, axis=1, keepdims=True)
    return gaussians.astype("float32")


def _fine_shift(maps: Tensor, column: Tensor, row: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """How far right and down of each whole pixel the Gaussian fits best, in map pixels."""
    patch, left, top = _cut_patches(maps, column, row, math.ceil(3 * sigma))
    _, _, p, q = patch.shape
    steps = max(4, math.ceil(1 / (FINE * sigma)))
    rows = ops.take(_shifted_gaussians(p, sigma, steps), row - top, axis=0)
    columns = ops.take(_shifted_gaussians(q, sigma, steps), column - left, axis=0)
    fit = _exact_matmul(_exact_matmul(rows, patch), ops.swapaxes(columns, 2, 3))
    right, down = _summit(fit)
    return right / steps, down / steps


def _cut_patches(
    maps: Tensor, column: Tensor, row: Tensor, radius: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Patches (n, k, p, q) around each maximum, moved to lie within the map; left and top."""
    _, height, width, k = maps.shape
    p, q = min(2 * radius + 1, height), min(2 * radius + 1, width)
    top = ops.clip(row - radius, 0, height - p)
    left = ops.clip(column - radius, 0, width - q)
    steps = ((np.arange(p)[:, None] * width + np.arange(q)) * k).ravel().astype("int32")
    corner = (_first_pixels(maps) + (top * width + left) * k)[..., None]
    patch = _pick(maps, corner + ops.convert_to_tensor(steps))
    return ops.reshape(patch, (-1, k, p, q)), left, top


def _shifted_gaussians(n: int, sigma: float, steps: int) -> np.ndarray:
    """(n, g, n) float32: around each of n pixels, g Gaussians 1 / steps apart, each of norm 1."""
    reach = math.ceil(REACH * steps)
    centres = np.arange(n)[:, None] + np.arange(-reach, reach + 1) / steps
    gaussians = np.exp(-((centres[..., None] - np.arange(n)) ** 2) / (2 * sigma**2))
    gaussians /= np.linalg.norm(gaussians, axis=2, keepdims=True)
    return gaussians.astype("float32")


def _summit(fit: Tensor) -> tuple[Tensor, Tensor]:
    """(n, k, g, g) -> how many steps right and down of its middle the maximum of each lies.

    A parabola through the best step and its eight neighbours says where between the steps.
    """
    _, k, g, _ = fit.shape
    flat = ops.reshape(fit, (-1, k, g * g))
    best = _first_true(flat >= ops.max(flat, axis=2, keepdims=True), axis=2)
    row, column = ops.clip(best // g, 1, g - 2), ops.clip(best % g, 1, g - 2)
    first = ops.arange(ops.shape(fit)[0], dtype="int32") * (k * g * g)
    first = first[:, None] + ops.convert_to_tensor(g * g * np.arange(k), "int32")
    near = first + row * g + column
    near = _pick(fit, near[..., None] + ops.convert_to_tensor(_around(g), "int32"))
    right, down, _ = _top_of_parabola([near[..., i] for i in range(9)])
    right, down = ops.clip(right, -1.0, 1.0), ops.clip(down, -1.0, 1.0)
    middle = g // 2
    return (
        ops.cast(column - middle, "float32") + right,
        ops.cast(row - middle, "float32") + down,
    )


def _top_of_parabola(values: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Nine neighbouring values, row by row -> x and y of the top, 0 without one; if there is."""
    dx, dy = (values[5] - values[3]) / 2, (values[7] - values[1]) / 2
    dxx = values[5] - 2 * values[4] + values[3]
    dyy = values[7] - 2 * values[4] + values[1]
    dxy = (values[8] - values[6] - values[2] + values[0]) / 4
    bend = dxx * dyy - dxy * dxy
    is_top = ops.logical_and(bend > 0, dxx < 0)
    bend = ops.where(is_top, bend, 1.0)
    x = ops.where(is_top, (dxy * dy - dyy * dx) / bend, 0.0)
    y = ops.where(is_top, (dxy * dx - dxx * dy) / bend, 0.0)
    return x, y, is_top


def _exact_matmul(a: Tensor, b: Tensor) -> Tensor:
    """A matrix product in full float32.

    Accelerators round the factors of a matrix product to 11 bits or fewer unless told otherwise
    in each framework's own words. A hundredth of a pixel is lost in that; sums of products are
    exact everywhere, and quick where the compiler fuses them.
    """
    if has_accelerator():
        return ops.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)
    return ops.matmul(a, b)
