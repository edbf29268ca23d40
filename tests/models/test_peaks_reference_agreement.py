"""Every peak detector finds what its NumPy reference finds, on the backend in use.

``KERAS_BACKEND=jax`` or ``torch`` runs the same tests on these.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.services.peaks import DETECTORS, correlate
from dpk_core.services.plugins import registry
from dpk_core.testing import gaussian_maps

STEP = 0.0101
"""One step of the refinement's grid, and what float32 adds to it."""
NAMES = [
    spec.name
    for spec in registry().specs("peak_detectors")
    if spec.target.startswith("dpk_models.")
]
SIGMAS = [0.625, 1.25, 2.5]  # of the default peaks at strides 8, 4 and 2


def find(name: str, maps: np.ndarray, sigma: float) -> np.ndarray:
    detector = registry().get("peak_detectors", name).load()(sigma=sigma)
    return keras.ops.convert_to_numpy(detector(maps.astype("float32")))


def assert_agree(name: str, maps: np.ndarray, sigma: float, step: float = STEP) -> None:
    maps = maps.astype("float32")
    found, expected = find(name, maps, sigma), DETECTORS[name](maps, sigma)
    np.testing.assert_allclose(found[..., 2], expected[..., 2], rtol=1e-6)
    apart = np.abs(found - expected)[..., :2].max(axis=-1) > step
    # Where rounding decides between two places that are as good as each other, either is right.
    assert not (apart & ~_is_undecided(name, maps, sigma, expected)).any()


def _is_undecided(name: str, maps: np.ndarray, sigma: float, best: np.ndarray) -> np.ndarray:
    """(n, k): whether another whole pixel fits within a hundred thousandth as well."""
    n, height, width, k = maps.shape
    images = maps.transpose(0, 3, 1, 2).reshape(-1, height, width).astype(float)
    fit = images if name == "maxima" else correlate(images, max(sigma, 0.8 * (name == "dark")))
    flat = np.sort(fit.reshape(n * k, -1), axis=1)
    if flat.shape[1] < 2:
        return np.zeros((n, k), bool)
    return (flat[:, -1] - flat[:, -2] < 3e-5 * np.abs(flat[:, -1])).reshape(n, k)


def test_every_detector_has_a_reference():
    assert sorted(NAMES) == sorted(DETECTORS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_peaks_anywhere_on_the_map_and_beyond(name, sigma, noise):
    rng = np.random.default_rng(int(100 * noise))
    true = rng.uniform(-1, (28, 24), (4, 16, 2))
    maps = 0.9 * gaussian_maps(true, (24, 28), sigma)
    assert_agree(name, maps + rng.normal(0, noise, maps.shape), sigma)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_peaks_wider_than_learned_and_several_of_them(name, sigma):
    rng = np.random.default_rng(1)
    maps = sum(
        height * gaussian_maps(rng.uniform(0, 19, (3, 8, 2)), (20, 20), width * sigma)
        for height, width in ((0.8, 1.4), (0.6, 1.0), (0.3, 2.0))
    )
    assert_agree(name, maps, sigma)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 2), (3, 2), (3, 3), (4, 7)])
def test_tiny_maps(name, size):
    rng = np.random.default_rng(2)
    true = rng.uniform(-0.5, (size[1] - 0.5, size[0] - 0.5), (4, 8, 2))
    assert_agree(name, gaussian_maps(true, size, 1.25), 1.25)


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.3]))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_maps_without_a_clear_peak(name, seed, level):
    rng = np.random.default_rng(seed)
    # Smooth hills: on bare noise two far places may be equally good.
    maps = level + sum(
        rng.uniform(-0.1, 0.4) * gaussian_maps(rng.uniform(0, 13, (2, 3, 2)), (14, 14), 2.0)
        for _ in range(4)
    )
    # The top of a shallow hill is flatter, over two or three steps, than float32 can tell.
    assert_agree(name, maps, 1.25, step=3 * STEP)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0.0, 0.4, -0.2, 3.0])
def test_flat_maps(name, level):
    maps = np.full((1, 6, 9, 2), level)
    found = find(name, maps, 1.25)
    assert np.isfinite(found).all()
    assert found[0, 0, 2] == pytest.approx(min(max(level, 0), 1))
