"""Plots of a training, of trajectories and of errors, written to image files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpk_core.annotations import HIDDEN
from dpk_core.checks import as_array
from dpk_core.errors import (
    FileFormatError,
    FileMissingError,
    MissingDependencyError,
    ValidationError,
)
from dpk_core.poses import Poses
from dpk_core.services.drawing import MIN_SCORE
from dpk_core.services.palette import keypoint_colors
from dpk_core.services.storage import atomic_path, read_poses
from dpk_core.skeleton import Skeleton

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf", ".jpg")
_BLUE, _ORANGE, _GREEN, _GRAY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"
_MOST_POINTS = 8000  # along a time axis; more can't be seen and makes files slow
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "svg.fonttype": "none",
}


def plot_training(
    run: str | PathLike[str], output: str | PathLike[str], *, overwrite: bool = False
) -> None:
    """Loss, validation loss, validation error and learning rate by epoch.

    Parameters
    ----------
    run
        The folder of a training run, or its ``log.csv``.
    output
        An image file; its ending says which kind (png, svg, pdf, jpg).

    Raises
    ------
    FileMissingError, FileFormatError
        When there is no log, or it holds no epoch.
    OutputExistsError, OutputError
    """
    log = read_log(run)
    with _figure(output, (7.2, 6.4), overwrite) as figure:
        top, middle, bottom = figure.subplots(
            3, 1, sharex=True, height_ratios=[3, 3, 1.2], gridspec_kw={"hspace": 0.16}
        )
        _plot_losses(top, log)
        _plot_validation_error(middle, log)
        bottom.plot(log["epoch"], log["learning_rate"], color=_GRAY, drawstyle="steps-mid", lw=1.4)
        bottom.set(yscale="log", ylabel="learning\nrate", xlabel="epoch")
        bottom.xaxis.get_major_locator().set_params(integer=True)
        for epoch, rate in _drops(log):
            for axes in (top, middle, bottom):
                axes.axvline(epoch, color=_GRAY, lw=0.8, ls=(0, (2, 3)))
            bottom.annotate(
                f"{rate:.2g}", (epoch, rate), (3, 3), textcoords="offset points", color=_GRAY,
                fontsize=7.5,
            )  # fmt: skip
        _add_minutes(top, log)


def plot_trajectories(
    poses: str | PathLike[str] | Poses,
    output: str | PathLike[str],
    *,
    fps: float | None = None,
    image_size: tuple[int, int] | None = None,
    min_score: float = MIN_SCORE,
    overwrite: bool = False,
) -> None:
    """x and y of each keypoint through time with its score, and the path of the body in space.

    Stretches below ``min_score`` are pale. The path is that of the middle of the keypoints that
    have at least this score, coloured by time.

    Parameters
    ----------
    poses
        `Poses` or a file of them, with one individual or several.
    fps
        Frames a second, for a time axis in seconds. Default: what the poses know of their video,
        otherwise frames.
    image_size
        (height, width), to show the path in the whole image. Default: what the poses know.

    Raises
    ------
    ValidationError
        When there are no poses.
    FileMissingError, FileFormatError, OutputExistsError, OutputError
    """
    poses = poses if isinstance(poses, Poses) else read_poses(poses)
    if not len(poses):
        raise ValidationError("poses: expected at least one row, found none")
    fps = fps or poses.provenance.get("fps") or None
    size = image_size or _known_size(poses)
    with _figure(output, (11.5, 6.2), overwrite) as figure:
        grid = figure.add_gridspec(
            3, 2, width_ratios=[1.75, 1], height_ratios=[1, 1, 0.55], hspace=0.22, wspace=0.2
        )
        axes_x = figure.add_subplot(grid[0, 0])
        axes_y = figure.add_subplot(grid[1, 0], sharex=axes_x)
        axes_score = figure.add_subplot(grid[2, 0], sharex=axes_x)
        _plot_coordinates(axes_x, axes_y, poses, fps, min_score)
        _plot_scores(axes_score, poses, fps)
        _plot_path(figure.add_subplot(grid[0:2, 1]), poses, size, fps, min_score)
        _name_keypoints(figure.add_subplot(grid[2, 1]), poses.skeleton)


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
    with _figure(output, (7.6, 1.3 + 0.36 * (k + 1)), overwrite) as figure:
        axes = figure.subplots()
        _plot_error_boxes(axes, errors, hidden, skeleton)
        axes.set_yticks(range(k + 1), ["all", *skeleton.names])
        axes.set_ylim(k + 0.6, -0.6)
        axes.set(xscale="log", xlabel="error, pixels")
        _plain_log(axes.xaxis)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.axhline(0.5, color="#cccccc", lw=0.8)
        if title:
            axes.set_title(title)
        if hidden.any():
            axes.plot([], [], "s", color=_GRAY, label="visible")
            axes.plot([], [], "s", color=_GRAY, mfc="white", label="hidden")
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)


def read_log(run: str | PathLike[str]) -> dict[str, np.ndarray]:
    """The columns of a run's ``log.csv`` by name, a number an epoch, NaN where one is empty.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    path = Path(run)
    path = path / "log.csv" if path.is_dir() else path
    if not path.is_file():
        raise FileMissingError(
            f"no training log at {path}; expected the folder of a training run or its log.csv"
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    needed = ("epoch", "loss", "val_loss", "val_error_px", "learning_rate", "seconds")
    if not rows or any(name not in rows[0] for name in needed):
        found = ", ".join(rows[0]) if rows else "no epoch"
        raise FileFormatError(
            f"{path}: expected the columns {', '.join(needed)} and at least one epoch, found "
            f"{found}"
        )
    try:
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in needed}
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: expected a number in every column ({error})") from None


