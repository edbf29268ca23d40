"""reader[i] is number i of sequential decoding, whatever the container and codec do."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.services.video import VideoReader
from dpk_core.services.video.decoder import Decoder
from dpk_core.services.video.entries import EntryRule
from dpk_core.services.video.opening import open_video
from dpk_core.services.video.pixels import PixelConverter
from dpk_core.services.video.source import VideoSource

B_FRAMES = {"bf": "3", "g": "20", "b_strategy": "0", "sc_threshold": "0"}
IRREGULAR = np.cumsum(np.random.default_rng(0).integers(1, 9, 60)).tolist()

KINDS: dict[str, dict[str, Any]] = {
    "h264-b-frames.mp4": {"options": B_FRAMES},
    "h264-b-pyramid.mp4": {"options": {**B_FRAMES, "x264-params": "b-pyramid=normal:ref=4"}},
    "h264-open-gop.mp4": {"options": {**B_FRAMES, "x264-params": "open-gop=1"}},
    "h264-open-gop.mkv": {"options": {**B_FRAMES, "x264-params": "open-gop=1"}},
    "h264-open-gop.ts": {"options": {**B_FRAMES, "x264-params": "open-gop=1"}},
    "h264-intra-refresh.ts": {"options": {"g": "20", "x264-params": "intra-refresh=1"}},
    "h264-variable-rate.mp4": {"options": B_FRAMES, "pts": IRREGULAR, "time_base": Fraction(1, 90)},
    "h264-variable-rate.mkv": {"options": B_FRAMES, "pts": IRREGULAR, "time_base": Fraction(1, 90)},
    "h264-edit-list.mp4": {"options": B_FRAMES, "shift": -10},
    "h264-late-start.mkv": {"options": B_FRAMES, "shift": 100},
    "h264-fragments.mp4": {
        "options": B_FRAMES,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "h264-gray.mp4": {"options": B_FRAMES, "pix_fmt": "gray"},
    "h264-odd-444.mp4": {"options": B_FRAMES, "pix_fmt": "yuv444p", "size": (65, 97)},
    "h264-interlaced.mp4": {"options": {"g": "20", "x264-params": "interlaced=1"}},
    "h264-ten-bit.mp4": {"options": B_FRAMES, "pix_fmt": "yuv420p10le"},
    "h264-no-times.avi": {"options": B_FRAMES},
    "h264-no-times.h264": {"options": B_FRAMES},
    "hevc-open-gop.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=20:bframes=3:open-gop=1:log-level=none"},
    },
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mjpeg-odd.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "size": (65, 97)},
    "mpeg4-b-frames.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "mpeg2-program.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "repeated-times.mkv": {
        "codec": "mpeg4",
        "options": {"g": "20"},
        "time_base": Fraction(1, 3000),
    },
    "vp8-hidden-references.webm": {
        "codec": "libvpx",
        "options": {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16"},
    },
    "vp9-odd.webm": {"codec": "libvpx-vp9", "options": {"g": "20"}, "size": (65, 97)},
    "ffv1-gray.avi": {"codec": "ffv1", "pix_fmt": "gray", "size": (65, 97)},
    "raw.avi": {"codec": "rawvideo", "pix_fmt": "bgr24"},
    "one-frame.mp4": {"numbers": 1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_by_number_is_that_of_sequential_decoding(kind: str, videos: Any) -> None:
    options = KINDS[kind]
    encoder = options.get("codec", "libx264")
    if encoder not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode {encoder}")
    path = videos.encode(kind, **options)
    expected = videos.decoded(path)
    shown = [videos.number(frame) for frame in expected]
    assert shown == list(range(shown[0], shown[0] + len(shown)))

    with VideoReader(path, n_threads=2) as reader:
        assert len(reader) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(reader, expected, strict=True))
        order = list(range(len(expected))) * 2
        random.Random(1).shuffle(order)
        wrong = [i for i in order if not np.array_equal(reader[i], expected[i])]
        assert wrong == []
        assert reader.check().ok

    with VideoReader(path, n_threads=1, index="decode") as reader:
        assert len(reader) == len(expected)
        assert all(np.array_equal(reader[i], expected[i]) for i in order[: len(expected)])


def needless(path: Path) -> tuple[list[int], list[int]]:
    """Byte positions of packets that hold a frame no other needs: by us, and by FFmpeg."""
    ours, places = [], {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rule = EntryRule(stream.codec_context.codec, stream.codec_context.extradata)
        for packet in container.demux(stream):
            if packet.size:
                places[packet.pts] = packet.pos
                if rule.is_needless(memoryview(packet)):
                    ours.append(packet.pos)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        stream.codec_context.skip_frame = "NONREF"
        kept = {places[frame.pts] for frame in container.decode(stream)}
    return ours, [place for place in places.values() if place not in kept]


@pytest.mark.parametrize(
    "kind",
    ["h264-b-frames.mp4", "h264-b-pyramid.mp4", "h264-open-gop.ts", "h264-interlaced.mp4"],
)
def test_pictures_that_no_other_needs_are_those_that_ffmpeg_takes_for_such(
    kind: str, videos: Any
) -> None:
    path = videos.encode(kind, **KINDS[kind])
    ours, theirs = needless(path)
    assert len(ours) >= 20
    assert sorted(ours) == sorted(theirs)


def test_needless_pictures_of_layers_are_not_told_from_others(videos: Any) -> None:
    if "libx265" not in av.codecs_available:
        pytest.skip("this PyAV cannot encode libx265")
    common = "keyint=20:bframes=3:b-adapt=0:log-level=none"
    for name, parameters, some in (
        ("one.mp4", common, True),
        ("layers.mp4", f"{common}:temporal-layers=3", False),
    ):
        path = videos.encode(name, codec="libx265", options={"x265-params": parameters})
        assert bool(needless(path)[0]) is some
        expected = videos.decoded(path)
        with VideoReader(path) as reader:
            for i in (57, 33, 13):
                assert np.array_equal(next(reader.frames(i, i + 1)), expected[i])


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.startswith(("h264", "hevc")) and "gray" not in kind]
)
def test_frames_that_are_leapt_to_are_those_of_sequential_decoding(kind: str, videos: Any) -> None:
    options = KINDS[kind]
    if options.get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode {options['codec']}")
    path = videos.encode(kind, **options)
    expected = videos.decoded(path)
    opened = open_video(VideoSource.of(path), mode="auto", n_threads=2, strict=True)
    decoder = Decoder(opened.source, opened.index, opened.damage, n_threads=2, strict=True)
    convert = PixelConverter(opened.first, grayscale=False)
    try:
        for i in range(len(expected) - 1, -1, -1):
            number, picture = next(decoder.pictures(i))
            assert number == i
            assert np.array_equal(convert(picture, "it"), expected[i])
        assert decoder.is_hasty, "pictures were left out all the time"
    finally:
        decoder.close()


def test_a_step_back_from_a_frame_that_was_leapt_to(videos: Any) -> None:
    path = videos.encode("back.mp4", 200, options={**B_FRAMES, "g": "200"})
    expected = videos.decoded(path)
    with VideoReader(path) as reader:
        for i in (3, 190, 189, 188, 150, 149, 148, 120, 191, 60, 199, 61):
            assert np.array_equal(reader[i], expected[i])


def test_a_cut_edited_video_begins_where_players_begin(videos: Any) -> None:
    path = videos.encode("edit.mp4", 60, options=B_FRAMES, shift=-10)

    with VideoReader(path) as reader:
        assert len(reader) == 50
        assert videos.number(reader[0]) == 10
        assert videos.number(reader[-1]) == 59


@pytest.mark.parametrize("open_gop", [0, 1])
def test_what_comes_before_the_first_keyframe_of_a_recording_is_not_counted(
    videos: Any, open_gop: int
) -> None:
    path = videos.encode(
        "whole.ts", 80, options={**B_FRAMES, "x264-params": f"open-gop={open_gop}"}
    )
    data, packet = path.read_bytes(), 188
    late = videos.folder / "tuned-in-late.ts"
    late.write_bytes(data[len(data) // 3 // packet * packet :])

    with VideoReader(late) as reader:
        numbers = [videos.number(frame) for frame in reader]
        assert len(numbers) >= 20
        assert numbers == list(range(80 - len(numbers), 80))
        assert [videos.number(reader[i]) for i in range(len(reader))] == numbers


def test_an_encoder_fault_named_only_in_the_first_packet_is_known_everywhere(
    test_data: Path,
) -> None:
    # This file's encoder is one whose 4:4:4 streams need a workaround in decoders, and it gives
    # its version once: seeking with a fresh decoder gives garbage.
    path = test_data / "openfield" / "videos" / "m3v1mp4.mp4"
    with VideoReader(path) as far, VideoReader(path) as near:
        wanted = [185, 799, 1981]
        expected = [next(near.frames(start=i)) for i in wanted]
        steady = [f for i, f in enumerate(near.frames(stop=186)) if i == 185]
        assert np.array_equal(far[185], steady[0])
        assert all(np.array_equal(far[i], e) for i, e in zip(wanted, expected, strict=True))


@pytest.mark.parametrize("name", ["openfield/videos/m3v1mp4.mp4", "flies-clip/clip.mp4"])
def test_real_videos(test_data: Path, name: str) -> None:
    wanted = sorted(random.Random(3).sample(range(400), 12))
    expected: dict[int, np.ndarray] = {}
    with av.open(str(test_data / name)) as container:
        stream = container.streams.video[0]
        n_frames = stream.frames
        for i, frame in enumerate(islice(container.decode(stream), 400)):
            if i in wanted:
                expected[i] = frame.to_ndarray(format="rgb24")

    with VideoReader(test_data / name) as reader:
        assert len(reader) == n_frames
        for i in random.Random(4).sample(wanted, len(wanted)):
            assert np.array_equal(reader[i], expected[i])
        assert np.array_equal(reader[wanted], np.stack([expected[i] for i in wanted]))


@settings(max_examples=15, deadline=None)
@given(
    steps=st.lists(st.integers(1, 40), min_size=2, max_size=50),
    b_frames=st.integers(0, 3),
    gop=st.integers(1, 25),
    open_gop=st.booleans(),
    suffix=st.sampled_from([".mp4", ".mkv"]),
    data=st.data(),
)
def test_any_timing_and_structure(
    tmp_path_factory: pytest.TempPathFactory,
    numbered_videos: Any,
    steps: list[int],
    b_frames: int,
    gop: int,
    open_gop: bool,
    suffix: str,
    data: st.DataObject,
) -> None:
    videos = numbered_videos(tmp_path_factory.mktemp("any"))
    parameters = f"open-gop={int(open_gop)}:b-adapt=0:keyint={gop}:min-keyint=1"
    path = videos.encode(
        "any" + suffix,
        len(steps),
        pts=np.cumsum(steps).tolist(),
        time_base=Fraction(1, 600),
        options={"bf": str(b_frames), "x264-params": parameters},
    )
    expected = videos.decoded(path)
    with VideoReader(path, n_threads=1) as reader:
        assert len(reader) == len(expected) == len(steps)
        for i in data.draw(st.lists(st.integers(0, len(steps) - 1), max_size=12)):
            assert np.array_equal(reader[i], expected[i])
            assert videos.number(reader[i]) == i
