"""movement's netCDF, opened by xarray and, where it is installed, checked by movement itself."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from dpk_core.errors import FileFormatError, MissingDependencyError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.testing.formats import sample_of
from dpk_core.tracks import Tracks
from dpk_io_formats.movement import MovementFormat

pytest.importorskip("h5netcdf")
xr = pytest.importorskip("xarray")

MOVEMENT = MovementFormat()
DIMS = ("time", "space", "keypoints", "individuals")


def _theirs(n=6, fps=25.0, **changes):
    """A dataset as movement's ``ValidPosesInputs.to_dataset`` makes it."""
    rng = np.random.default_rng(0)
    position = rng.uniform(0, 100, (n, 2, 3, 2))
    position[2, :, 1, 0] = np.nan
    position[4, :, :, 1] = np.nan
    confidence = rng.uniform(0, 1, (n, 3, 2))
    confidence[np.isnan(position[:, 0])] = np.nan
    parts = {"position": position, "confidence": confidence, "time": np.arange(n) / (fps or 1)}
    parts |= {"space": ["x", "y"], "keypoints": ["a", "b", "c"], "individuals": ["anna", "bert"]}
    parts |= {"attrs": {"ds_type": "poses", "source_software": "SLEAP"}} | changes
    attrs = dict(parts["attrs"])
    if fps:
        attrs |= {"fps": fps, "time_unit": "seconds"}
    else:
        attrs["time_unit"] = "frames"
    return xr.Dataset(
        {
            "position": xr.DataArray(parts["position"], dims=DIMS),
            "confidence": xr.DataArray(parts["confidence"], dims=("time", *DIMS[2:])),
        },
        {name: parts[name] for name in DIMS},
        attrs,
    )


def _save(dataset, path):
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


def test_xarray_opens_poses_as_movement_has_them(tmp_path):
    stream = sample_of("poses")
    MOVEMENT.write(tmp_path / "p.nc", stream, fps=50)
    dataset = xr.load_dataset(tmp_path / "p.nc", engine="h5netcdf")
    assert dataset["position"].dims == DIMS
    assert dataset["confidence"].dims == ("time", "keypoints", "individuals")
    assert dataset["individuals"].values.tolist() == ["anna", "bert"]
    assert dataset["keypoints"].values.tolist() == list(stream.skeleton.names)
    assert dataset["space"].values.tolist() == ["x", "y"]
    attrs = {name: dataset.attrs[name] for name in ("ds_type", "fps", "time_unit")}
    assert attrs == {"ds_type": "poses", "fps": 50, "time_unit": "seconds"}
    poses = stream.read()
    np.testing.assert_allclose(dataset["time"], np.arange(5, 25) / 50)
    for row, (frame, track) in enumerate(zip(poses.frames, poses.track_ids, strict=True)):
        name = {0: "anna", 3: "bert"}[int(track)]
        one = dataset["position"].sel(individuals=name).isel(time=int(frame) - 5)
        np.testing.assert_array_equal(one.values.T, poses.keypoints[row])
    assert np.isnan(dataset["confidence"].values).sum() == 1


def test_xarray_opens_boxes_as_movement_has_them(tmp_path):
    tracks = Tracks([3, 5], [0, 0], [10.0, 20], [5.0, 6], [4.0, 4], [2.0, 2], [np.nan, np.pi / 2])
    report = LossReport()
    MOVEMENT.write(tmp_path / "t.nc", tracks, report=report)
    dataset = xr.load_dataset(tmp_path / "t.nc", engine="h5netcdf")
    assert dataset.attrs["ds_type"] == "bboxes"
    assert dataset["time"].values.tolist() == [3, 4, 5]
    np.testing.assert_array_equal(dataset["position"].values[::2, :, 0], [[10, 5], [20, 6]])
    np.testing.assert_allclose(dataset["shape"].values[::2, :, 0], [[4, 2], [2, 4]])
    assert np.isnan(dataset["position"].values[1]).all()
    assert {loss.what: loss.count for loss in report} == {"angles": 1, "widths": 1, "heights": 1}


def test_movement_itself_accepts_it(tmp_path):
    pytest.importorskip("movement")
    from movement.validators.datasets import ValidBboxesInputs, ValidPosesInputs

    for kind, check in (("poses", ValidPosesInputs), ("tracks", ValidBboxesInputs)):
        MOVEMENT.write(tmp_path / f"{kind}.nc", sample_of(kind))
        check.validate(xr.load_dataset(tmp_path / f"{kind}.nc"))


@pytest.mark.parametrize("fps", [25.0, None])
def test_there_and_back_changes_only_decimals(tmp_path, fps):
    theirs = _theirs(fps=fps)
    path = _save(theirs, tmp_path / "a.nc")
    report = LossReport()
    stream = MOVEMENT.read(path, "poses", report=report)
    assert stream.provenance["track_names"] == {"0": "anna", "1": "bert"}
    MOVEMENT.write(tmp_path / "b.nc", stream, report=report)
    again = xr.load_dataset(tmp_path / "b.nc", engine="h5netcdf")
    xr.testing.assert_allclose(again, theirs, rtol=1e-6)
    assert {k: v for k, v in again.attrs.items() if k != "dpk"} == theirs.attrs
    assert [loss.what for loss in report] == ["decimals"]


