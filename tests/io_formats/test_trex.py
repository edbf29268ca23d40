"""TRex's exports: cm become pixels, infinity becomes nothing, one file an individual."""

from __future__ import annotations

import os

import numpy as np
import pytest

from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.services.formats import identify
from dpk_core.testing import check_format
from dpk_io_formats.trex import TrexFormat

TREX = TrexFormat()
CM = 0.0234


def _individual(number, n=20, first=0, poses=True, old=False):
    """Arrays as TRex 2 exports them, or TRex 1."""
    rng = np.random.default_rng(number)
    x, y = rng.uniform(0, 1000, (2, n))
    lost = np.zeros(n, bool)
    lost[[3, 4]] = True
    inf = np.where(lost, np.inf, 0)
    arrays = {
        "frame": np.arange(first, first + n, dtype=np.float32 if old else np.int64),
        "X#wcentroid": (x * CM + inf).astype(np.float32),
        "Y#wcentroid": (y * CM + inf).astype(np.float32),
        "X": (x * CM + 1 + inf).astype(np.float32),
        "Y": (y * CM + 1 + inf).astype(np.float32),
        "missing": lost.astype(np.float32),
        "ANGLE": rng.uniform(-3, 3, n) + inf,
        "SPEED": rng.random(n) + inf,
        "time": np.arange(n) / 30,
    }
    if poses:
        for k in range(3):
            arrays |= {f"poseX{k}": x + k + inf, f"poseY{k}": y - k + inf}
        arrays["poseX1"][6] = arrays["poseY1"][6] = np.inf
        arrays["poseX2"][7] = arrays["poseY2"][7] = 0
    if not old:
        arrays |= {
            "id": np.array([number], np.uint64),
            "cm_per_pixel": np.array([CM]),
            "frame_rate": np.array([30.0]),
            "detection_p": np.where(lost, np.inf, 0.75),
            "tracklets": np.array([[0, 2], [5, n]]),
        }
    return arrays, np.stack([x, y], axis=1), ~lost


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number in (0, 2, 10):
        np.savez(data / f"walk_id{number}.npz", **_individual(number, first=number)[0])
    np.savez(data / "walk_posture_id0.npz", frame=[0], X=[0.0], Y=[0.0])
    return tmp_path


@pytest.mark.parametrize("where", ["", "data"])
def test_a_folder_holds_all_individuals(folder, where):
    found = identify(folder / where)
    assert (found.spec.name, found.kinds) == ("trex", ("tracks", "poses"))
    report = LossReport()
    tracks = found.format.read(folder / where, "tracks", report=report)
    assert set(tracks.id.tolist()) == {0, 2, 10}
    assert tracks.provenance["track_names"] == {"0": "id0", "2": "id2", "10": "id10"}
    assert tracks.provenance["fps"] == 30
    assert (np.diff(tracks.frame) >= 0).all()
    for number in (0, 2, 10):
        arrays, xy, there = _individual(number, first=number)
        own = tracks[tracks.id == number]
        np.testing.assert_allclose(np.stack([own.x, own.y], 1), xy[there], atol=1e-3)
        np.testing.assert_array_equal(own.frame, arrays["frame"][there])
        np.testing.assert_allclose(own.angle, arrays["ANGLE"][there])
        assert (own.score == 0.75).all()
        assert not own.interpolated.any()
    counts = {loss.what: loss.count for loss in report}
    assert counts == {"measurements": 3 * 5, "keypoints": 9}


def test_poses_stream_one_individual_after_the_other(folder):
    stream = TREX.read(folder, "poses", keypoint_names=("head", "thorax", "tail"))
    poses = stream.read()
    assert stream.skeleton.names == ("head", "thorax", "tail")
    assert poses.track_ids.tolist() == [0] * 18 + [2] * 18 + [10] * 18
    _, xy, there = _individual(2, first=2)
    own = poses[poses.track_ids == 2]
    np.testing.assert_allclose(own.keypoints[:, 0], xy[there].astype(np.float32))
    np.testing.assert_array_equal(np.argwhere(np.isnan(own.keypoints[..., 0])), [[4, 1], [5, 2]])
    assert own.frames[0] == 2
    assert (own.scores == ~np.isnan(own.keypoints[..., 0])).all()


def test_a_single_file_is_one_individual(folder):
    tracks = TREX.read(folder / "data" / "walk_id2.npz")
    assert set(tracks.id.tolist()) == {2}
    assert len(tracks) == 18


