"""Where our reader's time goes: each stage by processor time and by the clock, on one thread.

    python benchmarks/barcodes/stages.py

Times of a stage leave out those of the stages that it calls.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import attrs
import cv2
import numpy as np
from arms import dictionaries
from machine import describe_machine
from run import SCENES, SIDES

from dpk_trackers.barcodes import quads, soft_reader
from dpk_trackers.barcodes.soft_reader import SoftReader
from dpk_trackers.barcodes.synthetic import render_scene

STAGES: dict[Any, tuple[str, ...]] = {
    soft_reader: (
        "pyramid",
        "find_quads",
        "homographies",
        "quick_ring_score",
        "refine_corners",
        "read_gray",
        "ring_score",
        "decode",
        "fitting_blur",
        "align",
        "contradiction",
        "_best_of_each",
    ),
    quads: ("_masks", "_limit", "_without_specks", "_outlined", "_fit", "_extremes"),
    SoftReader: ("read", "_read_level", "_readings"),
    cv2: ("findContours",),
}


class Clock:
    """Time within functions, less that within others of them."""

    def __init__(self) -> None:
        self.spent: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))
        self._inner: list[np.ndarray] = []

    def watch(self, owner: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **options: Any) -> Any:
            self._inner.append(np.zeros(2))
            began = np.array([time.process_time(), time.perf_counter()])
            result = function(*args, **options)
            took = np.array([time.process_time(), time.perf_counter()]) - began
            self.spent[name] += [*(took - self._inner.pop()), 1]
            if self._inner:
                self._inner[-1] += took
            return result

        setattr(owner, name, watched)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=4, help="pictures of each size and kind")
    parser.add_argument("--seed", type=int, default=10_000)
    options = parser.parse_args()
    clock = Clock()
    for owner, names in STAGES.items():
        for name in names:
            clock.watch(owner, name)
    tags = dictionaries()["5x5 double"]
    reader = SoftReader(tags, threads=1)
    pictures = 0
    for kind in ("usual", "hard"):
        for side in SIDES:
            for frame in range(options.frames):
                settings = attrs.evolve(SCENES[kind], side=float(side))
                image = render_scene(tags, settings, options.seed + frame).image
                if not pictures:  # the first makes the templates
                    reader.read(image)
                    clock.spent.clear()
                reader.read(image)
                pictures += 1
    print("\n".join(describe_machine()))
    print(f"\n{pictures} pictures, usual and hard; milliseconds a picture, one thread of ours,")
    print(f"{cv2.getNumThreads()} of OpenCV's\n\n  stage              processor   clock   calls")
    rows = sorted(clock.spent.items(), key=lambda row: -row[1][0])
    rows.append(("all", np.sum([spent for _, spent in rows], axis=0)))
    for name, spent in rows:
        work, clocked, calls = spent / pictures * [1e3, 1e3, 1]
        print(f"  {name:18s} {work:9.1f} {clocked:7.1f} {calls:7.1f}")


if __name__ == "__main__":
    main()
