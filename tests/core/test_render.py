"""Rendering: poses end up on the frames they belong to."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core import Poses, Skeleton
from dpk_core.errors import OutputExistsError, ValidationError, VideoError
from dpk_core.services.drawing import DrawStyle
from dpk_core.services.storage import write_poses
from dpk_core.services.video import VideoReader, VideoWriter
from dpk_core.workflow import render
from dpk_core.workflow.render import comfortable_scale, render_video

SIZE = (96, 128)
DOT = Skeleton(("dot",))
STYLE = DrawStyle(size=3, colors=np.array([[255, 255, 255]]))


def make_video(path, n=12, size=SIZE, level=40):
    with VideoWriter(path, fps=25) as writer:
        for _ in range(n):
            writer.write(np.full((*size, 3), level, np.uint8))
    return path


@pytest.fixture
def video(tmp_path):
    return make_video(tmp_path / "video.mp4")


def place_of(frame):
    """(x, y) of the middle of what was drawn in white."""
    weight = np.clip(frame.astype(float).mean(axis=2) - 100, 0, None)
    if not weight.sum():
        return None
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def moving_poses(frames, **fields):
    """A dot that is at (20 + 6 i, 30 + 3 i) in frame i."""
    frames = np.asarray(frames)
    keypoints = np.stack([20 + 6 * frames, 30 + 3 * frames], axis=1)[:, None]
    return Poses(keypoints, np.ones((len(frames), 1)), DOT, frames=frames, **fields)


def read_all(path):
    with VideoReader(path) as reader:
        return np.stack(list(reader))


def test_rows_are_matched_by_frame_number_not_by_position(video, tmp_path):
    frames = np.array([9, 2, 5, 3])
    result = render_video(moving_poses(frames), video, tmp_path / "out.mp4", scale=1, style=STYLE)
    drawn = read_all(tmp_path / "out.mp4")
    assert (result.n_frames, result.n_without_pose, result.size) == (12, 8, SIZE)
    for i, frame in enumerate(drawn):
        if i in frames:
            assert np.abs(place_of(frame) - (20 + 6 * i, 30 + 3 * i)).max() < 0.3
        else:
            assert place_of(frame) is None


def test_a_file_is_read_in_blocks_and_gives_the_same_video(video, tmp_path, monkeypatch):
    poses = moving_poses(np.repeat(np.arange(12), 2), track_ids=np.tile([0, 1], 12))
    write_poses(tmp_path / "poses.h5", poses)
    render_video(poses, video, tmp_path / "a.mp4", scale=1)
    monkeypatch.setattr(render, "_BLOCK", 5)
    render_video(tmp_path / "poses.h5", video, tmp_path / "b.mp4", scale=1)
    np.testing.assert_array_equal(read_all(tmp_path / "a.mp4"), read_all(tmp_path / "b.mp4"))


def test_a_file_whose_rows_are_out_of_order(video, tmp_path):
    write_poses(tmp_path / "poses.h5", moving_poses([7, 1, 4]))
    render_video(tmp_path / "poses.h5", video, tmp_path / "out.mp4", scale=1, style=STYLE)
    drawn = read_all(tmp_path / "out.mp4")
    assert np.abs(place_of(drawn[4]) - (44, 42)).max() < 0.3
    assert place_of(drawn[0]) is None


def test_several_individuals_in_a_frame(video, tmp_path):
    keypoints = np.array([[[30.0, 50]], [[100.0, 50]], [[60.0, 20]]])
    poses = Poses(keypoints, np.ones((3, 1)), DOT, frames=[3, 3, 4], track_ids=[1, 2, 1])
    render_video(poses, video, tmp_path / "out.mp4", scale=1, style=STYLE)
    drawn = read_all(tmp_path / "out.mp4")[3].astype(int)
    assert drawn[50, 30].min() > 150
    assert drawn[50, 100].min() > 150
    assert drawn[20, 60].max() < 100


def test_a_part_of_the_video_at_another_speed_and_scale(video, tmp_path):
    result = render_video(
        moving_poses(range(12)), video, tmp_path / "out.mp4",
        start=4, stop=9, fps=10, scale=2, style=STYLE,
    )  # fmt: skip
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (len(reader), reader.shape[:2]) == (5, (192, 256))
        assert reader.fps == pytest.approx(10)
        place = place_of(reader[0])
    assert result.n_frames == 5
    expected = (np.array([20 + 24, 30 + 12]) + 0.5) * 2 - 0.5
    assert np.abs(place - expected).max() < 0.4


def test_small_frames_are_enlarged_unless_told_otherwise(tmp_path):
    video = make_video(tmp_path / "tiny.mp4", n=2, size=(32, 48))
    assert render_video(moving_poses([0]), video, tmp_path / "a.mp4").size == (320, 480)
    assert render_video(moving_poses([0]), video, tmp_path / "b.mp4", scale=1).size == (32, 48)
    assert comfortable_scale((1080, 1920)) == 1


def test_trails_reach_back_before_the_start(video, tmp_path):
    options = {"scale": 1, "start": 6, "style": STYLE}
    poses = moving_poses(range(12))
    render_video(poses, video, tmp_path / "with.mp4", trail=5, **options)
    render_video(poses, video, tmp_path / "without.mp4", **options)
    before = (38, 39)  # where the dot was three frames earlier
    with_trail = read_all(tmp_path / "with.mp4")[0].astype(int)
    without = read_all(tmp_path / "without.mp4")[0].astype(int)
    x, y = before
    assert with_trail[y, x].mean() > without[y, x].mean() + 20


def test_a_low_score_is_hollow(video, tmp_path):
    poses = Poses(np.full((1, 1, 2), 50.0), np.full((1, 1), 0.3), DOT)
    style = DrawStyle(size=8, colors=STYLE.colors)
    for threshold, bright in ((0.2, True), (0.5, False)):
        render_video(
            poses, video, tmp_path / "out.mp4",
            scale=1, min_score=threshold, style=style, overwrite=True,
        )  # fmt: skip
        assert (read_all(tmp_path / "out.mp4")[0, 50, 50].min() > 150) == bright


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (moving_poses([3, 12]), "only the frames 0 to 11"),
        (moving_poses([-1, 2]), "frames -1 to 2"),
        (moving_poses([]), "at least one pose"),
        (moving_poses([1], provenance={"n_frames": 20, "video": "x.mp4"}), "20 frames .x.mp4."),
        (moving_poses([1], provenance={"height": 96, "width": 96}), "96x96"),
    ],
)
def test_poses_of_another_video(poses, message, video, tmp_path):
    with pytest.raises(ValidationError, match=message):
        render_video(poses, video, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_bad_ranges(video, tmp_path):
    for options in ({"start": 12}, {"start": -1}, {"start": 5, "stop": 5}, {"trail": -1}):
        with pytest.raises(ValidationError):
            render_video(moving_poses([0]), video, tmp_path / "out.mp4", **options)


def test_outputs_that_exist(video, tmp_path):
    before = video.read_bytes()
    with pytest.raises(OutputExistsError, match="the video itself"):
        render_video(moving_poses([0]), video, video, overwrite=True)
    assert video.read_bytes() == before
    output = tmp_path / "out.mp4"
    output.write_text("mine")
    with pytest.raises(OutputExistsError):
        render_video(moving_poses([0]), video, output)
    assert output.read_text() == "mine"


def test_a_damaged_video_keeps_what_could_be_drawn(tmp_path):
    video = tmp_path / "cut.avi"
    with VideoWriter(video, fps=25, codec="mjpeg") as writer:
        rng = np.random.default_rng(0)
        for _ in range(30):
            writer.write(rng.integers(0, 255, (*SIZE, 3), np.uint8))
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    video.write_bytes(content)
    with pytest.raises(VideoError, match=r"out\.partial\.mp4"):
        render_video(moving_poses([0]), video, tmp_path / "out.mp4", scale=1)
    assert not (tmp_path / "out.mp4").exists()
    with VideoReader(tmp_path / "out.partial.mp4") as reader:
        assert 5 < len(reader) < 30


def test_progress_counts_frames(video, tmp_path):
    seen = []
    render_video(
        moving_poses([0]), video, tmp_path / "out.mp4",
        progress=lambda done, total, message: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(i, 12) for i in range(1, 13)]
