"""Damaged videos say what can be read, and never give one frame for another."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dpk_core.errors import FileMissingError, VideoError
from dpk_core.services.video import VideoReader
from dpk_core.services.video.entries import EntryRule

B_FRAMES = {"bf": "3", "g": "20", "b_strategy": "0", "sc_threshold": "0"}
FAST_START = {"movflags": "+faststart"}
N = 100


def healthy(videos: Any, kind: str) -> Path:
    """A video of 100 frames, five groups of 20, of one of four kinds."""
    options: dict[str, dict[str, Any]] = {
        "mp4": {"options": B_FRAMES, "container_options": FAST_START},
        "mkv": {"options": B_FRAMES},
        "open.mp4": {
            "options": {**B_FRAMES, "x264-params": "open-gop=1"},
            "container_options": FAST_START,
        },
        "avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    }
    return videos.encode(f"healthy.{kind}", N, **options[kind])


def media_range(data: bytes) -> tuple[int, int]:
    """Where the frames of a file lie, more or less."""
    at = data.find(b"mdat")
    if at >= 0:
        return at + 100, at + int.from_bytes(data[at - 4 : at], "big") - 100
    return len(data) // 10, len(data) - 1200


def damaged(path: Path, how: str, seed: int) -> Path:
    """A copy with a stretch of zeros, or an end cut off."""
    rng = random.Random(seed)
    data = bytearray(path.read_bytes())
    begin, end = media_range(bytes(data))
    at, length = rng.randrange(begin, end), rng.choice([16, 100, 400])
    if how == "cut":
        del data[at:]
    else:
        data[at : at + length] = bytes(length)
    copy = path.with_name(f"damaged-{how}-{seed}{path.suffix}")
    copy.write_bytes(bytes(data))
    return copy


# Nothing tells all noise within a picture's data, or zeros in a JPEG's, from a picture.
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *((kind, how) for kind in ("mp4", "open.mp4", "mkv") for how in ("cut", "zeros")),
        ("avi", "cut"),
    ],
)
def test_frames_of_a_damaged_video_keep_their_numbers(videos: Any, kind: str, how: str) -> None:
    path = healthy(videos, kind)
    opened = 0
    for seed in range(6):
        copy = damaged(path, how, seed)
        try:
            reader = VideoReader(copy, n_threads=2)
        except VideoError:
            continue  # nothing decodes when the first group is hit
        opened += 1
        with reader:
            given = []
            with pytest.raises(VideoError, match=r"can(not)? be read") as stopped:
                given.extend(videos.number(frame) for frame in reader)
            assert given == list(range(len(given)))
            assert str(copy) in str(stopped.value)

            report = reader.check()
            assert not report.ok
            readable = [i for a, b in report.readable for i in range(a, b + 1)]
            assert len(readable) == report.n_readable
            assert given == readable[: len(given)]
        with VideoReader(copy, n_threads=1) as reader:
            for i in random.Random(seed).sample(range(len(reader)), min(len(reader), 40)):
                if i in readable:
                    assert videos.number(reader[i]) == i
                else:
                    with pytest.raises(VideoError, match=f"frame {i} cannot be read"):
                        reader[i]
    assert opened >= 3


@pytest.mark.parametrize("needed", [True, False])
def test_damage_on_the_way_to_a_frame_that_is_leapt_to(videos: Any, needed: bool) -> None:
    path = healthy(videos, "mp4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rule = EntryRule(stream.codec_context.codec, stream.codec_context.extradata)
        found = [
            (packet.size, packet.pos)
            for packet in list(container.demux(stream))[42:56]
            if rule.is_needless(memoryview(packet)) is not needed
        ]
    data = bytearray(path.read_bytes())
    size, begin = max(found)
    data[begin + 10 : begin + size - 2] = bytes(size - 12)
    path.write_bytes(bytes(data))
    with VideoReader(path) as leaping, VideoReader(path) as walking:
        report = walking.check()
        assert not report.ok
        lost = [i for i in range(N) if not any(a <= i <= b for a, b in report.readable)]
        assert 58 in lost, "what may need the damaged one, too"
        with pytest.raises(VideoError, match="frame 58 cannot be read"):
            leaping[58]
        assert videos.number(leaping[95]) == 95
        for i in (59, 70, 12, 41):
            if i in lost:
                with pytest.raises(VideoError, match=f"frame {i} cannot be read"):
                    leaping[i]
            else:
                assert videos.number(leaping[i]) == i


def test_a_truncated_mp4_knows_all_its_frames(videos: Any) -> None:
    path = healthy(videos, "mp4")
    data = path.read_bytes()
    begin, end = media_range(data)
    cut = videos.folder / "cut.mp4"
    cut.write_bytes(data[: (begin + end) // 2])

    with VideoReader(cut) as reader:
        report = reader.check()
        assert (len(reader), report.n_frames) == (N, N)
        last = report.readable[0][1]
        assert 20 < last < 80
        assert videos.number(reader[last]) == last
        with pytest.raises(VideoError, match=rf"frames 0 to {last} of {N} decode.*cut short|cut"):
            reader[last + 1]
        with pytest.raises(VideoError, match="cut short"):
            reader[-1]
        assert f"{report.n_readable} of {N} frames decode" in str(report)


def test_a_truncated_mkv_raises_at_its_end_unless_told_where_to_stop(videos: Any) -> None:
    path = healthy(videos, "mkv")
    cut = videos.folder / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with VideoReader(cut) as reader:
        n = len(reader)
        assert 10 < n < N
        readable = reader.check().n_readable
        assert [videos.number(f) for f in reader.frames(stop=readable)] == list(range(readable))
        with pytest.raises(VideoError, match="cut short"):
            list(reader)


def test_damage_in_one_group_leaves_the_others(videos: Any) -> None:
    path = healthy(videos, "mp4")
    data = bytearray(path.read_bytes())
    with VideoReader(path) as reader:
        at = int(reader._video.index.packets.position[45])
    data[at + 8 : at + 60] = bytes(52)
    copy = videos.folder / "hit.mp4"
    copy.write_bytes(bytes(data))

    with VideoReader(copy) as reader:
        report = reader.check()
        assert report.readable[0][0] == 0
        assert 40 <= report.readable[0][1] < 50
        assert report.readable[-1] == (60, 99)
        assert report.problem is not None
        assert report.problem.startswith(f"frame {report.readable[0][1] + 1}")
        assert [videos.number(f) for f in reader.frames(start=60)] == list(range(60, 100))
        assert videos.number(reader[75]) == 75
        with pytest.raises(VideoError, match="frame 58 cannot be read"):
            reader[58]
        with pytest.raises(VideoError, match="frame 58 cannot be read"):
            reader[[1, 58]]

    with VideoReader(copy, strict=False) as lenient:
        assert len(list(lenient.frames(stop=40))) == 40
        assert videos.number(lenient[99]) == 99


@pytest.mark.parametrize("kind", ["mkv", "avi"])
@pytest.mark.parametrize(
    "filling", [b"\xff" * 12, b"\x00" * 12, b"\xa3\x81NoiseNoise", b"00dc1234"]
)
def test_a_broken_header_between_frames_hides_what_follows(
    videos: Any, kind: str, filling: bytes
) -> None:
    path = healthy(videos, kind)
    data = bytearray(path.read_bytes())
    with VideoReader(path) as reader:
        at = int(reader._video.index.packets.position[50])
    at -= 8 if kind == "avi" else 0  # an AVI's packets begin after their header
    data[at : at + len(filling)] = filling
    copy = videos.folder / f"hit.{kind}"
    copy.write_bytes(bytes(data))

    with VideoReader(copy) as reader:
        given = []
        with pytest.raises(VideoError, match="read"):
            given.extend(videos.number(frame) for frame in reader)
        assert given == list(range(len(given)))
        assert 40 <= len(given) <= 50
        report = reader.check()
        assert not report.ok
        for i in [i for a, b in report.readable for i in range(a, b + 1)]:
            assert videos.number(reader[i]) == i


def test_a_damaged_jpeg_costs_one_frame(videos: Any) -> None:
    path = healthy(videos, "avi")
    data = bytearray(path.read_bytes())
    with VideoReader(path) as reader:
        table = reader._video.index.packets
        at, size = int(table.position[30]), int(table.size[30])
    data[at + 8 : at + size] = bytes(size - 8)
    copy = videos.folder / "hit.avi"
    copy.write_bytes(bytes(data))

    with VideoReader(copy) as reader:
        assert reader.check().readable == ((0, 29), (31, 99))
        assert videos.number(reader[31]) == 31


def test_sound_videos_are_sound(videos: Any) -> None:
    for kind in ("mp4", "mkv", "open.mp4", "avi"):
        with VideoReader(healthy(videos, kind)) as reader:
            report = reader.check()
            assert report.ok
            assert report.problem is None
            assert report.readable == ((0, N - 1),)
            assert str(report) == "all 100 frames decode"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="there is no such video"):
        VideoReader(tmp_path / "no.mp4")


def test_files_that_are_not_videos(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video at all\n" * 100)
    noise = tmp_path / "noise.avi"
    noise.write_bytes(np.random.default_rng(0).bytes(20_000))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path, message in ((text, "not a video"), (noise, "not a video"), (empty, "empty file")):
        with pytest.raises(VideoError, match=message):
            VideoReader(path)
    with pytest.raises(VideoError, match="found a folder"):
        VideoReader(tmp_path)


def test_a_sound_recording_is_not_a_video(tmp_path: Path) -> None:
    import wave

    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    with pytest.raises(VideoError, match="without a video stream"):
        VideoReader(path)


def test_a_video_without_frames(videos: Any) -> None:
    for name in ("none.mp4", "none.mkv"):
        path = videos.encode(name, 0)
        with pytest.raises(VideoError, match=name):
            VideoReader(path)


def test_an_mp4_that_lost_its_table_says_so(videos: Any) -> None:
    path = videos.encode("whole.mp4", 30)  # the table comes last
    cut = videos.folder / "no-table.mp4"
    cut.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(VideoError, match=r"table of frames \(moov\) is missing"):
        VideoReader(cut)


def test_a_file_that_changes_under_the_reader_is_noticed(videos: Any) -> None:
    path = videos.encode("a.mp4", 60, options=B_FRAMES)
    other = videos.encode("b.mp4", range(500, 560), options={**B_FRAMES, "crf": "40"})
    with VideoReader(path) as reader:
        path.write_bytes(other.read_bytes())
        with pytest.raises(VideoError, match="not what it was"):
            list(reader)
