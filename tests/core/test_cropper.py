"""Egocentric crops: what is painted stays under its label, and the way back is exact."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import ValidationError
from dpk_core.services.cropper import Cropper

CLOSE = 1e-3
"""Pixels: what the way there and back may cost."""

finite = st.floats(-500, 1500)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(finite, finite, st.floats(-7, 7), st.floats(0.1, 5), st.booleans())
def test_there_and_back(x, y, angle, scale, rotate):
    cropper = Cropper((48, 64), scale=scale, rotate=rotate)
    matrices = cropper.matrices([x], [y], [angle])
    points = np.random.default_rng(0).uniform(-300, 1300, (1, 9, 2))
    points[0, 3] = np.nan
    back = Cropper.invert(matrices, Cropper.apply(matrices, points))
    np.testing.assert_allclose(back, points, atol=CLOSE)
    middle = Cropper.apply(matrices, np.array([[[x, y]]]))[0, 0]
    assert np.abs(middle - [31.5, 23.5]).max() <= 0.5 + 1e-9


def blob(x, y, size=(120, 160)):
    rows, columns = np.mgrid[: size[0], : size[1]]
    dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    return (250 * dot).astype(np.uint8)[..., None]


def center_of(image):
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    weights = image[..., 0].astype(float)
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("scale", [1.0, 0.5, 1.7])
@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2, -2.5, np.nan])
def test_a_painted_blob_lies_where_its_label_is_mapped_to(angle, scale):
    frame = blob(83.3, 61.7)
    cropper = Cropper((64, 80), scale=scale, rotate=True)
    matrices = cropper.matrices([80.0], [60.0], [angle])
    expected = Cropper.apply(matrices, np.array([[[83.3, 61.7]]]))[0, 0]
    found = center_of(cropper.crop(frame, matrices)[0])
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_the_body_points_to_the_right():
    for angle in np.linspace(-3, 3, 8):
        head = np.array([50 + 10 * np.cos(angle), 40 + 10 * np.sin(angle)])
        matrices = Cropper((32, 32), rotate=True).matrices([50], [40], [angle])
        mapped = Cropper.apply(matrices, np.array([[[50, 40], head]]))[0]
        np.testing.assert_allclose(mapped, [[15.5, 15.5], [25.5, 15.5]], atol=1e-9)


def test_upright_crops_are_copies_and_black_outside():
    frame = np.random.default_rng(0).integers(1, 256, (30, 40, 3), dtype=np.uint8)
    cropper = Cropper((16, 16))
    matrices = cropper.matrices([20.3, 0.0, 39.0, 500.0], [15.4, 0.0, 29.0, 15.0])
    crops = cropper.crop(frame, matrices)
    assert np.array_equal(crops[0], frame[8:24, 13:29])
    assert np.array_equal(crops[1][8:, 8:], frame[:8, :8])
    assert not crops[1][:8].any()
    assert not crops[1][:, :8].any()
    assert np.array_equal(crops[2][:9, :9], frame[-9:, -9:])
    assert not crops[3].any()


def test_the_same_as_a_warp():
    frame = np.random.default_rng(0).integers(0, 256, (30, 40, 1), dtype=np.uint8)
    cropper = Cropper((16, 24))
    matrices = cropper.matrices([7.0], [28.0])
    warped = cv2.warpAffine(frame, matrices[0], (24, 16))
    assert np.array_equal(cropper.crop(frame, matrices)[0, ..., 0], warped)


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.3, 0.07])
@pytest.mark.parametrize("angle", [0.0, 0.6])
def test_crops_that_shrink_are_averages(scale, angle):
    """A fine pattern becomes gray; without averaging, stripes come out that nobody filmed."""
    rows, columns = np.mgrid[:500, :600]
    frame = (255 * ((rows + columns) % 2)).astype(np.uint8)[..., None]
    cropper = Cropper((20, 24), scale=scale, rotate=True)
    crop = cropper.crop(frame, cropper.matrices([300.0], [250.0], [angle]))[0]
    assert np.abs(crop.astype(float) - 127.5).max() < 45  # unaveraged, up to 127


def test_a_crop_of_half_the_size_is_the_mean_of_four_pixels():
    frame = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cropper = Cropper((10, 14), scale=0.5)
    crop = cropper.crop(frame, cropper.matrices([39.5], [29.5]))[0]  # the middle of the frame
    fours = frame[20:40, 26:54].reshape(10, 2, 14, 2, 3).mean(axis=(1, 3))
    assert np.abs(crop - fours).max() <= 1


@pytest.mark.parametrize("arguments", [{"size": (0, 4)}, {"size": (4, 4), "scale": np.nan}])
def test_impossible_crops(arguments):
    with pytest.raises(ValidationError):
        Cropper(**arguments)


def test_a_position_that_is_none():
    with pytest.raises(ValidationError, match="finite"):
        Cropper((4, 4)).matrices([np.nan], [0])