@contextmanager
def _figure(
    output: str | PathLike[str], size: tuple[float, float], overwrite: bool
) -> Iterator[Figure]:
    """A figure that is written to ``output``, whole or not at all, when the block ends well.

    It never touches pyplot, so that neither the user's backend nor settings change.
    """
    path = Path(output)
    if path.suffix.lower() not in FORMATS:
        raise ValidationError(
            f"output: expected a name that ends in {', '.join(FORMATS)}, found {path.name!r}"
        )
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "plots need matplotlib, which is not installed; install it with "
            "python -m pip install 'dpk-core[train]'"
        ) from error
    with atomic_path(path, overwrite=overwrite) as temporary, mpl.rc_context(_STYLE):
        figure = Figure(figsize=size)
        yield figure
        figure.savefig(temporary, dpi=150, bbox_inches="tight", pad_inches=0.12)


# -- training -----------------------------------------------------------------------------------


def _plot_losses(axes: Axes, log: dict[str, np.ndarray]) -> None:
    axes.plot(log["epoch"], log["loss"], color=_BLUE, lw=1.6, label="training")
    if np.isfinite(log["val_loss"]).any():
        axes.plot(log["epoch"], log["val_loss"], color=_ORANGE, lw=1.6, label="validation")
    axes.set(yscale="log", ylabel="loss")
    _plain_log(axes.yaxis)
    axes.legend(loc="upper right", ncols=2)


def _plot_validation_error(axes: Axes, log: dict[str, np.ndarray]) -> None:
    error = log["val_error_px"]
    axes.set(ylabel="validation error, px")
    if not np.isfinite(error).any():
        axes.text(0.5, 0.5, "no validation images", transform=axes.transAxes, ha="center")
        return
    axes.plot(log["epoch"], error, color=_GREEN, lw=1.6)
    axes.set(yscale="log")
    _plain_log(axes.yaxis)
    loss = log["val_loss"]
    best = int(np.nanargmin(loss if np.isfinite(loss).any() else error))
    axes.plot(log["epoch"][best], error[best], "o", color=_GREEN, mfc="white", mew=1.6)
    axes.text(
        1, 0.97, f"{error[best]:.2f} px in epoch {log['epoch'][best]:.0f}, of the lowest "
        "validation loss", transform=axes.transAxes, ha="right", va="top", color="#333333",
    )  # fmt: skip


def _drops(log: dict[str, np.ndarray]) -> list[tuple[float, float]]:
    """(epoch, new rate) where the rate fell at once; none for a schedule that falls smoothly."""
    rate = log["learning_rate"]
    with np.errstate(invalid="ignore", divide="ignore"):
        fell = np.flatnonzero(rate[1:] < 0.7 * rate[:-1]) + 1
    return [(log["epoch"][i] - 0.5, rate[i]) for i in fell] if len(fell) <= 20 else []


