"""Predicting videos, image sets and folders: resumable, exact, and nothing lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dpk_core.errors import (
    FileFormatError,
    FileMissingError,
    ModelFileError,
    OutputError,
    OutputExistsError,
    ValidationError,
    VideoError,
)
from dpk_core.services.engines import load_model
from dpk_core.services.storage import is_complete, read_annotations, read_poses
from dpk_core.services.video import VideoReader
from dpk_core.workflow.frames import open_frames
from dpk_core.workflow.jobs import only_writer
from dpk_core.workflow.predict import default_output, predict_video


class StopAt:
    """A progress callback that interrupts as Ctrl-C does, once so many frames are done."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __call__(self, done: int, total: int | None, message: str) -> None:
        if message == "predicting" and done >= self.frames:
            raise KeyboardInterrupt


def test_poses_are_the_models_predictions_of_every_frame(fake_model, video, tmp_path):
    result = predict_video(fake_model, video, batch_size=8)
    assert result.output == tmp_path / "walk.poses.h5" == default_output(video)
    assert (result.n_frames, result.n_before) == (40, 0)
    poses = read_poses(result.output)
    model = load_model(fake_model)
    with VideoReader(video) as reader:
        expected = np.concatenate([model.predict(reader[i : i + 8], 8) for i in range(0, 40, 8)])
    assert np.array_equal(poses.to_predictions(), expected)
    assert poses.frames.tolist() == list(range(40))
    assert poses.skeleton == model.skeleton
    assert poses.provenance["video"] == video.as_posix()
    assert is_complete(result.output)


@pytest.mark.parametrize("stop_at", [0, 8, 24, 33, 40])
def test_an_interrupted_run_carries_on_to_the_same_result(fake_model, video, tmp_path, stop_at):
    whole = predict_video(fake_model, video, tmp_path / "whole.h5", batch_size=7).output
    output = tmp_path / "parts.h5"
    with pytest.raises(KeyboardInterrupt):
        predict_video(fake_model, video, output, batch_size=7, progress=StopAt(stop_at))
    stored = len(read_poses(output))
    assert not is_complete(output)
    assert stored >= min(stop_at, 35) - 7
    result = predict_video(fake_model, video, output, batch_size=7)
    assert result.n_before == stored
    assert np.array_equal(
        read_poses(output).to_predictions(), read_poses(whole).to_predictions(), equal_nan=True
    )


def test_a_finished_job_is_not_done_again_and_needs_no_model(fake_model, video, monkeypatch):
    predict_video(fake_model, video)
    before = default_output(video).stat().st_mtime_ns
    monkeypatch.setattr("dpk_core.workflow.predict.open_model", None)
    result = predict_video(fake_model, video)
    assert result.nothing_to_do
    assert result.n_before == 40
    assert default_output(video).stat().st_mtime_ns == before


def test_a_moved_video_is_still_the_same_job(fake_model, video, tmp_path):
    output = predict_video(fake_model, video).output
    moved = video.rename(tmp_path / "other.mp4")
    assert predict_video(fake_model, moved, output).nothing_to_do


def test_another_job_is_refused_unless_overwritten(fake_model, video, make_video, tmp_path):
    output = predict_video(fake_model, video, batch_size=8).output
    other = make_video(tmp_path / "other.mp4", 30)
    for video_path, options, differing in (
        (video, {"batch_size": 16}, "batch_size"),
        (video, {"batch_size": 8, "stop": 20}, "stop"),
        (other, {"batch_size": 8}, "input"),
    ):
        with pytest.raises(OutputExistsError, match=differing):
            predict_video(fake_model, video_path, output, **options)
    assert len(read_poses(output)) == 40
    assert predict_video(fake_model, other, output, overwrite=True).n_frames == 30
    assert len(read_poses(output)) == 30


def test_a_file_that_is_no_poses_is_never_continued(fake_model, video, tmp_path):
    output = tmp_path / "notes.h5"
    output.write_text("my notes")
    with pytest.raises(OutputExistsError, match="not a file of poses"):
        predict_video(fake_model, video, output)
    assert output.read_text() == "my notes"


def test_a_range_of_frames(fake_model, video):
    output = predict_video(fake_model, video, start=5, stop=17, batch_size=8).output
    assert read_poses(output).frames.tolist() == list(range(5, 17))
    with pytest.raises(ValidationError, match="40 frames"):
        predict_video(fake_model, video, output, start=40)
    with pytest.raises(ValidationError, match="batch_size"):
        predict_video(fake_model, video, output, batch_size=0)


