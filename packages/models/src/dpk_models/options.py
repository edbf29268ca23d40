"""How to train: the options of `PoseModel.fit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np

from dpk_core.checks import check_positive
from dpk_core.errors import ValidationError
from dpk_core.progress import TrainProgressCallback
from dpk_models.precision import PRECISIONS
from dpk_models.recipes import DEFAULT, get_recipe

MOST_EPOCHS = 1000
"""Of a schedule that ends by itself."""


def _path_or_none(value: Any) -> Path | None:
    return None if value is None else Path(value)


@attrs.frozen
class TrainingOptions:
    """How to train. All have defaults; `PoseModel.fit` takes them as keywords.

    Parameters
    ----------
    recipe
        Name of the `dpk_models.recipes.Recipe` that the options marked with * come from when they
        are not given; "paper" is the published routine.
    batch_size
        * Images a step.
    n_workers
        Threads that read and augment images ahead of the training step.
    epochs
        * At most so many passes over the training images. By default the recipe decides from their
        number; with a `time_limit`, the time decides.
    learning_rate
        * Adam's rate to start with. None, where the recipe has none either: the model's
        `suited_learning_rate`.
    schedule
        * "plateau" lowers the rate, and ends the training, when it no longer improves; "cosine"
        lets it fall to nothing at the end of `epochs` or `time_limit`.
    ema
        * Keep a running average of the weights instead of the latest ones: the weight of the past
        in it, such as 0.99; 0 for none. It never reaches back over more than the last tenth of
        the training.
    time_limit
        Seconds after which training ends, None for no limit.
    precision
        "auto", "float32", "mixed_float16" or "mixed_bfloat16": what the network computes in while
        it trains. "auto": 16 bits on GPUs that are made for it. The trained model is float32.
    devices
        "auto" trains on all GPUs that are visible, a number on so many.
    validation_batch_size
        Images at once in validation. Default: `batch_size`.
    run_dir
        Folder for the log, the split and checkpoints; None writes nothing.
    resume
        Continue the training in `run_dir`: optimizer, schedule and epoch exactly as they were.
    overwrite
        Start anew although `run_dir` holds another training.
    checkpoint_every
        Write a checkpoint at the end of an epoch when the last one is so many seconds old.
    callbacks
        Keras callbacks. They see a model whose `stop_training` ends the training.
    progress
        Called with a `TrainProgress` after each step.
    """

    recipe: str = DEFAULT
    batch_size: int = attrs.field(default=None)
    n_workers: int = 1
    epochs: int | None = None
    learning_rate: float | None = None
    schedule: str = attrs.field(default=None)
    ema: float = attrs.field(default=None)
    time_limit: float | None = None
    precision: str = "auto"
    devices: str | int = "auto"
    validation_batch_size: int | None = None
    run_dir: Path | None = attrs.field(default=None, converter=_path_or_none)
    resume: bool = False
    overwrite: bool = False
    checkpoint_every: float = 20.0
    callbacks: Sequence[keras.callbacks.Callback] = ()
    progress: TrainProgressCallback | None = None

    def __attrs_post_init__(self) -> None:
        recipe = get_recipe(self.recipe)
        for name in ("batch_size", "learning_rate", "schedule", "ema"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(recipe, name))
        for name in ("batch_size", "n_workers"):
            _check_count(name, getattr(self, name))
        for name in ("epochs", "validation_batch_size"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        if self.learning_rate is not None:
            check_positive("learning_rate", self.learning_rate)
        if not isinstance(self.ema, (int, float, np.number)) or not 0 <= self.ema < 1:
            raise ValidationError(f"ema: expected a number from 0 to below 1, found {self.ema!r}")
        if self.time_limit is not None:
            check_positive("time_limit (seconds)", self.time_limit)
        if self.checkpoint_every != 0:
            check_positive("checkpoint_every (seconds)", self.checkpoint_every)
        if self.precision not in PRECISIONS:
            raise ValidationError(
                f"precision: expected {', '.join(PRECISIONS)}; found {self.precision!r}"
            )
        if self.devices != "auto":
            _check_count("devices", self.devices, 'or "auto"')
        if self.resume and self.run_dir is None:
            raise ValidationError("resume: expected run_dir, the folder of the run to continue")

    def count_epochs(self, n_images: int) -> int | None:
        """Passes over so many training images; None when a time limit alone ends them."""
        if self.epochs is not None:
            return self.epochs
        if self.time_limit is not None:
            return None
        if self.schedule == "plateau":
            return MOST_EPOCHS
        return get_recipe(self.recipe).epochs(n_images, self.batch_size)


def _check_count(name: str, value: Any, alternative: str = "") -> None:
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or value < 1:
        expected = f"expected a whole number above 0 {alternative}".rstrip()
        raise ValidationError(f"{name}: {expected}, found {value!r}")
