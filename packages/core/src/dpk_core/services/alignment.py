"""Labelled animals turned so that all of them point to the right."""

from __future__ import annotations

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet, ImageSource
from dpk_core.errors import ValidationError
from dpk_core.lazy_images import LazyImages
from dpk_core.services.cropper import Cropper
from dpk_core.services.individuals import MARGIN, crop_size, cropped_source


def align_individuals(
    annotations: AnnotationSet,
    tail: str,
    head: str,
    size: int | tuple[int, int] | None = None,
    *,
    margin: float = MARGIN,
) -> AnnotationSet:
    """Each labelled animal in an image of its own, its body axis along the x axis.

    The middle between ``tail`` and ``head`` comes to the middle of the image, ``head`` to the right
    of it. A model then need not learn the same posture in every direction; predict with
    ``dpk predict --tracks --rotate``, which turns the same way. Source: Graving et al. 2019, eLife
    8:e47994, Methods ("aligned"), where zebras and locusts were turned so before annotation.

    Parameters
    ----------
    annotations
        With a row for each animal.
    tail, head
        Names of the keypoints at the two ends of the body axis. Animals in which one of them is
        missing, or both lie at one place, are left out.
    size
        Side, or (height, width), of all images in pixels. Default: the largest extent of an animal
        about its middle and a margin, in multiples of 32.
    margin
        On each side, as a share of that extent.

    Returns
    -------
    AnnotationSet
        Images are turned when they are asked for (bilinear, black outside of the frame), keypoints
        are exact: ``Source.crop`` maps pixels of the frame to those of the image.

    Raises
    ------
    SkeletonError
        When there is no such keypoint.
    ValidationError
        When no animal has both, or the size or margin is out of range.
    """
    ends = [annotations.skeleton.index(name) for name in (tail, head)]
    if ends[0] == ends[1]:
        raise ValidationError(f"tail and head: expected two keypoints, found {tail!r} twice")
    start, end = np.moveaxis(np.asarray(annotations.keypoints, np.float64)[:, ends], 1, 0)
    rows = np.flatnonzero(np.hypot(*(end - start).T) > 1e-6)  # NaN is not
    if not len(rows):
        raise ValidationError(
            f"no animal can be turned: none has both {tail!r} and {head!r} labelled apart"
        )
    labelled = annotations.subset(rows)
    middle, axis = (start[rows] + end[rows]) / 2, end[rows] - start[rows]
    angle = np.arctan2(axis[:, 1], axis[:, 0])
    about = Cropper((1, 1), rotate=True)
    extent = np.nanmax(np.abs(_map(about, middle, angle, labelled.keypoints)), axis=(0, 1))
    width, height = 2 * extent
    cropper = Cropper(crop_size((height, width), size, margin), rotate=True)
    matrices = cropper.matrices(middle[:, 0], middle[:, 1], angle)
    return attrs.evolve(
        labelled,
        images=_Turned(labelled.images, cropper, matrices),
        keypoints=Cropper.apply(matrices, np.asarray(labelled.keypoints, np.float64)),
        sources=tuple(map(cropped_source, labelled.sources, matrices)),
    )


class _Turned(LazyImages):
    """Pieces of images, each by a map of its own, made when they are asked for."""

    def __init__(self, images: ImageSource, cropper: Cropper, matrices: np.ndarray) -> None:
        self._images, self._cropper, self._matrices = images, cropper, matrices
        self.shape = (len(images), *cropper.size, images.shape[3])

    def image(self, row: int) -> np.ndarray:
        found: np.ndarray = self._cropper.crop(
            np.asarray(self._images[row]), self._matrices[row : row + 1]
        )[0]
        return found


def _map(cropper: Cropper, middle: np.ndarray, angle: np.ndarray, points: np.ndarray) -> np.ndarray:
    matrices = cropper.matrices(middle[:, 0], middle[:, 1], angle)
    return Cropper.apply(matrices, np.asarray(points, np.float64))