def _add_minutes(axes: Axes, log: dict[str, np.ndarray]) -> None:
    minutes = log["seconds"] / 60
    if len(minutes) < 2 or not np.all(np.diff(minutes) > 0):
        return
    slope = (minutes[-1] - minutes[-2], minutes[1] - minutes[0])
    epochs = np.concatenate([[log["epoch"][0] - 1e3], log["epoch"], [log["epoch"][-1] + 1e3]])
    times = np.concatenate([[minutes[0] - 1e3 * slope[1]], minutes, [minutes[-1] + 1e3 * slope[0]]])
    top = axes.secondary_xaxis(
        "top",
        functions=(lambda e: np.interp(e, epochs, times), lambda t: np.interp(t, times, epochs)),
    )
    top.set_xlabel("minutes of training")


# -- trajectories -------------------------------------------------------------------------------


def _plot_coordinates(
    axes_x: Axes, axes_y: Axes, poses: Poses, fps: float | None, min_score: float
) -> None:
    colors = _on_white(keypoint_colors(poses.skeleton))
    for rows in _tracks(poses):
        frames, keypoints, scores = _by_time(poses, rows)
        time = frames / fps if fps else frames
        sure = np.where((scores >= min_score)[..., None], keypoints, np.nan)
        for j, color in enumerate(colors):
            for axis, axes in enumerate((axes_x, axes_y)):
                axes.plot(time, keypoints[:, j, axis], color=color, lw=0.8, alpha=0.3)
                axes.plot(time, sure[:, j, axis], color=color, lw=1.1)
    axes_x.set(ylabel="x, pixels")
    axes_y.set(ylabel="y, pixels")
    axes_y.invert_yaxis()  # as in the image: down is down
    for axes in (axes_x, axes_y):
        axes.tick_params(labelbottom=False)
        axes.margins(x=0)


def _plot_scores(axes: Axes, poses: Poses, fps: float | None) -> None:
    """Time from left to right, a row a keypoint, dark where the model is sure.

    Several individuals in a frame are averaged, and so are frames where there are more than can
    be told apart.
    """
    frames, scores = poses.frames, poses.scores
    n = int(frames.max() - frames.min()) + 1
    columns = min(n, 1500)
    column = ((frames - frames.min()) * columns // n).astype(int)
    count = np.bincount(column, minlength=columns)
    with np.errstate(invalid="ignore"):
        image = np.stack(
            [np.bincount(column, weights=s, minlength=columns) / count for s in scores.T]
        )
    scale = fps or 1
    extent = (
        (frames.min() - 0.5) / scale, (frames.max() + 0.5) / scale, len(image) - 0.5, -0.5,
    )  # fmt: skip
    shown = axes.imshow(
        image, aspect="auto", extent=extent, cmap="cividis", vmin=0, vmax=1,
        interpolation="nearest",
    )  # fmt: skip
    axes.set(xlabel="seconds" if fps else "frame", ylabel="score")
    axes.grid(False)
    names = poses.skeleton.names
    if len(names) <= 14:
        axes.set_yticks(range(len(names)), names, fontsize=6.5)
        axes.set_ylabel("")
    else:
        axes.set_yticks([])
    bar = axes.figure.colorbar(shown, cax=axes.inset_axes([1.012, 0, 0.014, 1]), ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.set_label("score", fontsize=8)


def _plot_path(
    axes: Axes,
    poses: Poses,
    size: tuple[int, int] | None,
    fps: float | None,
    min_score: float,
) -> None:
    from matplotlib.collections import LineCollection

    lines = None
    first, last = poses.frames.min(), poses.frames.max()
    scale = fps or 1
    for rows in _tracks(poses):
        frames, keypoints, scores = _by_time(poses, rows)
        centre = _middle(np.where((scores >= min_score)[..., None], keypoints, np.nan))
        segments = np.stack([centre[:-1], centre[1:]], axis=1)
        known = np.isfinite(segments).all(axis=(1, 2))
        lines = LineCollection(
            list(segments[known]), array=frames[1:][known] / scale, cmap="viridis",
            norm=_normalize(first / scale, max(last, first + 1) / scale), lw=1.4,
            capstyle="round",
        )  # fmt: skip
        axes.add_collection(lines)
        if known.any():
            axes.plot(*centre[:-1][known][0], "o", color="#440154", ms=5, zorder=3)
            axes.plot(*centre[1:][known][-1], "o", color="#d8c400", mec="#333333", ms=5, zorder=3)
    axes.set_aspect("equal", adjustable="box")
    if size:
        axes.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))
    else:
        axes.autoscale()
        axes.invert_yaxis()
    axes.set(title="path of the body", xlabel="x, pixels", ylabel="y, pixels")
    if lines is not None:
        bar = axes.figure.colorbar(lines, ax=axes, pad=0.02, fraction=0.04)
        bar.outline.set_visible(False)
        bar.set_label("seconds" if fps else "frame", fontsize=8)


