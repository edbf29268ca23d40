"""Blobs: painted ellipses of known centre, extent and angle."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_trackers.blobs import find_blobs, fit_ellipse


@pytest.mark.parametrize(
    ("x", "y", "length", "width", "angle"),
    [
        (40.0, 30.0, 30.0, 12.0, 0.0),
        (40.5, 30.5, 30.0, 12.0, 0.6),
        (61.25, 44.75, 44.0, 16.0, -1.2),
        (50.3, 40.9, 26.0, 14.0, np.pi / 2),
    ],
)
def test_a_painted_ellipse_is_measured_to_a_fraction_of_a_pixel(
    painted, x, y, length, width, angle
):
    image = (200 * painted(x, y, length, width, angle)).astype(np.uint8)
    (blob,) = find_blobs(image, 5)
    found = fit_ellipse(blob.points, blob.contrast)
    assert (found.x, found.y) == pytest.approx((x, y), abs=0.02)
    assert (found.length, found.width) == pytest.approx((length, width), abs=0.15)
    turn = (found.angle - angle + np.pi / 2) % np.pi - np.pi / 2
    assert abs(turn) < np.radians(0.3)
    assert -np.pi / 2 < found.angle <= np.pi / 2


def test_one_pixel_is_a_blob_at_its_centre():
    image = np.zeros((9, 9), np.uint8)
    image[3, 5] = 100
    (blob,) = find_blobs(image, 50)
    found = fit_ellipse(blob.points)
    assert (found.x, found.y) == (5, 3)
    # A square of side 1 has the variance 1/12 along any axis.
    assert found.length == pytest.approx(4 / np.sqrt(12))


def test_specks_are_dropped_and_the_largest_comes_first():
    image = np.zeros((30, 40), np.uint8)
    image[2:5, 2:5] = 90
    image[10:20, 10:20] = 60
    image[25, 35] = 255
    blobs = find_blobs(image, 30, min_area=4)
    assert [b.area for b in blobs] == [100, 9]
    assert find_blobs(image, 255) == []


def test_pixels_that_meet_at_a_corner_are_one_blob():
    image = np.zeros((6, 6), np.uint8)
    image[1, 1] = image[2, 2] = 80
    assert [b.area for b in find_blobs(image, 10)] == [2]


def test_the_core_turns_the_axes_and_the_rest_gives_the_extent(painted):
    body = painted(50, 40, 40, 12, 0.0)
    wing = painted(50, 58, 10, 44, 0.0)
    image = np.maximum(200 * body, 50 * wing).astype(np.uint8)
    (blob,) = find_blobs(image, 5)
    clear = blob.contrast / 200.0
    plain = fit_ellipse(blob.points, np.ones(blob.area))
    cored = fit_ellipse(blob.points, clear, clear**3)
    assert abs(plain.angle) > 1.2, "the wing is longer than the body"
    assert abs(cored.angle) < 0.05
    assert cored.y == pytest.approx(42, abs=2.5)
