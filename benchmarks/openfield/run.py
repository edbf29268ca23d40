"""Train on a DeepLabCut project of a mouse, and measure the error on frames it never saw.

    python benchmarks/openfield/run.py --minutes 20 -o runs/openfield

README.md beside this file says what it is compared with.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from machine import data_folder, describe_machine

from dpk_core import TrainingGenerator
from dpk_core.annotations import AnnotationSet
from dpk_core.interfaces import Model
from dpk_core.services.drawing import DrawStyle, draw_legend, draw_pose
from dpk_core.services.imaging import resize_image
from dpk_core.services.metrics import ErrorSummary
from dpk_core.services.plugins import registry
from dpk_core.services.sources import open_source
from dpk_core.services.splits import make_split
from dpk_core.services.storage import atomic_path, read_poses
from dpk_core.services.video import VideoReader
from dpk_core.workflow.plots import plot_errors, plot_training, plot_trajectories
from dpk_core.workflow.predict import predict_video
from dpk_core.workflow.render import render_video

REFERENCE = {15: (3.4, 4.6), 20: (2.95, 4.2), 25: (2.6, 3.9), 40: (2.6, 3.9)}
"""Minutes of training: (mean, RMSE) in pixels of the original DeepPoseKit code, see README.md."""
REFERENCE_SPEED = 16.0
PEOPLE_RMSE = 2.7
TEST_SHARE = 0.2
LARGE, SMALL = DrawStyle(size=2.0, faint_opacity=0.9), DrawStyle(size=0.8)
VIDEO = Path("videos") / "m3v1mp4.mp4"


def main() -> None:
    options = parse()
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    dataset = open_source(options.data)
    assert isinstance(dataset, AnnotationSet)
    split = make_split(
        len(dataset), TEST_SHARE, seed=options.seed, group_by=options.split,
        groups=dataset.groups, frames=dataset.frames,
    )  # fmt: skip
    generator = TrainingGenerator(
        dataset.subset(split.train), scale=0.5, seed=options.seed, sigma=options.sigma,
        use_graph=options.graph, validation_split=options.validation_split,
    )  # fmt: skip
    unseen = dataset.subset(split.validation)
    model = (
        registry()
        .get("models", options.model)
        .load()(generator, n_stacks=1, growth_rate=options.growth_rate)
    )
    say(model, generator, f"tested on {len(unseen)} frames, split {split.method}")
    watch = Watch(model, unseen, options)
    record = model.fit(
        batch_size=options.batch_size, n_workers=options.workers, schedule=options.schedule,
        learning_rate=options.learning_rate, time_limit=60 * options.minutes, epochs=100_000,
        run_dir=output / "run", overwrite=True, callbacks=[watch], progress=watch.step,
    )  # fmt: skip
    model.save(output / "model.keras")
    evaluation = model.evaluate(unseen)
    watch.note(record.seconds / 60, evaluation["summary"], f"kept: epoch {record.best_epoch}")
    text = "\n".join(report(options, machine, model, generator, split, watch, evaluation, record))
    with atomic_path(output / "table.txt", overwrite=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    say(text)
    plot_training(output / "run", output / "training.png", overwrite=True)
    plot_errors(
        evaluation["errors"], dataset.skeleton, output / "errors.png",
        title=f"{len(unseen)} unseen frames", overwrite=True,
    )  # fmt: skip
    draw_unseen(unseen, evaluation["predictions"], output / "unseen.png")
    if not options.no_video:
        label_video(options, output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=data_folder("openfield"), help="the DeepLabCut project")
    add("--minutes", type=float, default=20, help="of training")
    add("--every", type=float, default=5, help="minutes between two measurements")
    add("--seed", type=int, default=0, help="of split, order, augmentation and weights")
    add("--split", choices=("random", "block"), default="random", help="how frames are held out")
    add("--model", default="StackedDenseNet")
    add("--growth-rate", type=int, default=32)
    add("--batch-size", type=int, default=4)
    add("--learning-rate", type=float, default=4e-3)
    add("--schedule", choices=("cosine", "plateau"), default="cosine")
    add("--sigma", type=float, default=5.0, help="of the confidence peaks, pixels of 320x240")
    add("--graph", action=argparse.BooleanOptionalAction, default=True, help="posture graph")
    add("--validation-split", type=float, default=0.0, help="of the training frames")
    add("--workers", type=int, default=1, help="threads that augment")
    add("--no-video", action="store_true", help="leave out predicting and rendering the video")
    add("-o", "--output", type=Path, default=Path("runs/openfield"), help="folder for the results")
    return parser.parse_args()


class Watch(keras.callbacks.Callback):
    """Measures the error on the unseen frames now and then, and the speed of training."""

    def __init__(self, model: Model, unseen: AnnotationSet, options: argparse.Namespace) -> None:
        super().__init__()
        self.rows: list[tuple[float, ErrorSummary, str]] = []
        self.measuring_s = 0.0
        self._pose_model, self._unseen, self._every = model, unseen, options.every
        self._minutes = options.minutes
        self._next = options.every
        self._began = time.perf_counter()
        self._step_ends: list[float] = []
        self._said = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        minutes = (time.perf_counter() - self._began) / 60
        if minutes < self._next or minutes > self._minutes - 0.1 * self._every:
            return
        began = time.perf_counter()
        summary = self._pose_model.evaluate(self._unseen)["summary"]
        self.measuring_s += time.perf_counter() - began
        self.note(minutes, summary, f"epoch {epoch + 1}")
        self._next += self._every
        self._step_ends.append(np.nan)  # the next step's time would hold this measurement

    def step(self, event: Any) -> None:
        now = time.perf_counter()
        self._step_ends.append(now)
        if now - self._said > 30:
            self._said = now
            say(f"{event.elapsed_s / 60:5.1f} min, epoch {event.epoch}, loss {event.loss:.4g}")

    def note(self, minutes: float, summary: ErrorSummary, remark: str) -> None:
        self.rows.append((minutes, summary, remark))
        say(f"{minutes:5.1f} min: {summary!r}")

    @property
    def step_seconds(self) -> float:
        """Median time from one step's end to the next's, within an epoch or across."""
        durations = np.diff(self._step_ends)[5:]
        return float(np.nanmedian(durations)) if np.isfinite(durations).any() else np.nan


def report(
    options: argparse.Namespace,
    machine: list[str],
    model: Model,
    generator: TrainingGenerator,
    split: Any,
    watch: Watch,
    evaluation: Any,
    record: Any,
) -> list[str]:
    speed = options.batch_size / watch.step_seconds
    lines = [
        "openfield: mean and RMSE of the error on unseen frames, in pixels of 640x480",
        "",
        *machine,
        f"model     {model!r}",
        f"training  {generator!r}, scale 0.5, sigma {options.sigma:g}, "
        f"graph {'on' if options.graph else 'off'}, batch {options.batch_size}, "
        f"{options.schedule} schedule from {options.learning_rate:g}",
        f"unseen    {split.n_images - len(split.train)} of {split.n_images} frames, split "
        f"{split.method}, seed {options.seed}",
        f"speed     {speed:.1f} images/s in training: {speed / REFERENCE_SPEED:.2f} times the "
        f"reference's {REFERENCE_SPEED:g} (measured on another day)",
        f"time      {record.seconds / 60:.1f} min with validation and compilation, "
        f"{watch.measuring_s:.0f} s of them for this table",
        "",
        f"{'minutes':>8}{'mean':>8}{'RMSE':>8}{'median':>8}{'95 %':>8}   reference mean/RMSE   "
        "ratio of means",
    ]
    for minutes, summary, remark in watch.rows:
        o = summary.overall
        lines.append(
            f"{minutes:8.1f}{o['mean']:8.2f}{o['rmse']:8.2f}{o['median']:8.2f}{o['p95']:8.2f}   "
            f"{beside(minutes, o['mean'])}{remark}"
        )
    lines += ["", "kept weights, by keypoint:"]
    for row in evaluation["summary"].to_rows():
        lines.append(
            f"{row['name']:>12}  mean {row['mean']:5.2f}  RMSE {row['rmse']:5.2f}  median "
            f"{row['median']:5.2f}  n {row['count']}"
        )
    lines += ["", f"two people labelling the same mouse differ by an RMSE of {PEOPLE_RMSE} px"]
    return lines


def beside(minutes: float, mean: float) -> str:
    """The reference at this time, or at the latest one before it."""
    earlier = [m for m in REFERENCE if m <= minutes + 0.5]
    if not earlier:
        return f"{'-':>18}      {'-':>8}        "
    reference = REFERENCE[max(earlier)]
    return (
        f"{reference[0]:6.2f} /{reference[1]:5.2f} at {max(earlier):2d}      "
        f"{mean / reference[0]:8.2f}        "
    )


def draw_unseen(unseen: AnnotationSet, predictions: np.ndarray, output: Path) -> None:
    """A sheet of the unseen frames around the mouse: labels as rings, predictions as points."""
    tiles = []
    for i in range(min(16, len(unseen))):
        sample = unseen[i]
        image, move = zoom(sample.image, sample.keypoints)
        nobody = np.zeros(len(unseen.skeleton))
        tile = draw_pose(image, move(sample.keypoints), nobody, unseen.skeleton, style=LARGE)
        tile = draw_pose(tile, move(predictions[i, :, :2]), None, unseen.skeleton, style=SMALL)
        tiles.append(draw_legend(tile, unseen.skeleton) if i == 0 else tile)
    write_sheet(tiles, output)


def zoom(
    image: np.ndarray, keypoints: np.ndarray, side: int = 160, factor: int = 3
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The surroundings of the keypoints, enlarged, and a function that moves points into them."""
    height, width = image.shape[:2]
    centre = np.nan_to_num(np.nanmean(keypoints, axis=0), nan=side / 2)
    left, top = np.clip(centre - side / 2, 0, [width - side, height - side]).round().astype(int)
    part = image[top : top + side, left : left + side]
    large = resize_image(np.ascontiguousarray(part), (side * factor, side * factor))

    def move(points: np.ndarray) -> np.ndarray:
        return (points - (left, top) + 0.5) * factor - 0.5

    return large, move


