"""Peak detectors: how far off they are, and what they do where there is no good answer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import ValidationError
from dpk_core.interfaces import PeakDetector
from dpk_core.testing import check_peak_detector, gaussian_maps
from dpk_models.peaks import Dark2D, Maxima2D, SubpixelMaxima2D

DETECTORS = [Maxima2D, SubpixelMaxima2D, Dark2D]


def find(maps: np.ndarray, cls: type = SubpixelMaxima2D, sigma: float = 1.25, **options):
    found = keras.ops.convert_to_numpy(cls(sigma=sigma, **options)(np.asarray(maps, "float32")))
    assert found.shape == (len(maps), maps.shape[3], 3)
    assert found.dtype == np.float32
    return found


def distance(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.hypot(*np.moveaxis(found[..., :2] - true, -1, 0))


@pytest.mark.parametrize("cls", DETECTORS)
def test_keeps_the_contract(cls):
    check_peak_detector(cls)
    assert isinstance(cls(sigma=2), PeakDetector)
    assert isinstance(cls(sigma=2), keras.layers.Layer)


# -- how far off --------------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "bound"), [(1, 0.01), (2, 0.012), (4, 0.02), (8, 0.04)])
def test_finds_clean_peaks_to_a_hundredth_of_a_map_pixel(stride, bound):
    """Mean error in input pixels for sigma 5; the rest is the step of 1/100 map pixel."""
    size, sigma = 192 // stride, 5 / stride
    true = np.random.default_rng(stride).uniform(0, size - 1, (4, 32, 2))
    off = distance(find(gaussian_maps(true, (size, size), sigma), sigma=sigma), true) * stride
    assert off.mean() < bound
    assert off.max() < 4 * bound


def test_finds_keypoints_anywhere_in_the_image_within_a_twentieth_of_a_pixel():
    """Uniform over all of a 192x192 image at stride 4, the parts of border cells included."""
    true = np.random.default_rng(0).uniform(0, 191, (16, 32, 2))
    peaks = find(gaussian_maps((true + 0.5) / 4 - 0.5, (48, 48), 1.25))
    assert distance((peaks[..., :2] + 0.5) * 4 - 0.5, true).mean() <= 0.02


def test_the_brightest_pixel_is_the_nearest_one():
    true = np.random.default_rng(0).uniform(0, 47, (4, 8, 2))
    found = find(gaussian_maps(true, (48, 48), 1.25), Maxima2D)
    np.testing.assert_array_equal(found[..., :2], np.round(true))
    assert (found[..., 2] <= 1).all()


def test_noise_moves_subpixel_peaks_far_less_than_whole_pixels_do():
    rng = np.random.default_rng(0)
    true = rng.uniform(3, 44, (8, 16, 2))
    maps = gaussian_maps(true, (48, 48), 1.25) + rng.normal(0, 0.05, (8, 48, 48, 16))
    assert distance(find(maps), true).mean() < 0.08
    assert distance(find(maps, Maxima2D), true).mean() > 0.3


def upsampled_dft_peak(image: np.ndarray, sigma: float, factor: int = 100) -> tuple[float, float]:
    """Guizar-Sicairos et al. 2008 in NumPy: FFTs, then the matrix DFT around the maximum."""
    height, width = image.shape
    y = np.minimum(np.arange(height), height - np.arange(height))[:, None]
    x = np.minimum(np.arange(width), width - np.arange(width))[None]
    gaussian = np.exp(-(y**2 + x**2) / (2 * sigma**2))
    product = np.fft.fft2(image) * np.conj(np.fft.fft2(gaussian))
    row, column = np.unravel_index(np.fft.ifft2(product).real.argmax(), image.shape)
    offsets = np.arange(-round(0.75 * factor), round(0.75 * factor) + 1) / factor
    rows = np.exp(2j * np.pi * np.outer(row + offsets, np.fft.fftfreq(height)))
    columns = np.exp(2j * np.pi * np.outer(np.fft.fftfreq(width), column + offsets))
    fine = (rows @ product @ columns).real
    i, j = np.unravel_index(fine.argmax(), fine.shape)
    return column + offsets[j], row + offsets[i]


@pytest.mark.parametrize("size", [(48, 48), (33, 40)])
def test_agrees_with_the_upsampled_dft_away_from_the_border(size):
    rng = np.random.default_rng(1)
    true = rng.uniform(8, (size[1] - 9, size[0] - 9), (2, 8, 2))
    maps = 0.8 * gaussian_maps(true, size, 1.4)  # lower and wider than what is looked for
    expected = [[upsampled_dft_peak(m[..., k], 1.25) for k in range(8)] for m in maps]
    assert distance(find(maps), np.array(expected)).max() < 0.0151  # one step in each direction
    maps += rng.normal(0, 0.02, maps.shape)
    expected = [[upsampled_dft_peak(m[..., k], 1.25) for k in range(8)] for m in maps]
    assert distance(find(maps), np.array(expected)).max() < 0.03


def test_two_short_searches_find_what_one_over_all_steps_finds():
    rng = np.random.default_rng(2)
    true = rng.uniform(-0.4, 20.4, (1, 40, 2))
    maps = gaussian_maps(true, (21, 21), 1.0) + rng.normal(0, 0.1, (1, 21, 21, 40))
    found = find(maps, sigma=1.0)[0]
    for k in range(40):
        expected = best_of_all_steps(maps[0, ..., k], 1.0)
        assert np.hypot(*(found[k, :2] - expected)) < 0.0151


def best_of_all_steps(image: np.ndarray, sigma: float) -> np.ndarray:
    """In float64, over every hundredth around the coarse maximum, within three sigma of it."""

    def correlate(part, first, points):
        rows, columns = (
            np.exp(-((np.arange(n)[None] + f - p[:, None]) ** 2) / (2 * sigma**2))
            for n, f, p in zip(part.shape, first, points, strict=True)
        )
        norms = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(columns, axis=1)[None]
        return rows @ part @ columns.T / norms

    n = len(image)
    row, column = np.unravel_index(
        correlate(image, (0, 0), (np.arange(n), np.arange(n))).argmax(), image.shape
    )
    radius = int(np.ceil(3 * sigma))
    first = [min(max(i - radius, 0), n - 2 * radius - 1) for i in (row, column)]
    window = tuple(slice(f, f + 2 * radius + 1) for f in first)
    steps = np.arange(-79, 80) / 100
    points = (row + steps, column + steps)
    fit = correlate(image[window], first, points)
    i, j = np.unravel_index(fit.argmax(), fit.shape)
    return np.clip([points[1][j], points[0][i]], 0, n - 1)


# -- where there is no good answer --------------------------------------------------------------


def test_a_peak_on_the_border_is_not_drawn_inwards():
    true = np.array([[[0, 10.3], [19, 5.5], [7.2, 0], [12.8, 15], [0, 0], [19, 15]]])
    assert distance(find(gaussian_maps(true, (16, 20), 1.25)), true).max() < 0.0151


def test_a_peak_in_the_outer_half_of_a_border_pixel_is_found():
    true = np.array([[[-0.4, 10.3], [19.4, 5.0], [7.2, -0.4], [12.8, 15.4], [-0.4, 15.4]]])
    assert distance(find(gaussian_maps(true, (16, 20), 1.25)), true).max() < 0.0151


def test_a_peak_beyond_the_border_is_put_on_it():
    true = np.array([[[-0.8, 10.3], [19.9, 5.0], [7.2, -0.7], [12.8, 15.9]]])
    inside = np.clip(true, -0.5, (19.5, 15.5))
    assert distance(find(gaussian_maps(true, (16, 20), 1.25)), inside).max() < 0.0151


@pytest.mark.parametrize("cls", DETECTORS)
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0, -0.2, 7.0])
@pytest.mark.parametrize("size", [(12, 16), (2, 2), (1, 1), (1, 5), (3, 2)])
def test_a_flat_map_gives_a_point_in_it_and_its_level_as_score(cls, level, size):
    found = find(np.full((1, *size, 2), level), cls)
    assert np.isfinite(found).all()
    assert (found[..., :2] >= -0.5).all()
    assert (found[..., :2] <= (size[1] - 0.5, size[0] - 0.5)).all()
    assert found[0, 0, 2] == pytest.approx(min(max(level, 0), 1))
    np.testing.assert_array_equal(found, find(np.full((1, *size, 2), level), cls))


@pytest.mark.parametrize("cls", DETECTORS)
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_of_two_equal_peaks_the_first_row_by_row_is_taken(cls, data):
    where = st.tuples(st.integers(8, 31), st.integers(8, 23))
    first, second = sorted((data.draw(where), data.draw(where)), key=lambda p: (p[1], p[0]))
    if np.hypot(first[0] - second[0], first[1] - second[1]) < 7:
        return
    maps = np.maximum(*(gaussian_maps(np.array([[p]]), (32, 40), 1.25) for p in (first, second)))
    assert distance(find(maps, cls), np.array(first)).max() < 0.02


@pytest.mark.parametrize("cls", DETECTORS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_with_nan_scores_nothing_and_leaves_the_others_alone(cls, bad):
    maps = gaussian_maps(np.array([[[5.3, 4.2], [8.1, 9.9]]]), (12, 16), 1.25)
    expected = find(maps, cls)
    maps[0, 3, 3, 0] = bad
    found = find(maps, cls)
    assert np.isfinite(found).all()
    assert found[0, 0, 2] == 0
    assert (found[0, 0, :2] >= -0.5).all()
    assert (found[0, 0, :2] <= (15.5, 11.5)).all()
    np.testing.assert_array_equal(found[0, 1], expected[0, 1])


@given(st.integers(0, 2**31), st.floats(0.1, 6.0), st.integers(1, 14), st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_any_map_gives_a_point_near_the_best_whole_pixel(seed, sigma, height, width):
    maps = np.random.default_rng(seed).normal(0, 1, (2, height, width, 3)).astype("float32")
    found = find(maps, sigma=sigma)
    whole = find(maps, sigma=sigma, upsample_factor=1)
    assert np.isfinite(found).all()
    assert (found[..., :2] >= -0.5).all()
    assert (found[..., :2] <= (width - 0.5, height - 0.5)).all()
    assert np.abs(found[..., :2] - whole[..., :2]).max() <= 1.0
    np.testing.assert_array_equal(whole[..., :2], np.round(whole[..., :2]))
    np.testing.assert_array_equal(found[..., 2], np.clip(maps.max(axis=(1, 2)), 0, 1))


@given(st.integers(-4, 4), st.integers(-4, 4), st.floats(0.2, 1.0))
@settings(max_examples=25, deadline=None)
def test_moves_with_the_map_and_ignores_its_height(dx, dy, height):
    true = np.array([[[15.37, 14.62]]])
    still = find(gaussian_maps(true, (32, 32), 1.25))
    way = np.array([dx, dy])
    moved = find(height * gaussian_maps(true + way, (32, 32), 1.25))
    np.testing.assert_allclose(moved[..., :2], still[..., :2] + way, atol=0.0101)
    np.testing.assert_allclose(moved[..., 2], height * still[..., 2], rtol=1e-5)


# -- as layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", DETECTORS)
def test_comes_back_from_a_file_and_runs_compiled(cls, tmp_path):
    maps = gaussian_maps(np.array([[[5.3, 4.2], [8.1, 9.9]]]), (12, 16), 2.0)
    inputs = keras.Input((12, 16, 2))
    layer = cls(sigma=2.0, name="peaks")
    model = keras.Model(inputs, layer(inputs))
    assert tuple(model.output_shape) == (None, 2, 3)
    model.save(tmp_path / "peaks.keras")
    loaded = keras.saving.load_model(tmp_path / "peaks.keras", safe_mode=True)
    assert loaded.get_layer("peaks").get_config() == layer.get_config()
    found = keras.ops.convert_to_numpy(loaded.predict(maps, verbose=0))
    np.testing.assert_allclose(found, find(maps, cls, sigma=2.0), atol=0.0101)


def test_stays_in_full_precision_for_half_precision_maps():
    true = np.array([[[21.37, 30.64]]])
    maps = gaussian_maps(true, (48, 48), 1.25).astype("float16")
    found = keras.ops.convert_to_numpy(SubpixelMaxima2D(sigma=1.25)(maps))
    assert found.dtype == np.float32
    assert distance(found, true).max() < 0.02


def test_upsample_factor_sets_the_step():
    true = np.array([[[21.37, 30.64]]])
    for factor, step in ((10, 0.1), (40, 0.025), (1000, 0.001)):
        found = find(gaussian_maps(true, (48, 48), 1.25), upsample_factor=factor)
        assert distance(found, true).max() <= 1.5 * step
        steps = found[..., :2] * factor
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-2)


@pytest.mark.parametrize("sigma", [0, -1.0, float("nan")])
def test_refuses_a_sigma_that_is_none(sigma):
    with pytest.raises(ValidationError, match="sigma"):
        SubpixelMaxima2D(sigma=sigma)


@pytest.mark.parametrize("factor", [0, 2.5, -3])
def test_refuses_an_upsample_factor_that_is_none(factor):
    with pytest.raises(ValidationError, match="upsample_factor"):
        SubpixelMaxima2D(sigma=1.0, upsample_factor=factor)


def test_refuses_maps_without_a_batch():
    with pytest.raises(ValidationError, match=r"\(n, h, w, k\)"):
        SubpixelMaxima2D(sigma=1.0)(np.zeros((4, 4, 2), "float32"))
