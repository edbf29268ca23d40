"""Train a detector of centroids on two flies and find them in frames that took no part in it.

python benchmarks/centroids/run.py -o runs/centroids
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core import AnnotationSet, Detections, TrainingGenerator, VideoReader, load_model
from dpk_core.centroids import Centroids
from dpk_core.cli.options import assignments
from dpk_core.services.centroid_labels import label_centroids
from dpk_core.services.centroid_matching import score_detections
from dpk_core.services.plugins import registry
from dpk_core.services.sources import open_source

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import data_folder, describe_machine

STILL, MOVING, UNSEEN = range(0, 950, 25), range(950, 1140, 2), range(1150, 1250)
"""Frames that train: few of those in which the flies hardly move. Ten lie between them and those
that are measured on."""

LIMIT_PX = 20.0
"""A detection within that of a label is that fly: a fifth of its length."""

THRESHOLDS = (0.1, 0.3, 0.5, 0.7)
HEADER = (
    f"{'detector':<26}{'threshold':>10}{'labelled':>10}{'found':>8}{'recall':>9}{'precision':>11}"
    f"{'error px':>10}{'ms/frame':>10}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of table.txt")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training")
    parser.add_argument("--model", default="StackedDenseNet")
    parser.add_argument("--set", nargs="*", default=["growth_rate=24"], help="hyperparameters")
    parser.add_argument("--downsample-factor", type=int, default=2)
    parser.add_argument("--scale", type=float, default=0.125)
    parser.add_argument("--sigma", type=float, default=4.0)
    parser.add_argument("--anchor", help="a keypoint; default: the middle of each fly")
    parser.add_argument("--reuse", action="store_true", help="the detector of an earlier run")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    labels = open_source(data_folder("flies-clip") / "clip.slp", whole_frames=True)
    assert isinstance(labels, AnnotationSet)
    frames = np.array([source.frame for source in labels.sources])
    training = labels.subset(np.flatnonzero(np.isin(frames, [*STILL, *MOVING])))
    unseen = labels.subset(np.flatnonzero(np.isin(frames, UNSEEN)))
    text = [
        *describe_machine(),
        f"training  {arguments.model} {' '.join(arguments.set)}, stride "
        f"{2**arguments.downsample_factor}, frames scaled by {arguments.scale:g}, sigma "
        f"{arguments.sigma:g},",
        f"          {len(training) // 2} frames up to {MOVING[-1]}, {arguments.minutes:g} minutes",
        f"measured  frames {UNSEEN[0]} to {UNSEEN[-1]}, matched within {LIMIT_PX:g} px; the error "
        "is the median",
        "",
        HEADER,
    ]
    path = arguments.output / "detector.keras"
    if not arguments.reuse:
        _train(training, path, arguments)
    record = load_model(path, "keras").record
    text.append(f"# {len(record.history)} epochs in {record.seconds:.0f} s")
    detector = _made("centroids", model=path, threshold=min(THRESHOLDS))
    text += _measure("centroids", detector, unseen, arguments.anchor, THRESHOLDS)
    _draw(arguments.output, detector, unseen)
    detector = _made("background", count=2)
    with VideoReader(data_folder("flies-clip") / "clip.mp4") as video:
        detector.prepare(video)
    text += _measure("background, count=2", detector, unseen, None, (0.0,))
    table = "\n".join(text) + "\n"
    (arguments.output / "table.txt").write_text(table, encoding="utf-8")
    print(table)


def _made(name: str, **settings: Any) -> Any:
    return registry().get("detectors", name).load()(**settings)


def _train(labels: AnnotationSet, path: Path, arguments: argparse.Namespace) -> None:
    generator = TrainingGenerator(
        labels,
        centroids=Centroids(arguments.anchor),
        downsample_factor=arguments.downsample_factor,
        scale=arguments.scale,
        sigma=arguments.sigma,
        grayscale=True,
    )
    made = registry().get("models", arguments.model).load()
    model = made(generator, **assignments(arguments.set))
    model.fit(8, time_limit=60 * arguments.minutes)
    model.save(path)


def _measure(
    name: str,
    detector: Any,
    labels: AnnotationSet,
    anchor: str | None,
    thresholds: Sequence[float],
) -> list[str]:
    """A line for each threshold of what one pass over the frames found."""
    frames, _ = label_centroids(labels, Centroids(anchor))
    images = list(frames.images[:])
    detector.detect(images[0])  # the first call takes longer
    began = time.perf_counter()
    found = [detector.detect(image) for image in images]
    milliseconds = 1e3 * (time.perf_counter() - began) / len(images)
    lines = []
    for threshold in thresholds:
        points = [_points(d[d.score >= threshold]) for d in found]
        score = score_detections(points, list(frames.keypoints), LIMIT_PX)
        lines.append(
            f"{name:<26}{threshold:>10}{score.n_labelled:>10}{score.n_found:>8}"
            f"{score.recall:>9.3f}{score.precision:>11.3f}{score.error_px:>10.2f}"
            f"{milliseconds:>10.1f}"
        )
    return lines


def _surest(found: Detections) -> Detections:
    return found[found.score >= THRESHOLDS[1]]


def _points(found: Detections) -> np.ndarray:
    return np.stack([found.x, found.y], axis=1)


def _draw(folder: Path, detector: Any, labels: AnnotationSet) -> None:
    """Some frames with what was found (cross) and labelled (circle), to look at."""
    import cv2

    frames, _ = label_centroids(labels, Centroids())
    tiles = []
    for i in np.linspace(0, len(frames) - 1, 6).astype(int):
        picture = np.ascontiguousarray(np.repeat(frames.images[int(i)], 3, axis=2))
        for x, y in frames.keypoints[i][np.isfinite(frames.keypoints[i]).all(axis=1)]:
            cv2.circle(picture, (round(x), round(y)), 30, (0, 160, 0), 3)
        for x, y in _points(_surest(detector.detect(frames.images[int(i)]))):
            cv2.drawMarker(picture, (round(x), round(y)), (220, 0, 0), cv2.MARKER_CROSS, 30, 3)
        tiles.append(cv2.resize(picture, (512, 512), interpolation=cv2.INTER_AREA))
    sheet = np.concatenate([np.concatenate(tiles[:3], 1), np.concatenate(tiles[3:], 1)])
    cv2.imwrite(str(folder / "frames.png"), sheet[..., ::-1])


if __name__ == "__main__":
    main()
