"""Several animals in a frame: cropped out one by one, and put back together.

An `AnnotationSet` has a row for each animal of a frame. Top-down models learn from crops around
single animals; files of other programs hold frames with several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet, ImageSource, Source
from dpk_core.errors import ValidationError
from dpk_core.lazy_images import LazyImages
from dpk_core.services.cropper import copy_piece

MARGIN = 0.25
"""Around the labelled keypoints, on each side, as a share of the largest animal's extent."""

MULTIPLE = 32
"""Crops have a side that every network can halve often enough."""


def count_individuals(annotations: AnnotationSet) -> int:
    """The largest number of labelled rows that share a frame; 0 without any label."""
    labelled = np.flatnonzero(np.isfinite(annotations.keypoints).any(axis=(1, 2)))
    frames = group_by_frame(annotations.subset(labelled)) if len(labelled) else []
    return max((len(rows) for _, _, rows in frames), default=0)


def group_by_frame(annotations: AnnotationSet) -> list[tuple[str, int, list[int]]]:
    """(video, frame, rows) of each frame, in the order in which frames first appear.

    A row whose video or frame is not known is a frame of its own.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, source in enumerate(annotations.sources):
        known = bool(source.video) and source.frame >= 0
        key = (source.video, source.frame) if known else (source.video, source.frame, i)
        groups.setdefault(key, []).append(i)
    return [(key[0], key[1], rows) for key, rows in groups.items()]


def keypoints_in_frames(annotations: AnnotationSet) -> np.ndarray:
    """(n, k, 2) float64: keypoints in pixels of the frames that the images were cropped from."""
    found = np.array(annotations.keypoints, np.float64)
    for i, source in enumerate(annotations.sources):
        if source.crop is not None:
            matrix = np.array(source.crop).reshape(2, 3)
            found[i] = np.linalg.solve(matrix[:, :2], (found[i] - matrix[:, 2]).T).T
    return found


def crop_individuals(
    annotations: AnnotationSet,
    size: int | tuple[int, int] | None = None,
    *,
    margin: float = MARGIN,
) -> AnnotationSet:
    """Each labelled animal in an image of its own, cut out around its keypoints.

    Crops are shifted by whole pixels, so no image is resampled and no coordinate rounded; what
    lies outside the frame is black. ``Source.crop`` maps pixels of the frame to those of the crop.

    Parameters
    ----------
    annotations
        With a row for each animal. Rows without a label are left out: nobody knows where they are.
    size
        Side, or (height, width), of all crops in pixels. Default: the largest extent of an animal
        and a margin, in multiples of 32.
    margin
        On each side, as a share of the largest extent.

    Raises
    ------
    ValidationError
        When nothing is labelled, or the size or margin is out of range.
    """
    rows = np.flatnonzero(np.isfinite(annotations.keypoints).any(axis=(1, 2)))
    if not len(rows):
        raise ValidationError("no animal to crop out: nothing is labelled in this set")
    labelled = annotations.subset(rows)
    low, high = _bounds(labelled.keypoints)
    extent = float((high - low).max())
    height, width = crop_size((extent, extent), size, margin)
    center = (low + high) / 2
    left = np.floor(center[:, 0] - (width - 1) / 2 + 0.5).astype(int)
    top = np.floor(center[:, 1] - (height - 1) / 2 + 0.5).astype(int)
    corners = np.stack([left, top], axis=1)
    return attrs.evolve(
        labelled,
        images=Crops(labelled.images, corners, (height, width)),
        keypoints=labelled.keypoints - corners[:, None],
        sources=tuple(
            cropped_source(source, np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]]))
            for source, x, y in zip(labelled.sources, left, top, strict=True)
        ),
    )


class Crops(LazyImages):
    """Pieces of one size cut out of larger images when they are asked for; black outside them.

    Parameters
    ----------
    images
        (n, h, w, c) images.
    corners
        (n, 2) whole x and y of each piece's top-left pixel in its image.
    size
        (height, width) of all pieces.
    """

    def __init__(self, images: ImageSource, corners: np.ndarray, size: Sequence[int]) -> None:
        self._images = images
        self._corners = np.asarray(corners, np.int64)
        self.shape = (len(images), int(size[0]), int(size[1]), images.shape[3])

    def image(self, row: int) -> np.ndarray:
        piece = np.zeros(self.shape[1:], np.uint8)
        copy_piece(np.asarray(self._images[row]), piece, self._corners[row])
        return piece


def _bounds(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) smallest and largest x, y of each animal."""
    missing = np.isnan(keypoints)
    low = np.where(missing, np.inf, keypoints).min(axis=1)
    high = np.where(missing, -np.inf, keypoints).max(axis=1)
    return low, high


def crop_size(
    extent: tuple[float, float], size: int | tuple[int, int] | None, margin: float
) -> tuple[int, int]:
    """(height, width) of crops: those asked for, or what an animal of that (height, width) and a
    margin on each side need, in multiples of `MULTIPLE`; ValidationError on what cannot be."""
    if not np.isfinite(margin) or margin < 0:
        raise ValidationError(f"margin: expected a share of the animal from 0, found {margin}")
    if size is None:
        height, width = (
            MULTIPLE * math.ceil((side + 1) * (1 + 2 * margin) / MULTIPLE) for side in extent
        )
        return height, width
    height, width = (size, size) if isinstance(size, (int, np.integer)) else size
    if min(height, width) < 1:
        raise ValidationError(f"size: expected a side in pixels from 1, found {size}")
    return int(height), int(width)


def cropped_source(source: Source, matrix: np.ndarray) -> Source:
    """Where an image came from once it was cropped by a (2, 3) map from its pixels to new ones."""
    if source.crop is not None:  # a crop of a crop
        before = np.vstack([np.array(source.crop).reshape(2, 3), [0, 0, 1]])
        matrix = matrix @ before
    return attrs.evolve(source, crop=tuple(matrix.ravel().tolist()), size=None)
