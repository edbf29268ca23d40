"""The maps that a model gives are those that its prediction is made of."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from dpk_core import Poses, TrainingGenerator
from dpk_core.errors import ValidationError
from dpk_core.services.suggestions import map_entropy, robust_outliers
from dpk_core.testing import dot_annotations
from dpk_core.workflow import suggest_frames
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


def test_entropy_of_a_saved_model_orders_suggestions(model, tmp_path):
    """The very numbers of `map_entropy`, through files and engines."""
    model.save(tmp_path / "model.keras")
    annotations = dot_annotations(6, size=(64, 96))
    blank = attrs.evolve(annotations, annotated=np.zeros((6, 3), bool))
    poses = Poses.from_predictions(model.predict(blank.images), model.skeleton)
    found = suggest_frames(blank, poses, 2, by="entropy", model=tmp_path / "model.keras")
    each = map_entropy(model.confidence_maps(np.asarray(blank.images)))
    expected = robust_outliers(each).mean(axis=1)
    np.testing.assert_allclose(found.values["entropy"], expected, rtol=1e-3, atol=1e-3)
    assert set(found.frames.tolist()) == set(np.argsort(expected)[-2:].tolist())
