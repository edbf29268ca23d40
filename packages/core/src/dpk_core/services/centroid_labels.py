"""From labels of single animals to what a detector learns: whole frames and a point an animal."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet, ImageRows, Source
from dpk_core.centroids import Centroids
from dpk_core.errors import DpkWarning, ValidationError
from dpk_core.interfaces import Dataset
from dpk_core.services.individuals import group_by_frame
from dpk_core.skeleton import Skeleton


def label_centroids(
    dataset: Dataset, centroids: Centroids, only_annotated: bool = True
) -> tuple[AnnotationSet, Centroids]:
    """Whole frames with a point for each animal in them.

    Rows of the set that are of one frame of one video are its individuals. Of a row that nobody
    labelled nobody knows where its animal is; the same goes for one whose ``anchor`` is missing
    while others of its keypoints are there. Such animals make the set partly labelled. Frames
    without any known point are left out.

    Parameters
    ----------
    dataset
        An `AnnotationSet` of whole frames, with a row for each animal.
    centroids
        What a user asks for.
    only_annotated
        Ignore keypoints that nobody marked as annotated.

    Returns
    -------
    The frames in the order in which they first appear, with a skeleton of as many places as there
    may be animals, filled from the first and in no order; and ``centroids`` with everything that
    was left open.

    Raises
    ------
    ValidationError
        When nothing is labelled, the anchor is no keypoint, the images are crops around single
        animals, or there are more animals in an image than allowed.

    Examples
    --------
    >>> found = [Source("a.mp4", 7, name) for name in ("he", "she")]
    >>> keypoints = np.array([[[2.0, 3], [6, 3]], [[9, 8], [9, 12]]])
    >>> images = np.zeros((2, 16, 24, 1), np.uint8)
    >>> labels = AnnotationSet(images, keypoints, Skeleton(("head", "tail")), sources=found)
    >>> frames, centroids = label_centroids(labels, Centroids(max_animals=2))
    >>> frames.keypoints.tolist(), centroids.width, centroids.height
    ([[[4.0, 3.0], [9.0, 10.0]]], 2.0, 2.0)
    """
    if not isinstance(dataset, AnnotationSet):
        raise ValidationError(
            "centroids: expected an AnnotationSet, whose sources say which rows are of one frame; "
            f"found {type(dataset).__name__}"
        )
    keypoints = dataset.keypoints
    if only_annotated:
        keypoints = np.where(dataset.annotated[..., None], keypoints, np.nan)
    labelled = np.isfinite(keypoints).all(axis=2).any(axis=1)
    if not labelled.any():
        raise ValidationError(_nothing(dataset, only_annotated))
    places = _places(keypoints, dataset.skeleton, centroids.anchor)
    known = np.isfinite(places).all(axis=1)
    # An animal that a person dealt with and found no keypoint of is not in the frame.
    unknown = (labelled & ~known) | ~dataset.annotated.any(axis=1) & ~labelled
    frames = _frames(dataset, known)
    largest = max(int(known[rows].sum()) for rows in frames)
    limit = centroids.max_animals or 2 * largest
    if largest > limit:
        raise ValidationError(
            f"max_animals: expected at least {largest}, as many as are labelled in one image, "
            f"found {limit}"
        )
    partly = centroids.partly_labelled
    if partly is None:
        partly = any(unknown[rows].any() for rows in frames)
    width, height = _typical_size(keypoints[labelled])
    filled = attrs.evolve(
        centroids, max_animals=limit, partly_labelled=partly, width=width, height=height
    )
    return _framed(dataset, frames, places, known, limit), filled


def _places(keypoints: np.ndarray, skeleton: Skeleton, anchor: str | None) -> np.ndarray:
    """(n, k, 2) keypoints -> (n, 2): the anchor, or the middle of the box around them all."""
    if anchor is None:
        low, high = _bounds(keypoints)
        return (low + high) / 2
    if anchor not in skeleton.names:
        raise ValidationError(
            f"anchor: expected one of the keypoints {', '.join(skeleton.names)}, found {anchor!r}"
        )
    places = keypoints[:, skeleton.names.index(anchor)]
    if not np.isfinite(places).any():
        raise ValidationError(
            f"anchor: {anchor!r} is labelled in no image; choose another keypoint, or none for the "
            "middle of each animal"
        )
    return places


def _bounds(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) smallest and largest x, y; NaN for animals without a keypoint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about rows of NaN alone
        return np.nanmin(keypoints, axis=1), np.nanmax(keypoints, axis=1)


def _typical_size(keypoints: np.ndarray) -> tuple[float | None, float | None]:
    low, high = _bounds(keypoints)
    width, height = np.median(high - low, axis=0)
    return (float(width) or None), (float(height) or None)


def _frames(dataset: AnnotationSet, known: np.ndarray) -> list[list[int]]:
    """Rows of each frame that shows a known animal."""
    chosen = []
    for video, frame, rows in group_by_frame(dataset):
        if len({dataset.sources[i].crop for i in rows}) > 1:
            raise ValidationError(
                f"centroids: the images of frame {frame} of {video} are crops around single "
                "animals; a detector learns from whole frames: train it on the labels that they "
                "were cropped from"
            )
        if known[rows].any():
            chosen.append(rows)
    return chosen


def _framed(
    dataset: AnnotationSet,
    frames: Sequence[Sequence[int]],
    places: np.ndarray,
    known: np.ndarray,
    limit: int,
) -> AnnotationSet:
    keypoints = np.full((len(frames), limit, 2), np.nan)
    sources = []
    for i, rows in enumerate(frames):
        points = places[[row for row in rows if known[row]]]
        keypoints[i, : len(points)] = points
        source = dataset.sources[rows[0]]
        sources.append(Source(source.video, source.frame, crop=source.crop, size=source.size))
    _warn_of_others(dataset.image_shape, keypoints)
    return AnnotationSet(
        images=ImageRows(dataset.images, np.array([rows[0] for rows in frames])),
        keypoints=keypoints,
        skeleton=Skeleton(tuple(f"animal_{i + 1}" for i in range(limit))),
        sources=tuple(sources),
    )


def _warn_of_others(shape: tuple[int, int, int], keypoints: np.ndarray) -> None:
    """Animals labelled beyond the image can't be seen; coordinates of another scale look so."""
    height, width, _ = shape
    outside = (keypoints < -0.5) | (keypoints > np.array([width, height]) - 0.5)
    n = int(outside.any(axis=2).sum())
    if n:
        warnings.warn(
            f"{n} of {int(np.isfinite(keypoints).all(axis=2).sum())} animals are labelled outside "
            f"their images of {width}x{height} pixels (width x height)",
            DpkWarning,
            stacklevel=5,
        )


def _nothing(dataset: AnnotationSet, only_annotated: bool) -> str:
    text = f"no animal is labelled in the {len(dataset)} images; a detector needs some"
    if only_annotated and np.isfinite(dataset.keypoints).any():
        text += (
            ". Positions are there, though, which nobody marked as annotated: "
            "only_annotated=False (--all-labels) trains on them"
        )
    return text
