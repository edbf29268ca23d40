"""TrainingGenerator: from a file of labelled images to the batches that train a model."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike, fspath
from typing import Any

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.centroids import Centroids
from dpk_core.errors import (
    DpkError,
    ValidationError,
)
from dpk_core.interfaces import Augmenter, Dataset
from dpk_core.services.centroid_labels import label_centroids
from dpk_core.services.imaging import check_uint8, prepare_images, scale_keypoints, scaled_size
from dpk_core.services.sources import open_source, subset
from dpk_core.services.splits import Split, make_split
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task

CACHE_BYTES = 2**30
"""Images are kept in memory, as the network sees them, when they fit in this many bytes."""


class TrainingGenerator:
    """Labelled images, split and batched for training, for any model and framework.

    Parameters
    ----------
    source
        A ``.h5`` file of annotations (DeepPoseKit's or dpk's), anything else that a format plugin
        reads as annotations (a DeepLabCut project), or any `Dataset`.
    downsample_factor, use_graph, sigma, scale
        As in `Task`. With a scale, images are resized to ``round(side * scale)``; keypoints follow
        by the ratio of the sizes on each axis, which rounding may move off the nominal scale.
    augmenter
        What `dpk_core.services.augment.make_augmenter` takes: "default", the name of a plugin's
        augmenter, an `Augmenter`, an imgaug augmenter or a list of them, or None for none.
    validation_split
        Fraction held out for validation, 0 for none; see `dpk_core.services.splits.make_split`.
    shuffle
        Draw a new order of the training images each epoch.
    seed
        Of the split, the order and the augmentation.
    grayscale
        Convert images to one channel.
    group_by
        "auto", "video", "block" or "random": how images are held out.
    split
        A `Split` made earlier, instead of a new one.
    only_annotated
        Leave out the images that nobody marked as annotated, and positions within the others that
        nobody marked. False takes all images and positions of the file as they are.
    centroids
        Train a detector: all animals of an image in one map instead of the keypoints of one. None
        for poses.
    cache_bytes
        Keep the images in memory, resized and converted, when they need at most this many bytes;
        otherwise they are read whenever they are needed.

    Attributes
    ----------
    dataset : Dataset
        The images that are used, in original pixels.
    task : Task
        What a model needs to know.
    split : Split
        Rows of `dataset` for training and for validation.
    source_name : str
        The path that was given, "" for a `Dataset`.

    Raises
    ------
    FileMissingError, FileFormatError
        When the source is not there or nothing can read it.
    ValidationError
        When nothing is labelled, images are not uint8 or differ in size (the message names the
        first), or an option has a wrong value.

    Examples
    --------
    >>> images = np.zeros((10, 48, 64, 1), np.uint8)
    >>> keypoints = np.full((10, 1, 2), 20.0)
    >>> annotations = AnnotationSet(images, keypoints, Skeleton(("head",)))
    >>> generator = TrainingGenerator(annotations, augmenter=None)
    >>> generator
    TrainingGenerator(9 training and 1 validation images 48x64x1, 1 keypoint, split random)
    >>> batches = generator.batches(4)
    >>> len(batches), batches[0][0].shape, batches[0][1].shape
    (3, (4, 48, 64, 1), (4, 1, 2))
    """

    def __init__(
        self,
        source: str | PathLike[str] | Dataset,
        *,
        downsample_factor: int = 2,
        use_graph: bool | None = None,
        sigma: float = 5.0,
        augmenter: Any = "default",
        validation_split: float = 0.1,
        shuffle: bool = True,
        seed: int = 0,
        scale: float = 1.0,
        grayscale: bool = False,
        group_by: str = "auto",
        split: Split | None = None,
        only_annotated: bool = True,
        centroids: Centroids | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        dataset = open_source(source, whole_frames=centroids is not None)
        if centroids is None:
            self.dataset = _usable(dataset, only_annotated)
        else:
            self.dataset, centroids = label_centroids(dataset, centroids, only_annotated)
        self.source_name = "" if isinstance(source, Dataset) else fspath(source)
        height, width, channels = self.dataset.image_shape
        size = scaled_size((height, width), scale)
        self.task = Task(
            image_shape=(*size, 1 if grayscale else channels),
            skeleton=self.dataset.skeleton,
            downsample_factor=downsample_factor,
            use_graph=use_graph,
            sigma=sigma,
            scale=scale,
            centroids=centroids,
        )
        self.seed = int(seed)
        self.shuffle = bool(shuffle)
        self.split = self._make_split(split, validation_split, group_by)
        self.augmenter = _make_augmenter(augmenter, self.skeleton)
        self.augmentation = _name_of(augmenter)
        self._examples = _Examples(self.dataset, self.task, cache_bytes)

    @property
    def skeleton(self) -> Skeleton:
        return self.task.skeleton

    @property
    def n_train(self) -> int:
        return len(self.split.train)

    @property
    def n_validation(self) -> int:
        return len(self.split.validation)

    def training_dataset(self) -> Dataset:
        """The images that train, in original pixels."""
        return subset(self.dataset, self.split.train)

    def validation_dataset(self) -> Dataset:
        """The images that validate, in original pixels: errors on it are errors in pixels."""
        return subset(self.dataset, self.split.validation)

    def batches(
        self,
        batch_size: int,
        *,
        validation: bool = False,
        augment: bool | None = None,
        epoch: int = 0,
        drop_last: bool = False,
        shuffle: bool | None = None,
    ) -> Batches:
        """The batches of one epoch.

        Parameters
        ----------
        batch_size
            Images in a batch; the last one may have fewer.
        validation
            Take the validation images instead of the training images.
        augment
            Default: only when training.
        epoch
            Each epoch has its own order and its own augmentation.
        drop_last
            Leave out a last batch that is not full (unless it is the only one).
        shuffle
            Default: as the generator, and never for validation.

        Returns
        -------
        Batches
            ``[i]`` is determined by the generator's seed, the epoch and i alone.
        """
        if batch_size < 1:
            raise ValidationError(f"batch_size: expected at least 1, found {batch_size}")
        rows = self.split.validation if validation else self.split.train
        shuffle = (self.shuffle and not validation) if shuffle is None else shuffle
        if shuffle:
            rows = np.random.default_rng([self.seed, epoch, 0]).permutation(rows)
        augment = not validation if augment is None else augment
        return Batches(
            self._examples,
            rows,
            batch_size,
            self.augmenter if augment else None,
            (self.seed, epoch),
            drop_last,
        )

    def _make_split(self, split: Split | None, fraction: float, group_by: str) -> Split:
        if split is not None:
            return split.check_fits(len(self.dataset))
        return make_split(
            len(self.dataset),
            fraction,
            seed=self.seed,
            groups=self.dataset.groups,
            frames=self.dataset.frames,
            group_by=group_by,
        )

    def __repr__(self) -> str:
        h, w, c = self.task.image_shape
        return (
            f"TrainingGenerator({self.n_train} training and {self.n_validation} validation images "
            f"{h}x{w}x{c}, {self.task.finds}, split {self.split.method})"
        )


class Batches:
    """The batches of one epoch, by number, each made when it is asked for.

    ``[i]`` gives images (b, h, w, c) uint8 and keypoints (b, k, 2) float32 in pixels of those
    images, NaN for missing. It may be called from several threads at once, in any order.
    """

    def __init__(
        self,
        examples: _Examples,
        rows: np.ndarray,
        batch_size: int,
        augmenter: Augmenter | None,
        seed: tuple[int, int],
        drop_last: bool = False,
    ) -> None:
        self._examples = examples
        self._augmenter = augmenter
        self._seed = seed
        n_full = len(rows) // batch_size
        keep_rest = not drop_last or not n_full
        stop = len(rows) if keep_rest else n_full * batch_size
        self._rows = [rows[i : min(i + batch_size, stop)] for i in range(0, stop, batch_size)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        index = range(len(self))[index]
        images, keypoints = self._examples.take(self._rows[index])
        if self._augmenter is None:
            return images, keypoints
        seed = np.random.SeedSequence([*self._seed, 1, index]).generate_state(1)[0]
        return self._augmenter.augment(images, keypoints, int(seed))

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (self[i] for i in range(len(self)))

    def rows(self, index: int) -> np.ndarray:
        """Rows of the generator's dataset that batch ``index`` is made of."""
        return self._rows[index]


