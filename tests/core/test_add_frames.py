"""Chosen frames of a video go into a set, exactly those, once."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core import AnnotationSet, Skeleton, VideoReader, VideoWriter
from dpk_core.annotations import Source
from dpk_core.errors import FileMissingError, ValidationError
from dpk_core.services.storage import read_annotations, write_annotations
from dpk_core.workflow.add_frames import add_frames


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "film.mp4"
    rng = np.random.default_rng(3)
    with VideoWriter(path, fps=10) as writer:
        for _ in range(12):
            writer.write(rng.integers(0, 255, (32, 48, 3), np.uint8))
    return path


def make_set(path, shape=(32, 48, 3)):
    sources = (Source("film.mp4", 4),)
    images = np.zeros((len(sources), *shape), np.uint8)
    keypoints = np.ones((len(sources), 2, 2))
    annotations = AnnotationSet(images, keypoints, Skeleton(("a", "b")), sources=sources)
    write_annotations(path, annotations)
    return path


def test_exactly_these_frames_are_added_and_none_twice(tmp_path, video):
    labels = make_set(tmp_path / "labels.h5")
    assert add_frames(labels, video, [7, 2, 4, 7]) == [2, 7]
    assert add_frames(labels, video, [2, 7]) == []
    found = read_annotations(labels)
    assert [(s.video, s.frame) for s in found.sources] == [
        ("film.mp4", 4), ("film.mp4", 2), ("film.mp4", 7),
    ]  # fmt: skip
    with VideoReader(video) as reader:
        np.testing.assert_array_equal(found.images[1], reader[2])
        np.testing.assert_array_equal(found.images[2], reader[7])
    assert found.keypoints[0].tolist() == [[1, 1], [1, 1]]
    assert np.isnan(found.keypoints[1:]).all()
    assert not found.annotated[1:].any()


def test_smaller_and_coloured_frames_fit_the_set(tmp_path, video):
    labels = make_set(tmp_path / "labels.h5", (40, 60, 1))
    assert add_frames(labels, video, [0]) == [0]
    found = read_annotations(labels)
    assert found.sources[1].size == (32, 48)
    image = found.images[1]
    assert image.shape == (40, 60, 1)
    assert image[:32, :48].any()
    assert not image[32:].any()
    assert not image[:, 48:].any()


@pytest.mark.parametrize("frames", [[-1], [12], [0, 99]])
def test_frames_that_are_not_there(tmp_path, video, frames):
    labels = make_set(tmp_path / "labels.h5")
    with pytest.raises(ValidationError, match="has the frames 0 to 11"):
        add_frames(labels, video, frames)
    assert len(read_annotations(labels)) == 1


def test_frames_that_are_too_large_and_sets_that_are_not_there(tmp_path, video):
    labels = make_set(tmp_path / "labels.h5", (31, 48, 3))
    with pytest.raises(ValidationError, match=r"32x48 .* has images of 31x48"):
        add_frames(labels, video, [0])
    with pytest.raises(FileMissingError, match="no set at"):
        add_frames(tmp_path / "absent.h5", video, [0])
