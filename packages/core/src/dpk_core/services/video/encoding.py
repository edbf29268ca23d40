"""How frames are encoded: pixel format, colour, quality, and sizes that codecs do not take."""

from __future__ import annotations

from typing import Literal

import attrs
import av
import av.video
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from dpk_core.errors import ValidationError, VideoError

_BT601 = 6  # SMPTE 170M in the numbering of ITU-T H.273: what players assume for small videos
_LIMITED, _FULL = 1, 2
_DEFAULT_CRF = {"libx264": 18, "libx264rgb": 18, "libx265": 18, "libvpx-vp9": 24, "libsvtav1": 24}
_DEFAULT_SCALE = {"mjpeg": 3, "mpeg4": 3, "mpeg2video": 3}
_LOSSLESS = {"ffv1", "rawvideo", "png", "huffyuv", "ffvhuff"}


@attrs.define
class Encoding:
    """One way to encode frames of one size."""

    codec: str
    pixel_format: str
    width: int
    height: int
    options: dict[str, str]
    _reformatter: VideoReformatter = attrs.field(factory=VideoReformatter, init=False)

    def configure(self, stream: av.video.stream.VideoStream) -> None:
        """Set a new stream up for this encoding."""
        context = stream.codec_context
        stream.width, stream.height = self.width, self.height
        stream.pix_fmt = self.pixel_format
        if self._is_yuv:
            context.colorspace = context.color_primaries = context.color_trc = _BT601
        context.color_range = _LIMITED if self._is_limited else _FULL

    def picture(self, frame: np.ndarray) -> av.VideoFrame:
        """A (h, w, c) frame as the picture to encode, completed to the encoded size."""
        height, width, channels = frame.shape
        if (height, width) != (self.height, self.width):
            margins = ((0, self.height - height), (0, self.width - width), (0, 0))
            frame = np.pad(frame, margins, mode="edge")
        if self.pixel_format == "gray":
            if channels == 3:
                raise ValidationError(
                    "expected gray frames (h, w) as the first one was, found RGB; write the first "
                    "frame as RGB to write a video with colours"
                )
            return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[..., 0]), format="gray")
        if channels == 1:
            frame = np.repeat(frame, 3, axis=2)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if self.pixel_format == "rgb24":
            return picture
        if not self._is_yuv:
            return self._reformatter.reformat(picture, format=self.pixel_format)
        return self._reformatter.reformat(
            picture,
            format=self.pixel_format,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG if self._is_limited else ColorRange.JPEG,
        )

    def describe(self) -> str:
        """For messages."""
        return f"{self.codec} with {self.pixel_format} pixels of {self.width}x{self.height}"

    @property
    def _is_yuv(self) -> bool:
        return self.pixel_format.startswith("yuv")

    @property
    def _is_limited(self) -> bool:
        return self._is_yuv and not self.pixel_format.startswith("yuvj")


def choose_encoding(
    codec: str,
    quality: float | Literal["lossless"] | None,
    pixel_format: str | None,
    size: tuple[int, int],
    *,
    gray: bool,
) -> Encoding:
    """The encoding for frames of ``size`` (width, height).

    Raises
    ------
    VideoError
        When the codec is not lossless and ought to be.
    """
    options: dict[str, str] = {}
    if quality == "lossless":
        codec, pixel_format, options = _lossless(codec, pixel_format, gray=gray)
    elif codec in _DEFAULT_CRF:
        options["crf"] = f"{_DEFAULT_CRF[codec] if quality is None else quality:g}"
        if codec == "libvpx-vp9":
            options["b"] = "0"
    elif codec in _DEFAULT_SCALE:
        scale = round(_DEFAULT_SCALE[codec] if quality is None else quality)
        options["qmin"] = options["qmax"] = str(scale)
    elif codec in _LOSSLESS:
        pixel_format = pixel_format or ("gray" if gray else _lossless_format(codec))
    pixel_format = pixel_format or _playable_format(codec)
    width, height = size
    if pixel_format.startswith(("yuv420", "yuvj420")):
        width, height = width + width % 2, height + height % 2
    elif pixel_format.startswith(("yuv422", "yuvj422")):
        width += width % 2
    return Encoding(codec, pixel_format, width, height, options)


def _lossless(
    codec: str, pixel_format: str | None, *, gray: bool
) -> tuple[str, str, dict[str, str]]:
    if codec in ("libx264", "libx264rgb"):
        if gray:
            return "libx264", pixel_format or "gray", {"qp": "0"}
        return "libx264rgb", pixel_format or "rgb24", {"qp": "0"}
    if codec in _LOSSLESS:
        return codec, pixel_format or ("gray" if gray else _lossless_format(codec)), {}
    raise VideoError(
        f'quality: "{codec}" cannot be lossless here; use libx264, or ffv1 in an .mkv file'
    )


def _lossless_format(codec: str) -> str:
    return {"ffv1": "bgr0", "rawvideo": "bgr24", "huffyuv": "rgb24", "ffvhuff": "rgb24"}.get(
        codec, "rgb24"
    )


def _playable_format(codec: str) -> str:
    formats = [f.name for f in av.codec.Codec(codec, "w").video_formats or ()]
    for name in ("yuv420p", "yuvj420p"):
        if name in formats or not formats:
            return "yuvj420p" if codec == "mjpeg" else name
    return formats[0]
