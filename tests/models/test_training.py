"""Training: what it learns, what weighs nothing, and that nothing is lost on the way."""

from __future__ import annotations

import csv
import math
import os
import signal
import subprocess
import sys
import textwrap

import attrs
import keras
import numpy as np
import pytest

from dpk_core.errors import FileFormatError, FileMissingError, OutputExistsError, ValidationError
from dpk_core.testing import dot_annotations
from dpk_models import StackedDenseNet
from dpk_models.run_folder import LOG_COLUMNS
from dpk_models.trainer import MapTrainer


def test_it_learns(make_model):
    record = make_model(validation_split=0.2).fit(
        batch_size=4, epochs=16, learning_rate=5e-3, schedule="plateau"
    )
    losses = [epoch["loss"] for epoch in record.history]
    assert losses[-1] < 0.8 * losses[0]
    assert record.stopped == "finished"
    assert [epoch["epoch"] for epoch in record.history] == list(range(1, 17))
    assert all(math.isfinite(epoch["val_error_px"]) for epoch in record.history)


def test_the_best_weights_are_kept(make_model, same_weights):
    kept = []

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept.append([np.array(w) for w in model.network.get_weights()])

    model = make_model(validation_split=0.3)
    record = model.fit(batch_size=4, epochs=6, learning_rate=0.05, callbacks=[Spy()])
    losses = [epoch["val_loss"] for epoch in record.history]
    assert record.best_epoch == 1 + int(np.argmin(losses))
    best = kept[record.best_epoch - 1]
    for found, expected in zip(model.network.get_weights(), best, strict=True):
        assert np.array_equal(found, expected)


def test_unlabelled_images_and_keypoints_weigh_nothing(make_model):
    """The loss of a batch stays the same when an image without labels joins it."""
    model = make_model()
    trainer = MapTrainer(model.network, model.task)
    images, keypoints = model.generator.batches(4)[0]
    outputs = model.network(images, training=False)
    expected = float(trainer.compute_loss(y=keypoints, y_pred=outputs))

    more = np.concatenate([images, images[:1]])
    blank = np.full((1, *keypoints.shape[1:]), np.nan, np.float32)
    outputs = model.network(more, training=False)
    loss = trainer.compute_loss(y=np.concatenate([keypoints, blank]), y_pred=outputs)
    assert float(loss) == pytest.approx(expected, rel=1e-5)

    only_blank = trainer.compute_loss(y=np.repeat(blank, 5, axis=0), y_pred=outputs)
    assert float(only_blank) == 0


def test_validation_does_not_depend_on_its_batch_size(make_model):
    losses = [
        make_model(validation_split=0.4)
        .fit(batch_size=4, epochs=1, validation_batch_size=size)
        .history[0]
        for size in (1, 3, 4)
    ]
    for other in losses[1:]:
        assert other["val_loss"] == pytest.approx(losses[0]["val_loss"], rel=1e-4)
        assert other["val_error_px"] == pytest.approx(losses[0]["val_error_px"], abs=0.05)


def test_a_seed_fixes_everything(make_model, same_weights):
    models = [make_model(augmenter="default") for _ in range(2)]
    models[0].fit(batch_size=4, epochs=2, n_workers=1)
    models[1].fit(batch_size=4, epochs=2, n_workers=3)
    assert same_weights(*models)
    other = make_model(seed=4)
    assert not same_weights(models[0], other)


# -- the run folder ------------------------------------------------------------------------------


