"""How a training may end: errors, damage, divergence, full memory; and what is kept then."""

from __future__ import annotations

import json
import math

import attrs
import keras
import numpy as np
import pytest

from dpk_core import AnnotationSet, Skeleton, TrainingGenerator
from dpk_core.errors import (
    DeviceMemoryError,
    DpkWarning,
    FileFormatError,
    OutputError,
    OutputExistsError,
    TrainingError,
    ValidationError,
)
from dpk_core.testing import dot_annotations
from dpk_models import StackedDenseNet
from dpk_models.learner import weights_of
from dpk_models.memory import is_out_of_memory
from dpk_models.options import TrainingOptions
from dpk_models.record import TrainingRecord
from dpk_models.remarks import about_divergence, about_waiting
from dpk_models.validation import ValidationRun


class At(keras.callbacks.Callback):
    """Does something before a batch of an epoch (both from 0); remembers each epoch's weights."""

    def __init__(self, epoch, action):
        super().__init__()
        self.at, self.action, self.epoch, self.weights = epoch, action, 0, []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch == self.at:
            self.action(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(weights_of(self.model.network))


def _spoil(trainer):
    variable = trainer.network.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.nan))


def _fail(trainer):
    raise RuntimeError("a mistake in a callback")


def _equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# -- divergence and other errors -----------------------------------------------------------------


def test_a_training_that_diverges_keeps_its_best_weights_and_says_what_to_try(make_model, tmp_path):
    model, spoil = make_model(validation_split=0.25), At(2, _spoil)
    with pytest.warns(DpkWarning, match=r"NaN or infinite in epoch 3.*learning_rate=0\.001"):
        record = model.fit(
            4, epochs=9, learning_rate=4e-3, callbacks=[spoil], run_dir=tmp_path / "run"
        )
    assert record.stopped == "diverged"
    assert len(record.history) == 2
    assert _equal(weights_of(model.network), spoil.weights[record.best_epoch - 1])
    assert "diverged" in record.notes[0]
    stored = json.loads((tmp_path / "run" / "record.json").read_text())
    assert stored["notes"] == record.notes


def test_a_training_that_diverges_at_once_is_an_error(make_model):
    model = make_model()
    before = weights_of(model.network)
    with pytest.raises(TrainingError, match=r"epoch 1; nothing was learned.*lower learning rate"):
        model.fit(4, epochs=9, callbacks=[At(0, _spoil)])
    assert _equal(weights_of(model.network), before)
    assert model.record is None


def test_weights_that_are_no_numbers_are_noticed_though_the_loss_is_fine(make_model):
    """As happens when the very last step of an epoch goes wrong."""
    model = make_model()
    variable = next(v for v in model.network.variables if not v.trainable)

    class SpoilLast(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            variable.assign(np.full(variable.shape, np.inf))

    with pytest.raises(TrainingError):
        model.fit(16, epochs=3, callbacks=[SpoilLast()])


def test_advice_names_the_precision_where_it_may_be_the_cause():
    options = TrainingOptions(learning_rate=0.01)
    assert "precision" not in about_divergence(TrainingRecord(), options, "float32")
    advice = about_divergence(TrainingRecord(), options, "mixed_float16")
    assert "learning_rate=0.0025" in advice
    assert "--precision float32" in advice


def test_the_best_weights_stay_after_an_error_in_a_callback(make_model):
    model, fail = make_model(), At(2, _fail)
    with pytest.raises(RuntimeError, match="a mistake in a callback"):
        model.fit(4, epochs=9, callbacks=[fail])
    assert any(_equal(weights_of(model.network), weights) for weights in fail.weights)


# -- memory --------------------------------------------------------------------------------------


def _tensorflow_error():
    errors = pytest.importorskip("tensorflow").errors
    return errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def _jax_error():
    errors = pytest.importorskip("jax").errors
    return errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")


def _torch_error():
    return pytest.importorskip("torch").cuda.OutOfMemoryError("CUDA out of memory.")


ERRORS = {"tensorflow": _tensorflow_error, "jax": _jax_error, "torch": _torch_error}


@pytest.mark.parametrize("backend", ERRORS)
def test_errors_of_full_memory_are_known(backend):
    assert is_out_of_memory(ERRORS[backend]())
    assert not is_out_of_memory(RuntimeError("something else"))


@pytest.fixture
def memory_error():
    return ERRORS[keras.backend.backend()]()


def test_full_memory_in_training_says_which_batch_size_to_try(make_model, memory_error):
    def fill(trainer):
        raise memory_error

    model, full = make_model(), At(1, fill)
    with pytest.raises(DeviceMemoryError, match=r"during training; try batch_size=3 ") as caught:
        model.fit(6, epochs=4, callbacks=[full])
    assert caught.value.__cause__ is memory_error
    assert _equal(weights_of(model.network), full.weights[0])
    with pytest.raises(DeviceMemoryError, match=r"one image at a time is too much.*scale=0\.5"):
        make_model().fit(1, epochs=1, callbacks=[At(0, fill)])


def test_full_memory_in_validation_says_so(make_model, memory_error, monkeypatch):
    def fill(self):
        raise memory_error

    monkeypatch.setattr(ValidationRun, "run", fill)
    with pytest.raises(DeviceMemoryError, match=r"validation; try validation_batch_size=2 "):
        make_model(validation_split=0.5).fit(2, epochs=1, validation_batch_size=4)


# -- waiting -------------------------------------------------------------------------------------


def test_waiting_for_images_is_told_where_it_matters():
    assert about_waiting(1.0, 2.0, 1) == ""  # a short training says nothing
    assert about_waiting(6.0, 200.0, 1) == ""
    remark = about_waiting(60.0, 200.0, 2)
    assert "30% of the time" in remark
    assert "--workers 4" in remark


# -- refused before it begins --------------------------------------------------------------------


def test_a_generator_for_another_task_is_refused(make_model):
    model = make_model()
    model.generator = make_model(downsample_factor=3).generator
    with pytest.raises(ValidationError, match="downsample_factor: expected 2, found 3"):
        model.fit(4, epochs=1)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.zeros(2)], ids=["object", "set", "array"])
