"""Transforms: exact, invertible, composable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpk_core import geometry
from dpk_core.errors import ValidationError

ORDER = np.array([0, 2, 1])
sides = st.integers(1, 300)
sizes = st.tuples(sides, sides)


@st.composite
def transforms(draw, size=None):
    size = size or draw(sizes)
    kind = draw(st.sampled_from(["resize", "crop", "pad", "rotate", "flip", "identity"]))
    if kind == "resize":
        return geometry.resize(size, draw(sizes))
    if kind == "crop":
        top, left = draw(st.integers(-50, 300)), draw(st.integers(-50, 300))
        return geometry.crop(size, top, left, *draw(sizes))
    if kind == "pad":
        return geometry.pad_to_multiple(size, draw(st.integers(1, 64)))
    if kind == "rotate":
        return geometry.rotate(size, draw(st.floats(-400, 400)))
    if kind == "flip":
        return geometry.flip(size, draw(st.sampled_from(["horizontal", "vertical"])), ORDER)
    return geometry.identity(size)


points = st.lists(st.floats(-500, 500), min_size=6, max_size=6).map(
    lambda v: np.array(v).reshape(3, 2)
)


@given(transforms(), points)
def test_the_inverse_undoes(transform, xy):
    back = transform.inverse().apply(transform.apply(xy))
    np.testing.assert_allclose(back, xy, atol=1e-6)
    assert transform.inverse().target_size == transform.source_size


@given(st.data(), points)
def test_composition_is_one_after_the_other(data, xy):
    first = data.draw(transforms())
    second = data.draw(transforms(first.target_size))
    third = data.draw(transforms(second.target_size))
    chain = first.then(second).then(third)
    np.testing.assert_allclose(
        chain.apply(xy), third.apply(second.apply(first.apply(xy))), atol=1e-5
    )
    np.testing.assert_allclose(chain.inverse().apply(chain.apply(xy)), xy, atol=1e-4)


def test_scaling_keeps_the_image_border_in_place():
    doubled = geometry.resize((10, 20), (20, 40))
    np.testing.assert_allclose(doubled.apply([[-0.5, -0.5]]), [[-0.5, -0.5]])
    np.testing.assert_allclose(doubled.apply([[19.5, 9.5]]), [[39.5, 19.5]])


def test_a_painted_pixel_follows_every_exact_transform():
    """Against NumPy's own flips, rotations and slicing."""
    image = np.zeros((5, 8))
    image[1, 6] = 1
    xy = np.array([[6.0, 1.0]])

    def where(array):
        y, x = np.argwhere(array == 1)[0]
        return [[float(x), float(y)]]

    size = image.shape
    assert geometry.flip(size, "horizontal").apply(xy).tolist() == where(image[:, ::-1])
    assert geometry.flip(size, "vertical").apply(xy).tolist() == where(image[::-1])
    half_turn = geometry.rotate(size, 180).apply(xy)
    np.testing.assert_allclose(half_turn, where(image[::-1, ::-1]), atol=1e-9)
    assert geometry.crop(size, 1, 2, 3, 5).apply(xy).tolist() == where(image[1:4, 2:7])
    square = np.zeros((7, 7))
    square[1, 5] = 1
    quarter = geometry.rotate((7, 7), 90).apply([[5.0, 1.0]])
    # From the x axis towards the y axis: clockwise on the screen, which is np.rot90 with k=-1.
    np.testing.assert_allclose(quarter, where(np.rot90(square, k=-1)), atol=1e-9)


def test_two_mirrors_swap_nothing():
    size = (6, 7)
    both = geometry.flip(size, "horizontal", ORDER).then(geometry.flip(size, "vertical", ORDER))
    assert both.order is None


def test_nan_stays_nan():
    out = geometry.rotate((9, 9), 30).apply([[np.nan, np.nan], [1.0, 2.0]])
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()


def test_refuses_nonsense():
    with pytest.raises(ValidationError, match="invertible"):
        geometry.Transform([[1, 0, 0], [2, 0, 0]], (2, 2), (2, 2))
    with pytest.raises(ValidationError, match="compose"):
        geometry.identity((2, 2)).then(geometry.identity((3, 2)))
    with pytest.raises(ValidationError, match="axis"):
        geometry.flip((2, 2), "x")
    with pytest.raises(ValidationError, match="permutation"):
        geometry.Transform(np.eye(2, 3), (2, 2), (2, 2), order=[0, 0])
    with pytest.raises(ValidationError, match="size"):
        geometry.resize((0, 3), (3, 3))
