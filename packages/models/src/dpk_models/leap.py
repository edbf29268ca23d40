"""LEAP: a small encoder-decoder whose maps are as large as its images.

Source: Pereira et al. 2019, Nature Methods 16:117, "Fast animal pose estimation using deep neural
networks", as Graving et al. 2019 (eLife 8:e47994) compare with it; the wiring and the options are
those of DeepPoseKit 0.3.9, so that the numbers of parameters agree with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import attrs
import keras
import numpy as np
from keras import layers

from dpk_core.errors import ValidationError
from dpk_core.task import Task
from dpk_models.base import PoseModel, pose_model
from dpk_models.framing import crop, pad
from dpk_models.seeding import seeds_from
from dpk_models.upsampling import BicubicDoubling2D

Tensor = keras.KerasTensor

N_HALVINGS = 2
POOLING = ("max", "average")
UPSAMPLING = ("transposed", "nearest", "bilinear", "bicubic")
ACTIVATIONS = ("relu", "selu", "elu", "leaky_relu", "gelu", "silu", "tanh")
INITIALIZERS = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "glorot_normal": keras.initializers.GlorotNormal,
    "he_uniform": keras.initializers.HeUniform,
    "he_normal": keras.initializers.HeNormal,
    "lecun_uniform": keras.initializers.LecunUniform,
    "lecun_normal": keras.initializers.LecunNormal,
}


@pose_model
class LEAP(PoseModel):
    """LEAP of Pereira et al. 2019: simple, and slow, as all maps have the size of the image.

    Parameters
    ----------
    source
        A `TrainingGenerator` to train from, or only a `Task`. Its ``downsample_factor`` must be 0.
    filters
        Channels of the first convolutions; twice and four times as many deeper down.
    batch_normalization
        Normalize after every convolution. Without effect with "selu", which normalizes by itself.
    pooling
        "max" or "average".
    upsampling
        How images grow again: "transposed" convolutions as in the paper, or "nearest", "bilinear"
        or "bicubic" interpolation.
    activation
        Of the convolutions: "relu", "selu", "elu", "leaky_relu", "gelu", "silu" or "tanh".
    use_bias
        Whether the convolutions have a bias; those of the output always do. None: unless they are
        normalized, by batches or by "selu".
    initializer
        Of the convolutions' weights: "glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
        "lecun_uniform" or "lecun_normal"; transposed convolutions have "glorot_normal". None:
        "lecun_normal" with "selu", which needs it, and "glorot_uniform" with others.

    Examples
    --------
    >>> from dpk_core.testing import dot_annotations
    >>> from dpk_core import TrainingGenerator
    >>> generator = TrainingGenerator(dot_annotations(), augmenter=None, downsample_factor=0)
    >>> LEAP(generator, filters=8).network.output_shape
    (None, 48, 64, 8)
    """

    suited_downsample_factor: ClassVar[int] = 0

    filters: int = 64
    batch_normalization: bool = False
    pooling: str = "max"
    upsampling: str = "transposed"
    activation: str = "relu"
    use_bias: bool | None = None
    initializer: str | None = None

    def build(self, task: Task) -> keras.Model:
        return build_network(
            task,
            filters=self.filters,
            batch_normalization=self.batch_normalization,
            pooling=self.pooling,
            upsampling=self.upsampling,
            activation=self.activation,
            use_bias=self.use_bias,
            initializer=self.initializer,
        )


def build_network(
    task: Task,
    *,
    filters: int = 64,
    batch_normalization: bool = False,
    pooling: str = "max",
    upsampling: str = "transposed",
    activation: str = "relu",
    use_bias: bool | None = None,
    initializer: str | None = None,
    seed: int | None = None,
) -> keras.Model:
    """The network: one image to one set of maps of the same size.

    Parameters
    ----------
    task
        Fixes image shape and channels. Its `downsample_factor` must be 0.
    filters, batch_normalization, pooling, upsampling, activation, use_bias, initializer
        See `LEAP`.
    seed
        Makes the initial weights reproducible; leaves Keras' global seed alone.

    Returns
    -------
    keras.Model
        From (n, h, w, c) uint8 to (n, h, w, task.n_output_channels) on the scale 0..255. Images
        are padded at the bottom and right to a multiple of 4 and the maps cropped again.

    Raises
    ------
    ValidationError
        On another `downsample_factor`, an image too small to be halved twice, or a hyperparameter
        that is out of range.
    """
    _check_task(task)
    _check_hyperparameters(
        filters, batch_normalization, pooling, upsampling, activation, use_bias, initializer
    )
    normalized = batch_normalization and activation != "selu"
    if use_bias is None:
        use_bias = not normalized and activation != "selu"
    if initializer is None:
        initializer = "lecun_normal" if activation == "selu" else "glorot_uniform"
    wiring = _Wiring(
        normalized, pooling, upsampling, activation, use_bias, initializer, seeds_from(seed)
    )

    images = keras.Input(task.image_shape, dtype="uint8", name="images")
    x = layers.Rescaling(2.0 / 255.0, -1.0, name="normalize")(images)
    x = pad(x, 2**N_HALVINGS)
    x = wiring.pool(wiring.block(x, filters, 3, "down0"), "down0")
    x = wiring.pool(wiring.block(x, 2 * filters, 3, "down1"), "down1")
    x = wiring.block(x, 4 * filters, 3, "innermost")
    x = wiring.double(x, 2 * filters, "up0")
    x = wiring.block(x, 2 * filters, 2, "up0")
    maps = crop(wiring.output(x, task.n_output_channels), task.output_shape)
    return keras.Model(images, maps, name="LEAP")


@attrs.frozen
class _Wiring:
    """How the layers are connected; every method takes and gives tensors."""

    normalized: bool
    pooling: str
    upsampling: str
    activation: str
    use_bias: bool
    initializer: str
    seeds: Iterator[int | None]

    def block(self, x: Tensor, filters: int, n_layers: int, name: str) -> Tensor:
        """3x3 convolutions, one after the other."""
        for i in range(n_layers):
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                activation=self.activation,
                use_bias=self.use_bias,
                kernel_initializer=self._initializer(self.initializer),
                name=f"{name}_conv{i}",
            )(x)
            if self.normalized:
                x = layers.BatchNormalization(name=f"{name}_conv{i}_normalize")(x)
        return x

    def pool(self, x: Tensor, name: str) -> Tensor:
        kind = layers.MaxPooling2D if self.pooling == "max" else layers.AveragePooling2D
        return kind(2, name=f"{name}_pool")(x)

    def double(self, x: Tensor, filters: int, name: str) -> Tensor:
        """Twice as high and wide; only a transposed convolution changes the channels."""
        if self.upsampling == "transposed":
            x = layers.Conv2DTranspose(
                filters,
                3,
                strides=2,
                padding="same",
                activation=self.activation,
                use_bias=self.use_bias,
                kernel_initializer=self._initializer("glorot_normal"),
                name=f"{name}_double",
            )(x)
        else:
            x = self._interpolate(x, name)
        return layers.BatchNormalization(name=f"{name}_normalize")(x) if self.normalized else x

    def output(self, x: Tensor, n_channels: int) -> Tensor:
        # Also in mixed precision in 32 bits: 16 are too coarse for maps.
        options = {"padding": "same", "dtype": "float32", "name": "output"}
        if self.upsampling == "transposed":
            initializer = self._initializer("glorot_normal")
            return layers.Conv2DTranspose(
                n_channels, 3, strides=2, kernel_initializer=initializer, **options
            )(x)
        initializer = self._initializer("glorot_uniform")
        return layers.Conv2D(n_channels, 3, kernel_initializer=initializer, **options)(
            self._interpolate(x, "output")
        )

    def _interpolate(self, x: Tensor, name: str) -> Tensor:
        if self.upsampling == "bicubic":
            return BicubicDoubling2D(name=f"{name}_double")(x)
        return layers.UpSampling2D(2, interpolation=self.upsampling, name=f"{name}_double")(x)

    def _initializer(self, name: str) -> keras.initializers.Initializer:
        return INITIALIZERS[name](seed=next(self.seeds))


def _check_task(task: Task) -> None:
    if task.downsample_factor != 0:
        raise ValidationError(
            f"LEAP: expected downsample_factor 0, the only one that it can have, found "
            f"{task.downsample_factor}; give the TrainingGenerator downsample_factor=0, or choose "
            "a model whose maps can be smaller, such as StackedDenseNet"
        )
    height, width, _ = task.image_shape
    if min(height, width) < 2**N_HALVINGS:
        raise ValidationError(
            f"LEAP: expected images of at least {2**N_HALVINGS}x{2**N_HALVINGS} pixels, as it "
            f"halves them twice, found {height}x{width}; use larger images"
        )


def _check_hyperparameters(
    filters: int,
    batch_normalization: bool,
    pooling: str,
    upsampling: str,
    activation: str,
    use_bias: bool | None,
    initializer: str | None,
) -> None:
    if isinstance(filters, bool) or not isinstance(filters, (int, np.integer)) or filters < 1:
        raise ValidationError(f"filters: expected a whole number from 1, found {filters!r}")
    if not isinstance(batch_normalization, (bool, np.bool_)):
        raise ValidationError(
            f"batch_normalization: expected True or False, found {batch_normalization!r}"
        )
    for name, value, known in (
        ("pooling", pooling, POOLING),
        ("upsampling", upsampling, UPSAMPLING),
        ("activation", activation, ACTIVATIONS),
    ):
        if value not in known:
            raise ValidationError(f"{name}: expected one of {', '.join(known)}; found {value!r}")
    if use_bias is not None and not isinstance(use_bias, (bool, np.bool_)):
        raise ValidationError(f"use_bias: expected True, False or None, found {use_bias!r}")
    if initializer is not None and initializer not in tuple(INITIALIZERS):
        raise ValidationError(
            f"initializer: expected None or one of {', '.join(INITIALIZERS)}; found {initializer!r}"
        )
