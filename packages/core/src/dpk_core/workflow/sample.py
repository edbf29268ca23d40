"""Sample frames of videos into a new annotation set, or add them to one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import FileMissingError, ValidationError
from dpk_core.lazy_images import LazyImages
from dpk_core.services.sampling import sample_frames
from dpk_core.services.storage import append_annotations, read_annotations, write_annotations
from dpk_core.services.storage.atomic import check_output
from dpk_core.services.video_paths import portable
from dpk_core.skeleton import Skeleton
from dpk_core.workflow.progress import Progress, ignore
from dpk_core.workflow.taken_frames import (
    frames_by_video,
    names_of,
    plain_name,
    taken_frames,
)

if TYPE_CHECKING:
    from dpk_core.services.video import VideoReader


@attrs.frozen
class Sampling:
    """What was sampled.

    Parameters
    ----------
    output
        The annotation set.
    added
        Frames added, by video.
    skipped
        Frames that were in the set already and could not be chosen, by video.
    n_images
        Images in the set now.
    notes
        What a user should know, such as a video with fewer frames than asked for.
    """

    output: Path
    added: dict[str, int]
    skipped: dict[str, int]
    n_images: int
    notes: tuple[str, ...] = ()


def sample_videos(
    videos: Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    skeleton: str | PathLike[str] | Skeleton | None = None,
    *,
    n_frames: int = 50,
    method: str = "kmeans",
    seed: int = 0,
    grayscale: bool = False,
    append: bool = False,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> Sampling:
    """Choose frames of videos to annotate and write them to an annotation set, all unlabelled.

    Memory stays flat: frames are read once more, one by one, as they are written.

    Parameters
    ----------
    videos
        All of one frame size.
    skeleton
        A skeleton or its CSV file; not needed to append.
    n_frames
        From each video.
    method, seed
        See `dpk_core.services.sampling.sample_frames`.
    grayscale
        Store one channel; a set that is appended to keeps its own number.
    append
        Add to the set that is there. Frames that it holds already are not chosen again.
    overwrite
        Replace the set that is there, with its labels.

    Raises
    ------
    FileMissingError, VideoError, SkeletonError
    OutputExistsError, OutputError
    ValidationError
        When frame sizes differ (the message names the video), or nothing is left to choose.
    """
    output = Path(output)
    if not videos:
        raise ValidationError("videos: expected at least one")
    present = _present(output, append=append, overwrite=overwrite)
    skeleton = _skeleton(skeleton, present)
    taken = frames_by_video(present, output.parent)
    notes: list[str] = []
    with ExitStack() as stack:
        if present is not None:
            grayscale = present.image_shape[2] == 1
        readers = _open(videos, grayscale, stack)
        shape = _common_shape(readers, present, output)
        chosen: dict[str, np.ndarray] = {}
        for name, reader in readers.items():
            exclude = taken_frames(taken, name)
            chosen[name] = _choose(name, reader, n_frames, method, seed, exclude, progress, notes)
        images = _ChosenFrames(readers, chosen, shape, progress)
        known = {name: _name_in_set(present, name, output.parent) for name in chosen}
        sources = tuple(Source(known[name], int(i)) for name, rows in chosen.items() for i in rows)
        keypoints = np.full((len(sources), len(skeleton), 2), np.nan)
        new = AnnotationSet(images, keypoints, skeleton, sources=sources)
        if present is None:
            write_annotations(output, new, overwrite=overwrite)
        elif len(new):
            append_annotations(output, new)
    return Sampling(
        output=output,
        added={name: len(rows) for name, rows in chosen.items()},
        skipped={name: len(taken_frames(taken, name)) for name in chosen},
        n_images=len(sources) + (0 if present is None else len(present)),
        notes=tuple(notes),
    )


class _ChosenFrames(LazyImages):
    """Frames of several videos as one run of images, decoded when they are asked for."""

    def __init__(
        self,
        readers: dict[str, VideoReader],
        chosen: dict[str, np.ndarray],
        shape: tuple[int, int, int],
        progress: Progress,
    ) -> None:
        self._readers = readers
        self._rows = [(name, int(i)) for name, frames in chosen.items() for i in frames]
        self._progress = progress
        self.shape = (len(self._rows), *shape)

    def image(self, row: int) -> np.ndarray:
        name, frame = self._rows[row]
        image = self._readers[name][frame]
        self._progress(row + 1, len(self), "writing frames")
        return image


def _present(output: Path, *, append: bool, overwrite: bool) -> AnnotationSet | None:
    """The set to append to; None for a new one, for which there must be room."""
    if not append:
        check_output(output, overwrite=overwrite)
        return None
    if not output.exists():
        raise FileMissingError(
            f"no annotation set at {output} to append to; leave out --append to begin one"
        )
    return read_annotations(output)


def _skeleton(
    skeleton: str | PathLike[str] | Skeleton | None, present: AnnotationSet | None
) -> Skeleton:
    if skeleton is not None and not isinstance(skeleton, Skeleton):
        skeleton = Skeleton.from_csv(skeleton)
    if present is not None:
        if skeleton is not None and skeleton.names != present.skeleton.names:
            raise ValidationError(
                f"the set to append to has the keypoints {', '.join(present.skeleton.names)}; the "
                f"skeleton given has {', '.join(skeleton.names)}; leave it out to keep the set's"
            )
        return present.skeleton
    if skeleton is None:
        raise ValidationError(
            "skeleton: expected a CSV file with the columns name, parent, swap (--skeleton); a new "
            "annotation set needs to know its keypoints"
        )
    return skeleton


def _open(
    videos: Sequence[str | PathLike[str]], grayscale: bool, stack: ExitStack
) -> dict[str, VideoReader]:
    """Readers by portable name; a video that is given twice counts once."""
    from dpk_core.services.video import VideoReader

    readers: dict[str, VideoReader] = {}
    for video in videos:
        name = plain_name(video)
        if name not in readers:
            readers[name] = stack.enter_context(VideoReader(video, grayscale=grayscale))
    return readers


def _name_in_set(present: AnnotationSet | None, video: str, folder: Path) -> str:
    """What a set calls a video: what it called it before, so that one video has one name, else
    its path from the set, wherever the command was given."""
    name = portable(Path(video), folder)
    places = names_of(name, folder)
    before = dict.fromkeys(s.video for s in (present.sources or () if present else ()))
    return next((known for known in before if places & names_of(known, folder)), name)


def _common_shape(
    readers: dict[str, VideoReader], present: AnnotationSet | None, output: Path
) -> tuple[int, int, int]:
    expected, origin = (None, "") if present is None else (present.image_shape, str(output))
    for name, reader in readers.items():
        shape = reader.shape
        if expected is None:
            expected, origin = shape, name
        if shape != expected:
            raise ValidationError(
                f"{name} has frames of {_size(shape)}, {origin} has {_size(expected)} (height x "
                "width x channels); one annotation set holds images of one size: resize or crop "
                "the video, or make another set for it"
            )
    assert expected is not None
    return expected


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _choose(
    name: str,
    reader: VideoReader,
    n_frames: int,
    method: str,
    seed: int,
    exclude: list[int],
    progress: Progress,
    notes: list[str],
) -> np.ndarray:
    if len(set(exclude)) >= len(reader):
        notes.append(f"{name}: all of its {len(reader)} frames are in the set already")
        return np.empty(0, np.int64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = sample_frames(
            reader, n_frames, method, seed=seed, exclude=exclude,
            progress=lambda done, total: progress(done, total, f"looking at {name}"),
        )  # fmt: skip
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            notes.append(f"{name}: {warning.message}")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return frames
