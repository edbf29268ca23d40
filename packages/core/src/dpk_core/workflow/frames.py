"""Where frames to predict come from: a video, a labelled set, or a folder of images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import FileFormatError, FileMissingError, ValidationError, VideoError
from dpk_core.interfaces import Dataset
from dpk_core.poses import Poses
from dpk_core.services.fingerprints import fingerprint
from dpk_core.skeleton import Skeleton

if TYPE_CHECKING:
    from dpk_core.services.video import VideoReader

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_SET_SUFFIXES = (".h5", ".hdf5")


class FrameSource(Protocol):
    """Frames in order, from any place.

    Attributes
    ----------
    path
        As it was given.
    numbers
        The number of each frame that is read, from 0.
    size
        (height, width) of the frames.
    fingerprint
        Tells this input from others by content.
    facts
        For the provenance of what is predicted, JSON values.
    """

    path: Path
    numbers: range
    size: tuple[int, int]
    fingerprint: str
    facts: dict[str, Any]

    def frames(self, skip: int = 0) -> Iterator[np.ndarray]:
        """The (h, w, c) uint8 frames ``numbers[skip:]``, in order."""

    def poses(self, first: int, predictions: np.ndarray, skeleton: Skeleton) -> Poses:
        """What was predicted in the frames from ``numbers[first]``, in original coordinates."""

    def close(self) -> None: ...

    def __enter__(self) -> FrameSource: ...

    def __exit__(self, *error: object) -> None: ...


def open_frames(path: str | PathLike[str], start: int = 0, stop: int | None = None) -> FrameSource:
    """Open a video, a labelled set (``.h5``, or a project of another program) or an image folder.

    Parameters
    ----------
    start, stop
        The frames start <= i < stop; stop None is the end.

    Raises
    ------
    FileMissingError, FileFormatError, VideoError
    ValidationError
        When there is no frame in the range.
    """
    path = Path(path)
    if not path.exists():
        raise FileMissingError(f"no video, labelled set or image folder at {path}")
    if path.is_dir() and (images := _images_in(path)):
        return ImageFolderFrames(path, images, start, stop)
    if path.is_dir() or path.suffix.lower() in _SET_SUFFIXES:
        return DatasetFrames(path, start, stop)
    return VideoFrames(path, start, stop)


def calibration_frames(source: FrameSource, n: int = 32) -> np.ndarray:
    """At most n frames from all over a source, (n, h, w, c): what an int8 network has to see."""
    total = len(source.numbers)
    images = []
    for i in np.unique(np.linspace(0, total - 1, min(n, total)).astype(int)):
        frames = source.frames(int(i))
        with suppress(VideoError, StopIteration):  # damage is told of when its turn comes
            images.append(next(frames))
        if hasattr(frames, "close"):
            frames.close()
    return np.stack(images) if images else np.empty((0, *source.size, 1), np.uint8)


class BaseFrames:
    """What all sources share: they close at the end of a ``with`` block."""

    numbers: range

    def poses(self, first: int, predictions: np.ndarray, skeleton: Skeleton) -> Poses:
        """(m, k, 3) predictions of the frames from the ``first`` in `numbers`, as `Poses`."""
        frames = np.asarray(self.numbers[first : first + len(predictions)])
        return Poses.from_predictions(predictions, skeleton, frames=frames)

    def close(self) -> None:
        return None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class VideoFrames(BaseFrames):
    """The frames of a video, decoded ahead in a thread."""

    def __init__(self, path: Path, start: int, stop: int | None) -> None:
        from dpk_core.services.video import VideoReader

        self.path = path
        self._reader = VideoReader(path)
        self._stop = stop
        try:
            self.numbers = _range(path, len(self._reader), start, stop)
        except ValidationError:
            self._reader.close()
            raise
        self.size = self._reader.shape[:2]
        self.fingerprint = self._reader.fingerprint()
        self.facts = {
            "video": path.as_posix(),
            "fps": self._reader.fps,
            "n_frames": len(self._reader),
            "height": self.size[0],
            "width": self.size[1],
        }

    @property
    def reader(self) -> VideoReader:
        """The open video, for frames by number."""
        return self._reader

    def frames(self, skip: int = 0) -> Iterator[np.ndarray]:
        # Without a stop, the reader also tells of a file that was cut short behind its last frame.
        return self._reader.frames(self.numbers.start + skip, self._stop)

    def close(self) -> None:
        self._reader.close()


class DatasetFrames(BaseFrames):
    """The images of a labelled set, by row."""

    def __init__(self, path: Path, start: int, stop: int | None) -> None:
        from dpk_core.services.sources import open_source

        self.path = path
        self._dataset: Dataset = open_source(path)
        self.numbers = _range(path, len(self._dataset), start, stop)
        self.size = self._dataset.image_shape[:2]
        self.fingerprint = fingerprint(path) if path.is_file() else f"{len(self._dataset)} images"
        self.facts = {
            "images": path.as_posix(),
            "n_frames": len(self._dataset),
            "height": self.size[0],
            "width": self.size[1],
        }

    @property
    def dataset(self) -> Dataset:
        """The open set, for images by row."""
        return self._dataset

    def frames(self, skip: int = 0) -> Iterator[np.ndarray]:
        images = self._dataset.images if isinstance(self._dataset, AnnotationSet) else None
        for i in self.numbers[skip:]:
            yield np.asarray(images[i]) if images is not None else self._dataset[i].image


class ImageFolderFrames(BaseFrames):
    """The image files of a folder in the natural order of their names: img2 before img10."""

    def __init__(self, path: Path, images: list[Path], start: int, stop: int | None) -> None:
        self.path = path
        self._images = images
        self.numbers = _range(path, len(images), start, stop)
        self.size = read_image(images[self.numbers.start]).shape[:2]
        names = "\n".join(f"{image.name} {image.stat().st_size}" for image in images)
        self.fingerprint = _text_hash(names)
        self.facts = {
            "images": path.as_posix(),
            "order": "natural order of file names",
            "n_frames": len(images),
            "height": self.size[0],
            "width": self.size[1],
        }

    @property
    def files(self) -> list[Path]:
        """The image files, by number."""
        return self._images

    def frames(self, skip: int = 0) -> Iterator[np.ndarray]:
        for i in self.numbers[skip:]:
            image = read_image(self._images[i])
            if image.shape[:2] != self.size:
                raise ValidationError(
                    f"{self._images[i]} has {image.shape[0]}x{image.shape[1]} pixels (height x "
                    f"width), the images before it {self.size[0]}x{self.size[1]}; all must have "
                    "one size: resize or crop them, or sort them into folders by size"
                )
            yield image


def read_image(path: Path) -> np.ndarray:
    """An image file as (h, w, c) uint8, gray or RGB.

    Raises
    ------
    FileFormatError
        When it is not an image, or has more than 8 bits a channel.
    """
    import cv2

    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise FileFormatError(f"{path} is damaged or not an image that can be read")
    if image.dtype != np.uint8:
        raise FileFormatError(
            f"{path} has {image.dtype} pixels; expected 8 bits a channel: convert it first"
        )
    if image.ndim == 2:
        return image[..., None]
    return np.ascontiguousarray(image[..., 2::-1])


def _images_in(folder: Path) -> list[Path]:
    found = [
        p
        for p in folder.iterdir()
        if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file() and not p.name.startswith(".")
    ]
    return sorted(found, key=lambda p: _natural(p.name))


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _range(path: Path, length: int, start: int, stop: int | None) -> range:
    numbers = range(start, length if stop is None else min(stop, length))
    if start < 0 or not len(numbers):
        raise ValidationError(
            f"{path} has {length} frames, numbered from 0; found none from {start} to before "
            f"{length if stop is None else stop}"
        )
    return numbers


def _text_hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
