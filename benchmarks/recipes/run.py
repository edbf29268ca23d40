"""Compare ways to train on frames that were not trained on: every arm sees equally many images.

    python benchmarks/recipes/run.py --budget 40 -o runs/recipes

README.md beside this file says what the arms are and how to read the table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import attrs
import keras
import numpy as np
from machine import data_folder, describe_machine

from dpk_core import AnnotationSet, TrainingGenerator
from dpk_core.annotations import Source
from dpk_core.errors import DpkWarning
from dpk_core.services.metrics import keypoint_errors
from dpk_core.services.sources import open_source
from dpk_core.services.splits import make_split
from dpk_core.services.storage import atomic_path
from dpk_core.services.synthetic import SyntheticAnimal
from dpk_models import StackedDenseNet
from dpk_models.learner import set_weights, weights_of

EMA = 0.99
TEST_SHARE = 0.25
STEADY = 0.85
"""Part of the measured speed that is counted on, as validation and compilation take time too."""


@attrs.frozen
class Arm:
    """A way to train."""

    name: str
    fit: dict[str, Any]
    augmenter: str = "default"


ARMS = (
    Arm("paper", {"recipe": "paper", "ema": 0.0}),
    Arm("cosine 16", {"schedule": "cosine", "batch_size": 16, "learning_rate": 4e-3, "ema": EMA}),
    Arm("cosine", {"schedule": "cosine", "batch_size": 4, "learning_rate": 4e-3, "ema": EMA}),
    Arm(
        "strong",
        {"schedule": "cosine", "batch_size": 4, "learning_rate": 4e-3, "ema": EMA},
        augmenter="strong",
    ),
)
ROWS = (
    ("paper", "kept", "the published routine: plateau, batch 16, rate 1e-3"),
    ("cosine 16", "last", "cosine, batch 16, rate 4e-3"),
    ("cosine", "last", "cosine, batch 4, rate 4e-3"),
    ("cosine", "average", "  + average of weights (EMA)"),
    ("cosine", "kept", "  + average, and the best epoch by validation"),
    ("cosine", "average + flip", "  + average, and the mirror in prediction"),
    ("cosine", "last + flip", "  + the mirror in prediction"),
    ("strong", "last", "cosine, batch 4, stronger augmentation"),
    ("strong", "average", "  + average of weights (EMA)"),
)


@attrs.frozen
class Data:
    """Images that train, and the block of time that does not."""

    train: AnnotationSet
    unseen: AnnotationSet
    scale: float
    growth_rate: int
    sigma: float
    share: float

    def model(self, seed: int, augmenter: str = "default") -> StackedDenseNet:
        generator = TrainingGenerator(
            self.train, scale=self.scale, seed=seed, use_graph=False, sigma=self.sigma,
            augmenter=augmenter,
        )  # fmt: skip
        return StackedDenseNet(generator, growth_rate=self.growth_rate)


def main() -> None:
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    sets = {name: SETS[name]() for name in options.data}
    arms = [arm for arm in ARMS if arm.name in options.arms]
    for name, data in sets.items():
        images = options.images or affordable(data, options)
        for seed in range(options.seeds):
            for arm in arms:
                path = options.output / f"{name}-{arm.name.replace(' ', '-')}-{seed}.json"
                if not path.exists():
                    measure(path, name, data, arm, seed, images)
    text = "\n".join([*machine, "", *table(options.output, list(sets))])
    with atomic_path(options.output / "table.txt", overwrite=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    say(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--budget", type=float, default=40, help="minutes for everything")
    add("--images", type=int, help="images that each training sees, instead of --budget")
    add("--seeds", type=int, default=2, help="repeats, each with another split and other weights")
    add("--data", nargs="+", default=available(), choices=list(SETS))
    names = [arm.name for arm in ARMS]
    add("--arms", nargs="+", default=names, choices=names, help="only these; the table has all")
    add("-o", "--output", type=Path, default=Path("runs/recipes"), help="folder for the results")
    return parser.parse_args()


def openfield() -> Data:
    dataset = open_source(data_folder("openfield"))
    assert isinstance(dataset, AnnotationSet)
    split = make_split(
        len(dataset), TEST_SHARE, seed=0, group_by="block",
        groups=dataset.groups, frames=dataset.frames,
    )  # fmt: skip
    return Data(
        dataset.subset(split.train), dataset.subset(split.validation), 0.5, 16, 5.0, share=0.7
    )


def animal(n_train: int = 80, n_unseen: int = 80) -> Data:
    """Frames of the first three quarters of a video train; the last quarter is unseen."""
    film = SyntheticAnimal(seed=1, size=(128, 160), n_frames=1200)
    frames = np.concatenate(
        [np.linspace(0, 899, n_train).astype(int), np.linspace(930, 1199, n_unseen).astype(int)]
    )
    images = np.stack([film.render(int(i)) for i in frames])
    sources = tuple(Source("animal.mp4", int(i)) for i in frames)
    dataset = AnnotationSet(images, film.keypoints[frames], film.skeleton, sources=sources)
    rows = np.arange(len(frames))
    return Data(
        dataset.subset(rows[:n_train]), dataset.subset(rows[n_train:]), 1.0, 16, 5.0, share=0.3
    )


SETS: dict[str, Callable[[], Data]] = {"openfield": openfield, "animal": animal}


def available() -> list[str]:
    return list(SETS) if data_folder("openfield").is_dir() else ["animal"]


def affordable(data: Data, options: argparse.Namespace) -> int:
    """Images that each training may see for everything to fit into the budget."""
    model, steps = data.model(0), 15
    batches = model.generator.batches(4)
    times: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            times.append(time.perf_counter())
            self.model.stop_training = len(times) >= steps

    epochs = -(-steps // len(batches)) + 1
    model.fit(batch_size=4, n_workers=2, epochs=epochs, callbacks=[Clock()])
    speed = 4 / float(np.median(np.diff(times[2:])))
    share = data.share if len(options.data) > 1 else 1.0
    seconds = 60 * options.budget * share / (options.seeds * len(ARMS))
    return int(STEADY * speed * seconds)


class LastWeights(keras.callbacks.Callback):
    """The weights of the last epoch, as they are and averaged."""

    def __init__(self, kept: keras.Model) -> None:
        super().__init__()
        self._kept = kept
        self.latest: list[np.ndarray] = []
        self.averaged: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.latest = weights_of(self.model.network)
        self.averaged = weights_of(self._kept)


def measure(path: Path, name: str, data: Data, arm: Arm, seed: int, images: int) -> None:
    model = data.model(seed, arm.augmenter)
    epochs = max(1, round(images / model.generator.n_train))
    last = LastWeights(model.network)
    say(f"{name}, {arm.name}, seed {seed}: {epochs} epochs of {model.generator.n_train} images")
    record = model.fit(epochs=epochs, n_workers=2, callbacks=[last], **arm.fit)
    errors = {"kept": error_of(model, data)}
    for label, weights in (("last", last.latest), ("average", last.averaged)):
        set_weights(model.network, weights)
        errors[label] = error_of(model, data)
        errors[f"{label} + flip"] = error_of(model, data, flip=True)
    say(f"    {record!r}; unseen: " + ", ".join(f"{k} {v[0]:.2f}" for k, v in errors.items()))
    result = {
        "errors": errors, "seconds": record.seconds, "epochs": len(record.history),
        "images": len(record.history) * model.generator.n_train, "stopped": record.stopped,
        "wait_share": float(np.mean([row["wait_share"] for row in record.history])),
        "model": repr(model), "generator": repr(model.generator), "unseen": len(data.unseen),
    }  # fmt: skip
    with atomic_path(path, overwrite=True) as temporary:
        Path(temporary).write_text(json.dumps(result, indent=1), encoding="utf-8")


def error_of(model: StackedDenseNet, data: Data, flip: bool = False) -> tuple[float, float]:
    """Mean and root mean square of the error on the unseen images, in original pixels."""
    images = np.asarray(data.unseen.images)
    found = model.predict(images, mirror=flip)
    errors = keypoint_errors(data.unseen.keypoints, found[..., :2])
    return float(np.nanmean(errors)), float(np.sqrt(np.nanmean(errors**2)))


def table(folder: Path, names: list[str]) -> list[str]:
    lines = []
    for name in names:
        results = {
            arm.name: [
                json.loads(path.read_text(encoding="utf-8"))
                for path in sorted(folder.glob(f"{name}-{arm.name.replace(' ', '-')}-[0-9].json"))
            ]
            for arm in ARMS
        }
        if not results["paper"]:
            continue
        first = results["paper"][0]
        reference = float(np.mean([r["errors"]["kept"][0] for r in results["paper"]]))
        lines += [
            f"{name}: error on {first['unseen']} unseen frames of another time, pixels",
            f"{first['generator']}",
            f"{first['model']}",
            f"{first['images']} images a training (fewer where it ended by itself)",
            "",
            f"{'':<50}{'mean':>7}{'RMSE':>7}  {'of paper':>8}   {'mean of each seed'}",
        ]
        for arm_name, weights, label in ROWS:
            errors = [r["errors"][weights] for r in results[arm_name]]
            if not errors:
                continue
            mean, rmse = np.mean(errors, axis=0)
            each = "  ".join(f"{e[0]:.2f}" for e in errors)
            lines.append(f"{label:<50}{mean:7.2f}{rmse:7.2f}  {mean / reference:8.2f}   {each}")
        lines += [
            "",
            *(
                f"{arm}: {', '.join(r['stopped'] for r in found)} after "
                f"{np.mean([r['epochs'] for r in found]):.0f} epochs, "
                f"{np.mean([r['seconds'] for r in found]):.0f} s, "
                f"{np.mean([r['wait_share'] for r in found]):.1%} of them waiting for images"
                for arm, found in results.items()
                if found
            ),
            "",
        ]
    return lines


def say(*texts: object) -> None:
    print(*texts, sep="\n", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DpkWarning)
    main()
