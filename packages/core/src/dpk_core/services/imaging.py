"""Images as a network wants them: their size, their channels, and the coordinates to match.

Everything keeps the half-pixel convention: (0, 0) is the centre of the top-left pixel, so a resize
by s moves x to (x + 0.5) * s - 0.5.
"""

from __future__ import annotations

import math

import numpy as np

from dpk_core.checks import check_positive, check_shape
from dpk_core.errors import ValidationError
from dpk_core.task import Task

Size = tuple[int, int]
"""(height, width) in pixels."""


def scaled_size(size: Size, scale: float) -> Size:
    """(height, width) after scaling, rounded half up to whole pixels, at least 1.

    Raises
    ------
    ValidationError
        When the scale is not a number above zero.

    Examples
    --------
    >>> scaled_size((480, 641), 0.5)
    (240, 321)
    """
    check_positive("scale", scale)
    height, width = (max(1, math.floor(side * scale + 0.5)) for side in size)
    return height, width


def scale_keypoints(keypoints: np.ndarray, source: Size, target: Size) -> np.ndarray:
    """Move (..., 2) coordinates from an image of size ``source`` to its resize to ``target``.

    Each axis has its own factor, the ratio of the two sizes, because sizes are whole pixels: 641
    pixels halved are 321, a factor of 0.5008. NaN stays NaN; the dtype stays.

    Examples
    --------
    >>> scale_keypoints(np.array([[0.5, 0.5]]), (4, 4), (2, 2))
    array([[0., 0.]])
    """
    keypoints = np.asarray(keypoints)
    if tuple(source) == tuple(target):
        return keypoints.copy()
    factors = np.array([target[1] / source[1], target[0] / source[0]])
    return ((keypoints + 0.5) * factors - 0.5).astype(keypoints.dtype, copy=False)


def coordinates_to_original(
    keypoints: np.ndarray, task: Task, original_size: Size | None = None
) -> np.ndarray:
    """Undo ``task.scale``: from pixels of the network's images to pixels of the original ones.

    Parameters
    ----------
    keypoints
        (..., 2) or (..., 3) of x, y and perhaps a score, which is left alone.
    task
        Gives the size of the network's images.
    original_size
        (height, width) of the original images. With it the result is exact; without it the nominal
        ``task.scale`` is undone, which is off by up to half a pixel at the far border when the
        scaled sides had to be rounded.

    Returns
    -------
    np.ndarray
        A new array of the same shape and dtype.
    """
    result = np.array(keypoints)
    if original_size is not None:
        factors = np.array(
            [original_size[1] / task.image_shape[1], original_size[0] / task.image_shape[0]]
        )
    else:
        factors = np.full(2, 1.0 / task.scale)
    if (factors != 1).any():
        result[..., :2] = (result[..., :2] + 0.5) * factors - 0.5
    return result


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize one (h, w) or (h, w, c) uint8 image to (height, width) ``size``.

    Averages areas where the image shrinks on both axes (each source pixel counts, so thin legs and
    antennae fade instead of breaking up) and interpolates linearly otherwise.

    Returns
    -------
    np.ndarray
        uint8 with as many axes as the input; the input itself when the size is right already.
    """
    if tuple(image.shape[:2]) == tuple(size):
        return image
    import cv2

    height, width = size
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=method)
    return resized.reshape(height, width, *image.shape[2:])


def match_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Give (..., h, w, c) uint8 images the wanted number of channels.

    Gray is repeated into RGB; RGB becomes gray by the luma of ITU-R BT.601 (0.299 R + 0.587 G +
    0.114 B), to the rounding the one of OpenCV; an alpha channel is dropped.

    Raises
    ------
    ValidationError
        For any other pair of channel counts.
    """
    found = images.shape[-1]
    if found == channels:
        return images
    if found == 4:
        return match_channels(images[..., :3], channels)
    if found == 1 and channels in (3, 4):
        if channels == 3:
            return np.repeat(images, 3, axis=-1)
    elif found == 3 and channels == 1:
        return _luma(images)
    raise ValidationError(
        f"images: cannot turn {found} channels into {channels}; expected 1 (gray), 3 (RGB) or "
        "4 (RGBA, alpha dropped)"
    )


def prepare_images(images: np.ndarray, task: Task) -> np.ndarray:
    """Turn original images into what the task's network takes.

    Parameters
    ----------
    images
        (n, h, w, c) uint8, of the original size: the one that ``task.scale`` turns into
        ``task.image_shape``.
    task
        Gives the wanted size and channels.

    Returns
    -------
    np.ndarray
        (n, *task.image_shape) uint8; the input itself when nothing needs to change.

    Raises
    ------
    ValidationError
        On float images, a wrong number of axes, or another size.
    """
    images = np.asarray(images)
    check_shape("images", images.shape, ("n", "h", "w", "c"))
    check_uint8("images", images)
    height, width, channels = task.image_shape
    found = (int(images.shape[1]), int(images.shape[2]))
    if scaled_size(found, task.scale) != (height, width):
        before = tuple(round(side / task.scale) for side in (height, width))
        raise ValidationError(
            f"images: expected {before[0]}x{before[1]} (height x width) pixels as in training, "
            f"found {found[0]}x{found[1]}; resize or crop them to that size first"
        )
    images = match_channels(images, channels) if channels < images.shape[-1] else images
    if found != (height, width):
        resized = np.empty((len(images), height, width, images.shape[-1]), np.uint8)
        for image, place in zip(images, resized, strict=True):
            place[...] = resize_image(image, (height, width))
        images = resized
    return match_channels(images, channels)


def check_uint8(name: str, images: np.ndarray) -> None:
    """ValidationError, with the way to convert, unless the images are uint8."""
    if images.dtype != np.uint8:
        raise ValidationError(
            f"{name}: expected uint8 in 0..255, found {images.dtype}; convert, for instance "
            "(images * 255).round().astype('uint8') if they lie in 0..1"
        )


def _luma(images: np.ndarray) -> np.ndarray:
    import cv2

    # OpenCV wants one (h, w, 3) image; stacking rows makes any number of images one tall image.
    rows = np.ascontiguousarray(images).reshape(-1, images.shape[-2], 3)
    if not rows.size:
        return np.empty((*images.shape[:-1], 1), np.uint8)
    return cv2.cvtColor(rows, cv2.COLOR_RGB2GRAY).reshape(*images.shape[:-1], 1)
