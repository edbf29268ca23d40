"""A model that needs no training and no Keras, to test everything around models quickly."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import attrs
import numpy as np

from dpk_core.errors import ModelFileError
from dpk_core.interfaces import Model
from dpk_core.progress import TrainProgress
from dpk_core.services.metrics import keypoint_errors, summarize_errors
from dpk_core.task import Task

SECONDS_A_BATCH = "FAKE_ENGINE_SECONDS"
"""Environment variable: how long a batch takes."""


@attrs.define
class Record:
    """As much of a training record as the workflow looks at."""

    stopped: str = "finished"
    history: list = attrs.field(factory=list)
    best_epoch: int = 0
    source: str = ""
    split: dict = attrs.field(factory=dict)
    notes: list = attrs.field(factory=list)


class FakeNet(Model):
    """Every keypoint is at the brightest pixel, moved to the right by its number.

    The score depends on the whole batch, to the last bit, filling included: whoever forms other
    batches gets other results.
    """

    def __init__(self, source, *, offset: float = 1.0, stop: str = "finished") -> None:
        self.generator = None if isinstance(source, Task) else source
        self.task = source if isinstance(source, Task) else source.task
        self.offset = offset
        self.stop = stop
        self.record = None

    def fit(
        self,
        batch_size=16,
        *,
        n_workers=1,
        epochs=3,
        run_dir=None,
        resume=False,
        overwrite=False,
        progress=None,
    ):
        run_dir = Path(run_dir)
        run_dir.mkdir(exist_ok=True)
        (run_dir / "run.json").write_text(json.dumps({"model": "FakeNet", "resume": resume}))
        history = []
        for epoch in range(1, epochs + 1):
            history.append({"epoch": epoch, "val_error_px": 10 / epoch})
            if progress is not None:
                progress(TrainProgress(epoch, epochs, 1, 1, 0.5, 0.5, 10 / epoch, epoch, 1e-3, 1.0))
        split = json.loads(self.generator.split.to_json())
        notes = ["try a lower learning rate"] if self.stop == "diverged" else []
        self.record = Record(self.stop, history, epochs, self.generator.source_name, split, notes)
        return self.record

    def predict(self, images, batch_size=32):
        time.sleep(float(os.environ.get(SECONDS_A_BATCH, "0")))
        n, k = len(images), len(self.skeleton)
        batch = np.zeros((batch_size, *images.shape[1:]), images.dtype)
        batch[:n] = images
        brightest = batch.astype(int).sum(axis=3).reshape(batch_size, -1).argmax(axis=1)
        y, x = np.unravel_index(brightest, images.shape[1:3])
        found = np.empty((batch_size, k, 3), np.float32)
        found[..., 0] = x[:, None] + self.offset * np.arange(k)
        found[..., 1] = y[:, None]
        found[..., 2] = (np.arange(1, k + 1) * batch.mean()) % 1
        return found[:n]

    def evaluate(self, dataset=None):
        images = np.stack([dataset[i].image for i in range(len(dataset))])
        keypoints = np.stack([dataset[i].keypoints for i in range(len(dataset))])
        errors = keypoint_errors(keypoints, self.predict(images))
        return {"summary": summarize_errors(errors, self.skeleton.names)}

    def save(self, path):
        stored = {"task": self.task.to_config(), "offset": self.offset}
        if self.record is not None:
            stored["record"] = attrs.asdict(self.record)
        Path(path).write_text(json.dumps(stored))

    def __repr__(self):
        return f"FakeNet(offset={self.offset})"


def load(path):
    try:
        stored = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ModelFileError(f"{path} is cut short ({error})") from None
    model = FakeNet(Task.from_config(stored["task"]), offset=stored["offset"])
    if "record" in stored:
        model.record = Record(**stored["record"])
    return model


def greet(name: str = "you") -> None:
    """Say hello to somebody."""
    print(f"hello {name}")
