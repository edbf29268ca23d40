"""Images that other programs' labels belong to: files and video frames, read when asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from dpk_core.errors import FileFormatError, FileMissingError, OutputError, ValidationError
from dpk_core.lazy_images import LazyImages

if TYPE_CHECKING:
    from dpk_core.services.video import VideoReader

_RECENT = 16
"""Frames kept: rows of several animals in one frame follow each other."""


class Images(LazyImages):
    """(n, h, w, c) uint8 images whose rows are image files or frames of videos; thread-safe.

    All have the size of the largest: smaller ones are padded with black on the right and at the
    bottom, which moves no coordinate. Pixels are taken as they are stored: a photograph's EXIF
    orientation is ignored.

    Parameters
    ----------
    items
        For each row a path and, of a video, the number of the frame; None for an image file.
    channels
        3 for RGB, 1 for gray.
    size
        (height, width) of all rows instead of the largest; no image may be larger.

    Raises
    ------
    FileMissingError, FileFormatError, VideoError
        When a file is not there or cannot be read; naming it.
    """

    def __init__(
        self,
        items: Sequence[tuple[Path, int | None]],
        channels: int = 3,
        *,
        size: tuple[int, int] | None = None,
    ) -> None:
        if channels not in (1, 3):
            raise ValidationError(f"channels: expected 1 or 3, found {channels}")
        if not len(items):
            raise ValidationError("items: expected at least one image")
        self._items = [(Path(path), frame) for path, frame in items]
        self._readers = _Videos()
        self.sizes = self._measure()
        height, width = self.sizes.max(axis=0) if size is None else size
        self.shape = (len(items), int(height), int(width), channels)
        self._recent: OrderedDict[tuple[Path, int | None], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def padding(self, i: int) -> tuple[int, int] | None:
        """(height, width) of row i before it was padded; None when it was not."""
        height, width = (int(length) for length in self.sizes[i])
        return None if (height, width) == self.shape[1:3] else (height, width)

    def _measure(self) -> np.ndarray:
        """(n, 2) int64 heights and widths, from the headers of the files."""
        known: dict[Path, tuple[int, int]] = {}
        for path, frame in self._items:
            if path not in known:
                known[path] = image_size(path) if frame is None else self._readers.size(path)
        return np.array([known[path] for path, _ in self._items], np.int64)

    def image(self, row: int) -> np.ndarray:
        item = self._items[row]
        with self._lock:
            if item in self._recent:
                self._recent.move_to_end(item)
                return self._recent[item]
        path, frame = item
        image = read_image(path) if frame is None else self._readers.read(path, frame)
        image = self._fit(image, path, row)
        with self._lock:
            self._recent[item] = image
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return image

    def _fit(self, image: np.ndarray, path: Path, i: int) -> np.ndarray:
        height, width, channels = self.shape[1:]
        if image.shape[:2] != tuple(self.sizes[i]):
            raise FileFormatError(
                f"{path} is {image.shape[1]}x{image.shape[0]} pixels, its header says "
                f"{self.sizes[i][1]}x{self.sizes[i][0]}; the file is damaged or was replaced"
            )
        if channels == 1 and image.shape[2] == 3:
            import cv2

            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
        elif channels == 3 and image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        if image.shape[:2] != (height, width):
            padded = np.zeros((height, width, channels), np.uint8)
            padded[: image.shape[0], : image.shape[1]] = image
            image = padded
        image = np.ascontiguousarray(image)
        image.setflags(write=False)
        return image


class _Videos:
    """Opens each video once, and lets one thread at a time read from it."""

    def __init__(self) -> None:
        self._open: dict[Path, VideoReader] = {}
        self._lock = threading.Lock()

    def size(self, path: Path) -> tuple[int, int]:
        with self._lock:
            height, width, _ = self._reader(path).shape
        return height, width

    def read(self, path: Path, frame: int) -> np.ndarray:
        with self._lock:
            reader = self._reader(path)
            if not 0 <= frame < len(reader):
                raise FileFormatError(
                    f"{path} has {len(reader)} frames; the labels are of frame {frame}: they "
                    "belong to another video"
                )
            return reader[frame]

    def _reader(self, path: Path) -> VideoReader:
        from dpk_core.services.video import VideoReader

        if path not in self._open:
            self._open[path] = VideoReader(path)
        return self._open[path]


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file as its pixels are stored, from its header where possible.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    import imagesize

    if not path.is_file():
        raise FileMissingError(f"no image at {path}")
    try:
        width, height = imagesize.get(str(path))
    except Exception:  # whatever a damaged header leads it to; decoding tells what is wrong
        width = height = -1
    if width < 1 or height < 1:
        height, width = read_image(path).shape[:2]
    return int(height), int(width)


def read_image(path: Path) -> np.ndarray:
    """(h, w, 3) uint8 RGB of an image file, pixels as they are stored.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    import cv2

    try:
        # From bytes, because OpenCV cannot open paths with other than ASCII characters everywhere.
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError:
        raise FileMissingError(f"no image at {path}, or no permission to read it") from None
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # a header that promises more pixels than anybody has
        image = None
    if image is None:
        raise FileFormatError(f"{path} is not an image, or cut short")
    return np.ascontiguousarray(image[..., ::-1])


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an (h, w, 1 or 3) uint8 RGB image without loss.

    Raises
    ------
    OutputError
    """
    import cv2

    done, data = cv2.imencode(".png", image[..., ::-1] if image.shape[2] == 3 else image[..., 0])
    if not done:
        raise OutputError(f"cannot write {path}: expected 1 or 3 channels, found {image.shape[2]}")
    path.write_bytes(data.tobytes())


def source_sizes(images: Images) -> list[tuple[int, int] | None]:
    """What goes into ``Source.size``, for each row."""
    return [images.padding(i) for i in range(len(images))]


def unpadded(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """The image without the padding that ``Source.size`` tells of."""
    return image if size is None else image[: size[0], : size[1]]


@attrs.frozen
class MissingFiles:
    """Which of the files that labels belong to are not there.

    Parameters
    ----------
    absent
        Their paths, each once.
    kept
        (m,) rows whose files are there.
    """

    absent: tuple[Path, ...]
    kept: np.ndarray


def find_missing(
    paths: Iterable[Path], missing: str, what: str, *, unit: str = "labelled images"
) -> MissingFiles:
    """Check that the file of each row is there, or find out which rows can be read.

    Parameters
    ----------
    missing
        "error" or "skip".
    what
        The file or project that names them, for the message.

    Raises
    ------
    FileMissingError
        With "error", when one is absent; with "skip", when all are.
    ValidationError
        On another word than these.
    """
    if missing not in ("error", "skip"):
        raise ValidationError(f"missing: expected 'error' or 'skip', found {missing!r}")
    paths = list(paths)
    there = {path: _is_file(path) for path in dict.fromkeys(paths)}
    absent = tuple(path for path, found in there.items() if not found)
    kept = np.flatnonzero([there[path] for path in paths])
    if absent and (missing == "error" or not len(kept)):
        listed = ", ".join(str(path) for path in absent[:5])
        raise FileMissingError(
            f"{what}: {len(absent)} of {len(there)} {unit} are not there: {listed}"
            f"{' ...' if len(absent) > 5 else ''}; put them back"
            + ("" if not len(kept) else ", or read the rest with the option missing=skip")
        )
    return MissingFiles(absent, kept)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than a name may be, or with a null character
        return False
