"""Several animals in a frame: cropped out without moving a coordinate, and put back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import AnnotationSet, Skeleton, Source, read_annotations, write_annotations
from dpk_core.errors import ValidationError
from dpk_core.services.individuals import (
    count_individuals,
    crop_individuals,
    group_by_frame,
    keypoints_in_frames,
)

SKELETON = Skeleton(("head", "tail"))


def painted(points, size=(60, 90)):
    """A frame for each animal of ``points`` (n, 2, 2), with a bright pixel at its head."""
    points = np.asarray(points, float)
    images = np.zeros((len(points), *size, 1), np.uint8)
    for image, (x, y) in zip(images, np.nan_to_num(points[:, 0]).astype(int), strict=True):
        image[np.clip(y, 0, size[0] - 1), np.clip(x, 0, size[1] - 1)] = 255
    sources = tuple(Source("walk.mp4", i // 2, "ab"[i % 2]) for i in range(len(points)))
    return AnnotationSet(images, points, SKELETON, sources=sources)


def test_the_painted_pixel_stays_under_its_label():
    animals = painted([[(10, 20), (30, 25)], [(80, 50), (60, 58)], [(0, 0), (20, 3)]])
    crops = crop_individuals(animals)
    assert crops.image_shape == (32, 32, 1)
    for i in range(3):
        x, y = crops.keypoints[i, 0].astype(int)
        assert crops.images[i][y, x, 0] == 255
        assert crops.images[i].sum() == 255
    np.testing.assert_allclose(keypoints_in_frames(crops), animals.keypoints)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 89), st.integers(0, 59)), min_size=2, max_size=2),
    st.integers(1, 70),
    st.integers(1, 70),
)
def test_every_crop_maps_back_exactly(points, height, width):
    animals = painted([points])
    crops = crop_individuals(animals, (height, width))
    assert crops.image_shape == (height, width, 1)
    np.testing.assert_allclose(keypoints_in_frames(crops), animals.keypoints, atol=1e-9)
    x, y = crops.keypoints[0, 0].astype(int)
    if 0 <= x < width and 0 <= y < height:
        assert crops.images[0][y, x, 0] == 255
    twice = crop_individuals(crops, 16)
    np.testing.assert_allclose(keypoints_in_frames(twice), animals.keypoints, atol=1e-9)


def test_animals_of_a_frame_are_counted_and_grouped():
    nowhere = [(np.nan, np.nan)] * 2
    animals = painted([[(1, 1), (2, 2)], [(5, 5), (6, 6)], [(1, 1), (2, 2)], nowhere])
    assert count_individuals(animals) == 2
    assert group_by_frame(animals) == [("walk.mp4", 0, [0, 1]), ("walk.mp4", 1, [2, 3])]
    assert [s.individual for s in crop_individuals(animals).sources] == ["a", "b", "a"]
    unknown = AnnotationSet(animals.images, animals.keypoints, SKELETON)
    assert count_individuals(unknown) == 1
    assert len(group_by_frame(unknown)) == 4


def test_crops_are_stored_with_the_way_back(tmp_path):
    crops = crop_individuals(painted([[(10, 20), (30, 25)], [(80, 50), (60, 58)]]))
    write_annotations(tmp_path / "crops.h5", crops)
    stored = read_annotations(tmp_path / "crops.h5")
    assert stored.sources == crops.sources
    np.testing.assert_array_equal(stored.images[:], crops.images[:])


def test_a_source_remembers_the_size_before_padding(tmp_path):
    source = Source("a.png", size=(40, 50))
    images = np.zeros((2, 60, 90, 1), np.uint8)
    padded = AnnotationSet(images, np.zeros((2, 2, 2)), SKELETON, sources=(source, Source()))
    write_annotations(tmp_path / "set.h5", padded)
    assert read_annotations(tmp_path / "set.h5").sources == (source, Source())
    with pytest.raises(ValidationError, match="height and width"):
        Source(size=(0, 3))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"size": 0}, "side in pixels"), ({"margin": -1}, "margin"), ({"margin": np.nan}, "margin")],
)
def test_impossible_crops(options, words):
    with pytest.raises(ValidationError, match=words):
        crop_individuals(painted([[(1, 1), (2, 2)]]), **options)


def test_nothing_to_crop():
    with pytest.raises(ValidationError, match="nothing is labelled"):
        crop_individuals(painted([[(np.nan, np.nan)] * 2]))
