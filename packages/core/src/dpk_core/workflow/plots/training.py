"""The curves of a training."""

from __future__ import annotations

import csv
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpk_core.errors import FileFormatError, FileMissingError
from dpk_core.workflow.plots.figure import BLUE, GRAY, GREEN, ORANGE, open_figure, plain_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    with open_figure(output, (7.2, 6.4), overwrite) as figure:
        top, middle, bottom = figure.subplots(
            3, 1, sharex=True, height_ratios=[3, 3, 1.2], gridspec_kw={"hspace": 0.16}
        )
        _plot_losses(top, log)
        _plot_validation_error(middle, log)
        bottom.plot(log["epoch"], log["learning_rate"], color=GRAY, drawstyle="steps-mid", lw=1.4)
        bottom.set(yscale="log", ylabel="learning\nrate", xlabel="epoch")
        bottom.xaxis.get_major_locator().set_params(integer=True)
        for epoch, rate in _drops(log):
            for axes in (top, middle, bottom):
                axes.axvline(epoch, color=GRAY, lw=0.8, ls=(0, (2, 3)))
            bottom.annotate(
                f"{rate:.2g}", (epoch, rate), (3, 3), textcoords="offset points", color=GRAY,
                fontsize=7.5,
            )  # fmt: skip
        _add_minutes(top, log)


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


def _plot_losses(axes: Axes, log: dict[str, np.ndarray]) -> None:
    axes.plot(log["epoch"], log["loss"], color=BLUE, lw=1.6, label="training")
    if np.isfinite(log["val_loss"]).any():
        axes.plot(log["epoch"], log["val_loss"], color=ORANGE, lw=1.6, label="validation")
    axes.set(yscale="log", ylabel="loss")
    plain_log(axes.yaxis)
    axes.legend(loc="upper right", ncols=2)


def _plot_validation_error(axes: Axes, log: dict[str, np.ndarray]) -> None:
    error = log["val_error_px"]
    axes.set(ylabel="validation error, px")
    if not np.isfinite(error).any():
        axes.text(0.5, 0.5, "no validation images", transform=axes.transAxes, ha="center")
        return
    axes.plot(log["epoch"], error, color=GREEN, lw=1.6)
    axes.set(yscale="log")
    plain_log(axes.yaxis)
    loss = log["val_loss"]
    best = int(np.nanargmin(loss if np.isfinite(loss).any() else error))
    axes.plot(log["epoch"][best], error[best], "o", color=GREEN, mfc="white", mew=1.6)
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
