"""Stacked DenseNet: densely connected encoder-decoders, one after the other.

Source: Graving et al. 2019, eLife 8:e47994, "Stacked DenseNet"; the wiring is that of
DeepPoseKit 0.3.9, so that the numbers of parameters agree with it.
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
from dpk_models.layers import DepthToSpace, SpaceToDepth

Tensor = keras.KerasTensor

MAX_PADDING = 1.2
"""Automatic padding may enlarge the image's area by this factor to gain another halving."""


@pose_model
class StackedDenseNet(PoseModel):
    """Stacked DenseNet of Graving et al. 2019: fast, accurate, good from few labelled images.

    Parameters
    ----------
    source
        A `TrainingGenerator` to train from, or only a `Task`. Its ``downsample_factor`` must be
        2 or more.
    n_stacks, n_transitions, growth_rate, bottleneck_factor, compression_factor
        See `build_network`.

    Examples
    --------
    >>> from dpk_core.testing import dot_annotations
    >>> from dpk_core import TrainingGenerator
    >>> generator = TrainingGenerator(dot_annotations(), augmenter=None)
    >>> StackedDenseNet(generator, growth_rate=8).network.output_shape
    [(None, 12, 16, 8), (None, 12, 16, 8)]
    """

    n_stacks: int = 1
    n_transitions: int = -1
    growth_rate: int = 48
    bottleneck_factor: float = 1.0
    compression_factor: float = 0.5

    def build(self, task: Task) -> keras.Model:
        return build_network(
            task,
            n_stacks=self.n_stacks,
            n_transitions=self.n_transitions,
            growth_rate=self.growth_rate,
            bottleneck_factor=self.bottleneck_factor,
            compression_factor=self.compression_factor,
        )


def build_network(
    task: Task,
    *,
    growth_rate: int = 48,
    bottleneck_factor: float = 1.0,
    compression_factor: float = 0.5,
    n_stacks: int = 1,
    n_transitions: int = -1,
    seed: int | None = None,
) -> keras.Model:
    """The network: one image to one set of maps a stack, and one set before the first.

    Parameters
    ----------
    task
        Fixes image shape, output stride and channels. Its `downsample_factor` must be 2 or more.
    growth_rate
        Channels that a dense block adds (two or three times as many deeper down).
    bottleneck_factor
        Channels of a block's 1x1 convolution, relative to those it adds.
    compression_factor
        Part of the channels that a transition or a skip connection keeps.
    n_stacks
        Encoder-decoders in a row, each with its own output (intermediate supervision).
    n_transitions
        How many times the image is halved, from the image to the innermost maps. -1: as often as
        both sides can be halved (see `count_transitions`); -2: once less, and so on.
    seed
        Makes the initial weights reproducible; leaves Keras' global seed alone.

    Returns
    -------
    keras.Model
        From (n, h, w, c) uint8 to a list of ``n_stacks + 1`` maps, each
        (n, *task.output_shape, task.n_output_channels) on the scale 0..255. Images are padded at
        the bottom and right to a multiple of ``2 ** n_transitions`` and the maps cropped again, so
        that coordinates stay where they are.

    Raises
    ------
    ValidationError
        When a hyperparameter is out of range or the image too small for the output stride.
    """
    _check_hyperparameters(growth_rate, bottleneck_factor, compression_factor, n_stacks)
    n_transitions = count_transitions(task, n_transitions)
    wiring = _Wiring(growth_rate, bottleneck_factor, compression_factor, _seeds(seed))
    n_levels = n_transitions - task.downsample_factor

    images = keras.Input(task.image_shape, dtype="uint8", name="images")
    x = layers.Rescaling(2.0 / 255.0, -1.0, name="normalize")(images)
    x = _pad(x, 2**n_transitions)
    front = wiring.front_end(x, task.downsample_factor)
    maps = wiring.output(front, task.n_output_channels, 0)
    outputs = [maps]
    # Every stack sees what the front end found and what the output before it made of that.
    front = _concatenate([front, _normalize(maps, "front_maps")])
    x = front
    for stack in range(1, n_stacks + 1):
        x = wiring.encoder_decoder(x, n_levels, task.downsample_factor, f"stack{stack}")
        x = _concatenate([x, front, _normalize(maps, f"stack{stack}_maps")])
        maps = wiring.output(x, task.n_output_channels, stack)
        outputs.append(maps)
    outputs = [_crop(maps, task.output_shape) for maps in outputs]
    return keras.Model(images, outputs, name="StackedDenseNet")


