"""NumPy's .npz: plain arrays that np.load opens, and never a pickle."""

from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pytest

from dpk_core.errors import FileFormatError, FileMissingError, SkeletonError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.testing.formats import sample_of
from dpk_core.tracks import Tracks
from dpk_io_formats.npz import NumpyFormat

NUMPY = NumpyFormat()
XY = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def _read(path, kind="poses", **options):
    found = NUMPY.read(path, kind, **options)
    return found.read() if kind == "poses" else found


def test_numpy_loads_plain_arrays(tmp_path):
    stream = sample_of("poses")
    NUMPY.write(tmp_path / "p.npz", stream)
    poses = stream.read()
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["keypoints"], poses.keypoints)
        np.testing.assert_array_equal(file["scores"], poses.scores)
        np.testing.assert_array_equal(file["frames"], poses.frames)
        np.testing.assert_array_equal(file["track_ids"], poses.track_ids)
        assert file["keypoint_names"].tolist() == list(poses.skeleton.names)
        assert file["skeleton"].tolist() == poses.skeleton.to_array().tolist()
        assert "anna" in str(file["provenance"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_saves(tmp_path, save):
    report = LossReport()
    save(tmp_path / "p.npz", keypoints=np.asfortranarray(XY.astype(np.float64)), speed=[1, 2])
    poses = _read(tmp_path / "p.npz", report=report)
    np.testing.assert_array_equal(poses.keypoints, XY)
    assert poses.skeleton.names == ("keypoint_0", "keypoint_1")
    assert poses.frames.tolist() == [0, 1, 2]
    assert (poses.scores == 1).all()
    assert {loss.what: loss.count for loss in report} == {"arrays": 1, "keypoint scores": 6}


def test_reads_tracks_with_the_needed_columns(tmp_path):
    np.savez(
        tmp_path / "t.npz", frame=[0, 1], id=[7, 7], x=[1.0, 2], y=[3.0, 4], angle=[0.5, np.nan]
    )
    tracks = _read(tmp_path / "t.npz", "tracks")
    assert tracks.id.tolist() == [7, 7]
    assert tracks.score.tolist() == [1, 1]
    assert np.isnan(tracks.width).all()


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bomb = np.array([_Bomb()], object)
    np.savez("p.npz", keypoints=bomb)
    np.savez("q.npz", keypoints=XY, keypoint_names=bomb)
    np.savez("t.npz", frame=bomb, id=[1], x=[1.0], y=[1.0])
    for name, kind in (("p.npz", "poses"), ("q.npz", "poses"), ("t.npz", "tracks")):
        with pytest.raises(FileFormatError, match="is a pickle, which can run any code"):
            _read(tmp_path / name, kind)
    np.save("bomb.npy", bomb)
    assert not NUMPY.sniff("bomb.npy")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"keypoints": XY[..., 0]}, FileFormatError, r"shape \(3, 2\); expected \(rows, keypoi"),
        ({"keypoints": XY, "scores": XY[..., 0][:2]}, FileFormatError, "'scores' has the shape"),
        ({"keypoints": XY, "scores": np.full((3, 2), 1.5)}, FileFormatError, "row 0.*from 0 to 1"),
        ({"keypoints": np.where(XY == 5, np.inf, XY)}, FileFormatError, "row 1: .*infinite"),
        ({"keypoints": XY, "frames": [0.5, 1, 2]}, FileFormatError, "'frames' holds float64"),
        ({"keypoints": XY, "track_ids": [0, 0, 2**40]}, FileFormatError, "row 2: the track"),
        ({"keypoints": XY, "keypoint_names": ["a", "a"]}, SkeletonError, "stands twice"),
        ({"keypoints": XY, "keypoint_names": ["a"]}, FileFormatError, "expected 2 texts"),
        ({"keypoints": XY, "skeleton": [[1, -1], [0, -1]]}, SkeletonError, "cycle"),
        ({"keypoints": XY, "skeleton": [[1.5, -1], [0, -1]]}, FileFormatError, "indices"),
        ({"keypoints": XY, "provenance": "{"}, FileFormatError, "damaged"),
        ({"keypoints": XY.astype("S4")}, FileFormatError, "expected numbers"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, arrays, error, message):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(error, match=message):
        _read(tmp_path / "p.npz")


def test_an_array_that_cannot_be_so_large_is_refused(tmp_path):
    """Before memory is asked for."""
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 5, 2)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as file:
        file.writestr("keypoints.npy", header.getvalue() + bytes(100))
    with pytest.raises(FileFormatError, match=r"should be float32 .* but has 100 bytes"):
        _read(tmp_path / "p.npz")


def test_a_changed_byte_and_a_lost_array_are_noticed(tmp_path):
    path = tmp_path / "p.npz"
    NUMPY.write(path, sample_of("poses"))
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[whole.find(b"scores.npy") + 200] ^= 1
    path.write_bytes(changed)
    with pytest.raises(FileFormatError, match="damaged"):
        _read(path)
    path.write_bytes(whole.replace(b"scores.npy", b"scoreZ.npy"))
    with pytest.raises(FileFormatError, match="without scores, but with scoreZ"):
        _read(path)


def test_other_archives_are_not_claimed(tmp_path):
    np.savez(tmp_path / "trex.npz", frame=[0], X=[1.0], Y=[2.0])
    assert not NUMPY.sniff(tmp_path / "trex.npz")
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as file:
        file.writestr("../../keypoints.npy", b"")
    assert not NUMPY.sniff(tmp_path / "z.npz")
    with pytest.raises(FileMissingError):
        NUMPY.read(tmp_path / "none.npz", "poses")


def test_what_numpy_cannot_hold_is_refused(tmp_path):
    poses = Poses(np.ones((1, 1, 2)), np.ones((1, 1)), Skeleton(("a\x00",)))
    with pytest.raises(ValidationError, match="NUL"):
        NUMPY.write(tmp_path / "p.npz", PoseStream.of(poses))
    with pytest.raises(ValidationError, match="unknown options"):
        NUMPY.write(tmp_path / "p.npz", Tracks([], [], [], []), level=3)
