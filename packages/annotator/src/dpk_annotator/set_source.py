"""From whatever a user has to a set that can be labelled: images, a video, another program's."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_annotator.new_set import placeholder_skeleton
from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import (
    DpkError,
    FileFormatError,
    FileMissingError,
    MissingDependencyError,
    OutputExistsError,
    ValidationError,
    VideoError,
)
from dpk_core.lazy_images import LazyImages
from dpk_core.services.storage import read_annotations, write_annotations
from dpk_core.services.video_paths import portable
from dpk_core.skeleton import Skeleton
from dpk_core.workflow.progress import Progress, ignore

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SET_SUFFIX = ".labels.h5"
_OURS = (".h5", ".hdf5")


@attrs.frozen
class PreparedSet:
    """A set that can be opened.

    Parameters
    ----------
    path
        Its file.
    made
        Whether it was made now.
    notes
        What a user should know, a conversion's losses among it.
    """

    path: Path
    made: bool = False
    notes: tuple[str, ...] = ()


def prepare_set(
    source: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    skeleton: str | PathLike[str] | Skeleton | None = None,
    *,
    n_frames: int = 50,
    read_only: bool = False,
    progress: Progress = ignore,
) -> PreparedSet:
    """The set to label: ``source`` itself, or one that is made of it, beside it.

    A set that was made before is taken as it is. Nothing is ever written into the source.

    Parameters
    ----------
    source
        An annotation set, a folder of images or one image, a video, or what a format plugin reads
        labels from.
    output
        The set to make; by default ``NAME.labels.h5`` beside the source.
    skeleton
        Of a new set; without it, one is made on the first image.
    n_frames
        To choose from a video, by k-means; without scikit-learn, at equal distances.
    read_only
        Make nothing.

    Raises
    ------
    FileMissingError, FileFormatError, VideoError, SkeletonError
        About the source.
    OutputError, OutputExistsError
        About the set to make.
    ValidationError
        When images are of different kinds, or a skeleton is given for a set that has one.
    """
    source = Path(source)
    if not source.exists():
        raise FileMissingError(f"nothing is at {source}; expected a set, images, or a video")
    if _is_set(source):
        return PreparedSet(source, notes=_skeleton_notes(source, skeleton))
    target = _target(source) if output is None else Path(output)
    if target.exists():
        if output is None and _is_set(target):
            note = f"{target} was made of {source} before; its labels go on."
            return PreparedSet(target, notes=(note, *_skeleton_notes(target, skeleton)))
        raise OutputExistsError(f"{target} exists already; choose another name (--output)")
    if read_only:
        raise ValidationError(f"{source} is no set yet, and read-only makes none")
    if skeleton is not None and not isinstance(skeleton, Skeleton):
        skeleton = Skeleton.from_csv(skeleton)
    images = _images_in(source)
    if images and not (source.is_dir() and _is_labelled(source)):
        _write_images(images, target, skeleton, progress)
        note = f"{target}: {len(images)} images of {source}"
        return PreparedSet(target, True, (note, *_left_out(source)))
    trouble = _why_no_video(source) if source.is_file() else None
    if source.is_file() and trouble is None:
        return _of_video(source, target, skeleton, n_frames, progress)
    _refuse_the_unknown(source, trouble)
    return _converted(source, target, progress)


# -- kinds of sources ---------------------------------------------------------------------------


def _is_set(path: Path) -> bool:
    """Whether it is an annotation set, ours or DeepPoseKit's."""
    if not path.is_file() or path.suffix.lower() not in _OURS:
        return False
    from dpk_core.services.storage.hdf5 import reading

    try:
        with reading(path) as file:
            is_set = "images" in file and "annotations" in file
    except FileFormatError:
        return False
    return is_set


def _is_labelled(folder: Path) -> bool:
    """Whether another program's labels lie among the images."""
    from dpk_core.services.formats import identify

    try:
        return "annotations" in identify(folder).kinds
    except DpkError:
        return False


def _why_no_video(path: Path) -> VideoError | None:
    """Why a file cannot be read as a video; None when it can."""
    from dpk_core.services.video import VideoReader

    try:
        with VideoReader(path):
            return None
    except VideoError as error:
        return error


def _refuse_the_unknown(source: Path, trouble: VideoError | None) -> None:
    """FileFormatError that speaks of what was meant: a film, or a folder of pictures."""
    from dpk_annotator.film_places import VIDEO_SUFFIXES  # which needs this module
    from dpk_core.services.formats import identify

    try:
        identify(source)
    except FileFormatError as error:
        if source.is_dir():
            raise FileFormatError(
                f"{source} holds no images ({', '.join(IMAGE_SUFFIXES)}), and {error}"
            ) from None
        if source.suffix.lower() in VIDEO_SUFFIXES:
            raise FileFormatError(f"{source} cannot be read as a video: {trouble}") from None
        raise


