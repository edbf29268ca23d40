"""The network of Stacked DenseNet: its size to the parameter, its shapes, its repeatability."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import ValidationError
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_models.halvings import count_transitions
from dpk_models.layers import DepthToSpace, SpaceToDepth
from dpk_models.stacked_densenet import StackedDenseNet, build_network

CHAIN_LENGTHS = (8, 4, 4, 4, 4, 4, 4)


def fly_like_skeleton() -> Skeleton:
    """32 keypoints on 25 edges in 7 limbs, as many as DeepPoseKit's fly has."""
    parent: list[int] = []
    for length in CHAIN_LENGTHS:
        start = len(parent)
        parent += [-1, *range(start, start + length - 1)]
    return Skeleton(tuple(f"p{i}" for i in range(len(parent))), tuple(parent))


def small_task(height: int, width: int, channels: int = 1, **options) -> Task:
    skeleton = Skeleton(("a", "b", "c"), (-1, 0, 1))
    return Task((height, width, channels), skeleton, **options)


def count_parameters(network: keras.Model) -> tuple[int, int]:
    trainable = sum(int(np.prod(w.shape)) for w in network.trainable_weights)
    return network.count_params(), trainable


# Read off DeepPoseKit 0.3.9 with 192x192x1 images and its fly skeleton.
@pytest.mark.parametrize(
    ("task_options", "hyperparameters", "parameters", "outputs"),
    [
        ({"use_graph": False}, {}, (2_124_369, 2_124_241), [(48, 48, 32)] * 2),
        ({"use_graph": False}, {"n_stacks": 2}, (4_428_199, 4_428_007), [(48, 48, 32)] * 3),
        ({}, {}, (2_185_290, 2_185_026), [(48, 48, 66)] * 2),
        (
            {"use_graph": False, "downsample_factor": 3},
            {},
            (2_275_699, 2_275_571),
            [(24, 24, 32)] * 2,
        ),
    ],
)
def test_has_as_many_parameters_as_the_original(task_options, hyperparameters, parameters, outputs):
    task = Task((192, 192, 1), fly_like_skeleton(), **task_options)
    network = build_network(task, **hyperparameters)
    assert count_parameters(network) == parameters
    assert [tuple(s[1:]) for s in network.output_shape] == outputs


def test_has_as_many_parameters_as_the_original_at_another_size():
    # StackedDenseNet of DeepPoseKit, growth 32, 320x240x1, four keypoints: "444 thousand".
    task = Task((240, 320, 1), Skeleton(("a", "b", "c", "d")))
    assert build_network(task, growth_rate=32).count_params() == 443_611


@pytest.mark.parametrize(
    ("shape", "downsample_factor"),
    [
        ((17, 23, 1), 2),
        ((17, 23, 1), 3),
        ((240, 320, 3), 2),
        ((50, 64, 1), 2),
        ((101, 75, 2), 3),
        ((8, 8, 4), 2),
    ],
)
def test_any_size_and_number_of_channels(shape, downsample_factor):
    task = small_task(*shape, downsample_factor=downsample_factor)
    network = build_network(task, growth_rate=4)
    expected = (None, *task.output_shape, task.n_output_channels)
    assert [tuple(s) for s in network.output_shape] == [expected] * 2
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    for maps in network(images):
        maps = keras.ops.convert_to_numpy(maps)
        assert maps.shape == (2, *expected[1:])
        assert np.isfinite(maps).all()


def test_padding_leaves_coordinates_where_they_are():
    """An image cut at the bottom and right gives the maps of the whole one, cut likewise."""
    whole = build_network(small_task(48, 64), growth_rate=4, n_transitions=4, seed=3)
    cut = build_network(small_task(45, 61), growth_rate=4, n_transitions=4, seed=3)
    image = np.full((1, 48, 64, 1), 127, np.uint8)  # as gray as the padding
    image[:, :45, :61] = np.random.default_rng(0).integers(0, 256, (1, 45, 61, 1))
    maps = keras.ops.convert_to_numpy(whole(image)[-1])
    maps_of_cut = keras.ops.convert_to_numpy(cut(image[:, :45, :61])[-1])
    assert maps_of_cut.shape == (1, 12, 16, 8)
    assert np.abs(maps_of_cut - maps).max() < 0.02 * np.abs(maps).max()


def test_one_training_step_moves_every_weight():
    """A branch that is wired wrongly would stay behind."""
    network = build_network(small_task(32, 32), growth_rate=4, n_stacks=2, seed=0)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 1), dtype=np.uint8)
    before = [keras.ops.convert_to_numpy(w).copy() for w in network.trainable_weights]
    network.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse", run_eagerly=True)
    network.train_on_batch(images, [rng.normal(0, 50, (4, 8, 8, 8)).astype("float32")] * 3)
    still = [
        weight.path
        for weight, old in zip(network.trainable_weights, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(weight), old)
    ]
    assert still == []