def count_transitions(task: Task, n_transitions: int = -1) -> int:
    """How many times the network halves an image, from 1 up.

    -1 halves as often as both sides stay whole numbers (and above 2), as DeepPoseKit does. Where
    that is not more than `downsample_factor`, the image is padded: the most halvings for which
    padding to a multiple adds at most 20 % to the area and at least 3 pixels a side are left
    innermost, and always one more than `downsample_factor`. A positive number is taken as it is.

    Raises
    ------
    ValidationError
        When `downsample_factor` is below 2, `n_transitions` not above it, or the image smaller
        than two cells of the maps.
    """
    height, width, _ = task.image_shape
    least = task.downsample_factor + 1
    if task.downsample_factor < 2:
        raise ValidationError(
            f"StackedDenseNet: expected downsample_factor >= 2, found {task.downsample_factor}; "
            "give the TrainingGenerator downsample_factor=2 or more"
        )
    if min(task.output_shape) < 2:
        raise ValidationError(
            f"StackedDenseNet: images of {height}x{width} pixels leave maps of "
            f"{task.output_shape[0]}x{task.output_shape[1]} at downsample_factor "
            f"{task.downsample_factor}, at least 2x2 is needed; use a smaller downsample_factor "
            "or larger images"
        )
    if isinstance(n_transitions, bool) or not isinstance(n_transitions, (int, np.integer)):
        raise ValidationError(f"n_transitions: expected an integer, found {n_transitions!r}")
    chosen = int(n_transitions)
    if chosen < 0:
        most = min(_count_halvings(height), _count_halvings(width))
        if most < least:
            most = _count_halvings_with_padding(height, width, least)
        chosen += most + 1
    if chosen < least or n_transitions == 0:
        raise ValidationError(
            f"n_transitions: {n_transitions} gives {max(chosen, 0)} for images of "
            f"{height}x{width}; expected at least {least}, one more than downsample_factor "
            f"({task.downsample_factor})"
        )
    if 2 ** (chosen - 1) > max(height, width):
        raise ValidationError(
            f"n_transitions: {chosen} halvings need images of about {2**chosen} pixels, found "
            f"{height}x{width}; use a smaller number, or -1 to choose by image size"
        )
    return chosen


def _count_halvings(side: int) -> int:
    n = 0
    while side % 2 == 0 and side > 2:
        side //= 2
        n += 1
    return n


def _count_halvings_with_padding(height: int, width: int, least: int) -> int:
    best = least
    for n in range(least + 1, least + 8):
        padded = [-(-side // 2**n) * 2**n for side in (height, width)]
        fits = padded[0] * padded[1] <= MAX_PADDING * height * width
        if fits and min(padded) >= 3 * 2**n:
            best = n
    return best


@attrs.frozen
class _Wiring:
    """How the blocks are connected; every method takes and gives tensors."""

    growth_rate: int
    bottleneck_factor: float
    compression_factor: float
    seeds: Iterator[int | None]

    def front_end(self, x: Tensor, n_halvings: int) -> Tensor:
        """Images to features at the output stride, from every scale on the way."""
        x = _concatenate(
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
        return _concatenate(
            [self._compress(s, f"front{i}_skip") for i, s in enumerate(scales, start=1)]
        )

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
            x = _concatenate([x, skips[level + 1]])
            x = self._dense_block(x, level + width, f"{name}_up{level}")
            x = self._transition_up(x, f"{name}_up{level}")
        x = _concatenate([x, skips[0]])
        return self._dense_block(x, width, f"{name}_decoded")

    def output(self, x: Tensor, n_channels: int, stack: int) -> Tensor:
        return layers.Conv2D(
            n_channels,
            1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=next(self.seeds)),
            name=f"output_{stack}",
        )(x)

    def _dense_block(self, x: Tensor, width: int, name: str) -> Tensor:
        """Adds `width` (1 to 3) times the growth rate in channels to those of x."""
        filters = self.growth_rate * min(max(width, 1), 3)
        bottleneck = max(1, round(filters * self.bottleneck_factor))
        added = self._convolve(x, bottleneck, 1, f"{name}_conv1x1")
        added = self._convolve(added, filters, 3, f"{name}_conv3x3")
        return _concatenate([x, added])

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


def _concatenate(tensors: list[Tensor]) -> Tensor:
    return layers.Concatenate()(tensors) if len(tensors) > 1 else tensors[0]


def _normalize(maps: Tensor, name: str) -> Tensor:
    return layers.BatchNormalization(name=f"{name}_normalize")(maps)


def _pad(x: Tensor, multiple: int) -> Tensor:
    bottom, right = -x.shape[1] % multiple, -x.shape[2] % multiple
    if not bottom and not right:
        return x
    return layers.ZeroPadding2D(((0, bottom), (0, right)), name="pad")(x)


def _crop(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    bottom, right = maps.shape[1] - shape[0], maps.shape[2] - shape[1]
    if not bottom and not right:
        return maps
    return layers.Cropping2D(((0, bottom), (0, right)))(maps)


def _seeds(seed: int | None) -> Iterator[int | None]:
    """A fresh seed for every layer, all of them following from one."""
    rng = None if seed is None else np.random.default_rng(seed)
    while True:
        yield None if rng is None else int(rng.integers(2**31))


def _check_hyperparameters(
    growth_rate: int, bottleneck_factor: float, compression_factor: float, n_stacks: int
) -> None:
    for name, value in (("growth_rate", growth_rate), ("n_stacks", n_stacks)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < 1:
            raise ValidationError(f"{name}: expected a whole number from 1, found {value!r}")
    for name, value in (
        ("bottleneck_factor", bottleneck_factor),
        ("compression_factor", compression_factor),
    ):
        if not np.isfinite(value) or value <= 0:
            raise ValidationError(f"{name}: expected a number above 0, found {value!r}")
