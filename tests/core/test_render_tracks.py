"""Tracks drawn onto their video: boxes where the individuals are, ids, trails."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core import Poses, Skeleton, Tracks, VideoReader, VideoWriter, write_tracks
from dpk_core.cli.app import app
from dpk_core.errors import ValidationError
from dpk_core.services.palette import number_color
from dpk_core.workflow.render import render_video
from dpk_core.workflow.track_overlay import TrackOverlay

SIZE = (200, 300)
GRAY = np.full((*SIZE, 3), 90, np.uint8)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "gray.mp4"
    with VideoWriter(path, fps=10) as writer:
        for _ in range(12):
            writer.write(GRAY)
    return path


def walking(**fields):
    n = 12
    frame = np.repeat(np.arange(n), 2)
    x, y = 40 + 15.0 * frame, np.tile([60.0, 140.0], n)
    angle = np.tile([0.0, np.nan], n)
    return Tracks(
        frame, np.tile([0, 5], n), x, y, np.full(2 * n, 40.0), np.full(2 * n, 20.0), angle, **fields
    )


def is_colored(canvas, x, y, number):
    patch = canvas[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).astype(int)
    return np.abs(patch - number_color(number)).max(axis=1).min() < 40


def test_a_box_lies_around_its_animal():
    canvas = TrackOverlay(walking(), SIZE, SIZE).paint(GRAY, 4)
    for x, y in [(80, 60), (120, 60), (100, 50), (100, 70), (110, 60)]:
        assert is_colored(canvas, x, y, 0), (x, y)  # (110, 60) is its body axis
    for x, y in [(80, 140), (120, 140), (100, 130), (100, 150)]:
        assert is_colored(canvas, x, y, 5), (x, y)
    assert not is_colored(canvas, 110, 140, 5)
    assert (GRAY == 90).all()


def test_a_turned_box_and_one_without_extent():
    turned = Tracks(
        [0, 0], [0, 1], [100, 200], [100, 100], [40, np.nan], [20, np.nan], [np.pi / 2, np.nan]
    )
    canvas = TrackOverlay(turned, SIZE, SIZE).paint(GRAY, 0)
    for x, y in [(100, 80), (100, 120), (90, 100), (110, 100), (100, 110)]:
        assert is_colored(canvas, x, y, 0), (x, y)
    assert is_colored(canvas, 200, 100, 1)


def test_trails_go_back_and_fade():
    overlay = TrackOverlay(walking(), SIZE, SIZE, trail=3)
    overlay.look_back(6)
    canvas = overlay.paint(GRAY, 6)
    behind = [int(np.abs(canvas[60, x].astype(int) - 90).max()) for x in (112, 97, 70)]
    assert behind[0] > behind[1] > behind[2] == 0


def test_rows_that_were_filled_in_are_faint():
    filled = TrackOverlay(walking(interpolated=np.ones(24, bool)), SIZE, SIZE).paint(GRAY, 4)
    seen = TrackOverlay(walking(), SIZE, SIZE).paint(GRAY, 4)
    assert (
        np.abs(filled[60, 80].astype(int) - 90).max() < np.abs(seen[60, 80].astype(int) - 90).max()
    )


def test_a_video_with_tracks_alone_and_with_poses(video, tmp_path):
    tracks = walking(provenance={"track_names": {"0": "anna"}, "n_frames": 12})
    result = render_video(None, video, tmp_path / "a.mp4", tracks=tracks, scale=1)
    assert (result.n_frames, result.n_without_pose) == (12, 0)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert is_colored(reader[4], 120, 60, 0)
    poses = Poses(np.full((1, 1, 2), 20.0), np.ones((1, 1)), Skeleton(("a",)), frames=[3])
    result = render_video(poses, video, tmp_path / "b.mp4", tracks=tracks, scale=1)
    assert result.n_without_pose == 11
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert np.abs(reader[3][20, 20].astype(int) - 90).max() > 40
        assert is_colored(reader[3], 105, 60, 0)


def test_tracks_of_another_video(video, tmp_path):
    with pytest.raises(ValidationError, match="expected poses, tracks or both"):
        render_video(None, video, tmp_path / "a.mp4")
    with pytest.raises(ValidationError, match="of a video with 13 frames"):
        render_video(None, video, tmp_path / "a.mp4", tracks=walking(provenance={"n_frames": 13}))
    with pytest.raises(ValidationError, match="only the frames 0 to 11"):
        render_video(None, video, tmp_path / "a.mp4", tracks=Tracks([12], [0], [1], [1]))


def test_another_file_with_as_many_frames_of_that_size_is_told_of(video, tmp_path):
    with VideoReader(video) as reader:
        job = {"input": reader.fingerprint()}
    known = walking(provenance={"n_frames": 12, "job": job})
    unknown = walking(provenance={"n_frames": 12})
    skeleton = Skeleton(("a",))
    poses = Poses(np.full((1, 1, 2), 20.0), np.ones((1, 1)), skeleton, frames=[3],
                  provenance={"job": {"input": "of crops"}, "tracks": "t.h5"})  # fmt: skip
    other = tmp_path / "other.mp4"
    with VideoWriter(other, fps=10) as writer:
        for _ in range(12):
            writer.write(GRAY + 1)
    out = tmp_path / "out.mp4"
    for drawn, tracks, film, expected in [
        (None, known, video, False), (None, known, other, True), (None, unknown, other, False),
        (poses, None, other, False), (poses, known, video, False), (poses, known, other, True),
    ]:  # fmt: skip
        done = render_video(drawn, film, out, tracks=tracks, overwrite=True)
        assert done.of_another_file is expected
    write_tracks(tmp_path / "t.h5", known)
    for film, told in ((video, False), (other, True)):
        done = CliRunner().invoke(
            app, ["render", str(tmp_path / "t.h5"), str(film), "-o", str(out), "--force"]
        )
        assert done.exit_code == 0, done.output
        assert ("is not the file that was analysed" in " ".join(done.output.split())) is told


def test_on_the_command_line(video, tmp_path):
    write_tracks(tmp_path / "t.h5", walking())
    done = CliRunner().invoke(app, ["render", str(tmp_path / "t.h5"), str(video), "--trail", "3"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "gray.labelled.mp4").exists()
    done = CliRunner().invoke(
        app, ["render", str(tmp_path / "t.h5"), str(video), "-o", str(tmp_path / "b.mp4")]
    )
    assert "of them" not in done.output
    write_tracks(tmp_path / "few.h5", walking()[:1])
    done = CliRunner().invoke(
        app, ["render", str(tmp_path / "few.h5"), str(video), "-o", str(tmp_path / "c.mp4")]
    )
    assert "11 of them without an individual" in " ".join(done.output.split())