def test_a_seed_repeats_the_weights_and_touches_no_other_generator():
    task = small_task(32, 32)
    random.seed(5)
    state = random.getstate()
    first, again, other = (build_network(task, growth_rate=4, seed=s) for s in (1, 1, 2))
    assert random.getstate() == state
    kernels = [[w for w in n.get_weights() if w.ndim == 4] for n in (first, again, other)]
    for a, b, c in zip(*kernels, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    by_shape: dict[tuple, np.ndarray] = {}
    for kernel in kernels[0]:
        assert not np.array_equal(by_shape.get(kernel.shape), kernel), "two layers start alike"
        by_shape[kernel.shape] = kernel


def test_comes_back_from_a_file(tmp_path):
    network = build_network(small_task(20, 28), growth_rate=4, seed=0)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True)
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 28, 1), dtype=np.uint8)
    for a, b in zip(network(image), loaded(image), strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b), rtol=1e-5, atol=1e-5
        )


def test_any_number_of_stacks_and_transitions():
    task = small_task(64, 64)
    for n_stacks, n_transitions in ((3, 3), (1, 5), (4, 4)):
        network = build_network(task, growth_rate=4, n_stacks=n_stacks, n_transitions=n_transitions)
        assert [tuple(s) for s in network.output_shape] == [(None, 16, 16, 8)] * (n_stacks + 1)
        up = [layer for layer in network.layers if isinstance(layer, DepthToSpace)]
        assert len(up) == n_stacks * (n_transitions - 2)


# -- depthwise-separable convolutions -----------------------------------------------------------


def test_separable_convolutions_replace_every_3x3():
    """k*k*a*b + b numbers become k*k*a + a*b + b, and nothing else changes."""
    task = Task((192, 192, 1), fly_like_skeleton(), use_graph=False)
    full, separable = build_network(task), build_network(task, separable=True)
    saved = 0
    for layer in full.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3):
            a, b = layer.kernel.shape[2:]
            saved += 9 * a * b - (9 * a + a * b)
            assert isinstance(separable.get_layer(layer.name), keras.layers.SeparableConv2D)
    assert separable.count_params() == full.count_params() - saved
    assert separable.count_params() < 0.6 * full.count_params()


def test_separable_convolutions_start_at_the_right_size():
    """SELU keeps mean 0 and variance 1 only if the weights have the variance of LeCun's rule."""
    network = build_network(small_task(64, 64), separable=True, seed=0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.SeparableConv2D):
            depthwise, pointwise, _ = (keras.ops.convert_to_numpy(w) for w in layer.weights)
            assert depthwise.std() == pytest.approx(1 / 3, rel=0.2)
            assert pointwise.std() == pytest.approx(1 / np.sqrt(pointwise.shape[2]), rel=0.2)


# -- a pretrained front end ---------------------------------------------------------------------


@pytest.mark.parametrize(("downsample_factor", "features"), [(2, 256), (3, 512), (4, 1024)])
@pytest.mark.parametrize("channels", [1, 3])
def test_densenet121_as_front_end(downsample_factor, features, channels):
    task = small_task(45, 50, channels, downsample_factor=downsample_factor)
    network = build_network(task, growth_rate=4, backbone="densenet121")
    expected = (None, *task.output_shape, task.n_output_channels)
    assert [tuple(s) for s in network.output_shape] == [expected] * 2
    assert network.get_layer("backbone").output_shape[-1] == features
    assert network.get_layer("front_skip").filters == features // 2
    assert network(np.zeros((1, 45, 50, channels), np.uint8))[1].shape == (1, *expected[1:])


def test_pretrained_weights_arrive_in_the_front_end(tmp_path):
    source = keras.applications.DenseNet121(weights=None, include_top=False)
    rng = np.random.default_rng(0)
    source.set_weights([rng.uniform(0.5, 1, w.shape) for w in source.weights])
    source.save_weights(tmp_path / "densenet.weights.h5")
    path = tmp_path / "densenet.weights.h5"
    model = StackedDenseNet(
        small_task(32, 32), 1, growth_rate=4, backbone="densenet121", weights=path
    )
    assert model.hyperparameters["weights"] == str(path)
    front = model.network.get_layer("backbone")
    assert len(front.weights) == 6 * 10 + 5  # 6 times two normalizations and convolutions; the stem
    for layer in front.layers:
        for a, b in zip(layer.get_weights(), source_weights(source, layer.name), strict=True):
            np.testing.assert_array_equal(a, b)


def source_weights(source, name):
    known = {layer.name for layer in source.layers}
    return source.get_layer(name).get_weights() if name in known else []


def test_a_seed_repeats_also_a_front_end_of_densenet121():
    task = small_task(32, 32)
    options = {"growth_rate": 4, "backbone": "densenet121", "separable": True}
    first, again = (build_network(task, seed=1, **options) for _ in range(2))
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_outputs_are_float32_in_mixed_precision():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        network = build_network(small_task(45, 50), growth_rate=4)
    finally:
        keras.config.set_dtype_policy(policy)
    assert network.get_layer("front_conv7x7").compute_dtype == "bfloat16"
    assert [output.dtype for output in network.outputs] == ["float32"] * 2
    maps = network(np.zeros((1, 45, 50, 1), np.uint8))[-1]
    assert np.isfinite(keras.ops.convert_to_numpy(maps)).all()


