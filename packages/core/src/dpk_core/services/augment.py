"""Augmentation: training images and their keypoints, changed together at random."""

from __future__ import annotations

import copy
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from dpk_core.checks import check_shape
from dpk_core.errors import MissingDependencyError, ValidationError
from dpk_core.interfaces import Augmenter
from dpk_core.services.imaging import check_uint8
from dpk_core.skeleton import Skeleton

if TYPE_CHECKING:
    from imgaug.augmenters import Augmenter as ImgaugPipeline

_HALF_PIXEL = 0.5
"""imgaug counts from the corner of the top-left pixel, dpk from its centre."""

BORDER_MODES = ("edge", "constant", "reflect", "symmetric", "wrap")


class ImgaugAugmenter(Augmenter):
    """Any imgaug pipeline as an `Augmenter`.

    Parameters
    ----------
    pipeline
        An imgaug augmenter, or a list of them that is applied in order. It is copied: seeding and
        use here leave the original alone. It must keep the size of the images (for crops and
        quarter turns: ``keep_size=True``) and all keypoints.
    skeleton
        Its left-right pairs swap where the pipeline mirrored an image. The mirror is found by what
        became of three reference points, so it does not matter how it came about: a flip on either
        axis is one, two flips are a rotation and swap nothing. None: never swap.

    Notes
    -----
    A keypoint that leaves the image keeps its coordinates outside of it.

    How closely keypoints follow the image is up to imgaug. Measured with imaug 0.4 on blobs in
    images of about 100x150 pixels, the largest error is below 0.05 px for Affine, Fliplr, Flipud,
    Rot90 and Resize; about 0.1 px for PerspectiveTransform(0.05); about 0.5 px for
    PiecewiseAffine(0.02) and ElasticTransformation(5, 5), which move keypoints only roughly.

    Each call takes a copy of the pipeline from a pool and seeds all of it, so threads never share
    random state and results do not depend on earlier calls.

    Raises
    ------
    ValidationError
        When the pipeline is something else; from `augment` when it changed the size of the images
        or lost keypoints.
    MissingDependencyError
        When imgaug is not installed.

    Examples
    --------
    >>> import imgaug.augmenters as iaa
    >>> skeleton = Skeleton.from_rows([("l", None, "r"), ("r", None, "l")])
    >>> augmenter = ImgaugAugmenter(iaa.Fliplr(1.0), skeleton)
    >>> images = np.zeros((1, 10, 20, 1), np.uint8)
    >>> keypoints = np.array([[[0, 3], [5, 3]]], np.float32)
    >>> augmenter.augment(images, keypoints, seed=0)[1].tolist()
    [[[14.0, 3.0], [19.0, 3.0]]]
    """

    def __init__(
        self, pipeline: ImgaugPipeline | list[ImgaugPipeline], skeleton: Skeleton | None = None
    ) -> None:
        self.skeleton = skeleton
        self._pipeline = copy.deepcopy(_as_pipeline(pipeline))
        self._idle: deque[_Copy] = deque()

    def augment(
        self, images: np.ndarray, keypoints: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n, h, w, c) uint8 and (n, k, 2) float32 -> the same, transformed."""
        check_shape("images", images.shape, ("n", "h", "w", "c"))
        check_uint8("images", images)
        check_shape("keypoints", keypoints.shape, (len(images), "k", 2))
        if not len(images):
            return images.copy(), keypoints.copy()
        borrowed = self._borrow()
        try:
            return self._run(borrowed.seed(int(seed)), images, keypoints)
        finally:
            self._idle.append(borrowed)

    def _run(
        self, pipeline: ImgaugPipeline, images: np.ndarray, keypoints: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        present = np.isfinite(keypoints).all(axis=2)
        moved_images, moved = pipeline(
            images=images, keypoints=_to_imgaug(keypoints, present, images.shape[1:])
        )
        moved_images = _checked_images(moved_images, images)
        result = np.full(keypoints.shape, np.nan, keypoints.dtype)
        for i, on_image in enumerate(moved):
            points, mirrored = _from_imgaug(on_image, int(present[i].sum()))
            result[i, present[i]] = points
            if mirrored and self.skeleton is not None:
                result[i] = result[i, self.skeleton.flip_order]
        return moved_images, result

    def _borrow(self) -> _Copy:
        try:
            return self._idle.pop()
        except IndexError:
            return _Copy(self._pipeline)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_idle": deque()}

    def __repr__(self) -> str:
        names = [type(child).__name__ for child in self._pipeline.get_all_children()]
        return f"ImgaugAugmenter({', '.join(names) or type(self._pipeline).__name__})"


def default_augmenter(
    skeleton: Skeleton | None = None,
    *,
    flip_horizontal: bool = True,
    flip_vertical: bool = True,
    rotation: float = 180.0,
    scale: tuple[float, float] = (0.9, 1.1),
    translation: float = 0.05,
    noise: float = 0.05,
    dropout: float = 0.05,
    patch_dropout: float = 0.05,
    blur: float = 1.5,
    sharpen: float = 0.5,
    contrast: float = 0.3,
    probability: float = 0.5,
    border: str = "edge",
) -> ImgaugAugmenter:
    """The augmentation of Graving et al. 2019, for animals filmed from above.

    Every image gets its own random transform: flips, then one affine warp, then changes of
    appearance. Set an amount to 0 to leave a step out; an animal filmed from the side, for
    instance, wants ``flip_vertical=False, rotation=15``.

    Parameters
    ----------
    skeleton
        Its left-right pairs swap in mirrored images.
    flip_horizontal, flip_vertical
        Mirror left-right and top-bottom, each with probability 0.5.
    rotation
        Degrees: the angle is uniform in [-rotation, rotation).
    scale
        Lowest and highest factor of both axes together.
    translation
        Largest shift as a fraction of the width (x) and of the height (y).
    noise
        Largest standard deviation of Gaussian noise as a fraction of the gray range.
    dropout
        Largest fraction of single pixels set to black.
    patch_dropout
        Largest fraction of the area set to black in coarse patches (of 2 to 10 % of the image's
        sides); each image gets single pixels or patches.
    blur
        Largest standard deviation of a Gaussian blur in pixels.
    sharpen
        Largest share of the sharpened image; each image gets blur or sharpening.
    contrast
        Contrast is scaled by 1 - contrast to 1 + contrast.
    probability
        Of each step that changes appearance.
    border
        What lies beyond the border of the image: "edge" repeats its last pixel, "constant" is
        black, and as in imgaug "reflect", "symmetric" and "wrap". The default adds neither a hard
        artificial edge, as black does, nor a second copy of body parts without labels, as the
        mirrors do.

    Returns
    -------
    ImgaugAugmenter

    Raises
    ------
    ValidationError
        On an amount that is negative or otherwise out of range.

    References
    ----------
    Graving et al. 2019, eLife 8:e47994, "Model training": random flips on both axes, rotation in
    [-180, 180), scale of 90 to 110 %, translation of 5 % on each axis; noise, dropout, blur or
    sharpening, contrast.
    """
    _check_options(locals())
    iaa = _imgaug()
    steps: list[ImgaugPipeline] = []
    if flip_horizontal:
        steps.append(iaa.Fliplr(0.5))
    if flip_vertical:
        steps.append(iaa.Flipud(0.5))
    if rotation or translation or tuple(scale) != (1, 1):
        shift = (-translation, translation)
        steps.append(
            iaa.Affine(
                rotate=(-rotation, rotation),
                scale=tuple(scale),
                translate_percent={"x": shift, "y": shift},
                order=1,
                mode=border,
            )
        )
    appearance: list[list[ImgaugPipeline]] = [
        [iaa.AdditiveGaussianNoise(scale=(0, noise * 255))] if noise else [],
        [
            *([iaa.Dropout(p=(0, dropout))] if dropout else []),
            *(
                [iaa.CoarseDropout(p=(0, patch_dropout), size_percent=(0.02, 0.1))]
                if patch_dropout
                else []
            ),
        ],
        [
            *([iaa.GaussianBlur(sigma=(0, blur))] if blur else []),
            *([iaa.Sharpen(alpha=(0, sharpen), lightness=1.0)] if sharpen else []),
        ],
        [iaa.LinearContrast((1 - contrast, 1 + contrast))] if contrast else [],
    ]
    for choices in appearance:
        if choices and probability:
            one = choices[0] if len(choices) == 1 else iaa.OneOf(choices)
            steps.append(iaa.Sometimes(probability, one))
    return ImgaugAugmenter(steps, skeleton)


STRONG: dict[str, Any] = {
    "scale": (0.75, 1.3), "translation": 0.1, "noise": 0.08, "dropout": 0.1, "patch_dropout": 0.15,
    "blur": 2.5, "contrast": 0.5, "probability": 0.7,
}  # fmt: skip


def strong_augmenter(skeleton: Skeleton | None = None, **options: Any) -> ImgaugAugmenter:
    """`default_augmenter` with larger amounts, for images that differ more than the labelled ones.

    For other cameras, light and animals. It takes longer to learn from.

    Parameters
    ----------
    skeleton
        Its left-right pairs swap in mirrored images.
    options
        As of `default_augmenter`, instead of those in `STRONG`.
    """
    return default_augmenter(skeleton, **{**STRONG, **options})


def make_augmenter(spec: Any, skeleton: Skeleton) -> Augmenter | None:
    """An augmenter from what a user may give.

    Parameters
    ----------
    spec
        None for no augmentation; "default" or the name of a plugin's augmenter; an `Augmenter`; an
        imgaug augmenter; a list of imgaug augmenters.
    skeleton
        For the left-right pairs.

    Raises
    ------
    PluginError
        When no augmenter has that name.
    ValidationError
        When the spec is something else.
    """
    if spec is None or isinstance(spec, Augmenter):
        return spec
    if isinstance(spec, str):
        from dpk_core.services.plugins import registry

        return registry().get("augmenters", spec).load()(skeleton)
    return ImgaugAugmenter(spec, skeleton)


def _imgaug() -> Any:
    try:
        import imgaug.augmenters
    except ImportError as error:
        raise MissingDependencyError(
            f"augmentation needs imgaug, which could not be imported ({error}); install it with "
            "python -m pip install 'dpk-core[train]'"
        ) from error
    return imgaug.augmenters


def _as_pipeline(pipeline: Any) -> ImgaugPipeline:
    iaa = _imgaug()
    if isinstance(pipeline, iaa.Augmenter):
        return pipeline
    if isinstance(pipeline, list | tuple):
        for i, step in enumerate(pipeline):
            if not isinstance(step, iaa.Augmenter):
                raise ValidationError(
                    f"augmenter: expected a list of imgaug augmenters, found "
                    f"{type(step).__name__} at position {i}"
                )
        return iaa.Sequential(list(pipeline))
    raise ValidationError(
        "augmenter: expected None, a name, a dpk_core.Augmenter, an imgaug augmenter or a list of "
        f"imgaug augmenters, found {type(pipeline).__name__}"
    )


class _Copy:
    """A copy of an imgaug pipeline whose randomness comes from a seed and nothing else.

    imgaug's own ``seed_`` misses some augmenters (the OneOf in ``Sometimes(0.5, OneOf(...))``), so
    all augmenters are looked up here. Its AutoPrefetcher, which draws random values ahead, is taken
    out: it keeps values from call to call and obeys a switch that all threads share, so that
    results would depend on history and timing.
    """

    def __init__(self, pipeline: ImgaugPipeline) -> None:
        self.pipeline = copy.deepcopy(pipeline)
        self._augmenters: list[ImgaugPipeline] = []
        _without_prefetching(self.pipeline, self._augmenters, set())

    def seed(self, seed: int) -> ImgaugPipeline:
        from imgaug.random import RNG

        children = np.random.SeedSequence(seed).spawn(len(self._augmenters))
        for augmenter, child in zip(self._augmenters, children, strict=True):
            if not augmenter.deterministic:
                augmenter.random_state = RNG(child)
        return self.pipeline


def _without_prefetching(thing: Any, augmenters: list[ImgaugPipeline], seen: set[int]) -> Any:
    """Replace every AutoPrefetcher within ``thing`` by what it wraps; collect the augmenters."""
    from imgaug.augmenters import Augmenter as ImgaugPipeline
    from imgaug.parameters import AutoPrefetcher
    from imgaug.random import RNG

    def walk(part: Any) -> Any:
        return _without_prefetching(part, augmenters, seen)

    if isinstance(thing, AutoPrefetcher):
        return walk(thing.other_param)
    if type(thing) is tuple:
        return tuple(walk(part) for part in thing)
    if id(thing) in seen or isinstance(thing, RNG | type):
        return thing
    seen.add(id(thing))
    if isinstance(thing, ImgaugPipeline):
        augmenters.append(thing)
    if isinstance(thing, list):  # which imgaug's Sequential and SomeOf are as well
        thing[:] = [walk(part) for part in thing]
    if isinstance(thing, dict):
        thing.update({name: walk(part) for name, part in thing.items()})
    elif type(thing).__module__.startswith("imgaug."):
        for name, part in list(getattr(thing, "__dict__", {}).items()):
            thing.__dict__[name] = walk(part)
    return thing


_REFERENCE = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]])
"""Three points, as fractions of width and height, whose turn tells a mirrored image."""


def _to_imgaug(keypoints: np.ndarray, present: np.ndarray, shape: tuple[int, ...]) -> list[Any]:
    """The present keypoints of each image, followed by the reference points."""
    from imgaug.augmentables.kps import KeypointsOnImage

    reference = _REFERENCE * (shape[1], shape[0])
    return [
        KeypointsOnImage.from_xy_array(
            np.concatenate([points[there] + _HALF_PIXEL, reference]), shape=shape
        )
        for points, there in zip(keypoints, present, strict=True)
    ]


def _from_imgaug(on_image: Any, n_present: int) -> tuple[np.ndarray, bool]:
    points = on_image.to_xy_array()
    if not len(points):  # a step blacked out the whole image and took the keypoints with it
        return np.full((n_present, 2), np.nan), False
    if len(points) != n_present + len(_REFERENCE):
        raise ValidationError(
            "augmenter: the imgaug pipeline removed some keypoints; leave out the step that does, "
            "such as RemoveCBAsByOutOfImageFraction"
        )
    (ax, ay), (bx, by), (cx, cy) = points[n_present:]
    mirrored = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) < 0
    return points[:n_present] - _HALF_PIXEL, bool(mirrored)


def _checked_images(moved: Any, images: np.ndarray) -> np.ndarray:
    shapes = {image.shape for image in moved}
    if shapes != {images.shape[1:]}:
        raise ValidationError(
            f"augmenter: the imgaug pipeline turned images of the shape {images.shape[1:]} into "
            f"{', '.join(map(str, sorted(shapes)))}; it must keep the size (keep_size=True in "
            "crops and quarter turns)"
        )
    moved = np.asarray(moved)
    check_uint8("images from the imgaug pipeline", moved)
    return moved


def _check_options(options: dict[str, Any]) -> None:
    limits = {
        "rotation": 180, "translation": 1, "noise": 1, "dropout": 1, "patch_dropout": 1,
        "blur": np.inf, "sharpen": 1, "contrast": 1, "probability": 1,
    }  # fmt: skip
    for name, highest in limits.items():
        if not 0 <= options[name] <= highest:
            raise ValidationError(
                f"{name}: expected a number from 0 to {highest}, found {options[name]}"
            )
    scale = options["scale"]
    if np.shape(scale) != (2,) or not 0 < scale[0] <= scale[1]:
        raise ValidationError(
            f"scale: expected the lowest and the highest factor, above 0, found {scale!r}"
        )
    if options["border"] not in BORDER_MODES:
        raise ValidationError(
            f"border: expected one of {BORDER_MODES}, found {options['border']!r}"
        )
