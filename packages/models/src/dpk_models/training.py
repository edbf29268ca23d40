"""Training: the paper's routine as the default, exact continuation, nothing lost on Ctrl-C.

Source: Graving et al. 2019, eLife 8:e47994, Methods, "Training routine": mean squared error on all
outputs, Adam at 1e-3, batches of 16, the learning rate divided by 5 after 10 epochs without an
improvement of 1e-3 in validation loss, the end after 50, the best weights kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dpk_core.interfaces import Dataset
from dpk_core.progress import TrainProgress
from dpk_core.services.imaging import coordinates_to_original
from dpk_core.services.loader import BatchLoader
from dpk_core.task import Task
from dpk_models.device import jit_compile
from dpk_models.maps import draw_maps, masked_mse
from dpk_models.options import TrainingOptions
from dpk_models.prediction import detect_peaks, make_peak_detector
from dpk_models.record import TrainingRecord
from dpk_models.run_folder import RunFolder, RunState, damaged_checkpoint
from dpk_models.schedule import make_schedule, restore_schedule, schedule_state

if TYPE_CHECKING:
    from dpk_core.services.generator import TrainingGenerator
    from dpk_models.base import PoseModel


class MapTrainer(keras.Model):
    """Draws the target maps from keypoints inside the compiled step and compares.

    ``x`` is (n, h, w, c) uint8 and ``y`` (n, k, 2) keypoints in pixels of those images. A NaN
    keypoint weighs nothing.
    """

    def __init__(self, network: keras.Model, task: Task) -> None:
        super().__init__(name="trainer")
        self.network = network
        self.task = task

    def call(self, images: Any, training: bool = False) -> Any:
        return self.network(images, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        maps, weights = draw_maps(y, self.task)
        outputs = y_pred if isinstance(y_pred, (list, tuple)) else [y_pred]
        return sum(masked_mse(maps, weights, output) for output in outputs)


class Validator(keras.Model):
    """One forward pass that gives all that validation needs.

    Input: images (n, h, w, c) uint8 and keypoints (n, k, 2). Output: (n, 2) sum of weighted
    squared errors and sum of weights of each image, and its peaks (n, k, 3).
    """

    def __init__(self, network: keras.Model, task: Task, peak_detector: Any) -> None:
        super().__init__(name="validator")
        self.network = network
        self.task = task
        self.peak_detector = peak_detector

    def call(self, inputs: Any) -> Any:
        images, keypoints = inputs
        outputs = self.network(images, training=False)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        maps, weights = draw_maps(keypoints, self.task)
        ops = keras.ops
        error = sum(ops.sum(weights * ops.square(maps - o), axis=(1, 2, 3)) for o in outputs)
        height, width = self.task.output_shape
        weight = ops.sum(weights, axis=(1, 2, 3)) * (height * width)
        peaks = detect_peaks(outputs, self.task, self.peak_detector)
        return ops.stack([error, weight], axis=-1), peaks


def train(
    model: PoseModel, generator: TrainingGenerator, options: TrainingOptions
) -> TrainingRecord:
    """Train a model on a generator; see `PoseModel.fit`."""
    return _Training(model, generator, options).run()


class _Training:
    """One training: its parts and where it stands."""

    def __init__(
        self, model: PoseModel, generator: TrainingGenerator, options: TrainingOptions
    ) -> None:
        self.model, self.generator, self.options = model, generator, options
        self.task = generator.task
        self.network = model.network
        self.schedule = make_schedule(options.schedule, options.learning_rate)
        self.trainer = MapTrainer(model.network, self.task)
        self.optimizer = keras.optimizers.Adam(options.learning_rate)
        self.trainer.compile(optimizer=self.optimizer, jit_compile=jit_compile())
        detector = make_peak_detector(model.peak_detector, self.task)
        self.validator = Validator(model.network, self.task, detector)
        self.validator.compile(jit_compile=jit_compile())
        self.record = TrainingRecord(
            split=json.loads(generator.split.to_json()),
            source=generator.source_name,
            seed=generator.seed,
            batch_size=options.batch_size,
        )
        self.best_weights = self._weights()
        self.stop = threading.Event()
        self.folder: RunFolder | None = None
        self.seconds_before = 0.0

    # -- the story ------------------------------------------------------------------------------

    def run(self) -> TrainingRecord:
        self.optimizer.build(self.network.trainable_variables)
        self._open_folder()
        self.started = time.perf_counter()
        callbacks = keras.callbacks.CallbackList(
            list(self.options.callbacks), model=self.trainer, epochs=self.options.epochs
        )
        self.trainer.stop_training = False
        with _interrupt_sets(self.stop), self._best_weights_last():
            callbacks.on_train_begin()
            self._epochs(callbacks)
            callbacks.on_train_end()
        self.record.seconds = self._elapsed()
        if self.folder is not None:
            self.folder.write_record(self.record.to_config())
        return self.record

    def _epochs(self, callbacks: keras.callbacks.CallbackList) -> None:
        for epoch in range(len(self.record.history), self.options.epochs):
            if self.schedule.should_stop:
                self.record.stopped = "no improvement"
                return
            if epoch and self._time_is_up():
                self.record.stopped = "time limit"
                return
            callbacks.on_epoch_begin(epoch)
            finished = self._epoch(epoch, callbacks)
            if not finished:
                return
            # Callbacks are told the epoch already; twice confuses those that put it into a name.
            row = {k: v for k, v in self.record.history[-1].items() if k != "epoch"}
            callbacks.on_epoch_end(epoch, row)
            if self.trainer.stop_training:
                self.record.stopped = "callback"
                self._checkpoint(every=0.0)
                return
        self.record.stopped = "finished"

    def _epoch(self, epoch: int, callbacks: keras.callbacks.CallbackList) -> bool:
        """Train and validate once; False when training has to end before the epoch does."""
        batches = self.generator.batches(self.options.batch_size, epoch=epoch)
        loss_sum, weight_sum = 0.0, 0
        began = time.perf_counter()
        with BatchLoader(batches, self.options.n_workers) as loader:
            for step, (images, keypoints) in enumerate(loader):
                self._set_learning_rate((epoch + step / len(batches)) / self.options.epochs)
                callbacks.on_train_batch_begin(step)
                loss = float(
                    self.trainer.train_on_batch(images, keypoints, return_dict=True)["loss"]
                )
                callbacks.on_train_batch_end(step, {"loss": loss})
                loss_sum, weight_sum = loss_sum + loss * len(images), weight_sum + len(images)
                if not math.isfinite(loss):
                    self.record.stopped = "diverged"
                    return False
                self._tell(epoch, step + 1, len(batches), loss_sum / weight_sum)
                if self.stop.is_set():
                    self.record.stopped = "interrupted"
                    return False
                if self._time_is_up():
                    break
            waited = loader.wait_seconds / max(time.perf_counter() - began, 1e-9)
        return self._finish_epoch(epoch, loss_sum / weight_sum, waited)

    def _finish_epoch(self, epoch: int, loss: float, wait_share: float) -> bool:
        """Validate and take note of an epoch; False when the network is beyond repair."""
        val_loss, val_error = self._validate()
        monitored = loss if val_loss is None else val_loss
        weights = self._weights()
        if not math.isfinite(monitored) or not all(np.isfinite(w).all() for w in weights):
            self.record.stopped = "diverged"
            return False
        self.record.history.append(
            {
                "epoch": epoch + 1,
                "loss": loss,
                "val_loss": math.nan if val_loss is None else val_loss,
                "val_error_px": val_error,
                "learning_rate": float(self.schedule.learning_rate),
                "seconds": round(self._elapsed(), 3),
                "wait_share": round(wait_share, 4),
            }
        )
        if monitored < self.record.best_loss:
            self.record.best_loss, self.record.best_epoch = monitored, epoch + 1
            self.best_weights = weights
        self.schedule.on_epoch_end(monitored)
        if self.folder is not None:
            self.folder.log(self.record.history[-1])
        last = epoch + 1 == self.options.epochs or self.schedule.should_stop
        self._checkpoint(0.0 if last or self._time_is_up() else self.options.checkpoint_every)
        return True

    def _validate(self) -> tuple[float | None, float]:
        """Validation loss, None without a labelled image; mean error in original pixels."""
        if not self.generator.n_validation:
            return None, math.nan
        size = self.options.validation_batch_size or self.options.batch_size
        size = min(size, self.generator.n_validation)
        sums, distances = np.zeros(2), []
        for images, keypoints in self.generator.batches(size, validation=True):
            n = len(images)
            if n < size:  # fill up with images that weigh nothing: one program for all batches
                images = np.concatenate([images, np.zeros((size - n, *images.shape[1:]), np.uint8)])
                blank = np.full((size - n, *keypoints.shape[1:]), np.nan, np.float32)
                filled = np.concatenate([keypoints, blank])
            else:
                filled = keypoints
            image_sums, peaks = self.validator.predict_on_batch([images, filled])
            sums += np.asarray(image_sums)[:n].sum(axis=0)
            found = np.asarray(peaks)[:n, :, :2]
            difference = self._to_original(found) - self._to_original(keypoints)
            distances.append(np.linalg.norm(difference, axis=-1).ravel())
        distance = np.concatenate(distances)
        known = np.isfinite(distance)
        error = float(distance[known].mean()) if known.any() else math.nan
        return (float(sums[0] / sums[1]) if sums[1] else None), error

    # -- small parts ----------------------------------------------------------------------------

    @contextmanager
    def _best_weights_last(self) -> Iterator[None]:
        """Whatever ends the training, an error too, the network is left with its best weights."""
        try:
            yield
        finally:
            first_epoch_cut_short = self.record.stopped == "interrupted" and not self.record.history
            if not first_epoch_cut_short:  # where something learned beats nothing learned
                self._restore(self.best_weights)

    def _to_original(self, keypoints: np.ndarray) -> np.ndarray:
        size = tuple(self.generator.dataset.image_shape[:2])
        return coordinates_to_original(keypoints, self.task, size)

    def _set_learning_rate(self, fraction: float) -> None:
        if self.options.time_limit is not None:
            fraction = max(fraction, self._elapsed() / self.options.time_limit)
        self.schedule.on_progress(fraction)
        self.optimizer.learning_rate = self.schedule.learning_rate

    def _elapsed(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def _time_is_up(self) -> bool:
        return self.options.time_limit is not None and self._elapsed() >= self.options.time_limit

    def _tell(self, epoch: int, step: int, steps: int, loss: float) -> None:
        if self.options.progress is None:
            return
        last = self.record.history[-1] if self.record.history else {}
        self.options.progress(
            TrainProgress(
                epoch=epoch + 1,
                epochs=self.options.epochs,
                step=step,
                steps=steps,
                loss=loss,
                validation_loss=last.get("val_loss", math.nan),
                validation_error_px=last.get("val_error_px", math.nan),
                best_epoch=self.record.best_epoch,
                learning_rate=float(self.schedule.learning_rate),
                elapsed_s=self._elapsed(),
                time_limit_s=self.options.time_limit,
            )
        )

    def _weights(self) -> list[np.ndarray]:
        # A copy: on a CPU some backends hand out the very memory that training goes on writing to.
        return [np.array(v) for v in map(keras.ops.convert_to_numpy, self.network.variables)]

    def _restore(self, weights: list[np.ndarray]) -> None:
        for variable, value in zip(self.network.variables, weights, strict=True):
            variable.assign(value)

    # -- the run folder -------------------------------------------------------------------------

    def _open_folder(self) -> None:
        if self.options.run_dir is None:
            return
        identity = {
            "model": type(self.model).__name__,
            "hyperparameters": self.model.hyperparameters,
            "task": self.task.to_config(),
            "split": self.record.split,
            "images": _fingerprint(self.generator.dataset),
            "batch_size": self.options.batch_size,
            "seed": self.generator.seed,
            "schedule": self.options.schedule,
            "learning_rate": self.options.learning_rate,
        }
        self.folder = RunFolder(self.options.run_dir, identity)
        if not self.options.resume:
            self.folder.create(overwrite=self.options.overwrite)
            return
        state = self.folder.resume()
        if state is not None:
            try:
                self._put_back(state)
            except (TypeError, ValueError, KeyError) as error:
                raise damaged_checkpoint(self.folder.path / "checkpoint.npz", error) from None
        self.folder.cut_log(len(self.record.history))

    def _checkpoint(self, every: float) -> None:
        if self.folder is not None:
            self.folder.checkpoint(self._state, every=every)

    def _state(self) -> RunState:
        return RunState(
            network=self._weights(),
            best=self.best_weights,
            optimizer=[np.array(keras.ops.convert_to_numpy(v)) for v in self.optimizer.variables],
            schedule=schedule_state(self.schedule),
            record={**self.record.to_config(), "seconds": self._elapsed()},
        )

    def _put_back(self, state: RunState) -> None:
        self._restore(state.network)
        for variable, value in zip(self.optimizer.variables, state.optimizer, strict=True):
            variable.assign(value)
        self.best_weights = state.best
        restore_schedule(self.schedule, state.schedule)
        self.record = TrainingRecord(**state.record)
        self.seconds_before = self.record.seconds


def _fingerprint(dataset: Dataset) -> str:
    """Tells other images of the same number and size, from a few of them.

    Labels may be corrected between two parts of a training, so they don't count.
    """
    digest = hashlib.blake2b(digest_size=16)
    for i in np.unique(np.linspace(0, len(dataset) - 1, 8).round().astype(int)):
        digest.update(np.ascontiguousarray(dataset[int(i)].image))
    return digest.hexdigest()


@contextmanager
def _interrupt_sets(event: threading.Event) -> Iterator[None]:
    """Turn Ctrl-C into a flag that is looked at between steps; the second one is a real one.

    Signals can be caught in the main thread only; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(signum: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in previous:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
