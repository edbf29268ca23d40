"""Follow animals in synthetic scenes with each tracker and with other programs', in one run.

pip install trackers; python benchmarks/tracking/run.py -o runs/tracking
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import supervision
from scenes import SETTINGS, Scene, make_scene
from trackers.eval.box import box_iou
from trackers.eval.clear import aggregate_clear_metrics, compute_clear_metrics
from trackers.eval.hota import aggregate_hota_metrics, compute_hota_metrics
from trackers.eval.identity import aggregate_identity_metrics, compute_identity_metrics

import trackers as others
from dpk_core.detections import Detections
from dpk_core.interfaces import Tracker
from dpk_core.tracks import COLUMNS, Tracks
from dpk_trackers.kalman import KalmanTracker
from dpk_trackers.munkres import MunkresTracker

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import describe_machine

MEMORY = 60
"""Frames for which every tracker remembers who is out of sight."""

Rows = list[tuple[np.ndarray, np.ndarray]]
"""For each frame ids (n,) and boxes (n, 4)."""


@attrs.frozen
class Took:
    """Seconds that association took, the camera's motion beside it, and the end of the video."""

    frames: float = 0.0
    images: float = 0.0
    end: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of ANIMALS.txt")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--scenes", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--only", help="trackers whose name has this in it")
    arguments = parser.parse_args()
    version = importlib.metadata.version("trackers")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.scenes:
        lines = [*describe_machine(), f"          trackers {version}, seeds {arguments.seeds}"]
        lines += ["times     CPU time of the calling thread, milliseconds a frame", ""]
        for camera in (True, False):
            setting = attrs.evolve(SETTINGS[name], camera=camera)
            scenes = [make_scene(setting, seed) for seed in arguments.seeds]
            lines += _table(name, scenes, arguments.only or "")
        text = "\n".join(lines).rstrip() + "\n"
        (arguments.output / f"{name}.txt").write_text(text, encoding="utf-8")


def _table(name: str, scenes: list[Scene], only: str) -> list[str]:
    setting = scenes[0].setting
    kind = "moving" if setting.camera else "still"
    lines = [
        f"{name} animals, {kind} camera: {len(scenes)} scenes of {setting.frames} frames",
        f"{'':28s} {'HOTA':>6} {'DetA':>6} {'AssA':>6} {'LocA':>6} {'IDF1':>6} {'MOTA':>6} "
        f"{'IDSW':>6} {'frame':>7} {'+ image':>8} {'+ end':>7}",
    ]
    print("\n".join(lines), flush=True)
    for label, follow in _contestants(setting.camera).items():
        if only not in label:
            continue
        results = [follow(scene) for scene in scenes]
        scores = _scores([s.truth for s in scenes], [rows for rows, _ in results])
        n_frames = sum(len(s.truth) for s in scenes)
        times = 1000 * np.sum([attrs.astuple(took) for _, took in results], axis=0) / n_frames
        shown = [f"{value:.2f}" if value else "" for value in times]
        lines.append(
            f"{label:28s} {scores['HOTA']:6.3f} {scores['DetA']:6.3f} {scores['AssA']:6.3f} "
            f"{scores['LocA']:6.3f} {scores['IDF1']:6.3f} {scores['MOTA']:6.3f} "
            f"{scores['IDSW']:6d} {shown[0]:>7} {shown[1]:>8} {shown[2]:>7}".rstrip()
        )
        print(lines[-1], flush=True)
    print(flush=True)
    return [*lines, ""]


