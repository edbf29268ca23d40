"""Find and follow two courting flies of which only the number is known, beside other ways.

    pip install trackers; python benchmarks/flies/run.py -o runs/flies

README.md beside this file says what is measured and how.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sleap_io
import supervision
from scipy.optimize import linear_sum_assignment
from trackers.eval.box import box_iou
from trackers.eval.clear import compute_clear_metrics
from trackers.eval.hota import compute_hota_metrics
from trackers.eval.identity import compute_identity_metrics

import trackers as others

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import data_folder, describe_machine

from dpk_core.detections import Detections
from dpk_core.interfaces import Frames, Tracker
from dpk_core.services.plugins import registry
from dpk_core.services.video import VideoReader
from dpk_core.tracks import COLUMNS, Tracks
from dpk_trackers.background import BackgroundDetector
from dpk_trackers.fixed_count import FixedCountTracker

LABELLED, MOVING = 1250, 950
"""Frames with labels; that from which the flies run, touch and overlap."""
BODY = 95.0
"""Pixels of a fly's length: two centres match within a quarter of it."""
STRIDES = (2, 5, 8, 10, 12, 15)
"""Of the runs in which only every k-th frame is seen."""
AREA = 300
"""Pixels that a blob of the plain subtractions has at least, a tenth of a fly."""

Rows = list[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""For each frame ids (n,), centres (n, 2), upright boxes (n, 4)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of table.txt")
    parser.add_argument("--look", action="store_true", help="write a sheet of frames, too")
    arguments = parser.parse_args()
    folder = data_folder("flies-clip")
    reader = VideoReader(folder / "clip.mp4")
    truth = read_truth(folder / "clip.slp")
    lines = [*describe_machine(), f"          trackers {importlib.metadata.version('trackers')}"]
    lines.append(f"video     {len(reader)} frames, labels of the first {len(truth)}")
    found = {name: _watch(make, reader) for name, make in _detectors().items()}
    lines += ["", *_detection_table(found, truth), "", *_tracking_table(found, truth)]
    lines += ["", *_thinned_table(found, truth), "", *_heading_lines(found, folder / "clip.slp")]
    text = "\n".join(lines) + "\n"
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "table.txt").write_text(text, encoding="utf-8")
    if arguments.look:
        best, _, _ = found["dpk, number known"]
        sheet = _sheet(reader, best, [*range(950, 1250, 30), *range(1250, 1500, 13)])
        cv2.imwrite(str(arguments.output / "sheet.png"), sheet)


def read_truth(path: Path) -> Rows:
    """Each frame's two flies: the mean of the keypoints, and the box around them."""
    labels = sleap_io.load_slp(str(path))
    names = [track.name for track in labels.tracks]
    rows = []
    for frame in sorted(labels.labeled_frames, key=lambda f: f.frame_idx):
        points = [instance.numpy() for instance in frame.instances]
        ids = np.array([names.index(instance.track.name) for instance in frame.instances])
        boxes = [np.r_[np.nanmin(p, axis=0), np.nanmax(p, axis=0)] for p in points]
        rows.append((ids, np.array([np.nanmean(p, axis=0) for p in points]), np.array(boxes)))
    return rows[:LABELLED]


class Plain:
    """What others do: subtract, threshold, take every blob's upright box."""

    def __init__(self, mask: Callable[[np.ndarray], np.ndarray]) -> None:
        self._mask = mask

    def detect(self, frame: np.ndarray) -> Detections:
        mask = cv2.morphologyEx(self._mask(frame), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        boxes = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= AREA, :4].astype(float)
        boxes[:, 2:] += boxes[:, :2]
        return Detections.from_boxes(boxes - 0.5)


def _ours(**settings: Any) -> Callable[[Frames], Any]:
    def make(frames: Frames) -> BackgroundDetector:
        detector = BackgroundDetector(**settings)
        detector.prepare(frames)
        return detector

    return make


