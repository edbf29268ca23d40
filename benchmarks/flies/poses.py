"""From a video of two flies to a pose track for each, with dpk's own commands, beside the labels.

    python benchmarks/flies/poses.py --minutes 6 -o runs/flies-poses

README.md beside this file says what is measured and how.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from machine import data_folder, describe_machine
from scipy.optimize import linear_sum_assignment

from dpk_core.annotations import AnnotationSet
from dpk_core.poses import Poses
from dpk_core.services.individuals import crop_individuals, keypoints_in_frames
from dpk_core.services.plugins import registry
from dpk_core.services.storage import atomic_path, read_poses, write_annotations

MOVING, UNSEEN, LABELLED = 950, 1150, 1250
"""Frames: from the first on flies run, from the second on nothing is trained on, to the third."""
THINNED = 25
"""Of the frames before the flies run, one in so many is trained on."""
BODY = 95.0
"""Pixels of a fly's length."""


def main() -> None:
    options = parse()
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    lines = describe_machine()
    labels = read_labels(options.data / "clip.slp")
    video = str(options.data / "clip.mp4")
    trained = cut_out(labels, trained_on(), options.size, output / "train.h5")
    unseen = cut_out(labels, range(UNSEEN, LABELLED), options.size, output / "unseen.h5")
    took = {
        "train": dpk(
            "train", output / "train.h5", "-o", output / "model.keras", "--time-limit",
            f"{options.minutes * 60:.0f}s", "--grayscale", "--no-graph", "--validation-split", "0",
            "--scale", options.scale, "--batch-size", "8", "--set", "n_stacks=1", "--set",
            "growth_rate=32", "--sigma", options.sigma, "--seed", options.seed, "--force",
        ),
        "evaluate": dpk("evaluate", output / "model.keras", output / "unseen.h5", "--only", "all"),
        "track": dpk(
            "track", video, "-o", output / "flies.tracks.h5", "--tracker", "fixed_count",
            "--set", "count=2", "--force",
        ),
        "predict": dpk(
            "predict", output / "model.keras", video, "--tracks", output / "flies.tracks.h5", "-o",
            output / "flies.poses.h5", "--start", UNSEEN, "--force",
        ),
        "render": dpk(
            "render", output / "flies.poses.h5", video, "--tracks", output / "flies.tracks.h5",
            "-o", output / "labelled.mp4", "--start", UNSEEN, "--force",
        ),
    }  # fmt: skip
    lines += [
        f"training  {options.minutes:g} minutes on {trained} crops of {options.size} px, scaled "
        f"by {options.scale:g}, seed {options.seed}; unseen: {unseen} crops of frames "
        f"{UNSEEN}-{LABELLED - 1}",
        "seconds   " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items()),
        "",
        *chain_table(labels, read_poses(output / "flies.poses.h5")),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    with atomic_path(output / "table.txt", overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=data_folder("flies-clip"), help="folder of clip.mp4, clip.slp")
    add("--minutes", type=float, default=6, help="of training")
    add("--size", type=int, default=192, help="side of the crops in pixels")
    add("--scale", type=float, default=0.5, help="by which crops are resized for training")
    add("--sigma", type=float, default=3.0, help="of the confidence peaks in resized pixels")
    add("--seed", type=int, default=0)
    add("-o", "--output", type=Path, default=Path("runs/flies-poses"), help="for the results")
    return parser.parse_args()


def dpk(*words: object) -> float:
    """Run a command as a user types it; seconds that it took."""
    program = Path(sys.executable).with_name("dpk")
    began = time.perf_counter()
    print("$ dpk", *words, flush=True)
    subprocess.run([str(program), *map(str, words)], check=True)
    return time.perf_counter() - began


def read_labels(path: Path) -> AnnotationSet:
    """A row for each fly in each frame, in pixels of whole frames."""
    return registry().get("formats", "sleap").load()().read(path)


def trained_on() -> list[int]:
    return [*range(0, MOVING, THINNED), *range(MOVING, UNSEEN)]


def cut_out(labels: AnnotationSet, frames: list[int] | range, size: int, path: Path) -> int:
    """Write the crops of those frames; their number."""
    number = np.array([source.frame for source in labels.sources])
    chosen = labels.subset(np.flatnonzero(np.isin(number, list(frames))))
    crops = crop_individuals(chosen, size)
    write_annotations(path, crops, overwrite=True)
    return len(crops)


def chain_table(labels: AnnotationSet, poses: Poses) -> list[str]:
    """Errors of what came out at the end of the chain, in pixels of the video.

    Tracks are named once, for all frames together; a pose of the wrong fly counts with all of the
    distance between the two.
    """
    true, who, number = _unseen(labels)
    names = sorted(set(who))
    frames = np.unique(number)
    paths = np.full((len(names), len(frames), *true.shape[1:]), np.nan)
    for fly, name in enumerate(names):
        rows = who == name
        paths[fly, np.searchsorted(frames, number[rows])] = true[rows]
    ids = np.unique(poses.track_ids)
    found = np.full((len(ids), len(frames), *true.shape[1:]), np.nan)
    for k, track in enumerate(ids):
        rows = np.flatnonzero((poses.track_ids == track) & np.isin(poses.frames, frames))
        found[k, np.searchsorted(frames, poses.frames[rows])] = poses.keypoints[rows]
    apart = np.linalg.norm(paths[:, None] - found[None], axis=-1)  # fly, track, frame, keypoint
    a, b = linear_sum_assignment(np.nanmean(apart, axis=(2, 3)))
    center = np.nanmean(apart, axis=3)
    swapped = int((center[a, b] > center[a, b[::-1]]).any(axis=0).sum()) if len(b) == 2 else -1
    errors = apart[a, b]
    missing = int((np.isnan(errors) & np.isfinite(paths[a]).all(axis=-1)).sum())
    lines = [
        f"video -> tracks -> poses, frames {frames[0]}-{frames[-1]}: {len(ids)} tracks for "
        f"{len(names)} flies; frames in which they are swapped: {swapped}; labelled keypoints "
        f"without an answer: {missing}",
        f"{'error in px (a fly is 95 long)':32s} {'mean':>6} {'median':>6} {'95 %':>6} "
        f"{'<5 px':>6} {'<10 px':>6}",
        _row("all", errors),
        *(_row(name, errors[a == fly]) for fly, name in enumerate(names)),
        *(_row(name, errors[..., k]) for k, name in enumerate(labels.skeleton.names)),
    ]
    return lines


def _unseen(labels: AnnotationSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keypoints in the frames that nothing was trained on, whose they are, numbers of frames."""
    number = np.array([source.frame for source in labels.sources])
    rows = np.flatnonzero((number >= UNSEEN) & (number < LABELLED))
    chosen = labels.subset(rows)
    who = np.array([source.individual for source in chosen.sources])
    return keypoints_in_frames(chosen), who, number[rows]


def _row(name: str, errors: np.ndarray) -> str:
    known = errors[np.isfinite(errors)]
    return (
        f"{name:32s} {known.mean():6.2f} {np.median(known):6.2f} {np.percentile(known, 95):6.2f} "
        f"{(known < 5).mean():6.3f} {(known < 10).mean():6.3f}"
    )


if __name__ == "__main__":
    main()
