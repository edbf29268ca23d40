"""What the figures have in common: their looks, and how they get into a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpk_core.errors import MissingDependencyError, ValidationError
from dpk_core.services.storage import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf", ".jpg")
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"
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


@contextmanager
def open_figure(
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


def on_white(colors: np.ndarray) -> np.ndarray:
    """(k, 3) from 0 to 1, darkened until they can be read on white paper."""
    colors = colors / 255
    luminance = colors @ [0.2126, 0.7152, 0.0722]
    return colors * np.minimum(1, 0.5 / np.maximum(luminance, 1e-6))[:, None]


def plain_log(axis: Any) -> None:
    """Ticks at 1, 2, 5, 10, 20, ... in plain numbers."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_locator(ticker.NullLocator())
