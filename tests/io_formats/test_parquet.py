"""Parquet: what pandas and other programs write and read."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpk_core.errors import FileFormatError, FileMissingError, SkeletonError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.testing.formats import sample_of
from dpk_core.tracks import Tracks
from dpk_io_formats.parquet import ParquetFormat

PARQUET = ParquetFormat()


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "p.parquet"
    poses = sample_of("poses")
    PARQUET.write(path, poses)
    return path, poses.read()


def test_pandas_reads_the_same_numbers(written):
    path, poses = written
    table = pd.read_parquet(path)
    assert list(table) == ["frame", "track", "track_name", "keypoint", "x", "y", "score"]
    xy = table[["x", "y"]].to_numpy().reshape(-1, 3, 2)
    assert xy.dtype == np.float32
    np.testing.assert_array_equal(xy, poses.keypoints)
    np.testing.assert_array_equal(table["frame"].to_numpy()[::3], poses.frames)
    assert table["keypoint"].astype(str).tolist() == list(poses.skeleton.names) * len(poses)
    assert set(table["track_name"].astype(str)) == {"anna", "bert"}


def test_reads_what_pandas_writes(written, tmp_path):
    path, poses = written
    table = pd.read_parquet(path)
    table["track"] = table["track"].astype(float)
    table["keypoint"] = table["keypoint"].astype(str)
    table.to_parquet(tmp_path / "q.parquet")
    report = LossReport()
    back = PARQUET.read(tmp_path / "q.parquet", "poses", report=report)
    assert back.skeleton == Skeleton(poses.skeleton.names)
    assert back.provenance == {"track_names": {"0": "anna", "3": "bert"}}
    np.testing.assert_array_equal(back.read().keypoints, poses.keypoints)
    np.testing.assert_array_equal(back.read().track_ids, poses.track_ids)
    assert not report


def test_wide_numbers_are_rounded_and_reported(tmp_path):
    table = {"frame": [0, 1], "track": [0, 0], "keypoint": ["a", "a"], "x": [0.1, 0.5]}
    table |= {"y": [1.0, np.nan], "score": [1.0, 0.25]}
    pd.DataFrame(table).to_parquet(tmp_path / "q.parquet")
    report = LossReport()
    poses = PARQUET.read(tmp_path / "q.parquet", "poses", report=report).read()
    assert poses.keypoints[0, 0].tolist() == [np.float32(0.1), 1]
    assert {loss.what: loss.count for loss in report} == {
        "decimals": 1,
        "coordinates": 1,
        "keypoint scores": 1,
    }


def test_the_stream_knows_its_length_and_its_pieces_are_bounded(tmp_path):
    skeleton = Skeleton(("a", "b", "c"))
    poses = Poses(np.zeros((20000, 3, 2)), np.ones((20000, 3)), skeleton)
    PARQUET.write(tmp_path / "p.parquet", PoseStream.of(poses, 100))
    with pq.ParquetFile(tmp_path / "p.parquet") as file:
        assert file.metadata.num_row_groups == 1  # small pieces are gathered
    stream = PARQUET.read(tmp_path / "p.parquet", "poses")
    assert stream.length == 20000
    assert [len(piece) for piece in stream] == [8192, 8192, 3616]
    assert np.concatenate([p.frames for p in stream]).tolist() == list(range(20000))


def _table(**columns):
    base = {"frame": [0, 0], "track": [0, 0], "keypoint": ["a", "b"], "x": [1.0, 2], "y": [1.0, 2]}
    table = {**base, "score": [1.0, 1], **columns}
    return pa.table({name: column for name, column in table.items() if column is not None})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (_table(score=None), "missing: 'score'"),
        (_table(who=[1, 2]), "unknown: 'who'"),
        (_table(x=["left", "right"]), "column 'x' holds string, expected float"),
        (_table(frame=[0.5, 0.5]), "column 'frame' holds double, expected int64"),
        (_table(keypoint=["a", None]), "row 2: the keypoint has no name"),
        (_table(keypoint=["a", "a"], score=[1.0, 7]), "row 2: expected a score from 0 to 1"),
        (_table(x=[1.0, np.inf]), "row 2: a coordinate is infinite"),
        (_table(frame=[0, None]), "frame"),
        (_table().slice(0, 0), "no rows"),
    ],
)
def test_bad_tables_are_refused(tmp_path, table, message):
    pq.write_table(table, tmp_path / "q.parquet")
    with pytest.raises(FileFormatError, match=message):
        PARQUET.read(tmp_path / "q.parquet", "poses").read()


def test_a_row_that_is_missing_is_noticed(tmp_path):
    keypoints = ["a", "b", "a", "b", "a"]
    table = _table(frame=[0, 0, 1, 1, 2], track=[0] * 5, keypoint=keypoints, x=[1.0] * 5,
                   y=[1.0] * 5, score=[1.0] * 5)  # fmt: skip
    pq.write_table(table, tmp_path / "q.parquet")
    with pytest.raises(FileFormatError, match="5 rows, which is no multiple of its 2 keypoints"):
        PARQUET.read(tmp_path / "q.parquet", "poses")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"version": 99}, FileFormatError, "newer dpk .*pip install -U"),
        ({"skeleton": "head"}, FileFormatError, "no list of names"),
        ({"skeleton": [["a", "b", None], ["b", "a", None]]}, SkeletonError, "cycle"),
        ({"skeleton": [["a", "x", None], ["b", None, None]]}, SkeletonError, "not a keypoint"),
        ({"skeleton": [["b", None, None], ["a", None, None]]}, FileFormatError, "row 1: found"),
        ({"provenance": [1]}, FileFormatError, "no JSON object"),
    ],
)
def test_bad_metadata_is_refused(tmp_path, change, error, message):
    stored = {"kind": "poses", "version": 1, "provenance": {}} | change
    table = _table().replace_schema_metadata({"dpk": json.dumps(stored)})
    pq.write_table(table, tmp_path / "q.parquet")
    with pytest.raises(error, match=message):
        PARQUET.read(tmp_path / "q.parquet", "poses").read()


def test_a_changed_byte_is_noticed(written):
    path, poses = written
    content = bytearray(path.read_bytes())
    at = content.find(poses.keypoints[5, 2, :1].tobytes())
    assert at > 0
    content[at] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="damaged"):
        PARQUET.read(path, "poses").read()


def test_names_with_blanks_keep_them(tmp_path):
    skeleton = Skeleton((" a", "a ", "a"), [-1, 0, 1], [1, 0, -1])
    path = tmp_path / "p.parquet"
    PARQUET.write(path, PoseStream.of(Poses(np.ones((1, 3, 2)), np.ones((1, 3)), skeleton)))
    assert PARQUET.read(path, "poses").skeleton == skeleton


def test_empty_poses_keep_their_skeleton(tmp_path):
    skeleton = Skeleton(("a", "b"), [-1, 0])
    path = tmp_path / "p.parquet"
    PARQUET.write(path, PoseStream.of(Poses(np.empty((0, 2, 2)), np.empty((0, 2)), skeleton)))
    stream = PARQUET.read(path, "poses")
    assert (stream.skeleton, stream.length, len(stream.read())) == (skeleton, 0, 0)


def test_absent_files_folders_and_options(tmp_path, written):
    with pytest.raises(FileMissingError):
        PARQUET.read(tmp_path / "none.parquet", "poses")
    with pytest.raises(FileFormatError, match="folder"):
        PARQUET.read(tmp_path, "poses")
    (tmp_path / "x.parquet").write_bytes(written[0].read_bytes()[:-5])
    with pytest.raises(FileFormatError, match="not a Parquet file"):
        PARQUET.read(tmp_path / "x.parquet", "poses")
    with pytest.raises(ValidationError, match="unknown options"):
        PARQUET.write(tmp_path / "q.parquet", Tracks([], [], [], []), level=3)
