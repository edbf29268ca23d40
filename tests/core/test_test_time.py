"""Predicting an image and its mirror."""

from __future__ import annotations

import numpy as np

from dpk_core.services.test_time import combine, mirror_back, with_mirror
from dpk_core.skeleton import Skeleton

SKELETON = Skeleton.from_rows([("nose", None, None), ("l", "nose", "r"), ("r", "nose", "l")])


def find_brightest(images):
    """A nose, the brightest pixel, and a left and a right pixel beside it, exactly.

    Left is at smaller x: in a mirrored image it takes the animal's right for its left, as a network
    does that learned which side is which.
    """
    n, _, width, _ = images.shape
    rows, columns = np.divmod(images.reshape(n, -1).argmax(axis=1), width)
    nose = np.stack([columns, rows, np.ones(n)], axis=-1)
    beside = np.array([3, 0, 0])
    return np.stack([nose, nose - beside, nose + beside], axis=1).astype(np.float32)


def test_an_engine_that_knows_its_sides_gives_the_same_with_the_mirror():
    images = np.zeros((3, 20, 31, 1), np.uint8)
    images[0, 4, 7] = images[1, 15, 20] = images[2, 10, 15] = 255
    before = images.copy()
    found = with_mirror(find_brightest, SKELETON, agree=5.0)(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, find_brightest(images), atol=1e-5)
    assert np.array_equal(images, before)


def test_mirroring_back_twice_changes_nothing():
    poses = np.random.default_rng(0).uniform(0, 9, (4, 3, 3)).astype(np.float32)
    back = mirror_back(mirror_back(poses, 31, SKELETON), 31, SKELETON)
    np.testing.assert_allclose(back, poses, atol=1e-5)
    # (0, 0) is the centre of the first pixel, whose mirror is that of the last
    corner = np.zeros((1, 3, 3), np.float32)
    assert mirror_back(corner, 31, SKELETON)[0, 0, 0] == 30


def test_two_that_agree_are_averaged_and_of_two_that_do_not_the_surer_is_taken():
    a = np.array([[[10, 10, 0.9], [10, 10, 0.9], [5, 5, 0.0]]], np.float32)
    b = np.array([[[12, 10, 0.3], [90, 90, 0.3], [7, 5, 0.0]]], np.float32)
    found = combine(a, b, agree=8.0)[0]
    np.testing.assert_allclose(found[0], [10.5, 10, 0.75], atol=1e-4)
    np.testing.assert_allclose(found[1], [10, 10, 0.9])
    np.testing.assert_allclose(found[2], [6, 5, 0.0], atol=1e-4)
