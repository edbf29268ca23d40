"""An ``.npz`` archive whose arrays are read a piece at a time and never unpickled."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import attrs
import numpy as np

from dpk_core.errors import DpkError, FileFormatError, FileMissingError

_LARGEST_TEXT = 2**28


@attrs.define
class Column:
    """One array of an archive, read from its first row to its last."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    path: Path
    _file: IO[bytes]
    _whole: np.ndarray | None = None
    _at: int = 0

    def take(self, rows: int) -> np.ndarray:
        """The next rows.

        Raises
        ------
        FileFormatError
            When the file ends before.
        """
        if self._whole is not None:
            self._at += rows
            return self._whole[self._at - rows : self._at]
        shape = (rows, *self.shape[1:])
        n_bytes = math.prod(shape) * self.dtype.itemsize
        with _damage(self.path):
            data = self._file.read(n_bytes)
        if len(data) != n_bytes:
            raise FileFormatError(f"{self.path}: the array {self.name!r} is cut short")
        return np.frombuffer(data, self.dtype).reshape(shape)


class Npz:
    """An ``.npz`` file whose arrays are read a piece at a time and never unpickled.

    A context manager. ``names`` are those of its arrays.

    Raises
    ------
    FileMissingError, FileFormatError
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            raise FileFormatError(f"{path} is a folder; expected an .npz file")
        if not path.is_file():
            raise FileMissingError(f"no file at {path}")
        self._stack = ExitStack()
        with _damage(path):
            self._archive = self._stack.enter_context(zipfile.ZipFile(path))
        members = [name for name in self._archive.namelist() if name.endswith(".npy")]
        self.names = [name[: -len(".npy")] for name in members]
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            self.close()
            raise FileFormatError(f"{path} has two arrays called {', '.join(twice)}")

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def column(self, name: str) -> Column:
        """An array to be read row by row, once."""
        with _damage(self.path):
            file = self._stack.enter_context(self._archive.open(f"{name}.npy"))
            shape, by_column, dtype = _read_array_header(file)
            n_bytes = self._archive.getinfo(f"{name}.npy").file_size - file.tell()
        if dtype.hasobject:
            raise FileFormatError(
                f"{self.path}: {name!r} is a pickle, which can run any code and is never opened "
                "here; save plain arrays of numbers or texts"
            )
        if dtype.names is not None or dtype.itemsize == 0:
            raise FileFormatError(f"{self.path}: {name!r} holds {dtype}; expected plain numbers")
        if n_bytes != math.prod(shape) * dtype.itemsize:
            raise FileFormatError(
                f"{self.path}: {name!r} should be {dtype} of the shape {shape}, but has {n_bytes} "
                "bytes; it may be cut short"
            )
        column = Column(name, shape, dtype, self.path, file)
        if by_column and len(shape) > 1:
            flat = Column(name, (math.prod(shape),), dtype, self.path, file)
            column._whole = flat.take(flat.shape[0]).reshape(shape, order="F")
        return column

    def array(self, name: str) -> np.ndarray:
        """A whole array."""
        column = self.column(name)
        if not column.shape:
            return attrs.evolve(column, shape=(1,)).take(1)[0]
        return column.take(column.shape[0])

    def text(self, name: str) -> str:
        """A single text."""
        column = self.column(name)
        if column.shape or column.dtype.kind != "U" or column.dtype.itemsize > _LARGEST_TEXT:
            raise FileFormatError(
                f"{self.path}: {name!r} is {column.dtype} of the shape {column.shape}; expected "
                "one text"
            )
        return str(attrs.evolve(column, shape=(1,)).take(1)[0])


def _read_array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """NumPy's own reader of it, which understands the text without running it."""
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"arrays of the version {version} are not known")
    shape, by_column, dtype = read[version](file)
    if any(length < 0 for length in shape):
        raise ValueError(f"the shape {shape} cannot be")
    return tuple(shape), bool(by_column), dtype


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except DpkError:
        raise
    except (
        OSError,
        EOFError,
        KeyError,
        MemoryError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise FileFormatError(
            f"{path} is no .npz file, cut short or damaged ({error}); restore it from a copy"
        ) from error
