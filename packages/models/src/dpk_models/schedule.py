"""When to lower the learning rate and when to stop: pure bookkeeping, one call an epoch.

Source of the default: Graving et al. 2019, eLife 8:e47994, Methods, "Training routine": the
learning rate is divided by 5 when the validation loss has not improved by 1e-3 for 10 epochs, and
training stops after 50 epochs without an improvement.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from dpk_core.checks import check_positive
from dpk_core.errors import ValidationError


@attrs.define
class PlateauSchedule:
    """Lower the rate on a plateau, stop on a long one.

    Parameters
    ----------
    learning_rate
        The rate to start with.
    factor
        What the rate is multiplied with on a plateau.
    patience, stop_patience
        Epochs without an improvement before the rate drops, before training stops.
    min_delta
        What counts as an improvement, in units of the loss.
    min_learning_rate
        The rate never drops below this.
    """

    learning_rate: float = 1e-3
    factor: float = 0.2
    patience: int = 10
    stop_patience: int = 50
    min_delta: float = 1e-3
    min_learning_rate: float = 0.0

    best: float = attrs.field(default=math.inf, init=False)
    epochs_since_best: int = attrs.field(default=0, init=False)
    epochs_since_drop: int = attrs.field(default=0, init=False)
    should_stop: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        check_positive("learning_rate", self.learning_rate)
        if not 0 < self.factor < 1:
            raise ValidationError(f"factor: expected between 0 and 1, found {self.factor}")

    def on_progress(self, fraction: float) -> None:
        """Called before each step with the fraction of the training that is done; no effect."""

    def on_epoch_end(self, loss: float) -> None:
        """Take note of an epoch's monitored loss; then read `learning_rate`, `should_stop`."""
        if loss < self.best - self.min_delta:
            self.best = loss
            self.epochs_since_best = self.epochs_since_drop = 0
            return
        self.epochs_since_best += 1
        self.epochs_since_drop += 1
        if self.epochs_since_drop >= self.patience:
            self.learning_rate = max(self.learning_rate * self.factor, self.min_learning_rate)
            self.epochs_since_drop = 0
        self.should_stop = self.epochs_since_best >= self.stop_patience


@attrs.define
class CosineSchedule:
    """Warm up, then fall along a half cosine to nearly nothing at the end of the time or epochs.

    The better choice when it is known beforehand how long training may take. Source: Loshchilov
    and Hutter 2017, "SGDR", ICLR, equation 5, without restarts.
    """

    peak: float = 1e-3
    warm_up: float = 0.02
    final: float = 0.01
    learning_rate: float = attrs.field(default=0.0, init=False)
    should_stop: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        check_positive("learning_rate", self.peak)
        self.on_progress(0.0)

    def on_progress(self, fraction: float) -> None:
        """Set the rate for the fraction (0 to 1) of the training that is done."""
        fraction = min(max(fraction, 0.0), 1.0)
        if fraction < self.warm_up:
            self.learning_rate = self.peak * max(fraction / self.warm_up, 0.05)
            return
        phase = (fraction - self.warm_up) / (1 - self.warm_up)
        cosine = 0.5 * (1 + math.cos(math.pi * phase))
        self.learning_rate = self.peak * (self.final + (1 - self.final) * cosine)

    def on_epoch_end(self, loss: float) -> None:
        """Nothing to note: the end of the time or epochs ends the training."""


Schedule = PlateauSchedule | CosineSchedule


def make_schedule(name: str, learning_rate: float) -> Schedule:
    """ "plateau" (the paper's) or "cosine".

    Raises
    ------
    ValidationError
    """
    if name == "plateau":
        return PlateauSchedule(learning_rate)
    if name == "cosine":
        return CosineSchedule(learning_rate)
    raise ValidationError(f"schedule: expected 'plateau' or 'cosine', found {name!r}")


def schedule_state(schedule: Schedule) -> dict[str, Any]:
    """Everything that the schedule remembers, for JSON."""
    return attrs.asdict(schedule)


def restore_schedule(schedule: Schedule, state: dict[str, Any]) -> None:
    """Put back what `schedule_state` gave."""
    for name, value in state.items():
        setattr(schedule, name, value)