def _contestants(camera: bool) -> dict[str, Callable[[Scene], tuple[Rows, Took]]]:
    motion = {"camera": "flow"} if camera else {}
    ours: dict[str, Callable[[], Tracker]] = {
        "dpk kalman": lambda: KalmanTracker(max_gap=MEMORY, **motion),
    }
    if camera:
        ours["dpk kalman, no camera"] = lambda: KalmanTracker(max_gap=MEMORY)
    ours["dpk munkres"] = lambda: MunkresTracker(max_gap=MEMORY)
    found: dict[str, Any] = {}
    for label, make in ours.items():
        found[label] = lambda scene, make=make: _follow(make(), scene, finish=True)
    found["dpk kalman, online only"] = lambda scene: _follow(
        KalmanTracker(max_gap=MEMORY, **motion), scene, finish=False
    )
    found["plain Munkres"] = lambda scene: _follow(
        MunkresTracker(max_gap=MEMORY), scene, finish=False
    )
    rate = {"lost_track_buffer": MEMORY}
    theirs = {
        "ByteTrack (trackers)": lambda: others.ByteTrackTracker(**rate),
        "OC-SORT (trackers)": lambda: others.OCSORTTracker(**rate),
        "BoT-SORT (trackers)": lambda: others.BoTSORTTracker(enable_cmc=camera, **rate),
    }
    for label, make_other in theirs.items():
        found[label] = lambda scene, make=make_other, see=camera and "BoT" in label: _follow_other(
            make(), scene, see
        )
    return found


def _follow(tracker: Tracker, scene: Scene, finish: bool) -> tuple[Rows, Took]:
    rows, frames, images, end = [], 0.0, 0.0, 0.0
    for number, (detections, image) in enumerate(_watched(scene, tracker.uses_frames)):
        began = time.thread_time()
        if image is not None and isinstance(tracker, KalmanTracker):
            tracker.watch(detections, image)
            images += time.thread_time() - began
            began = time.thread_time()
        rows.append(tracker.update(number, detections, image))
        frames += time.thread_time() - began
    tracks = _joined(rows)
    if finish:
        began = time.thread_time()
        tracks = tracker.finish(tracks)
        end = time.thread_time() - began
    return _by_frame(tracks, len(scene.truth)), Took(frames, images, end)


def _follow_other(tracker: Any, scene: Scene, see: bool) -> tuple[Rows, Took]:
    rows, took = [], 0.0
    for detections, image in _watched(scene, see):
        given = supervision.Detections(
            xyxy=detections.boxes.astype(np.float32), confidence=detections.score
        )
        color = None if image is None else np.repeat(image, 3, axis=2)
        began = time.thread_time()
        found = tracker.update(given, color) if see else tracker.update(given)
        took += time.thread_time() - began
        known = found.tracker_id >= 0
        rows.append((found.tracker_id[known], found.xyxy[known].astype(float)))
    return rows, Took(images=took) if see else Took(took)


def _watched(scene: Scene, see: bool) -> Iterable[tuple[Detections, np.ndarray | None]]:
    images = scene.images() if see else iter([None] * len(scene.truth))
    return zip(scene.detections, images, strict=True)


def _joined(rows: list[Tracks]) -> Tracks:
    columns: dict[str, Any] = {
        name: np.concatenate([r.columns()[name] for r in rows]) for name in COLUMNS
    }
    return Tracks(**columns)


def _by_frame(tracks: Tracks, n: int) -> Rows:
    boxes = Detections(tracks.x, tracks.y, tracks.width, tracks.height, tracks.angle).boxes
    order = np.argsort(tracks.frame, kind="stable")
    cuts = np.searchsorted(tracks.frame[order], np.arange(n + 1))
    parts = [order[a:b] for a, b in pairwise(cuts)]
    return [(tracks.id[part], boxes[part]) for part in parts]


def _scores(truths: list[Rows], rows: list[Rows]) -> dict[str, Any]:
    hota, identity, clear = [], [], []
    for truth, found in zip(truths, rows, strict=True):
        true_ids, ids = _renumbered([i for i, _ in truth]), _renumbered([i for i, _ in found])
        overlap = [box_iou(a, b) for (_, a), (_, b) in zip(truth, found, strict=True)]
        hota.append(compute_hota_metrics(true_ids, ids, overlap))
        identity.append(compute_identity_metrics(true_ids, ids, overlap))
        clear.append(compute_clear_metrics(true_ids, ids, overlap))
    return {
        **aggregate_clear_metrics(clear),
        **aggregate_identity_metrics(identity),
        **aggregate_hota_metrics(hota),
    }


def _renumbered(ids: list[np.ndarray]) -> list[np.ndarray]:
    _, numbers = np.unique(np.concatenate(ids), return_inverse=True)
    return np.split(numbers, np.cumsum([len(i) for i in ids])[:-1])


if __name__ == "__main__":
    main()
