"""Labelled animals turned so that they point to the right, keypoints exactly with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dpk_core import AnnotationSet, Skeleton
from dpk_core.annotations import Source
from dpk_core.cli.app import app
from dpk_core.errors import OutputExistsError, SkeletonError, ValidationError
from dpk_core.services.alignment import align_individuals
from dpk_core.services.individuals import keypoints_in_frames
from dpk_core.services.storage import read_annotations, write_annotations
from dpk_core.workflow.align import align_set

SKELETON = Skeleton(("tail", "head", "leg"))


def animals(keypoints, size=(80, 100)):
    """An image for each, with a bright blob of 5x5 at the head."""
    keypoints = np.asarray(keypoints, np.float64)
    images = np.zeros((len(keypoints), *size, 1), np.uint8)
    for image, points in zip(images, keypoints, strict=True):
        if np.isfinite(points[1]).all():
            x, y = points[1].round().astype(int)
            image[y - 2 : y + 3, x - 2 : x + 3] = 255
    sources = tuple(Source("film.mp4", i) for i in range(len(keypoints)))
    return AnnotationSet(images, keypoints, SKELETON, sources=sources)


def test_heads_come_to_the_right_and_pixels_with_them():
    turned = align_individuals(
        animals([[(50, 60), (50, 20), (60, 40)], [(70, 40), (20, 40), (45, 45)]]), "tail", "head"
    )
    height, width = turned.image_shape[:2]
    assert width >= height
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    expected = [[(-20, 0), (20, 0), (0, 10)], [(-25, 0), (25, 0), (0, -5)]]
    np.testing.assert_allclose(turned.keypoints - middle, expected, atol=1e-9)
    for image, points in zip(turned.images, turned.keypoints, strict=True):
        y, x = np.nonzero(image[..., 0] > 128)
        np.testing.assert_allclose([x.mean(), y.mean()], points[1], atol=0.5)
    np.testing.assert_array_equal(turned.images[0:2][1], turned.images[1])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.floats(5, 74), st.floats(5, 74), st.floats(-3.1, 3.1), st.floats(1, 20)),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 70),
)
def test_the_way_back_is_exact(places, size):
    points = [
        [(x, y), (x + r * np.cos(a), y + r * np.sin(a)), (np.nan, np.nan)] for x, y, a, r in places
    ]
    found = animals(points)
    turned = align_individuals(found, "tail", "head", size)
    assert turned.image_shape == (size, size, 1)
    np.testing.assert_allclose(keypoints_in_frames(turned), found.keypoints, atol=1e-6)
    axis = turned.keypoints[:, 1] - turned.keypoints[:, 0]
    np.testing.assert_allclose(axis[:, 1], 0, atol=1e-6)
    assert (axis[:, 0] > 0).all()


def test_a_set_is_turned_whole_or_not_at_all(tmp_path):
    nan = np.nan
    points = [[(50, 60), (50, 20), (60, 40)], [(nan, nan), (20, 40), (45, 45)]]
    write_annotations(tmp_path / "labels.h5", animals(points))
    done = align_set(tmp_path / "labels.h5", tmp_path / "a.h5", "tail", "head", size=64)
    assert (done.n_images, done.left_out, done.size) == (1, 1, (64, 64))
    stored = read_annotations(tmp_path / "a.h5")
    np.testing.assert_allclose(keypoints_in_frames(stored)[0], points[0], atol=1e-9)
    assert stored.annotated.all()
    with pytest.raises(OutputExistsError):
        align_set(tmp_path / "labels.h5", tmp_path / "a.h5", "tail", "head")


@pytest.mark.parametrize(
    ("tail", "head", "error", "message"),
    [
        ("tail", "tail", ValidationError, "expected two keypoints"),
        ("tail", "nose", SkeletonError, "nose"),
        ("tail", "leg", ValidationError, "none has both"),
    ],
)
def test_what_cannot_be_turned(tail, head, error, message):
    found = animals([[(50, 60), (50, 20), (50, 60)]])
    with pytest.raises(error, match=message):
        align_individuals(found, tail, head)


def test_by_the_command(tmp_path):
    write_annotations(tmp_path / "labels.h5", animals([[(50, 60), (50, 20), (60, 40)]]))
    words = ["align", str(tmp_path / "labels.h5"), "--tail", "tail", "--head", "head", "-o"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "a.h5"), "--size", "64"])
    assert done.exit_code == 0, done.output
    assert "1 images of 64x64 pixels" in " ".join(done.output.split())
    assert read_annotations(tmp_path / "a.h5").image_shape == (64, 64, 1)
