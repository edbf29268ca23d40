"""How to train: the options of `PoseModel.fit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.progress import TrainProgressCallback


def _path_or_none(value: Any) -> Path | None:
    return None if value is None else Path(value)


@attrs.frozen
class TrainingOptions:
    """How to train. All have defaults; `PoseModel.fit` takes them as keywords.

    Parameters
    ----------
    batch_size
        Images a step.
    n_workers
        Threads that read and augment images ahead of the training step.
    epochs
        At most so many passes over the training images.
    learning_rate, schedule
        Adam's rate to start with; "plateau" is the paper's routine, "cosine" falls to nothing at
        the end of `epochs` or `time_limit` and is better when that end is known.
    time_limit
        Seconds after which training ends, None for no limit.
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

    batch_size: int = 16
    n_workers: int = 1
    epochs: int = 1000
    learning_rate: float = 1e-3
    schedule: str = "plateau"
    time_limit: float | None = None
    validation_batch_size: int | None = None
    run_dir: Path | None = attrs.field(default=None, converter=_path_or_none)
    resume: bool = False
    overwrite: bool = False
    checkpoint_every: float = 20.0
    callbacks: Sequence[keras.callbacks.Callback] = ()
    progress: TrainProgressCallback | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("batch_size", "n_workers", "epochs"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ValidationError(f"{name}: expected a whole number above 0, found {value!r}")
        size = self.validation_batch_size
        if size is not None and (not isinstance(size, (int, np.integer)) or size < 1):
            raise ValidationError(
                f"validation_batch_size: expected a whole number above 0, found {size!r}"
            )
        if self.time_limit is not None and not self.time_limit > 0:
            raise ValidationError(f"time_limit: expected seconds above 0, found {self.time_limit}")
        if self.resume and self.run_dir is None:
            raise ValidationError("resume: expected run_dir, the folder of the run to continue")
