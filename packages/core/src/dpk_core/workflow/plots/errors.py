"""How far predictions lie from labels."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from dpk_core.annotations import HIDDEN
from dpk_core.checks import as_array
from dpk_core.errors import ValidationError
from dpk_core.services.palette import keypoint_colors
from dpk_core.skeleton import Skeleton
from dpk_core.workflow.plots.figure import GRAY, on_white, open_figure, plain_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_errors(
    errors: np.ndarray,
    skeleton: Skeleton,
    output: str | PathLike[str],
    *,
    visibility: np.ndarray | None = None,
    title: str = "",
    overwrite: bool = False,
) -> None:
    """How far predictions lie from labels, keypoint by keypoint.

    A box spans the middle half of the errors with a line at the median, whiskers reach from the
    5th to the 95th percentile, dots are single errors and a diamond is the mean.

    Parameters
    ----------
    errors
        (n, k) in pixels, NaN where there is none.
    visibility
        (n, k) as in an `AnnotationSet`; hidden keypoints get boxes of their own.

    Raises
    ------
    ValidationError
        When shapes disagree or there is no error at all.
    OutputExistsError, OutputError
    """
    errors = as_array("errors", errors, np.float64, ("n", len(skeleton)))
    if not np.isfinite(errors).any():
        raise ValidationError("errors: expected at least one number, found none")
    hidden = np.zeros(errors.shape, bool)
    if visibility is not None:
        hidden = as_array("visibility", visibility, np.uint8, errors.shape) == HIDDEN
    k = len(skeleton)
    with open_figure(output, (7.6, 1.3 + 0.36 * (k + 1)), overwrite) as figure:
        axes = figure.subplots()
        _plot_error_boxes(axes, errors, hidden, skeleton)
        axes.set_yticks(range(k + 1), ["all", *skeleton.names])
        axes.set_ylim(k + 0.6, -0.6)
        axes.set(xscale="log", xlabel="error, pixels")
        plain_log(axes.xaxis)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.axhline(0.5, color="#cccccc", lw=0.8)
        if title:
            axes.set_title(title)
        if hidden.any():
            axes.plot([], [], "s", color=GRAY, label="visible")
            axes.plot([], [], "s", color=GRAY, mfc="white", label="hidden")
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)


def _plot_error_boxes(
    axes: Axes, errors: np.ndarray, hidden: np.ndarray, skeleton: Skeleton
) -> None:
    colors = ["#444444", *on_white(keypoint_colors(skeleton))]
    columns = [(errors.ravel(), hidden.ravel())]
    columns += [(errors[:, j], hidden[:, j]) for j in range(errors.shape[1])]
    floor = max(float(np.nanpercentile(errors, 1)) / 3, 1e-3)  # a log axis has no zero
    right = max(float(np.nanmax(errors)) * 1.25, 10 * floor)
    rng = np.random.default_rng(0)
    for row, (values, is_hidden) in enumerate(columns):
        color = colors[row]
        groups = [(values[is_hidden == flag], flag) for flag in (False, True)]
        groups = [(v[np.isfinite(v)], flag) for v, flag in groups]
        groups = [(np.maximum(v, floor), flag) for v, flag in groups if len(v)]
        offsets = (0.0,) if len(groups) == 1 else (-0.2, 0.2)
        height = 0.52 if len(groups) == 1 else 0.3
        for (group, flag), offset in zip(groups, offsets, strict=False):
            _box(axes, group, row + offset, height, color, filled=not flag, rng=rng)
        seen = np.concatenate([group for group, _ in groups]) if groups else np.array([])
        text = f"{np.median(seen):.2f}" if len(seen) else "no label"
        axes.text(right, row, text, va="center", ha="left", fontsize=8, color="#333333")
    axes.text(right, -0.75, "median", va="center", ha="left", fontsize=7.5, color=GRAY)
    axes.set_xlim(floor, right)


def _box(
    axes: Axes,
    values: np.ndarray,
    y: float,
    height: float,
    color: Any,
    *,
    filled: bool,
    rng: np.random.Generator,
) -> None:
    from matplotlib.patches import Rectangle

    low, q1, median, q3, high = np.percentile(values, [5, 25, 50, 75, 95])
    dots = values if len(values) <= 400 else rng.choice(values, 400, replace=False)
    jitter = rng.uniform(-0.45, 0.45, len(dots)) * height
    axes.plot(dots, y + jitter, ".", color=color, ms=2.2, alpha=0.3, mew=0, zorder=1)
    axes.plot([low, q1], [y, y], color=color, lw=1.2, zorder=2)
    axes.plot([q3, high], [y, y], color=color, lw=1.2, zorder=2)
    axes.add_patch(
        Rectangle(
            (q1, y - height / 2), q3 - q1, height, facecolor=color if filled else "white",
            edgecolor=color, lw=1.2, alpha=0.8, zorder=2,
        )
    )  # fmt: skip
    line = "white" if filled else color
    axes.plot([median, median], [y - height / 2, y + height / 2], color=line, lw=1.6, zorder=3)
    axes.plot(values.mean(), y, "D", ms=3.6, mfc="white", mec="#222222", mew=0.8, zorder=4)
