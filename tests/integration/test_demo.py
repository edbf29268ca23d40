"""The demo does the whole job, says the truth about it, and goes on where it was interrupted.

How good and how fast it is shows when it runs as it is meant to (``nox -s demo``); here a tiny
network trains for a moment.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dpk_models", reason="the demo needs dpk-models")

from dpk_core.errors import OutputExistsError, ValidationError
from dpk_core.services.storage import read_annotations, read_poses
from dpk_core.services.video import VideoReader
from dpk_core.workflow import demo

SETTINGS = {"size": (48, 64), "n_frames": 24, "n_labels": 10, "time_budget": 1.5, "seed": 3}
PRODUCTS = (
    "demo.mp4", "truth.h5", "labels.h5", "model.keras", "poses.h5", "labelled.mp4",
    "training.png", "trajectories.png", "errors.png", "demo.png", "report.txt", "report.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished demo, its result and the progress that it told of."""
    folder = tmp_path_factory.mktemp("demo") / "dpk-demo"
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "HYPERPARAMETERS", {"growth_rate": 4})
        result = demo.run_demo(
            folder, **SETTINGS, progress=lambda done, total, message: told.append(message)
        )
    return folder, result, told


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """A finished demo to change."""
    monkeypatch.setattr(demo, "HYPERPARAMETERS", {"growth_rate": 4})
    folder = tmp_path / "copy"
    shutil.copytree(made[0], folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_everything_is_there(made):
    folder, result, told = made
    for name in PRODUCTS:
        assert (folder / name).stat().st_size > 500, name
    assert result.found == ()
    assert set(result.seconds) == {
        "video", "labels", "training", "prediction", "rendering", "plots",
    }  # fmt: skip
    assert {"making the video", "training", "predicting"} <= set(told)
    with VideoReader(folder / "labelled.mp4") as reader:
        assert len(reader) == SETTINGS["n_frames"]
    assert not list(folder.glob("*partial*"))


def test_the_labels_are_the_truth_and_know_their_frames(made):
    folder, _, _ = made
    labels, truth = read_annotations(folder / "labels.h5"), read_poses(folder / "truth.h5")
    assert (len(labels), labels.n_labelled) == (10, 10)
    np.testing.assert_allclose(
        labels.keypoints, truth.keypoints[labels.frames], atol=1e-4, equal_nan=True
    )
    assert all(source.video.endswith("demo.mp4") for source in labels.sources)


def test_the_error_is_that_of_frames_without_labels(made):
    """Computed once more from the files."""
    folder, result, _ = made
    truth, poses = read_poses(folder / "truth.h5"), read_poses(folder / "poses.h5")
    unseen = np.setdiff1d(np.arange(24), read_annotations(folder / "labels.h5").frames)
    distance = np.hypot(*(truth.keypoints - poses.keypoints)[unseen].transpose(2, 0, 1))
    seen = truth.scores[unseen] == 1
    assert result.n_unseen == len(unseen) == 14
    assert result.mean_error_px == pytest.approx(np.nanmean(distance), rel=1e-4)
    assert result.visible.overall["mean"] == pytest.approx(np.nanmean(distance[seen]), rel=1e-4)
    assert result.all_errors.overall["count"] == np.isfinite(distance).sum()
    assert (
        result.visible.overall["count"] + result.hidden.overall["count"]
        == result.all_errors.overall["count"]
    )


def test_the_report_says_what_the_result_says(made):
    folder, result, _ = made
    text = (folder / "report.txt").read_text(encoding="utf-8")
    assert text == f"{result}\n"
    assert f"{result.mean_error_px:8.2f}" in text
    assert "14 frames without labels" in text
    numbers = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert numbers["errors_px"]["all"]["overall"]["mean"] == pytest.approx(result.mean_error_px)
    assert set(numbers["errors_px"]["all"]["keypoints"]) == set(result.all_errors.names)


def test_a_finished_demo_is_not_made_again(copy, made):
    before = contents(copy)
    result = demo.run_demo(copy, **SETTINGS)
    assert result.seconds == {}
    assert len(result.found) == 6
    assert "Continued an earlier demo" in str(result)
    assert result.mean_error_px == made[1].mean_error_px
    assert contents(copy) == before


def test_what_is_missing_is_made_and_the_rest_is_kept(copy):
    before = contents(copy)
    (copy / "labelled.mp4").unlink()
    (copy / "errors.png").unlink()
    result = demo.run_demo(copy, **SETTINGS)
    assert set(result.seconds) == {"rendering", "plots"}
    after = contents(copy)
    assert {n for n in PRODUCTS if n in after} == set(PRODUCTS)
    for name in ("demo.mp4", "labels.h5", "model.keras", "poses.h5"):
        assert after[name] == before[name]


def test_a_training_that_was_interrupted_is_resumed(copy, monkeypatch):
    record = copy / "model.run" / "record.json"
    told = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps({**told, "stopped": "interrupted"}), encoding="utf-8")
    asked = {}

    class Interrupted:
        was_interrupted = True

    def train(source, model, output, **options):
        asked.update(options)
        return Interrupted()

    monkeypatch.setattr(demo, "train_model", train)
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(copy, **SETTINGS)
    assert asked["resume"] is True
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(copy, **SETTINGS, overwrite=True)
    assert asked["resume"] is False


def test_labels_that_were_sampled_but_not_filled_in_are_made_again(copy, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    (copy / "labels.h5").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(demo, "update_annotations", stop)
        with pytest.raises(KeyboardInterrupt):
            demo.run_demo(copy, **SETTINGS)
    assert read_annotations(copy / "labels.h5").n_labelled == 0
    with monkeypatch.context() as patch:
        patch.setattr(demo, "train_model", stop)
        with pytest.raises(KeyboardInterrupt):
            demo.run_demo(copy, **SETTINGS)
    assert read_annotations(copy / "labels.h5").n_labelled == 10


def test_another_demo_in_the_same_folder(copy):
    before = contents(copy)
    with pytest.raises(OutputExistsError, match="seed 3, now 4"):
        demo.run_demo(copy, **{**SETTINGS, "seed": 4})
    (copy / "demo.json").write_text("{")
    with pytest.raises(OutputExistsError, match="cannot be read"):
        demo.run_demo(copy, **SETTINGS)
    assert {**contents(copy), "demo.json": b""} == {**before, "demo.json": b""}


def test_a_folder_with_something_else_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputExistsError, match="something else"):
        demo.run_demo(tmp_path, **SETTINGS)
    assert contents(tmp_path) == {"thesis.txt": b"all of it"}
    with pytest.raises(OutputExistsError, match="something else"):
        demo.run_demo(tmp_path / "thesis.txt", **SETTINGS)

    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "sample_videos", stop)
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(tmp_path, **SETTINGS, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"
    assert (tmp_path / "demo.mp4").exists()


@pytest.mark.parametrize(
    "wrong", [{"n_labels": 24}, {"n_labels": 2}, {"time_budget": 0}, {"size": (8, 8)}]
)
def test_wrong_settings(wrong, tmp_path):
    with pytest.raises(ValidationError):
        demo.run_demo(tmp_path / "new", **{**SETTINGS, **wrong})
    assert not (tmp_path / "new").exists()