def test_hyperparameters_that_no_file_can_hold_are_refused_at_once(make_model, value):
    with pytest.raises(ValidationError, match="backbone: cannot be written to a model file"):
        StackedDenseNet(make_model().task, backbone=value)


def test_a_run_folder_that_is_none(make_model, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(OutputError, match="is a file; expected a folder"):
        make_model().fit(4, epochs=1, run_dir=file)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "log.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"holds log\.csv already"):
        make_model().fit(4, epochs=1, run_dir=foreign)
    assert file.read_text() == (foreign / "log.csv").read_text() == "mine"


# -- resuming ------------------------------------------------------------------------------------


@pytest.fixture
def run(make_model, tmp_path):
    make_model().fit(4, epochs=2, run_dir=tmp_path / "run", checkpoint_every=0)
    return tmp_path / "run"


def test_other_images_are_another_training(make_model, run):
    annotations = dot_annotations(12, size=(32, 32))
    images = np.array(annotations.images)
    images[0] = 255 - images[0]
    other = attrs.evolve(annotations, images=images)
    with pytest.raises(FileFormatError, match="images: the run has"):
        make_model(other).fit(4, epochs=3, run_dir=run, resume=True)
    labels = annotations.keypoints + 0.25  # corrected labels go on
    record = make_model(attrs.evolve(annotations, keypoints=labels)).fit(
        4, epochs=3, run_dir=run, resume=True
    )
    assert len(record.history) == 3


def _without_notes(arrays):
    del arrays["notes"]


def _other_shape(arrays):
    arrays["network/0"] = np.zeros((1, 2, 3), np.float32)


def _other_best(arrays):
    arrays["best/0"] = np.zeros((1, 2, 3), np.float32)


def _fewer_weights(arrays):
    del arrays[max((n for n in arrays if n.startswith("optimizer/")), key=len)]


def _record_of_something_else(arrays):
    notes = json.loads(str(arrays["notes"]))
    arrays["notes"] = np.array(json.dumps({**notes, "record": {"colour": 1}}))


@pytest.mark.parametrize(
    "damage",
    [_without_notes, _other_shape, _other_best, _fewer_weights, _record_of_something_else],
)
def test_damaged_checkpoints_say_so_and_leave_the_log(make_model, run, damage):
    log = (run / "log.csv").read_bytes()
    with np.load(run / "checkpoint.npz") as archive:
        arrays = dict(archive)
    damage(arrays)
    np.savez(run / "checkpoint.npz", **arrays)
    with pytest.raises(FileFormatError, match=r"checkpoint\.npz is damaged.*start a new run") as e:
        make_model().fit(4, epochs=3, run_dir=run, resume=True)
    assert len(str(e.value)) < 400
    assert (run / "log.csv").read_bytes() == log


@pytest.mark.parametrize("text", ["{ cut", "[1, 2]"])
def test_a_damaged_description_of_a_run(make_model, run, text):
    (run / "run.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"run\.json is damaged"):
        make_model().fit(4, epochs=3, run_dir=run, resume=True)


# -- the posture graph ---------------------------------------------------------------------------


def test_a_graph_needs_edges(make_model):
    loose = dot_annotations(4, size=(32, 32))
    loose = AnnotationSet(loose.images, loose.keypoints, Skeleton(loose.skeleton.names))
    assert not TrainingGenerator(loose, augmenter=None).task.use_graph
    with pytest.raises(ValidationError, match="needs a skeleton with edges"):
        TrainingGenerator(loose, augmenter=None, use_graph=True)
    assert make_model().task.use_graph


def test_validation_without_a_label_is_no_divergence(make_model):
    """The one image held out has no label at all."""
    record = make_model().fit(4, epochs=1)
    assert math.isnan(record.history[0]["val_loss"])
    assert record.best_epoch == 1