def _usable(dataset: Dataset, only_annotated: bool) -> Dataset:
    """The images to learn from; ValidationError, with what to do, when there is none."""
    if isinstance(dataset, AnnotationSet):
        if not len(dataset):
            raise ValidationError("expected labelled images, found a set without images")
        if only_annotated:
            return _annotated(dataset)
        if np.isnan(dataset.keypoints).all():
            raise ValidationError(
                f"none of the {len(dataset)} images has a keypoint position; annotate some first"
            )
    elif not len(dataset):
        raise ValidationError("expected labelled images, found a dataset without images")
    return dataset


def _annotated(dataset: AnnotationSet) -> AnnotationSet:
    labelled = dataset.labelled()
    if not len(labelled):
        has_positions = not np.isnan(dataset.keypoints).all()
        hint = (
            "; positions are there, though: only_annotated=False (--all-labels) trains on them"
            if has_positions
            else ""
        )
        raise ValidationError(
            f"none of the {len(dataset)} images is marked as annotated; annotate some first{hint}"
        )
    return labelled


def _name_of(augmenter: Any) -> str:
    """What tells one augmentation from another in the notes of a training; settings do not."""
    if augmenter is None or isinstance(augmenter, str):
        return augmenter or "none"
    steps = augmenter if isinstance(augmenter, list | tuple) else [augmenter]
    return ", ".join(type(step).__name__ for step in steps)


