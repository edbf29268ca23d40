"""How fast training is, and whether its steps wait for images.

    python benchmarks/throughput/run.py --seconds 60

Trains a StackedDenseNet on images of 192x192 pixels with 32 keypoints, with the default
augmentation, and reports images a second and the share of the time that the steps waited.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import attrs
import keras
import numpy as np
from machine import describe_machine

from dpk_core import AnnotationSet, Skeleton, TrainingGenerator
from dpk_core.errors import DpkWarning
from dpk_core.services.storage import atomic_path
from dpk_models import StackedDenseNet

N_KEYPOINTS = 32


@attrs.frozen
class Speed:
    """What was measured."""

    augmenter: str
    workers: int
    batch_size: int
    images_a_second: float
    wait_share: float


def main() -> None:
    options = parse()
    machine = describe_machine()
    annotations = noise(options.images, options.side)
    found = [
        measure(annotations, augmenter, workers, batch_size, options)
        for augmenter in options.augmenters
        for batch_size in options.batch_sizes
        for workers in options.workers
    ]
    text = "\n".join([*machine, *table(found, annotations, options)])
    if options.output is not None:
        with atomic_path(options.output, overwrite=True) as temporary:
            Path(temporary).write_text(text + "\n", encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seconds", type=float, default=60, help="of training for each row")
    add("--side", type=int, default=192, help="of the images, in pixels")
    add("--images", type=int, default=256, help="in the set")
    add("--growth-rate", type=int, default=48)
    add("--batch-sizes", type=int, nargs="+", default=[4, 16])
    add("--workers", type=int, nargs="+", default=[1, 2])
    add("--augmenters", nargs="+", default=["default"])
    add("-o", "--output", type=Path, help="file for the table")
    return parser.parse_args()


def noise(n: int, side: int) -> AnnotationSet:
    """Images of noise with a chain of keypoints: what is on them takes no time."""
    rng = np.random.default_rng(0)
    rows = [(f"k{i}", None if i == 0 else f"k{i - 1}", None) for i in range(N_KEYPOINTS)]
    images = rng.integers(0, 256, (n, side, side, 1), dtype=np.uint8)
    keypoints = rng.uniform(0, side - 1, (n, N_KEYPOINTS, 2))
    return AnnotationSet(images, keypoints, Skeleton.from_rows(rows))


class Clock(keras.callbacks.Callback):
    """Stops after some seconds; the first epoch, which compiles, does not count."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            self._began = time.perf_counter()
        self.model.stop_training = epoch > 0 and time.perf_counter() - self._began > self._seconds


def measure(
    annotations: AnnotationSet,
    augmenter: str,
    workers: int,
    batch_size: int,
    options: argparse.Namespace,
) -> Speed:
    generator = TrainingGenerator(
        annotations, use_graph=False, augmenter=augmenter, validation_split=0, seed=0
    )
    model = StackedDenseNet(generator, growth_rate=options.growth_rate)
    record = model.fit(
        batch_size, n_workers=workers, epochs=10_000, callbacks=[Clock(options.seconds)]
    )
    seconds = np.diff([row["seconds"] for row in record.history])
    waits = [row["wait_share"] for row in record.history[1:]]
    return Speed(
        augmenter,
        workers,
        batch_size,
        len(seconds) * generator.n_train / float(seconds.sum()),
        float(np.average(waits, weights=seconds)),
    )


def table(found: list[Speed], annotations: AnnotationSet, options: argparse.Namespace) -> list[str]:
    side = options.side
    return [
        f"training  StackedDenseNet, growth rate {options.growth_rate}, {side}x{side}x1, "
        f"{N_KEYPOINTS} keypoints, {len(annotations)} images in memory",
        "",
        f"{'augmenter':<12}{'batch':>6}{'workers':>9}{'images/s':>10}{'waiting':>10}",
        *(
            f"{s.augmenter:<12}{s.batch_size:>6}{s.workers:>9}{s.images_a_second:>10.1f}"
            f"{s.wait_share:>10.1%}"
            for s in found
        ),
    ]


if __name__ == "__main__":
    warnings.simplefilter("ignore", DpkWarning)
    main()
