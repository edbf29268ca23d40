"""Bicubic doubling beside Pillow's, which is not ours and knows no backend."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

from dpk_models.upsampling import BicubicDoubling2D


def double(images):
    return keras.ops.convert_to_numpy(BicubicDoubling2D()(images))


@pytest.mark.parametrize("size", [(12, 12), (5, 9), (2, 3), (1, 1)])
def test_doubles_as_pillow_does(size):
    images = np.random.default_rng(0).normal(0, 100, (2, *size, 3)).astype("float32")
    found = double(images)
    assert found.shape == (2, 2 * size[0], 2 * size[1], 3)
    for i, c in np.ndindex(2, 3):
        image = Image.fromarray(images[i, :, :, c])
        expected = image.resize((2 * size[1], 2 * size[0]), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(found[i, :, :, c], np.asarray(expected), atol=1e-3)


def test_a_slope_stays_straight_and_in_place():
    x = np.tile(np.arange(16, dtype="float32"), (16, 1))[None, :, :, None]
    found = double(x)[0, 8, 6:-6, 0]
    np.testing.assert_allclose(found, (np.arange(6, 26) + 0.5) / 2 - 0.5, atol=1e-5)


def test_comes_back_from_a_file(tmp_path):
    image = keras.Input((6, 5, 2))
    network = keras.Model(image, BicubicDoubling2D(name="double")(image))
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True)
    assert loaded.output_shape == network.output_shape == (None, 12, 10, 2)
    x = np.random.default_rng(0).normal(size=(1, 6, 5, 2)).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loaded(x)), keras.ops.convert_to_numpy(network(x)), atol=1e-6
    )
