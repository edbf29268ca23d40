"""Training and evaluating by name, through a plugin that needs no Keras."""

from __future__ import annotations

import csv
import json

import attrs
import h5py
import numpy as np
import pytest

from dpk_core.errors import (
    FileFormatError,
    FileMissingError,
    OutputError,
    OutputExistsError,
    PluginError,
    ValidationError,
)
from dpk_core.services.storage import read_annotations, write_annotations
from dpk_core.workflow import train
from dpk_core.workflow.evaluate import evaluate_model

pytestmark = pytest.mark.usefixtures("fake_engine")


def train_model(labels, model, output, *, generator_options=None, **options):
    """Train without augmentation: imgaug takes seconds to import."""
    generator_options = {"augmenter": None, **(generator_options or {})}
    return train.train_model(labels, model, output, generator_options=generator_options, **options)


def test_a_model_is_trained_and_saved(labels, tmp_path):
    events, said = [], []
    result = train_model(
        labels,
        "fakenet",
        tmp_path / "m.fake",
        hyperparameters={"offset": 2.5},
        generator_options={"validation_split": 0.25, "scale": 0.5},
        fit_options={"epochs": 4},
        progress=events.append,
        on_start=said.append,
    )
    stored = json.loads((tmp_path / "m.fake").read_text())
    assert stored["offset"] == 2.5
    assert stored["task"]["scale"] == 0.5
    assert [event.epoch for event in events] == [1, 2, 3, 4]
    assert result.run_dir == tmp_path / "m.run"
    assert (result.run_dir / "run.json").exists()
    assert result.validation_error_px == 2.5
    assert not result.was_interrupted
    assert "15 training and 5 validation" in said[0]


def test_a_model_that_is_there_is_kept(labels, tmp_path):
    output = tmp_path / "m.fake"
    train_model(labels, "FakeNet", output)
    before = output.read_bytes()
    with pytest.raises(OutputExistsError, match="--resume"):
        train_model(labels, "FakeNet", output)
    with pytest.raises(OutputExistsError, match=r"m\.fake exists"):
        train_model(labels, "FakeNet", output, run_dir=tmp_path / "other.run")
    assert output.read_bytes() == before
    train_model(labels, "FakeNet", output, resume=True)
    train_model(labels, "FakeNet", output, overwrite=True, hyperparameters={"offset": 9})
    assert json.loads(output.read_text())["offset"] == 9


def test_mistakes_are_told_before_anything_is_trained(labels, tmp_path):
    output = tmp_path / "m.fake"
    with pytest.raises(PluginError, match=r"FakeNe\b.*did you mean 'FakeNet'"):
        train_model(labels, "FakeNe", output)
    with pytest.raises(ValidationError, match="did you mean 'offset'"):
        train_model(labels, "FakeNet", output, hyperparameters={"ofset": 1})
    with pytest.raises(ValidationError, match=r"\.fake"):
        train_model(labels, "FakeNet", tmp_path / "m.weights")
    with pytest.raises(OutputError, match="not there"):
        train_model(labels, "FakeNet", tmp_path / "no" / "m.fake")
    with pytest.raises(FileMissingError, match=r"absent\.h5"):
        train_model(tmp_path / "absent.h5", "FakeNet", output)
    assert not list(tmp_path.glob("m.*"))


def _no_images(file):
    del file["images"]


def _wrong_shape(file):
    del file["annotations"]
    file["annotations"] = np.zeros((20, 3, 3))


def _float_images(file):
    del file["images"]
    file["images"] = np.zeros((20, 48, 64, 3), np.float32)


def _cycle(file):
    file["skeleton"][...] = [[1, -1], [2, -1], [0, -1]]


def _duplicate_names(file):
    file["skeleton_names"][...] = [b"a", b"a", b"b"]