def test_a_painted_blob_lies_where_it_was_painted(tmp_path):
    image = np.zeros((50, 60))
    image[10:15, 30:33] = 1
    y, x = (axis.mean() for axis in np.nonzero(image))
    arrays = {"frame": [4], "X#wcentroid": [x * 0.5], "Y#wcentroid": [y * 0.5]}
    np.savez(tmp_path / "a_id0.npz", cm_per_pixel=[0.5], **arrays)
    tracks = TREX.read(tmp_path / "a_id0.npz")
    assert (tracks.x[0], tracks.y[0], tracks.frame[0]) == (31, 12, 4)
    moved = TREX.read(tmp_path / "a_id0.npz", origin=(30, 25))
    assert (moved.x[0], moved.y[0]) == (61, 37)


def test_old_exports_need_the_scale(tmp_path):
    arrays, xy, there = _individual(1, poses=False, old=True)
    np.savez(tmp_path / "walk_fish1.npz", **arrays)
    assert TREX.kinds(tmp_path) == ("tracks",)
    with pytest.raises(FileFormatError, match="cm_per_pixel="):
        TREX.read(tmp_path)
    tracks = TREX.read(tmp_path, cm_per_pixel=CM)
    np.testing.assert_allclose(tracks.x, xy[there][:, 0], atol=1e-3)
    assert tracks.provenance["track_names"] == {"1": "fish1"}


def test_the_source_of_positions_can_be_chosen(folder):
    body, head = (TREX.read(folder, source=source) for source in ("wcentroid", ""))
    np.testing.assert_allclose(head.x - body.x, 1 / CM, rtol=1e-4)
    with pytest.raises(FileFormatError, match="no position 'pcentroid'; it has X"):
        TREX.read(folder, source="pcentroid")


def test_positions_that_were_filled_in_are_marked(tmp_path):
    arrays, _, _ = _individual(0)
    arrays["X#wcentroid"][3], arrays["Y#wcentroid"][3] = 1.0, 2.0
    arrays["X#wcentroid"][9] = np.inf
    report = LossReport()
    np.savez(tmp_path / "walk_id0.npz", **arrays)
    tracks = TREX.read(tmp_path, report=report)
    assert tracks.frame[tracks.interpolated].tolist() == [3]
    assert {loss.what: loss.count for loss in report}["coordinates"] == 1


def test_two_videos_and_two_of_one_id_are_refused(folder):
    np.savez(folder / "data" / "walk_fish2.npz", **_individual(2)[0])
    with pytest.raises(FileFormatError, match="same id 2"):
        TREX.read(folder)
    os.rename(folder / "data" / "walk_fish2.npz", folder / "data" / "run_id2.npz")
    with pytest.raises(FileFormatError, match=r"several videos \(run, walk\)"):
        TREX.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame": np.arange(20) + 0.5}, "'frame' holds no whole numbers"),
        ({"X#wcentroid": np.zeros(5)}, r"shape \(5,\); expected 20"),
        ({"frame": np.zeros(20, int)}, "stands in frame 0 a second time"),
        ({"ANGLE": np.array(["east"] * 20)}, "expected 20 numbers"),
    ],
)
def test_bad_files_are_refused(tmp_path, change, message):
    np.savez(tmp_path / "walk_id0.npz", **{**_individual(0)[0], **change})
    with pytest.raises(FileFormatError, match=message):
        TREX.read(tmp_path / "walk_id0.npz")


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("walk_id0.npz", **{**_individual(0)[0], "frame": np.array([_Bomb()] * 20, object)})
    with pytest.raises(FileFormatError, match="is a pickle"):
        TREX.read(tmp_path / "walk_id0.npz")
    assert not (tmp_path / "exploded").exists()


def test_options_and_absent_files(folder):
    with pytest.raises(ValidationError, match="expected 3 names, found 1"):
        TREX.read(folder, "poses", keypoint_names=("head",))
    with pytest.raises(ValidationError, match="source"):
        TREX.read(folder, source="nose")
    with pytest.raises(FileMissingError):
        TREX.read(folder / "none")
    np.savez(folder / "x_id0.npz", keypoints=[1])
    with pytest.raises(FileFormatError, match="no export of TRex"):
        TREX.read(folder / "x_id0.npz")


def test_contract_and_damage(folder):
    path = folder / "data" / "walk_id0.npz"
    check_format("trex", path)
    expected = TREX.read(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for turn in range(80):
        data = bytearray(content)
        if turn % 3:
            for i in rng.integers(len(data), size=4):
                data[i] = int(rng.integers(256))
        else:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data)
        TREX.sniff(path)
        try:
            tracks = TREX.read(path, source="wcentroid")
        except DpkError:
            continue
        np.testing.assert_array_equal(tracks.x, expected.x)
