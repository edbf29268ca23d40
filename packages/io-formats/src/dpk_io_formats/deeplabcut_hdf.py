"""Tables that pandas writes to HDF5, read without pandas, PyTables or pickle.

``DataFrame.to_hdf`` knows two formats. The fixed one keeps the labels of columns and rows as plain
arrays (``axis0_level*``, ``axis0_label*``, ``block*_values``). The table one keeps the rows in one
compound dataset and the labels of the columns as a pickled list in an attribute, as PyTables does
with every Python object. A pickle is a program that runs when it is loaded, so it never is: its
literals (lists, tuples, texts, numbers) are read off one by one, and a pickle with anything else
in it is refused.

Source: pandas 1.0 to 3.0, ``pandas/io/pytables.py`` (GenericFixed, AppendableFrameTable); PyTables
3.x, ``tables/attributeset.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np

from dpk_core.errors import DpkError, FileFormatError
from dpk_core.services.storage.hdf5 import open_for_reading
from dpk_io_formats.literals import INSTEAD, PickledDataError, read_literal
from dpk_io_formats.plain_hdf5 import is_own, is_there

KEY = "df_with_missing"
_LARGEST_RATIO = 4000
"""No filter of HDF5 makes data smaller than by this factor."""


@attrs.frozen(eq=False)
class StoredFrame:
    """A DataFrame in an open file.

    Parameters
    ----------
    key
        The group that holds it.
    names
        Of the levels of the columns, None where a level has none.
    columns
        The labels of each column, as texts.
    index
        (n,) int64, or (n, levels) texts.
    read
        ``read(start, stop)`` gives the (stop - start, columns) numbers of those rows as float64.
    """

    key: str
    names: tuple[str | None, ...]
    columns: tuple[tuple[str, ...], ...]
    index: np.ndarray
    read: Callable[[int, int], np.ndarray]

    def __len__(self) -> int:
        return len(self.index)


@contextmanager
def open_frame(path: Path) -> Iterator[StoredFrame]:
    """Open the one DataFrame of a file, `KEY` if there are several.

    Raises
    ------
    FileMissingError
    FileFormatError
        `PickledDataError` where only pickled objects would tell.
    """
    with damage(path), open_for_reading(path) as file:
        group = _find_group(file, path)
        kind = _text(group.attrs.get("pandas_type", ""))
        if kind == "frame":
            yield _open_fixed(group, path)
        elif kind == "frame_table":
            yield _open_table(group, path)
        else:
            raise FileFormatError(f"{path}: {group.name} holds a pandas {kind!r}; {INSTEAD}")


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a file is read is told as a FileFormatError about it."""
    try:
        yield
    except DpkError:
        raise
    except (
        OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError,
        OverflowError, MemoryError,
    ) as error:  # fmt: skip
        raise FileFormatError(
            f"{path} is damaged ({type(error).__name__}: {error}); expected a whole table as "
            "pandas writes it; restore it from a copy"
        ) from error


def has_frame(path: Path) -> bool:
    """Whether the file is HDF5 and pandas wrote a DataFrame to it."""
    try:
        with damage(path), open_for_reading(path) as file:
            return _text(_find_group(file, path).attrs.get("pandas_type", "")).startswith("frame")
    except DpkError:
        return False


# -- groups, datasets, attributes ---------------------------------------------------------------


def _find_group(file: h5py.File, path: Path) -> h5py.Group:
    groups = {}
    for name in file:
        if is_own(file, name):
            item = file[name]
            if isinstance(item, h5py.Group) and "pandas_type" in item.attrs:
                groups[name] = item
    if KEY in groups:
        return groups[KEY]
    if len(groups) == 1:
        return next(iter(groups.values()))
    linked = [n for n in file if not is_own(file, n)]
    raise FileFormatError(
        f"{path}: expected one table of pandas, called {KEY}; found "
        f"{', '.join(sorted(groups) or sorted(map(str, file))) or 'an empty file'}"
        + (f"; links to other places ({', '.join(linked)}) are not followed" if linked else "")
    )


