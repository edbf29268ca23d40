"""Which codecs this installation can read and write."""

from __future__ import annotations

from typing import Literal

import attrs
import av.codec

_NAMES = {
    "h264": ("h264", ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "h264_nvenc")),
    "hevc": ("hevc", ("libx265", "hevc_videotoolbox", "hevc_mf", "hevc_nvenc")),
    "vp9": ("vp9", ("libvpx-vp9",)),
    "av1": ("av1", ("libsvtav1", "libaom-av1", "librav1e")),
    "mjpeg": ("mjpeg", ("mjpeg",)),
    "ffv1": ("ffv1", ("ffv1",)),
}
_SOFTWARE_DECODERS = {"av1": ("libdav1d", "libaom-av1")}


@attrs.frozen
class CodecSupport:
    """What this installation offers for one codec: FFmpeg's names, empty where there is none."""

    name: str
    decoders: tuple[str, ...]
    encoders: tuple[str, ...]

    @property
    def readable(self) -> bool:
        """Whether videos of this codec can be read."""
        return bool(self.decoders)

    @property
    def writable(self) -> bool:
        """Whether videos of this codec can be written (hardware encoders may still refuse)."""
        return bool(self.encoders)


def list_codecs() -> list[CodecSupport]:
    """Decoders and encoders of the video codecs that matter to dpk.

    Examples
    --------
    >>> {codec.name: codec.readable for codec in list_codecs()}["mjpeg"]
    True
    """
    return [
        CodecSupport(
            name=name,
            decoders=tuple(
                d for d in (*_SOFTWARE_DECODERS.get(name, ()), decoder) if has_codec(d, "r")
            ),
            encoders=tuple(e for e in encoders if has_codec(e, "w")),
        )
        for name, (decoder, encoders) in _NAMES.items()
    ]


def has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    """Whether FFmpeg's decoder ("r") or encoder ("w") of this name is there."""
    try:
        av.codec.Codec(name, mode)
    except ValueError:  # av.codec.UnknownCodecError and its predecessors
        return False
    return True
