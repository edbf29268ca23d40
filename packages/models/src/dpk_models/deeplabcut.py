"""DeepLabCut: an image classifier as encoder, and as little decoder as possible.

Sources: Mathis et al. 2018, Nature Neuroscience 21:1281; Insafutdinov et al. 2016, ECCV
("DeeperCut"). The wiring is that of DeepPoseKit 0.3.9 (Graving et al. 2019, eLife 8:e47994,
"Model comparisons"), so that the numbers of parameters agree with it.
"""

from __future__ import annotations

import attrs
import keras
from keras import layers

from dpk_core.errors import ValidationError
from dpk_core.task import Task
from dpk_models.backbones import STRIDE, Backbone, as_weights
from dpk_models.base import PoseModel, pose_model
from dpk_models.framing import crop, pad
from dpk_models.layers import DepthToSpace
from dpk_models.seeding import seeds_from

DOWNSAMPLE_FACTORS = (2, 3, 4)
"""Output strides of 4, 8 and 16."""


@pose_model
class DeepLabCut(PoseModel):
    """DeepLabCut of Mathis et al. 2018: transfer learning from image classification.

    Parameters
    ----------
    source
        A `TrainingGenerator` to train from, or only a `Task`. Its ``downsample_factor`` must be
        2, 3 or 4.
    backbone
        The encoder: "resnet50" (as in the paper), "mobilenetv2", "densenet121" or "xception".
    alpha
        Width of MobileNetV2: 0.35 is the smallest with ImageNet weights, 1.4 the largest.
    weights
        What the backbone starts from: None (random), "imagenet" (downloaded once), or the path of
        a file with weights of that network (see `dpk_models.backbones.Backbone.load_weights`).
        A saved model carries its own weights and needs neither.

    Examples
    --------
    >>> from dpk_core.testing import dot_annotations
    >>> from dpk_core import TrainingGenerator
    >>> generator = TrainingGenerator(dot_annotations(), augmenter=None)
    >>> DeepLabCut(generator, backbone="mobilenetv2", alpha=0.35).network.output_shape
    (None, 12, 16, 8)
    """

    backbone: str = "resnet50"
    alpha: float = 1.0
    weights: str | None = attrs.field(default=None, converter=as_weights)

    def build(self, task: Task) -> keras.Model:
        self._encoder.check_weights(self.weights)
        return build_network(task, backbone=self.backbone, alpha=self.alpha)

    def load_pretrained(self) -> None:
        self._encoder.load_weights(self.network, self.weights)

    @property
    def _encoder(self) -> Backbone:
        return Backbone(self.backbone, self.alpha)


def build_network(
    task: Task, *, backbone: str = "resnet50", alpha: float = 1.0, seed: int | None = None
) -> keras.Model:
    """The network, with random weights.

    The backbone's features come at a stride of 16. A transposed convolution (3x3, stride 2) turns
    them into maps at 8; for maps at 4, channels are rearranged to pixels before it; maps at 16 are
    a 1x1 convolution. All weights are trained, and batch normalization follows the batches.

    Parameters
    ----------
    task
        Fixes image shape, output stride and channels. Its `downsample_factor` must be 2, 3 or 4.
        Images of one channel are repeated to three; see `Backbone.normalize` for other numbers.
    backbone, alpha
        See `DeepLabCut`.
    seed
        Makes the initial weights reproducible; leaves Keras' global seed alone.

    Returns
    -------
    keras.Model
        From (n, h, w, c) uint8 to maps (n, *task.output_shape, task.n_output_channels), float32
        on the scale 0..255. Images are padded at the bottom and right to a multiple of 16 and the
        maps cropped again, so that coordinates stay where they are.

    Raises
    ------
    ValidationError
        When the backbone is not known, or output stride or image size can't be.
    """
    encoder = Backbone(backbone, alpha)
    _check_task(task)
    seeds = seeds_from(seed)
    images = keras.Input(task.image_shape, dtype="uint8", name="images")
    x = encoder.features(pad(encoder.normalize(images), STRIDE), seeds)
    if task.downsample_factor == 2:
        x = DepthToSpace(2, name="depth_to_space")(x)
    maps = _output(task, next(seeds))(x)
    return keras.Model(images, crop(maps, task.output_shape), name="DeepLabCut")


def _output(task: Task, seed: int | None) -> layers.Layer:
    options = {
        "kernel_initializer": keras.initializers.GlorotUniform(seed=seed),
        "dtype": "float32",  # also in mixed precision: 16 bits are too coarse for maps
        "name": "output_0",
    }
    if task.downsample_factor == 4:
        return layers.Conv2D(task.n_output_channels, 1, **options)
    return layers.Conv2DTranspose(task.n_output_channels, 3, strides=2, padding="same", **options)


def _check_task(task: Task) -> None:
    if task.downsample_factor not in DOWNSAMPLE_FACTORS:
        raise ValidationError(
            "DeepLabCut: expected downsample_factor 2, 3 or 4 (output strides 4, 8 and 16), found "
            f"{task.downsample_factor} (stride {task.output_stride}); give the TrainingGenerator "
            "another one"
        )
    if min(task.output_shape) < 2:
        height, width, _ = task.image_shape
        raise ValidationError(
            f"DeepLabCut: images of {height}x{width} pixels leave maps of "
            f"{task.output_shape[0]}x{task.output_shape[1]} at downsample_factor "
            f"{task.downsample_factor}, at least 2x2 is needed; use a smaller downsample_factor "
            "or larger images"
        )
