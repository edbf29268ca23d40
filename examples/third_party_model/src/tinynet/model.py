"""TinyNet: three strided convolutions and back up to the size of the maps."""

from __future__ import annotations

import keras
from keras import layers

from dpk_core import Task
from dpk_models import PoseModel, pose_model


@pose_model
class TinyNet(PoseModel):
    """A small network with one output.

    Parameters
    ----------
    filters
        Channels of the first convolution.
    """

    filters: int = 16

    def build(self, task: Task) -> keras.Model:
        images = keras.Input(task.image_shape, dtype="uint8")
        x = layers.Rescaling(1 / 127.5, offset=-1)(images)
        for level in range(task.downsample_factor):
            x = layers.Conv2D(self.filters * 2**level, 3, 2, "same", activation="relu")(x)
        for _ in range(3):
            x = layers.Conv2D(4 * self.filters, 5, padding="same", activation="relu")(x)
        return keras.Model(images, layers.Conv2D(task.n_output_channels, 1)(x))
