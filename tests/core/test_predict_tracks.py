"""Poses of tracked individuals: in the video's pixels, with their ids, carried on after a stop."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core import (
    AnnotationSet,
    Skeleton,
    Tracks,
    VideoReader,
    read_poses,
    write_annotations,
    write_tracks,
)
from dpk_core.cli.app import app
from dpk_core.errors import OutputExistsError, ValidationError
from dpk_core.services.storage.video_links import read_video_facts
from dpk_core.workflow.predict import predict_video
from dpk_core.workflow.train import train_model

SIDE = 16


@pytest.fixture
def crop_model(fake_engine, tmp_path):
    """A FakeNet for crops of 16x16: every keypoint at the brightest pixel, plus its number."""
    images = np.zeros((12, SIDE, SIDE, 3), np.uint8)
    keypoints = np.full((12, 2, 2), 8.0)
    labels = AnnotationSet(images, keypoints, Skeleton(("a", "b"), (-1, 0)))
    write_annotations(tmp_path / "crops.h5", labels)
    path = tmp_path / "crops.fake"
    train_model(tmp_path / "crops.h5", "FakeNet", path, generator_options={"augmenter": None})
    return path


def brightest(video):
    """(n, 2) x, y of the first of the brightest pixels of each frame."""
    with VideoReader(video) as reader:
        frames = reader[list(range(len(reader)))]
    sums = frames.astype(int).sum(axis=3)
    y, x = np.unravel_index(sums.reshape(len(sums), -1).argmax(axis=1), sums.shape[1:])
    return np.stack([x, y], axis=1)


@pytest.fixture
def tracks(video, tmp_path):
    """The square as individual 7 in all frames, as 3 in some; a row without a position."""
    points = brightest(video)
    rng = np.random.default_rng(0)
    frame = np.concatenate([np.arange(40), np.arange(5, 40, 3), [20]])
    ids = np.concatenate([np.full(40, 7), np.full(12, 3), [9]])
    near = points[frame] + rng.uniform(-4, 4, (len(frame), 2))
    near[-1] = np.nan
    order = rng.permutation(len(frame))
    with VideoReader(video) as reader:
        facts = {
            "video": "walk.mp4", "n_frames": 40, "height": 48, "width": 64,
            "job": {"input": reader.fingerprint()}, "track_names": {"7": "anna"},
        }  # fmt: skip
    found = Tracks(
        frame[order], ids[order], near[order, 0], near[order, 1],
        angle=rng.uniform(-3, 3, len(frame)), provenance=facts,
    )  # fmt: skip
    write_tracks(tmp_path / "walk.tracks.h5", found)
    return tmp_path / "walk.tracks.h5"


def test_poses_are_in_the_pixels_of_the_video(crop_model, video, tracks, tmp_path):
    done = predict_video(crop_model, video, tracks=tracks, batch_size=8)
    assert done.n_frames == 52
    poses = read_poses(done.output)
    assert poses.frames.tolist() == sorted(poses.frames.tolist())
    assert (poses.track_ids == 7).sum() == 40
    assert poses.frames[poses.track_ids == 3].tolist() == list(range(5, 40, 3))
    expected = brightest(video)[poses.frames]
    np.testing.assert_array_equal(poses.keypoints[:, 0], expected)
    np.testing.assert_array_equal(poses.keypoints[:, 1], expected + np.array([1, 0]))
    assert poses.provenance["track_names"] == {"7": "anna"}
    assert poses.provenance["n_frames"] == 40
    with VideoReader(video) as reader:
        assert read_video_facts(done.output)["fingerprint"] == reader.fingerprint()


def test_turned_crops_map_back_too(crop_model, video, tracks):
    done = predict_video(crop_model, video, tracks=tracks, rotate=True)
    poses = read_poses(done.output)
    # The brightest pixels of a frame and of a turned crop both lie in the square of 6x6 pixels.
    square = brightest(video)[poses.frames]
    apart = poses.keypoints[:, 0] - square
    assert np.abs(apart).max() < 7
    steps = np.linalg.norm(poses.keypoints[:, 1] - poses.keypoints[:, 0], axis=1)
    np.testing.assert_allclose(steps, 1, atol=1e-4)


def test_somebody_at_the_corner_of_the_frame(crop_model, video, tmp_path):
    """Crops reach beyond the frame, black there; poses are in the video's pixels all the same."""
    corners = np.array([[0.0, 0.0], [63.0, 0.0], [0.0, 47.0], [63.0, 47.0]])
    rows = Tracks(np.repeat(np.arange(40), 4), np.tile([0, 1, 2, 3], 40), *np.tile(corners.T, 40))
    write_tracks(tmp_path / "corner.tracks.h5", rows)
    done = predict_video(crop_model, video, tracks=tmp_path / "corner.tracks.h5")
    poses = read_poses(done.output)
    assert len(poses) == 160
    with VideoReader(video) as reader:
        frames = reader[list(range(40))].astype(int).sum(axis=3)
    padded = np.pad(frames, ((0, 0), (SIDE, SIDE), (SIDE, SIDE)))
    for point, frame, who in zip(poses.keypoints[:, 0], poses.frames, poses.track_ids, strict=True):
        # Half a pixel beside the middle of a crop of an even side lies the centre.
        left, top = (corners[who] - (SIDE - 1) / 2 + SIDE + 0.5).astype(int)
        lefts = [left - 1, left]
        found = []
        for x0 in lefts:
            for y0 in (top - 1, top):
                crop = padded[frame, y0 : y0 + SIDE, x0 : x0 + SIDE]
                y, x = np.unravel_index(crop.argmax(), crop.shape)
                found.append((x + x0 - SIDE, y + y0 - SIDE))
        assert tuple(point.astype(int)) in found
        assert (point >= -0.5).all()
        assert (point <= [63.5, 47.5]).all()