def _nothing_annotated(file):
    file["annotated"][...] = False


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_images, "has no 'images'"),
        (_wrong_shape, r"shape \(20, 3, 3\)"),
        (_float_images, "expected uint8"),
        (_cycle, "cycle"),
        (_duplicate_names, "stands twice"),
        (_nothing_annotated, "none of the 20 images is marked as annotated"),
    ],
)
def test_sets_that_cannot_train(labels, tmp_path, damage, message):
    with h5py.File(labels, "r+") as file:
        damage(file)
    with pytest.raises((FileFormatError, ValidationError), match=message):
        train_model(labels, "FakeNet", tmp_path / "m.fake")
    assert not list(tmp_path.glob("m.*"))


def test_one_image_is_enough(labels, tmp_path):
    one = tmp_path / "one.h5"
    write_annotations(one, read_annotations(labels).subset([0]))
    train_model(one, "FakeNet", tmp_path / "m.fake", fit_options={"batch_size": 64})
    assert (tmp_path / "m.fake").exists()


def test_evaluation_is_on_what_training_held_out(labels, fake_model):
    result = evaluate_model(fake_model, labels)
    held_out = json.loads(fake_model.read_text())["record"]["split"]["validation"]
    assert result.rows.tolist() == held_out
    assert len(held_out) == 2
    assert "held out" in result.images_used
    assert result.summary.overall["count"] == 6
    assert result.summary.overall["mean"] == pytest.approx(0, abs=1e-6)


def test_errors_are_distances_in_pixels(labels, fake_model, tmp_path):
    annotations = read_annotations(labels)
    keypoints = annotations.keypoints.copy()
    keypoints[:, 1] += (3, 4)
    keypoints[0, 2] = np.nan
    moved = tmp_path / "moved.h5"
    write_annotations(moved, attrs.evolve(annotations, keypoints=keypoints))
    result = evaluate_model(fake_model, moved, only="all")
    assert len(result.rows) == 20
    assert result.summary.mean == pytest.approx([0, 5, 0], abs=1e-5)
    assert result.summary.count.tolist() == [20, 20, 19]
    assert np.isnan(result.errors[0, 2])
    result.write_csv(tmp_path / "errors.csv")
    with (tmp_path / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["right"] == ""
    assert float(rows[1]["mean_error_px"]) == pytest.approx(5 / 3, abs=1e-3)
    assert (rows[3]["video"], rows[3]["frame"], rows[3]["row"]) == ("walk.mp4", "6", "3")
    with pytest.raises(OutputExistsError):
        result.write_csv(tmp_path / "errors.csv")


def test_other_labels_are_evaluated_whole_and_it_is_said(labels, fake_model, tmp_path):
    other = tmp_path / "other.h5"
    write_annotations(other, read_annotations(labels).subset(range(5)))
    result = evaluate_model(fake_model, other)
    assert len(result.rows) == 5
    assert "trained on" in result.images_used
    with pytest.raises(ValidationError, match="no validation images"):
        evaluate_model(fake_model, other, only="validation")
    labels.unlink()
    write_annotations(labels, read_annotations(other))
    assert "has changed" in evaluate_model(fake_model, labels).images_used


def test_keypoints_are_matched_by_name(labels, fake_model, tmp_path):
    annotations = read_annotations(labels)
    order = [2, 0]
    names = tuple(annotations.skeleton.names[i] for i in order)
    swapped = tmp_path / "swapped.h5"
    skeleton = type(annotations.skeleton)(names)
    write_annotations(
        swapped,
        attrs.evolve(
            annotations,
            keypoints=annotations.keypoints[:, order],
            annotated=annotations.annotated[:, order],
            visibility=annotations.visibility[:, order],
            skeleton=skeleton,
        ),
    )
    result = evaluate_model(fake_model, swapped)
    assert result.summary.names == ("head", "left", "right")
    assert result.summary.count.tolist() == [20, 0, 20]
    assert result.summary.overall["mean"] == pytest.approx(0, abs=1e-6)
    stranger = tmp_path / "stranger.h5"
    write_annotations(
        stranger, attrs.evolve(read_annotations(swapped), skeleton=type(skeleton)(("a", "b")))
    )
    with pytest.raises(ValidationError, match="no keypoint in common"):
        evaluate_model(fake_model, stranger)