def _dataset(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    if not is_there(group, name):
        raise FileFormatError(f"{path}: {group.name} has no {name!r}; the table is not whole")
    if not is_own(group, name):
        raise FileFormatError(f"{path}: {group.name}/{name} is a link elsewhere; not followed")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset):
        raise FileFormatError(f"{path}: {group.name}/{name} is no dataset")
    if dataset.external or dataset.is_virtual:
        raise FileFormatError(f"{path}: {dataset.name} keeps its data in other files; not read")
    if dataset.dtype.kind == "O" or dataset.dtype.hasobject:
        raise PickledDataError(
            f"{path}: {dataset.name} holds pickled objects, which are not loaded; {INSTEAD}"
        )
    stored = max(dataset.id.get_storage_size(), 1)
    if dataset.size and dataset.size * dataset.dtype.itemsize > stored * _LARGEST_RATIO:
        raise FileFormatError(
            f"{path} is damaged: {dataset.name} should hold {dataset.shape} numbers, and "
            f"{stored} bytes are there"
        )
    return dataset


def _text(value: Any, encoding: str = "utf-8") -> str:
    return value.decode(encoding) if isinstance(value, bytes) else str(value)


def _texts(values: np.ndarray, encoding: str) -> list[str]:
    if values.dtype.kind in "iu":
        return [str(value) for value in values.tolist()]
    if values.dtype.kind != "S":
        raise ValueError(f"expected labels as texts, found {values.dtype}")
    return [value.decode(encoding) for value in values.tolist()]


def _encoding(group: h5py.Group) -> str:
    name = _text(group.attrs.get("encoding", "UTF-8"))
    if name.upper().replace("_", "-") not in ("UTF-8", "ASCII", "LATIN-1", "LATIN1"):
        raise ValueError(f"expected texts as UTF-8, found {name!r}")
    return name


def _is_empty(dataset: h5py.Dataset) -> bool:
    """pandas writes a number where there is nothing, and the true shape beside it."""
    return "shape" in dataset.attrs


# -- the fixed format ---------------------------------------------------------------------------


def _open_fixed(group: h5py.Group, path: Path) -> StoredFrame:
    columns, names = _labels(group, "axis0", path)
    rows, _ = _labels(group, "axis1", path)
    index = _index(rows)
    place: dict[tuple[str, ...], int] = {}
    for i, column in enumerate(columns):
        if column in place:
            raise FileFormatError(f"{path}: the column {', '.join(column)} stands twice")
        place[column] = i
    blocks = []
    for b in range(_count(group.attrs["nblocks"], len(columns))):
        items, _ = _labels(group, f"block{b}_items", path)
        values = _dataset(group, f"block{b}_values", path)
        by_row = bool(values.attrs.get("transposed", 0))
        if _is_empty(values):
            by_row, expected = False, values.shape
        else:
            expected = (len(index), len(items)) if by_row else (len(items), len(index))
        if values.shape != expected or values.dtype.kind not in "fiub":
            raise ValueError(
                f"{values.name}: expected numbers {expected}, found {values.dtype} {values.shape}"
            )
        blocks.append((values, [place[item] for item in items], by_row))

    def read(start: int, stop: int) -> np.ndarray:
        found = np.full((stop - start, len(columns)), np.nan)
        with damage(path):
            for values, places, by_row in blocks:
                if stop > start:
                    part = values[start:stop] if by_row else values[:, start:stop].T
                    found[:, places] = part
        return found

    return StoredFrame(group.name.strip("/"), names, tuple(columns), index, read)


def _labels(
    group: h5py.Group, key: str, path: Path
) -> tuple[list[tuple[Any, ...]], tuple[str | None, ...]]:
    """The labels along an axis, and the names of their levels."""
    encoding = _encoding(group)
    variety = _text(group.attrs.get(f"{key}_variety", "regular"))
    if variety == "regular":
        dataset = _dataset(group, key, path)
        if _is_empty(dataset):
            return [], (None,)
        kind = _text(dataset.attrs.get("kind", ""))
        if kind not in ("string", "integer"):
            raise ValueError(f"{dataset.name}: expected texts or whole numbers, found {kind!r}")
        values = dataset[()]
        if kind == "integer":
            return [(int(value),) for value in values.ravel()], (_name(dataset),)
        return [(text,) for text in _texts(values.ravel(), encoding)], (_name(dataset),)
    if variety != "multi":
        raise ValueError(f"{key}: expected labels, found {variety!r}")
    levels, names = [], []
    for i in range(_count(group.attrs[f"{key}_nlevels"], 8)):
        level = _dataset(group, f"{key}_level{i}", path)
        label = _dataset(group, f"{key}_label{i}", path)
        codes = np.empty(0, np.int64) if _is_empty(label) else label[()].astype(np.int64).ravel()
        texts = [] if _is_empty(level) else _texts(level[()].ravel(), encoding)
        if codes.size and (codes.min() < -1 or codes.max() >= len(texts)):
            raise ValueError(f"{label.name}: expected numbers below {len(texts)}")
        texts.append("")  # code -1: no label
        levels.append([texts[code] for code in codes])
        names.append(_name(level))
    return list(zip(*levels, strict=True)), tuple(names)