def _left_out(folder: Path) -> tuple[str, ...]:
    """That labels of a DeepLabCut project lie among images, which its own folder knows about."""
    if not folder.is_dir() or not any(folder.glob("CollectedData*")):
        return ()
    project = folder.resolve().parent.parent / "config.yaml"
    where = project if project.is_file() else "the project's config.yaml"
    return (
        f"Note: {folder} holds labels of DeepLabCut, which were not taken. To have them, too: "
        f"dpk annotate {where}",
    )


def _images_in(folder: Path) -> list[Path]:
    """Images of a folder in natural order: frame 10 after frame 9; or an image itself."""
    if not folder.is_dir():
        return [folder] if folder.suffix.lower() in IMAGE_SUFFIXES else []
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    return sorted((p for p in found if not p.name.startswith(".")), key=_natural)


def _natural(path: Path) -> list[Any]:
    import re

    parts = re.split(r"(\d+)", path.name.lower())
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts]


def _target(source: Path) -> Path:
    source = source.resolve() if source.name in ("", ".", "..") else source
    name = source.name if source.is_dir() else source.stem
    return source.with_name(name + SET_SUFFIX)


# -- making one -----------------------------------------------------------------------------------


def _write_images(
    images: Sequence[Path], target: Path, skeleton: Skeleton | None, progress: Progress
) -> None:
    skeleton = placeholder_skeleton() if skeleton is None else skeleton
    files = _ImageFiles(images, progress)
    folder = target.parent
    sources = tuple(
        Source(portable(path, folder), size=None if size == files.shape[1:3] else size)
        for path, size in zip(images, files.sizes, strict=True)
    )
    keypoints = np.full((len(images), len(skeleton), 2), np.nan)
    write_annotations(target, AnnotationSet(files, keypoints, skeleton, sources=sources))


class _ImageFiles(LazyImages):
    """Image files as an `ImageSource`, padded at the right and bottom to the largest."""

    def __init__(self, paths: Sequence[Path], progress: Progress) -> None:
        self._paths, self._progress = paths, progress
        self.sizes: list[tuple[int, int]] = []
        channels = 1
        for i, path in enumerate(paths):
            image = _read_image(path)
            self.sizes.append(image.shape[:2])
            channels = max(channels, image.shape[2])
            progress(i + 1, len(paths), "looking at images")
        height, width = (max(size[axis] for size in self.sizes) for axis in (0, 1))
        self.shape = (len(paths), height, width, channels)

    def image(self, row: int) -> np.ndarray:
        image = _read_image(self._paths[row])
        padded = np.zeros(self.shape[1:], np.uint8)
        padded[: image.shape[0], : image.shape[1]] = image  # gray spreads over the channels
        self._progress(row + 1, len(self), "writing images")
        return padded


def _read_image(path: Path) -> np.ndarray:
    """(h, w, 1) or (h, w, 3) uint8 RGB."""
    import cv2

    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise FileMissingError(f"cannot read {path} ({error.strerror})") from None
    # The pixels as they are stored, unturned, as other programs count them.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(content, flags) if content.size else None
    if image is None:
        raise FileFormatError(f"{path} is not an image, or damaged; take it out of the folder")
    if image.ndim == 2:
        return image[..., None]
    return np.ascontiguousarray(image[..., 2::-1])


def _of_video(
    video: Path, target: Path, skeleton: Skeleton | None, n_frames: int, progress: Progress
) -> PreparedSet:
    from dpk_core.workflow.sample import sample_videos

    skeleton = placeholder_skeleton() if skeleton is None else skeleton
    options: dict[str, Any] = {"n_frames": n_frames, "progress": progress}
    notes: list[str] = []
    try:
        done = sample_videos([video], target, skeleton, **options)
    except MissingDependencyError as error:
        done = sample_videos([video], target, skeleton, method="uniform", **options)
        notes.append(f"frames at equal distances were taken: {error}")
    text = f"{target}: {done.n_images} frames of {video}"
    return PreparedSet(target, True, (text, *(f"Note: {note}" for note in (*notes, *done.notes))))


def _converted(source: Path, target: Path, progress: Progress) -> PreparedSet:
    from dpk_core.workflow.convert import convert

    done = convert(source, target, kind="annotations", progress=progress)
    notes = [f"{target}: {done.content}, from {source} ({done.source_format})"]
    if done.losses:
        notes += ["Not carried over:", *(f"  {loss}" for loss in done.losses)]
    return PreparedSet(target, True, tuple(notes))


def _skeleton_notes(path: Path, skeleton: Any) -> tuple[str, ...]:
    """That a skeleton that was given is not needed; ValidationError when it is another one."""
    if skeleton is None:
        return ()
    given = skeleton if isinstance(skeleton, Skeleton) else Skeleton.from_csv(skeleton)
    present = read_annotations(path)
    close = getattr(present.images, "close", None)
    if close is not None:
        close()
    if present.skeleton != given:
        raise ValidationError(
            f"{path} has a skeleton, and it is another one; change it in the browser, where you "
            "see what becomes of the labels, and leave out --skeleton"
        )
    return ()
