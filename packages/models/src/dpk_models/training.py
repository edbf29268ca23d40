"""Training: a recipe followed, exact continuation, nothing lost on Ctrl-C or an error.

Source of the recipe "paper": Graving et al. 2019, eLife 8:e47994, Methods, "Training routine":
mean squared error on all outputs, Adam at 1e-3, batches of 16, the learning rate divided by 5
after 10 epochs without an improvement of 1e-3 in validation loss, the end after 50, the best
weights kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import keras
import numpy as np

from dpk_core.errors import DpkWarning, TrainingError
from dpk_core.interfaces import Dataset
from dpk_core.progress import TrainProgress
from dpk_core.services.loader import BatchLoader
from dpk_models.interrupts import interrupt_sets
from dpk_models.learner import Learner, check_fit, set_weights, weights_of
from dpk_models.memory import memory_errors
from dpk_models.options import TrainingOptions
from dpk_models.record import TrainingRecord
from dpk_models.remarks import about_divergence, about_idle_devices, about_waiting
from dpk_models.run_folder import RunFolder, RunState, damaged_checkpoint
from dpk_models.schedule import make_schedule, restore_schedule, schedule_state
from dpk_models.validation import ValidationRun

if TYPE_CHECKING:
    from dpk_core.services.generator import TrainingGenerator
    from dpk_models.base import PoseModel


def train(
    model: PoseModel, generator: TrainingGenerator, options: TrainingOptions
) -> TrainingRecord:
    """Train a model on a generator; see `PoseModel.fit`.

    Raises
    ------
    TrainingError
        When the loss was NaN or infinite before an epoch was done; the model is as it was.
    DeviceMemoryError
        With the batch size to try. The model has the best weights so far.
    """
    return _Training(model, generator, options).run()


class _Training:
    """One training: its parts and where it stands."""

    def __init__(
        self, model: PoseModel, generator: TrainingGenerator, options: TrainingOptions
    ) -> None:
        self.model, self.generator, self.options = model, generator, options
        self.epochs = options.count_epochs(generator.n_train)
        self.schedule = make_schedule(options.schedule, options.learning_rate)
        self.learner = Learner(model, options, self._average())
        self.validation = ValidationRun(
            model, generator, options.validation_batch_size or options.batch_size
        )
        self.record = TrainingRecord(
            split=json.loads(generator.split.to_json()),
            source=generator.source_name,
            seed=generator.seed,
            batch_size=options.batch_size,
            recipe=options.recipe,
            precision=self.learner.precision,
            devices=self.learner.devices.n,
        )
        self.best_weights = weights_of(model.network)
        self.stop = threading.Event()
        self.folder: RunFolder | None = None
        self.seconds_before = 0.0
        self.waited = self.stepping = 0.0

    # -- the story ------------------------------------------------------------------------------

    def run(self) -> TrainingRecord:
        self._open_folder()
        self.started = time.perf_counter()
        callbacks = keras.callbacks.CallbackList(
            list(self.options.callbacks), model=self.learner.trainer, epochs=self.epochs
        )
        self.learner.trainer.stop_training = False
        with interrupt_sets(self.stop), self._best_weights_last():
            callbacks.on_train_begin()
            self._epochs(callbacks)
            callbacks.on_train_end()
        self.record.seconds = self._elapsed()
        self._remark()
        if self.folder is not None:
            self.folder.write_record(self.record.to_config())
        return self.record

    def _epochs(self, callbacks: keras.callbacks.CallbackList) -> None:
        done = len(self.record.history)
        for epoch in itertools.count(done) if self.epochs is None else range(done, self.epochs):
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
            if self.learner.trainer.stop_training:
                self.record.stopped = "callback"
                self._checkpoint(every=0.0)
                return
        self.record.stopped = "finished"

    def _epoch(self, epoch: int, callbacks: keras.callbacks.CallbackList) -> bool:
        """Train and validate once; False when training has to end before the epoch does."""
        batches = self.generator.batches(self.options.batch_size, epoch=epoch)
        loss_sum, weight_sum = 0.0, 0
        began = time.perf_counter()
        with (
            BatchLoader(batches, self.options.n_workers) as loader,
            memory_errors(self.options.batch_size, during="training"),
        ):
            for step, (images, keypoints) in enumerate(loader):
                self._set_learning_rate(epoch + step / len(batches))
                callbacks.on_train_batch_begin(step)
                loss = self.learner.step(images, keypoints, float(self.schedule.learning_rate))
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
            seconds = max(time.perf_counter() - began, 1e-9)
        self.waited, self.stepping = self.waited + loader.wait_seconds, self.stepping + seconds
        return self._finish_epoch(epoch, loss_sum / weight_sum, loader.wait_seconds / seconds)

    def _finish_epoch(self, epoch: int, loss: float, wait_share: float) -> bool:
        """Validate and take note of an epoch; False when the network is beyond repair."""
        weights = self.learner.publish()
        with memory_errors(
            self.validation.batch_size, during="validation", option="validation_batch_size"
        ):
            found = self.validation.run()
        monitored = loss if found.loss is None else found.loss
        if not math.isfinite(monitored) or not all(np.isfinite(w).all() for w in weights):
            self.record.stopped = "diverged"
            return False
        self.record.history.append(
            {
                "epoch": epoch + 1,
                "loss": loss,
                "val_loss": math.nan if found.loss is None else found.loss,
                "val_error_px": found.error_px,
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
        last = epoch + 1 == self.epochs or self.schedule.should_stop
        self._checkpoint(0.0 if last or self._time_is_up() else self.options.checkpoint_every)
        return True

    @contextmanager
    def _best_weights_last(self) -> Iterator[None]:
        """Whatever ends the training, an error too, the network is left with its best weights."""
        try:
            yield
        finally:
            if self.record.stopped == "interrupted" and not self.record.history:
                self.learner.publish()  # something learned beats nothing learned
            else:
                set_weights(self.model.network, self.best_weights)

    def _remark(self) -> None:
        """Say what went on, but not as well as it could; an error when nothing came of it."""
        if self.record.stopped == "diverged":
            advice = about_divergence(self.record, self.options, self.learner.precision)
            if not self.record.history:
                raise TrainingError(advice)
            self.record.notes.append(advice)
        if waiting := about_waiting(self.waited, self.stepping, self.options.n_workers):
            self.record.notes.append(waiting)
        if idle := about_idle_devices(self.options.devices):
            self.record.notes.append(idle)
        for note in self.record.notes:
            warnings.warn(note, DpkWarning, stacklevel=5)  # the line with fit

    # -- small parts ----------------------------------------------------------------------------

    def _average(self) -> float:
        """Of the EMA: it reaches back over the last tenth of the training at most."""
        if not self.options.ema or self.epochs is None:
            return self.options.ema
        steps = self.epochs * math.ceil(self.generator.n_train / self.options.batch_size)
        return min(self.options.ema, max(0.0, 1 - 10 / steps))

    def _set_learning_rate(self, epochs_done: float) -> None:
        fraction = 0.0 if self.epochs is None else epochs_done / self.epochs
        if self.options.time_limit is not None:
            fraction = max(fraction, self._elapsed() / self.options.time_limit)
        self.schedule.on_progress(fraction)

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
                epochs=self.epochs,
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

    # -- the run folder -------------------------------------------------------------------------

    def _open_folder(self) -> None:
        if self.options.run_dir is None:
            return
        identity = {
            "model": type(self.model).__name__,
            "hyperparameters": self.model.hyperparameters,
            "task": self.generator.task.to_config(),
            "split": self.record.split,
            "images": _fingerprint(self.generator.dataset),
            "augmenter": self.generator.augmentation,
            "recipe": self.options.recipe,
            "batch_size": self.options.batch_size,
            "seed": self.generator.seed,
            "schedule": self.options.schedule,
            "learning_rate": self.options.learning_rate,
            "ema": self.options.ema,
            "precision": self.learner.precision,
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
        network, optimizer = self.learner.state()
        return RunState(
            network=network,
            best=self.best_weights,
            optimizer=optimizer,
            schedule=schedule_state(self.schedule),
            record={**self.record.to_config(), "seconds": self._elapsed()},
        )

    def _put_back(self, state: RunState) -> None:
        check_fit(self.model.network.variables, state.best)
        self.learner.restore(state.network, state.optimizer)
        self.best_weights = state.best
        restore_schedule(self.schedule, state.schedule)
        before = TrainingRecord(**state.record)
        self.record = attrs.evolve(before, devices=self.learner.devices.n, notes=[])
        self.seconds_before = self.record.seconds


def _fingerprint(dataset: Dataset) -> str:
    """Tells other images of the same number and size, from a few of them.

    Labels may be corrected between two parts of a training, so they don't count.
    """
    digest = hashlib.blake2b(digest_size=16)
    for i in np.unique(np.linspace(0, len(dataset) - 1, 8).round().astype(int)):
        digest.update(np.ascontiguousarray(dataset[int(i)].image))
    return digest.hexdigest()
