"""Videos whose every frame carries its own number, encoded on the spot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

_BITS = 12


class NumberedVideos:
    """Encodes videos whose frames show their number as twelve black or white stripes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def frame(number: int, height: int = 64, width: int = 96) -> np.ndarray:
        """(height, width, 3) RGB: stripes above, a coloured pattern that moves below."""
        y, x = np.mgrid[:height, :width]
        image = np.empty((height, width, 3), dtype=np.uint8)
        image[..., 0] = (x * 3 + number * 7) % 256
        image[..., 1] = (y * 4 + number * 3) % 256
        image[..., 2] = 40 + number % 150
        bit = np.minimum(np.arange(width) * _BITS // width, _BITS - 1)
        image[: height // 2] = np.where(number >> bit & 1, 230, 25)[None, :, None]
        return image

    @staticmethod
    def number(frame: np.ndarray) -> int:
        """The number that a frame shows."""
        height, width = frame.shape[:2]
        level = frame[: height // 2].reshape(height // 2, width, -1).mean(axis=(0, 2))
        bit = np.minimum(np.arange(width) * _BITS // width, _BITS - 1)
        return sum(int(level[bit == b].mean() > 128) << b for b in range(_BITS))

    def encode(
        self,
        name: str,
        numbers: Iterable[int] | int = 60,
        *,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        size: tuple[int, int] = (64, 96),
        pts: Sequence[int] | None = None,
        time_base: Fraction = Fraction(1, 30),
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        shift: int = 0,
        rotation: int = 0,
    ) -> Path:
        """Encode frames with these ``numbers`` (0 to n - 1 for a count) and give the path.

        ``size`` is (height, width); ``pts`` are in units of ``time_base``; ``shift`` is added to
        the timestamps of the finished packets.
        """
        path = self.folder / name
        numbers = range(numbers) if isinstance(numbers, int) else list(numbers)
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=1 / time_base, options=options or {})
            stream.height, stream.width = size
            stream.pix_fmt = pix_fmt
            stream.time_base = stream.codec_context.time_base = time_base
            if rotation:
                stream.set_display_rotation(rotation)
            container.start_encoding()
            for at, number in enumerate(numbers):
                picture = av.VideoFrame.from_ndarray(self.frame(number, *size), format="rgb24")
                picture = picture.reformat(format=pix_fmt)
                picture.pts = at if pts is None else pts[at]
                picture.time_base = time_base
                self._mux(container, stream.encode(picture), shift)
            self._mux(container, stream.encode(None), shift)
        return path

    @staticmethod
    def _mux(container: av.container.OutputContainer, packets: list[av.Packet], shift: int) -> None:
        for packet in packets:
            if shift and packet.pts is not None and packet.dts is not None:
                packet.pts += shift
                packet.dts += shift
            container.mux(packet)

    @staticmethod
    def decoded(path: Path) -> list[np.ndarray]:
        """All frames as plain sequential decoding with PyAV gives them, RGB."""
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.fixture
def videos(tmp_path: Path) -> NumberedVideos:
    """Makes videos in a folder of the test's own."""
    return NumberedVideos(tmp_path)


@pytest.fixture(scope="session")
def numbered_videos() -> type[NumberedVideos]:
    """The maker itself, for tests that make many folders."""
    return NumberedVideos
