"""What all contenders share: they measure when told to, and say what came of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

SIZE = 192


def serve(predict: Callable[[np.ndarray, int], np.ndarray], **facts: object) -> None:
    """Answer lines ``{"batch_size": b, "seconds": s}`` with frames a second, until the end.

    Parameters
    ----------
    predict
        Called with (n, 192, 192, 1) uint8 images and a batch size.
    facts
        Told in the first line.
    """
    images = np.random.default_rng(0).integers(0, 256, (128, SIZE, SIZE, 1), np.uint8)
    # Programs write to stdout as they like: only lines with this mark are ours.
    print("@" + json.dumps(facts), flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        size = wanted["batch_size"]
        some = images[: max(size, 8)]
        predict(some, size)
        rates = []
        end = time.perf_counter() + wanted["seconds"]
        while time.perf_counter() < end or not rates:
            began = time.perf_counter()
            predict(some, size)
            rates.append(len(some) / (time.perf_counter() - began))
        print("@" + json.dumps({"frames_per_second": float(np.median(rates))}), flush=True)