def _name(dataset: h5py.Dataset) -> str | None:
    value = dataset.attrs.get("name")
    if value is None or not isinstance(value, (bytes, str)):
        return None
    text = _text(value)
    return None if text == "N." else text  # PyTables keeps None as a pickle


def _index(rows: list[tuple[Any, ...]]) -> np.ndarray:
    if rows and isinstance(rows[0][0], int):
        return np.array([row[0] for row in rows], np.int64)
    found = np.empty((len(rows), len(rows[0]) if rows else 1), object)
    for i, row in enumerate(rows):
        found[i] = row
    return found


def _count(value: Any, most: int) -> int:
    count = int(value)
    if not 0 <= count <= most:
        raise ValueError(f"expected a number up to {most}, found {count}")
    return count


# -- the table format ---------------------------------------------------------------------------


def _open_table(group: h5py.Group, path: Path) -> StoredFrame:
    table = _dataset(group, "table", path)
    fields = table.dtype.fields
    if fields is None or "index" not in fields:
        raise ValueError(f"{table.name}: expected rows with an index, found {table.dtype}")
    blocks: list[tuple[str, list[int]]] = []
    columns: list[tuple[str, ...]] = []
    for field in fields:
        if field == "index":
            continue
        labels = read_literal(table.attrs[f"{field}_kind"], table.name, path)
        width = int(np.prod(fields[field][0].shape, dtype=np.int64))
        if not isinstance(labels, list) or len(labels) != width:
            raise ValueError(f"{field}: expected {width} labels of columns")
        if fields[field][0].base.kind not in "fiub":
            raise ValueError(f"{field}: expected numbers, found {fields[field][0].base}")
        blocks.append((field, list(range(len(columns), len(columns) + width))))
        columns.extend(_label(label) for label in labels)
    order, names = _column_order(group, columns, path)
    index = _table_index(table, group)

    def read(start: int, stop: int) -> np.ndarray:
        found = np.full((stop - start, len(columns)), np.nan)
        with damage(path):
            rows = table[start:stop]
            for field, places in blocks:
                found[:, places] = rows[field].reshape(len(rows), -1)
        return found[:, order]

    ordered = tuple(columns[i] for i in order)
    return StoredFrame(group.name.strip("/"), names, ordered, index, read)


def _label(label: Any) -> tuple[str, ...]:
    parts = label if isinstance(label, (tuple, list)) else (label,)
    if not all(isinstance(part, (str, int)) for part in parts):
        raise ValueError("expected texts as labels of a column")
    return tuple(str(part) for part in parts)


def _column_order(
    group: h5py.Group, columns: list[tuple[str, ...]], path: Path
) -> tuple[list[int], tuple[str | None, ...]]:
    """The columns are stored by type; the DataFrame has them in another order, perhaps."""
    place = {column: i for i, column in enumerate(columns)}
    if len(place) != len(columns):
        twice = next(c for c in columns if columns.count(c) > 1)
        raise FileFormatError(f"{path}: the column {', '.join(twice)} stands twice")
    order = list(range(len(columns)))
    axes = read_literal(group.attrs["non_index_axes"], group.name, path)
    if isinstance(axes, list) and axes and isinstance(axes[0], tuple) and len(axes[0]) == 2:
        order = [place[_label(label)] for label in axes[0][1]]
        if sorted(order) != list(range(len(columns))):
            raise ValueError("expected each column once in non_index_axes")
    n_levels = len(columns[0]) if columns else 0
    names: tuple[str | None, ...] = (None,) * n_levels
    try:
        info = read_literal(group.attrs["info"], group.name, path)
        found = info[1]["names"]
    except (PickledDataError, KeyError, TypeError):
        return order, names  # older versions of pandas keep them as an object of theirs
    if isinstance(found, (list, tuple)) and len(found) == n_levels:
        names = tuple(None if name is None else str(name) for name in found)
    return order, names


def _table_index(table: h5py.Dataset, group: h5py.Group) -> np.ndarray:
    values = table["index"]
    if values.dtype.kind in "iu" and _text(table.attrs.get("index_kind", "integer")) == "integer":
        return values.astype(np.int64).ravel()
    if values.dtype.kind == "S":
        return _index([(text,) for text in _texts(values.ravel(), _encoding(group))])
    raise ValueError(f"expected frame numbers or images as index, found {values.dtype}")
