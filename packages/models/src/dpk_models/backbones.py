"""Backbones: image classifiers of `keras.applications` as front ends of pose networks.

Built for images of any size and number of channels, with the normalization that their ImageNet
weights expect, and with those weights on demand: downloaded, or from a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np
from keras import layers, ops

from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_models.seeding import random_kept

Tensor = keras.KerasTensor

IMAGENET = "imagenet"
"""The value of `weights` that stands for a download."""

STRIDE = 16
"""Image pixels for each pixel of a whole backbone's features."""

IMAGENET_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
"""Widths of MobileNetV2 that have ImageNet weights."""

HIGHEST_MOMENTUM = 0.99
"""Of batch normalization. Prediction normalizes with moving averages over this many steps back:
1 / (1 - momentum). Keras' MobileNetV2 has 0.999, as DeepPoseKit's did, which was made for a long
training; at the end of a short one such averages still tell of weights of long ago."""

LAYER = "backbone"
"""Name of the backbone's layer in a network."""


@attrs.frozen
class _Architecture:
    """What has to be known of one of `keras.applications`.

    `dense` are the layers that change for features at a stride of 16 instead of 32: the last
    halving is left out, and the layers behind it reach twice as far (Insafutdinov et al. 2016,
    section 2; the same ones as in DeepPoseKit 0.3.9). None takes a layer out.
    """

    make: Callable[..., keras.Model]
    mode: str
    dense: dict[str, dict[str, Any] | None]


def _dilated(*names: str) -> dict[str, dict[str, Any]]:
    return {name: {"dilation_rate": (2, 2)} for name in names}


_WHOLE = {"strides": (1, 1)}

_ARCHITECTURES = {
    "resnet50": _Architecture(
        keras.applications.ResNet50,
        "caffe",
        {"conv5_block1_0_conv": _WHOLE, "conv5_block1_1_conv": _WHOLE}
        | _dilated("conv5_block2_2_conv", "conv5_block3_2_conv"),
    ),
    "mobilenetv2": _Architecture(
        keras.applications.MobileNetV2,
        "tf",
        {"block_13_pad": {"padding": ((1, 1), (1, 1))}, "block_13_depthwise": _WHOLE}
        | _dilated("block_14_depthwise", "block_15_depthwise", "block_16_depthwise"),
    ),
    "densenet121": _Architecture(
        keras.applications.DenseNet121,
        "torch",
        {"pool4_pool": None, **_dilated(*(f"conv5_block{i}_2_conv" for i in range(1, 17)))},
    ),
    "xception": _Architecture(
        keras.applications.Xception,
        "tf",
        # The shortcut around block 13 has no name of its own; see `_key`.
        {"shortcut_1024": _WHOLE, "block13_pool": _WHOLE}
        | _dilated("block14_sepconv1", "block14_sepconv2"),
    ),
}

BACKBONES = tuple(_ARCHITECTURES)
"""Names of the backbones there are."""