@pytest.mark.parametrize("stop_after", [8, 24, 48])
def test_stopped_it_carries_on_to_the_same_end(crop_model, video, tracks, tmp_path, stop_after):
    whole = predict_video(crop_model, video, tmp_path / "whole.h5", tracks=tracks, batch_size=8)

    def stopping(done, total, message):
        if message == "predicting" and done >= stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_video(
            crop_model, video, tmp_path / "p.h5", tracks=tracks, batch_size=8, progress=stopping
        )
    done = predict_video(crop_model, video, tmp_path / "p.h5", tracks=tracks, batch_size=8)
    assert done.n_before == stop_after
    a, b = read_poses(whole.output), read_poses(done.output)
    for name in ("keypoints", "scores", "frames", "track_ids"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_part_of_a_video(crop_model, video, tracks):
    done = predict_video(crop_model, video, tracks=tracks, start=10, stop=20)
    poses = read_poses(done.output)
    assert (poses.frames.min(), poses.frames.max()) == (10, 19)
    np.testing.assert_array_equal(poses.keypoints[:, 0], brightest(video)[poses.frames])


def test_other_tracks_or_another_crop_are_another_job(crop_model, video, tracks, tmp_path):
    predict_video(crop_model, video, tracks=tracks)
    with pytest.raises(OutputExistsError, match="differs in: input"):
        predict_video(crop_model, video, tracks=tracks, rotate=True)
    with pytest.raises(OutputExistsError, match="differs in: input"):
        predict_video(crop_model, video)
    with pytest.raises(ValidationError, match="rotate: only crops around tracks"):
        predict_video(crop_model, video, tmp_path / "q.h5", rotate=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_frames": 41}, "has frames 40, not 41"),
        ({"width": 65}, "has width 64, not 65"),
        ({"job": {"input": "other"}}, "fingerprint differs"),
    ],
)
def test_tracks_of_another_video(crop_model, video, tracks, tmp_path, change, words):
    from dpk_core import read_tracks

    found = read_tracks(tracks)
    other = attrs.evolve(found, provenance={**found.provenance, **change})
    write_tracks(tmp_path / "other.h5", other)
    with pytest.raises(ValidationError, match=words):
        predict_video(crop_model, video, tracks=tmp_path / "other.h5")


def test_tracks_of_no_frame_or_of_too_many(crop_model, video, tmp_path):
    write_tracks(tmp_path / "none.h5", Tracks([], [], [], []))
    with pytest.raises(ValidationError, match="no individual in the frames 0 to 39"):
        predict_video(crop_model, video, tracks=tmp_path / "none.h5")
    write_tracks(tmp_path / "long.h5", Tracks([3, 40], [0, 0], [5, 5], [5, 5]))
    with pytest.raises(ValidationError, match="has only the frames 0 to 39"):
        predict_video(crop_model, video, tracks=tmp_path / "long.h5")


def test_on_the_command_line(crop_model, video, tracks, tmp_path):
    command = ["predict", str(crop_model), str(video), "--tracks", str(tracks)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "52 crops" in " ".join(done.output.split())
