"""What happened in a training; it travels inside the model file."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np


@attrs.define
class TrainingRecord:
    """What happened in a training; saved inside the model file.

    Parameters
    ----------
    history
        One dict an epoch: epoch (from 1), loss, val_loss, val_error_px, learning_rate, seconds
        (since the start), wait_share (of the time that the step waited for data).
    best_epoch
        The epoch whose weights the model has; 0 before the first.
    stopped
        Why it ended: "finished", "no improvement", "time limit", "interrupted", "callback",
        "diverged".
    split, source, seed, batch_size, recipe, precision, devices
        What it was trained on and how.
    notes
        What went on, but not as well as it could, and what to do about it.
    """

    history: list[dict[str, float]] = attrs.field(factory=list)
    best_epoch: int = 0
    best_loss: float = math.inf
    stopped: str = "finished"
    seconds: float = 0.0
    split: dict[str, Any] = attrs.field(factory=dict)
    source: str = ""
    seed: int = 0
    batch_size: int = 0
    recipe: str = ""
    precision: str = "float32"
    devices: int = 1
    notes: list[str] = attrs.field(factory=list)

    def to_config(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return attrs.asdict(self)

    def __repr__(self) -> str:
        last = self.history[self.best_epoch - 1] if self.best_epoch else {}
        error = last.get("val_error_px", math.nan)
        return (
            f"TrainingRecord({len(self.history)} epochs in {self.seconds:.0f} s, {self.stopped}, "
            f"best epoch {self.best_epoch}, validation error {error:.2f} px)"
        )


def plain(value: object) -> Any:
    """For ``json.dumps(..., default=plain)``: NumPy's numbers are numbers too."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a number, text, or lists and dicts of them, found {value!r}")
