"""Opening video files: what the container is, whether the file is whole, clear errors."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import av
import av.codec
import av.container
import av.error
import av.video

from dpk_core.errors import FileMissingError, VideoError

_ATTACHED_PICTURE = 0x400  # a cover image that containers store as a video stream
_CODEC_OF_DECODER = {
    "libdav1d": "av1",
    "libaom-av1": "av1",
    "libvpx": "vp8",
    "libvpx-vp9": "vp9",
    "libopenh264": "h264",
}
_MATROSKA_MAGIC = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
_MP4_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot"}


class PaddedFile(io.RawIOBase):
    """A file that was cut short, continued with zeros to the size it announces.

    Demuxers of formats with a table of frames (MP4, MOV) then still tell every frame's time, so
    that the frames which are there keep their numbers.
    """

    def __init__(self, path: Path, size: int) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        self._file.seek(self._position)
        data = self._file.read(wanted)
        self._position += wanted
        return data + bytes(wanted - len(data))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._file.close()
        super().close()


@attrs.frozen
class VideoSource:
    """A video file as it lies on disk.

    ``size`` is what is there and ``announced_size`` what the file's own structure says should be
    (0 where it does not say),
    both in bytes; ``family`` is ``"mp4"``, ``"matroska"``, ``"avi"`` or ``"other"``.
    """

    path: Path
    family: str
    size: int
    announced_size: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> VideoSource:
        """Look at a file's first bytes and its outermost structure.

        Raises
        ------
        FileMissingError
            When there is no file.
        VideoError
            When it is a folder, empty or unreadable.
        """
        path = Path(path)
        try:
            if path.is_dir():
                raise VideoError(f"{path}: expected a video file, found a folder")
            size = path.stat().st_size
            if size == 0:
                raise VideoError(f"{path}: expected a video, found an empty file (0 bytes)")
            with path.open("rb") as file:
                family = _family(file.read(16))
                announced = _announced_size(file, family, size)
        except FileNotFoundError:
            raise FileMissingError(
                f"{path}: there is no such video; check the name and the folder"
            ) from None
        except PermissionError:
            raise VideoError(f"{path}: not allowed to read this file; check its rights") from None
        return cls(path=path, family=family, size=size, announced_size=announced)

    @property
    def is_truncated(self) -> bool:
        """Whether the file is shorter than its own structure says."""
        return self.announced_size > self.size

    def boxes(self) -> list[tuple[int, int, bytes]]:
        """(begin, end, kind) of an MP4's top-level boxes, in bytes."""
        with self.path.open("rb") as file:
            return list(_boxes(file, self.size))

    def is_blank_from(self, position: int) -> bool:
        """Whether only zeros follow, as far as a look at 64 KiB tells."""
        with self.path.open("rb") as file:
            file.seek(position)
            return not any(file.read(65536))

    @property
    def is_fragmented(self) -> bool:
        """Whether an MP4 lists its frames piece by piece along the file."""
        return self.family == "mp4" and any(kind == b"moof" for _, _, kind in self.boxes())

    def open(self) -> av.container.InputContainer:
        """The container, ready for demuxing.

        Raises
        ------
        VideoError
            When the file is not a video.
        """
        padded = self.is_truncated and self.family == "mp4"
        target = PaddedFile(self.path, self.announced_size) if padded else str(self.path)
        # "replace": a tag in a strange encoding is no reason to refuse a video.
        try:
            container = av.open(target, mode="r", **_tolerant())
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(self._why_not_open(error)) from error
        assert isinstance(container, av.container.InputContainer)
        return container

    def _why_not_open(self, error: Exception) -> str:
        if self.family == "mp4":
            cut = (
                f" It holds {self.size} of the {self.announced_size} bytes it announces."
                if self.is_truncated
                else ""
            )
            return (
                f"{self.path}: no frame can be read: the table of frames (moov) is missing or "
                f"damaged.{cut} This happens when a recording was cut off or a copy was not "
                "finished; copy the file again, or rebuild the table with a repair tool "
                "(untrunc, for one) and a healthy file from the same camera"
            )
        return (
            f"{self.path}: expected a video, found something that no decoder understands "
            f"({_short(error)}); the file is damaged or is not a video"
        )


