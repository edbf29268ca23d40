"""Letter-value plots, learning curves, and error against speed."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
from experiments.plan import NO_GRAPH
from experiments.report import (
    Result,
    all_errors,
    groups,
    largest,
    letter_values,
    means,
    repeats_of_all_sizes,
)
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from dpk_core.services.storage import atomic_path

COLORS = ("#3b6fb6", "#d9812e", "#4f9d69", "#b0486b", "#7a68b3", "#8c6d46")
SMALLEST = 0.1
"""Pixels at which the logarithmic axes begin."""


def draw_figures(experiment: str, results: list[Result], folder: Path) -> list[Path]:
    """Draw what the results allow; gives the files."""
    drawn = []
    for (animal,), found in groups(results, "animal").items():
        found = [r for r in found if r["errors"]]
        if not found:
            continue
        figures = {"errors": letter_value_figure(animal, largest(found))}
        if experiment == "models":
            figures["speed"] = speed_figure(animal, largest(found))
            if len({r["n_train"] for r in found}) > 1:
                figures["curves"] = curve_figure(animal, found)
        for name, figure in figures.items():
            path = folder / f"{experiment}-{animal}-{name}.png"
            with atomic_path(path, overwrite=True) as temporary:
                figure.savefig(temporary, dpi=120, format="png")
            drawn.append(path)
    return drawn


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain(axis: Axis) -> None:
    """1, 2, 5, 10 ... instead of powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FormatStrFormatter("%g"))


def letter_value_figure(animal: str, results: list[Result]) -> Figure:
    """A stack of ever narrower boxes for each arm: 1/2, 3/4, 7/8 ... of the errors lie within."""
    arms = groups(results, "arm")
    figure, axes = _figure(2.6 + 1.5 * len(arms), 4.6)
    for place, (found, color) in enumerate(zip(arms.values(), cycle(COLORS), strict=False)):
        errors = np.maximum(all_errors(found), SMALLEST)
        letters = letter_values(errors)
        boxes = [pair for letter, pair in letters.items() if letter != "M"]
        for depth, (low, high) in reversed(list(enumerate(boxes))):
            half = 0.4 * 0.78**depth
            shade = 0.85 * 0.75**depth + 0.1
            axes.add_patch(
                Rectangle(
                    (place - half, low), 2 * half, high - low,
                    facecolor=_mix(color, shade), edgecolor="white", linewidth=0.8,
                )
            )  # fmt: skip
        low, high = boxes[-1] if boxes else letters["M"]
        beyond = errors[(errors < low) | (errors > high)]
        axes.plot(np.full(len(beyond), place), beyond, ".", color=color, markersize=3, alpha=0.5)
        axes.plot([place - 0.4, place + 0.4], letters["M"], color="black", linewidth=1.6)
        axes.plot(np.full(len(found), place), means(found), "D", color="white", markersize=5,
                  markeredgecolor="black")  # fmt: skip
    axes.set_yscale("log")
    _plain(axes.yaxis)
    axes.set_ylim(SMALLEST * 0.9, 1.3 * max(float(np.max(r["errors"])) for r in results))
    axes.set_xlim(-0.6, len(arms) - 0.4)
    names, remark = _names(results)
    axes.set_xticks(range(len(arms)), [name.replace(", ", ",\n") for name in names])
    axes.set_ylabel("error on unseen images, pixels")
    axes.set_title(
        f"{animal}{remark}, {results[0]['n_train']} training images\n"
        "line: median, boxes: 1/2, 3/4, 7/8 ... of the errors,\ndiamonds: mean of each repeat",
        fontsize=10,
    )
    return figure


def curve_figure(animal: str, results: list[Result]) -> Figure:
    """Mean error by number of training images; a dot for each repeat.

    Lines are means of the repeats that have every number, as repeats are not equally hard.
    """
    shared = repeats_of_all_sizes(results)
    figure, axes = _figure(7.6, 4.4)
    names, remark = _names(results)
    arms = groups(results, "arm").values()
    for name, found, color in zip(names, arms, cycle(COLORS), strict=False):
        by_size = dict(sorted(groups(found, "n_train").items()))
        sizes = [n for (n,) in by_size]
        each = [means(some) for some in by_size.values()]
        joined = [means([r for r in some if r["repeat"] in shared]) for some in by_size.values()]
        line = [m.mean() if len(m) else np.nan for m in joined]
        axes.plot(sizes, line, "o-", color=color, label=name, linewidth=1.8, markersize=4)
        for n, values in zip(sizes, each, strict=True):
            axes.plot(np.full(len(values), n), values, "o", color=color, markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    every = sorted({r["n_train"] for r in results})
    axes.set_xticks(every, [str(n) for n in every])
    axes.xaxis.set_minor_locator(NullLocator())
    _plain(axes.yaxis)
    axes.set_xlabel("training images")
    axes.set_ylabel("mean error on unseen images, pixels")
    axes.set_title(
        f"{animal}{remark}: equally many images seen, from fewer or more different ones",
        fontsize=10,
    )
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def speed_figure(animal: str, results: list[Result]) -> Figure:
    """Mean error against frames a second, at batch 1 (hollow) and 100 (filled)."""
    figure, axes = _figure(7.6, 4.4)
    names, remark = _names(results)
    arms = groups(results, "arm").values()
    for name, found, color in zip(names, arms, cycle(COLORS), strict=False):
        error = float(means(found).mean())
        speeds = [float(np.median([r[name] for r in found])) for name in ("fps_1", "fps_100")]
        axes.plot(speeds, [error, error], "-", color=color, linewidth=1)
        axes.plot(speeds[0], error, "o", markerfacecolor="white", color=color)
        axes.plot(speeds[1], error, "o", color=color, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain(axes.xaxis)
    _plain(axes.yaxis)
    axes.set_xlabel("frames a second (hollow: one by one, filled: 100 at once)")
    axes.set_ylabel("mean error on unseen images, pixels")
    axes.set_title(f"{animal}{remark}", fontsize=10)
    axes.margins(y=0.12)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _names(results: list[Result]) -> tuple[list[str], str]:
    """Names of the arms, and what all of them end with, which is told once."""
    names = [arm for (arm,) in groups(results, "arm")]
    ending = f", {NO_GRAPH}"
    if not all(name.endswith(ending) for name in names):
        return names, ""
    return [name.removesuffix(ending) for name in names], ending


def _mix(color: str, share: float) -> tuple[float, float, float]:
    """So much of the color in white."""
    return tuple(1 - share * (1 - int(color[i : i + 2], 16) / 255) for i in (1, 3, 5))
