"""The paper's experiments: the posture graph, and the models, on images of another time.

    python benchmarks/experiments/run.py graph --budget 30 -o runs/experiments
    python benchmarks/experiments/run.py models --budget 60 -o runs/experiments

One folder can hold both: what they share is trained once. README.md beside this file says what is
compared and what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import attrs
from experiments.data import ANIMALS, Animal, available
from experiments.figures import draw_figures
from experiments.plan import Plan, affordable, arms
from experiments.report import tables
from experiments.training import measure, training_speed
from machine import describe_machine, matmul_gflops

from dpk_core.errors import DpkWarning
from dpk_core.progress import TrainProgress
from dpk_core.services.devices import has_gpu
from dpk_core.services.storage import atomic_path

RUNS = "runs.jsonl"


def main(arguments: Sequence[str] | None = None) -> None:
    warnings.simplefilter("ignore", DpkWarning)
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    animals = {name: ANIMALS[name]() for name in options.data}
    plan = settle(options, animals)
    results = read_runs(options.output / RUNS)
    runs = list(plan.runs(options.experiment, animals))
    waiting = [run for run in runs if run.key not in results]
    say(f"{len(runs)} trainings, {len(runs) - len(waiting)} of them done before")
    for number, run in enumerate(waiting[: options.at_most]):
        say(f"[{len(runs) - len(waiting) + number + 1}/{len(runs)}] {run.key}")
        before = {"gflops": round(matmul_gflops(), 1), "load": load()}
        result = {**measure(run, animals[run.animal], plan, Ticker()), **before}
        if result["stopped"] == "interrupted":
            sys.exit("interrupted: this training is not kept, those before it are")
        append_run(options.output / RUNS, result)
        results[run.key] = result
        say("    " + in_short(result))
    done = [results[run.key] for run in runs if run.key in results]
    report(options, described(options.experiment, plan, animals), done)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("experiment", choices=["graph", "models"])
    add("--budget", type=float, default=30, help="minutes for all trainings, about")
    add(
        "-o", "--output", type=Path, default=Path("runs/experiments"), help="folder for the results"
    )
    add("--data", nargs="+", default=available(), choices=list(ANIMALS))
    add("--repeats", type=int, help="instead of what the budget allows; so are the next ones")
    add("--images", type=int, help="that each training sees")
    add("--sizes", type=int, nargs="*", help="numbers of training images, in fives")
    add("--size-repeats", type=int, help="repeats at those numbers")
    add("--scale", type=float, help="of the images")
    add("--width", choices=["small", "paper"], help="of the networks; default: paper on a GPU")
    add("--learning-rate", type=float, help="one for all models, instead of each one's own")
    add(
        "--no-graph",
        dest="use_graph",
        action="store_false",
        default=None,
        help="the models that are compared learn keypoints alone",
    )
    add("--at-most", type=int, help="end after so many trainings; the next start goes on")
    options = parser.parse_args(arguments)
    if any(n < 5 or n % 5 for n in options.sizes or ()):
        parser.error("--sizes: expected multiples of 5, the images of a batch")
    return options


def settle(options: argparse.Namespace, animals: dict[str, Animal]) -> Plan:
    """The plan of an earlier start, or a new one, told before anything is trained."""
    path = options.output / f"{options.experiment}-plan.json"
    if path.exists():
        plan = Plan.load(path)
        say(f"going on with the plan in {path}; another folder makes a new one")
    else:
        plan, seconds = new_plan(options, animals)
        plan.save(path)
        say(f"about {seconds / 60:.0f} minutes of a budget of {options.budget:g}")
    for line in described(options.experiment, plan, animals):
        say(line)
    return plan


def new_plan(options: argparse.Namespace, animals: dict[str, Animal]) -> tuple[Plan, float]:
    width = options.width or ("paper" if has_gpu() else "small")
    best = Plan(1, 0, (), 0, {name: a.scales[0] for name, a in animals.items()}, width)
    given = {
        name: getattr(options, name)
        for name in ("repeats", "images", "sizes", "size_repeats", "learning_rate", "use_graph")
        if getattr(options, name) is not None
    }
    if options.scale is not None:
        given["scales"] = dict.fromkeys(animals, options.scale)
    speeds = {name: training_speed(a, name, best) for name, a in animals.items()}
    plan = affordable(options.experiment, animals, speeds, 60 * options.budget, width)
    plan = attrs.evolve(plan, **given)
    return plan, plan.seconds(options.experiment, animals, speeds)


def described(experiment: str, plan: Plan, animals: dict[str, Animal]) -> list[str]:
    rate = plan.learning_rate or "each model's own"
    lines = [
        f"{plan.repeats} repeat(s), each training sees {plan.images:,} images (with repetitions), "
        f"learning rate: {rate}, networks: {plan.width}"
    ]
    for name, animal in animals.items():
        height, width, _ = animal.images.image_shape
        lines.append(
            f"{name}: {animal.most_images(plan.repeats)} training images"
            + (f" (also {', '.join(map(str, plan.sizes))})" if experiment == "models" else "")
            + f", {len(animal.split(0)[1])} unseen; {width}x{height} at scale {plan.scales[name]:g}"
        )
    chosen = arms(experiment, use_graph=plan.use_graph)
    lines.append("arms: " + "; ".join(arm.name for arm in chosen))
    return lines


class Ticker:
    """A line every ten seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 10

    def __call__(self, now: TrainProgress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 10
            say(
                f"    epoch {now.epoch} of {now.epochs}, {now.elapsed_s:.0f} s, loss {now.loss:.4g}"
            )


def in_short(result: dict[str, Any]) -> str:
    if not result["errors"]:
        return f"{result['stopped']}, nothing found"
    mean = sum(result["errors"]) / len(result["errors"])
    return f"mean error {mean:.2f} px after {result['seconds']:.0f} s"


# -- the file of finished runs ------------------------------------------------------------------


def read_runs(path: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by key; a last line that was cut short is taken away."""
    if not path.exists():
        return {}
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        with open(path, "r+b") as file:
            file.truncate(sum(map(len, lines[:-1])))
        lines.pop()
    results = [json.loads(line) for line in lines]
    return {result["key"]: result for result in results}


def append_run(path: Path, result: dict[str, Any]) -> None:
    with open(path, "ab") as file:
        file.write(json.dumps(result).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def report(options: argparse.Namespace, plan: list[str], results: list[dict[str, Any]]) -> None:
    """Table and figures of what is done so far."""
    lines = [*describe_machine(), "", *plan, "", *tables(options.experiment, results)]
    text = "\n".join(lines)
    with atomic_path(options.output / f"{options.experiment}.txt", overwrite=True) as temporary:
        Path(temporary).write_text(text + "\n", encoding="utf-8")
    say("", text)
    for path in draw_figures(options.experiment, results, options.output):
        say(f"figure: {path}")


def load() -> float:
    """Processes that ran in the last minute; NaN where the system doesn't say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def say(*texts: object) -> None:
    print(*texts, sep="\n", flush=True)


if __name__ == "__main__":
    main()
