"""Writing videos that are complete under their name or not there at all."""

from __future__ import annotations

import errno
import os
import secrets
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
import av.container
import av.error
import av.video
import numpy as np

from dpk_core.errors import OutputError, OutputExistsError, ValidationError, VideoError
from dpk_core.services.video.codecs import has_codec
from dpk_core.services.video.encoding import Encoding, choose_encoding

Quality = float | Literal["lossless"] | None


class VideoWriter:
    """Writes (h, w, 3) RGB or (h, w) gray frames, uint8, to a video.

    Frames go to a temporary file beside ``path``, which gets its name when the writer closes: a
    crash leaves nothing half-finished under ``path``, and a file that was there stays until then.

    When the ``with`` block ends with an error or Ctrl-C, the frames written so far are finished as
    a playable video named ``NAME.partial.SUFFIX``, and ``path`` is not touched. `saved_path` tells
    which of the two was written.

    Parameters
    ----------
    path : the file to write; its suffix chooses the container (.mp4, .mkv, .avi, .mov, .webm).
    fps : frames per second; 29.97 and its like are taken for the NTSC rates 30000/1001 and so on.
    size : (width, height) that every frame must have; None for that of the first frame.
    codec : FFmpeg's name of an encoder.
    quality : the constant quality to encode with, lower is better and larger: 0 to 51 for H.264
        and H.265 (default 18, hardly distinguishable from the original), 0 to 63 for VP9 and AV1
        (default 24), 2 to 31 for MJPEG and MPEG-4 (default 3). "lossless" gives back the very
        pixels that were written, with libx264 (few players show it) or ffv1 (in .mkv or .avi).
    pixel_format : FFmpeg's name; None for the codec's most widely playable one, yuv420p. That one
        needs even sizes: an odd width or height is completed by repeating the last column or row,
        so that no pixel moves. "yuv444p" keeps odd sizes with libx264, at the price of players
        that cannot show it.
    overwrite : replace a file that is there.

    Raises
    ------
    OutputExistsError
        When ``path`` is there, without ``overwrite``.
    OutputError
        When the folder is missing or read-only, or the disk is full.
    VideoError
        When this installation lacks the codec, or it does not fit the container or pixel format.

    Examples
    --------
    >>> with VideoWriter("out.mp4", fps=25) as writer:              # doctest: +SKIP
    ...     for frame in frames:
    ...         writer.write(frame)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float | Fraction,
        *,
        size: tuple[int, int] | None = None,
        codec: str = "libx264",
        quality: Quality = None,
        pixel_format: str | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.saved_path: Path | None = None
        self.n_frames = 0
        self._fps = _as_rate(fps)
        self._size = size
        self._codec = codec
        self._quality: Quality = quality
        self._pixel_format = pixel_format
        self._overwrite = overwrite
        self._container: av.container.OutputContainer | None = None
        self._stream: av.video.stream.VideoStream | None = None
        self._encoding: Encoding | None = None
        self._closed = False
        self._temporary = self.path.with_name(
            f".{self.path.stem}.{secrets.token_hex(4)}.tmp{self.path.suffix}"
        )
        if not has_codec(codec, "w"):
            raise VideoError(
                f'{self.path}: this installation cannot encode "{codec}"; '
                "dpk doctor lists the codecs that it can"
            )
        self._refuse_existing()
        self._make_temporary()

    @property
    def partial_path(self) -> Path:
        """Where the frames go when writing ends with an error."""
        return self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}")

    def write(self, frame: np.ndarray) -> None:
        """Append a frame: (h, w, 3) RGB, (h, w, 1) or (h, w) gray, uint8.

        Raises
        ------
        ValidationError
            When it has another type, or another size than the first.
        OutputError
            When the disk is full or has failed.
        """
        if self._closed:
            raise VideoError(f"{self.path}: this writer was closed; open a new one")
        frame = _checked(frame, self._size, self.n_frames)
        if self._stream is None:
            self._size = frame.shape[1], frame.shape[0]
            self._open(gray=frame.shape[2] == 1)
        assert self._encoding is not None
        picture = self._encoding.picture(frame)
        picture.pts = self.n_frames
        picture.time_base = 1 / self._fps
        self._encode(picture)
        self.n_frames += 1

    def close(self) -> None:
        """Finish the video and give it its name.

        Raises
        ------
        VideoError
            When no frame was written; nothing is left on disk then.
        OutputError
            When the disk is full or has failed; what could be saved is at `partial_path`.
        OutputExistsError
            When ``path`` has come into being meanwhile; the video is at `partial_path`.
        """
        if self._closed:
            return
        self._closed = True
        if not self.n_frames:
            self._discard()
            raise VideoError(f"{self.path}: no frames were written, so there is no video to save")
        try:
            self._finish()
        except BaseException:
            self._save_partial()
            raise
        self._publish()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abandon()

    def __repr__(self) -> str:
        return (
            f"VideoWriter({str(self.path)!r}, {self.n_frames} frames, {float(self._fps):.4g} fps)"
        )

    def _refuse_existing(self) -> None:
        if self.path.is_dir():
            raise OutputExistsError(f"{self.path}: expected a file to write, found a folder")
        if self.path.exists() and not self._overwrite:
            raise OutputExistsError(
                f"{self.path}: this file is already there; choose another name, or overwrite it "
                "with overwrite=True"
            )

    def _make_temporary(self) -> None:
        """Claim the temporary file, so that a bad folder shows before any work is done."""
        try:
            self._temporary.touch(exist_ok=False)
        except FileNotFoundError:
            raise OutputError(
                f"{self.path}: the folder {self.path.parent} is not there; create it first"
            ) from None
        except OSError as error:
            raise self._output_error(error) from error

    def _open(self, *, gray: bool) -> None:
        assert self._size is not None
        self._encoding = choose_encoding(
            self._codec, self._quality, self._pixel_format, self._size, gray=gray
        )
        try:
            options = {"movflags": "+faststart"} if self._is_mp4() else {}
            self._container = av.open(str(self._temporary), "w", options=options)
            stream = self._container.add_stream(
                self._encoding.codec, rate=self._fps, options=self._encoding.options
            )
            if not isinstance(stream, av.video.stream.VideoStream):
                raise ValueError(f"{self._encoding.codec} is not a video codec")
            self._encoding.configure(stream)
            stream.time_base = stream.codec_context.time_base = 1 / self._fps
            self._container.start_encoding()
            self._stream = stream
        except (av.error.FFmpegError, ValueError) as error:
            self._drop_container()
            raise VideoError(
                f"{self.path}: cannot write {self._encoding.describe()} into a "
                f'"{self.path.suffix}" file ({error}); try .mp4 with libx264, or .mkv'
            ) from error

    def _is_mp4(self) -> bool:
        return self.path.suffix.lower() in {".mp4", ".mov", ".m4v"}

    def _encode(self, picture: av.VideoFrame | None) -> None:
        assert self._stream is not None
        assert self._container is not None
        try:
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        except (OSError, av.error.FFmpegError) as error:
            raise self._output_error(error) from error

    def _finish(self) -> None:
        self._encode(None)
        assert self._container is not None
        container, self._container = self._container, None
        try:
            container.close()
        except (OSError, av.error.FFmpegError) as error:
            raise self._output_error(error) from error
        self._verify()

    def _verify(self) -> None:
        """Count the packets in the finished file: not every failed write is reported."""
        try:
            with av.open(str(self._temporary)) as container:
                n_packets = sum(p.size > 0 for p in container.demux(video=0))
        except (av.error.FFmpegError, ValueError):
            n_packets = 0
        if n_packets < self.n_frames:
            raise OutputError(
                f"{self.path}: only {n_packets} of {self.n_frames} frames reached the disk; is it "
                "full? Free some space and write the video again"
            )

    def _publish(self) -> None:
        try:
            if self._overwrite:
                os.replace(self._temporary, self.path)
            else:
                _rename_without_replacing(self._temporary, self.path)
        except FileExistsError:
            self._save_partial()
            raise OutputExistsError(
                f"{self.path}: this file came into being while the video was written; the video "
                f"is at {self.saved_path}"
            ) from None
        except OSError as error:
            self._save_partial()
            raise self._output_error(error) from error
        self.saved_path = self.path

    def _abandon(self) -> None:
        """Keep what can be kept, whatever went wrong; the error on its way out matters more."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.n_frames:
                self._finish()
        except (OSError, av.error.FFmpegError):
            self._drop_container()
        finally:
            self._save_partial()

    def _save_partial(self) -> None:
        """Give the temporary file the name for partial videos if it holds any frame."""
        self._drop_container()
        if self.n_frames and _has_frames(self._temporary):
            os.replace(self._temporary, self.partial_path)
            self.saved_path = self.partial_path
        else:
            self._discard()

    def _drop_container(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            try:
                container.close()
            except (OSError, av.error.FFmpegError):
                return  # the error that led here is already on its way

    def _discard(self) -> None:
        self._drop_container()
        self._temporary.unlink(missing_ok=True)

    def _output_error(self, error: Exception) -> OutputError:
        number = getattr(error, "errno", None)
        if number == errno.ENOSPC or number == errno.EFBIG or number == errno.EDQUOT:
            what = "the disk is full; free some space and write the video again"
        elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
            what = f"not allowed to write into {self.path.parent}; choose another folder"
        else:
            what = f"writing failed ({getattr(error, 'strerror', None) or error})"
        return OutputError(f"{self.path}: {what}")


def _rename_without_replacing(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(target) from None
        os.replace(source, target)
        return
    source.unlink()


def _has_frames(path: Path) -> bool:
    try:
        with av.open(str(path)) as container:
            return any(packet.size for packet in container.demux(video=0))
    except (av.error.FFmpegError, ValueError, IndexError):
        return False


def _as_rate(fps: float | Fraction) -> Fraction:
    if not 0 < float(fps) < 1e6:
        raise ValidationError(f"fps: expected a number above 0, found {fps}")
    if isinstance(fps, Fraction):
        return fps.limit_denominator(65535)
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    if ntsc and abs(float(ntsc) - fps) < 5e-4 * min(1.0, fps / 30) and fps % 1:
        return ntsc
    return Fraction(fps).limit_denominator(1001)


def _checked(frame: np.ndarray, size: tuple[int, int] | None, number: int) -> np.ndarray:
    """The frame as (h, w, c), or ValidationError."""
    frame = np.asarray(frame)
    shown = f"found {frame.dtype} with shape {frame.shape}"
    if frame.ndim == 2:
        frame = frame[..., None]
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in (1, 3) or not frame.size:
        raise ValidationError(
            f"frame {number}: expected uint8 of (h, w, 3) RGB or (h, w) gray, {shown}"
        )
    if size is not None and (frame.shape[1], frame.shape[0]) != tuple(size):
        raise ValidationError(
            f"frame {number}: expected {size[0]}x{size[1]} pixels (width x height) as all frames "
            f"of this video, {shown}"
        )
    return frame
