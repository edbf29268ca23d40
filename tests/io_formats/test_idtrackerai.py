"""idtracker.ai's trajectories in every plain form, and the pickles that it also writes."""

from __future__ import annotations

import json
import os
import pickle

import cv2
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from dpk_core.errors import DpkError, FileFormatError, FileMissingError
from dpk_core.losses import LossReport
from dpk_core.services.formats import identify
from dpk_core.testing import check_format
from dpk_io_formats.idtrackerai import IdtrackeraiFormat

IDTRACKERAI = IdtrackeraiFormat()
ATTRIBUTES = {
    "version": "6.0.14",
    "frames_per_second": 30.0,
    "body_length": 12.5,
    "identities_labels": ["anna", "bert", "cleo"],
    "video_paths": ["/data/a.mp4"],
}


def _trajectories(n=9):
    rng = np.random.default_rng(3)
    xy = np.round(rng.uniform(0, 500, (n, 3, 2)), 3)
    probabilities = np.round(rng.uniform(0, 1, (n, 3)), 3)
    xy[4, 1] = np.nan
    probabilities[4, 1] = 0
    return xy, probabilities


def _write_h5(folder, xy, probabilities):
    with h5py.File(folder / "trajectories.h5", "w") as file:
        file.create_dataset("trajectories", data=xy, compression="gzip")
        file.create_dataset("id_probabilities", data=probabilities[..., None], compression="gzip")
        file.create_group("areas").create_dataset("mean", data=[1.0, 2, 3])
        file.attrs.update(ATTRIBUTES)


def _write_csv(folder, xy, probabilities):
    (folder / "trajectories_csv").mkdir()
    time = np.arange(len(xy)) / 30
    for name, columns, array in (
        ("trajectories", [f"{a}{i}" for i in (1, 2, 3) for a in "xy"], xy.reshape(len(xy), -1)),
        ("id_probabilities", [f"id_probabilities{i}" for i in (1, 2, 3)], probabilities),
    ):
        np.savetxt(
            folder / "trajectories_csv" / f"{name}.csv",
            np.column_stack([time, array]),
            delimiter=",",
            header=",".join(["time", *columns]),
            fmt="%.3f",
            comments="",
        )
    (folder / "trajectories_csv" / "attributes.json").write_text(json.dumps(ATTRIBUTES))


def _long(xy, probabilities):
    n, animals = probabilities.shape
    frame = np.repeat(np.arange(n), animals)
    individual = np.tile(np.arange(animals), n)
    columns = {"frame": frame, "time": frame / 30, "individual": individual}
    columns |= {"x": xy[..., 0].ravel(), "y": xy[..., 1].ravel()}
    return pd.DataFrame(columns | {"probability": probabilities.ravel()})


def _write_tidy(folder, xy, probabilities):
    _long(xy, probabilities).to_csv(folder / "trajectories_tidy.csv", index=False, na_rep="nan")
    (folder / "attributes_tidy.json").write_text(json.dumps(ATTRIBUTES))


def _write_parquet(folder, xy, probabilities):
    table = pa.Table.from_pandas(_long(xy, probabilities))
    metadata = {**table.schema.metadata, "idtrackerai_attributes": json.dumps(ATTRIBUTES)}
    pa.parquet.write_table(table.replace_schema_metadata(metadata), folder / "trajectories.parquet")


