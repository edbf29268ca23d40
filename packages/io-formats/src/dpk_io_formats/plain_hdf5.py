"""Other programs' HDF5 files: nothing outside the file is read, nothing in it is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import DpkError, FileFormatError
from dpk_core.services.storage.hdf5 import reading

_PLENTY = 2**30
_LARGEST_RATIO = 2000
_DAMAGE = (
    AttributeError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)
"""What h5py raises for damaged headers, types, attributes and references."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file to read from, whose failures are the file's.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    try:
        with reading(path) as file:
            yield file
    except DpkError:
        raise
    except _DAMAGE as error:
        raise FileFormatError(
            f"{path} is damaged ({error}); expected a whole HDF5 file; restore it from a copy"
        ) from error


def child(group: h5py.Group, name: str, path: Path) -> Any:
    """What stands under a name in the file itself, None when nothing does.

    Raises
    ------
    FileFormatError
        When it is a link: where that leads is not looked up.
    """
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise FileFormatError(
            f"{path}: {name!r} is a link to another place, which is not followed; copy the data "
            "into the file"
        )
    return group[name]


def dataset(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """A dataset of plain numbers or texts that lie in the file itself.

    Raises
    ------
    FileFormatError
        When there is none, or its data lies elsewhere or cannot be as large as it says.
    """
    found = child(group, name, path)
    if not isinstance(found, h5py.Dataset):
        raise FileFormatError(
            f"{path} has no dataset {name!r}; found {', '.join(map(str, group)) or 'nothing'}"
        )
    if found.external or found.is_virtual:
        raise FileFormatError(f"{path}: {name!r} keeps its data in other files, which are not read")
    if found.shape is None:
        raise FileFormatError(f"{path}: {name!r} is empty")
    plain = found.dtype.kind in "fiubSU" or h5py.check_string_dtype(found.dtype) is not None
    if not plain:
        raise FileFormatError(f"{path}: {name!r} holds {found.dtype}; expected numbers or texts")
    return found


def array(group: h5py.Group, name: str, path: Path) -> np.ndarray:
    """All of a dataset that fits in memory.

    Raises
    ------
    FileFormatError
    """
    found = dataset(group, name, path)
    n_bytes = found.size * found.dtype.itemsize
    if n_bytes > max(_PLENTY, _LARGEST_RATIO * found.id.get_storage_size()):
        raise FileFormatError(
            f"{path} is damaged: {name!r} should hold {found.shape} numbers, and has "
            f"{found.id.get_storage_size()} bytes"
        )
    return np.asarray(found[()])


def texts(group: h5py.Group, name: str, path: Path) -> list[str]:
    """A dataset of texts."""
    return [text_of(value) for value in np.ravel(array(group, name, path))]


def text_of(value: Any) -> str:
    """A text attribute or element, whichever way it was stored."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def json_of(text: str, what: str, path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    FileFormatError
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: {what} is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise FileFormatError(f"{path}: {what} is no JSON object")
    return value
