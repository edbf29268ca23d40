"""HDF5 of other programs, read without ever leaving the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from dpk_core.errors import DpkError, FileFormatError
from dpk_core.services.storage.hdf5 import open_for_reading


@contextmanager
def open_local(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file; whatever goes wrong while reading it is said of the file.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    with damage(path), open_for_reading(path) as file:
        yield file


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Say which file is meant when HDF5 cannot read it.

    Raises
    ------
    FileFormatError
    """
    try:
        yield
    except DpkError:
        raise
    # What h5py and NumPy make of damaged headers: types and shapes that cannot be, and sizes
    # beyond any memory.
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, MemoryError) as error:
        raise FileFormatError(
            f"{path} is damaged ({type(error).__name__}: {error}); expected a whole HDF5 file"
        ) from error


def local_item(group: h5py.Group, key: str, path: Path) -> Any:
    """The dataset or group of that name in the file itself; None when there is none.

    Raises
    ------
    FileFormatError
        When it is a link to elsewhere, or its data lie in other files.
    """
    # Not with h5py's `in` and `get`, which follow a link to see whether it leads anywhere.
    links, name = group.id.links, key.encode("utf-8", "surrogateescape")
    if not links.exists(name):
        return None
    if links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise FileFormatError(
            f"{path}: {key!r} is a link to elsewhere, which is not followed; copy what it leads "
            "to into the file (h5repack, or h5py's copy with expand_external=True)"
        )
    item = group[key]
    if isinstance(item, h5py.Dataset):
        check_local(item, key, path)
    return item


def check_local(dataset: h5py.Dataset, key: str, path: Path) -> None:
    """FileFormatError when a dataset takes its data from other files."""
    if dataset.is_virtual or dataset.external:
        raise FileFormatError(
            f"{path}: the data of {key!r} lie in other files, which are not opened; copy them "
            "into this one"
        )


def local_dataset(group: h5py.Group, key: str, path: Path, what: str) -> h5py.Dataset:
    """The dataset of that name, or FileFormatError with the keys that are there."""
    item = local_item(group, key, path)
    if not isinstance(item, h5py.Dataset):
        raise FileFormatError(
            f"{path} has no {key!r}; expected {what}, found the keys "
            f"{', '.join(sorted(map(str, group))) or '(none)'}"
        )
    return item
