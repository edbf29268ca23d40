"""What long work tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Callable

import attrs


@attrs.frozen
class TrainProgress:
    """The state of a training after a step or an epoch.

    ``loss`` is that of the running epoch so far; ``validation_loss`` and
    ``validation_error_px`` (mean, in pixels of the original images) are those of the last
    finished epoch, NaN before the first one or without validation images. ``epochs`` is None when
    a time limit alone ends the training.
    """

    epoch: int
    epochs: int | None
    step: int
    steps: int
    loss: float
    validation_loss: float
    validation_error_px: float
    best_epoch: int
    learning_rate: float
    elapsed_s: float
    time_limit_s: float | None = None


TrainProgressCallback = Callable[[TrainProgress], None]
