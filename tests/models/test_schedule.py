"""The learning rate's schedules, against sequences worked out by hand."""

from __future__ import annotations

import json

import pytest

from dpk_core.errors import ValidationError
from dpk_models.schedule import (
    CosineSchedule,
    PlateauSchedule,
    make_schedule,
    restore_schedule,
    schedule_state,
)


def test_the_papers_routine():
    """Divided by 5 after 10 epochs without an improvement of 1e-3, the end after 50."""
    schedule = PlateauSchedule(1e-3)
    schedule.on_epoch_end(1.0)
    rates, stops = [], []
    for _ in range(50):
        schedule.on_epoch_end(0.9995)  # better, but by less than 1e-3
        rates.append(schedule.learning_rate)
        stops.append(schedule.should_stop)
    assert rates[8] == 1e-3
    assert rates[9] == pytest.approx(2e-4)
    assert rates[18] == pytest.approx(2e-4)
    assert rates[19] == pytest.approx(4e-5)
    assert rates[49] == pytest.approx(1e-3 / 5**5)
    assert stops == [False] * 49 + [True]


def test_an_improvement_begins_the_count_anew():
    schedule = PlateauSchedule(1e-3)
    for loss in [1.0, *[1.0] * 9, 0.99, *[0.99] * 9]:
        schedule.on_epoch_end(loss)
    assert schedule.learning_rate == 1e-3
    schedule.on_epoch_end(0.99)
    assert schedule.learning_rate == pytest.approx(2e-4)


def test_small_steps_add_up_to_an_improvement():
    schedule = PlateauSchedule(1e-3)
    for i in range(100):
        schedule.on_epoch_end(1.0 - 0.0004 * i)
    assert schedule.learning_rate == 1e-3


def test_cosine_falls_from_the_peak_to_a_hundredth():
    schedule = CosineSchedule(1e-2)
    rates = []
    for fraction in (0.0, 0.02, 0.51, 1.0, 1.7):
        schedule.on_progress(fraction)
        rates.append(schedule.learning_rate)
    assert rates[0] < rates[1]
    assert rates[1:] == pytest.approx([1e-2, 1e-2 * (0.01 + 0.99 / 2), 1e-4, 1e-4])


def test_a_schedule_goes_on_from_its_state():
    first, second = PlateauSchedule(1e-3), PlateauSchedule(1e-3)
    losses = [1.0, 0.9, *[0.9] * 25, 0.8, *[0.8] * 12]
    for loss in losses[:17]:
        first.on_epoch_end(loss)
    restore_schedule(second, json.loads(json.dumps(schedule_state(first))))
    for loss in losses[17:]:
        first.on_epoch_end(loss)
        second.on_epoch_end(loss)
    assert schedule_state(first) == schedule_state(second)


def test_wrong_names_and_rates():
    assert isinstance(make_schedule("cosine", 1e-3), CosineSchedule)
    with pytest.raises(ValidationError, match="expected 'plateau' or 'cosine', found 'step'"):
        make_schedule("step", 1e-3)
    with pytest.raises(ValidationError, match="learning_rate"):
        make_schedule("plateau", 0)
    with pytest.raises(ValidationError, match="factor"):
        PlateauSchedule(1e-3, factor=5)
