"""The first rows of individuals that do not count yet, kept until it is known whether they will."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from dpk_core.detections import Detections
from dpk_core.tracks import COLUMNS, Tracks

_VALUES = tuple(name for name in COLUMNS if name not in ("frame", "id", "interpolated"))


class Beginnings:
    """Remembers the last sightings of each one that is in doubt.

    Parameters
    ----------
    frames
        How many frames back.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._step = 0
        # For each key (step, number of the frame, detections, which of them)
        self._doubtful: dict[int, deque[tuple[int, int, Detections, int]]] = {}
        self._confirmed: list[tuple[int, int, dict[str, Any]]] = []  # id, number, values

    def see(self, number: int, keys: np.ndarray, found: Detections, columns: np.ndarray) -> None:
        """Those were seen in this frame; call it in each frame."""
        for key, column in zip(keys.tolist(), columns.tolist(), strict=True):
            rows = self._doubtful.setdefault(key, deque(maxlen=self.frames))
            rows.append((self._step, number, found, column))
        self._step += 1

    def confirm(self, keys: np.ndarray, ids: np.ndarray) -> None:
        """They count from this frame on, by those ids."""
        for key, name in zip(keys.tolist(), ids.tolist(), strict=True):
            for step, number, found, column in self._doubtful.pop(key, ()):
                if step >= self._step - self.frames:
                    # Values alone: the rest of the frame is not kept to the end of the video.
                    values = {key: getattr(found, key)[column] for key in _VALUES}
                    self._confirmed.append((name, number, values))

    def forget(self, keys: np.ndarray) -> None:
        """They are gone."""
        for key in keys.tolist():
            self._doubtful.pop(key, None)

    def rows(self) -> Tracks:
        """Of those that count by now, from before they did."""
        columns: dict[str, Any] = {
            name: np.array([values[name] for _, _, values in self._confirmed], COLUMNS[name])
            for name in _VALUES
        }
        ids = np.array([row[0] for row in self._confirmed], np.int64)
        numbers = np.array([row[1] for row in self._confirmed], np.int64)
        return Tracks(numbers, ids, **columns)
