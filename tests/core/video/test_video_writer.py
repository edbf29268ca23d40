"""Written videos: whole or not there, no pixel moved, colours kept."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dpk_core.errors import OutputError, OutputExistsError, ValidationError, VideoError
from dpk_core.services.video import VideoReader, VideoWriter
from dpk_core.services.video.writer import _as_rate

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 100, 50)]


def bars(height: int = 64, width: int = 96) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for i, colour in enumerate(COLOURS):
        image[:, i * 16 : i * 16 + 16] = colour
    return image


def write(path: Path, frames: list[np.ndarray], fps: float = 25, **options: Any) -> None:
    with VideoWriter(path, fps, **options) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mov", {"codec": "libx265"}),
        ("a.mkv", {"pixel_format": "yuv444p"}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("a.avi", {"codec": "mjpeg"}),
        ("b.avi", {"codec": "mpeg4"}),
    ],
)
def test_frames_come_back_in_order_with_their_colours(
    videos: Any, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    if options.get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode {options['codec']}")
    write(tmp_path / name, [videos.frame(i) for i in range(30)], **options)
    with VideoReader(tmp_path / name) as reader:
        assert [videos.number(frame) for frame in reader] == list(range(30))
        assert reader.fps == 25

    write(tmp_path / f"bars-{name}", [bars()] * 3, **options)
    with VideoReader(tmp_path / f"bars-{name}") as reader:
        for i, colour in enumerate(COLOURS):
            assert np.abs(reader[1][32, i * 16 + 8].astype(int) - colour).max() <= 8


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "ffv1"), ("a.avi", "ffv1")]
)
@pytest.mark.parametrize("shape", [(33, 47, 3), (33, 47, 1), (33, 47)])
def test_lossless_is_lossless(
    tmp_path: Path, name: str, codec: str, shape: tuple[int, ...]
) -> None:
    frames = [np.random.default_rng(i).integers(0, 256, shape, np.uint8) for i in range(5)]
    write(tmp_path / name, frames, codec=codec, quality="lossless")
    gray = len(shape) == 2 or shape[2] == 1
    with VideoReader(tmp_path / name, grayscale=gray) as reader:
        assert reader.shape == (33, 47, 1 if gray else 3)
        assert np.array_equal(reader[:], np.stack(frames).reshape(5, 33, 47, -1))
        assert reader.is_grayscale == gray


def test_odd_sizes_are_completed_at_the_right_and_below(tmp_path: Path) -> None:
    frame = (
        np.random.default_rng(0).integers(0, 256, (1, 1, 3), np.uint8).repeat(33, 0).repeat(95, 1)
    )
    frame[10:20, 30:50] = (250, 10, 10)
    write(tmp_path / "a.mp4", [frame] * 3, quality=5)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.shape == (34, 96, 3)
        difference = np.abs(reader[1][:33, :95].astype(int) - frame)
        assert np.median(difference) <= 2
        assert difference[12:18, 32:48].max() <= 10
        assert np.abs(reader[1][33, :95].astype(int) - frame[32]).max() <= 10


def test_the_default_plays_everywhere(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [bars()] * 3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        # Other programs that ignore the file's colour matrix assume BT.601.
        assert context.colorspace == 6
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # browsers can begin before the end


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (30, Fraction(30)),
        (25.0, Fraction(25)),
        (12.5, Fraction(25, 2)),
        (100 / 3, Fraction(100, 3)),
        (0.1, Fraction(1, 10)),
        (Fraction(1000, 33), Fraction(1000, 33)),
    ],
)
def test_rates(fps: float, expected: Fraction, tmp_path: Path) -> None:
    assert _as_rate(fps) == expected
    write(tmp_path / "a.mp4", [bars()] * 5, fps=fps)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.fps == pytest.approx(float(expected), rel=1e-4)
        assert np.allclose(np.diff(reader.timestamps), 1 / float(expected), rtol=1e-3)


def test_better_quality_is_a_larger_file(tmp_path: Path, videos: Any) -> None:
    for codec, name in (("libx264", "a.mp4"), ("mjpeg", "a.avi")):
        sizes = []
        for quality in (2, 12, 25):
            path = tmp_path / f"{quality}-{name}"
            write(path, [videos.frame(i) for i in range(5)], codec=codec, quality=quality)
            sizes.append(path.stat().st_size)
        assert sizes[0] > sizes[1] > sizes[2]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("precious")
    with pytest.raises(OutputExistsError, match="already there"):
        VideoWriter(path, 25)
    assert path.read_text() == "precious"

    writer = VideoWriter(path, 25, overwrite=True)
    writer.write(bars())
    assert path.read_text() == "precious"
    writer.close()
    assert writer.saved_path == path
    assert len(VideoReader(path)) == 1
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_file_that_comes_into_being_meanwhile_survives(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, 25)
    writer.write(bars())
    path.write_text("precious")
    with pytest.raises(OutputExistsError, match=r"a\.partial\.mp4"):
        writer.close()
    assert path.read_text() == "precious"
    assert len(VideoReader(tmp_path / "a.partial.mp4")) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_video_is_kept_as_partial(
    tmp_path: Path, videos: Any, error: type[BaseException]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("the last good one")

    def frames() -> Iterator[np.ndarray]:
        for i in range(12):
            yield videos.frame(i)
        raise error

    writer = VideoWriter(path, 25, overwrite=True)
    with pytest.raises(error), writer:
        deque(map(writer.write, frames()))
    assert path.read_text() == "the last good one"
    assert writer.saved_path == tmp_path / "a.partial.mp4"
    with VideoReader(writer.saved_path) as reader:
        assert [videos.number(frame) for frame in reader] == list(range(12))
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "a.partial.mp4"]


def test_without_frames_nothing_is_left(tmp_path: Path) -> None:
    with (
        pytest.raises(VideoError, match="no frames were written"),
        VideoWriter(tmp_path / "a.mp4", 25),
    ):
        pass
    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4", 25):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_kill_leaves_no_half_file_under_the_name(tmp_path: Path) -> None:
    code = f"""
        import os, numpy as np
        from dpk_core.services.video import VideoWriter
        writer = VideoWriter({str(tmp_path / "a.mp4")!r}, 25)
        for i in range(50):
            writer.write(np.full((64, 64, 3), i, np.uint8))
        os._exit(9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == 9
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    code = f"""
        import resource, signal, sys, numpy as np
        from dpk_core.errors import OutputError
        from dpk_core.services.video import VideoWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        rng = np.random.default_rng(0)
        try:
            with VideoWriter({str(tmp_path)!r} + "/" + sys.argv[1], 25, codec=sys.argv[2]) as w:
                for i in range(200):
                    w.write(rng.integers(0, 256, (96, 96, 3), np.uint8))
        except OutputError as error:
            print("OutputError:", error)
    """
    for name, codec in (("a.mp4", "libx264"), ("a.avi", "mjpeg"), ("a.mkv", "libx264")):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), name, codec],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.startswith(f"OutputError: {tmp_path / name}"), done.stderr
        assert "full" in done.stdout
        assert not (tmp_path / name).exists()
        assert not [left for left in os.listdir(tmp_path) if left.startswith(".")]


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not there; create it first"):
        VideoWriter(tmp_path / "no" / "a.mp4", 25)
    with pytest.raises(OutputExistsError, match="found a folder"):
        VideoWriter(tmp_path, 25)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return  # root may write anywhere
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OutputError, match="not allowed"):
        VideoWriter(locked / "a.mp4", 25)


