"""Pictures of known animals that tests of detectors share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def painted() -> Callable[..., np.ndarray]:
    """``painted(x, y, length, width, angle, size=(90, 120))``: an ellipse, known exactly."""
    return _painted


def _painted(
    x: float, y: float, length: float, width: float, angle: float, size: tuple[int, int] = (90, 120)
) -> np.ndarray:
    """(h, w) float in [0, 1]: how much of each pixel an ellipse covers, by 8x8 points in it."""
    fine, reach = 8, max(length, width) / 2 + 1
    low = np.clip(np.floor([y - reach, x - reach]), 0, size).astype(int)
    high = np.clip(np.ceil([y + reach, x + reach]) + 1, 0, size).astype(int)
    picture, shape = np.zeros(size), high - low
    if not shape.all():
        return picture
    offsets = (np.arange(fine) + 0.5) / fine - 0.5
    rows = (np.arange(low[0], high[0])[:, None] + offsets).ravel()
    columns = (np.arange(low[1], high[1])[:, None] + offsets).ravel()
    dx, dy = columns[None] - x, rows[:, None] - y
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / (length / 2)
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / (width / 2)
    inside = (u**2 + v**2 <= 1).astype(float)
    covered = inside.reshape(shape[0], fine, shape[1], fine).mean(axis=(1, 3))
    picture[low[0] : high[0], low[1] : high[1]] = covered
    return picture
