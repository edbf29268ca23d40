"""What a benchmark ran on, in a few lines of text."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import numpy as np

PACKAGES = ("dpk-core", "dpk-models", "keras", "tensorflow", "jax", "torch", "numpy")


def describe_machine() -> list[str]:
    """Processor, cores, speed of a matrix product, versions."""
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return [
        f"machine   {_processor()}, {_cores()} cores, {platform.system()} {platform.machine()}",
        f"          float32 matrix product: {matmul_gflops():.0f} GFLOP/s; load "
        f"{_load()} before the start",
        f"versions  {', '.join(versions)}",
    ]


def matmul_gflops(n: int = 1536, seconds: float = 1.0) -> float:
    """GFLOP/s of NumPy's float32 matrix product: the best of a second's tries."""
    a = np.random.default_rng(0).standard_normal((n, n), dtype=np.float32)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        a @ a
        best = max(best, 2 * n**3 / (time.perf_counter() - began) / 1e9)
    return best


def data_folder(name: str) -> Path:
    """``$DPK_TEST_DATA/name``, otherwise ``../shared/data/name`` beside the project."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("DPK_TEST_DATA", beside)) / name


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    family = [line.split(":", 1)[1].strip() for line in lines if line.startswith("cpu family")]
    if not named:
        return platform.processor() or "unknown processor"
    return f"{named[0]} (family {family[0]})" if family else named[0]


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _load() -> str:
    try:
        return f"{os.getloadavg()[0]:.1f}"
    except OSError:
        return "unknown"
