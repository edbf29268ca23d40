"""Tables of numbers in HDF5 as SLEAP writes them, read by place and row, every value checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import FileFormatError
from dpk_io_formats.plain_hdf5 import child

FEWEST = {"frames": 5, "instances": 9, "points": 4, "pred_points": 5}
"""Columns that each table has at least."""


def open_table(file: h5py.File, key: str, path: Path, fewest: int = 0) -> Any:
    """A table of at least so many columns of numbers, lying in the file itself.

    Raises
    ------
    FileFormatError
    """
    found = child(file, key, path)
    if not isinstance(found, h5py.Dataset):
        raise FileFormatError(f"{path} is damaged: it has no table {key!r}; expected a SLEAP file")
    names = found.dtype.names
    fewest = fewest or FEWEST[key]
    width = len(names) if names else (found.shape[1] if found.ndim == 2 else 0)
    plain = all(found.dtype[i].kind in "fiub" for i in range(len(names or ())))
    if found.size == 0 and found.ndim in (1, 2) and not names:
        return _Empty(found, fewest)
    if (found.ndim != (1 if names else 2)) or width < fewest or not plain:
        raise FileFormatError(
            f"{path} is damaged: expected {fewest} columns of numbers in {key!r}, found "
            f"{found.shape} of {found.dtype}"
        )
    if not names and found.dtype.kind not in "fiub":
        raise FileFormatError(f"{path} is damaged: {key!r} holds {found.dtype}, no numbers")
    n_bytes = found.size * found.dtype.itemsize
    if n_bytes > max(2**28, 2000 * found.id.get_storage_size()):
        raise FileFormatError(
            f"{path} is damaged: {key!r} should have {len(found)} rows, and has "
            f"{found.id.get_storage_size()} bytes"
        )
    return found


class _Empty:
    """A table without rows, which some programs write without columns too."""

    def __init__(self, _: h5py.Dataset, width: int) -> None:
        self._width = width

    def __len__(self) -> int:
        return 0

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.empty((0, self._width))


def width_of(rows: np.ndarray) -> int:
    """Number of columns."""
    return len(rows.dtype.names) if rows.dtype.names else rows.shape[1]


def column(rows: np.ndarray, i: int) -> np.ndarray:
    """By place: names differ between programs, and some write plain numbers without names."""
    return rows[rows.dtype.names[i]] if rows.dtype.names else rows[:, i]


def whole(values: np.ndarray, where: str) -> np.ndarray:
    """Whole numbers as int64, whatever they were stored as; FileFormatError for others."""
    limit = 2**62
    if values.dtype.kind == "f":
        right = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < limit)
    else:
        right = (
            (values < limit) & (values > -limit) if values.dtype.itemsize == 8 else values == values
        )
    if not np.all(right):
        raise FileFormatError(f"{where}: row {int(np.argmin(right)) + 1} holds no index")
    return values.astype(np.int64)


def pick(stored: Any, ids: np.ndarray) -> np.ndarray:
    """Rows by their numbers, read in one go where they lie together."""
    if not len(ids):
        return stored[0:0]
    low, high = int(ids.min()), int(ids.max()) + 1
    if high - low <= 4 * len(ids) + 4096:
        return stored[low:high][ids - low]
    unique, back = np.unique(ids, return_inverse=True)
    breaks = np.flatnonzero(np.diff(unique) > 4096) + 1
    parts = [stored[int(p[0]) : int(p[-1]) + 1][p - p[0]] for p in np.split(unique, breaks)]
    return np.concatenate(parts)[back]
