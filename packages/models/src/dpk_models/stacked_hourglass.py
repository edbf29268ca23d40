"""Stacked Hourglass: residual encoder-decoders, one after the other.

Source: Newell, Yang & Deng 2016, ECCV, "Stacked hourglass networks for human pose estimation", as
Graving et al. 2019 (eLife 8:e47994) compare with it; the wiring is that of DeepPoseKit 0.3.9, so
that the numbers of parameters agree with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import keras
import numpy as np
from keras import layers

from dpk_core.errors import ValidationError
from dpk_core.task import Task
from dpk_models.base import PoseModel, pose_model
from dpk_models.framing import crop, pad
from dpk_models.halvings import count_transitions
from dpk_models.seeding import seeds_from

Tensor = keras.KerasTensor

N_INNERMOST = 3
"""Residual blocks between an encoder and its decoder."""


@pose_model
class StackedHourglass(PoseModel):
    """Stacked Hourglass of Newell et al. 2016.

    Parameters
    ----------
    source
        A `TrainingGenerator` to train from, or only a `Task`. Its ``downsample_factor`` must be
        1 or more.
    filters
        Channels of every block.
    bottleneck_factor
        The 3x3 convolution of a block has this many times fewer channels.
    n_stacks
        Hourglasses in a row, each with its own output (intermediate supervision).
    n_transitions
        How many times the image is halved, from the image to the innermost maps. -1: as often as
        both sides can be halved (see `dpk_models.halvings.count_transitions`); -2: once less, and
        so on.

    Examples
    --------
    >>> from dpk_core.testing import dot_annotations
    >>> from dpk_core import TrainingGenerator
    >>> generator = TrainingGenerator(dot_annotations(), augmenter=None)
    >>> StackedHourglass(generator, filters=16, n_stacks=2).network.output_shape
    [(None, 12, 16, 8), (None, 12, 16, 8)]
    """

    filters: int = 256
    bottleneck_factor: int = 2
    n_stacks: int = 1
    n_transitions: int = -1

    def build(self, task: Task) -> keras.Model:
        return build_network(
            task,
            filters=self.filters,
            bottleneck_factor=self.bottleneck_factor,
            n_stacks=self.n_stacks,
            n_transitions=self.n_transitions,
        )


def build_network(
    task: Task,
    *,
    filters: int = 256,
    bottleneck_factor: int = 2,
    n_stacks: int = 1,
    n_transitions: int = -1,
    seed: int | None = None,
) -> keras.Model:
    """The network: one image to one set of maps a stack.

    Parameters
    ----------
    task
        Fixes image shape, output stride and channels. Its `downsample_factor` must be 1 or more.
    filters, bottleneck_factor, n_stacks, n_transitions
        See `StackedHourglass`.
    seed
        Makes the initial weights reproducible; leaves Keras' global seed alone.

    Returns
    -------
    keras.Model
        From (n, h, w, c) uint8 to a list of ``n_stacks`` maps, each
        (n, *task.output_shape, task.n_output_channels) on the scale 0..255. Images are padded at
        the bottom and right to a multiple of ``2 ** n_transitions`` and the maps cropped again, so
        that coordinates stay where they are.

    Raises
    ------
    ValidationError
        When a hyperparameter is out of range or the image too small for the output stride.
    """
    _check_hyperparameters(filters, bottleneck_factor, n_stacks)
    n_transitions = count_transitions(task, n_transitions, model="StackedHourglass", least=1)
    wiring = _Wiring(filters, bottleneck_factor, seeds_from(seed))
    n_levels = n_transitions - task.downsample_factor

    images = keras.Input(task.image_shape, dtype="uint8", name="images")
    x = layers.Rescaling(2.0 / 255.0, -1.0, name="normalize")(images)
    x = wiring.front_end(pad(x, 2**n_transitions), task.downsample_factor)
    outputs = []
    for stack in range(1, n_stacks + 1):
        features = wiring.hourglass(x, n_levels, f"stack{stack}")
        narrowed = wiring.narrow(features, f"stack{stack}_out")
        maps = wiring.output(narrowed, task.n_output_channels, stack)
        outputs.append(maps)
        if stack < n_stacks:
            x = wiring.feed_back(features, narrowed, maps, f"stack{stack}_out")
    outputs = [crop(maps, task.output_shape) for maps in outputs]
    return keras.Model(images, outputs, name="StackedHourglass")


@attrs.frozen
class _Wiring:
    """How the blocks are connected; every method takes and gives tensors.

    Every convolution but the outputs' comes after a batch normalization, has no bias, and is
    rectified.
    """

    filters: int
    bottleneck_factor: int
    seeds: Iterator[int | None]

    def front_end(self, x: Tensor, n_halvings: int) -> Tensor:
        """Images to features at the output stride."""
        x = self._convolve(x, self.filters, 7, "front_conv7x7", strides=2)
        for level in range(1, n_halvings):
            x = self._residual(x, f"front{level}")
            x = layers.MaxPooling2D(2, name=f"front{level}_pool")(x)
        x = self._residual(x, "front_a")
        return self._residual(x, "front_b")

    def hourglass(self, x: Tensor, n_levels: int, name: str) -> Tensor:
        """Halves `n_levels` times and doubles as often, with skip connections on every level."""
        skips = []
        for level in range(n_levels):
            x = self._residual(x, f"{name}_down{level}")
            skips.append(x)
            x = layers.MaxPooling2D(2, name=f"{name}_down{level}_pool")(x)
        outer = inner = self._residual(x, f"{name}_innermost")
        for i in range(N_INNERMOST):
            inner = self._residual(inner, f"{name}_innermost{i}")
        x = self._add([outer, inner], f"{name}_innermost_sum")
        for level in reversed(range(n_levels)):
            skip = self._residual(skips[level], f"{name}_skip{level}")
            x = layers.UpSampling2D(2, name=f"{name}_up{level}_double")(x)
            x = self._add([skip, x], f"{name}_up{level}_sum")
            x = self._residual(x, f"{name}_up{level}")
        return x

    def narrow(self, x: Tensor, name: str) -> Tensor:
        """What the output and the next hourglass both start from."""
        return self._normalize_and_convolve(x, self.filters, 1, f"{name}_narrow")

    def output(self, x: Tensor, n_channels: int, stack: int) -> Tensor:
        x = layers.BatchNormalization(name=f"output_{stack}_normalize")(x)
        # Also in mixed precision in 32 bits: 16 are too coarse for maps.
        return layers.Conv2D(
            n_channels,
            1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=next(self.seeds)),
            dtype="float32",
            name=f"output_{stack}",
        )(x)

    def feed_back(self, features: Tensor, narrowed: Tensor, maps: Tensor, name: str) -> Tensor:
        """Input of the next hourglass: what this one found, and what its output made of it."""
        from_maps = self._normalize_and_convolve(maps, self.filters, 1, f"{name}_maps")
        from_narrowed = self._normalize_and_convolve(narrowed, self.filters, 1, f"{name}_features")
        return self._add([from_maps, from_narrowed, features], f"{name}_sum")

    def _residual(self, x: Tensor, name: str) -> Tensor:
        n_narrow = max(1, self.filters // self.bottleneck_factor)
        way = self._normalize_and_convolve(x, n_narrow, 1, f"{name}_conv1x1")
        way = self._normalize_and_convolve(way, n_narrow, 3, f"{name}_conv3x3")
        way = self._normalize_and_convolve(way, self.filters, 1, f"{name}_expand")
        # All blocks get and give `filters` channels, so that the identity needs no convolution.
        return self._add([x, way], name)

    def _add(self, tensors: list[Tensor], name: str) -> Tensor:
        normalized = [
            layers.BatchNormalization(name=f"{name}_add{i}_normalize")(x)
            for i, x in enumerate(tensors)
        ]
        return layers.Add(name=f"{name}_add")(normalized)

    def _normalize_and_convolve(self, x: Tensor, filters: int, size: int, name: str) -> Tensor:
        x = layers.BatchNormalization(name=f"{name}_normalize")(x)
        return self._convolve(x, filters, size, name)

    def _convolve(self, x: Tensor, filters: int, size: int, name: str, strides: int = 1) -> Tensor:
        return layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            activation="relu",
            use_bias=False,
            kernel_initializer=keras.initializers.GlorotUniform(seed=next(self.seeds)),
            name=name,
        )(x)


def _check_hyperparameters(filters: int, bottleneck_factor: int, n_stacks: int) -> None:
    for name, value in (
        ("filters", filters),
        ("bottleneck_factor", bottleneck_factor),
        ("n_stacks", n_stacks),
    ):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < 1:
            raise ValidationError(f"{name}: expected a whole number from 1, found {value!r}")
    if bottleneck_factor > filters:
        raise ValidationError(
            f"bottleneck_factor: expected at most filters ({filters}), found {bottleneck_factor}"
        )
