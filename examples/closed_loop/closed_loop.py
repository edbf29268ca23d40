"""Act on a keypoint while the animal moves: a light that is on while the head is in a zone.

    python closed_loop.py model.keras film.mp4 --keypoint head --zone 40 30 90 80

The film stands in for a camera: put your camera's frames in place of `frames`, and what switches
your light, valve or stimulus in place of `Light`. Everything from the frame to the switch happens
in one process; at the end it prints how long that took.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from dpk_core import VideoReader, load_model


class Light:
    """Stands in for a digital output; tells when it is switched."""

    def __init__(self) -> None:
        self.is_on = False
        self.switched = 0

    def set(self, on: bool, frame: int) -> None:
        if on != self.is_on:
            self.is_on = on
            self.switched += 1
            print(f"frame {frame}: light {'on' if on else 'off'}")


def frames(path: str) -> Iterator[np.ndarray]:
    """(h, w, c) uint8 images, one after the other, as a camera gives them."""
    with VideoReader(path) as reader:
        yield from reader.frames()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("film")
    parser.add_argument("--keypoint", required=True)
    parser.add_argument("--zone", type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"))
    parser.add_argument("--score", type=float, default=0.3, help="below it, nothing is switched")
    options = parser.parse_args()

    model = load_model(options.model)
    watched = model.skeleton.index(options.keypoint)
    x0, y0, x1, y1 = options.zone
    find = model.realtime()
    find.warm_up()  # the first call compiles the network: not while the animal is watched
    light = Light()
    delays = []
    for number, frame in enumerate(frames(options.film)):
        began = time.perf_counter()
        x, y, score = find(frame)[watched]
        if score >= options.score:  # a guess switches nothing
            light.set(bool(x0 <= x <= x1 and y0 <= y <= y1), number)
        delays.append(1000 * (time.perf_counter() - began))
    median, worst = np.percentile(delays, (50, 99))
    print(
        f"{len(delays)} frames by {model.engine}; from frame to switch {median:.1f} ms, 99 % below "
        f"{worst:.1f} ms; switched {light.switched} times"
    )


if __name__ == "__main__":
    main()
