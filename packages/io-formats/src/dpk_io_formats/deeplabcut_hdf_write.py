"""Tables as pandas writes them to HDF5, written without pandas or PyTables.

They have pandas' fixed format, as those of labels that DeepLabCut since version 2.2 writes: it
alone holds rows with several labels and any number of columns. Source: pandas 1.0 to 3.0,
``pandas/io/pytables.py`` (GenericFixed); attributes as PyTables 3.x has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_io_formats.deeplabcut_hdf import KEY


def write_frame(
    path: Path,
    columns: Sequence[Sequence[str]],
    names: Sequence[str],
    index: np.ndarray | Sequence[Sequence[str]],
    pieces: Iterable[np.ndarray],
) -> None:
    """Write a DataFrame of float64 that ``pandas.read_hdf(path)`` opens.

    Parameters
    ----------
    columns, names
        The labels of each column, and the names of their levels.
    index
        (n,) whole numbers, or the labels of each row.
    pieces
        (m, columns) numbers, together as many rows as the index has.
    """
    n_rows = len(index)
    with h5py.File(path, "w") as file:
        _stamp(file, "GROUP", "1.0")
        _set_text(file, "PYTABLES_FORMAT_VERSION", "2.1")
        group = file.create_group(KEY)
        _stamp(group, "GROUP", "1.0")
        _set_text(group, "pandas_type", "frame")
        _set_text(group, "encoding", "UTF-8")
        _set_text(group, "errors", "strict")
        group.attrs["ndim"] = np.int64(2)
        group.attrs["nblocks"] = np.int64(1)
        _write_labels(group, "axis0", columns, names)
        _write_labels(group, "block0_items", columns, names)
        if isinstance(index, np.ndarray):
            _write_numbers(group, "axis1", index)
        elif len(index[0]) == 1:
            _write_texts(group, "axis1", [row[0] for row in index], None)
            _set_text(group, "axis1_variety", "regular")
        else:
            _write_labels(group, "axis1", index, [None] * len(index[0]))
        values = group.create_dataset("block0_values", (n_rows, len(columns)), "<f8")
        _stamp_array(values)
        start = 0
        for piece in pieces:
            values[start : start + len(piece)] = piece
            start += len(piece)


def _write_labels(
    group: h5py.Group, key: str, labels: Sequence[Sequence[str]], names: Sequence[str | None]
) -> None:
    _set_text(group, f"{key}_variety", "multi")
    group.attrs[f"{key}_nlevels"] = np.int64(len(names))
    for i, name in enumerate(names):
        texts = [str(label[i]) for label in labels]
        level = sorted(set(texts))
        place = {text: code for code, text in enumerate(level)}
        _write_texts(group, f"{key}_level{i}", level, name)
        _set_text(group[f"{key}_level{i}"], f"{key}_name{name}", name)
        dtype = next(d for d in (np.int8, np.int16, np.int32) if len(level) <= np.iinfo(d).max)
        codes = np.array([place[text] for text in texts], dtype)
        _stamp_array(group.create_dataset(f"{key}_label{i}", data=codes))


def _write_texts(group: h5py.Group, key: str, texts: Sequence[str], name: str | None) -> None:
    encoded = [text.encode("utf-8") for text in texts]
    width = max(1, max(map(len, encoded), default=1))
    dataset = group.create_dataset(key, data=np.array(encoded, f"S{width}"))
    _stamp_array(dataset)
    _set_text(dataset, "kind", "string")
    _set_text(dataset, "name", name)
    _set_text(dataset, "nan_rep", "")


def _write_numbers(group: h5py.Group, key: str, numbers: np.ndarray) -> None:
    dataset = group.create_dataset(key, data=numbers.astype("<i8"))
    _stamp_array(dataset)
    _set_text(dataset, "kind", "integer")
    _set_text(dataset, "name", None)
    _set_text(group, f"{key}_variety", "regular")


def _stamp_array(dataset: h5py.Dataset) -> None:
    _stamp(dataset, "ARRAY", "2.4")
    _set_text(dataset, "FLAVOR", "numpy")
    dataset.attrs["transposed"] = np.uint8(1)


def _stamp(item: Any, kind: str, version: str) -> None:
    _set_text(item, "CLASS", kind)
    _set_text(item, "TITLE", "")
    _set_text(item, "VERSION", version)


def _set_text(item: Any, name: str, text: str | None) -> None:
    """An attribute as PyTables has it: UTF-8 of fixed length; None is a pickle, and those ASCII."""
    if text is None:
        item.attrs[name] = np.bytes_(b"N.")
        return
    encoded = text.encode()
    dtype = h5py.string_dtype("utf-8", max(1, len(encoded)))
    if encoded:
        item.attrs.create(name, encoded, dtype=dtype)
    else:
        item.attrs.create(name, h5py.Empty(dtype))
