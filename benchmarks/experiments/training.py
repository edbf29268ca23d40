"""One training, its errors on unseen images and its speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from experiments.data import Animal
from experiments.plan import BATCH, DENSENET, Plan, Run

from dpk_core import TrainingGenerator
from dpk_core.errors import TrainingError
from dpk_core.progress import TrainProgress
from dpk_core.services.metrics import keypoint_errors
from dpk_core.services.plugins import registry
from dpk_models.base import PoseModel
from dpk_models.learner import set_weights, weights_of

WORKERS = 2
SPEED_SECONDS = 1.5
"""For which each speed of prediction is measured."""


def make_model(run: Run, animal: Animal, plan: Plan) -> PoseModel:
    split, _ = animal.split(run.repeat, run.n_train)
    generator = TrainingGenerator(
        animal.images, split=split, seed=run.repeat, scale=plan.scales[run.animal],
        use_graph=run.arm.use_graph, downsample_factor=run.arm.stride,
    )  # fmt: skip
    return (
        registry()
        .get("models", run.arm.model)
        .load()(generator, **run.arm.hyperparameters(plan.width))
    )


class _Watch(keras.callbacks.Callback):
    """When each step ended, and the weights at the very end, where the rate is nothing."""

    def __init__(self, epochs: int, stop_after: int | None = None) -> None:
        super().__init__()
        self._epochs, self._stop_after = epochs, stop_after
        self.ends: list[float] = []
        self.epoch_starts: list[int] = []
        self.weights: list[np.ndarray] | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch_starts.append(len(self.ends))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.ends.append(time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch + 1 == self._epochs:
            self.weights = weights_of(self.model.network)
        if self._stop_after is not None and len(self.ends) >= self._stop_after:
            self.model.stop_training = True

    def step_seconds(self) -> float:
        """Median of the steps within an epoch; the first, which compiles, is none of them."""
        steps = np.diff(self.ends)
        within = np.ones(len(steps), bool)
        within[[i - 1 for i in self.epoch_starts if 0 < i <= len(steps)]] = False
        chosen = steps[within] if within.any() else steps
        return float(np.median(chosen)) if len(chosen) else float("nan")


def training_speed(animal: Animal, name: str, plan: Plan, steps: int = 12) -> float:
    """Images a second that StackedDenseNet trains on."""
    run = Run(name, DENSENET, 0, animal.most_images(1))
    watch = _Watch(0, stop_after=steps)
    epochs = -(-steps * BATCH // run.n_train)
    make_model(run, animal, plan).fit(BATCH, n_workers=WORKERS, epochs=epochs, callbacks=[watch])
    return BATCH / watch.step_seconds()


def measure(
    run: Run, animal: Animal, plan: Plan, progress: Callable[[TrainProgress], None] | None = None
) -> dict[str, Any]:
    """Train, then look at the unseen block: a JSON object."""
    model = make_model(run, animal, plan)
    epochs = max(1, round(plan.images / run.n_train))
    watch = _Watch(epochs)
    result: dict[str, Any] = {
        "key": run.key, "animal": run.animal, "arm": run.arm.name, "repeat": run.repeat,
        "n_train": run.n_train, "images": epochs * run.n_train,
        "parameters": int(model.network.count_params()), "model": repr(model),
    }  # fmt: skip
    try:
        record = model.fit(
            BATCH, n_workers=WORKERS, epochs=epochs, learning_rate=plan.learning_rate,
            callbacks=[watch], progress=progress,
        )  # fmt: skip
    except TrainingError:
        return {**result, "stopped": "diverged", "errors": [], "missed": 0}
    if watch.weights is not None:
        set_weights(model.network, watch.weights)
    _, unseen = animal.split(run.repeat)
    labelled = animal.images.subset(unseen)
    images = np.asarray(labelled.images[:])
    found = model.predict(images)
    errors = keypoint_errors(labelled.keypoints, found[..., :2])
    known = np.isfinite(labelled.keypoints).all(axis=2)
    return {
        **result,
        "stopped": record.stopped,
        "seconds": round(record.seconds, 2),
        "step_ms": round(1e3 * watch.step_seconds(), 2),
        "loss": float(record.history[-1]["loss"]),
        "missed": int((known & np.isnan(errors)).sum()),
        "errors": np.round(errors[np.isfinite(errors)], 3).tolist(),
        **inference_speed(model, images),
    }


def inference_speed(model: PoseModel, images: np.ndarray) -> dict[str, float]:
    """Frames a second, one by one and a hundred at once, resizing and peaks included."""
    hundred = images[np.arange(100) % len(images)]
    single = model.realtime()
    single.warm_up()
    model.predict(hundred, batch_size=100)
    return {
        "fps_1": round(1 / _median_seconds(lambda: single(hundred[0]), SPEED_SECONDS), 1),
        "fps_100": round(
            100 / _median_seconds(lambda: model.predict(hundred, batch_size=100), SPEED_SECONDS), 1
        ),
    }


def _median_seconds(call: Callable[[], object], seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times))
