"""Images and coordinates between original and network size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import ValidationError
from dpk_core.services.imaging import (
    coordinates_to_original,
    match_channels,
    prepare_images,
    resize_image,
    scale_keypoints,
    scaled_size,
)
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task


def task_for(size: tuple[int, int], scale: float = 1.0, channels: int = 1) -> Task:
    return Task((*scaled_size(size, scale), channels), Skeleton(("a",)), scale=scale)


def blob(size: tuple[int, int], x: float, y: float, sigma: float) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.rint(250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))).astype(
        np.uint8
    )


def centroid(image: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    weights = image.astype(float)
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(70, 130),
    width=st.integers(70, 130),
    scale=st.floats(0.4, 2.5),
    fx=st.floats(0.4, 0.6),
    fy=st.floats(0.4, 0.6),
)
def test_keypoints_follow_the_resized_image(height, width, scale, fx, fy):
    x, y = fx * width, fy * height
    size = scaled_size((height, width), scale)
    resized = resize_image(blob((height, width), x, y, 5), size)
    moved = scale_keypoints(np.array([[x, y]]), (height, width), size)[0]
    assert resized.shape == size
    assert np.abs(centroid(resized) - moved).max() < 0.05


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    scale=st.floats(0.1, 3),
    points=st.lists(st.tuples(st.floats(-50, 900), st.floats(-50, 900)), min_size=1, max_size=5),
)
def test_coordinates_come_back_to_the_original_pixels(size, scale, points):
    task = task_for(size, scale)
    keypoints = np.array(points)
    scaled = scale_keypoints(keypoints, size, task.image_shape[:2])
    back = coordinates_to_original(scaled, task, original_size=size)
    np.testing.assert_allclose(back, keypoints, atol=1e-9)


def test_the_nominal_scale_is_undone_where_the_size_is_not_known():
    task = task_for((480, 640), 0.5)
    predicted = np.array([[9.5, 4.5, 0.7], [np.nan, np.nan, 0.0]], np.float32)
    found = coordinates_to_original(predicted, task)
    np.testing.assert_allclose(found[0], [19.5, 9.5, 0.7])
    assert np.isnan(found[1, :2]).all()
    assert found[1, 2] == 0
    assert found.dtype == np.float32
    assert predicted[0, 0] == 9.5


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((5, 7), 0.5, (3, 4)), ((3, 4), 0.1, (1, 1)), ((480, 641), 0.5, (240, 321)),
     ((10, 20), 1.0, (10, 20)), ((10, 20), 1.55, (16, 31))],
)  # fmt: skip
def test_sizes_round_half_up(size, scale, expected):
    assert scaled_size(size, scale) == expected


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValidationError, match="scale: expected a number above 0"):
        scaled_size((4, 4), scale)


def test_shrinking_averages_areas():
    image = np.zeros((4, 4, 1), np.uint8)
    image[0, 0] = 200  # one bright pixel of four
    assert resize_image(image, (2, 2))[..., 0].tolist() == [[50, 0], [0, 0]]
    assert resize_image(image, (4, 4)) is image


def test_channels():
    rgb = np.zeros((2, 1, 3, 3), np.uint8)
    rgb[..., 0, 0], rgb[..., 1, 1], rgb[..., 2, 2] = 255, 255, 255
    # 255 times the luma of ITU-R BT.601
    assert match_channels(rgb, 1)[1, 0, :, 0].tolist() == [76, 150, 29]
    gray = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    assert (match_channels(gray, 3) == gray).all()
    assert match_channels(match_channels(gray, 3), 1).tolist() == gray.tolist()
    alpha = np.concatenate([rgb, rgb[..., :1]], axis=-1)
    np.testing.assert_array_equal(match_channels(alpha, 3), rgb)
    assert match_channels(rgb[:0], 1).shape == (0, 1, 3, 1)
    for channels in (2, 4):
        with pytest.raises(ValidationError, match=f"3 channels into {channels}"):
            match_channels(rgb, channels)


def test_prepare_images_resizes_and_converts():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (3, 21, 40, 3), dtype=np.uint8)
    prepared = prepare_images(images, task_for((21, 40), 0.5))
    assert prepared.shape == (3, 11, 20, 1)
    assert prepared.dtype == np.uint8
    one = resize_image(match_channels(images[1], 1), (11, 20))
    np.testing.assert_array_equal(prepared[1], one)
    assert prepare_images(images, task_for((21, 40), channels=3)) is images
    gray = prepare_images(images[..., :1], task_for((21, 40), 2.0, channels=3))
    assert gray.shape == (3, 42, 80, 3)
    assert (gray[..., 0] == gray[..., 2]).all()


def test_images_that_do_not_fit_say_what_was_expected():
    task = task_for((480, 640), 0.5)
    with pytest.raises(ValidationError, match=r"expected 480x640 .*found 240x320"):
        prepare_images(np.zeros((1, 240, 320, 1), np.uint8), task)
    with pytest.raises(ValidationError, match=r"expected uint8.*float32.*255"):
        prepare_images(np.zeros((1, 480, 640, 1), np.float32), task)
    with pytest.raises(ValidationError, match=r"\(n, h, w, c\)"):
        prepare_images(np.zeros((480, 640, 1), np.uint8), task)