def test_frames_without_anybody_at_the_ends_stay(tmp_path):
    theirs = _theirs(n=8)
    theirs["position"][[0, 1, 7]] = np.nan
    theirs["confidence"][[0, 1, 7]] = np.nan
    stream = MOVEMENT.read(_save(theirs, tmp_path / "a.nc"), "poses")
    assert set(stream.read().frames.tolist()) == {2, 3, 4, 5, 6}
    MOVEMENT.write(tmp_path / "b.nc", stream)
    xr.testing.assert_allclose(
        xr.load_dataset(tmp_path / "b.nc", engine="h5netcdf"), theirs, rtol=1e-6
    )


def test_what_confidences_lose_is_reported(tmp_path):
    theirs = _theirs()
    theirs["confidence"][0, 0, 0] = np.nan
    theirs["confidence"][1, 0, 0] = 1.25
    theirs["confidence"][2, 1, 0] = 0.5  # of a keypoint without a position
    theirs["confidence"][4, :, 1] = 0.5  # of an individual without one
    report = LossReport()
    poses = MOVEMENT.read(_save(theirs, tmp_path / "a.nc"), "poses", report=report).read()
    assert poses.scores[0, 0] == 1
    assert sorted(x.count for x in report if x.what == "confidences") == [1, 1, 1, 3]


def test_individuals_without_identity_are_told_apart_by_order(tmp_path):
    keypoints = np.arange(10, dtype=np.float32).reshape(5, 1, 2)
    poses = Poses(keypoints, np.ones((5, 1)), Skeleton(("a",)), [0, 0, 1, 2, 2])
    report = LossReport()
    MOVEMENT.write(tmp_path / "p.nc", PoseStream.of(poses, 1), report=report)
    dataset = xr.load_dataset(tmp_path / "p.nc", engine="h5netcdf")
    assert dataset["individuals"].values.tolist() == ["individual_0", "individual_1"]
    back = MOVEMENT.read(tmp_path / "p.nc", "poses").read()
    np.testing.assert_array_equal(back.keypoints, keypoints)
    assert back.track_ids.tolist() == [-1] * 5
    assert [loss.what for loss in report] == ["identities"]


def test_an_individual_twice_in_a_frame_is_refused(tmp_path):
    poses = Poses(np.ones((2, 1, 2)), np.ones((2, 1)), Skeleton(("a",)), [4, 4], [1, 1])
    for piece in (1, 2):
        with pytest.raises(ValidationError, match="track 1 stands twice in frame 4"):
            MOVEMENT.write(tmp_path / f"p{piece}.nc", PoseStream.of(poses, piece))


def test_a_frame_number_that_is_far_off_is_refused(tmp_path):
    poses = Poses(np.ones((2, 1, 2)), np.ones((2, 1)), Skeleton(("a",)), [4, 2**50])
    with pytest.raises(ValidationError, match="see whether a frame number is wrong"):
        MOVEMENT.write(tmp_path / "p.nc", PoseStream.of(poses))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda: _theirs(space=["x", "z"]), "axes x, z; expected x, y"),
        (lambda: _theirs(time=np.arange(6) * 0.031), "no multiple of 1 / fps"),
        (lambda: _theirs(keypoints=["a", "a", "b"]), "'a' stands twice"),
        (lambda: _theirs(position=np.full((6, 2, 3, 2), np.inf)), "row 0: a position is infinite"),
        (lambda: _theirs().transpose("space", ...), r"dimensions \(space, time"),
    ],
)
def test_other_datasets_are_refused(tmp_path, dataset, message):
    path = _save(dataset(), tmp_path / "a.nc")
    with pytest.raises(ValueError, match=message):
        MOVEMENT.read(path, "poses").read()


def test_seconds_need_a_rate(tmp_path):
    dataset = _theirs()
    del dataset.attrs["fps"]
    path = _save(dataset, tmp_path / "a.nc")
    with pytest.raises(FileFormatError, match="read it with fps="):
        MOVEMENT.read(path, "poses")
    assert MOVEMENT.read(path, "poses", fps=25).read().frames.max() == 5


def test_what_lies_outside_the_file_is_not_read(tmp_path):
    inside = _save(_theirs(), tmp_path / "a.nc")
    with h5py.File(tmp_path / "b.nc", "w") as file:
        file.attrs["ds_type"] = "poses"
        file["position"] = h5py.ExternalLink(inside.name, "position")
    with pytest.raises(FileFormatError, match="'position' is a link to elsewhere"):
        MOVEMENT.read(tmp_path / "b.nc", "poses")


def test_netcdf_3_says_how_to_go_on(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + bytes(60))
    with pytest.raises(FileFormatError, match="format='NETCDF4'"):
        MOVEMENT.read(tmp_path / "a.nc", "poses")


def test_without_h5netcdf_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5netcdf", None)
    with pytest.raises(MissingDependencyError, match=r"dpk-io-formats\[movement\]"):
        MOVEMENT.write(tmp_path / "p.nc", sample_of("poses"))
