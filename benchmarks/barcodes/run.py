"""How well tags are read: ours beside OpenCV's ArUco and AprilTag, on pictures with known truth.

    python benchmarks/barcodes/run.py -o runs/barcodes

README.md beside this file says what is measured and what was seen.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import attrs
import cv2
import numpy as np
from arms import ARMS, EMPTY_ARMS, FILM_ARMS, Arm, dictionaries
from film import film_table
from machine import data_folder, describe_machine
from tally import Log, Tally

from dpk_core.services.storage import atomic_path
from dpk_trackers.barcodes import Readings, TagDictionary, TagReader, make_reader
from dpk_trackers.barcodes.synthetic import Scene, SceneSettings, render_scene

OTHERS_EVERY = 5
"""Of pictures without tags, other programs read one in so many: they take their time."""
SIDES = (24, 18, 16)
SCENES = {
    "usual": SceneSettings(),
    "hard": SceneSettings(blur=(0.6, 1.0), motion=(0.0, 3.0), noise=(2.0, 6.0)),
    "soiled": SceneSettings(dirt=(0.0, 0.15)),
}
PARTS = ["tags", "identities", "empty", "film", "photographs"]


def main() -> None:
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    parts = {
        "tags": lambda: tags_table(options.frames, options.seed, options.output),
        "empty": lambda: empty_table(options.empty, options.seed, options.output),
        "identities": lambda: identities_table(options.identities, options.seed, options.output),
        "film": lambda: film_table(FILM_ARMS, options.films, options.seed, options.output),
        "photographs": photographs_table,
    }
    for name in options.parts:
        lines = [*describe_machine(), f"          OpenCV {cv2.__version__}", "", *parts[name]()]
        print("\n".join(lines), flush=True)
        with atomic_path(options.output / f"{name}.txt", overwrite=True) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--parts", nargs="*", default=PARTS, choices=PARTS, help="what to measure")
    add("--frames", type=int, default=8, help="pictures for each size and kind of scene")
    add("--empty", type=int, default=1000, help="pictures without tags")
    add("--identities", type=int, default=60, help="pictures for our reader alone")
    add("--films", type=int, default=1, help="films of each kind")
    add("--seed", type=int, default=10_000)
    add("-o", "--output", type=Path, default=Path("runs/barcodes"), help="folder for the results")
    return parser.parse_args()


def tags_table(frames: int, seed: int, output: Path) -> list[str]:
    known = dictionaries()
    readers = [make_reader(arm.reader, known[arm.tags], **arm.options) for arm in ARMS]
    log = Log(output / "tags.jsonl", {"part": "tags", "seed": seed})
    tallies: dict[tuple[str, int], list[Tally]] = {}
    for kind, settings in SCENES.items():
        for side in SIDES:
            rows = [Tally() for _ in ARMS]
            chosen = attrs.evolve(settings, side=float(side))
            for frame in range(frames):
                measure = functools.partial(_read_all, readers, chosen, seed + frame)
                found = log.get(f"{kind} {side} {frame}", measure)
                rows = [row.plus(Tally(**one)) for row, one in zip(rows, found, strict=True)]
            tallies[kind, side] = rows
            print(f"{kind} {side} {ARMS[0].name} {rows[0].row()}", flush=True)
    lines = [
        f"{frames} pictures of 2048 x 2048 with 100 tags for each line; errors in pixels, time in "
        "ms a picture: by the clock, the median and the best; work: processor time, all threads",
        "",
    ]
    for (kind, side), rows in tallies.items():
        lines += [
            f"{kind} scenes, black square {side} px",
            f"  {'reader':20s} {'tags':13s}  recall  wrong  false  centre  corner  median    best"
            "    work",
        ]
        lines += [
            f"  {arm.name:20s} {arm.tags:13s} {tally.row()}"
            for arm, tally in zip(ARMS, rows, strict=True)
        ]
        lines.append("")
    for kinds in (("usual", "hard"), ("soiled",)):
        ours = [rows[0] for (kind, _), rows in tallies.items() if kind in kinds]
        read = sum(tally.right + tally.wrong + tally.false for tally in ours)
        lines.append(
            f"soft (ours) on 5x5 double, {' and '.join(kinds)} scenes: {read} readings, "
            f"{sum(tally.wrong for tally in ours)} with a wrong identity, "
            f"{sum(tally.false for tally in ours)} where no tag is"
        )
    return lines


def _read_all(readers: list[TagReader], settings: SceneSettings, seed: int) -> list[dict[str, Any]]:
    """What each arm does on one scene, which has its own tags."""
    known = dictionaries()
    scenes: dict[str, Scene] = {}
    tallies = []
    for arm, reader in zip(ARMS, readers, strict=True):
        if arm.tags not in scenes:
            scenes[arm.tags] = render_scene(known[arm.tags], settings, seed)
        tally = Tally()
        tally.add(scenes[arm.tags], *timed(reader, scenes[arm.tags].image))
        tallies.append(attrs.asdict(tally))
    return tallies


def identities_table(frames: int, seed: int, output: Path) -> list[str]:
    """Our reader alone on many more pictures: how many of its readings name the wrong tag."""
    tags = dictionaries()["5x5 double"]
    reader = make_reader("soft", tags)
    log = Log(output / "identities.jsonl", {"part": "identities", "seed": seed})
    kinds = [SCENES["usual"], SCENES["hard"]]

    def measure(frame: int) -> dict[str, Any]:
        settings = attrs.evolve(kinds[frame % 2], side=float(SIDES[frame % 3]))
        scene = render_scene(tags, settings, seed + 200_000 + frame)
        tally = Tally()
        tally.add(scene, *timed(reader, scene.image))
        return attrs.asdict(tally)

    total = Tally()
    for frame in range(frames):
        total = total.plus(Tally(**log.get(str(frame), functools.partial(measure, frame))))
    read = len(total.centre) + total.wrong + total.false
    return [
        f"soft (ours) on 5x5 double, {frames} more pictures, usual and hard, 24, 18, 16 px:",
        f"{read} readings of {total.tags} tags, {total.wrong} with a wrong identity, {total.false} "
        "where no tag is",
    ]


def empty_table(frames: int, seed: int, output: Path) -> list[str]:
    """Readings in pictures with clutter and bodies of all sizes and no tag."""
    known = dictionaries()
    readers = [make_reader(arm.reader, known[arm.tags], **arm.options) for arm in EMPTY_ARMS]
    log = Log(output / "empty.jsonl", {"part": "empty", "seed": seed})
    kinds = [SCENES["usual"], SCENES["hard"]]

    def measure(frame: int) -> list[int]:
        settings = attrs.evolve(kinds[frame % 2], count=0, side=float(SIDES[frame % 3]))
        image = render_scene(known["25h9"], settings, seed + 500_000 + frame).image
        asked = [arm.reader == "soft" or frame % OTHERS_EVERY == 0 for arm in EMPTY_ARMS]
        return [
            len(reader.read(image)) if wanted else -1
            for reader, wanted in zip(readers, asked, strict=True)
        ]

    found = np.zeros((2, len(EMPTY_ARMS)), int)
    for frame in range(frames):
        counts = np.array(log.get(str(frame), functools.partial(measure, frame)))
        found += counts >= 0, counts.clip(0)
        if frame % 50 == 49:
            print(frame + 1, found[1].tolist(), flush=True)
    lines = [
        f"readings in up to {frames} pictures of 2048 x 2048 without tags, half of them hard; each",
        f"has {SceneSettings().clutter * 2048**2 / 1e6:.0f} shapes: squares, frames, "
        "checkerboards, ... of all sizes",
        "",
        f"  {'reader':20s} {'tags':13s} pictures  readings",
    ]
    lines += [
        f"  {arm.name:20s} {arm.tags:13s} {pictures:8d}  {count:8d}"
        for arm, pictures, count in zip(EMPTY_ARMS, *found, strict=True)
    ]
    return lines


def photographs_table() -> list[str]:
    """AprilTag's photographs: how many of the labelled tags are found, and what else."""
    folder = data_folder("apriltag")
    tags = TagDictionary.predefined("DICT_APRILTAG_36h11")
    arms = (
        Arm("AprilTag, defaults", "36h11", "apriltag", {"quad_decimate": 2.0}),
        Arm("AprilTag, full size", "36h11", "apriltag"),
        Arm("ArUco, defaults", "36h11", "aruco"),
        Arm("soft (ours)", "36h11", "soft"),
    )
    lines = [
        "photographs of the AprilTag project, 799 x 533, family 36h11; all tags are number 0, and",
        "the labels are incomplete: further readings of number 0 lie on tags, too",
        "",
        f"  {'photograph':26s} {'reader':20s} labelled  found  further  other ids  distance, px",
    ]
    for path in sorted(folder.glob("*.jpg")):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        truth = _labels(path.with_suffix(".txt"))
        for arm in arms:
            readings = make_reader(arm.reader, tags, **arm.options).read(image)
            apart = np.linalg.norm(readings.centre[None] - truth.centre[:, None], axis=-1)
            apart = np.where(readings.id[None] == truth.id[:, None], apart, np.inf)
            nearest = apart.min(axis=1, initial=np.inf)
            hit = nearest < 6
            same = int(np.isin(readings.id, truth.id).sum())
            lines.append(
                f"  {path.stem:26s} {arm.name:20s} {len(truth):8d} {hit.sum():6d} "
                f"{same - hit.sum():8d} {len(readings) - same:10d} {np.median(nearest[hit]):13.2f}"
            )
    return lines


def _labels(path: Path) -> Readings:
    """Lines of ``id, (x y), (x y), (x y), (x y)``, counted from the corner of the first pixel."""
    rows = [re.findall(r"-?\d+\.?\d*", line) for line in path.read_text().splitlines() if line]
    values = np.array(rows, float)
    corners = values[:, 1:].reshape(-1, 4, 2) - 0.5
    return Readings(values[:, 0], corners, np.ones(len(values)), np.ones(len(values)))


def timed(reader: TagReader, image: np.ndarray) -> tuple[Readings, float, float]:
    """The readings, seconds by the clock, and seconds of processor time."""
    began, worked = time.perf_counter(), time.process_time()
    readings = reader.read(image)
    return readings, time.perf_counter() - began, time.process_time() - worked


if __name__ == "__main__":
    main()
