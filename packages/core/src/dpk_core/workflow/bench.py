"""How fast a model predicts on this machine, with each engine and precision."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import DpkError, ValidationError
from dpk_core.services.conversion import CACHE_VARIABLE
from dpk_core.services.engines import PRECISIONS, open_model, plan_engine
from dpk_core.services.onnx.sessions import usable_cores
from dpk_core.services.plugins import registry
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_core.workflow.progress import Progress, ignore

BATCH_SIZES = (1, 32, 100)


@attrs.frozen
class EngineSpeed:
    """What was measured of one engine in one precision.

    Parameters
    ----------
    engine, precision
        What was asked for.
    description
        What it turned out to be, with version and device.
    frames_per_second
        By batch size: median over repeated calls of ``predict``, peaks included.
    latency_ms, latency_p99_ms
        From one frame to its coordinates through ``model.realtime()``: median and 99th percentile.
    peak_memory_mb
        Of the process, the framework included; None where the system does not tell.
    seconds_to_load
        Imports included; a first conversion too.
    error
        Why it could not be measured; empty when it was.
    """

    engine: str
    precision: str
    description: str = ""
    frames_per_second: dict[int, float] = attrs.field(factory=dict)
    latency_ms: float = float("nan")
    latency_p99_ms: float = float("nan")
    peak_memory_mb: float | None = None
    seconds_to_load: float = float("nan")
    error: str = ""


@attrs.frozen
class Benchmark:
    """The speeds of a model, and what the machine could do at best.

    Parameters
    ----------
    model, machine
        In words.
    speeds
        One for each engine and precision.
    operations
        Floating-point operations of the network for one frame; None when not known.
    matmul_per_second
        Floating-point operations a second that NumPy reaches in a large float32 matrix product
        here, in the same run.
    """

    model: str
    machine: str
    speeds: tuple[EngineSpeed, ...]
    operations: int | None
    matmul_per_second: float

    @property
    def bound(self) -> float | None:
        """Frames a second if the network ran as fast as a large matrix product in float32."""
        return self.matmul_per_second / self.operations if self.operations else None


def benchmark(
    model: str | PathLike[str] | None = None,
    *,
    name: str = "StackedDenseNet",
    hyperparameters: dict[str, Any] | None = None,
    image_shape: tuple[int, int, int] = (192, 192, 1),
    n_keypoints: int = 32,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = PRECISIONS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 3.0,
    progress: Progress = ignore,
) -> Benchmark:
    """Measure a model with every engine that can run it, each in a process of its own.

    Parameters
    ----------
    model
        A model file; None for an untrained network, which is as fast as a trained one.
    name, hyperparameters, image_shape, n_keypoints
        Of the untrained network.
    engines, precisions
        Measure only these; default all that can.
    batch_sizes
        Frames at once.
    seconds
        To measure each number.

    Raises
    ------
    FileMissingError, ModelFileError, PluginError
    ValidationError
        When no engine is left to measure.
    """
    if min(batch_sizes) < 1:
        raise ValidationError(f"batch_sizes: expected numbers from 1, found {list(batch_sizes)}")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise ValidationError(
                f"precision: expected {', '.join(PRECISIONS)}; found {precision!r}"
            )
    with tempfile.TemporaryDirectory() as folder, _cache_for(model, Path(folder)):
        progress(0, None, "preparing the model")
        path = Path(model) if model is not None else Path(folder) / "untrained.keras"
        if model is None:
            _untrained(name, hyperparameters or {}, image_shape, n_keypoints).save(path)
        plan_engine(path)  # says what is wrong with the file, or what is not installed
        pairs = list(_combinations(path, engines, precisions))
        if not pairs:
            raise ValidationError("no engine that is installed can run this model as asked")
        failures = _prepare(path, dict.fromkeys(engine for engine, _ in pairs))
        speeds = []
        for i, (engine, precision) in enumerate(pairs):
            progress(i, len(pairs), f"{engine}, {precision}")
            if engine in failures:
                speeds.append(EngineSpeed(engine, precision, error=failures[engine]))
            else:
                speeds.append(_measure(path, engine, precision, list(batch_sizes), seconds))
        progress(len(pairs), len(pairs), "the machine itself")
        described = _describe(path, name if model is None else None)
        return Benchmark(described, _machine(), tuple(speeds), _operations(path), _matmul_speed())


@contextmanager
def _cache_for(model: str | PathLike[str] | None, folder: Path) -> Iterator[None]:
    """A network that nobody will use again does not belong into the user's cache."""
    before = os.environ.get(CACHE_VARIABLE)
    if model is None:
        os.environ[CACHE_VARIABLE] = str(folder / "cache")
    try:
        yield
    finally:
        if before is not None:
            os.environ[CACHE_VARIABLE] = before
        elif model is None:
            del os.environ[CACHE_VARIABLE]