_SCALES = {
    "caffe": (1.0, 1.0, 1.0),
    "tf": (1 / 127.5,) * 3,
    "torch": (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
}
_OFFSETS = {
    "caffe": (-103.939, -116.779, -123.68),
    "tf": (-1.0,) * 3,
    "torch": (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
}


def as_weights(value: str | os.PathLike[str] | None) -> str | None:
    """The `weights` of a model as they are stored: None, "imagenet", or a path as text."""
    if value is None:
        return None
    try:
        return str(os.fspath(value))
    except TypeError:
        raise ValidationError(
            f"weights: expected None, {IMAGENET!r} or the path of a file, found {value!r}"
        ) from None


@keras.saving.register_keras_serializable(package="dpk")
class ImageNetNormalization(keras.layers.Layer):
    """(n, h, w, 1 or 3) 0..255 -> (n, h, w, 3) as a network trained on ImageNet expects it.

    The same as `keras.applications`' ``preprocess_input`` of a gray image repeated to three
    channels, or of a colour (red, green, blue) image. Always in float32.

    Parameters
    ----------
    mode
        "caffe" (blue, green, red minus their means), "tf" (-1 to 1) or "torch" (minus mean,
        divided by standard deviation).

    Examples
    --------
    >>> import numpy as np
    >>> white = np.full((1, 1, 1, 1), 255, "uint8")
    >>> np.asarray(ImageNetNormalization("tf")(white)).tolist()
    [[[[1.0, 1.0, 1.0]]]]
    """

    def __init__(self, mode: str, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.mode = mode

    def call(self, images):
        if self.mode == "caffe" and images.shape[-1] == 3:
            images = ops.take(images, np.array([2, 1, 0], "int32"), axis=-1)
        scale = np.array(_SCALES[self.mode], "float32")
        offset = np.array(_OFFSETS[self.mode], "float32")
        return ops.cast(images, "float32") * scale + offset

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], 3)

    def get_config(self) -> dict:
        return {**super().get_config(), "mode": self.mode}


@attrs.frozen
class Backbone:
    """One backbone: how images go in, what features come out, where weights come from.

    Sources: ResNet-50, He et al. 2016, CVPR; MobileNetV2, Sandler et al. 2018, CVPR;
    DenseNet-121, Huang et al. 2017, CVPR; Xception, Chollet 2017, CVPR. Features at a stride of
    16 by dilation: Insafutdinov et al. 2016, ECCV ("DeeperCut").

    Parameters
    ----------
    name
        One of `BACKBONES`.
    alpha
        Width of MobileNetV2 relative to the one of its paper; 1 for all others.
    end
        Name of the layer whose output are the features. Default: the last one.

    Raises
    ------
    ValidationError
    """

    name: str
    alpha: float = 1.0
    end: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.name not in _ARCHITECTURES:
            raise ValidationError(
                f"backbone: expected one of {', '.join(BACKBONES)}, found {self.name!r}"
            )
        number = isinstance(self.alpha, (int, float, np.number)) and not isinstance(
            self.alpha, bool
        )
        if not number or not np.isfinite(self.alpha) or self.alpha <= 0:
            raise ValidationError(f"alpha: expected a number above 0, found {self.alpha!r}")
        if self.alpha != 1 and self.name != "mobilenetv2":
            raise ValidationError(
                f"alpha: expected 1, as {self.name} comes in one width only, found {self.alpha}; "
                'choose backbone="mobilenetv2" for other widths'
            )

    def check_weights(self, weights: str | None) -> None:
        """Refuse weights that there can't be; ValidationError says which there are."""
        if weights == IMAGENET and self.alpha not in IMAGENET_ALPHAS and self._has_widths:
            raise ValidationError(
                f"alpha: expected one of {', '.join(map(str, IMAGENET_ALPHAS))} for ImageNet "
                f"weights, found {self.alpha}; choose one of those, or weights=None"
            )

    def normalize(self, images: Tensor) -> Tensor:
        """(n, h, w, c) uint8 -> (n, h, w, 3) float32 as the weights expect it.

        One channel is repeated, three are red, green and blue. Any other number is mixed to three
        by a learned 1x1 convolution, which starts as the mean of the channels.
        """
        channels = images.shape[-1]
        if channels not in (1, 3):
            mean = keras.initializers.Constant(1 / channels)
            mix = layers.Conv2D(
                3, 1, use_bias=False, kernel_initializer=mean, dtype="float32", name="mix_channels"
            )
            images = mix(layers.Rescaling(1.0, dtype="float32", name="to_float")(images))
        return ImageNetNormalization(self._architecture.mode, name="normalize")(images)

    def features(self, x: Tensor, seeds: Iterator[int | None]) -> Tensor:
        """Normalized images (n, h, w, 3) -> (n, h / s, w / s, channels), with random weights.

        The stride s is 16, or less at an earlier `end`. Both sides must be multiples of it. Every
        layer takes a seed for its weights, which None leaves to Keras.
        """
        inputs = keras.Input(x.shape[1:], name="normalized")
        seeds = chain([first := next(seeds)], seeds)
        with nullcontext() if first is None else random_kept():
            original = self._until_end(self._make(weights=None))
        network = keras.models.clone_model(
            original, input_tensors=inputs, clone_function=partial(self._clone, seeds=seeds)
        )
        return keras.Model(network.input, network.output, name=LAYER)(x)

    def load_weights(self, network: keras.Model, weights: str | None) -> None:
        """Put pretrained weights into the backbone of a network.

        Parameters
        ----------
        network
            A network with `features`.
        weights
            None leaves it as it is; "imagenet" downloads (Keras keeps the file in its cache);
            else the path of an HDF5 file with weights of the whole network of
            `keras.applications`, made with ``include_top=False``: one that Keras offers for
            download, or written by ``save_weights("... .weights.h5")`` or ``save("... .h5")``.

        Raises
        ------
        FileMissingError
        FileFormatError
            When the file is not such a file, or for another network.
        DpkError
            When the download fails.
        """
        if weights is None:
            return
        with random_kept():
            source = self._download() if weights == IMAGENET else self._make(weights=None)
        if weights != IMAGENET:
            _read_file(source, Path(weights), self._describe())
        network.get_layer(LAYER).set_weights(self._until_end(source).get_weights())

    # -- keras.applications ---------------------------------------------------------------------

    @property
    def _architecture(self) -> _Architecture:
        return _ARCHITECTURES[self.name]

    @property
    def _has_widths(self) -> bool:
        return self.name == "mobilenetv2"

    def _describe(self) -> str:
        return f"{self.name} with alpha={self.alpha}" if self._has_widths else self.name

    def _make(self, weights: str | None) -> keras.Model:
        options = {"alpha": self.alpha} if self._has_widths else {}
        # Its paddings are made for a side divisible by 32, whatever the images' own size is.
        return self._architecture.make(
            include_top=False, weights=weights, input_shape=(224, 224, 3), **options
        )

    def _until_end(self, network: keras.Model) -> keras.Model:
        if self.end is None:
            return network
        return keras.Model(network.input, network.get_layer(self.end).output)

    def _download(self) -> keras.Model:
        # Keras raises a bare Exception when it can't reach the address.
        try:
            return self._make(weights=IMAGENET)
        except Exception as error:
            raise DpkError(
                f"the ImageNet weights of {self._describe()} could not be downloaded ({error}); "
                "connect to the internet, or download that file elsewhere and give its path as "
                "weights, or start from random weights with weights=None"
            ) from error

    def _clone(self, layer: layers.Layer, seeds: Iterator[int | None]) -> layers.Layer:
        config = layer.get_config()
        if isinstance(layer, layers.BatchNormalization):
            config["momentum"] = min(config["momentum"], HIGHEST_MOMENTUM)
        changes = self._architecture.dense.get(_key(layer), {})
        if changes is None:
            return layers.Identity(name=layer.name)
        for initializer in ("kernel", "depthwise", "pointwise"):
            settings = (config.get(f"{initializer}_initializer") or {}).get("config", {})
            if "seed" in settings and (seed := next(seeds)) is not None:
                settings["seed"] = seed
        return type(layer).from_config({**config, **changes})


def _key(layer: layers.Layer) -> str:
    """Name of a layer, also of Xception's one whose name is made up anew each time."""
    if isinstance(layer, layers.Conv2D) and layer.name.startswith("conv2d"):
        return f"shortcut_{layer.filters}"
    return layer.name


# -- files of weights ---------------------------------------------------------------------------


def _read_file(network: keras.Model, path: Path, name: str) -> None:
    if path.suffix not in (".h5", ".hdf5"):
        raise FileFormatError(
            f"{path}: expected weights of {name} in a file that ends in .h5 (Keras' format)"
        )
    if not path.is_file():
        raise FileMissingError(f"no file with weights of {name} at {path}")
    shapes, is_legacy = _look_into(path, name)
    expected = sorted(tuple(w.shape) for w in network.weights)
    if shapes != expected:
        raise FileFormatError(
            f"{path} has weights of another network: expected {name}, {_count(expected)}, found "
            f"{_count(shapes)}; give a file made for {name} with include_top=False"
        )
    # Keras tells its two formats apart by the name of the file alone.
    if is_legacy == path.name.endswith(".weights.h5"):
        ending = ".h5, but not in .weights.h5" if is_legacy else ".weights.h5"
        raise FileFormatError(f"{path}: rename the file so that it ends in {ending}")
    try:
        network.load_weights(path)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{path}: expected weights of {name} in Keras' order, found another one: {error}"
        ) from error


def _look_into(path: Path, name: str) -> tuple[list[tuple[int, ...]], bool]:
    """Shapes of all weights in a file, sorted; and whether it is of the format before Keras 3."""
    import h5py

    shapes: list[tuple[int, ...]] = []

    def note(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            shapes.append(tuple(item.shape))

    try:
        with h5py.File(path, "r") as file:
            is_legacy = "layer_names" in file.attrs or "model_weights" in file
            for key in file:
                if key not in ("optimizer", "optimizer_weights"):
                    file[key].visititems(note)
    except (OSError, RuntimeError, AttributeError) as error:
        raise FileFormatError(
            f"{path} is damaged or not an HDF5 file ({error}); expected weights of {name}"
        ) from None
    return sorted(shapes), is_legacy


def _count(shapes: list[tuple[int, ...]]) -> str:
    return f"{sum(int(np.prod(s)) for s in shapes):,} numbers in {len(shapes)} arrays"