def _name_keypoints(axes: Axes, skeleton: Skeleton) -> None:
    """The names of the keypoints in their colours, in columns."""
    axes.axis("off")
    names, colors = skeleton.names, _on_white(keypoint_colors(skeleton))
    n_columns = 2 if len(names) <= 12 else 3
    n_rows = max(6, -(-len(names) // n_columns))
    for i, (name, color) in enumerate(zip(names, colors, strict=True)):
        x, y = i // n_rows / n_columns, 0.95 - i % n_rows / n_rows
        axes.plot([x, x + 0.05], [y, y], color=color, lw=2.2, transform=axes.transAxes)
        axes.text(
            x + 0.07, y, name, transform=axes.transAxes, va="center", color="#333333",
            fontsize=min(8.5, 60 / n_rows),
        )  # fmt: skip


def _tracks(poses: Poses) -> list[np.ndarray]:
    """Rows of each individual in the order of time, frames seen twice by nobody."""
    return [
        rows[np.argsort(poses.frames[rows], kind="stable")]
        for rows in (np.flatnonzero(poses.track_ids == t) for t in np.unique(poses.track_ids))
    ]


def _by_time(poses: Poses, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, keypoints and scores of some rows: thinned out, with a gap where frames miss."""
    rows = rows[:: max(1, -(-len(rows) // _MOST_POINTS))]
    frames, keypoints, scores = poses.frames[rows], poses.keypoints[rows], poses.scores[rows]
    steps = np.diff(frames)
    gaps = np.flatnonzero(steps > max(1, np.median(steps))) + 1 if len(steps) else []
    return (
        np.insert(frames.astype(float), gaps, np.nan),
        np.insert(keypoints, gaps, np.nan, axis=0),
        np.insert(scores, gaps, 0, axis=0),
    )


def _middle(keypoints: np.ndarray) -> np.ndarray:
    """(n, 2) mean of the keypoints that are there, NaN where none is."""
    known = np.isfinite(keypoints).all(axis=2)
    count = known.sum(axis=1)[:, None]
    total = np.where(known[..., None], keypoints, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _known_size(poses: Poses) -> tuple[int, int] | None:
    height, width = (poses.provenance.get(name) for name in ("height", "width"))
    return (int(height), int(width)) if height and width else None


# -- errors -------------------------------------------------------------------------------------


def _plot_error_boxes(
    axes: Axes, errors: np.ndarray, hidden: np.ndarray, skeleton: Skeleton
) -> None:
    colors = ["#444444", *_on_white(keypoint_colors(skeleton))]
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
    axes.text(right, -0.75, "median", va="center", ha="left", fontsize=7.5, color=_GRAY)
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


# -- small parts --------------------------------------------------------------------------------


def _on_white(colors: np.ndarray) -> np.ndarray:
    """(k, 3) from 0 to 1, darkened until they can be read on white paper."""
    colors = colors / 255
    luminance = colors @ [0.2126, 0.7152, 0.0722]
    return colors * np.minimum(1, 0.5 / np.maximum(luminance, 1e-6))[:, None]


def _normalize(low: float, high: float) -> Any:
    from matplotlib.colors import Normalize

    return Normalize(low, high)


def _plain_log(axis: Any) -> None:
    """Ticks at 1, 2, 5, 10, 20, ... in plain numbers."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_locator(ticker.NullLocator())
