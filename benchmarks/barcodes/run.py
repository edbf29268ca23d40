"""How well tags are read: ours beside OpenCV's ArUco and AprilTag, on pictures with known truth.

    python benchmarks/barcodes/run.py -o runs/barcodes

README.md beside this file says what is measured and what was seen.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import attrs
import cv2
import numpy as np
from machine import data_folder, describe_machine

from dpk_core.services.storage import atomic_path
from dpk_trackers.barcodes import Readings, TagDictionary, TagReader, make_reader
from dpk_trackers.barcodes.synthetic import Scene, SceneSettings, render_scene

SIDES = (24, 18, 16)
SCENES = {
    "usual": SceneSettings(),
    "hard": SceneSettings(blur=(0.6, 1.0), motion=(0.0, 3.0), noise=(2.0, 6.0)),
}
NEAR = 3.0
"""Pixels within which a reading's centre is that of a tag."""
TUNED = {
    "adaptiveThreshWinSizeMin": 3,
    "adaptiveThreshWinSizeMax": 15,
    "adaptiveThreshWinSizeStep": 4,
    "minMarkerPerimeterRate": 0.01,
    "polygonalApproxAccuracyRate": 0.05,
    "perspectiveRemovePixelPerCell": 8,
    "cornerRefinementMethod": cv2.aruco.CORNER_REFINE_SUBPIX,
    "cornerRefinementWinSize": 2,
    "errorCorrectionRate": 1.0,
    "minDistanceToBorder": 1,
}
"""Of ArUco, the best found for small tags by hand on other scenes."""


@attrs.frozen
class Arm:
    """A reader, the tags that it reads, and what to call it."""

    name: str
    tags: str
    reader: str
    options: dict[str, Any] = attrs.field(factory=dict)


ARMS = (
    Arm("soft (ours)", "5x5 double", "soft"),
    Arm("ArUco, defaults", "5x5 double", "aruco"),
    Arm("ArUco, tuned", "5x5 double", "aruco", TUNED),
    Arm("ArUco, defaults", "DICT_5X5_100", "aruco"),
    Arm("ArUco, tuned", "DICT_5X5_100", "aruco", TUNED),
    Arm("AprilTag, defaults", "25h9", "apriltag", {"quad_decimate": 2.0}),
    Arm("AprilTag, full size", "25h9", "apriltag"),
    Arm("soft (ours)", "25h9", "soft"),
)

EMPTY_ARMS = tuple(ARMS[i] for i in (0, 2, 5, 7))
"""Those that look for false readings: ours, and of the others those that read most of such tags
in a bearable time."""


def dictionaries() -> dict[str, TagDictionary]:
    return {
        "5x5 double": TagDictionary.generate(5, distance=7, count=100, seed=0),
        "DICT_5X5_100": TagDictionary.predefined("DICT_5X5_100"),
        "25h9": TagDictionary.predefined("DICT_APRILTAG_25h9"),
    }


def main() -> None:
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    parts = {
        "tags": lambda: tags_table(options.frames, options.seed),
        "empty": lambda: empty_table(options.empty, options.seed),
        "photographs": photographs_table,
    }
    for name in options.parts:
        lines = [*describe_machine(), f"          OpenCV {cv2.__version__}", "", *parts[name]()]
        with atomic_path(options.output / f"{name}.txt", overwrite=True) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--parts", nargs="*", default=["tags", "empty", "photographs"], help="what to measure")
    add("--frames", type=int, default=20, help="pictures for each size and kind of scene")
    add("--empty", type=int, default=1000, help="pictures without tags")
    add("--seed", type=int, default=10_000)
    add("-o", "--output", type=Path, default=Path("runs/barcodes"), help="folder for the results")
    return parser.parse_args()


@attrs.define
class Tally:
    """What one arm did on all pictures of a kind."""

    tags: int = 0
    right: int = 0
    wrong: int = 0
    false: int = 0
    centre: list[float] = attrs.field(factory=list)
    corner: list[float] = attrs.field(factory=list)
    seconds: list[float] = attrs.field(factory=list)

    def add(self, scene: Scene, readings: Readings, seconds: float) -> None:
        self.tags += len(scene.ids)
        self.seconds.append(seconds)
        seen = np.zeros(len(scene.ids), bool)
        for reading in readings:
            apart = np.hypot(*(scene.centres - reading.centre).T)
            nearest = int(apart.argmin())
            if apart[nearest] > NEAR:
                self.false += 1
            elif scene.ids[nearest] != reading.id:
                self.wrong += 1
            elif not seen[nearest]:
                seen[nearest] = True
                self.centre.append(float(apart[nearest]))
                corners = np.hypot(*(scene.corners[nearest] - reading.corners).T)
                self.corner.append(float(corners.mean()))
        self.right += int(seen.sum())

    def row(self) -> str:
        centre = f"{np.mean(self.centre):7.3f}" if self.centre else "      -"
        corner = f"{np.mean(self.corner):7.3f}" if self.corner else "      -"
        return (
            f"{self.right / max(self.tags, 1):7.4f} {self.wrong:6d} {self.false:6d} {centre} "
            f"{corner} {1e3 * np.median(self.seconds):7.0f} {1e3 * np.min(self.seconds):7.0f}"
        )


