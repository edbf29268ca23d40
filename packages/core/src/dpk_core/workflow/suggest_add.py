"""Put suggested frames into a set, with what the model found in them as a first guess."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import attrs
import numpy as np

from dpk_core.annotations import NOT_LABELLED, AnnotationSet
from dpk_core.errors import FileMissingError, ValidationError
from dpk_core.lazy_images import LazyImages
from dpk_core.poses import Poses
from dpk_core.services.imaging import match_channels
from dpk_core.services.storage import append_annotations, read_annotations, update_annotations
from dpk_core.skeleton import Skeleton
from dpk_core.workflow.progress import Progress, ignore
from dpk_core.workflow.suggest import Suggestions, given_poses
from dpk_core.workflow.suggest_images import RowImages


def add_suggestions(
    output: str | PathLike[str],
    suggestions: Suggestions,
    source: str | PathLike[str] | AnnotationSet,
    poses: str | PathLike[str] | Poses | None = None,
    *,
    progress: Progress = ignore,
) -> int:
    """Add suggested frames to a set, unlabelled; keypoints begin where the model found them.

    These guesses are no labels: ``annotated`` is False and the visibility 0, so that training and
    evaluation leave them out until a person has dealt with them. Keypoints are matched by name.
    When the set is the very source, its images get the guesses where nobody has labelled.

    Parameters
    ----------
    output
        The set. Frames smaller than its images are padded on the right and at the bottom.
    suggestions
        From `dpk_core.workflow.suggest.suggest_frames`.
    source, poses
        The same as there.

    Returns
    -------
    int
        Images added, or given guesses.

    Raises
    ------
    FileMissingError, FileFormatError, OutputError, VideoError
    ValidationError
        When the set has none of the poses' keypoints, or its images are smaller than the frames.
    """
    output = Path(output)
    if not output.exists():
        raise FileMissingError(
            f"no annotation set at {output} to add to; begin one with dpk sample"
        )
    found, folder = given_poses(source, poses)
    given = source if isinstance(source, AnnotationSet) else Path(source)
    rows = suggestions.rows
    with RowImages(given, found, folder) as images:
        present = read_annotations(output)
        columns = _columns(found.skeleton, present.skeleton, output)
        keypoints = np.full((len(rows), len(present.skeleton), 2), np.nan)
        for place, row in zip(keypoints, rows.tolist(), strict=True):
            place[list(columns)] = images.keypoints(row)[list(columns.values())]
        if not len(rows):
            return 0
        if isinstance(given, Path) and given.exists() and given.samefile(output):
            _fill_guesses(output, present, found.frames[rows], keypoints)
            return len(rows)
        added = _SuggestedImages(images, rows, present, output, progress)
        sources = [images.source(row, output.parent) for row in rows.tolist()]
        if added.size != present.image_shape[:2]:
            sources = [attrs.evolve(one, size=one.size or added.size) for one in sources]
        shape = keypoints.shape[:2]
        append_annotations(
            output,
            AnnotationSet(
                added,
                keypoints,
                present.skeleton,
                annotated=np.zeros(shape, bool),
                visibility=np.full(shape, NOT_LABELLED, np.uint8),
                sources=tuple(sources),
            ),
        )
    return len(rows)


class _SuggestedImages(LazyImages):
    """The images of suggested rows in the size and channels of a set, read when asked for."""

    def __init__(
        self,
        images: RowImages,
        rows: np.ndarray,
        present: AnnotationSet,
        output: Path,
        progress: Progress,
    ) -> None:
        self._images, self._rows, self._progress = images, rows, progress
        self.shape = (len(rows), *present.image_shape)
        height, width = images.image(int(rows[0])).shape[:2]
        self.size = (height, width)
        if height > self.shape[1] or width > self.shape[2]:
            raise ValidationError(
                f"{images.named} has images of {height}x{width} pixels (height x width), "
                f"{output} of {self.shape[1]}x{self.shape[2]}; add them to a set of their own "
                "(dpk sample begins one)"
            )

    def image(self, row: int) -> np.ndarray:
        self._progress(row, len(self), "adding frames")
        image = match_channels(self._images.image(int(self._rows[row])), self.shape[3])
        padded = np.zeros(self.shape[1:], np.uint8)
        padded[: self.size[0], : self.size[1]] = image
        return padded


def _columns(poses: Skeleton, labels: Skeleton, output: Path) -> dict[int, int]:
    """Keypoint of the set -> keypoint of the poses, by name."""
    common = {j: poses.index(name) for j, name in enumerate(labels.names) if name in poses.names}
    if not common:
        raise ValidationError(
            f"the poses and {output} have no keypoint in common: the poses have "
            f"{', '.join(poses.names)}; the set has {', '.join(labels.names)}"
        )
    return common


def _fill_guesses(
    output: Path, present: AnnotationSet, rows: np.ndarray, guesses: np.ndarray
) -> None:
    keep = present.annotated[rows]
    known = np.isfinite(guesses).all(axis=2) & ~keep
    keypoints = np.where(known[..., None], guesses, present.keypoints[rows])
    visibility = np.where(known, NOT_LABELLED, present.visibility[rows])
    update_annotations(output, rows, keypoints=keypoints, visibility=visibility)
