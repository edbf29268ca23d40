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
from dpk_models.device import has_accelerator

Tensor = Any

NARROWEST = 0.5
"""Map pixels. A Gaussian with a smaller standard deviation falls between the pixels."""

TIE = 1e-5
"""Two maxima closer than this, relative to the larger one, are equal: the first is taken."""

REACH = 0.75
"""Map pixels to each side of the coarse maximum that the fine search covers."""


def to_image_coordinates(peaks: Tensor, stride: int) -> Tensor:
    """(..., 2) of x, y in map pixels -> pixels of the image that the network saw."""
    return (peaks + 0.5) * stride - 0.5


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
        maps = ops.transpose(maps, (0, 3, 1, 2))
        x, y = self.locate(maps)
        x, y = ops.clip(x, -0.5, width - 0.5), ops.clip(y, -0.5, height - 0.5)
        score = ops.clip(ops.max(maps, axis=(2, 3)), 0.0, 1.0)
        # A network that diverged gives NaN; its peaks are worth nothing but must be numbers.
        is_finite = ops.isfinite(ops.sum(maps, axis=(2, 3)))
        return ops.stack([x, y, ops.where(is_finite, score, 0.0)], axis=-1)

    def locate(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(n, k, h, w) -> x and y, each (n, k) float32 and finite whatever the maps are."""
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

    def locate(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        x, y = _first_maximum(maps)
        return ops.cast(x, "float32"), ops.cast(y, "float32")


@keras.saving.register_keras_serializable(package="dpk")
class SubpixelMaxima2D(_MapLayer):
    """Where a Gaussian fits each map best, to a hundredth of a map pixel.

    The map is correlated with a Gaussian of the width that it was trained on, at whole pixels
    over the map and then around the maximum at ``1 / upsample_factor`` pixels. A map without a
    peak gives a point within it and a score near 0; of two equal peaks the first from the top,
    then from the left, is taken; a peak at the border is found as well as one in the middle,
    and one beyond it is put on it. The result is never more than a pixel from the whole pixel
    that fits best.

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
    peak off; without this, a peak on the border would be drawn inwards by 0.7 sigma.

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

    def locate(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        sigma = max(self.sigma, NARROWEST)
        column, row = _first_maximum(_correlate(maps, sigma), TIE)
        patch, left, top = _cut_patches(maps, column, row, math.ceil(3 * sigma))
        x, y = ops.cast(column - left, "float32"), ops.cast(row - top, "float32")
        for offsets in _search_steps(self.upsample_factor):
            x, y = _best_of(patch, x, y, offsets, sigma)
        return x + ops.cast(left, "float32"), y + ops.cast(top, "float32")

    def get_config(self) -> dict:
        return {**super().get_config(), "upsample_factor": self.upsample_factor}


def _first_maximum(maps: Tensor, tie: float = 0.0) -> tuple[Tensor, Tensor]:
    """(n, k, h, w) -> column and row, (n, k) int32, of the first value within `tie` of the top."""
    _, k, height, width = maps.shape
    of_rows = ops.max(maps, axis=3)
    highest = ops.max(of_rows, axis=2, keepdims=True)
    enough = highest - tie * ops.abs(highest)
    row = _first_true(of_rows >= enough)
    in_row = row[..., None] * width + ops.arange(width, dtype="int32")
    line = ops.take_along_axis(ops.reshape(maps, (-1, k, height * width)), in_row, axis=2)
    return _first_true(line >= enough), row


def _first_true(values: Tensor) -> Tensor:
    # Of whole numbers: Keras' argmax of floats has operations that ONNX lacks.
    return ops.cast(ops.argmax(ops.cast(values, "int32"), axis=-1), "int32")


def _correlate(maps: Tensor, sigma: float) -> Tensor:
    """(n, k, h, w) -> the same, correlated with a Gaussian and divided by its norm in the map."""
    _, _, height, width = maps.shape
    rows, columns = _whole_gaussians(height, sigma), _whole_gaussians(width, sigma)
    return ops.matmul(rows, ops.matmul(maps, columns.T))


def _whole_gaussians(n: int, sigma: float) -> np.ndarray:
    """(n, n) float32: row i is a Gaussian around i, of norm 1."""
    i = np.arange(n)
    gaussians = np.exp(-((i[:, None] - i) ** 2) / (2 * sigma**2))
    gaussians /= np.linalg.norm(gaussians, axis=1, keepdims=True)
    return gaussians.astype("float32")


def _cut_patches(
    maps: Tensor, column: Tensor, row: Tensor, radius: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Patches (n, k, p, q) around each maximum, moved to lie within the map; left and top."""
    _, k, height, width = maps.shape
    p, q = min(2 * radius + 1, height), min(2 * radius + 1, width)
    top = ops.clip(row - radius, 0, height - p)
    left = ops.clip(column - radius, 0, width - q)
    steps = (np.arange(p)[:, None] * width + np.arange(q)).ravel().astype("int32")
    index = (top * width + left)[..., None] + ops.convert_to_tensor(steps)
    patch = ops.take_along_axis(ops.reshape(maps, (-1, k, height * width)), index, axis=2)
    return ops.reshape(patch, (-1, k, p, q)), left, top


def _search_steps(upsample_factor: int) -> list[np.ndarray]:
    """Offsets to try in turn, each around the best of those before: ever finer.

    The correlation has one maximum within a pixel, so that two short rounds find the same as one
    over all steps, at a thirtieth of the cost.
    """
    if upsample_factor == 1:
        return []
    stride = round(math.sqrt(upsample_factor))
    n_strides = int(REACH * upsample_factor / stride)
    coarse = np.arange(-n_strides, n_strides + 1) * stride
    fine = np.arange(1 - stride, stride)
    return [(steps / upsample_factor).astype("float32") for steps in (coarse, fine)]


def _best_of(
    patch: Tensor, x: Tensor, y: Tensor, offsets: np.ndarray, sigma: float
) -> tuple[Tensor, Tensor]:
    """Of all places x + offset, y + offset in a patch, the one where the Gaussian fits best."""
    _, k, p, q = patch.shape
    n_offsets = len(offsets)
    offsets = ops.convert_to_tensor(offsets)
    rows = _shifted_gaussians(y[..., None] + offsets, p, sigma)
    columns = _shifted_gaussians(x[..., None] + offsets, q, sigma)
    fit = _exact_matmul(_exact_matmul(rows, patch), ops.swapaxes(columns, 2, 3))
    fit = ops.reshape(fit, (-1, k, n_offsets * n_offsets))
    best = _first_true(fit >= ops.max(fit, axis=-1, keepdims=True))
    return x + ops.take(offsets, best % n_offsets), y + ops.take(offsets, best // n_offsets)


def _shifted_gaussians(centres: Tensor, n: int, sigma: float) -> Tensor:
    """(n, k, g) centres -> (n, k, g, p) Gaussians over p pixels, each of norm 1."""
    distance = ops.arange(n, dtype="float32") - centres[..., None]
    gaussians = ops.exp(-ops.square(distance) / (2 * sigma**2))
    return gaussians * ops.rsqrt(ops.sum(ops.square(gaussians), axis=-1, keepdims=True))


def _exact_matmul(a: Tensor, b: Tensor) -> Tensor:
    """A matrix product in full float32.

    Accelerators round the factors of a matrix product to 11 bits or fewer unless told otherwise
    in each framework's own words. A hundredth of a pixel is lost in that; sums of products are
    exact everywhere, and quick where the compiler fuses them.
    """
    if has_accelerator():
        return ops.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)
    return ops.matmul(a, b)
