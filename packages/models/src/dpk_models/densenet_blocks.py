"""The blocks of Stacked DenseNet and how they are connected.

Source: Graving et al. 2019, eLife 8:e47994, "Stacked DenseNet", after the fully convolutional
DenseNet of Jegou et al. 2017 (CVPRW); the wiring is that of DeepPoseKit 0.3.9.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import keras
from keras import layers

from dpk_models.backbones import Backbone
from dpk_models.layers import DepthToSpace, SpaceToDepth

Tensor = keras.KerasTensor


@attrs.frozen
class Wiring:
    """How the blocks are connected; every method takes and gives tensors."""

    growth_rate: int
    bottleneck_factor: float
    compression_factor: float
    seeds: Iterator[int | None]
    separable: bool = False

    def front_end(self, x: Tensor, n_halvings: int) -> Tensor:
        """Images to features at the output stride, from every scale on the way."""
        x = concatenate(
            [
                SpaceToDepth(2, name="front_space_to_depth")(x),
                self._convolve(x, self.growth_rate, 7, "front_conv7x7", strides=2),
            ]
        )
        scales = []
        for level in range(1, n_halvings):
            x = self._dense_block(x, level, f"front{level}")
            to_output = 2 ** (n_halvings - level)
            scales.append(self._transition_down(x, f"front{level}_out", pool_size=to_output))
            x = self._transition_down(x, f"front{level}_down")
        scales.append(self._dense_block(x, n_halvings, f"front{n_halvings}"))
        return concatenate(
            [self._compress(s, f"front{i}_skip") for i, s in enumerate(scales, start=1)]
        )

    def pretrained_front_end(self, x: Tensor, backbone: Backbone) -> Tensor:
        """Normalized images to a backbone's features, as compressed as skip connections are."""
        x = backbone.features(x, self.seeds)
        x = layers.BatchNormalization(name="front_normalize")(x)
        return self._compress(layers.ReLU(name="front_relu")(x), "front_skip")

    def encoder_decoder(self, x: Tensor, n_levels: int, width: int, name: str) -> Tensor:
        """Halves `n_levels` times and doubles as often, with skip connections on every level."""
        skips = [x]
        x = self._transition_down(x, f"{name}_down0")
        for level in range(1, n_levels):
            x = self._dense_block(x, level + width, f"{name}_down{level}")
            skips.append(x)
            x = self._transition_down(x, f"{name}_down{level}")
        skips.append(x)
        skips = [self._compress(s, f"{name}_skip{i}") for i, s in enumerate(skips)]
        x = self._dense_block(x, width, f"{name}_encoded")
        for level in reversed(range(n_levels)):
            x = concatenate([x, skips[level + 1]])
            x = self._dense_block(x, level + width, f"{name}_up{level}")
            x = self._transition_up(x, f"{name}_up{level}")
        x = concatenate([x, skips[0]])
        return self._dense_block(x, width, f"{name}_decoded")

    def output(self, x: Tensor, n_channels: int, stack: int) -> Tensor:
        return layers.Conv2D(
            n_channels,
            1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=next(self.seeds)),
            dtype="float32",  # also in mixed precision: 16 bits are too coarse for maps
            name=f"output_{stack}",
        )(x)

    def _dense_block(self, x: Tensor, width: int, name: str) -> Tensor:
        """Adds `width` (1 to 3) times the growth rate in channels to those of x."""
        filters = self.growth_rate * min(max(width, 1), 3)
        bottleneck = max(1, round(filters * self.bottleneck_factor))
        added = self._convolve(x, bottleneck, 1, f"{name}_conv1x1")
        convolve = self._convolve_separably if self.separable else self._convolve
        added = convolve(added, filters, 3, f"{name}_conv3x3")
        return concatenate([x, added])

    def _compress(self, x: Tensor, name: str) -> Tensor:
        return self._convolve(x, self._compressed(x), 1, name)

    def _transition_down(self, x: Tensor, name: str, pool_size: int = 2) -> Tensor:
        pooled = layers.MaxPooling2D(pool_size, name=f"{name}_pool")(x)
        return self._convolve(pooled, self._compressed(x), 1, f"{name}_transition")

    def _transition_up(self, x: Tensor, name: str) -> Tensor:
        # The nearest number of channels that 2x2 pixels can be made of; a tie goes down.
        filters = max(4, (self._compressed(x) + 1) // 4 * 4)
        x = self._convolve(x, filters, 1, f"{name}_transition")
        return DepthToSpace(2, name=f"{name}_depth_to_space")(x)

    def _compressed(self, x: Tensor) -> int:
        return max(1, round(x.shape[-1] * self.compression_factor))

    def _convolve(self, x: Tensor, filters: int, size: int, name: str, strides: int = 1) -> Tensor:
        return layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            activation="selu",
            kernel_initializer=keras.initializers.LecunNormal(seed=next(self.seeds)),
            name=name,
        )(x)

    def _convolve_separably(self, x: Tensor, filters: int, size: int, name: str) -> Tensor:
        """Every channel by itself, then all of them in each pixel (Chollet 2017, CVPR)."""
        # Each filter sees one channel. Keras counts all of them as its inputs, which would start
        # it smaller by the root of their number than LeCun's rule asks.
        each = keras.initializers.VarianceScaling(x.shape[-1], "fan_in", seed=next(self.seeds))
        return layers.SeparableConv2D(
            filters,
            size,
            padding="same",
            activation="selu",
            depthwise_initializer=each,
            pointwise_initializer=keras.initializers.LecunNormal(seed=next(self.seeds)),
            name=name,
        )(x)


def concatenate(tensors: list[Tensor]) -> Tensor:
    """Channels of all, in this order."""
    return layers.Concatenate()(tensors) if len(tensors) > 1 else tensors[0]


def normalize_maps(maps: Tensor, name: str) -> Tensor:
    """Maps as an input of the next stack: of about the size of other features."""
    return layers.BatchNormalization(name=f"{name}_normalize")(maps)
