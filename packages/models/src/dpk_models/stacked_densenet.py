"""Stacked DenseNet: densely connected encoder-decoders, one after the other.

Source: Graving et al. 2019, eLife 8:e47994, "Stacked DenseNet"; the wiring is that of
DeepPoseKit 0.3.9, so that the numbers of parameters agree with it.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import keras
import numpy as np
from keras import layers

from dpk_core.errors import ValidationError
from dpk_core.task import Task
from dpk_models.backbones import Backbone, as_weights
from dpk_models.base import PoseModel, pose_model
from dpk_models.densenet_blocks import Wiring, concatenate, normalize_maps
from dpk_models.framing import crop, pad
from dpk_models.halvings import count_transitions
from dpk_models.seeding import seeds_from

Tensor = keras.KerasTensor

_FRONT_ENDS = {2: "conv2_block6_concat", 3: "conv3_block12_concat", 4: "conv4_block24_concat"}
"""Layers of DenseNet-121 that end a dense block, by `downsample_factor`."""


@pose_model
class StackedDenseNet(PoseModel):
    """Stacked DenseNet of Graving et al. 2019: fast, accurate, good from few labelled images.

    Parameters
    ----------
    source
        A `TrainingGenerator` to train from, or only a `Task`. Its ``downsample_factor`` must be
        2 or more.
    n_stacks
        Encoder-decoders in a row, each with its own output (intermediate supervision).
    n_transitions
        How many times the image is halved, from the image to the innermost maps. -1: as often as
        both sides can be halved (see `dpk_models.halvings.count_transitions`); -2: once less, and
        so on.
    growth_rate
        Channels that a dense block adds (two or three times as many deeper down).
    bottleneck_factor
        Channels of a block's 1x1 convolution, relative to those it adds.
    compression_factor
        Part of the channels that a transition or a skip connection keeps.
    separable
        Depthwise-separable 3x3 convolutions in the dense blocks: far fewer parameters and less
        memory, slightly less accurate (Graving et al. 2019, Appendix 9).
    backbone
        None: the front end of the paper. "densenet121": in its place, the first, second or third
        dense block of DenseNet-121 and what is before (at a ``downsample_factor`` of 2, 3 or 4),
        to start from weights learned on ImageNet.
    weights
        What the backbone starts from: None (random), "imagenet" (downloaded once), or the path of
        a file with weights of DenseNet-121 (see `dpk_models.backbones.Backbone.load_weights`).
        A saved model carries its own weights and needs neither.

    Examples
    --------
    >>> from dpk_core.testing import dot_annotations
    >>> from dpk_core import TrainingGenerator
    >>> generator = TrainingGenerator(dot_annotations(), augmenter=None)
    >>> StackedDenseNet(generator, growth_rate=8).network.output_shape
    [(None, 12, 16, 8), (None, 12, 16, 8)]
    """

    suited_learning_rate: ClassVar[float] = 4e-3

    n_stacks: int = 1
    n_transitions: int = -1
    growth_rate: int = 48
    bottleneck_factor: float = 1.0
    compression_factor: float = 0.5
    separable: bool = False
    backbone: str | None = None
    weights: str | None = attrs.field(default=None, converter=as_weights)

    def build(self, task: Task) -> keras.Model:
        if self.weights is not None and self.backbone is None:
            raise ValidationError(
                f"weights: expected None, as only a backbone has pretrained weights, found "
                f'{self.weights!r}; give backbone="densenet121" with it'
            )
        return build_network(
            task,
            n_stacks=self.n_stacks,
            n_transitions=self.n_transitions,
            growth_rate=self.growth_rate,
            bottleneck_factor=self.bottleneck_factor,
            compression_factor=self.compression_factor,
            separable=self.separable,
            backbone=self.backbone,
        )

    def load_pretrained(self) -> None:
        if self.backbone is not None:
            _backbone(self.backbone, self.task).load_weights(self.network, self.weights)


def build_network(
    task: Task,
    *,
    growth_rate: int = 48,
    bottleneck_factor: float = 1.0,
    compression_factor: float = 0.5,
    n_stacks: int = 1,
    n_transitions: int = -1,
    separable: bool = False,
    backbone: str | None = None,
    seed: int | None = None,
) -> keras.Model:
    """The network: one image to one set of maps a stack, and one set before the first.

    Parameters
    ----------
    task
        Fixes image shape, output stride and channels. Its `downsample_factor` must be 2 or more.
    growth_rate, bottleneck_factor, compression_factor, n_stacks, n_transitions, separable, backbone
        See `StackedDenseNet`.
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
    _check_hyperparameters(growth_rate, bottleneck_factor, compression_factor, n_stacks, separable)
    n_transitions = count_transitions(task, n_transitions)
    encoder = None if backbone is None else _backbone(backbone, task)
    wiring = Wiring(growth_rate, bottleneck_factor, compression_factor, seeds_from(seed), separable)
    n_levels = n_transitions - task.downsample_factor

    images = keras.Input(task.image_shape, dtype="uint8", name="images")
    if encoder is None:
        x = layers.Rescaling(2.0 / 255.0, -1.0, name="normalize")(images)
        front = wiring.front_end(pad(x, 2**n_transitions), task.downsample_factor)
    else:
        x = pad(encoder.normalize(images), 2**n_transitions)
        front = wiring.pretrained_front_end(x, encoder)
    maps = wiring.output(front, task.n_output_channels, 0)
    outputs = [maps]
    # Every stack sees what the front end found and what the output before it made of that.
    front = concatenate([front, normalize_maps(maps, "front_maps")])
    x = front
    for stack in range(1, n_stacks + 1):
        x = wiring.encoder_decoder(x, n_levels, task.downsample_factor, f"stack{stack}")
        x = concatenate([x, front, normalize_maps(maps, f"stack{stack}_maps")])
        maps = wiring.output(x, task.n_output_channels, stack)
        outputs.append(maps)
    outputs = [crop(maps, task.output_shape) for maps in outputs]
    return keras.Model(images, outputs, name="StackedDenseNet")


def _backbone(name: str, task: Task) -> Backbone:
    if name != "densenet121":
        raise ValidationError(
            f'backbone: expected None or "densenet121", found {name!r}; DeepLabCut has others'
        )
    if task.downsample_factor not in _FRONT_ENDS:
        raise ValidationError(
            f"StackedDenseNet: expected downsample_factor 2, 3 or 4 with a backbone, found "
            f"{task.downsample_factor}; give the TrainingGenerator another one, or backbone=None"
        )
    return Backbone(name, end=_FRONT_ENDS[task.downsample_factor])


def _check_hyperparameters(
    growth_rate: int,
    bottleneck_factor: float,
    compression_factor: float,
    n_stacks: int,
    separable: bool,
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
    if not isinstance(separable, (bool, np.bool_)):
        raise ValidationError(f"separable: expected True or False, found {separable!r}")
