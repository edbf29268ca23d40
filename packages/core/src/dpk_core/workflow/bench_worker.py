"""Measures one engine, in a process of its own: its memory is then its own, too.

Called by `dpk_core.workflow.bench`; prints one JSON object.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.errors import DpkError
from dpk_core.interfaces import Model
from dpk_core.services.engines import load_model


def measure(path: str, engine: str, precision: str, batch_sizes: list[int], seconds: float) -> Any:
    """Frames a second at each batch size, delay of one frame, and memory; as JSON values."""
    began = time.perf_counter()
    model = load_model(path, engine, precision, calibration=lambda: _noise(_shape_of(path), 16))
    images = _noise(_original_shape(model), max(batch_sizes))
    loaded = time.perf_counter() - began
    rates = {str(b): _frames_per_second(model, images, b, seconds) for b in batch_sizes}
    return {
        "engine": model.engine,
        "seconds_to_load": loaded,
        "frames_per_second": rates,
        "latency_ms": _latency(model, images[0], seconds),
        "peak_memory_mb": _peak_memory(),
    }


def _frames_per_second(model: Model, images: np.ndarray, batch_size: int, seconds: float) -> float:
    """The median over repeated calls of ``predict``, each of some batches."""
    images = images[:batch_size]
    model.predict(images, batch_size=batch_size)
    rates = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates) < 3:
        began = time.perf_counter()
        model.predict(images, batch_size=batch_size)
        rates.append(len(images) / (time.perf_counter() - began))
    return float(np.median(rates))


def _latency(model: Model, frame: np.ndarray, seconds: float) -> dict[str, float]:
    """Milliseconds from a frame to its coordinates, one frame at a time."""
    find = model.realtime()
    for _ in range(3):
        find(frame)
    delays = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(delays) < 20:
        began = time.perf_counter()
        find(frame)
        delays.append(1000 * (time.perf_counter() - began))
    median, worst = np.percentile(delays, (50, 99))
    return {"median": float(median), "p99": float(worst), "calls": len(delays)}


def _peak_memory() -> float | None:
    """MB; on Linux from the kernel's books of this program alone.

    ``ru_maxrss`` starts there with the memory of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _original_shape(model: Model) -> tuple[int, int, int]:
    height, width, channels = model.task.image_shape
    scale = model.task.scale
    return round(height / scale), round(width / scale), channels


def _shape_of(path: str) -> tuple[int, int, int]:
    return _original_shape(load_model(path))


def _noise(shape: tuple[int, int, int], n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)


if __name__ == "__main__":
    try:
        print(json.dumps(measure(**json.loads(sys.argv[1]))))
    except DpkError as error:
        print(json.dumps({"error": str(error)}))
