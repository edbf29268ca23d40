"""How many animals are in a blob, and where each of them is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dpk_trackers.blobs import Blob, find_blobs, fit_ellipse
from dpk_trackers.splitting import allot, split_blob


def union(painted, animals: list[tuple[float, float, float, float, float]]) -> Blob:
    image = np.max([painted(*animal) for animal in animals], axis=0)
    blobs = find_blobs((200 * image).astype(np.uint8), 100)
    assert len(blobs) == 1, "they do not touch"
    return blobs[0]


def parts(blob: Blob, k: int, length: float, width: float) -> np.ndarray:
    shares = split_blob(blob, k, length, width)
    assert shares.shape == (k, blob.area)
    assert np.allclose(shares.sum(axis=0), 1)
    return np.array([fit_ellipse(blob.points, share) for share in shares])


def errors(found: np.ndarray, animals: list) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the centres, and degrees between the axes."""
    truth = np.array(animals)
    apart = np.hypot(*np.moveaxis(truth[:, None, :2] - found[None, :, :2], -1, 0))
    rows, columns = linear_sum_assignment(apart)
    turn = truth[rows, 4] - found[columns, 4]
    return apart[rows, columns], np.degrees(np.abs((turn + np.pi / 2) % np.pi - np.pi / 2))


@pytest.mark.parametrize(
    "animals",
    [
        pytest.param([(40, 40, 40, 14, 0.0), (74, 44, 40, 14, 0.5)], id="in a row"),
        pytest.param([(50, 38, 40, 14, 0.0), (52, 50, 40, 14, 0.1)], id="side by side"),
        pytest.param([(42, 40, 40, 14, 0.0), (62, 52, 40, 14, np.pi / 2)], id="a T"),
        pytest.param([(50, 45, 44, 12, 0.7), (50, 45, 44, 12, -0.7)], id="crossed"),
        pytest.param([(40, 40, 40, 16, 0.3), (68, 46, 30, 12, 0.9)], id="large and small"),
    ],
)
def test_two_that_touch_or_overlap_are_told_apart(painted, animals):
    found = parts(union(painted, animals), 2, 40, 14)
    distance, turn = errors(found, animals)
    assert distance.max() < 4, f"a tenth of the body, found {distance}"
    assert turn.max() < 15


def test_three_in_a_knot(painted):
    animals = [(35, 35, 36, 12, 0.2), (62, 44, 36, 12, 0.9), (85, 62, 36, 12, 0.4)]
    distance, turn = errors(parts(union(painted, animals), 3, 36, 12), animals)
    assert distance.max() < 4
    assert turn.max() < 15


def test_bright_bodies_come_apart_where_faint_wings_overlap(painted):
    bodies = [(40, 45, 30, 10, np.pi / 2), (66, 45, 30, 10, np.pi / 2)]
    wings = [(40, 45, 34, 30, 0), (66, 45, 34, 30, 0)]
    image = np.max([50 * painted(*w) for w in wings] + [200 * painted(*b) for b in bodies], axis=0)
    (blob,) = find_blobs(image.astype(np.uint8), 20)
    shares = split_blob(blob, 2, 34, 30, blob.contrast)
    found = np.array([fit_ellipse(blob.points, s * blob.contrast) for s in shares])
    assert errors(found, bodies)[0].max() < 2


def test_one_animal_has_all_of_its_blob(painted):
    blob = union(painted, [(50, 45, 40, 14, 0.3)])
    assert np.array_equal(split_blob(blob, 1, 40, 14), np.ones((1, blob.area)))


def test_a_split_comes_out_the_same_every_time(painted):
    blob = union(painted, [(40, 40, 40, 14, 0.0), (70, 44, 40, 14, 0.5)])
    assert np.array_equal(split_blob(blob, 2, 40, 14), split_blob(blob, 2, 40, 14))


@pytest.mark.parametrize(
    ("areas", "count", "expected"),
    [
        ([100, 100], 2, [1, 1]),
        ([130, 70], 2, [1, 1]),  # a large one and a small one
        ([200], 2, [2]),
        ([200, 30], 2, [2, 0]),  # two that touch, and a speck
        ([200, 100], 3, [2, 1]),
        ([310, 95, 20], 4, [3, 1, 0]),
        ([100], 2, [1]),  # the other one is hidden or gone
        ([140], 2, [2]),  # one stands on the other
        ([100, 90, 80], 2, [1, 1, 0]),  # never more than there are
        ([], 2, []),
    ],
)
def test_animals_are_allotted_to_blobs(areas, count, expected):
    assert allot(areas, count, 100).tolist() == expected


def test_a_hundred_animals_are_allotted_as_their_areas_say():
    rng = np.random.default_rng(0)
    numbers = np.r_[np.full(5, 3), np.full(15, 2), np.full(55, 1)]
    areas = numbers * 100 * rng.uniform(0.85, 1.15, len(numbers))
    assert allot(areas, 100, 100).tolist() == numbers.tolist()