class StopAfter(keras.callbacks.Callback):
    """Ends a training after so many epochs, as Ctrl-C would."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 == self.epochs


@pytest.mark.parametrize(
    "recipe", [{"schedule": "cosine"}, {"schedule": "plateau"}, {"ema": 0.8}], ids=str
)
def test_a_resumed_run_equals_an_uninterrupted_one(make_model, same_weights, tmp_path, recipe):
    options = {"batch_size": 4, "checkpoint_every": 0, "learning_rate": 5e-3, "epochs": 6, **recipe}
    whole = make_model(augmenter="default", validation_split=0.2)
    expected = whole.fit(run_dir=tmp_path / "whole", **options)
    make_model(augmenter="default", validation_split=0.2).fit(
        run_dir=tmp_path / "parts", callbacks=[StopAfter(3)], **options
    )
    resumed = make_model(augmenter="default", validation_split=0.2)
    record = resumed.fit(run_dir=tmp_path / "parts", resume=True, **options)
    assert same_weights(resumed, whole)
    assert len(record.history) == 6
    timing = {"seconds", "wait_share"}
    for a, b in zip(record.history, expected.history, strict=True):
        assert {k: v for k, v in a.items() if k not in timing} == {
            k: v for k, v in b.items() if k not in timing
        }
    assert record.best_epoch == expected.best_epoch


def test_the_log_has_a_line_an_epoch_also_after_a_resume(make_model, tmp_path):
    make_model().fit(batch_size=4, epochs=2, run_dir=tmp_path, checkpoint_every=0)
    make_model().fit(batch_size=4, epochs=4, run_dir=tmp_path, resume=True)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == LOG_COLUMNS
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]


def test_another_run_is_not_overwritten_or_continued(make_model, tmp_path):
    make_model().fit(batch_size=4, epochs=1, run_dir=tmp_path, checkpoint_every=0)
    with pytest.raises(OutputExistsError, match="--resume"):
        make_model().fit(batch_size=4, epochs=1, run_dir=tmp_path)
    with pytest.raises(FileFormatError, match="batch_size: the run has 4, this is 2"):
        make_model().fit(batch_size=2, epochs=2, run_dir=tmp_path, resume=True)
    with pytest.raises(FileFormatError, match="split"):
        make_model(validation_split=0.4).fit(batch_size=4, run_dir=tmp_path, resume=True)
    with pytest.raises(FileFormatError, match='augmenter: the run has "none", this is "strong"'):
        make_model(augmenter="strong").fit(batch_size=4, run_dir=tmp_path, resume=True)
    with pytest.raises(FileMissingError, match="no training run"):
        make_model().fit(run_dir=tmp_path / "absent", resume=True)
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(FileFormatError, match=r"checkpoint\.npz is damaged"):
        make_model().fit(batch_size=4, run_dir=tmp_path, resume=True)
    make_model().fit(batch_size=4, epochs=1, run_dir=tmp_path, overwrite=True)


INTERRUPTED = """
    import sys
    from dpk_core import TrainingGenerator
    from dpk_core.testing import dot_annotations
    from dpk_models import StackedDenseNet
    generator = TrainingGenerator(dot_annotations(12, size=(32, 32)), augmenter=None, seed=3)
    model = StackedDenseNet(generator, growth_rate=4)
    def tell(p):
        if p.epoch > 2:
            print("under way", flush=True)
    record = model.fit(batch_size=4, epochs=100000, run_dir=sys.argv[1], checkpoint_every=0,
                       progress=tell)
    model.save(sys.argv[2])
    print("stopped:", record.stopped, record.best_epoch, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_keeps_the_best_model_and_the_run_goes_on(tmp_path, make_model):
    model_path = tmp_path / "model.keras"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED), tmp_path / "run", model_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "under way"
    process.send_signal(signal.SIGINT)
    output = process.stdout.read()
    assert process.wait(timeout=300) == 0, process.stderr.read()
    assert "stopped: interrupted" in output
    assert model_path.is_file()
    done = sum(1 for _ in (tmp_path / "run" / "log.csv").open()) - 1
    generator_options = {"sigma": 5.0}
    record = make_model(**generator_options).fit(
        batch_size=4, epochs=done + 1, run_dir=tmp_path / "run", resume=True
    )
    assert [epoch["epoch"] for epoch in record.history] == list(range(1, done + 2))


# -- odd cases -----------------------------------------------------------------------------------


def test_keras_callbacks_are_called_and_may_stop(make_model):
    seen = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, sorted(logs)))
            self.model.stop_training = epoch == 1

    record = make_model().fit(batch_size=4, epochs=9, callbacks=[Stop()])
    assert record.stopped == "callback"
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert {"loss", "val_loss"} <= set(seen[0][1])


def test_progress_is_told_after_each_step(make_model):
    events = []
    make_model(validation_split=0.25).fit(batch_size=3, epochs=2, progress=events.append)
    assert [(e.epoch, e.step) for e in events] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert events[-1].steps == 3
    assert math.isfinite(events[-1].validation_loss)


def test_a_time_limit_ends_training(make_model):
    record = make_model().fit(batch_size=4, epochs=10**6, time_limit=1.0, schedule="cosine")
    assert record.stopped == "time limit"
    assert record.best_epoch >= 1


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_images_than_a_batch(make_model, n):
    """Also one image, which leaves nothing to validate on."""
    annotations = dot_annotations(12, size=(32, 32)).subset(range(n))
    record = make_model(annotations).fit(batch_size=16, epochs=2)
    assert len(record.history) == 2
    assert math.isfinite(record.best_loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected a whole number above 0, found 0"),
        ({"epochs": 1.5}, "epochs: expected a whole number above 0"),
        ({"n_workers": 0}, "n_workers"),
        ({"time_limit": -1}, r"time_limit \(seconds\): expected a number above 0, found -1"),
        ({"time_limit": "20m"}, r"time_limit \(seconds\): expected a number above 0, found '20m'"),
        ({"learning_rate": "a"}, "learning_rate: expected a number above 0, found 'a'"),
        ({"checkpoint_every": "a"}, r"checkpoint_every \(seconds\): expected a number"),
        ({"resume": True}, "resume: expected run_dir"),
        ({"epoch": 3}, r"unknown options \['epoch'\]; there are"),
        ({"schedule": "linear"}, "schedule"),
    ],
)
def test_wrong_options_are_named(make_model, options, message):
    with pytest.raises(ValidationError, match=message):
        make_model().fit(**options)


def test_a_model_without_data_says_so(make_model):
    model = StackedDenseNet(make_model().task, growth_rate=4)
    with pytest.raises(ValidationError, match="has no data to train on"):
        model.fit()
    with pytest.raises(ValidationError, match="expected a dataset"):
        model.evaluate()


def test_hyperparameters_are_fixed_once_made(make_model):
    model = make_model()
    with pytest.raises(attrs.exceptions.FrozenAttributeError):
        model.growth_rate = 8
    assert model.hyperparameters["growth_rate"] == 4
