"""Tag dictionaries of pinpoint: pickles of a "master list", read without running any of it.

pinpoint (Graving 2017, github.com/jgraving/pinpoint, ``pinpoint/TagDictionary.py``) writes a dict:
``master_list`` (4 n, bits) uint8, all four rotations of each code, 1 being white; ``id_list``
(4 n,), ids from 1; ``tag_shape``, ``white_width``, ``black_width``; and ``distance`` (``ndiffs`` in
files of Python 2), which is a setting of the program and not always true of the file: 4x4_4bit.pkl
says 7, and its closest two codes differ in 4. Its ``print_tags`` prints the last of the four
rotations, with an arrow upwards: that one is upright here.

A pickle is a program. This reader knows how to make arrays of numbers, lists and dicts, with stand-
ins of its own in place of NumPy's functions, and refuses everything else by name.
"""

from __future__ import annotations

import io
import pickle
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.errors import DpkWarning, FileFormatError, FileMissingError, ValidationError
from dpk_trackers.barcodes.dictionary import MAX_BITS, MAX_CODES, TagDictionary

MAX_BYTES = 64_000_000


def read_pinpoint(path: str | PathLike[str]) -> TagDictionary:
    """A dictionary of pinpoint; ids are those printed on its sheets, from 1.

    A claimed distance that is larger than the true one gives a DpkWarning, because files of
    pinpoint itself have it.

    Raises
    ------
    FileMissingError
        When there is no file.
    FileFormatError
        When the file is not such a dictionary, is damaged, or asks for anything to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileMissingError(f"expected a dictionary of pinpoint at {path}, found no file")
    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(
            f"{path}: expected at most {MAX_BYTES} bytes for a dictionary of tags"
        )
    content = _unpickle(path)
    try:
        return _dictionary(content, path)
    except ValidationError as error:
        raise FileFormatError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(
            f"{path}: expected master_list, id_list and tag_shape as pinpoint writes them; "
            f"{type(error).__name__}: {error}"
        ) from None


def _dictionary(content: Any, path: Path) -> TagDictionary:
    if not isinstance(content, dict):
        raise ValidationError(f"expected a dict, found {type(content).__name__}")
    height, width = (int(v) for v in content["tag_shape"])
    widths = content.get("white_width", 1), content.get("black_width", 1)
    if height != width or not 2 <= height <= MAX_BITS or widths != (1, 1):
        raise ValidationError(
            f"expected square codes within rings of one module, found {height} x {width} and "
            f"rings of {widths}"
        )
    turned = _numbers(content["master_list"], "master_list")
    ids = _numbers(content["id_list"], "id_list").ravel()
    if turned.ndim != 2 or turned.shape[1] != height * width or len(turned) != len(ids):
        raise ValidationError(
            f"expected a row of {height * width} modules for each of {len(ids)} ids, found "
            f"{turned.shape}"
        )
    if len(ids) % 4 or len(ids) > 4 * MAX_CODES or (ids.reshape(-1, 4) != ids[::4, None]).any():
        raise ValidationError("expected four rows with the same id, one for each rotation")
    turned = turned.reshape(-1, 4, height, width)
    for quarter in range(3):
        if (np.rot90(turned[:, quarter], 1, axes=(1, 2)) != turned[:, quarter + 1]).any() and (
            np.rot90(turned[:, quarter], -1, axes=(1, 2)) != turned[:, quarter + 1]
        ).any():
            raise ValidationError("expected the four rows of an id to be rotations of each other")
    dictionary = TagDictionary(turned[:, 3], None, ids[::4], name=path.stem)
    claimed = content.get("distance", content.get("ndiffs"))
    if isinstance(claimed, int) and dictionary.distance is not None:
        _compare(claimed, dictionary.distance, path)
    return dictionary


def _compare(claimed: int, true: int, path: Path) -> None:
    if claimed > true:
        warnings.warn(
            f"{path.name} says that its codes differ in {claimed} modules; the closest two differ "
            f"in {true}, and that is what counts",
            DpkWarning,
            stacklevel=4,
        )


def _numbers(value: Any, name: str) -> np.ndarray:
    array = value.array if isinstance(value, _Array) else np.asarray(value)
    if array is None or array.dtype.kind not in "biu":
        raise ValidationError(f"{name}: expected an array of whole numbers")
    return array


class _Refused(Exception):
    pass


class _Dtype:
    """Stands in for numpy.dtype: numbers and truth values only."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code.strip("<>|=") not in _SIMPLE:
            raise _Refused(f"an array of {code!r}")
        self.code = code.strip("<>|=")
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        self.order = order.decode("latin1") if isinstance(order, bytes) else str(order)

    def make(self) -> np.dtype:
        order: Any = self.order if self.order in "<>" else "="
        return np.dtype(self.code).newbyteorder(order)


_SIMPLE = {"b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f4", "f8"}


class _Array:
    """Stands in for numpy.ndarray, and is filled by what the pickle gives as its state."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_column, data = state
        if not isinstance(dtype, _Dtype):
            raise _Refused("an array of objects")
        data = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(data, dtype.make())
        self.array = flat.reshape(tuple(shape), order="F" if by_column else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("an encoding other than latin1")
    return text.encode("latin1")


class _NdarrayMark:
    """What pinpoint's pickles pass to _reconstruct as the type; never made."""

    def __init__(self, *_: Any) -> None:
        raise _Refused("an array made directly")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _NdarrayMark,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("something outside the file")


def _unpickle(path: Path) -> Any:
    try:
        # latin1, so that bytes that Python 2 wrote as text come back as they were.
        return _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except _Refused as error:
        raise FileFormatError(
            f"{path}: refused, because it asks for {error}; a dictionary of pinpoint holds "
            "nothing but numbers"
        ) from None
    except (
        pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError,
        TypeError, ValueError, OverflowError, MemoryError, RecursionError,
    ) as error:  # what the pickle module raises on damaged files  # fmt: skip
        raise FileFormatError(
            f"{path}: expected a pickle of pinpoint, found something damaged or else: "
            f"{type(error).__name__}: {error}"
        ) from None
