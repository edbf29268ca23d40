"""Detections: columns, boxes and their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import Detections
from dpk_core.errors import ValidationError


def test_a_box_ends_at_the_edges_of_its_pixels():
    found = Detections.from_boxes([[2.5, 4.5, 3.5, 5.5]])
    assert (found.x[0], found.y[0], found.width[0], found.height[0]) == (3, 5, 1, 1)
    assert found.boxes.tolist() == [[2.5, 4.5, 3.5, 5.5]]
    assert found.id.tolist() == [-1]
    assert found.score.tolist() == [1]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 4), max_size=5))
def test_boxes_come_back(boxes):
    boxes = np.sort(np.array(boxes).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    np.testing.assert_allclose(Detections.from_boxes(boxes).boxes, boxes, atol=1e-9)


def test_a_turned_box_fits_into_its_upright_one():
    found = Detections([10], [20], [8], [2], [np.pi / 2])
    np.testing.assert_allclose(found.boxes, [[9, 16, 11, 24]])
    found = Detections([10], [20], [8], [2], [np.pi / 4])
    half = (8 + 2) / 2 / np.sqrt(2)
    np.testing.assert_allclose(found.boxes, [[10 - half, 20 - half, 10 + half, 20 + half]])


def test_rows_are_chosen_with_all_that_belongs_to_them():
    keypoints = np.arange(12).reshape(3, 2, 2)
    found = Detections([1, 2, 3], [4, 5, 6], id=[7, 8, 9], keypoints=keypoints)[[2, 0]]
    assert found.x.tolist() == [3, 1]
    assert found.id.tolist() == [9, 7]
    assert found.keypoints[0].tolist() == keypoints[2].tolist()
    assert len(Detections.none()) == 0
    assert repr(found) == "Detections(2, 2 with an id)"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"x": [np.nan], "y": [0]}, "finite centres"),
        ({"x": [0], "y": [0], "score": [2]}, r"\[0, 1\], found 2"),
        ({"x": [0, 1], "y": [0]}, "y"),
        ({"x": [0], "y": [0], "keypoints": np.zeros((2, 3, 2))}, "keypoints"),
    ],
)
def test_what_is_no_detection(fields, words):
    with pytest.raises(ValidationError, match=words):
        Detections(**fields)


def test_a_box_that_is_inside_out():
    for box in ([5, 0, 1, 9], [0, np.nan, 1, 1]):
        with pytest.raises(ValidationError, match="x0 <= x1"):
            Detections.from_boxes([box])


def test_chosen_rows_are_detections_and_a_number_is_no_choice():
    found = Detections([1, 2, 3], [4, 5, 6], id=[7, -1, 9], keypoints=np.ones((3, 2, 2)))
    chosen = found[np.array([False, True, True])]
    assert (chosen.x.tolist(), chosen.id.tolist()) == ([2, 3], [-1, 9])
    assert chosen.keypoints.shape == (2, 2, 2)
    assert len(chosen[:0]) == 0
    with pytest.raises(ValidationError, match="expected a list of rows to choose, found 1"):
        found[1]
