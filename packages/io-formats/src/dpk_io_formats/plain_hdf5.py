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
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)
"""What h5py and NumPy raise for damaged headers, types, attributes and references."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file to read from, whose failures are the file's.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    with damage(path), reading(path) as file:
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
    except _DAMAGE as error:
        raise FileFormatError(
            f"{path} is damaged ({type(error).__name__}: {error}); expected a whole HDF5 file; "
            "restore it from a copy"
        ) from error


# -- links ----------------------------------------------------------------------------------------


def link_of(
    group: h5py.Group, name: str
) -> h5py.HardLink | h5py.SoftLink | h5py.ExternalLink | None:
    """How a name is tied to what it stands for; None when the name is not there.

    Nothing is opened. h5py's ``in`` and ``get(..., getlink=True)`` follow a link to see whether it
    leads anywhere, into other files too.
    """
    links, key = group.id.links, name.encode("utf-8", "surrogateescape")
    if not links.exists(key):
        return None
    kind = links.get_info(key).type
    if kind == h5py.h5l.TYPE_HARD:
        return h5py.HardLink()
    if kind == h5py.h5l.TYPE_SOFT:
        return h5py.SoftLink(links.get_val(key).decode("utf-8", "surrogateescape"))
    if kind == h5py.h5l.TYPE_EXTERNAL:
        file, place = links.get_val(key)
        return h5py.ExternalLink(
            file.decode("utf-8", "surrogateescape"), place.decode("utf-8", "surrogateescape")
        )
    raise TypeError(f"{name!r} is a link of an unknown kind")


def is_there(group: h5py.Group, name: str) -> bool:
    """Whether a group has the name, wherever a link of that name may lead."""
    return link_of(group, name) is not None


def is_own(group: h5py.Group, name: str) -> bool:
    """Whether what stands under a name lies in the file itself."""
    return isinstance(link_of(group, name), h5py.HardLink)


# -- what is in a file ----------------------------------------------------------------------------


def child(group: h5py.Group, name: str, path: Path) -> Any:
    """The dataset or group of that name in the file itself, None when there is none.

    Raises
    ------
    FileFormatError
        When it is a link: where that leads is not looked up; or when its data lie in other files.
    """
    if not is_there(group, name):
        return None
    if not is_own(group, name):
        raise FileFormatError(
            f"{path}: {name!r} is a link to elsewhere, which is not followed; copy what it leads "
            "to into the file (h5repack, or h5py's copy with expand_external=True)"
        )
    found = group[name]
    if isinstance(found, h5py.Dataset):
        check_local(found, name, path)
    return found


def check_local(found: h5py.Dataset, name: str, path: Path) -> None:
    """FileFormatError when a dataset takes its data from other files."""
    if found.is_virtual or found.external:
        raise FileFormatError(
            f"{path}: the data of {name!r} lie in other files, which are not opened; copy them "
            "into this one"
        )


def dataset(group: h5py.Group, name: str, path: Path, what: str = "") -> h5py.Dataset:
    """A dataset of plain numbers or texts that lie in the file itself.

    Parameters
    ----------
    what
        Of which it is a part, for the message.

    Raises
    ------
    FileFormatError
        When there is none, or its data lie elsewhere.
    """
    found = child(group, name, path)
    if not isinstance(found, h5py.Dataset):
        raise FileFormatError(
            f"{path} has no dataset {name!r}; {f'expected {what}, ' if what else ''}found "
            f"{', '.join(sorted(map(str, group))) or 'nothing'}"
        )
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
        Also when it cannot be as large as it says.
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
