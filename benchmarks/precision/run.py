"""What reduced precision costs in error on unseen frames, beside what it gains in speed.

    python benchmarks/precision/run.py --minutes 3 -o benchmarks/precision/results/NAME.txt

Trains a Stacked DenseNet on the mouse of an open field (or, without that, on a synthetic animal),
a block of time held out, and runs the same file with every engine and precision there is. Numbers
for int8 are calibrated on training images.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from machine import data_folder, describe_machine

from dpk_core import AnnotationSet, TrainingGenerator
from dpk_core.annotations import Source
from dpk_core.services.engines import load_model
from dpk_core.services.metrics import keypoint_errors
from dpk_core.services.sources import open_source, spread_images
from dpk_core.services.splits import make_split
from dpk_core.services.synthetic import SyntheticAnimal
from dpk_core.workflow.bench import EngineSpeed, benchmark
from dpk_models import StackedDenseNet

TEST_SHARE = 0.25
BATCH_SIZES = (1, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="to train")
    parser.add_argument("--growth-rate", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure each speed")
    parser.add_argument("--model", type=Path, help="keep the model here, and use it when it is")
    parser.add_argument("-o", "--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    train, unseen, scale, name = data()
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or Path(folder) / "model.keras"
        if not path.exists():
            generator = TrainingGenerator(train, scale=scale, seed=1)
            model = StackedDenseNet(generator, growth_rate=options.growth_rate)
            model.fit(time_limit=60 * options.minutes)
            model.save(path)
        speeds = benchmark(path, batch_sizes=BATCH_SIZES, seconds=options.seconds)
        lines = [
            *describe_machine(),
            f"{name}: error on {len(unseen)} unseen frames, pixels; {speeds.model}",
            "",
            f"{'':<26}{'mean':>8}{'RMSE':>8}{'95 %':>8}"
            + "".join(f"{f'fps at {b}':>11}" for b in BATCH_SIZES)
            + f"{'delay ms':>10}",
        ]
        for speed in speeds.speeds:
            lines.append(row(speed, path, train, unseen))
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


def data() -> tuple[AnnotationSet, AnnotationSet, float, str]:
    """Images to train on, a block of time to test on, the scale, and what they show."""
    folder = data_folder("openfield")
    if folder.is_dir():
        dataset, scale, name = open_source(folder), 0.5, "open field"
    else:
        film = SyntheticAnimal(seed=1, size=(128, 160), n_frames=1200)
        frames = range(0, 1200, 10)
        images = np.stack([film.render(i) for i in frames])
        sources = tuple(Source("animal.mp4", i) for i in frames)
        keypoints = film.keypoints[list(frames)]
        dataset = AnnotationSet(images, keypoints, film.skeleton, sources=sources)
        scale, name = 1.0, "synthetic animal"
    split = make_split(
        len(dataset), TEST_SHARE, seed=0, group_by="block",
        groups=dataset.groups, frames=dataset.frames,
    )  # fmt: skip
    return dataset.subset(split.train), dataset.subset(split.validation), scale, name


def row(speed: EngineSpeed, path: Path, train: AnnotationSet, unseen: AnnotationSet) -> str:
    label = f"{speed.engine} {speed.precision}"
    if speed.error:
        return f"{label:<26}  not measured: {speed.error}"
    model = load_model(
        path, speed.engine, speed.precision, calibration=lambda: spread_images(train)
    )
    errors = keypoint_errors(unseen.keypoints, model.predict(unseen)[..., :2])
    errors = errors[np.isfinite(errors)]
    numbers = (errors.mean(), np.sqrt((errors**2).mean()), np.percentile(errors, 95))
    rates = "".join(f"{speed.frames_per_second[b]:11.1f}" for b in BATCH_SIZES)
    shown = "".join(f"{n:8.3f}" for n in numbers)
    return f"{label:<26}{shown}{rates}{speed.latency_ms:10.1f}"


if __name__ == "__main__":
    main()
