"""pinpoint's HDF5, made as its tracker makes it."""

from __future__ import annotations

import cv2
import h5py
import numpy as np
import pytest

from dpk_core.errors import DpkError, FileFormatError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.testing import check_format
from dpk_io_formats.pinpoint import PinpointFormat

PINPOINT = PinpointFormat()


def _square(x, y, side, angle=0.0):
    """Corners clockwise from the tag's top-left one."""
    c, s = np.cos(angle), np.sin(angle)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side / 2
    return corners @ np.array([[c, s], [-s, c]]) + (x, y)


def _write(path, frames, ids, corners, distances, column=False, name="distances"):
    shape = (-1, 1) if column else (-1,)
    with h5py.File(path, "w") as file:
        group = file.create_group("data")
        group["frame_idx"] = np.array(frames, np.int64).reshape(shape)
        group["corners"] = np.array(corners, np.float64).reshape(-1, 4, 2)
        group["identity"] = np.array(ids, np.int32).reshape(shape)
        group[name] = np.array(distances, np.int32).reshape(shape)
    return path


@pytest.mark.parametrize("column", [False, True])
def test_position_size_and_angle(tmp_path, column):
    corners = [_square(10, 20, 8), _square(50, 60, 6, np.pi / 2), _square(5, 5, 4, -2.0)]
    path = _write(tmp_path / "o.h5", [0, 0, 7], [3, 9, 3], corners, [0, 1, 2], column)
    report = LossReport()
    tracks = PINPOINT.read(path, report=report)
    assert tracks.frame.tolist() == [0, 0, 7]
    assert tracks.id.tolist() == [3, 9, 3]
    np.testing.assert_allclose(tracks.x, [10, 50, 5])
    np.testing.assert_allclose(tracks.y, [20, 60, 5])
    np.testing.assert_allclose(tracks.width, [8, 6, 4])
    np.testing.assert_allclose(tracks.height, [8, 6, 4])
    np.testing.assert_allclose(tracks.angle, [0, np.pi / 2, -2.0])
    assert {loss.what: loss.count for loss in report} == {"tag corners": 12, "Hamming distances": 3}


def test_the_nearest_of_several_matches_stays(tmp_path):
    corners = [_square(x, x, 4) for x in (1, 2, 3, 4)]
    path = _write(tmp_path / "o.h5", [5, 5, 5, 6], [1, 1, 2, 1], corners, [4, 1, 0, 9])
    report = LossReport()
    tracks = PINPOINT.read(path, report=report)
    np.testing.assert_allclose(tracks.x, [2, 3, 4])
    assert {loss.what: loss.count for loss in report}["matches"] == 1


@pytest.mark.parametrize("resize", [1.0, 2.0, 4.0])
def test_a_painted_square_lies_where_it_was_painted(tmp_path, resize):
    """Found as the tracker finds it: enlarged, in contours, divided by the factor again."""
    image = np.zeros((64, 64), np.uint8)
    image[20:31, 10:21] = 255
    large = cv2.resize(image, None, fx=resize, fy=resize, interpolation=cv2.INTER_CUBIC)
    binary = (large > 127).astype(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    x, y = (contours[0][:, 0].min(axis=0) + contours[0][:, 0].max(axis=0)) / 2
    corners = _square(x, y, 10) / resize
    path = _write(tmp_path / "o.h5", [0], [0], [corners], [0])
    tracks = PINPOINT.read(path, resize=resize)
    np.testing.assert_allclose([tracks.x[0], tracks.y[0]], [15, 25], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corners": np.zeros((3, 4))}, "'corners' has the shape"),
        ({"identity": np.zeros(2, int)}, r"'identity' has the shape \(2,\); expected \(3,\)"),
        ({"frame_idx": np.array([0.5, 1, 2])}, "not whole"),
        ({"identity": None}, "no dataset 'identity'"),
    ],
)
def test_bad_files_are_refused(tmp_path, change, message):
    path = _write(tmp_path / "o.h5", [0, 1, 2], [0, 0, 0], [_square(1, 1, 1)] * 3, [0, 0, 0])
    with h5py.File(path, "r+") as file:
        for name, value in change.items():
            del file["data"][name]
            if value is not None:
                file["data"][name] = value
    with pytest.raises(FileFormatError, match=message):
        PINPOINT.read(path)


def test_links_to_other_files_are_not_followed(tmp_path):
    path = _write(tmp_path / "o.h5", [0], [0], [_square(1, 1, 1)], [0])
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["data"] = h5py.ExternalLink("o.h5", "data")
    assert not PINPOINT.sniff(tmp_path / "link.h5")
    with pytest.raises(FileFormatError, match="'data' is a link to elsewhere"):
        PINPOINT.read(tmp_path / "link.h5")
    with pytest.raises(ValidationError, match="resize"):
        PINPOINT.read(path, resize=0)


def test_contract_and_damage(tmp_path):
    n = 30
    corners = [_square(i, i, 5, i / 5) for i in range(n)]
    path = _write(tmp_path / "o.h5", range(n), [0] * n, corners, [0] * n)
    check_format("pinpoint", path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for turn in range(60):
        data = bytearray(content)
        if turn % 3:
            for i in rng.integers(len(data), size=5):
                data[i] = int(rng.integers(256))
        else:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data)
        PINPOINT.sniff(path)
        try:
            assert len(PINPOINT.read(path)) <= n
        except DpkError:
            continue
