"""Training by name: what is refused, and what is saved when it goes wrong."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from dpk_core import AnnotationSet, Skeleton
from dpk_core.errors import DpkWarning, TrainingError, ValidationError
from dpk_core.services.storage import write_annotations
from dpk_core.testing import dot_annotations
from dpk_core.workflow.train import train_model
from dpk_models import load_model


@pytest.fixture
def labels(tmp_path):
    write_annotations(tmp_path / "labels.h5", dot_annotations(12, size=(32, 32)))
    return tmp_path / "labels.h5"


def train(labels, *, callbacks=(), hyperparameters=None, **generator_options):
    return train_model(
        labels,
        "StackedDenseNet",
        labels.parent / "m.keras",
        hyperparameters={"growth_rate": 4, **(hyperparameters or {})},
        generator_options={"augmenter": None, "sigma": 3.0, **generator_options},
        fit_options={"batch_size": 4, "epochs": 6, "callbacks": callbacks},
    )


class SpoilIn(keras.callbacks.Callback):
    """Makes the weights NaN at the beginning of an epoch, from 0."""

    def __init__(self, epoch):
        super().__init__()
        self.at = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            variable = self.model.network.trainable_variables[0]
            variable.assign(np.full(variable.shape, np.nan))


def test_a_training_that_diverged_is_saved_with_its_best_weights(labels):
    with pytest.warns(DpkWarning, match="diverged"):
        result = train(labels, callbacks=[SpoilIn(2)])
    assert result.stopped == "diverged"
    assert "lower learning rate" in result.notes[0]
    model = load_model(result.output)
    assert model.record.notes == result.notes
    assert all(np.isfinite(w).all() for w in model.network.get_weights())


def test_a_training_that_diverged_at_once_saves_nothing(labels):
    with pytest.raises(TrainingError, match="nothing is saved"):
        train(labels, callbacks=[SpoilIn(0)])
    assert not (labels.parent / "m.keras").exists()


@pytest.mark.parametrize(
    ("hyperparameters", "generator_options", "message"),
    [
        ({"n_transitions": 9}, {}, "9 halvings need images of about 512 pixels, found 32x32"),
        ({"n_transitions": 2}, {}, "expected at least 3, one more than downsample_factor"),
        ({}, {"downsample_factor": 1}, "expected downsample_factor >= 2, found 1"),
        ({}, {"downsample_factor": 5}, "use a smaller downsample_factor or larger images"),
        ({"growth_rat": 3}, {}, "did you mean 'growth_rate'"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_trained(
    labels, hyperparameters, generator_options, message
):
    with pytest.raises(ValidationError, match=message):
        train(labels, hyperparameters=hyperparameters, **generator_options)
    assert [path.name for path in labels.parent.iterdir()] == ["labels.h5"]


def test_a_graph_is_learned_where_there_is_one_unless_somebody_insists(labels):
    dots = dot_annotations(12, size=(32, 32))
    loose = AnnotationSet(dots.images, dots.keypoints, Skeleton(dots.skeleton.names))
    write_annotations(labels, loose, overwrite=True)
    with pytest.raises(ValidationError, match=r"needs a skeleton with edges.*leave use_graph"):
        train(labels, use_graph=True)
    result = train(labels)
    assert load_model(result.output).task.use_graph is False


def test_maps_have_the_size_that_the_model_is_made_for(labels):
    options = {"augmenter": None, "sigma": 3.0}
    done = train_model(
        labels,
        "LEAP",
        labels.parent / "leap.keras",
        hyperparameters={"filters": 4},
        generator_options=options,
        fit_options={"batch_size": 4, "epochs": 1},
    )
    assert load_model(done.output).task.downsample_factor == 0
    with pytest.raises(ValidationError, match="found 2"):
        train_model(
            labels, "LEAP", labels.parent / "b.keras",
            generator_options={**options, "downsample_factor": 2},
        )  # fmt: skip
