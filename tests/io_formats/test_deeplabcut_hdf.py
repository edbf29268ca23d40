"""Tables of pandas in HDF5: read without pickle, without following links, and as pandas does."""

from __future__ import annotations

import pickle
from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import DpkError, FileFormatError
from dpk_io_formats.deeplabcut_hdf import has_frame, open_frame
from dpk_io_formats.deeplabcut_hdf_write import write_frame
from dpk_io_formats.literals import PickledDataError

NAMES = ("scorer", "bodyparts", "coords")
COLUMNS = [("Ann", part, c) for part in ("nose", "øre") for c in "xy"]


def read(path):
    with open_frame(path) as frame:
        return frame.columns, frame.names, frame.index, frame.read(0, len(frame))


@pytest.fixture
def pandas():
    pytest.importorskip("tables")
    return pytest.importorskip("pandas")


@pytest.fixture
def frame(pandas):
    columns = pandas.MultiIndex.from_tuples(COLUMNS, names=NAMES)
    return pandas.DataFrame(np.arange(12.0).reshape(3, 4), columns=columns)


@pytest.mark.parametrize(
    ("how", "index"),
    [("fixed", "frames"), ("fixed", "images"), ("fixed", "parts"),
     ("table", "frames"), ("table", "images")],
)  # fmt: skip
@pytest.mark.parametrize("shuffled", [False, True])
def test_reads_what_pandas_writes(tmp_path, pandas, frame, how, index, shuffled):
    if index == "images":
        frame.index = [f"labeled-data/día/img{i}.png" for i in range(3)]
    elif index == "parts":
        frame.index = pandas.MultiIndex.from_tuples(
            [("labeled-data", "día", f"img{i}.png") for i in range(3)]
        )
    frame.iloc[1, 2] = np.nan
    if shuffled:  # columns of two types are stored apart
        frame = frame.iloc[:, [3, 0, 2, 1]].astype({COLUMNS[0]: np.float32})
    frame.to_hdf(tmp_path / "a.h5", key="anything", format=how, mode="w")
    columns, names, found, values = read(tmp_path / "a.h5")
    assert list(columns) == list(frame.columns)
    assert names == NAMES
    assert [tuple(np.atleast_1d(row)) for row in found] == [
        row if isinstance(row, tuple) else (row,) for row in frame.index
    ]
    assert np.array_equal(values, frame.to_numpy(), equal_nan=True)


def test_reads_an_empty_table_and_pieces_of_one(tmp_path, frame):
    frame.iloc[:0].to_hdf(tmp_path / "e.h5", key="df_with_missing", mode="w")
    assert len(read(tmp_path / "e.h5")[2]) == 0
    frame.to_hdf(tmp_path / "a.h5", key="df_with_missing", format="table", mode="w")
    with open_frame(tmp_path / "a.h5") as stored:
        assert np.array_equal(stored.read(1, 2), frame.to_numpy()[1:2])


@pytest.mark.parametrize(
    "index", [np.arange(3), [("labeled-data", "día", f"img{i}.png") for i in range(3)],
              [(f"labeled-data/v/{i}",) for i in range(3)]]
)  # fmt: skip
def test_pandas_reads_what_is_written(tmp_path, pandas, index):
    values = np.array([[1, 2, np.nan, 4], [5, 6, 7, 8], [1e-9, -2, 3e5, 1 / 3]])
    write_frame(tmp_path / "a.h5", COLUMNS, NAMES, index, [values[:2], values[2:]])
    for found in (
        pandas.read_hdf(tmp_path / "a.h5"),
        pandas.read_hdf(tmp_path / "a.h5", "df_with_missing"),
    ):
        assert found.columns.tolist() == COLUMNS
        assert list(found.columns.names) == list(NAMES)
        assert set(found.dtypes) == {np.dtype("float64")}
        assert np.array_equal(found.to_numpy(), values, equal_nan=True)
        expected = [row if len(row) > 1 else row[0] for row in index] if len(np.shape(index)) > 1 \
            else index.tolist()  # fmt: skip
        assert found.index.tolist() == expected
    assert np.array_equal(read(tmp_path / "a.h5")[3], values, equal_nan=True)


class Bomb:
    def __reduce__(self):
        return (open, ("bomb-went-off", "w"))


