"""The network of LEAP: its size to the parameter, its options, its refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from dpk_core import TrainingGenerator
from dpk_core.errors import ValidationError
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_core.testing import dot_annotations
from dpk_models import LEAP, load_model
from dpk_models.leap import ACTIVATIONS, UPSAMPLING, build_network


def small_task(height, width, channels=1, **options):
    options = {"downsample_factor": 0, **options}
    return Task((height, width, channels), Skeleton(("a", "b", "c"), (-1, 0, 1)), **options)


def images_of(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def run(network, images):
    return keras.ops.convert_to_numpy(network(images))


def kinds(network):
    return {type(layer).__name__ for layer in network.layers}


def test_has_as_many_parameters_as_the_original():
    # Read off DeepPoseKit 0.3.9 with 192x192x1 images and 32 keypoints.
    skeleton = Skeleton(tuple(f"p{i}" for i in range(32)), (-1,) * 32)
    network = build_network(Task((192, 192, 1), skeleton, downsample_factor=0))
    assert network.count_params() == 2_545_952
    assert network.output_shape == (None, 192, 192, 32)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("shape", [(45, 50, 3), (48, 64, 1), (9, 17, 4)])
def test_any_size_and_number_of_channels(shape, upsampling):
    network = build_network(small_task(*shape), filters=4, upsampling=upsampling)
    maps = run(network, images_of(2, *shape))
    assert maps.shape == (2, *shape[:2], 8)
    assert np.isfinite(maps).all()


def test_pooling_and_upsampling_are_what_was_asked_for():
    network = build_network(small_task(16, 16), filters=4)
    assert {"MaxPooling2D", "Conv2DTranspose"} <= kinds(network)
    network = build_network(small_task(16, 16), filters=4, pooling="average", upsampling="nearest")
    assert {"AveragePooling2D", "UpSampling2D"} <= kinds(network)
    assert not {"MaxPooling2D", "Conv2DTranspose"} & kinds(network)
    assert network.get_layer("up0_double").interpolation == "nearest"


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_runs_and_does_something_else(activation):
    rectified = build_network(small_task(16, 16), filters=4)
    network = build_network(small_task(16, 16), filters=4, activation=activation)
    images = images_of(1, 16, 16, 1)
    if network.count_params() == rectified.count_params():
        network.set_weights(rectified.get_weights())
        same = np.array_equal(run(network, images), run(rectified, images))
        assert same == (activation == "relu")
    assert np.isfinite(run(network, images)).all()


def test_normalization_takes_the_place_of_biases():
    plain = build_network(small_task(16, 16), filters=4)
    normalized = build_network(small_task(16, 16), filters=4, batch_normalization=True)
    assert "BatchNormalization" not in kinds(plain)
    assert "BatchNormalization" in kinds(normalized)
    assert plain.get_layer("down0_conv0").use_bias
    assert not normalized.get_layer("down0_conv0").use_bias
    selu = build_network(small_task(16, 16), filters=4, batch_normalization=True, activation="selu")
    assert "BatchNormalization" not in kinds(selu)
    assert not selu.get_layer("down0_conv0").use_bias
    assert "Lecun" in type(selu.get_layer("down0_conv0").kernel_initializer).__name__


@pytest.mark.parametrize("downsample_factor", [1, 2, 3])
def test_says_which_stride_it_can_have(downsample_factor):
    with pytest.raises(ValidationError, match="downsample_factor 0, the only one"):
        build_network(small_task(32, 32, downsample_factor=downsample_factor))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "filters: expected a whole number"),
        ({"pooling": "median"}, "pooling: expected one of max, average"),
        ({"upsampling": True}, "upsampling: expected one of transposed"),
        ({"activation": "softmax"}, "activation: expected one of relu"),
        ({"batch_normalization": 1}, "True or False"),
    ],
)
def test_refuses_what_it_cannot_have(options, message):
    with pytest.raises(ValidationError, match=message):
        build_network(small_task(32, 32), **{"filters": 4, **options})


def test_is_the_same_for_a_seed_and_comes_back_from_its_file(tmp_path):
    annotations = dot_annotations(8, size=(32, 32))
    options = {
        "filters": 4, "batch_normalization": True, "pooling": "average", "upsampling": "bilinear",
        "activation": "elu",
    }  # fmt: skip

    def make(seed):
        generator = TrainingGenerator(annotations, augmenter=None, seed=seed, downsample_factor=0)
        return LEAP(generator, **options)

    images = np.array(annotations.images)
    a, b, other = (make(seed).predict(images) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, other)
    model = make(1)
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert loaded.hyperparameters == {**options, "peak_detector": "subpixel_maxima"}
    assert np.array_equal(loaded.predict(images), a)


def test_mixed_precision_gives_maps_in_32_bits():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = build_network(small_task(45, 50), filters=4)
    finally:
        keras.config.set_dtype_policy(policy)
    assert network.get_layer("down0_conv0").compute_dtype == "bfloat16"
    assert run(network, images_of(1, 45, 50, 1)).dtype == np.float32
