"""The images of an HDF5 file as an `ImageSource`: read row by row, never all at once."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import FileFormatError
from dpk_core.services.storage.hdf5 import damage_as_format_error, open_shared

# Windows lets nobody replace a file that is open anywhere, so there it is opened for each read.
_KEEP_OPEN = os.name != "nt"


class StoredImages:
    """The images of a file, read row by row; safe to use from several threads and processes.

    The file is opened when it is made and stays open: should another process replace it
    meanwhile, these rows still come from the one that was read before. (On Windows it is opened
    for each read, because an open file cannot be replaced there.)

    Raises
    ------
    FileFormatError
        On reading, when the file is damaged, or was replaced by another with fewer rows or other
        images before a process that it was sent to could open it.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._path = Path(os.path.abspath(path))  # whatever becomes of the working directory
        self.shape = tuple(int(length) for length in shape)
        self.dtype = np.dtype(np.uint8)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._file: h5py.File | None = self._open() if _KEEP_OPEN else None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: Any) -> np.ndarray:
        if self._pid != os.getpid():  # after a fork: a handle and a lock of its own
            self._lock, self._file, self._pid = threading.Lock(), None, os.getpid()
        with self._lock, damage_as_format_error(self._path):
            if self._file is None:
                self._file = self._open()
            try:
                block = _read(self._checked(self._file), row)
            finally:
                if not _KEEP_OPEN:
                    self._file.close()
                    self._file = None
        return block

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _open(self) -> h5py.File:
        # As h5py does by default first: this handle lives long, and a user may open one beside it.
        return open_shared(self._path, (None, False))

    def _checked(self, file: h5py.File) -> h5py.Dataset:
        stored = file["images"]
        found = stored.shape if stored.ndim == 4 else (*stored.shape, 1)
        if found[1:] != self.shape[1:] or found[0] < self.shape[0]:
            raise FileFormatError(
                f"{self._path} has changed since it was opened: expected images of shape "
                f"{self.shape}, found {found}; open it again"
            )
        return stored

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with damage_as_format_error(state["path"]):
            self.__init__(state["path"], state["shape"])  # type: ignore[misc]


def _read(stored: h5py.Dataset, row: Any) -> np.ndarray:
    """Any rows that NumPy would take; h5py itself wants them sorted, unique and going up."""
    if isinstance(row, (int, np.integer)) or (isinstance(row, slice) and (row.step or 1) > 0):
        block = stored[row]
    else:
        rows = np.arange(stored.shape[0])[row]
        block = np.empty((len(rows), *stored.shape[1:]), stored.dtype)
        for position, i in enumerate(rows):
            block[position] = stored[int(i)]
    return block if stored.ndim == 4 else block[..., None]