def label_video(options: argparse.Namespace, output: Path) -> None:
    """Predict the project's video, render it, and lay out some of its frames."""
    video = options.data / VIDEO
    show = shown_every(10.0)
    began = time.perf_counter()
    predict_video(output / "model.keras", video, output / "poses.h5", overwrite=True, progress=show)
    seconds = time.perf_counter() - began
    poses = read_poses(output / "poses.h5")
    say(f"predicted {len(poses)} frames in {seconds:.0f} s, {len(poses) / seconds:.1f} frames/s")
    render_video(
        poses, video, output / "labelled.mp4", trail=10, legend=True, overwrite=True, progress=show
    )
    plot_trajectories(poses, output / "trajectories.png", overwrite=True)
    with VideoReader(video) as reader:
        chosen = np.linspace(0, len(poses) - 1, 16).round().astype(int)
        tiles = []
        for i in chosen:
            image, move = zoom(reader[int(poses.frames[i])], poses.keypoints[i])
            tiles.append(
                draw_pose(
                    image, move(poses.keypoints[i]), poses.scores[i], poses.skeleton, style=SMALL
                )
            )
    write_sheet(tiles, output / "frames.png")


def write_sheet(tiles: list[np.ndarray], output: Path) -> None:
    import cv2

    blank = np.full_like(tiles[0], 255)
    tiles = tiles + [blank] * (-len(tiles) % 4)
    sheet = np.concatenate(
        [np.concatenate(tiles[i : i + 4], axis=1) for i in range(0, len(tiles), 4)]
    )
    cv2.imwrite(str(output), sheet[..., ::-1])


def shown_every(seconds: float) -> Callable[[int, int | None, str], None]:
    last = [0.0]

    def show(done: int, total: int | None, message: str) -> None:
        if time.perf_counter() - last[0] > seconds:
            last[0] = time.perf_counter()
            say(f"{message}: {done} of {total}")

    return show


def say(*texts: object) -> None:
    print(*texts, sep="\n", flush=True)


if __name__ == "__main__":
    main()
