"""Prediction: coordinates in the user's pixels, whatever the images are."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from dpk_core import AnnotationSet, Skeleton, Task, TrainingGenerator, VideoReader, VideoWriter
from dpk_core.errors import DeviceMemoryError, ValidationError
from dpk_models import PoseModel, pose_model
from dpk_models.maps import MAP_SCALE


@pose_model
class Brightness(PoseModel):
    """Its map is the image itself, made smaller: the peak lies at the brightest place."""

    def build(self, task: Task) -> keras.Model:
        images = keras.Input(task.image_shape, dtype="uint8")
        x = keras.layers.Rescaling(MAP_SCALE / 255)(images)
        pooled = keras.layers.AveragePooling2D(task.output_stride, padding="same")(x)
        return keras.Model(images, keras.layers.Lambda(lambda v: v[..., :1])(pooled))


def blob(size, xy, radius=9.0, channels=1):
    y, x = np.mgrid[: size[0], : size[1]]
    image = 255 * np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * radius**2))
    return np.repeat(np.rint(image).astype(np.uint8)[..., None], channels, axis=-1)


def make(size, *, scale=1.0, factor=2, channels=1, grayscale=False):
    annotations = AnnotationSet(
        np.zeros((1, *size, channels), np.uint8), np.ones((1, 1, 2)), Skeleton(("spot",))
    )
    generator = TrainingGenerator(
        annotations,
        scale=scale,
        downsample_factor=factor,
        sigma=9.0 * scale,
        grayscale=grayscale,
        augmenter=None,
    )
    return Brightness(generator)


@pytest.mark.parametrize(
    ("size", "scale", "factor"),
    [
        ((96, 128), 1.0, 2),
        ((96, 128), 1.0, 0),
        ((96, 128), 1.0, 3),
        ((96, 128), 0.5, 2),
        ((97, 131), 0.5, 1),
        ((95, 133), 0.37, 1),
        ((60, 80), 1.6, 2),
    ],
)
def test_coordinates_come_back_in_original_pixels(size, scale, factor):
    model = make(size, scale=scale, factor=factor)
    for xy in ((40.3, 30.8), (22.0, 41.5)):
        found = model.predict(blob(size, xy)[None])[0, 0]
        assert np.hypot(found[0] - xy[0], found[1] - xy[1]) < 0.25
        assert 0.7 < found[2] <= 1


def test_gray_and_colour_meet():
    gray = blob((64, 64), (30.5, 20.25))
    colour = np.repeat(gray, 3, axis=-1)
    expected = make((64, 64)).predict(gray[None])
    assert np.allclose(make((64, 64)).predict(colour[None]), expected, atol=0.02)
    on_colour = make((64, 64), channels=3)
    assert np.allclose(on_colour.predict(gray[None]), expected, atol=0.02)
    turned_gray = make((64, 64), channels=3, grayscale=True)
    assert turned_gray.task.image_shape == (64, 64, 1)
    assert np.allclose(turned_gray.predict(colour[None]), expected, atol=0.02)


@pytest.mark.parametrize(("size", "scale", "factor"), [((96, 128), 1.0, 2), ((95, 133), 0.37, 1)])
def test_the_mirror_finds_the_same_place(size, scale, factor):
    """Also where the network's images end within a cell of the maps."""
    model = make(size, scale=scale, factor=factor)
    images = np.stack([blob(size, xy) for xy in ((40.3, 30.8), (22.0, 41.5))])
    found = model.predict(images, mirror=True)
    assert np.abs(found[:, 0, :2] - [(40.3, 30.8), (22.0, 41.5)]).max() < 0.25
    assert not np.array_equal(found, model.predict(images))


def test_arrays_datasets_and_videos_give_the_same(tmp_path):
    model = make((64, 80), channels=3)
    images = np.stack([blob((64, 80), (20 + 5 * i, 30), channels=3) for i in range(7)])
    expected = model.predict(images, batch_size=3)
    annotations = AnnotationSet(images, np.zeros((7, 1, 2)), Skeleton(("spot",)))
    assert np.array_equal(model.predict(annotations, batch_size=3), expected)
    with VideoWriter(tmp_path / "v.mp4", fps=10) as writer:
        for image in images:
            writer.write(image)
    with VideoReader(tmp_path / "v.mp4") as reader:
        found = model.predict(reader, batch_size=3)
    assert np.abs(found - expected)[..., :2].max() < 0.2


def test_progress_and_batches():
    model = make((32, 32))
    told = []
    images = np.stack([blob((32, 32), (10 + i, 15)) for i in range(7)])
    whole = model.predict(images, batch_size=4, progress=lambda *a: told.append(a))
    assert told == [(4, 7), (7, 7)]
    assert np.allclose(model.predict(images, batch_size=7), whole, atol=1e-3)
    assert model.predict(images[:0]).shape == (0, 1, 3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((32, 32, 1), np.uint8), r"expected \(n, height, width, channels\)"),
        (np.zeros((1, 40, 32, 1), np.uint8), "32"),
        (np.zeros((1, 32, 32, 1)), "uint8"),
        (np.zeros((1, 32, 32, 2), np.uint8), "channels"),
        ("video.mp4", "expected an array, a Dataset or a VideoReader, found str"),
    ],
)
def test_wrong_images_are_refused(images, message):
    with pytest.raises(ValidationError, match=message):
        make((32, 32)).predict(images)


def test_a_batch_size_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="batch_size"):
        make((32, 32)).predict(np.zeros((1, 32, 32, 1), np.uint8), batch_size=0)


def test_evaluate_measures_in_original_pixels():
    model = make((96, 128), scale=0.5)
    images = np.stack([blob((96, 128), (40, 50)), blob((96, 128), (60, 30))])
    keypoints = np.array([[[43.0, 54.0]], [[60.0, 30.0]]])
    errors = model.evaluate(AnnotationSet(images, keypoints, Skeleton(("spot",))))["errors"]
    assert np.allclose(errors[:, 0], [5, 0], atol=0.3)


@pose_model
class WrongShape(PoseModel):
    def build(self, task: Task) -> keras.Model:
        images = keras.Input(task.image_shape, dtype="uint8")
        x = keras.layers.Rescaling(1.0)(images)
        return keras.Model(images, keras.layers.Conv2D(task.n_output_channels, 1)(x))


def test_a_network_of_the_wrong_shape_is_refused_when_it_is_made():
    task = Task((32, 32, 1), Skeleton(("spot",)))
    with pytest.raises(ValidationError, match=r"expected outputs of \(8, 8, 1\).*found \(32, 32"):
        WrongShape(task)


def test_a_full_device_says_which_batch_to_try():
    import tensorflow as tf

    model = make((32, 32))

    class Full:
        def predict_on_batch(self, images):
            raise tf.errors.ResourceExhaustedError(None, None, "no memory left")

    model.__dict__["predictor"] = Full()
    with pytest.raises(DeviceMemoryError, match=r"during prediction; try batch_size=4"):
        model.predict(np.zeros((8, 32, 32, 1), np.uint8), batch_size=8)


def test_a_peak_detector_is_named():
    with pytest.raises(ValidationError, match="peak_detector: expected the name of a plugin"):
        Brightness(make((32, 32)).task, peak_detector=5)