def test_pickles_are_read_as_literals_or_not_at_all(tmp_path, frame, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.h5"
    frame.to_hdf(path, key="df_with_missing", format="table", mode="w")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with h5py.File(path, "a") as file:
            attrs = file["df_with_missing/table"].attrs
            attrs["values_block_0_kind"] = np.void(pickle.dumps(COLUMNS, protocol))
        with h5py.File(path, "a") as file:
            value = file["df_with_missing/table"].attrs["values_block_0_kind"].tobytes()
            assert pickle.loads(value) == COLUMNS
    for bomb in (Bomb(), [Bomb()], np.float64(3)):
        with h5py.File(path, "a") as file:
            attrs = file["df_with_missing/table"].attrs
            attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(bomb, 0))
        with pytest.raises(PickledDataError, match=r"more than texts and numbers.*\.csv beside it"):
            read(path)
    assert has_frame(path)
    assert not (tmp_path / "bomb-went-off").exists()


def test_a_pickle_that_grows_without_end_is_no_matter(tmp_path, frame):
    path = tmp_path / "a.h5"
    frame.to_hdf(path, key="df_with_missing", format="table", mode="w")
    nested: list = []
    for _ in range(60):
        nested = [nested, nested]
    with h5py.File(path, "a") as file:
        file["df_with_missing/table"].attrs["values_block_0_kind"] = np.bytes_(
            pickle.dumps(nested, 0)
        )
    with pytest.raises(FileFormatError):
        read(path)


def test_objects_are_not_unpickled(tmp_path, pandas, frame):
    with pytest.warns(pandas.errors.PerformanceWarning):
        frame.astype(object).to_hdf(tmp_path / "a.h5", key="df_with_missing", mode="w")
    with pytest.raises(PickledDataError, match="holds pickled objects"):
        read(tmp_path / "a.h5")


def test_links_and_data_elsewhere_are_not_followed(tmp_path):
    target, path = tmp_path / "target.h5", tmp_path / "a.h5"
    write_frame(target, COLUMNS, NAMES, np.arange(3), [np.zeros((3, 4))])
    with h5py.File(path, "w") as file:
        file["df_with_missing"] = h5py.ExternalLink("target.h5", "/df_with_missing")
    assert not has_frame(path)
    with pytest.raises(FileFormatError, match=r"links .*df_with_missing.* are not followed"):
        read(path)
    for make in (
        lambda group: group.__setitem__(
            "block0_values", h5py.ExternalLink("target.h5", "/df_with_missing/block0_values")
        ),
        lambda group: group.__setitem__("block0_values", h5py.SoftLink("/df_with_missing/axis1")),
        lambda group: group.create_dataset(
            "block0_values", (3, 4), "f8", external=[(str(target), 0, 96)]
        ),
    ):
        write_frame(path, COLUMNS, NAMES, np.arange(3), [np.zeros((3, 4))])
        with h5py.File(path, "a") as file:
            del file["df_with_missing/block0_values"]
            make(file["df_with_missing"])
        with pytest.raises(FileFormatError, match=r"not followed|in other files"):
            read(path)


def test_two_equal_columns_and_a_shape_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    write_frame(path, [*COLUMNS[:3], COLUMNS[0]], NAMES, np.arange(3), [np.zeros((3, 4))])
    with pytest.raises(FileFormatError, match="Ann, nose, x stands twice"):
        read(path)
    write_frame(path, COLUMNS, NAMES, np.arange(3), [np.zeros((3, 4))])
    with h5py.File(path, "a") as file:
        del file["df_with_missing/axis1"]
        huge = file["df_with_missing"].create_dataset("axis1", (1 << 40,), "i8", chunks=(1024,))
        huge.attrs["kind"] = "integer"
    with pytest.raises(FileFormatError, match="should hold"):
        read(path)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), how=st.sampled_from(["fixed", "table"]))
def test_mutated_files_never_crash(tmp_path_factory, seed, how):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    path = tmp_path_factory.mktemp("fuzz") / "a.h5"
    columns = pandas.MultiIndex.from_tuples(COLUMNS, names=NAMES)
    frame = pandas.DataFrame(np.arange(40.0).reshape(10, 4), columns=columns)
    frame.to_hdf(path, key="df_with_missing", format=how, mode="w", index=False)
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 40)):
        content[rng.integers(len(content))] = rng.integers(256)
    path.write_bytes(bytes(content))
    with suppress(DpkError):
        columns, _, index, values = read(path)
        assert values.shape == (len(index), len(columns))
