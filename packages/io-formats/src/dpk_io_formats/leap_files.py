"""What MATLAB writes for LEAP: arrays from .mat files of any version, images from its boxes.

MATLAB 7.3 files are HDF5, whose arrays Python sees with their axes turned round; older ones are
read with SciPy.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import FileFormatError, MissingDependencyError
from dpk_core.services.storage.hdf5 import open_shared
from dpk_io_formats.plain_hdf5 import check_local, child, damage, dataset

OLD_MARK = b"MATLAB 5.0 MAT-file"
_LONGEST = 10**6


def is_old_mat(path: Path) -> bool:
    """Whether it is a .mat file from before version 7.3."""
    with path.open("rb") as file:
        return file.read(len(OLD_MARK)) == OLD_MARK


def load_old_mat(path: Path) -> dict[str, Any]:
    """Variables of a .mat file from before version 7.3, as MATLAB sees their axes.

    Raises
    ------
    MissingDependencyError, FileFormatError
    """
    if importlib.util.find_spec("scipy") is None:
        raise MissingDependencyError(
            f"{path} is a MATLAB file from before version 7.3, which only SciPy reads; install it "
            "with: python -m pip install scipy"
        )
    from scipy.io import loadmat

    try:
        return dict(loadmat(str(path), variable_names=["positions", "skeleton", "boxPath",
                                                       "initialization"]))  # fmt: skip
    except Exception as error:  # SciPy's parser raises whatever a damaged file leads it to
        raise FileFormatError(
            f"{path} is damaged ({type(error).__name__}: {error}); expected a whole MATLAB file"
        ) from error


def matlab_array(item: Any, what: str) -> np.ndarray:
    """A numeric dataset with its axes as MATLAB has them, float64."""
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "iuf" or item.size is None:
        raise FileFormatError(f"{what}: expected numbers, found something else")
    if item.size > 10**8:
        raise FileFormatError(f"{what}: an array of {item.shape} numbers is too large to be labels")
    if item.attrs.get("MATLAB_empty", 0):  # it stands as its size then
        return np.empty((0, 0))
    with np.errstate(invalid="ignore"):  # signalling NaN of a damaged file
        return np.asarray(item[()], np.float64).T


def matlab_text(item: Any, what: str) -> str:
    """A row of characters."""
    if not isinstance(item, h5py.Dataset) or item.dtype.kind != "u" or item.size > _LONGEST:
        raise FileFormatError(f"{what}: expected a text, found something else")
    if item.attrs.get("MATLAB_empty", 0):
        return ""
    codes = np.asarray(item[()]).T.ravel().astype("<u2")
    return codes.tobytes().decode("utf-16-le", "replace")


def matlab_texts(group: h5py.Group, key: str, path: Path) -> list[str] | None:
    """A cell array of texts; None when it is not there, or of another class (string, table)."""
    item = child(group, key, path)
    if not isinstance(item, h5py.Dataset) or item.dtype != h5py.ref_dtype:
        return None
    found = []
    for reference in item[()].T.ravel():
        if not reference:
            raise FileFormatError(f"{path}: {key!r} has an empty entry; expected names")
        target = item.file[reference]
        if isinstance(target, h5py.Dataset):
            check_local(target, key, path)
        found.append(matlab_text(target, f"{path}, {key}"))
    return found


class BoxImages:
    """(n, h, w, c) uint8 images of a LEAP box, read when they are asked for; thread-safe.

    The dataset is (n, channels, width, height) to Python, MATLAB's (height, width, channels, n).
    Images of floating point numbers are shares of white, as LEAP's ``preprocess`` takes them.

    Parameters
    ----------
    rows
        Those to keep; default all.

    Raises
    ------
    FileMissingError, FileFormatError
    """

    def __init__(self, path: Path, key: str, rows: np.ndarray | None = None) -> None:
        self._path = Path(os.path.abspath(path))
        self._key = key
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._file = self._open()
        with damage(path):
            box = self._box()
        stored = (1,) * (4 - box.ndim) + tuple(box.shape)
        if not 2 <= box.ndim <= 4 or stored[1] not in (1, 3) or not all(stored):
            raise FileFormatError(
                f"{path}: {key!r} has the shape {box.shape}; expected (images, 1 or 3 channels, "
                "width, height)"
            )
        if box.dtype.kind != "f" and box.dtype != np.uint8:
            raise FileFormatError(f"{path}: {key!r} holds {box.dtype}; expected uint8 images")
        self.is_rounded = box.dtype != np.uint8
        self.n_stored = int(stored[0])
        self._rows = np.arange(stored[0]) if rows is None else np.asarray(rows, np.int64)
        self.shape = (len(self._rows), int(stored[3]), int(stored[2]), int(stored[1]))
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: Any) -> np.ndarray:
        chosen = self._rows[row]
        if np.ndim(chosen) == 0:
            return self._image(int(chosen))
        if not len(chosen):
            return np.empty((0, *self.shape[1:]), np.uint8)
        return np.stack([self._image(int(i)) for i in chosen])

    def _image(self, i: int) -> np.ndarray:
        if self._pid != os.getpid():  # after a fork: a handle and a lock of its own
            self._lock, self._pid = threading.Lock(), os.getpid()
            self._file = self._open()
        with self._lock, damage(self._path):
            box = self._box()
            stored = box[i] if box.ndim == 4 else box[()]
        stored = stored.reshape((1,) * (3 - stored.ndim) + stored.shape)
        if stored.dtype != np.uint8:
            stored = np.clip(np.nan_to_num(stored) * 255, 0, 255).round().astype(np.uint8)
        return np.ascontiguousarray(stored.transpose(2, 1, 0))

    def _open(self) -> h5py.File:
        try:
            return open_shared(self._path, (None, False))
        except OSError as error:
            raise FileFormatError(f"{self._path} is not HDF5, or cut short ({error})") from None

    def _box(self) -> h5py.Dataset:
        return dataset(self._file, self._key, self._path, "images of a LEAP box")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path, "key": self._key, "rows": self._rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["key"], state["rows"])  # type: ignore[misc]
