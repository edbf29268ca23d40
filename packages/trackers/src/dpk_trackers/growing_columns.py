"""Columns that grow by a few rows in each frame, for as many frames as days of video have."""

from __future__ import annotations

import numpy as np

_BLOCK = 1024
"""Frames of which rows are joined at once."""


class GrowingColumns:
    """Arrays of the same length, to the end of which rows are added.

    An array of NumPy takes a hundred bytes beside what it holds: kept one by one, ten little ones
    for each frame of a day's video would take gigabytes. So they are joined now and then.

    Examples
    --------
    >>> rows = GrowingColumns()
    >>> rows.append(frame=np.array([0, 0]), x=np.array([1.0, 2.0]))
    >>> rows.append(frame=np.array([1]), x=np.array([3.0]))
    >>> len(rows), rows.joined()["x"].tolist()
    (3, [1.0, 2.0, 3.0])
    """

    def __init__(self) -> None:
        self._blocks: list[dict[str, np.ndarray]] = []
        self._new: list[dict[str, np.ndarray]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, **columns: np.ndarray) -> None:
        """Add rows; always the same columns, all of one length."""
        self._length += len(next(iter(columns.values())))
        self._new.append(columns)
        if len(self._new) >= _BLOCK:
            self._blocks.append(_joined(self._new))
            self._new = []

    def joined(self) -> dict[str, np.ndarray]:
        """All rows, by column; none at all as long as none was added."""
        return _joined([*self._blocks, *self._new])


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    names = parts[0] if parts else {}
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
