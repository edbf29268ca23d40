"""Keypoint rows a second and memory of conversions of a million predicted frames.

    python benchmarks/formats/run.py -o runs/formats

README.md beside this file says what is measured and what was seen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

PIECE = 8192
TARGETS = {"dpk": ".h5", "parquet": ".parquet", "csv": ".csv", "numpy": ".npz", "movement": ".nc"}
REFERENCE = "pandas to_csv"
GOAL = 200_000


def main() -> None:
    options = parse()
    if options.job:
        print(json.dumps(work(json.loads(options.job))))
        return
    from machine import describe_machine

    from dpk_core.services.storage import atomic_path

    options.output.mkdir(parents=True, exist_ok=True)
    lines = [
        f"Conversions of {options.frames:,} predicted frames with {options.keypoints} keypoints: "
        f"{options.frames * options.keypoints:,} keypoint rows",
        "",
        *describe_machine(),
        f"          {package_versions()}",
        "",
        *table(options),
    ]
    text = "\n".join(lines)
    with atomic_path(options.output / "table.txt", overwrite=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--frames", type=int, default=1_000_000)
    add("--keypoints", type=int, default=8)
    add(
        "--repeats", type=int, default=3, help="times that each conversion is done; the best counts"
    )
    add("-o", "--output", type=Path, default=Path("runs/formats"), help="folder for the results")
    add("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


def package_versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("pyarrow", "pandas", "h5py"))


# -- in the parent --------------------------------------------------------------------------------


def table(options: argparse.Namespace) -> Iterator[str]:
    """One line a conversion."""
    folder = options.output / "scratch"
    folder.mkdir(exist_ok=True)
    try:
        yield from measure(options, folder)
    finally:
        shutil.rmtree(folder)


def measure(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    few = folder / "few.h5"
    full = folder / "full.h5"
    rows = options.frames * options.keypoints
    expected = {}
    for path, frames in ((few, max(1, options.frames // 10)), (full, options.frames)):
        made = {"do": "make", "target": str(path), "frames": frames, "keypoints": options.keypoints}
        run(made)
        expected[path] = run({"do": "check", "path": str(path), "format": "dpk"})["sum"]
    heading = (
        f"{'':<26}{'rows/s':>12}{'x pandas':>10}{'peak MB':>9}{'of which':>10}{'peak MB at':>12}"
        f"{'file MB':>9}"
    )
    yield heading
    yield f"{'':<26}{'':>12}{'':>10}{'':>9}{'start':>10}{'a tenth':>12}"
    pandas = best(options, {"do": "pandas", "source": str(full), "target": str(folder / "p.csv")})
    reference = rows / pandas["seconds"]
    tenth = run({"do": "pandas", "source": str(few), "target": str(folder / "q.csv")})
    yield say(line(REFERENCE, reference, reference, pandas, tenth, folder / "p.csv"))
    (folder / "p.csv").unlink()
    slow = []
    pairs = [("dpk", to) for to in TARGETS] + [
        (source, "dpk") for source in TARGETS if source != "dpk"
    ]
    for source, target in pairs:
        start = {few: few, full: full}
        if source != "dpk":
            for path in start:
                start[path] = path.with_suffix(TARGETS[source])
        end = (
            folder / f"out{TARGETS[target]}"
            if target == "dpk"
            else full.with_suffix(TARGETS[target])
        )
        job = {"do": "convert", "from": source, "to": target}
        tenth_end = (
            folder / f"tenth{TARGETS[target]}"
            if target == "dpk"
            else few.with_suffix(TARGETS[target])
        )
        tenth = run({**job, "source": str(start[few]), "target": str(tenth_end)})
        done = best(options, {**job, "source": str(start[full]), "target": str(end)})
        found = run({"do": "check", "path": str(end), "format": target})["sum"]
        if not np.allclose(found, expected[full], rtol=1e-12):
            raise SystemExit(f"{source} -> {target} changed the coordinates: {found}")
        speed = rows / done["seconds"]
        yield say(line(f"{source} -> {target}", speed, reference, done, tenth, end))
        if target == "dpk":
            end.unlink()
            tenth_end.unlink()
        if speed < GOAL:
            slow.append(f"{source} -> {target}")
    yield ""
    yield f"goal of {GOAL:,} rows/s: {'missed by ' + ', '.join(slow) if slow else 'met by all'}"


def line(
    name: str,
    speed: float,
    reference: float,
    done: dict[str, Any],
    tenth: dict[str, Any],
    path: Path,
) -> str:
    size = path.stat().st_size / 1e6
    return (
        f"{name:<26}{speed:>12,.0f}{speed / reference:>10.2f}{done['peak']:>9.0f}"
        f"{done['start']:>10.0f}{tenth['peak']:>12.0f}{size:>9.0f}"
    )


def say(text: str) -> str:
    print(text, flush=True)
    return text


def best(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    """The quickest of some runs, with the largest peak of them."""
    runs = [run(job) for _ in range(options.repeats)]
    quickest = min(runs, key=lambda found: found["seconds"])
    return {**quickest, "peak": max(found["peak"] for found in runs)}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """A job in a process of its own, so that its peak is its own."""
    target = job.get("target")
    if target and os.path.exists(target):
        os.remove(target)
    done = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps(job)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


# -- in the child ---------------------------------------------------------------------------------


def work(job: dict[str, Any]) -> dict[str, Any]:
    """What the job says: seconds, and MB of memory at the start and at most."""
    act = {"make": make, "pandas": with_pandas, "convert": convert, "check": check}[job["do"]]
    prepared = act(job)
    start = peak_mb()
    began = time.perf_counter()
    result = prepared()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "start": start, "peak": peak_mb(), **(result or {})}


def make(job: dict[str, Any]) -> Any:
    """Poses as a model predicts them: half a percent of the keypoints missing."""
    from dpk_core.poses import Poses
    from dpk_core.services.storage import PosesWriter
    from dpk_core.skeleton import Skeleton

    k = job["keypoints"]
    skeleton = Skeleton(tuple(f"keypoint_{i}" for i in range(k)), [-1, *range(k - 1)])

    def write() -> None:
        rng = np.random.default_rng(0)
        with PosesWriter(job["target"], skeleton, {}, capacity_hint=job["frames"]) as writer:
            for start in range(0, job["frames"], PIECE):
                n = min(PIECE, job["frames"] - start)
                keypoints = rng.uniform(0, 1000, (n, k, 2)).astype(np.float32)
                keypoints[rng.random((n, k)) < 0.005] = np.nan
                scores = rng.random((n, k), np.float32)
                writer.append(Poses(keypoints, scores, skeleton, np.arange(start, start + n)))

    return write


def convert(job: dict[str, Any]) -> Any:
    """Read with one format, write with another."""
    from dpk_core.services.formats import get_format

    source, target = get_format(job["from"])[1], get_format(job["to"])[1]
    for module in ("pyarrow.csv", "pyarrow.parquet", "h5netcdf"):
        __import__(module)
    return lambda: target.write(job["target"], source.read(job["source"], "poses"))


def with_pandas(job: dict[str, Any]) -> Any:
    """The same CSV table as a scientist would write it: all of it in a DataFrame, then to_csv."""
    import pandas as pd

    from dpk_core.services.storage import read_poses

    def write() -> None:
        poses = read_poses(job["source"])
        n, k = poses.scores.shape
        table = pd.DataFrame(
            {
                "frame": np.repeat(poses.frames, k),
                "track": pd.array([pd.NA], dtype="Int32").repeat(n * k),
                "keypoint": pd.Categorical.from_codes(
                    np.tile(np.arange(k), n), poses.skeleton.names
                ),
                "x": poses.keypoints[..., 0].ravel(),
                "y": poses.keypoints[..., 1].ravel(),
                "score": poses.scores.ravel(),
            }
        )
        table.to_csv(job["target"], index=False)

    return write


def check(job: dict[str, Any]) -> Any:
    """Sums over everything, to see that nothing changed on the way."""
    from dpk_core.services.formats import get_format

    def add() -> dict[str, Any]:
        total = np.zeros(4)
        for piece in get_format(job["format"])[1].read(job["path"], "poses"):
            found = piece.keypoints.astype(np.float64)
            seen = np.isfinite(found)
            # weighted by the frame, so that rows in another order give another sum
            weights = (piece.frames % 997 + 1)[:, None, None]
            total += [
                seen.sum(),
                np.nansum(found),
                np.nansum(found * weights),
                piece.scores.sum(dtype=np.float64),
            ]
        return {"sum": total.tolist()}

    return add


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