def _make_augmenter(augmenter: Any, skeleton: Skeleton) -> Augmenter | None:
    if augmenter is None or isinstance(augmenter, Augmenter):
        return augmenter
    from dpk_core.services.augment import make_augmenter

    return make_augmenter(augmenter, skeleton)


class _Examples:
    """Images and keypoints as the network sees them, from memory where they fit."""

    def __init__(self, dataset: Dataset, task: Task, cache_bytes: int) -> None:
        self._dataset = dataset
        self._task = task
        n_bytes = len(dataset) * int(np.prod(task.image_shape))
        self._cache = self._read_all() if n_bytes <= cache_bytes else None

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._cache is not None:
            images, keypoints = self._cache
            return images[rows], keypoints[rows]
        examples = [self._read(int(i)) for i in rows]
        return (
            np.stack([image for image, _ in examples]),
            np.stack([keypoints for _, keypoints in examples]),
        )

    def _read_all(self) -> tuple[np.ndarray, np.ndarray]:
        n = len(self._dataset)
        images = np.empty((n, *self._task.image_shape), np.uint8)
        keypoints = np.empty((n, self._task.n_keypoints, 2), np.float32)
        for i in range(n):
            images[i], keypoints[i] = self._read(i)
        return images, keypoints

    def _read(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        image, keypoints = _checked(self._dataset, i)
        size = image.shape[:2]
        target = self._task.image_shape[:2]
        prepared = prepare_images(image[None], self._task)[0]
        return prepared, scale_keypoints(keypoints, size, target)


def _checked(dataset: Dataset, i: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        sample = dataset[i]
    except DpkError:
        raise
    except (OSError, ValueError) as error:
        raise ValidationError(f"image {i} of the dataset could not be read: {error}") from error
    image = np.asarray(sample.image)
    if image.shape != tuple(dataset.image_shape):
        raise ValidationError(
            f"image {i} of the dataset has the shape {image.shape}, the dataset says "
            f"{tuple(dataset.image_shape)}; all images must have one size: crop, pad or resize "
            "them first"
        )
    check_uint8(f"image {i} of the dataset", image)
    keypoints = np.asarray(sample.keypoints, dtype=np.float32)
    expected = (len(dataset.skeleton), 2)
    if keypoints.shape != expected:
        raise ValidationError(
            f"keypoints of image {i}: expected shape {expected}, found {keypoints.shape}"
        )
    return image, keypoints
