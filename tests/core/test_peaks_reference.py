"""The NumPy reference of the peak detectors: properties that hold for any map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import ValidationError
from dpk_core.services.peaks import DETECTORS, dark, maxima, subpixel_maxima
from dpk_core.testing import gaussian_maps

SUBPIXEL = [subpixel_maxima, dark]
BOTH = pytest.mark.parametrize("find", SUBPIXEL)
ALL = pytest.mark.parametrize("find", DETECTORS.values(), ids=DETECTORS)


def distance(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.hypot(*np.moveaxis(found[..., :2] - true, -1, 0))


@ALL
@given(
    st.integers(0, 2**31), st.floats(0.1, 6.0), st.integers(1, 12), st.integers(1, 12),
    st.sampled_from([0.0, 1e-12, 0.1, 1.0, 1e6]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_map_gives_a_point_in_it_and_its_height(find, seed, sigma, height, width, scale):
    maps = scale * np.random.default_rng(seed).normal(0, 1, (2, height, width, 3))
    found = find(maps, sigma)
    assert found.shape == (2, 3, 3)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found[..., :2] >= -0.5).all()
    assert (found[..., :2] <= (width - 0.5, height - 0.5)).all()
    np.testing.assert_allclose(found[..., 2], np.clip(maps.max(axis=(1, 2)), 0, 1), rtol=1e-6)


@BOTH
@given(st.integers(0, 2**31), st.sampled_from([0.625, 1.25, 2.5]))
@settings(max_examples=25, deadline=None)
def test_is_better_than_the_brightest_pixel_under_noise(find, seed, sigma):
    rng = np.random.default_rng(seed)
    true = rng.uniform(2, (20, 14), (2, 16, 2))
    maps = gaussian_maps(true, (17, 23), sigma) + rng.normal(0, 0.03, (2, 17, 23, 16))
    assert distance(find(maps, sigma), true).mean() < 0.6 * distance(maxima(maps), true).mean()


@BOTH
@pytest.mark.parametrize("sigma", [1.25, 2.5])
def test_clean_peaks_in_the_middle_and_on_the_border(find, sigma):
    middle = np.random.default_rng(0).uniform(8, 23, (1, 20, 2))
    assert distance(find(gaussian_maps(middle, (32, 32), sigma), sigma), middle).max() < 0.012
    border = np.array([[[0, 9.3], [31, 9.6], [12.7, 0.2], [13.4, 30.8], [0.1, 0.2]]])
    off = distance(find(gaussian_maps(border, (32, 32), sigma), sigma), border).max()
    assert off < (0.2 if find is dark else 0.012)  # drawn inwards by 0.7 sigma without care


def test_dark_does_not_mind_a_width_that_was_not_learned():
    true = np.random.default_rng(0).uniform(6, 17, (1, 20, 2))
    wide = gaussian_maps(true, (24, 24), 1.9)
    assert distance(dark(wide, 0.8), true).max() < 0.02
    assert distance(subpixel_maxima(wide, 0.8), true).max() > 0.02


@ALL
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_of_two_equal_peaks_the_first_row_by_row_is_taken(find, data):
    where = st.tuples(st.integers(8, 31), st.integers(8, 23))
    first, second = sorted((data.draw(where), data.draw(where)), key=lambda p: (p[1], p[0]))
    if np.hypot(first[0] - second[0], first[1] - second[1]) < 8:
        return
    maps = np.maximum(*(gaussian_maps(np.array([[p]]), (32, 40), 1.25) for p in (first, second)))
    assert distance(find(maps, 1.25), np.array(first)).max() < 0.02


@ALL
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_with_nan_scores_nothing_and_leaves_the_others_alone(find, bad):
    maps = gaussian_maps(np.array([[[5.3, 4.2], [8.1, 9.9]]]), (12, 16), 1.25)
    expected = find(maps)
    maps[0, 3, 3, 0] = bad
    found = find(maps)
    assert np.isfinite(found).all()
    assert found[0, 0, 2] == 0
    np.testing.assert_array_equal(found[0, 1], expected[0, 1])


def test_the_step_is_as_asked_for():
    maps = gaussian_maps(np.array([[[21.37, 30.64]]]), (48, 48), 1.25)
    for factor in (1, 4, 10):
        found = subpixel_maxima(maps, 1.25, upsample_factor=factor)[0, 0, :2]
        np.testing.assert_allclose(found, np.round(np.array([21.37, 30.64]) * factor) / factor)


@ALL
def test_refuses_maps_without_a_batch(find):
    with pytest.raises(ValidationError, match=r"\(n, h, w, k\)"):
        find(np.zeros((4, 4, 2)))


@BOTH
@pytest.mark.parametrize("sigma", [0, -1.0, np.nan])
def test_refuses_a_sigma_that_is_none(find, sigma):
    with pytest.raises(ValidationError, match="sigma"):
        find(np.zeros((1, 4, 4, 2)), sigma)


def test_refuses_an_upsample_factor_that_is_none():
    with pytest.raises(ValidationError, match="upsample_factor"):
        subpixel_maxima(np.zeros((1, 4, 4, 2)), 1.0, upsample_factor=0)