def _mog(frames: Frames) -> Plain:
    """OpenCV's adaptive mixture of Gaussians with its defaults: it learns as it goes."""
    model = cv2.createBackgroundSubtractorMOG2(detectShadows=False)
    return Plain(model.apply)


def _median(frames: Frames) -> Plain:
    """The median of 80 frames all over the video, and a threshold of 20 gray levels."""
    numbers = np.linspace(0, len(frames) - 1, 80).astype(int).tolist()
    ground = np.median([_gray(frames[i]) for i in numbers], axis=0).astype(np.uint8)
    return Plain(lambda frame: (cv2.absdiff(_gray(frame), ground) > 20).astype(np.uint8))


def _gray(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _detectors() -> dict[str, Callable[[Frames], Any]]:
    return {
        "dpk, number known": _ours(count=2),
        "dpk, number unknown": _ours(),
        "median of the video": _median,
        "MOG2 (OpenCV)": _mog,
    }


def _watch(
    make: Callable[[Frames], Any], reader: VideoReader
) -> tuple[list[Detections], float, np.ndarray]:
    """Detections of every frame, seconds of preparation, milliseconds of each frame."""
    began = time.perf_counter()
    detector = make(reader)
    prepared = time.perf_counter() - began
    found, took = [], []
    for frame in reader:
        began = time.perf_counter()
        found.append(detector.detect(frame))
        took.append(1000 * (time.perf_counter() - began))
    return found, prepared, np.array(took)


def _detection_table(found: dict[str, Any], truth: Rows) -> list[str]:
    lines = [
        f"detections, a match within {BODY / 4:.0f} px of the centre of the keypoints",
        f"{'':22s} {'frames':>9} {'recall':>7} {'precision':>9} {'centre px':>9} {'95 %':>6} "
        f"{'prepare s':>9} {'ms/frame':>8} {'95 %':>6}",
    ]
    for name, (detections, prepared, took) in found.items():
        for first, stop in ((0, MOVING), (MOVING, len(truth))):
            right, n, errors = 0, 0, []
            for i in range(first, stop):
                centers = np.stack([detections[i].x, detections[i].y], axis=1)
                apart = _distances(truth[i][1], centers)
                a, b = linear_sum_assignment(apart)
                near = apart[a, b][apart[a, b] < BODY / 4]
                right, n, errors = right + len(near), n + len(centers), [*errors, *near]
            wanted = 2 * (stop - first)
            speed = f" {prepared:9.1f} {took.mean():8.2f} {np.percentile(took, 95):6.2f}"
            lines.append(
                f"{name if not first else '':22s} {f'{first}-{stop - 1}':>9} "
                f"{right / wanted:7.4f} {right / max(n, 1):9.4f} "
                f"{np.mean(errors) if errors else np.nan:9.2f} "
                f"{np.percentile(errors, 95) if errors else np.nan:6.2f}"
                + (speed if not first else "")
            )
    return lines


def _tracking_table(found: dict[str, Any], truth: Rows) -> list[str]:
    lines = [
        f"tracks through the whole video, scored on frames {MOVING}-{len(truth) - 1}: by overlap "
        "of boxes (0.5), by centres",
        f"{'':50s} {'IDF1':>6} {'HOTA':>6} {'MOTA':>6} {'IDSW':>5} {'ids':>4}   {'IDF1':>6} "
        f"{'IDSW':>5} {'swapped':>8}",
    ]
    for detector, (detections, _, _) in found.items():
        for name, follow in _followers(detector).items():
            rows = follow(detections)[MOVING : len(truth)]
            wanted = truth[MOVING:]
            overlap = [box_iou(t[2], r[2]) for t, r in zip(wanted, rows, strict=True)]
            # Alike from 1 at no distance to 0.5 at a quarter of a body.
            near = [
                np.clip(1 - _distances(t[1], r[1]) / (BODY / 2), 0, 1)
                for t, r in zip(wanted, rows, strict=True)
            ]
            boxes, centers = _scores(wanted, rows, overlap), _scores(wanted, rows, near)
            n_ids = len(np.unique(np.concatenate([r[0] for r in rows])))
            lines.append(
                f"{name + ' on ' + detector:50s} {boxes['IDF1']:6.3f} {boxes['HOTA']:6.3f} "
                f"{boxes['MOTA']:6.3f} {boxes['IDSW']:5d} {n_ids:4d}   {centers['IDF1']:6.3f} "
                f"{centers['IDSW']:5d} {_swapped(wanted, rows):8d}"
            )
    return lines


def _thinned_table(found: dict[str, Any], truth: Rows) -> list[str]:
    """Frames with changed names where only every k-th frame of the video is seen."""
    chosen = ("dpk, number known", "dpk, number unknown")
    names = [(d, name, f) for d in chosen for name, f in _followers(d).items()]
    lines = [
        f"the same, when only every k-th frame is seen: share of frames {MOVING}-{len(truth) - 1} "
        "in which flies bear each other's id",
        f"{'':50s} " + " ".join(f"{f'k = {k}':>7}" for k in STRIDES),
    ]
    for detector, name, follow in names:
        shares = []
        for k in STRIDES:
            rows, wanted = follow(found[detector][0][::k]), truth[::k]
            first = -(-MOVING // k)
            swapped = _swapped(wanted[first:], rows[first : len(wanted)])
            shares.append(f"{swapped / (len(wanted) - first):7.3f}")
        lines.append(f"{name + ' on ' + detector:50s} " + " ".join(shares))
    return lines


def _heading_lines(found: dict[str, Any], path: Path) -> list[str]:
    """How far the angles of dpk fixed_count are from the line from abdomen to head."""
    tracks = _tracks(FixedCountTracker(count=2), found["dpk, number known"][0])
    labels = sleap_io.load_slp(str(path))
    head, tail = (labels.skeleton.index(name) for name in ("head", "abdomen"))
    apart: dict[bool, list[float]] = {False: [], True: []}
    for frame in labels.labeled_frames:
        here = tracks[np.flatnonzero(tracks.frame == frame.frame_idx)]
        for instance in frame.instances:
            points = instance.numpy()
            nearest = np.hypot(*(np.nanmean(points, 0) - np.stack([here.x, here.y], 1)).T).argmin()
            true = np.arctan2(*(points[head] - points[tail])[::-1])
            turn = np.angle(np.exp(1j * (here.angle[nearest] - true)))
            apart[frame.frame_idx >= MOVING].append(np.degrees(abs(turn)))
    lines = [
        "headings of dpk fixed_count beside the line from abdomen to head: share that points to "
        "the head, and degrees off"
    ]
    for which, span in ((False, f"0-{MOVING - 1}"), (True, f"{MOVING}-{LABELLED - 1}")):
        off = np.array(apart[which])
        lines.append(
            f"frames {span:>9}: {np.mean(off < 90):.4f}, median {np.median(off):.1f}, "
            f"95 % {np.percentile(off, 95):.1f}"
        )
    return lines


def _followers(detector: str) -> dict[str, Callable[[Sequence[Detections]], Rows]]:
    found: dict[str, Callable[[Sequence[Detections]], Rows]] = {}
    if detector.startswith("dpk"):
        for name, settings in (("fixed_count", {"count": 2}), ("kalman", {}), ("munkres", {})):
            make = registry().get("trackers", name).load()
            found[f"dpk {name}"] = lambda d, make=make, s=settings: _follow(make(**s), d)
        if detector == "dpk, number known":
            found["nearest to the frame before"] = _nearest
    found["ByteTrack (trackers)"] = _byte_track
    return found


def _tracks(tracker: Tracker, detections: Sequence[Detections]) -> Tracks:
    rows = [tracker.update(i, d, None) for i, d in enumerate(detections)]
    joined: dict[str, Any] = {
        name: np.concatenate([r.columns()[name] for r in rows]) for name in COLUMNS
    }
    return tracker.finish(Tracks(**joined))


def _follow(tracker: Tracker, detections: Sequence[Detections]) -> Rows:
    tracks = _tracks(tracker, detections)
    boxes = Detections(tracks.x, tracks.y, tracks.width, tracks.height, tracks.angle).boxes
    centers = np.stack([tracks.x, tracks.y], axis=1)
    return [
        (tracks.id[here], centers[here], boxes[here])
        for here in (np.flatnonzero(tracks.frame == i) for i in range(len(detections)))
    ]


def _nearest(detections: Sequence[Detections]) -> Rows:
    """The least that can be done with as many detections as animals in every frame."""
    rows: Rows = []
    last = np.stack([detections[0].x, detections[0].y], axis=1)
    for found in detections:
        centers = np.stack([found.x, found.y], axis=1)
        a, b = linear_sum_assignment(_distances(last, centers))
        last[a] = centers[b]
        rows.append((a, centers[b], found.boxes[b]))
    return rows


def _byte_track(detections: Sequence[Detections]) -> Rows:
    tracker = others.ByteTrackTracker(lost_track_buffer=60, frame_rate=25)
    rows = []
    for found in detections:
        given = supervision.Detections(
            xyxy=found.boxes.astype(np.float32).reshape(-1, 4), confidence=found.score
        )
        told = tracker.update(given)
        ids = np.empty(0, int) if told.tracker_id is None else told.tracker_id
        boxes = told.xyxy[ids >= 0].astype(float)
        rows.append((ids[ids >= 0], (boxes[:, :2] + boxes[:, 2:]) / 2, boxes))
    return rows


def _scores(truth: Rows, rows: Rows, alike: list[np.ndarray]) -> dict[str, Any]:
    true_ids, ids = [t[0] for t in truth], _renumbered([r[0] for r in rows])
    return {
        **compute_identity_metrics(true_ids, ids, alike),
        **compute_hota_metrics(true_ids, ids, alike),
        **compute_clear_metrics(true_ids, ids, alike),
    }


def _swapped(truth: Rows, rows: Rows) -> int:
    """Frames in which a fly's own id, that which it has most often, is nearer to the other fly."""
    held: list[list[int]] = [[], []]
    for t, r in zip(truth, rows, strict=True):
        if not len(r[0]):
            continue
        nearest = _distances(t[1], r[1]).argmin(axis=1)
        for fly, j in zip(t[0], nearest, strict=True):
            held[fly].append(int(r[0][j]))
    own = [max(set(ids), key=ids.count) for ids in held]
    return sum(a == own[1] or b == own[0] for a, b in zip(*held, strict=True))


def _renumbered(ids: list[np.ndarray]) -> list[np.ndarray]:
    _, numbers = np.unique(np.concatenate(ids), return_inverse=True)
    return np.split(numbers, np.cumsum([len(i) for i in ids])[:-1])


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1])


