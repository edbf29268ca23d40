"""Images as the browser shows them: PNG with the exact pixels, small JPEG for the overview."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np

from dpk_core.errors import FileFormatError

THUMBNAIL_SIDE = 160
_PNG_LEVEL = 1  # the fastest that compresses at all
_JPEG_QUALITY = 85


class ByteCache:
    """The values asked for last, up to a number of bytes; may be used from several threads."""

    def __init__(self, n_bytes: int) -> None:
        self._room = n_bytes
        self._held = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, bytes] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes of all values in it."""
        return self._held

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The value, made when it is not there."""
        with self._lock:
            found = self._values.get(key)
            if found is not None:
                self._values.move_to_end(key)
                return found
        value = make()
        with self._lock:
            if key not in self._values and len(value) <= self._room:
                self._values[key] = value
                self._held += len(value)
                while self._held > self._room:
                    self._held -= len(self._values.popitem(last=False)[1])
        return value

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._values.clear()
            self._held = 0


def png(image: np.ndarray) -> bytes:
    """Encode (h, w, c) uint8 as PNG, pixel by pixel the same.

    One channel becomes gray, three RGB, four RGBA. Of other numbers, which a PNG can't hold, the
    first three are shown, of two the first.
    """
    import cv2

    # Of camera images, runs alone (RLE) leave less to do and often less to send.
    strategy = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return _encoded(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL, *strategy])


def jpeg(image: np.ndarray, quality: int = 92) -> bytes:
    """Encode (h, w, c) uint8 as JPEG, for frames of a video that are looked at in passing."""
    import cv2

    shown = _shown(image)
    shown = shown[..., :3] if shown.ndim == 3 else shown
    return _encoded(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, quality])


def thumbnail(image: np.ndarray, side: int = THUMBNAIL_SIDE) -> bytes:
    """Encode (h, w, c) uint8 as JPEG whose longest side has at most ``side`` pixels."""
    import cv2

    from dpk_core.services.imaging import resize_image

    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = resize_image(_shown(image), size)
    small = small[..., :3] if small.ndim == 3 and small.shape[2] == 4 else small
    return _encoded(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def _shown(image: np.ndarray) -> np.ndarray:
    """The channels that can be shown; (h, w) where there is one."""
    if image.ndim == 2:
        return image
    channels = image.shape[2]
    if channels in (3, 4):
        return image
    return image[..., :3] if channels > 4 else image[..., 0]


def _encoded(suffix: str, image: np.ndarray, options: list[int]) -> bytes:
    import cv2

    image = np.ascontiguousarray(_shown(image))
    if image.ndim == 3:  # OpenCV wants blue first
        has_alpha = image.shape[2] == 4
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if has_alpha else cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(suffix, image, options)
    if not done:
        raise FileFormatError(f"an image of shape {image.shape} cannot be shown as {suffix}")
    return encoded.tobytes()
