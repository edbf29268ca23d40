"""Framing: networks that halve images need sides that can be halved; maps are cut back after."""

from __future__ import annotations

import keras
from keras import layers

Tensor = keras.KerasTensor


def pad(x: Tensor, multiple: int) -> Tensor:
    """(n, h, w, c) -> the same with zeros at the bottom and right, to a multiple of `multiple`.

    Coordinates stay where they are. Pad after normalizing, so that zero is the middle of gray.
    """
    bottom, right = -x.shape[1] % multiple, -x.shape[2] % multiple
    if not bottom and not right:
        return x
    return layers.ZeroPadding2D(((0, bottom), (0, right)), name="pad")(x)


def crop(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """(n, h, w, c) -> the top left of `shape` (height, width): what is not padding."""
    bottom, right = maps.shape[1] - shape[0], maps.shape[2] - shape[1]
    if not bottom and not right:
        return maps
    # Not in the lower precision of other layers, if there is one.
    return layers.Cropping2D(((0, bottom), (0, right)), dtype=maps.dtype)(maps)