def _sheet(reader: VideoReader, found: list[Detections], numbers: Sequence[int]) -> np.ndarray:
    """Cut-outs around the flies, three times as large, brighter, with what was found."""
    tiles, zoom, (height, width) = [], 3, (170, 220)
    for number in numbers:
        here = found[number]
        left = int(np.clip(here.x.mean() - width / 2, 0, reader[number].shape[1] - width))
        top = int(np.clip(here.y.mean() - height / 2, 0, reader[number].shape[0] - height))
        tile = reader[number][top : top + height, left : left + width, ::-1]
        tile = cv2.resize(cv2.convertScaleAbs(tile, alpha=1.5), None, fx=zoom, fy=zoom)
        for x, y, w, h, angle in zip(
            here.x, here.y, here.width, here.height, here.angle, strict=True
        ):
            middle = ((x - left + 0.5) * zoom, (y - top + 0.5) * zoom)
            box = (middle, (w * zoom, h * zoom), float(np.degrees(angle)))
            cv2.ellipse(tile, box, (0, 220, 255), 2)
        cv2.putText(tile, str(number), (8, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255,) * 3, 2)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 6)
    return np.vstack([np.hstack(tiles[i : i + 6]) for i in range(0, len(tiles), 6)])


if __name__ == "__main__":
    main()