FORMS = {
    "trajectories.h5": _write_h5,
    "trajectories_csv/trajectories.csv": _write_csv,
    "trajectories_tidy.csv": _write_tidy,
    "trajectories.parquet": _write_parquet,
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("how", ["file", "folder", "session"])
def test_reads_every_plain_form(tmp_path, name, how):
    session = tmp_path / "session_walk"
    folder = session / "trajectories"
    folder.mkdir(parents=True)
    xy, probabilities = _trajectories()
    FORMS[name](folder, xy, probabilities)
    (folder / "trajectories.npy").write_bytes(b"\x93NUMPY never looked at")
    path = {"file": folder / name, "folder": folder, "session": session}[how]
    found = identify(path)
    assert (found.spec.name, found.kinds) == ("idtrackerai", ("tracks",))
    report = LossReport()
    tracks = found.format.read(path, "tracks", report=report)
    there = ~np.isnan(xy[..., 0])
    np.testing.assert_array_equal(np.stack([tracks.frame, tracks.id]), np.nonzero(there))
    np.testing.assert_allclose(np.stack([tracks.x, tracks.y], 1), xy[there])
    np.testing.assert_allclose(tracks.score, probabilities[there], atol=1e-6)
    assert tracks.provenance["track_names"] == {"0": "anna", "1": "bert", "2": "cleo"}
    assert tracks.provenance["fps"] == 30
    assert {loss.what for loss in report} == {"attributes"}
    assert "body_length" in str(report)


def test_a_painted_blob_lies_where_it_was_painted(tmp_path):
    """Its centre as idtracker.ai computes it: moments of the contour."""
    image = np.zeros((60, 80), np.uint8)
    image[20:31, 40:47] = 255
    contours, _ = cv2.findContours(image, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_KCOS)
    m = cv2.moments(contours[0])
    xy = np.array([[[m["m10"] / m["m00"], m["m01"] / m["m00"]]]])
    with h5py.File(tmp_path / "trajectories.h5", "w") as file:
        file["trajectories"] = xy
    tracks = IDTRACKERAI.read(tmp_path / "trajectories.h5")
    np.testing.assert_allclose([tracks.x[0], tracks.y[0]], [43, 25])


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("name", ["trajectories.npy", "with_gaps.npy", "trajectories.pickle"])
def test_a_pickle_is_never_opened(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, {"trajectories": _Bomb()}, allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps({"trajectories": _Bomb()}))
    assert IDTRACKERAI.sniff(path)
    for given in (path, tmp_path):
        with pytest.raises(FileFormatError, match="idtrackerai_format SESSION --formats h5"):
            IDTRACKERAI.read(given)
    assert not (tmp_path / "exploded").exists()


def test_what_is_lost_is_reported(tmp_path):
    xy, probabilities = _trajectories()
    xy[0, 0, 1] = np.nan
    probabilities[1, 0] = np.nan
    _write_h5(tmp_path, xy, probabilities)
    report = LossReport()
    tracks = IDTRACKERAI.read(tmp_path / "trajectories.h5", report=report)
    counts = {loss.what: loss.count for loss in report}
    assert counts == {"coordinates": 1, "id_probabilities": 1, "attributes": 2}
    assert tracks.score[(tracks.frame == 1) & (tracks.id == 0)].tolist() == [1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.100,", "0.100,x,", "row 5: expected 7 cells, found 8"),
        ("0.100,", "zero,", "row 5: expected a number, found 'zero'"),
    ],
)
def test_a_bad_row_is_named(tmp_path, old, new, message):
    _write_csv(tmp_path, *_trajectories())
    path = tmp_path / "trajectories_csv" / "trajectories.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FileFormatError, match=message):
        IDTRACKERAI.read(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,0,0,1,2,1\n0,0,0,3,4,1\n", "row 3: the individual 0 stands in frame 0 a second"),
        ("0,0,0,1,2,1\n0.5,0,0,3,4,1\n", "row 3: frame and individual must be whole"),
        ("0,0,0,1,2,1\n2000000000,0,5,3,4,1\n", "a number of a frame or an individual is far off"),
        ("0,0,0,inf,2,1\n", "frame 0 is infinite"),
    ],
)
def test_bad_tidy_tables_are_refused(tmp_path, rows, message):
    path = tmp_path / "trajectories_tidy.csv"
    path.write_text("frame,time,individual,x,y,probability\n" + rows)
    with pytest.raises(FileFormatError, match=message):
        IDTRACKERAI.read(path)


def test_empty_absent_and_foreign_files(tmp_path):
    path = tmp_path / "trajectories_tidy.csv"
    path.write_text("frame,time,individual,x,y,probability\n")
    assert len(IDTRACKERAI.read(path)) == 0
    with pytest.raises(FileMissingError):
        IDTRACKERAI.read(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileFormatError, match="holds no trajectories"):
        IDTRACKERAI.read(tmp_path / "empty")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["trajectories"] = h5py.ExternalLink("y.h5", "trajectories")
    assert not IDTRACKERAI.sniff(tmp_path / "x.h5")


@pytest.mark.parametrize("name", FORMS)
def test_contract_and_damage(tmp_path, name):
    FORMS[name](tmp_path, *_trajectories())
    path = tmp_path / name
    check_format("idtrackerai", path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for turn in range(40):
        data = bytearray(content)
        if turn % 3:
            for i in rng.integers(len(data), size=4):
                data[i] = int(rng.integers(256))
        else:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data)
        IDTRACKERAI.sniff(path)
        try:
            IDTRACKERAI.read(path)
        except DpkError:
            continue