def video_stream(container: av.container.InputContainer, path: Path) -> av.video.stream.VideoStream:
    """The first video stream that is not a cover picture, or VideoError."""
    streams = list(container.streams.video)
    moving = [s for s in streams if not _disposition(s) & _ATTACHED_PICTURE]
    if not moving:
        kinds = sorted(str(s.type) for s in container.streams) or ["nothing"]
        raise VideoError(
            f"{path}: expected a video with frames, found a file without a video stream "
            f"(it holds {', '.join(kinds)})"
        )
    stream = moving[0]
    if stream.codec_context is None:
        raise VideoError(
            f"{path}: this installation has no decoder for the video's codec; convert it to "
            "H.264, for example with: ffmpeg -i INPUT -c:v libx264 -crf 18 OUTPUT.mp4"
        )
    return stream


def codec_name(codec: av.codec.Codec) -> str:
    """The codec's name, such as "av1", whichever decoder is used for it."""
    return _CODEC_OF_DECODER.get(codec.name, codec.name)


def _disposition(stream: av.video.stream.VideoStream) -> int:
    found = getattr(stream, "disposition", 0)  # an integer or an enumeration, by PyAV's version
    return int(getattr(found, "value", found))


def describe(error: Exception) -> str:
    """FFmpeg's reason in a few words."""
    return _short(error)


def _short(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.split(";")[0].strip().rstrip(".") or type(error).__name__


def _family(head: bytes) -> str:
    if head[4:8] in _MP4_FIRST_BOXES:
        return "mp4"
    if head.startswith(_MATROSKA_MAGIC):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "other"


def _announced_size(file: io.BufferedReader, family: str, size: int) -> int:
    if family == "mp4":
        return max((end for _, end, _ in _boxes(file, size)), default=size)
    if family == "matroska":
        return _end_of_segment(file)
    if family == "avi":
        return _end_of_riff(file, size)
    return 0


def _boxes(file: io.BufferedReader, size: int) -> Iterator[tuple[int, int, bytes]]:
    """(begin, end, kind) of an MP4's top-level boxes; the last may end beyond the file."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = struct.unpack(">I", head[:4])[0]
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        kind = head[4:8]
        if length < 8 or not kind.isalnum():  # 0: to the end of the file; else no box at all
            length = size - position
        yield position, position + length, kind
        position += length


def _end_of_segment(file: io.BufferedReader) -> int:
    """Where a Matroska segment ends; 0 when it does not say (a live recording)."""
    file.seek(0)
    head = file.read(4096)
    at = head.find(_MATROSKA_SEGMENT)
    if at < 0 or at + 12 > len(head):
        return 0
    first = head[at + 4]
    if first == 0:
        return 0
    width = 9 - first.bit_length()
    value = int.from_bytes(head[at + 4 : at + 4 + width], "big") & ((1 << (7 * width)) - 1)
    unknown = value == (1 << (7 * width)) - 1
    return 0 if unknown else at + 4 + width + value


def _end_of_riff(file: io.BufferedReader, size: int) -> int:
    """Where the last RIFF of an AVI ends (long AVIs have several); 0 when it does not say."""
    position = 0
    while position + 12 <= size:
        file.seek(position)
        head = file.read(12)
        if head[:4] != b"RIFF":
            return size
        length = struct.unpack("<I", head[4:8])[0]
        if length in (0, 0xFFFFFFFF):  # never filled in: a recording that was cut off
            return 0
        position += 8 + length + (length & 1)
    # Some programs count the header twice, or leave out the last padding.
    return position if position > size + 16 else size


def _tolerant() -> dict[str, Any]:
    """How to open files whose titles are not UTF-8; from PyAV 19 on that needs no option."""
    return {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
