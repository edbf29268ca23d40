"""Layers that Keras lacks: moving pixels into channels and back."""

from __future__ import annotations

import keras
from keras import ops


class _BlockLayer(keras.layers.Layer):
    """A layer without weights that works on square blocks of pixels."""

    def __init__(self, block_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.block_size = int(block_size)

    def get_config(self) -> dict:
        return {**super().get_config(), "block_size": self.block_size}


@keras.saving.register_keras_serializable(package="dpk")
class SpaceToDepth(_BlockLayer):
    """(n, h, w, c) -> (n, h / b, w / b, b * b * c): every block of pixels becomes one.

    Channels are ordered by row within the block, then column, then channel, as in TensorFlow's
    ``space_to_depth``. Both sides must be divisible by the block size.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(4.0, dtype="float32").reshape(1, 2, 2, 1)
    >>> np.asarray(SpaceToDepth()(image)).tolist()
    [[[[0.0, 1.0, 2.0, 3.0]]]]
    """

    def call(self, inputs):
        b = self.block_size
        _, height, width, channels = inputs.shape
        blocks = ops.reshape(inputs, (-1, height // b, b, width // b, b, channels))
        blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))
        return ops.reshape(blocks, (-1, height // b, width // b, b * b * channels))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        n, height, width, channels = input_shape
        b = self.block_size
        return n, height // b, width // b, b * b * channels


@keras.saving.register_keras_serializable(package="dpk")
class DepthToSpace(_BlockLayer):
    """(n, h, w, b * b * c) -> (n, h * b, w * b, c): the inverse of `SpaceToDepth`.

    After a convolution this is the sub-pixel upscaling of Shi et al. 2016, arXiv:1609.05158.

    Examples
    --------
    >>> import numpy as np
    >>> channels = np.arange(4.0, dtype="float32").reshape(1, 1, 1, 4)
    >>> np.asarray(DepthToSpace()(channels))[0, :, :, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """

    def call(self, inputs):
        b = self.block_size
        _, height, width, channels = inputs.shape
        channels //= b * b
        blocks = ops.reshape(inputs, (-1, height, width, b, b, channels))
        blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))
        return ops.reshape(blocks, (-1, height * b, width * b, channels))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        n, height, width, channels = input_shape
        b = self.block_size
        return n, height * b, width * b, channels // (b * b)
