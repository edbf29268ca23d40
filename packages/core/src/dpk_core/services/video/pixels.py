"""From decoded pictures to arrays."""

from __future__ import annotations

from collections.abc import Callable

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from dpk_core.errors import VideoError

_FULL_RANGE = 2
_BT709 = 1  # in the numbering of ITU-T H.273
_NEUTRAL = 4  # what rounding may part the channels of a gray pixel by
_GRAY_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


class PixelConverter:
    """Turns the pictures of one video into (h, w, 3) RGB or (h, w, 1) gray, uint8.

    Colours follow the matrix and range that the file names, BT.601 and limited range where it
    names none, as other players do. Gray is the luma that the file stores, stretched to 0..255
    where the file's range is limited; for files that store RGB it is 0.299 R + 0.587 G + 0.114 B.

    A rotation by quarter turns or a mirroring that the file asks players for is applied. Other
    display hints are not: pixels that are not square stay as stored, interlaced fields stay woven.

    One converter belongs to one thread.
    """

    def __init__(self, first: av.VideoFrame, *, grayscale: bool) -> None:
        self._reformatter = VideoReformatter()
        self._grayscale = grayscale
        self._stored = (first.height, first.width)
        self._turn = _display_turn(first)
        self.shape: tuple[int, int, int] = self(first, "the first frame").shape

    def __call__(self, picture: av.VideoFrame, what: str) -> np.ndarray:
        """The pixels of ``picture``; ``what`` names it in errors."""
        if (picture.height, picture.width) != self._stored:
            raise VideoError(
                f"{what} is {picture.width}x{picture.height} pixels and the first frame "
                f"{self._stored[1]}x{self._stored[0]}; split the video where its size changes"
            )
        array = self._gray(picture) if self._grayscale else self._rgb(picture)
        return np.ascontiguousarray(self._turn(array))

    def _rgb(self, picture: av.VideoFrame) -> np.ndarray:
        return to_rgb(self._reformatter, picture)

    def _gray(self, picture: av.VideoFrame) -> np.ndarray:
        if picture.format.is_rgb or picture.format.has_palette:
            return np.rint(self._rgb(picture) @ _GRAY_WEIGHTS).astype(np.uint8)[..., None]
        if picture.format.components[0].bits != 8 or not _is_planar(picture):
            picture = self._reformatter.reformat(picture, format=_eight_bit(picture))
        luma = _plane(picture)
        if is_full_range(picture):
            return luma[..., None].copy()
        import cv2

        return cv2.LUT(luma, _STRETCH)[..., None]


def to_rgb(reformatter: VideoReformatter, picture: av.VideoFrame) -> np.ndarray:
    """(h, w, 3) uint8, by the matrix and range that the picture names."""
    if int(picture.colorspace) == _BT709:
        # PyAV before 17 looks at the matrix only where source and destination differ.
        rgb = reformatter.reformat(
            picture,
            format="rgb24",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU601,
            src_color_range=ColorRange.JPEG if is_full_range(picture) else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
        )
    else:
        rgb = reformatter.reformat(picture, format="rgb24")
    return rgb.to_ndarray()


def is_full_range(picture: av.VideoFrame) -> bool:
    """Whether stored luma runs from 0 to 255 rather than from 16 to 235."""
    name = picture.format.name
    return name.startswith(("gray", "mono", "yuvj")) or int(picture.color_range) == _FULL_RANGE


def shows_no_colour(picture: av.VideoFrame) -> bool:
    """Whether a picture is gray, by its format or by all of its pixels."""
    if picture.format.name.startswith(("gray", "mono", "ya8", "ya16")):
        return True
    rgb = to_rgb(VideoReformatter(), picture)
    spread = rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)
    return int(spread.max()) <= _NEUTRAL


def _plane(picture: av.VideoFrame) -> np.ndarray:
    plane = picture.planes[0]
    rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(-1, plane.line_size)
    return rows[: picture.height, : picture.width]


def _is_planar(picture: av.VideoFrame) -> bool:
    return picture.format.name.startswith(("yuv4", "yuvj4", "gray8", "nv12", "nv21")) or (
        picture.format.name == "gray"
    )


def _eight_bit(picture: av.VideoFrame) -> str:
    if picture.format.name.startswith(("gray", "mono")):
        return "gray"
    return "yuvj444p" if is_full_range(picture) else "yuv444p"


def _display_turn(picture: av.VideoFrame) -> Callable[[np.ndarray], np.ndarray]:
    """The display matrix as an operation on arrays; none for anything but quarter turns."""
    matrix = _display_matrix(picture)
    # (x, y) goes to (a x + c y, b x + d y), with x right and y down.
    a, b, c, d = (round(float(v)) for v in matrix)
    if (abs(a), abs(b), abs(c), abs(d)) == (1, 0, 0, 1):
        return lambda array: array[::d, ::a]
    if (abs(a), abs(b), abs(c), abs(d)) == (0, 1, 1, 0):
        return lambda array: array.swapaxes(0, 1)[::b, ::c]
    return lambda array: array


def _display_matrix(picture: av.VideoFrame) -> np.ndarray:
    """(4,) a, b, c, d of the display matrix; the identity where there is none."""
    matrix = picture.side_data.get("DISPLAYMATRIX")
    if isinstance(matrix, SideData):
        values = np.frombuffer(bytes(matrix), dtype=np.int32)[[0, 1, 3, 4]] / 65536
        if np.allclose(values, np.rint(values), atol=1e-3):
            return values
    return np.eye(2).ravel()


_STRETCH = np.rint(np.clip((np.arange(256) - 16) * 255 / 219, 0, 255)).astype(np.uint8)
