"""The network of LEAP: its size to the parameter, its options, its refusals."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest

from dpk_core import TrainingGenerator
from dpk_core.errors import ValidationError
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_core.testing import dot_annotations
from dpk_models import LEAP, load_model
from dpk_models.leap import ACTIVATIONS, INITIALIZERS, UPSAMPLING, build_network


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


def test_biases_are_as_asked_for_but_for_the_output():
    for options in ({"batch_normalization": True}, {"activation": "selu"}, {}):
        for use_bias in (True, False):
            task = small_task(16, 16)
            network = build_network(task, filters=4, use_bias=use_bias, **options)
            convolutions = [layer for layer in network.layers if hasattr(layer, "use_bias")]
            assert len(convolutions) == 3 + 3 + 3 + 1 + 2 + 1
            for layer in convolutions:
                assert layer.use_bias == (use_bias or layer.name == "output")


def test_every_initializer_gives_weights_of_its_own():
    options = {"filters": 4, "seed": 0}
    default = build_network(small_task(16, 16), **options).get_layer("innermost_conv0")
    seen = []
    for initializer in INITIALIZERS:
        network = build_network(small_task(16, 16), initializer=initializer, **options)
        kernel = network.get_layer("innermost_conv0").get_weights()[0]
        same = np.array_equal(kernel, default.get_weights()[0])
        assert same == (initializer == "glorot_uniform")
        assert not any(np.array_equal(kernel, other) for other in seen)
        seen.append(kernel)


def test_padding_leaves_coordinates_where_they_are():
    """An image cut at the bottom and right gives the maps of the whole one, cut likewise."""
    whole, cut = (
        build_network(small_task(*size), filters=8, seed=3) for size in ((24, 32), (21, 30))
    )
    image = np.full((1, 24, 32, 1), 127, np.uint8)  # as gray as the padding
    image[:, :21, :30] = images_of(1, 21, 30, 1)
    maps, maps_of_cut = run(whole, image), run(cut, image[:, :21, :30])
    assert maps_of_cut.shape == (1, 21, 30, 8)
    assert np.abs(maps_of_cut - maps[:, :21, :30]).max() < 0.02 * np.abs(maps).max()


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_one_training_step_moves_every_weight(upsampling):
    """A branch that is wired wrongly would stay behind."""
    network = build_network(
        small_task(16, 16), filters=4, upsampling=upsampling, activation="elu", seed=0
    )
    targets = np.random.default_rng(0).normal(0, 50, (4, 16, 16, 8)).astype("float32")
    before = [keras.ops.convert_to_numpy(w).copy() for w in network.trainable_weights]
    network.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse", run_eagerly=True)
    network.train_on_batch(images_of(4, 16, 16, 1), targets)
    still = [
        weight.path
        for weight, old in zip(network.trainable_weights, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(weight), old)
    ]
    assert still == []


def test_a_seed_repeats_the_weights_and_touches_no_other_generator():
    random.seed(5)
    state = random.getstate()
    first, again, other = (build_network(small_task(16, 16), filters=4, seed=s) for s in (1, 1, 2))
    assert random.getstate() == state
    kernels = [[w for w in n.get_weights() if w.ndim == 4] for n in (first, again, other)]
    for a, b, c in zip(*kernels, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_images_too_small_to_be_halved_twice():
    assert run(build_network(small_task(4, 5), filters=4), images_of(1, 4, 5, 1)).shape[1] == 4
    with pytest.raises(ValidationError, match=r"at least 4x4 pixels.* found 3x16"):
        build_network(small_task(3, 16), filters=4)


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
        ({"use_bias": "no"}, "use_bias: expected True, False or None"),
        ({"initializer": "zeros"}, "initializer: expected None or one of glorot_uniform"),
        ({"initializer": ["he_normal"]}, "initializer: expected None or one of glorot_uniform"),
    ],
)
def test_refuses_what_it_cannot_have(options, message):
    with pytest.raises(ValidationError, match=message):
        build_network(small_task(32, 32), **{"filters": 4, **options})


def test_is_the_same_for_a_seed_and_comes_back_from_its_file(tmp_path):
    annotations = dot_annotations(8, size=(32, 32))
    options = {
        "filters": 4, "batch_normalization": True, "pooling": "average", "upsampling": "bilinear",
        "activation": "elu", "use_bias": True, "initializer": "he_normal",
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


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_mixed_precision_gives_maps_in_32_bits(half, upsampling):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{half}")
    try:
        network = build_network(small_task(13, 18), filters=4, upsampling=upsampling)
    finally:
        keras.config.set_dtype_policy(policy)
    assert network.get_layer("down0_conv0").compute_dtype == half
    maps = run(network, images_of(1, 13, 18, 1))
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
