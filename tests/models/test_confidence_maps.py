"""The maps that a model gives are those that its prediction is made of."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core import TrainingGenerator
from dpk_core.errors import ValidationError
from dpk_core.testing import dot_annotations
from dpk_models import StackedDenseNet
from dpk_models.prediction import make_peak_detector


@pytest.fixture(scope="module")
def model():
    """Not trained, with images at half their size and a posture graph."""
    annotations = dot_annotations(6, size=(64, 96))
    generator = TrainingGenerator(annotations, augmenter=None, scale=0.5, sigma=4.0)
    return StackedDenseNet(generator, growth_rate=4)


def test_peaks_of_the_maps_are_the_prediction(model):
    images = np.asarray(dot_annotations(3, size=(64, 96)).images)
    maps = model.confidence_maps(images)
    stride = model.task.output_stride
    assert maps.shape == (3, 32 // stride, 48 // stride, 3)
    assert maps.dtype == np.float32
    peaks = np.asarray(make_peak_detector("subpixel_maxima", model.task)(maps))
    found = model.predict(images)
    np.testing.assert_allclose(peaks[..., 2], found[..., 2], atol=1e-5)
    in_image = ((peaks[..., :2] + 0.5) * stride - 0.5 + 0.5) * 2 - 0.5
    inside = (found[..., 0] > 2) & (found[..., 0] < 93) & (found[..., 1] > 2)
    inside &= found[..., 1] < 61
    assert inside.any()
    np.testing.assert_allclose(in_image[inside], found[inside][..., :2], atol=0.05)


def test_images_of_another_size_are_refused(model):
    with pytest.raises(ValidationError, match="expected 64x96"):
        model.confidence_maps(np.zeros((1, 40, 40, 1), np.uint8))