def test_a_read_only_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OutputError, match="not allowed to write"):
        VideoWriter(tmp_path / "a.mp4", 25)


def test_wrong_frames_and_settings(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(bars())
        for frame in (bars().astype(float), bars(32, 32), bars()[..., :2], np.zeros(3, np.uint8)):
            with pytest.raises(ValidationError, match="frame 1: expected"):
                writer.write(frame)
    with (
        pytest.raises(ValidationError, match="expected 10x20"),
        VideoWriter(tmp_path / "b.mp4", 25, size=(10, 20)) as writer,
    ):
        writer.write(bars())
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="fps"):
            VideoWriter(tmp_path / "b.mp4", fps)
    with pytest.raises(VideoError, match='cannot encode "h999"'):
        VideoWriter(tmp_path / "b.mp4", 25, codec="h999")
    for name, options in (("b.webm", {}), ("b.mp4", {"pixel_format": "nonsense"})):
        with (
            pytest.raises(VideoError, match="cannot write libx264"),
            VideoWriter(tmp_path / name, 25, **options) as writer,
        ):
            writer.write(bars())
    with (
        pytest.raises(VideoError, match="lossless"),
        VideoWriter(tmp_path / "b.avi", 25, codec="mjpeg", quality="lossless") as writer,
    ):
        writer.write(bars())
    assert os.listdir(tmp_path) == ["a.mp4"]
    with pytest.raises(VideoError, match="closed"):
        writer.write(bars())
