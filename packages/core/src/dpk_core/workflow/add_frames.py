"""Add chosen frames of a video to a set, to be labelled."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import FileMissingError, ValidationError
from dpk_core.lazy_images import LazyImages
from dpk_core.services.imaging import match_channels
from dpk_core.services.storage import append_annotations, read_annotations
from dpk_core.services.video_paths import portable
from dpk_core.workflow.progress import Progress, ignore
from dpk_core.workflow.taken_frames import frames_by_video, names_of

if TYPE_CHECKING:
    from dpk_core.services.video import VideoReader


def add_frames(
    output: str | PathLike[str],
    video: str | PathLike[str],
    frames: Sequence[int],
    *,
    progress: Progress = ignore,
) -> list[int]:
    """Append frames to a set, unlabelled; those that it has already are left out.

    Parameters
    ----------
    output
        The set. Frames smaller than its images are padded at the right and bottom; colour and gray
        follow the set.
    video
        The video; in the set it is named relative to it where they are near each other.
    frames
        Their numbers, in any order.

    Returns
    -------
    list of int
        The frames that were added, ascending, in the order of their new rows.

    Raises
    ------
    FileMissingError, FileFormatError, OutputError, VideoError
    ValidationError
        When a frame is not there, or is larger than the set's images.
    """
    from dpk_core.services.video import VideoReader

    output, video = Path(output), Path(video)
    if not output.exists():
        raise FileMissingError(f"no set at {output} to add to; begin one with dpk sample")
    with VideoReader(video) as reader:
        wanted = sorted(set(frames))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < len(reader):
            raise ValidationError(
                f"frames: {video} has the frames 0 to {len(reader) - 1}, "
                f"found {wanted[0]} to {wanted[-1]}"
            )
        present = read_annotations(output)
        new = [i for i in wanted if i not in _taken(present, video, output.parent)]
        if not new:
            return []
        _check_size(present, reader, video, output)
        name = portable(video, output.parent)
        height, width = reader.shape[:2]
        size = None if (height, width) == present.image_shape[:2] else (height, width)
        keypoints = np.full((len(new), len(present.skeleton), 2), np.nan)
        append_annotations(
            output,
            AnnotationSet(
                _Frames(reader, new, present.image_shape, progress),
                keypoints,
                present.skeleton,
                sources=tuple(Source(name, i, size=size) for i in new),
            ),
        )
    return new


def _taken(present: AnnotationSet, video: Path, folder: Path) -> set[int]:
    known = frames_by_video(present, folder)
    names = names_of(portable(video, folder), folder) | names_of(video.as_posix())
    return {frame for name in names for frame in known.get(name, [])}


def _check_size(present: AnnotationSet, reader: VideoReader, video: Path, output: Path) -> None:
    height, width = present.image_shape[:2]
    if reader.shape[0] > height or reader.shape[1] > width:
        raise ValidationError(
            f"{video.name} has frames of {reader.shape[0]}x{reader.shape[1]} pixels (height x "
            f"width), {output.name} has images of {height}x{width}; add them to a set of their own "
            "(dpk sample begins one)"
        )


class _Frames(LazyImages):
    """Frames in the size and channels of a set, decoded when they are asked for."""

    def __init__(
        self,
        reader: VideoReader,
        numbers: Sequence[int],
        shape: tuple[int, int, int],
        progress: Progress,
    ) -> None:
        self._reader, self._numbers, self._progress = reader, numbers, progress
        self.shape = (len(numbers), *shape)

    def image(self, row: int) -> np.ndarray:
        frame = match_channels(self._reader[self._numbers[row]], self.shape[3])
        image = np.zeros(self.shape[1:], np.uint8)
        image[: frame.shape[0], : frame.shape[1]] = frame
        self._progress(row + 1, len(self), "adding frames")
        return image
