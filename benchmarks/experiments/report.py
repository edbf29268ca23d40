"""Text tables of finished runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Result = dict[str, Any]
TAILS = ("F", "E", "D", "C", "B", "A", "Z", "Y", "X", "W", "V", "U")
"""Tukey's names of the letter values beyond the median: 1/4, 1/8, 1/16 ... of the errors."""


def letter_values(errors: np.ndarray, fewest: int = 10) -> dict[str, tuple[float, float]]:
    """Lower and upper quantile for each letter, M the median; tails of few errors are left out.

    References
    ----------
    Hofmann, Wickham, Kafadar 2017, Journal of Computational and Graphical Statistics 26(3):469,
    "Letter-value plots: boxplots for large data".

    Examples
    --------
    >>> letter_values(np.arange(101.0))
    {'M': (50.0, 50.0), 'F': (25.0, 75.0), 'E': (12.5, 87.5)}
    """
    median = float(np.median(errors))
    found = {"M": (median, median)}
    for depth, letter in enumerate(TAILS, start=2):
        tail = 0.5**depth
        if len(errors) * tail < fewest:
            break
        low, high = np.quantile(errors, [tail, 1 - tail])
        found[letter] = (float(low), float(high))
    return found


def groups(results: list[Result], *names: str) -> dict[tuple, list[Result]]:
    """Results that agree in these fields, in order of appearance."""
    found: dict[tuple, list[Result]] = {}
    for result in results:
        found.setdefault(tuple(result[name] for name in names), []).append(result)
    return found


def all_errors(results: list[Result]) -> np.ndarray:
    return np.concatenate([np.asarray(r["errors"], dtype=float) for r in results])


def means(results: list[Result]) -> np.ndarray:
    """Mean error of each repeat; NaN where the training diverged."""
    return np.array([np.mean(r["errors"]) if r["errors"] else np.nan for r in results])


def largest(results: list[Result]) -> list[Result]:
    """Those with all training images."""
    most = max(r["n_train"] for r in results)
    return [r for r in results if r["n_train"] == most]


def repeats_of_all_sizes(results: list[Result]) -> set[int]:
    """Repeats that every number of training images was tried in."""
    by_size = groups(results, "n_train").values()
    return set.intersection(*({r["repeat"] for r in some} for some in by_size))


def tables(experiment: str, results: list[Result]) -> list[str]:
    """Errors, pairs, speeds and learning curves of every animal."""
    lines: list[str] = []
    for (animal,), found in groups(results, "animal").items():
        most = largest(found)
        lines += [
            f"== {animal}: {most[0]['n_train']} training images, errors in pixels on unseen ones",
            "",
            *error_table(most),
            "",
            *pair_table(most),
            "",
            *speed_table(most),
            "",
        ]
        if len({r["n_train"] for r in found}) > 1:
            lines += [*curve_table(found), ""]
        lines += [*groups_of_models(most), ""]
    return [*lines, *loads(results)]


def loads(results: list[Result]) -> Iterator[str]:
    """How busy the machine was: times are worse than they would be where it was."""
    yield "before each training, in order: GFLOP/s of a matrix product and the machine's load"
    for (animal, arm), found in groups(results, "animal", "arm").items():
        each = (f"{r['gflops']:.0f} ({r['load']:.1f})" for r in found)
        yield f"{animal}, {arm}: {', '.join(each)}"


def error_table(results: list[Result]) -> Iterator[str]:
    columns = (
        "repeats",
        "mean",
        "+-",
        "p25",
        "median",
        "p75",
        "p87.5",
        "p95",
        "p99",
        "max",
        ">10 px",
    )
    yield f"{'':<28}" + "".join(f"{name:>8}" for name in columns)
    for (arm,), found in groups(results, "arm").items():
        errors = all_errors(found)
        if not len(errors):
            yield f"{arm:<28}  diverged"
            continue
        each = means(found)
        spread = np.nanstd(each, ddof=1) if np.isfinite(each).sum() > 1 else np.nan
        shown = np.percentile(errors, (25, 50, 75, 87.5, 95, 99, 100))
        values = "".join(f"{v:8.2f}" for v in (np.nanmean(each), spread, *shown))
        yield f"{arm:<28}{len(found):8}{values}{(errors > 10).mean():8.1%}"
    yield "(+- is the standard deviation of the repeats' means; the rest is of all errors together)"


def pair_table(results: list[Result]) -> Iterator[str]:
    """Each arm relative to the first one in the same repeat: same images, same unseen block."""
    by_arm = groups(results, "arm")
    first = next(iter(by_arm))
    each = {arm: _by_repeat(found) for arm, found in by_arm.items()}
    yield f"mean error of each repeat, and relative to {first[0]} in the same repeat"
    repeats = sorted({r["repeat"] for r in results})
    for arm, mean in each.items():
        ratios = {n: m / each[first].get(n, np.nan) for n, m in mean.items()}
        cells = [f"{mean[n]:.2f} ({ratios[n]:.2f})" if n in mean else "-" for n in repeats]
        yield f"{arm[0]:<28}" + "".join(f"{cell:>16}" for cell in cells)


def _by_repeat(results: list[Result]) -> dict[int, float]:
    """Mean error of each repeat."""
    return {r["repeat"]: m for r, m in zip(results, means(results), strict=True)}


def speed_table(results: list[Result]) -> Iterator[str]:
    columns = ("parameters", "train s", "ms a step", "frames/s at 1", "at 100")
    yield f"{'':<28}" + "".join(f"{name:>15}" for name in columns)
    for (arm,), found in groups(results, "arm").items():
        trained = [r for r in found if r["errors"]]
        if not trained:
            continue
        middle = [
            float(np.median([r[name] for r in trained]))
            for name in ("seconds", "step_ms", "fps_1", "fps_100")
        ]
        yield f"{arm:<28}{trained[0]['parameters']:>15,}" + "".join(f"{v:15.1f}" for v in middle)
    yield "(medians of the repeats; a step has 5 images; resizing and peaks are part of frames/s)"


def curve_table(results: list[Result]) -> Iterator[str]:
    """Mean error by number of training images, in the repeats that have every number."""
    sizes = sorted({r["n_train"] for r in results})
    shared = repeats_of_all_sizes(results)
    yield "mean error / 95th percentile by number of training images, repeats " + ", ".join(
        str(repeat) for repeat in sorted(shared)
    )
    yield f"{'':<28}" + "".join(f"{n:>16}" for n in sizes)
    for (arm,), found in groups(results, "arm").items():
        cells = []
        for n in sizes:
            some = [r for r in found if r["n_train"] == n and r["repeat"] in shared]
            errors = all_errors(some) if some else np.empty(0)
            text = f"{errors.mean():.2f} / {np.percentile(errors, 95):.1f}" if len(errors) else "-"
            cells.append(f"{text:>16}")
        yield f"{arm:<28}" + "".join(cells)


def groups_of_models(results: list[Result]) -> Iterator[str]:
    """What exactly was trained, once for each arm."""
    for (arm,), found in groups(results, "arm").items():
        yield f"{arm}: {found[0]['model']}, {found[0]['images']:,} images seen"
