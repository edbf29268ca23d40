"""Where keypoints go through time and in space."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.poses import Poses
from dpk_core.services.drawing import MIN_SCORE
from dpk_core.services.palette import keypoint_colors
from dpk_core.services.storage import read_poses
from dpk_core.skeleton import Skeleton
from dpk_core.workflow.plots.figure import on_white, open_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 8000  # along a time axis; more can't be seen and makes files slow


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
    with open_figure(output, (11.5, 6.2), overwrite) as figure:
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


def _plot_coordinates(
    axes_x: Axes, axes_y: Axes, poses: Poses, fps: float | None, min_score: float
) -> None:
    colors = on_white(keypoint_colors(poses.skeleton))
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
    names, colors = skeleton.names, on_white(keypoint_colors(skeleton))
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


def _normalize(low: float, high: float) -> Any:
    from matplotlib.colors import Normalize

    return Normalize(low, high)
