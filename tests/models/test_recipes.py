"""Recipes: what the options are when nobody gives them, and how long training lasts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import ValidationError
from dpk_models.options import TrainingOptions
from dpk_models.recipes import DEFAULT, RECIPES, get_recipe


def test_the_papers_routine():
    """Graving et al. 2019, Methods, "Training routine"."""
    options = TrainingOptions(recipe="paper")
    assert (options.batch_size, options.learning_rate, options.schedule) == (16, 1e-3, "plateau")
    assert options.ema == 0
    assert options.count_epochs(100) == 1000


def test_given_options_win():
    options = TrainingOptions(recipe="paper", batch_size=2, learning_rate=0.5, ema=0.9)
    assert (options.batch_size, options.learning_rate, options.ema) == (2, 0.5, 0.9)
    assert options.schedule == "plateau"
    assert TrainingOptions().batch_size == get_recipe(DEFAULT).batch_size


def test_a_model_brings_its_own_rate_where_nobody_names_one(make_model):
    def first_rate(**options):
        events = []
        make_model().fit(4, epochs=1, progress=events.append, **options)
        return max(event.learning_rate for event in events)

    model = make_model()
    assert model.suited_learning_rate == 4e-3
    # a third of the way along the cosine
    assert first_rate() == pytest.approx(4 * first_rate(learning_rate=1e-3))
    assert first_rate(recipe="paper") == 1e-3


def test_unknown_recipes_are_named():
    with pytest.raises(ValidationError, match=r"'papers'; did you mean 'paper'\?"):
        TrainingOptions(recipe="papers")
    with pytest.raises(ValidationError, match="recipe: expected"):
        TrainingOptions(recipe="x")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 64))
def test_a_training_without_an_end_ends_after_enough_steps_and_passes(n_images, batch_size):
    recipe = RECIPES[DEFAULT]
    epochs = TrainingOptions(batch_size=batch_size).count_epochs(n_images)
    steps = epochs * math.ceil(n_images / batch_size)
    assert steps >= recipe.steps
    assert epochs >= recipe.passes
    one_less = (epochs - 1) * math.ceil(n_images / batch_size)
    assert epochs == recipe.passes or one_less < recipe.steps


def test_what_ends_a_training():
    assert TrainingOptions(epochs=7, time_limit=60).count_epochs(100) == 7
    assert TrainingOptions(time_limit=60).count_epochs(100) is None
    assert TrainingOptions(schedule="plateau").count_epochs(100) == 1000


def test_a_time_limit_alone_ends_a_training(make_model):
    events = []
    record = make_model().fit(time_limit=0.5, progress=events.append)
    assert record.stopped == "time limit"
    assert record.best_epoch >= 1
    assert events[0].epochs is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema": 1.0}, "ema: expected a number from 0 to below 1, found 1.0"),
        ({"precision": "float16"}, "precision: expected auto, float32"),
        ({"devices": 0}, "devices: expected"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValidationError, match=message):
        TrainingOptions(**options)
