"""Images within HDF5 files, as SLEAP packages (.pkg.slp) have them.

A group ``video0`` has ``video``, where each row is an encoded image, and ``frame_numbers``, which
says which frames of the source they are (sleap-io 0.9, io/video_reading.py, HDF5Video). Older
programs encoded colour images with red and blue exchanged; ``channel_order`` says which, and where
it is absent, files below format 1.4 have them exchanged.
"""

from __future__ import annotations

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np

from dpk_core.annotations import ImageSource
from dpk_core.errors import FileFormatError, OutputError
from dpk_core.lazy_images import LazyImages
from dpk_io_formats.plain_hdf5 import array, child, opened, text_of

_RECENT = 16
_HEAD = 4096
_LARGEST = 2**28
"""Bytes of one image, encoded or not."""


@attrs.frozen
class StoredFrame:
    """One image: the file, the dataset in it, and the row."""

    path: Path
    key: str
    row: int
    channels_first: bool = False


class StoredFrames(LazyImages):
    """(n, h, w, c) uint8 images from datasets, read when asked for; thread-safe.

    Smaller images are padded with black on the right and at the bottom.

    Parameters
    ----------
    items
        One for each row.
    channels
        3 for RGB, 1 for gray.
    size
        (height, width) of all rows instead of the largest.

    Raises
    ------
    FileMissingError, FileFormatError
    """

    def __init__(
        self,
        items: Sequence[StoredFrame],
        channels: int = 3,
        *,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._items = list(items)
        self._recent: OrderedDict[StoredFrame, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self.sizes = self._measure()
        height, width = self.sizes.max(axis=0) if size is None else size
        self.shape = (len(items), int(height), int(width), channels)

    def _measure(self) -> np.ndarray:
        known: dict[StoredFrame, tuple[int, int]] = {}
        for path in dict.fromkeys(item.path for item in self._items):
            with opened(path) as file:
                for item in self._items:
                    if item.path == path and item not in known:
                        known[item] = _size(file, item)
        return np.array([known[item] for item in self._items], np.int64)

    def image(self, row: int) -> np.ndarray:
        item = self._items[row]
        with self._lock:
            if item in self._recent:
                self._recent.move_to_end(item)
                return self._recent[item]
        with opened(item.path) as file:
            image = _read(file, item)
        image = _fitted(image, self.shape[1:], item)
        with self._lock:
            self._recent[item] = image
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return image


class JoinedImages(LazyImages):
    """Rows from two sources of images of one size.

    Parameters
    ----------
    first, second
        Images.
    places
        For each row, whether it is the second's, and which row of that source it is.
    """

    def __init__(
        self, first: ImageSource, second: ImageSource, places: Sequence[tuple[bool, int]]
    ) -> None:
        self._sources = (first, second)
        self._places = list(places)
        self.shape = (len(places), *first.shape[1:])

    def image(self, row: int) -> np.ndarray:
        second, i = self._places[row]
        return np.asarray(self._sources[second][i])


def stored_rows(path: Path, key: str) -> dict[int, int]:
    """Number of a frame to the row where its image is.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    with opened(path) as file:
        found = _dataset(file, key, path)
        group = found.parent
        numbers = child(group, "frame_numbers", path) if key.endswith("video") else None
        if not isinstance(numbers, h5py.Dataset):
            return {i: i for i in range(len(found))}
        values = np.ravel(array(group, "frame_numbers", path))
        if len(values) != len(found) or not np.isfinite(values).all():
            raise FileFormatError(
                f"{path} is damaged: {key!r} has {len(found)} images, and {len(values)} numbers"
            )
        return {int(number): i for i, number in enumerate(values)}


def write_stored(
    file: h5py.File,
    index: int,
    images: Iterable[np.ndarray],
    numbers: Sequence[int],
    source: dict[str, Any] | None,
) -> tuple[int, int, int]:
    """Embed images without loss as video ``index``; gives (height, width, channels) of the first.

    Parameters
    ----------
    images
        (h, w, 1 or 3) uint8, RGB.
    source
        What SLEAP's JSON says of the video that they come from.
    """
    import cv2

    group = file.create_group(f"video{index}")
    stored = group.create_dataset("video", (len(numbers),), h5py.vlen_dtype(np.int8))
    shape = (0, 0, 0)
    for i, image in enumerate(images):
        shape = image.shape if i == 0 else shape
        plain = image[..., ::-1] if image.shape[2] == 3 else image[..., 0]
        done, data = cv2.imencode(".png", plain)
        if not done:
            raise OutputError(f"cannot encode an image of shape {image.shape}")
        stored[i] = data.ravel().view(np.int8)
    stored.attrs.update(
        format="png", channel_order="RGB", frames=len(numbers), height=shape[0], width=shape[1],
        channels=shape[2],
    )  # fmt: skip
    group.create_dataset("frame_numbers", data=np.asarray(numbers, np.int64))
    if source is not None:
        group.create_group("source_video").attrs["json"] = json.dumps(source)
    return shape


# -- one image ------------------------------------------------------------------------------------


def _dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    found: Any = file
    for part in filter(None, key.split("/")):
        found = child(found, part, path) if isinstance(found, h5py.Group) else None
    if isinstance(found, h5py.Group):
        found = child(found, "video", path)
    if not isinstance(found, h5py.Dataset):
        raise FileFormatError(f"{path} has no images at {key!r}, where its labels say they are")
    vlen = h5py.check_vlen_dtype(found.dtype)
    kind = np.dtype(vlen).kind if vlen is not None else found.dtype.kind
    if found.ndim not in (1, 2, 4) or kind not in "iu" or (found.ndim == 1 and vlen is None):
        raise FileFormatError(
            f"{path}: expected images in {key!r}, found {found.shape} of {found.dtype}"
        )
    return found


def _bytes(found: h5py.Dataset, row: int, most: int | None = None) -> bytes:
    value = found[row] if found.ndim == 1 else found[row, :most]
    return np.asarray(value).astype(np.uint8).tobytes()


def _size(file: h5py.File, item: StoredFrame) -> tuple[int, int]:
    """(height, width), from the image's own header where possible."""
    import imagesize

    found = _dataset(file, item.key, item.path)
    if found.ndim == 4:
        shape = found.shape[:1:-1] if item.channels_first else found.shape[1:3]
        return _checked(shape[0], shape[1], item)
    try:
        width, height = imagesize.get(io.BytesIO(_bytes(found, item.row, _HEAD)))
    except Exception:  # whatever a damaged header leads it to; decoding tells what is wrong
        width = height = -1
    if min(width, height) < 1:
        height, width = _read(file, item).shape[:2]
    return _checked(height, width, item)


def _checked(height: Any, width: Any, item: StoredFrame) -> tuple[int, int]:
    if not 0 < height * width <= _LARGEST:
        raise FileFormatError(
            f"{item.path}: image {item.row + 1} in {item.key!r} says that it is {width}x{height} "
            "pixels; it is damaged"
        )
    return int(height), int(width)


def _read(file: h5py.File, item: StoredFrame) -> np.ndarray:
    """(h, w, c) uint8."""
    import cv2

    found = _dataset(file, item.key, item.path)
    if found.ndim == 4:
        image = found[item.row]
        image = image.transpose(2, 1, 0) if item.channels_first else image
    else:
        data = np.frombuffer(_bytes(found, item.row), np.uint8)
        try:
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        except cv2.error:  # a header that promises more pixels than anybody has
            image = None
        if image is not None:
            image = image[..., None] if image.ndim == 2 else image[..., :3]
            if image.shape[2] == 3 and _order(file, found) == "RGB":
                image = image[..., ::-1]
    if image is None or image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise FileFormatError(
            f"{item.path}: image {item.row + 1} in {item.key!r} is damaged, or not of 8 bits in "
            "one or three channels"
        )
    return image


def _order(file: h5py.File, found: h5py.Dataset) -> str:
    if "channel_order" in found.attrs:
        return text_of(found.attrs["channel_order"])
    metadata = child(file, "metadata", Path(file.filename))
    version = metadata.attrs.get("format_id", 1.4) if isinstance(metadata, h5py.Group) else 1.4
    return "BGR" if float(version) < 1.4 else "RGB"


def _fitted(image: np.ndarray, shape: tuple[int, ...], item: StoredFrame) -> np.ndarray:
    """The image padded to the size and with the channels of the set."""
    import cv2

    height, width, channels = shape
    if image.shape[0] > height or image.shape[1] > width:
        raise FileFormatError(f"{item.path}: image {item.row + 1} is larger than its header says")
    if channels == 1 and image.shape[2] == 3:
        image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]
    padded = np.zeros((height, width, channels), np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image  # one channel becomes three alike
    padded.setflags(write=False)
    return padded
