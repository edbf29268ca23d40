"""What a reader offers besides exact frames: shapes, slices, times, colours, threads."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dpk_core.errors import ValidationError, VideoError
from dpk_core.services.video import VideoReader, VideoWriter, list_codecs
from dpk_core.services.video.prefetch import Prefetcher

B_FRAMES = {"bf": "3", "g": "20"}


@pytest.fixture
def reader(videos: Any) -> Iterator[VideoReader]:
    with VideoReader(videos.encode("a.mp4", 60, options=B_FRAMES)) as reader:
        yield reader


def prefetch_threads() -> int:
    return sum(thread.name == "dpk-prefetch" for thread in threading.enumerate())


def test_facts(reader: VideoReader) -> None:
    assert len(reader) == reader.n_frames == 60
    assert reader.shape == (64, 96, 3)
    assert reader.codec == "h264"
    assert reader.fps == 30.0
    assert reader.path.name == "a.mp4"
    assert not reader.is_grayscale
    assert np.allclose(reader.timestamps, np.arange(60) / 30)
    assert "60 frames of (64, 96, 3), 30 fps, h264" in repr(reader)


def test_indexing_as_with_an_array(reader: VideoReader, videos: Any) -> None:
    numbers = np.arange(60)
    for item in (slice(None), slice(3, 40, 7), slice(50, 10, -9), slice(-5, None), slice(9, 3)):
        frames = reader[item]
        assert frames.shape == (len(numbers[item]), 64, 96, 3)
        assert frames.dtype == np.uint8
        assert [videos.number(frame) for frame in frames] == numbers[item].tolist()
    for item in (np.array([5, -1, 5, 30]), [0, 59, 2], np.array([], dtype=int)):
        assert [videos.number(f) for f in reader[item]] == numbers[np.asarray(item, int)].tolist()
    assert videos.number(reader[-1]) == 59
    assert videos.number(reader[np.int32(7)]) == 7


def test_wrong_indices(reader: VideoReader) -> None:
    for item in (60, -61, [0, 60]):
        with pytest.raises(IndexError, match=r"with 60 frames \(0 to 59\)"):
            reader[item]
    for item in (1.5, "1", True, None, np.zeros(60, dtype=bool), np.zeros((2, 2), dtype=int)):
        with pytest.raises(TypeError, match=r"a\.mp4"):
            reader[item]
    with pytest.raises(ValidationError, match="step"):
        reader.frames(step=0)
    with pytest.raises(ValidationError, match="n_threads"):
        VideoReader(reader.path, n_threads=-1)
    with pytest.raises(ValidationError, match="index"):
        VideoReader(reader.path, index="guess")


def test_ranges_of_frames(reader: VideoReader, videos: Any) -> None:
    for start, stop, step in [(0, None, 1), (7, 23, 1), (0, None, 9), (5, 58, 25), (-6, -2, 1)]:
        got = [videos.number(f) for f in reader.frames(start, stop, step)]
        assert got == list(range(60))[start:stop:step]
    assert list(reader.frames(60)) == list(reader.frames(9, 3)) == []


def test_the_caller_owns_the_frames(reader: VideoReader) -> None:
    expected = reader[10].copy()
    reader[10][:] = 0
    assert np.array_equal(reader[10], expected)
    for frame in reader.frames(stop=2):
        frame[:] = 0


def test_gray_frames_are_the_stored_luma(videos: Any) -> None:
    path = videos.encode("a.mp4", 3, options={"qp": "1"})
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        plane = picture.planes[0]
        luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:64, :96]
    with VideoReader(path, grayscale=True) as reader:
        assert reader.shape == (64, 96, 1)
        assert reader[:].shape == (3, 64, 96, 1)
        expected = np.clip((luma.astype(float) - 16) * 255 / 219, 0, 255)
        assert np.abs(reader[0][..., 0] - expected).max() <= 0.5


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "nv12", "yuvj420p", "rgb24", "gray"])
def test_gray_frames_of_any_format_agree_with_the_colours(videos: Any, pix_fmt: str) -> None:
    codec = "libx264rgb" if pix_fmt == "rgb24" else "libx264"
    path = videos.encode("a.mp4", 2, codec=codec, pix_fmt=pix_fmt, options={"qp": "2"})
    with VideoReader(path) as colour, VideoReader(path, grayscale=True) as gray:
        expected = colour[1] @ np.array([0.299, 0.587, 0.114])
        assert np.abs(gray[1][..., 0] - expected).mean() < 3


@pytest.mark.parametrize(
    ("matrix", "red", "blue"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (2, 0.299, 0.114)]
)
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_follow_the_matrix_and_range_of_the_file(
    tmp_path: Path, matrix: int, red: float, blue: float, full_range: bool
) -> None:
    """BT.709, BT.601 and unnamed, by the formulas of ITU-R BT.601 and BT.709."""
    colours = np.array(
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 100, 50]]
    )
    rgb = np.repeat(np.repeat(colours[None], 64, axis=0), 16, axis=1).astype(float)
    y = rgb @ [red, 1 - red - blue, blue]
    u, v = (rgb[..., 2] - y) / (2 - 2 * blue), (rgb[..., 0] - y) / (2 - 2 * red)
    if full_range:
        planes = [y, u + 128, v + 128]
    else:
        planes = [16 + y * 219 / 255, 128 + u * 224 / 255, 128 + v * 224 / 255]
    picture = av.VideoFrame(96, 64, "yuv444p")
    for plane, values in zip(picture.planes, planes, strict=True):
        rows = np.zeros((64, plane.line_size), np.uint8)
        rows[:, :96] = np.clip(np.rint(values), 0, 255)
        plane.update(rows.tobytes())
    path = tmp_path / "colours.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full_range else 1
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))

    with VideoReader(path) as reader:
        assert np.abs(reader[0].astype(int) - rgb).max() <= 2


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_a_rotation_for_display_is_applied(videos: Any, degrees: int, turns: int) -> None:
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a rotation")
    plain = videos.encode("plain.mp4", 3)
    turned = videos.encode("turned.mp4", 3, rotation=degrees)
    with (
        VideoReader(plain) as a,
        VideoReader(turned) as b,
        VideoReader(turned, grayscale=True) as gray,
    ):
        assert np.array_equal(b[1], np.rot90(a[1], turns))  # counterclockwise
        assert b.shape == b[1].shape
        assert gray.shape[:2] == b.shape[:2]


def test_average_rate_and_times_of_an_irregular_video(videos: Any) -> None:
    pts = np.cumsum(np.random.default_rng(1).integers(1, 9, 30))
    path = videos.encode("v.mkv", 30, pts=pts.tolist(), time_base=Fraction(1, 90), options=B_FRAMES)
    with VideoReader(path) as reader:
        assert np.allclose(reader.timestamps, pts / 90, atol=1e-3)
        assert reader.fps == pytest.approx(29 / ((pts[-1] - pts[0]) / 90), rel=1e-2)


def test_times_where_the_container_has_none(videos: Any) -> None:
    path = videos.encode("raw.h264", 30, options=B_FRAMES)
    with VideoReader(path) as reader:
        assert np.allclose(np.diff(reader.timestamps), 1 / reader.fps)


def test_the_fingerprint_is_of_the_content(videos: Any, tmp_path: Path) -> None:
    path = videos.encode("a.mp4", 30)
    elsewhere = tmp_path / "folder" / "other name.mp4"
    elsewhere.parent.mkdir()
    shutil.copy(path, elsewhere)
    other = videos.encode("b.mp4", range(1, 31))
    prints = []
    for file in (path, elsewhere, other):
        with VideoReader(file) as reader:
            prints.append(reader.fingerprint())
    assert prints[0] == prints[1] != prints[2]
    assert prints[0].split("-")[1] == "30"


def test_an_iteration_ends_its_thread_when_it_is_left(reader: VideoReader) -> None:
    before = prefetch_threads()
    for _ in reader:
        assert prefetch_threads() == before + 1
        break
    gc.collect()
    assert prefetch_threads() == before

    def fail() -> None:
        for _ in reader:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    gc.collect()
    assert prefetch_threads() == before

    kept = reader.frames()
    next(kept)
    reader.close()
    assert prefetch_threads() == before
    with pytest.raises(ValueError, match="closed"):
        list(kept)
    with pytest.raises(VideoError, match="closed"):
        reader[30]
    with pytest.raises(VideoError, match="closed"):
        reader.frames()


def test_prefetching_stays_within_its_depth_and_passes_errors_on() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(8):
            made.append(i)
            yield i
        raise OSError("disk gone")

    ahead = Prefetcher(numbers, depth=3)
    assert next(ahead) == 0
    deadline = time.monotonic() + 300
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 5  # one taken, three waiting, one in hand
    got = []
    with pytest.raises(OSError, match="disk gone"):
        got.extend(ahead)
    assert made == list(range(8))


def test_several_threads_share_a_reader(reader: VideoReader, videos: Any) -> None:
    order = np.random.default_rng(0).permutation(60).tolist() * 3
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda i: videos.number(reader[i]), order))
    assert numbers == order
    together = [reader.frames() for _ in range(3)]
    assert [videos.number(f) for frames in zip(*together, strict=True) for f in frames] == [
        i for i in range(60) for _ in range(3)
    ]


def test_sequential_access_does_not_seek(
    reader: VideoReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []
    pictures = reader._decoder.pictures
    monkeypatch.setattr(
        reader._decoder, "pictures", lambda start: starts.append(start) or pictures(start)
    )
    for i in range(60):
        reader[i]
    assert starts == [0]
    for i in range(59, 30, -1):
        reader[i]
    assert starts == [0]  # stepping back is served from what came by


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_stays_flat_over_a_long_video(videos: Any) -> None:
    path = videos.encode("long.mp4", 1500, size=(240, 320), options={"preset": "ultrafast"})
    with VideoReader(path) as reader:
        assert np.prod(reader.shape) * len(reader) > 300e6
        seen = [resident_bytes() for i, _ in enumerate(reader) if i % 250 == 249]
        assert max(seen) - seen[0] < 20e6
        for i in range(0, 1500, 3):
            reader[i]
        assert resident_bytes() - seen[0] < 60e6


def test_codecs_of_this_installation(tmp_path: Path) -> None:
    codecs = {codec.name: codec for codec in list_codecs()}
    assert set(codecs) >= {"h264", "hevc", "vp9", "av1", "mjpeg"}
    assert codecs["h264"].readable
    assert codecs["mjpeg"].writable
    for encoder in codecs["mjpeg"].encoders:
        with VideoWriter(tmp_path / "a.avi", 25, codec=encoder) as writer:
            writer.write(np.zeros((32, 32, 3), np.uint8))
