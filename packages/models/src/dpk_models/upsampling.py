"""Bicubic doubling that is the same on every backend; Keras' follows what each backend has."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="dpk")
class BicubicDoubling2D(keras.layers.Layer):
    """(n, h, w, c) -> (n, 2 h, 2 w, c): twice as high and wide, by cubic convolution.

    Pixels are aligned by their outer edges. At the border the weights of the pixels that are there
    are scaled to a sum of 1, as in TensorFlow, JAX and Pillow. Both directions are one product with
    a constant matrix.

    Source: Keys 1981, IEEE Transactions on Acoustics, Speech, and Signal Processing 29:1153, with
    his constant of -1/2 (PyTorch and OpenCV have -3/4).

    Examples
    --------
    >>> import numpy as np
    >>> edge = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], "float32").reshape(1, 6, 1, 1)
    >>> doubled = np.asarray(BicubicDoubling2D()(edge))
    >>> doubled.shape
    (1, 12, 2, 1)
    >>> doubled[0, 3:9, 0, 0].tolist()
    [-0.0234375, -0.0703125, 0.203125, 0.796875, 1.0703125, 1.0234375]
    """

    def call(self, inputs):
        _, height, width, channels = inputs.shape
        rows = ops.convert_to_tensor(_doubling_matrix(height), dtype=self.compute_dtype)
        columns = ops.convert_to_tensor(_doubling_matrix(width), dtype=self.compute_dtype)
        x = ops.reshape(inputs, (-1, height, width * channels))
        x = ops.reshape(ops.matmul(rows, x), (-1, 2 * height, width, channels))
        return ops.matmul(columns, x)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        n, height, width, channels = input_shape
        return n, 2 * height, 2 * width, channels


def _doubling_matrix(n: int) -> np.ndarray:
    """(2 n, n) float32: each row the weights of the old pixels in a new one."""
    new = (np.arange(2 * n) + 0.5) / 2 - 0.5
    weights = _cubic(np.abs(new[:, None] - np.arange(n)))
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


def _cubic(x: np.ndarray) -> np.ndarray:
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