@pytest.mark.parametrize(
    ("task_options", "hyperparameters", "message"),
    [
        ({}, {"backbone": "resnet50"}, "expected None or \"densenet121\", found 'resnet50'"),
        (
            {"downsample_factor": 5},
            {"backbone": "densenet121"},
            "downsample_factor 2, 3 or 4 with a backbone, found 5",
        ),
        ({}, {"weights": "imagenet"}, "only a backbone has pretrained weights"),
        ({}, {"weights": 3, "backbone": "densenet121"}, "path of a file, found 3"),
        ({}, {"separable": "no"}, "expected True or False, found 'no'"),
    ],
)
def test_refuses_options_that_do_not_fit(task_options, hyperparameters, message):
    with pytest.raises(ValidationError, match=message):
        StackedDenseNet(small_task(128, 128, **task_options), growth_rate=4, **hyperparameters)


# -- how often it halves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "n"),
    [
        ((192, 192), 6),  # 3x3 innermost
        ((256, 256), 7),  # 2x2, as the original goes on
        ((240, 320), 4),  # 240 = 16 * 15
        ((480, 640), 5),
        ((250, 250), 6),  # 250 halves once: padded to 256
        ((100, 150), 4),  # 100 = 4 * 25: padded to 112x160
        ((17, 23), 3),  # the least: padded to 24x24
    ],
)
def test_halves_as_often_as_the_image_allows(size, n):
    assert count_transitions(small_task(*size)) == n


def test_negative_numbers_count_down_from_the_most():
    assert count_transitions(small_task(192, 192), -2) == 5
    assert count_transitions(small_task(192, 192), 4) == 4
    assert count_transitions(small_task(240, 320), 6) == 6  # padded to 256x320


@given(st.integers(8, 700), st.integers(8, 700), st.integers(2, 4))
@settings(max_examples=200, deadline=None)
def test_automatic_padding_stays_small(height, width, downsample_factor):
    task = small_task(height, width, downsample_factor=downsample_factor)
    if min(task.output_shape) < 2:
        return
    n = count_transitions(task)
    assert n > downsample_factor
    padded = [-(-side // 2**n) * 2**n for side in (height, width)]
    grown = (padded[0] * padded[1]) / (height * width)
    assert grown <= 1.2 or n == downsample_factor + 1


@pytest.mark.parametrize(
    ("task_options", "n_transitions", "message"),
    [
        ({"downsample_factor": 1}, -1, "downsample_factor >= 2, found 1"),
        ({"downsample_factor": 0}, -1, "downsample_factor >= 2, found 0"),
        ({"downsample_factor": 6}, -1, "smaller downsample_factor"),
        ({}, 0, "at least 3"),
        ({}, 2, "at least 3"),
        ({}, -4, "gives 1 for images of 32x32"),
        ({}, -40, "gives 0"),
        ({}, 9, "512 pixels"),
        ({}, 2.5, "integer"),
        ({}, True, "integer"),
    ],
)
def test_refuses_what_cannot_be_halved(task_options, n_transitions, message):
    task = small_task(32, 32, **task_options)
    with pytest.raises(ValidationError, match=message):
        build_network(task, n_transitions=n_transitions, growth_rate=4)


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"growth_rate": 0},
        {"growth_rate": 4.5},
        {"n_stacks": 0},
        {"compression_factor": 0},
        {"bottleneck_factor": float("nan")},
    ],
)
def test_refuses_senseless_hyperparameters(hyperparameters):
    with pytest.raises(ValidationError, match=next(iter(hyperparameters))):
        build_network(small_task(32, 32), **hyperparameters)


# -- the layers ---------------------------------------------------------------------------------


def test_space_to_depth_takes_blocks_row_by_row():
    image = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype("float32")
    found = keras.ops.convert_to_numpy(SpaceToDepth(2)(image))
    assert found.shape == (2, 2, 3, 12)
    for row in range(2):
        for column in range(3):
            block = image[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            np.testing.assert_array_equal(found[:, row, column], block.reshape(2, 12))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_depth_to_space_undoes_space_to_depth(rows, columns, channels, block):
    shape = (2, rows * block, columns * block, channels)
    image = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    there = SpaceToDepth(block)(image)
    assert tuple(there.shape) == SpaceToDepth(block).compute_output_shape(shape)
    back = DepthToSpace(block)(there)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(back), image)


@pytest.mark.parametrize("cls", [SpaceToDepth, DepthToSpace])
def test_layers_come_back_from_their_config(cls):
    layer = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(cls(block_size=3, name="three"))
    )
    assert (type(layer), layer.block_size, layer.name) == (cls, 3, "three")
