"""Simulate the loop of labelling: which way of choosing frames gives a better model for less work?

    python benchmarks/suggest/run.py --budget 15 -o runs/suggest

README.md beside this file says how it is simulated and what came out.
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
from dpk_core.errors import DpkWarning
from dpk_core.poses import Poses
from dpk_core.services.engines import load_model
from dpk_core.services.metrics import keypoint_errors
from dpk_core.services.sources import open_source
from dpk_core.services.splits import make_split
from dpk_core.services.storage import atomic_path, write_tracks
from dpk_core.services.video import VideoReader
from dpk_core.tracks import Tracks
from dpk_core.workflow.suggest import suggest_frames
from dpk_models import StackedDenseNet
from dpk_models.learner import set_weights, weights_of

IN_IMAGES = ("random", "combined", "confidence", "entropy", "diversity")
IN_VIDEOS = (*IN_IMAGES, "speed", "acceleration", "autoregression")
FIRST = 3
"""Times as many images as the later trainings, which go on from its weights."""
STEADY = 0.6
"""Part of the time that is spent in training steps; the rest compiles, predicts and chooses."""
MARGIN = 20
"""Frames between those that can be labelled and those that are unseen."""


@attrs.frozen
class Data:
    """What can be labelled, and what is measured on.

    Parameters
    ----------
    pool
        All of it labelled in truth.
    unseen
        Images of another time.
    start, add
        Images that are labelled at first, and in each round.
    far
        Pixels from the truth at which a person would move a keypoint.
    ways
        Of choosing.
    share
        Of the budget.
    scale
        Of the images in the network.
    choose
        (pool, labelled rows, predictions, model, n, way) -> rows of the pool.
    """

    pool: AnnotationSet
    unseen: AnnotationSet
    start: int
    add: int
    far: float
    ways: tuple[str, ...]
    share: float
    scale: float
    choose: Callable[..., np.ndarray]


def main() -> None:
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    sets = {name: SETS[name](options.output) for name in options.data}
    end = time.monotonic() + 60 * options.stop_after if options.stop_after else np.inf
    images = {name: plan(options, name, data) for name, data in sets.items()}
    runs = [
        (i, name, way) for i in range(options.seeds) for name in sets for way in sets[name].ways
    ]
    for seed, name, way in runs:
        path = options.output / f"{name}-{way}-{seed}.json"
        if path.exists():
            continue
        if time.monotonic() > end:
            say("time is up; run the same command again to carry on")
            return
        simulate(path, sets[name], way, seed, images[name], options)
    machine = describe_machine()
    text = "\n".join([*machine, "", *table(options, sets)])
    with atomic_path(options.output / "table.txt", overwrite=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    say(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--budget", type=float, default=15, help="minutes for everything, on this machine")
    add("--images", type=int, help="images that each training sees, instead of --budget")
    add("--seeds", type=int, default=3, help="repeats with other first frames and weights")
    add("--rounds", type=int, default=1, help="times that frames are chosen and labelled")
    add("--data", nargs="+", default=list(SETS), choices=list(SETS))
    add("--stop-after", type=float, default=0, help="minutes; the same command then carries on")
    add("-o", "--output", type=Path, default=Path("runs/suggest"), help="folder for the results")
    return parser.parse_args()


# -- data ---------------------------------------------------------------------------------------


def openfield(output: Path) -> Data:
    """Single images of a mouse: what does not need time."""
    dataset = open_source(data_folder("openfield"))
    assert isinstance(dataset, AnnotationSet)
    split = make_split(
        len(dataset), 0.25, seed=0, group_by="block", groups=dataset.groups, frames=dataset.frames
    )
    pool, unseen = dataset.subset(split.train), dataset.subset(split.validation)

    def choose(
        rows: np.ndarray, found: np.ndarray, model: StackedDenseNet, n: int, way: str
    ) -> np.ndarray:
        annotated = np.zeros_like(pool.annotated)
        annotated[rows] = True
        poses = Poses.from_predictions(found, pool.skeleton)
        asked = attrs.evolve(pool, annotated=annotated)
        return suggest_frames(asked, poses, n, by=way, model=model_for(way, model)).frames

    return Data(pool, unseen, 10, 10, 15.0, IN_IMAGES, 0.4, 0.25, choose)


def flies(output: Path, first: int = 900, last: int = 1249, unseen_from: int = 1150) -> Data:
    """A video of two flies that run, touch and overlap, each cropped out."""
    folder = data_folder("flies-clip")
    dataset = open_source(folder / "clip.slp")
    assert isinstance(dataset, AnnotationSet)
    frames = dataset.frames
    assert frames is not None
    in_pool = (frames >= first) & (frames < unseen_from - MARGIN)
    in_unseen = (frames >= unseen_from) & (frames <= last) & (frames % 2 == 0)
    pool, unseen = (in_memory(dataset.subset(np.flatnonzero(r))) for r in (in_pool, in_unseen))
    video, (height, width) = folder / "clip.mp4", pool.image_shape[:2]
    names = sorted({source.individual for source in pool.sources})
    ids = np.array([names.index(source.individual) for source in pool.sources])
    shifts = np.array([[s.crop[2], s.crop[5]] for s in pool.sources if s.crop is not None])
    centers = np.array([(width - 1) / 2, (height - 1) / 2]) - shifts
    numbers = np.array([source.frame for source in pool.sources])
    order = np.lexsort((ids, numbers))
    tracks = output / "flies.tracks.h5"
    write_tracks(
        tracks,
        make_tracks(numbers[order], ids[order], centers[order], (height, width)),
        overwrite=True,
    )
    with VideoReader(video) as reader:
        facts = {"n_frames": len(reader), "height": reader.shape[0], "width": reader.shape[1]}
    provenance = {
        **facts, "video": video.as_posix(), "tracks": tracks.as_posix(),
        "crop": [height, width, 1.0, False],
        "track_names": {str(i): name for i, name in enumerate(names)},
    }  # fmt: skip

    def choose(
        rows: np.ndarray, found: np.ndarray, model: StackedDenseNet, n: int, way: str
    ) -> np.ndarray:
        points = found[..., :2].astype(np.float64) - shifts[:, None]
        poses = Poses(points, found[..., 2], pool.skeleton, numbers, ids, provenance)
        labels = pool.subset(rows)
        labels = attrs.evolve(
            labels,
            sources=tuple(attrs.evolve(s, video=video.as_posix()) for s in labels.sources),
        )
        chosen = suggest_frames(video, poses, n, by=way, labels=labels, model=model_for(way, model))
        return chosen.rows

    return Data(pool, unseen, 10, 10, 5.0, IN_VIDEOS, 0.6, 0.5, choose)


def make_tracks(
    frames: np.ndarray, ids: np.ndarray, centers: np.ndarray, size: tuple[int, int]
) -> Tracks:
    n = len(frames)
    return Tracks(
        frame=frames, id=ids, x=centers[:, 0], y=centers[:, 1],
        width=np.full(n, size[1]), height=np.full(n, size[0]), angle=np.full(n, np.nan),
        score=np.ones(n), interpolated=np.zeros(n, bool),
    )  # fmt: skip


def in_memory(dataset: AnnotationSet) -> AnnotationSet:
    rows = range(len(dataset))
    return attrs.evolve(dataset, images=np.stack([np.asarray(dataset.images[i]) for i in rows]))


def model_for(way: str, model: StackedDenseNet) -> StackedDenseNet | None:
    """Only "entropy" looks at maps; "combined" is what needs nothing but a file of poses."""
    return model if way == "entropy" else None


SETS: dict[str, Callable[[Path], Data]] = {"openfield": openfield, "flies": flies}


# -- the loop -----------------------------------------------------------------------------------


def simulate(
    path: Path, data: Data, way: str, seed: int, images: int, options: argparse.Namespace
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(data.pool), data.start, replace=False)
    kept = path.parent / f"{path.stem.split('-')[0]}-first-{seed}.keras"
    model = first_model(data, rows, seed, images, kept)
    rounds = [measure(model, data, rows, None)]
    for _ in range(options.rounds):
        found = model.predict(np.asarray(data.pool.images))
        free = np.setdiff1d(np.arange(len(data.pool)), rows)
        if way == "random":
            chosen = rng.choice(free, data.add, replace=False)
        else:
            chosen = data.choose(rows, found, model, data.add, way)
        assert len(np.intersect1d(chosen, free)) == data.add, "not what was asked for"
        errors = keypoint_errors(data.pool.keypoints[chosen], found[chosen][..., :2])
        rows = np.concatenate([rows, chosen])
        before = weights_of(model.network)
        keras.backend.clear_session()
        model = network(data, rows, seed)
        set_weights(model.network, before)
        fit(model, images, len(rows))
        rounds.append(measure(model, data, rows, errors))
    say(f"{path.stem}: " + ", ".join(f"{r['mean']:.2f} px" for r in rounds))
    result = {
        "rounds": rounds, "images": images, "model": repr(model), "far": data.far,
        "pool": len(data.pool), "unseen": len(data.unseen), "rows": rows.tolist(),
    }  # fmt: skip
    with atomic_path(path, overwrite=True) as temporary:
        Path(temporary).write_text(json.dumps(result, indent=1), encoding="utf-8")


def first_model(
    data: Data, rows: np.ndarray, seed: int, images: int, kept: Path
) -> StackedDenseNet:
    """Trained on those rows; all ways of a seed share it, so it is kept."""
    if not kept.exists():
        model = network(data, rows, seed)
        fit(model, FIRST * images, len(rows))
        model.save(kept)
    model = load_model(kept, "keras")
    assert isinstance(model, StackedDenseNet)
    return model


def fit(model: StackedDenseNet, images: int, labelled: int) -> None:
    epochs = max(1, round(images / labelled))
    model.fit(epochs=epochs, n_workers=1, batch_size=4, schedule="cosine", learning_rate=4e-3)


def network(data: Data, rows: np.ndarray, seed: int) -> StackedDenseNet:
    generator = TrainingGenerator(
        data.pool.subset(rows), scale=data.scale, seed=seed, use_graph=False, sigma=4.0,
        validation_split=0,
    )  # fmt: skip
    return StackedDenseNet(generator, growth_rate=8)


def measure(
    model: StackedDenseNet, data: Data, rows: np.ndarray, moved: np.ndarray | None
) -> dict[str, Any]:
    """Errors on unseen images, and what a person had to do for it."""
    found = model.predict(np.asarray(data.unseen.images))
    errors = keypoint_errors(data.unseen.keypoints, found[..., :2])
    corrections = None if moved is None else int((moved > data.far).sum())
    return {
        "labelled": len(rows), "mean": float(np.nanmean(errors)),
        "median": float(np.nanmedian(errors)), "far": float(np.nanmean(errors > data.far)),
        "corrections": corrections,
        "keypoints": None if moved is None else int(np.isfinite(moved).sum()),
    }  # fmt: skip


def plan(options: argparse.Namespace, name: str, data: Data) -> int:
    """Images that each training sees for everything to fit into the budget; the same when the run
    is carried on."""
    path = options.output / f"{name}.plan.json"
    if path.exists():
        return int(json.loads(path.read_text(encoding="utf-8"))["images"])
    images = options.images or affordable(options, data)
    path.write_text(json.dumps({"images": images}), encoding="utf-8")
    return images


def affordable(options: argparse.Namespace, data: Data) -> int:
    steps, times = 25, []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            times.append(time.perf_counter())
            self.model.stop_training = len(times) >= steps

    model = network(data, np.arange(data.start), 0)
    model.fit(epochs=steps, batch_size=4, n_workers=1, callbacks=[Clock()])
    speed = 4 / float(np.median(np.diff(times[2:])))
    trainings = options.seeds * (FIRST + options.rounds * len(data.ways))
    share = data.share if len(options.data) > 1 else 1.0
    return max(200, int(STEADY * speed * 60 * options.budget * share / trainings))


# -- the table ----------------------------------------------------------------------------------


def table(options: argparse.Namespace, sets: dict[str, Data]) -> list[str]:
    lines = []
    for name, data in sets.items():
        found = {
            way: [
                json.loads(path.read_text(encoding="utf-8"))
                for path in sorted(options.output.glob(f"{name}-{way}-*.json"))
            ]
            for way in data.ways
        }
        one = found["random"][0]
        first = np.array([r["rounds"][0]["mean"] for r in found["random"]])
        reference = np.array([r["rounds"][-1]["mean"] for r in found["random"]])
        lines += [
            f"{name}: {one['pool']} images to choose from, {one['unseen']} unseen of another time",
            one["model"],
            f"{data.start} labelled at first, {data.add} more in each of {options.rounds} rounds; "
            f"{FIRST * one['images']} images in the first training, {one['images']} in each later; "
            f"{len(first)} seeds",
            f"before: mean error {first.mean():.2f} px ({'  '.join(f'{v:.2f}' for v in first)})",
            "",
            f"{'':<16}{'moved':>7}{'mean':>8}{'of random':>11}{'+-':>6}{'median':>8}"
            f"{'> ' + format(one['far'], 'g') + ' px':>9}   mean of each seed",
        ]
        for way, runs in found.items():
            last = [r["rounds"][-1] for r in runs]
            means = np.array([r["mean"] for r in last])
            moved = sum(q["corrections"] for r in runs for q in r["rounds"][1:])
            of = sum(q["keypoints"] for r in runs for q in r["rounds"][1:])
            ratio = means / reference
            error = ratio.std(ddof=1) / np.sqrt(len(ratio)) if len(ratio) > 1 else np.nan
            each = "  ".join(f"{value:.2f}" for value in means)
            lines.append(
                f"{way:<16}{moved / of:7.0%}{means.mean():8.2f}{ratio.mean():11.2f}{error:6.2f}"
                f"{np.mean([r['median'] for r in last]):8.2f}"
                f"{np.mean([r['far'] for r in last]):9.1%}   {each}"
            )
        lines.append("")
    return lines


def say(*texts: object) -> None:
    print(*texts, sep="\n", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DpkWarning)
    main()