def tags_table(frames: int, seed: int) -> list[str]:
    known = dictionaries()
    readers = [make_reader(arm.reader, known[arm.tags], **arm.options) for arm in ARMS]
    tallies: dict[tuple[str, int], list[Tally]] = {}
    for kind, settings in SCENES.items():
        for side in SIDES:
            rows = tallies[kind, side] = [Tally() for _ in ARMS]
            for frame in range(frames):
                scenes: dict[str, Scene] = {}
                for arm, reader, tally in zip(ARMS, readers, rows, strict=True):
                    if arm.tags not in scenes:
                        chosen = attrs.evolve(settings, side=float(side))
                        scenes[arm.tags] = render_scene(known[arm.tags], chosen, seed + frame)
                    tally.add(scenes[arm.tags], *timed(reader, scenes[arm.tags].image))
            for arm, tally in zip(ARMS, rows, strict=True):
                print(f"{kind} {side} {arm.name:20s} {arm.tags:13s} {tally.row()}", flush=True)
    lines = [
        f"{frames} pictures of 2048 x 2048 with 100 tags for each line; errors in pixels, time in "
        "ms a picture",
        "",
    ]
    for (kind, side), rows in tallies.items():
        lines += [
            f"{kind} scenes, black square {side} px",
            f"  {'reader':20s} {'tags':13s}  recall  wrong  false  centre  corner  median    best",
        ]
        lines += [
            f"  {arm.name:20s} {arm.tags:13s} {tally.row()}"
            for arm, tally in zip(ARMS, rows, strict=True)
        ]
        lines.append("")
    ours = [tally for rows in tallies.values() for tally in rows[:1]]
    read = sum(tally.right + tally.wrong + tally.false for tally in ours)
    lines.append(
        f"soft (ours) on 5x5 double, all lines: {read} readings, "
        f"{sum(tally.wrong for tally in ours)} with a wrong identity, "
        f"{sum(tally.false for tally in ours)} where no tag is"
    )
    print("\n".join(lines))
    return lines


def empty_table(frames: int, seed: int) -> list[str]:
    """Readings in pictures with clutter and bodies of all sizes and no tag."""
    known = dictionaries()
    readers = [make_reader(arm.reader, known[arm.tags], **arm.options) for arm in EMPTY_ARMS]
    found = np.zeros(len(EMPTY_ARMS), int)
    kinds = list(SCENES.values())
    for frame in range(frames):
        settings = attrs.evolve(kinds[frame % 2], count=0, side=float(SIDES[frame % 3]))
        image = render_scene(known["25h9"], settings, seed + 500_000 + frame).image
        found += [len(reader.read(image)) for reader in readers]
        if frame % 100 == 99:
            print(frame + 1, found.tolist(), flush=True)
    lines = [
        f"readings in {frames} pictures of 2048 x 2048 without tags, half of them hard; in each, "
        f"{SceneSettings().clutter * 2048**2 / 1e6:.0f} shapes, among them squares, frames and "
        "checkerboards of all sizes",
        "",
    ]
    lines += [
        f"  {arm.name:20s} {arm.tags:13s} {count:6d}"
        for arm, count in zip(EMPTY_ARMS, found, strict=True)
    ]
    print("\n".join(lines))
    return lines


def photographs_table() -> list[str]:
    """AprilTag's photographs: how many of the labelled tags are found, and how many others."""
    folder = data_folder("apriltag")
    tags = TagDictionary.predefined("DICT_APRILTAG_36h11")
    arms = (
        Arm("AprilTag, defaults", "36h11", "apriltag", {"quad_decimate": 2.0}),
        Arm("AprilTag, full size", "36h11", "apriltag"),
        Arm("ArUco, defaults", "36h11", "aruco"),
        Arm("soft (ours)", "36h11", "soft"),
    )
    lines = [
        "photographs of the AprilTag project, 799 x 533, family 36h11, labels incomplete",
        "",
        f"  {'photograph':28s} {'reader':20s} labelled  found  others  median distance, px",
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
            lines.append(
                f"  {path.stem:28s} {arm.name:20s} {len(truth):8d} {hit.sum():6d} "
                f"{len(readings) - hit.sum():7d} {np.median(nearest[hit]):10.2f}"
            )
    print("\n".join(lines))
    return lines


def _labels(path: Path) -> Readings:
    """Lines of ``id, (x y), (x y), (x y), (x y)``, counted from the corner of the first pixel."""
    rows = [re.findall(r"-?\d+\.?\d*", line) for line in path.read_text().splitlines() if line]
    values = np.array(rows, float)
    corners = values[:, 1:].reshape(-1, 4, 2) - 0.5
    return Readings(values[:, 0], corners, np.ones(len(values)), np.ones(len(values)))


def timed(reader: TagReader, image: np.ndarray) -> tuple[Readings, float]:
    began = time.perf_counter()
    readings = reader.read(image)
    return readings, time.perf_counter() - began


if __name__ == "__main__":
    main()