def _prepare(path: Path, engines: Iterable[str]) -> dict[str, str]:
    """Convert for each engine: that takes more memory than what is measured.

    Why it failed, by engine, where it did.
    """
    failures = {}
    for engine in engines:
        try:
            open_model(plan_engine(path, engine))
        except (DpkError, MemoryError) as error:
            failures[engine] = " ".join(str(error).split()) or "too little memory"
    return failures


def _untrained(
    name: str, hyperparameters: dict[str, Any], shape: tuple[int, int, int], n_keypoints: int
) -> Any:
    # Chains of three, so that there is a posture graph, about as in DeepPoseKit's fly.
    names = tuple(f"keypoint_{i}" for i in range(n_keypoints))
    skeleton = Skeleton(names, [i - 1 if i % 3 else -1 for i in range(n_keypoints)])
    cls = registry().get("models", name).load()
    errors = []
    for downsample_factor in (2, 0, 3):  # not every network has every output stride
        try:
            task = Task(shape, skeleton, downsample_factor=downsample_factor)
            return cls(task, **hyperparameters)
        except ValidationError as error:
            errors.append(error)
    raise errors[0]


def _combinations(
    path: Path, engines: Sequence[str], precisions: Sequence[str]
) -> Iterator[tuple[str, str]]:
    names = list(engines) or [spec.name for spec in registry().specs("engines")]
    for engine in names:
        for precision in precisions:
            try:
                plan_engine(path, engine, precision)
            except DpkError:
                if engine in engines and precision == "float32":
                    raise
                continue
            yield engine, precision


def _measure(
    path: Path, engine: str, precision: str, batch_sizes: list[int], seconds: float
) -> EngineSpeed:
    arguments = {
        "path": str(path),
        "engine": engine,
        "precision": precision,
        "batch_sizes": batch_sizes,
        "seconds": seconds,
    }
    done = subprocess.run(
        [sys.executable, "-m", "dpk_core.workflow.bench_worker", json.dumps(arguments)],
        capture_output=True, text=True, check=False,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return EngineSpeed(engine, precision, error=last)
    found = json.loads(lines[-1])
    if "error" in found:
        return EngineSpeed(engine, precision, error=found["error"])
    return EngineSpeed(
        engine,
        precision,
        description=found["engine"],
        frames_per_second={int(b): rate for b, rate in found["frames_per_second"].items()},
        latency_ms=found["latency_ms"]["median"],
        latency_p99_ms=found["latency_ms"]["p99"],
        peak_memory_mb=found["peak_memory_mb"],
        seconds_to_load=found["seconds_to_load"],
    )


def _describe(path: Path, untrained: str | None) -> str:
    from dpk_core.services.onnx.description import OnnxDescription, read_metadata
    from dpk_core.workflow.describe import describe_file

    if path.suffix.lower() == ".onnx":
        task = OnnxDescription.from_metadata(read_metadata(path), path).task
        height, width, channels = task.image_shape
        return f"{path.name}: {height}x{width}x{channels}, {task.n_keypoints} keypoints"
    facts = describe_file(path)
    name = f"{untrained}, untrained" if untrained else f"{path.name} ({facts.get('model')})"
    return f"{name}: images {facts.get('images')}, {len(facts.get('keypoints', ()))} keypoints"


def _operations(path: Path) -> int | None:
    """Of the network's ONNX form, which the engines' runs have left in the cache."""
    from dpk_core.services.engines import exported_file
    from dpk_core.services.onnx.operations import count_operations

    try:
        found = exported_file(path)
        return count_operations(found) if found else None
    except ImportError:
        return None


def _matmul_speed(n: int = 2048, seconds: float = 1.0) -> float:
    """The best of repeated float32 products of two n x n matrices, operations a second."""
    a = np.random.default_rng(0).random((n, n), np.float32)
    best = np.inf
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def _machine() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), name)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {usable_cores()} cores, {platform.system()}{load}"