def test_a_damaged_video_is_predicted_up_to_the_damage(fake_model, make_video, tmp_path):
    video = make_video(tmp_path / "cut.avi", 60)
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 2 // 3])
    with VideoReader(video) as reader:
        readable = reader.check().n_readable
    assert 0 < readable < 60
    for _ in range(2):  # the second run finds everything done and tells of the damage again
        with pytest.raises(VideoError, match="stored in"):
            predict_video(fake_model, video, batch_size=8)
        poses = read_poses(default_output(video))
        assert len(poses) == readable
        assert not is_complete(default_output(video))
    with VideoReader(video) as reader:
        frames = reader[list(range(8))]
    assert np.array_equal(poses.to_predictions()[:8], load_model(fake_model).predict(frames, 8))


def test_a_labelled_set_is_predicted_row_by_row(fake_model, labels):
    output = predict_video(fake_model, labels, batch_size=8).output
    assert output.name == "labels.poses.h5"
    poses = read_poses(output)
    assert poses.frames.tolist() == list(range(20))
    annotations = read_annotations(labels)
    assert np.allclose(poses.keypoints, annotations.keypoints)


def test_a_folder_of_images_in_the_order_of_their_numbers(fake_model, labels, tmp_path):
    folder = tmp_path / "stills"
    folder.mkdir()
    annotations = read_annotations(labels)
    for i in range(12):
        cv2.imwrite(str(folder / f"img{i}.png"), annotations.images[i][..., ::-1])
    (folder / "notes.txt").write_text("not an image")
    output = predict_video(fake_model, folder).output
    assert output == tmp_path / "stills.poses.h5"
    assert np.allclose(read_poses(output).keypoints, annotations.keypoints[:12])


def test_images_of_mixed_sizes_are_named(fake_model, tmp_path):
    folder = tmp_path / "stills"
    folder.mkdir()
    for i, size in enumerate([(48, 64), (48, 64), (50, 64)]):
        cv2.imwrite(str(folder / f"{i}.png"), np.zeros((*size, 3), np.uint8))
    with pytest.raises(ValidationError, match=r"2\.png has 50x64.*48x64"):
        predict_video(fake_model, folder)
    cv2.imwrite(str(folder / "2.png"), np.zeros((48, 64), np.uint16))
    with pytest.raises(FileFormatError, match="8 bits"):
        predict_video(fake_model, folder, overwrite=True)


def test_gray_and_colour_images_are_read_as_they_are(tmp_path):
    colour = np.zeros((4, 6, 3), np.uint8)
    colour[..., 0] = 200
    cv2.imwrite(str(tmp_path / "a.png"), colour[..., ::-1])
    with open_frames(tmp_path) as source:
        assert np.array_equal(next(iter(source.frames())), colour)
    cv2.imwrite(str(tmp_path / "a.png"), colour[..., 0])
    with open_frames(tmp_path) as source:
        assert next(iter(source.frames())).shape == (4, 6, 1)


def test_frames_of_another_size_than_the_models(fake_model, make_video, tmp_path):
    video = make_video(tmp_path / "large.mp4", 5, (96, 64))
    with pytest.raises(ValidationError, match=r"96x64.*48x64"):
        predict_video(fake_model, video)
    assert not default_output(video).exists()


def test_missing_and_broken_inputs(fake_model, video, tmp_path):
    with pytest.raises(FileMissingError, match=r"absent\.mp4"):
        predict_video(fake_model, tmp_path / "absent.mp4")
    with pytest.raises(FileMissingError, match=r"absent\.fake"):
        predict_video(tmp_path / "absent.fake", video)
    fake_model.write_text(fake_model.read_text()[:50])
    with pytest.raises(ModelFileError, match="cut short"):
        predict_video(fake_model, video)
    stranger = tmp_path / "model.unknown"
    stranger.write_bytes(b"weights")
    with pytest.raises(ModelFileError, match=r"no installed plugin opens model\.unknown"):
        predict_video(stranger, video)
    assert not default_output(video).exists()


def test_two_processes_cannot_write_one_output(fake_model, video):
    with only_writer(default_output(video)), pytest.raises(OutputError, match="another process"):
        predict_video(fake_model, video)


def test_a_full_disk_leaves_a_file_that_can_be_continued(fake_model, video, tmp_path, monkeypatch):
    from dpk_core.services.storage import poses_file

    whole = predict_video(fake_model, video, tmp_path / "whole.h5", batch_size=8).output
    put, calls = poses_file._put, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        put(*arguments)

    monkeypatch.setattr(poses_file, "_put", full)
    monkeypatch.setattr("dpk_core.workflow.predict._STORE_BATCHES", 1)
    output = tmp_path / "part.h5"
    with pytest.raises(OutputError, match="disk is full"):
        predict_video(fake_model, video, output, batch_size=8)
    assert len(read_poses(output)) == 8
    monkeypatch.setattr(poses_file, "_put", put)
    assert predict_video(fake_model, video, output, batch_size=8).n_before == 8
    assert np.array_equal(
        read_poses(output).to_predictions(), read_poses(whole).to_predictions(), equal_nan=True
    )
