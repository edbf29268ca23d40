"""Several animals in one map: drawing it, weighing it, and finding all of its peaks.

What a detector adds to the models; a model's author need not know of it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any

NEAR = 3.0
"""Standard deviations. Farther from all labelled animals the map is practically 0."""

FAR_WEIGHT = 0.1
"""Of pixels far from all labelled animals, where there may be others that nobody labelled."""

WINDOW = 1.0
"""Standard deviations to each side within which only the highest pixel can be a peak, and which
its exact place is told from. In a wider one two that are 2.5 apart draw each other by up to 0.4
map pixels; in this one by less than 0.1, and noise of 3 % moves a peak no more than 0.01 farther.
"""

AT_ONCE = 8
"""Animals whose distances are computed together: memory does not grow with their number."""

FARTHEST = 1e12
"""Squared distance to an animal that is not there; its Gaussian is 0."""

MOST_SHIFT = 1.0
"""Map pixels. A peak that seems farther from its highest pixel is that of a neighbour."""


def draw_centroids(
    points: Tensor, known: Tensor, shape: tuple[int, int], sigma: float, partly_labelled: bool
) -> tuple[Tensor, Tensor]:
    """One map with a Gaussian for each animal: the largest of them at every pixel.

    The maximum, unlike the sum, leaves the top of each Gaussian where it is when two meet (Cao et
    al. 2017, CVPR, arXiv:1611.08050, section 2.2, draw the joints of several people so).

    Parameters
    ----------
    points, known
        (n, m, 2) float32 of x, y in map pixels, finite; and (n, m), 0 where there is no animal.
    shape, sigma
        (height, width) of the map, and the standard deviation in map pixels.
    partly_labelled
        Whether there may be animals that nobody labelled. Then pixels farther than `NEAR` from
        all labelled ones weigh `FAR_WEIGHT`. What is learned is the mean of a pixel's targets: of
        animals that look alike, with a share p of them labelled, it is p where all pixels weigh
        the same, and p / (p + FAR_WEIGHT * (1 - p)) so: 0.91 instead of 0.5.

    Returns
    -------
    maps
        (n, h, w, 1) float32 from 0 to 1.
    weights
        (n, 1, 1, 1), or (n, h, w, 1) where partly labelled. 0 for images without any animal.
    """
    height, width = shape
    rows = ops.arange(height, dtype="float32")[None, :, None, None]
    columns = ops.arange(width, dtype="float32")[None, None, :, None]
    nearest = None
    for start in range(0, points.shape[1], AT_ONCE):
        x, y = (points[:, None, None, start : start + AT_ONCE, axis] for axis in (0, 1))
        there = known[:, None, None, start : start + AT_ONCE] > 0
        squared = ops.where(there, ops.square(columns - x) + ops.square(rows - y), FARTHEST)
        squared = ops.min(squared, axis=-1, keepdims=True)
        nearest = squared if nearest is None else ops.minimum(nearest, squared)
    maps = ops.exp(-nearest / (2 * sigma**2))
    weights = ops.max(known, axis=1)[:, None, None, None]
    if partly_labelled:
        weights = weights * ops.where(nearest <= (NEAR * sigma) ** 2, 1.0, FAR_WEIGHT)
    return maps, weights


@keras.saving.register_keras_serializable(package="dpk")
class SeveralPeaks(keras.layers.Layer):
    """Finds the highest peaks of a map, with a detector of single peaks for their exact places.

    A peak is the highest pixel within `WINDOW` standard deviations, up and down and sideways; of
    equal ones the first from the top, then from the left. The detector looks at that window only.

    Parameters
    ----------
    one_peak
        A `PeakDetector`: (n, h, w, k) maps -> (n, k, 3).
    n_peaks
        To give for each map.
    sigma
        Standard deviation of the peaks in map pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from dpk_models.peaks import SubpixelMaxima2D
    >>> y, x = np.mgrid[:20, :30]
    >>> maps = [h * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2)
    ...         for h, a, b in [(0.5, 4.3, 7), (0.9, 20, 11.8)]]
    >>> find = SeveralPeaks(SubpixelMaxima2D(sigma=1.0), n_peaks=3, sigma=1.0)
    >>> peaks = np.asarray(find(np.max(maps, axis=0)[None, :, :, None].astype("float32")))
    >>> [" ".join(f"{v:.1f}" for v in peak) for peak in peaks[0]]
    ['20.0 11.8 0.9', '4.3 7.0 0.5', '0.0 0.0 0.0']
    """

    def __init__(self, one_peak: Any, n_peaks: int, sigma: float, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.one_peak = one_peak
        self.n_peaks = int(n_peaks)
        self.sigma = float(sigma)
        self.radius = max(1, round(WINDOW * sigma))

    def call(self, maps: Tensor) -> Tensor:
        """(n, h, w, 1) -> (n, n_peaks, 3) of x, y in map pixels and score, the highest first.

        Where there are fewer peaks, the rest has a score of 0.
        """
        height, width = maps.shape[1:3]
        # A network that diverged gives NaN; its peaks are worth nothing but must be numbers.
        maps = ops.where(ops.isfinite(maps), maps, 0.0)
        candidates = ops.reshape(_local_maxima(maps, self.radius), (-1, height * width))
        found = min(self.n_peaks, height * width)
        scores, places = ops.top_k(candidates, found)
        places = ops.cast(places, "int32")
        row, column = places // width, places % width
        x, y = self._refine(maps, row, column)
        scores = ops.clip(scores, 0.0, 1.0)
        peaks = ops.stack([x, y, scores], axis=-1)
        return ops.pad(peaks, ((0, 0), (0, self.n_peaks - found), (0, 0)))

    def _refine(self, maps: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """x and y (n, m) float32 of the peaks whose highest pixels are given."""
        _, height, width, _ = maps.shape
        p, q = min(2 * self.radius + 1, height), min(2 * self.radius + 1, width)
        top = ops.clip(row - self.radius, 0, height - p)
        left = ops.clip(column - self.radius, 0, width - q)
        first = ops.arange(ops.shape(maps)[0], dtype="int32")[:, None] * (height * width)
        steps = (np.arange(p)[:, None] * width + np.arange(q)).ravel().astype("int32")
        index = (first + top * width + left)[..., None] + ops.convert_to_tensor(steps)
        patches = ops.take(ops.reshape(maps, (-1,)), index, axis=0)
        patches = ops.reshape(ops.swapaxes(patches, 1, 2), (-1, p, q, row.shape[1]))
        peaks = self.one_peak(patches)
        exact = (
            ops.cast(left, "float32") + peaks[..., 0],
            ops.cast(top, "float32") + peaks[..., 1],
        )
        pixel = ops.cast(column, "float32"), ops.cast(row, "float32")
        shift = ops.maximum(ops.abs(exact[0] - pixel[0]), ops.abs(exact[1] - pixel[1]))
        near = shift <= MOST_SHIFT
        return ops.where(near, exact[0], pixel[0]), ops.where(near, exact[1], pixel[1])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape[0], self.n_peaks, 3


def _local_maxima(maps: Tensor, radius: int) -> Tensor:
    """(n, h, w, 1): the value where it is the first highest within the radius, 0 elsewhere."""
    _, height, width, _ = maps.shape
    # Pixels in reading order, the first with the highest number: whole numbers, exact in float32.
    order = np.arange(height * width, 0, -1, dtype="float32").reshape(1, height, width, 1)
    highest = ops.where(maps >= _highest_around(maps, radius), ops.convert_to_tensor(order), 0.0)
    is_first = ops.logical_and(highest > 0, highest >= _highest_around(highest, radius))
    return ops.where(is_first, maps, 0.0)


def _highest_around(maps: Tensor, radius: int) -> Tensor:
    size = 2 * radius + 1
    return ops.max_pool(maps, size, strides=1, padding="same", data_format="channels_last")
