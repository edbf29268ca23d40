"""The network of Stacked Hourglass: its size to the parameter, its shapes, its refusals."""

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
from dpk_models import StackedHourglass, load_model
from dpk_models.stacked_hourglass import build_network


def small_task(height, width, channels=1, **options):
    return Task((height, width, channels), Skeleton(("a", "b", "c"), (-1, 0, 1)), **options)


def images_of(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def run(network, images):
    outputs = network(images)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [keras.ops.convert_to_numpy(o) for o in outputs]


# Read off DeepPoseKit 0.3.9 with 192x192x1 images and 32 keypoints.
@pytest.mark.parametrize(
    ("n_stacks", "parameters"), [(2, (530_688, 509_120)), (1, (284_768, 273_504))]
)
def test_has_as_many_parameters_as_the_original(n_stacks, parameters):
    skeleton = Skeleton(tuple(f"p{i}" for i in range(32)), (-1,) * 32)
    network = build_network(Task((192, 192, 1), skeleton), filters=64, n_stacks=n_stacks)
    trainable = sum(int(np.prod(w.shape)) for w in network.trainable_weights)
    assert (network.count_params(), trainable) == parameters
    assert [tuple(o.shape) for o in network.outputs] == [(None, 48, 48, 32)] * n_stacks


@pytest.mark.parametrize("downsample_factor", [1, 2, 3])
@pytest.mark.parametrize("shape", [(45, 50, 3), (48, 64, 1), (33, 17, 4)])
def test_any_size_and_number_of_channels(shape, downsample_factor):
    task = small_task(*shape, downsample_factor=downsample_factor)
    network = build_network(task, filters=6, n_stacks=2)
    maps = run(network, images_of(2, *shape))
    assert [m.shape for m in maps] == [(2, *task.output_shape, 8)] * 2
    assert all(np.isfinite(m).all() for m in maps)


def test_every_stack_sees_what_the_one_before_put_out():
    task = small_task(32, 32)
    network = build_network(task, filters=6, n_stacks=3)
    before = run(network, images_of(1, 32, 32, 1))
    kernel, bias = network.get_layer("output_2").get_weights()
    network.get_layer("output_2").set_weights([kernel + 0.5, bias])
    after = run(network, images_of(1, 32, 32, 1))
    same = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [True, False, False]


def test_options_change_the_network():
    task = small_task(64, 64)
    sizes = {
        name: build_network(task, **{"filters": 8, **options}).count_params()
        for name, options in {
            "default": {},
            "wider": {"filters": 12},
            "narrower inside": {"bottleneck_factor": 4},
            "stacked": {"n_stacks": 2},
            "shallower": {"n_transitions": -2},
        }.items()
    }
    assert len(set(sizes.values())) == len(sizes)
    assert sizes["wider"] > sizes["default"] > sizes["narrower inside"]
    assert sizes["stacked"] > sizes["default"] > sizes["shallower"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "filters: expected a whole number"),
        ({"filters": 2.5}, "filters: expected a whole number"),
        ({"n_stacks": True}, "n_stacks: expected a whole number"),
        ({"bottleneck_factor": 9}, "at most filters"),
        ({"n_transitions": 2}, "expected at least 3"),
        ({"n_transitions": 9}, "use a smaller number, or -1"),
    ],
)
def test_refuses_what_it_cannot_have(options, message):
    with pytest.raises(ValidationError, match=message):
        build_network(small_task(32, 32), **{"filters": 8, **options})


def test_refuses_strides_and_images_that_it_cannot_have():
    with pytest.raises(ValidationError, match="downsample_factor >= 1"):
        build_network(small_task(32, 32, downsample_factor=0))
    with pytest.raises(ValidationError, match="larger images"):
        build_network(small_task(4, 32))


def test_padding_leaves_coordinates_where_they_are():
    """An image cut at the bottom and right gives the maps of the whole one, cut likewise."""
    options = {"filters": 8, "n_transitions": 4, "seed": 3}
    whole, cut = (build_network(small_task(*size), **options) for size in ((48, 64), (45, 61)))
    image = np.full((1, 48, 64, 1), 127, np.uint8)  # as gray as the padding
    image[:, :45, :61] = images_of(1, 45, 61, 1)
    maps, maps_of_cut = run(whole, image)[-1], run(cut, image[:, :45, :61])[-1]
    assert maps_of_cut.shape == maps.shape == (1, 12, 16, 8)
    assert np.abs(maps_of_cut - maps).max() < 0.02 * np.abs(maps).max()


def test_one_training_step_moves_every_weight():
    """A branch that is wired wrongly would stay behind."""
    network = build_network(small_task(32, 32), filters=8, n_stacks=2, seed=0)
    rng = np.random.default_rng(0)
    before = [keras.ops.convert_to_numpy(w).copy() for w in network.trainable_weights]
    network.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse", run_eagerly=True)
    targets = [rng.normal(0, 50, (4, 8, 8, 8)).astype("float32")] * 2
    network.train_on_batch(images_of(4, 32, 32, 1), targets)
    still = [
        weight.path
        for weight, old in zip(network.trainable_weights, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(weight), old)
    ]
    assert still == []


def test_a_single_stack_trains():
    annotations = dot_annotations(8, size=(32, 32))
    generator = TrainingGenerator(annotations, augmenter=None, seed=1)
    model = StackedHourglass(generator, filters=8)
    record = model.fit(batch_size=4, epochs=2)
    assert len(record.history) == 2
    assert np.isfinite([row["loss"] for row in record.history]).all()


def test_a_seed_repeats_the_weights_and_touches_no_other_generator():
    random.seed(5)
    state = random.getstate()
    first, again, other = (build_network(small_task(32, 32), filters=8, seed=s) for s in (1, 1, 2))
    assert random.getstate() == state
    kernels = [[w for w in n.get_weights() if w.ndim == 4] for n in (first, again, other)]
    for a, b, c in zip(*kernels, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    by_shape: dict[tuple, np.ndarray] = {}
    for kernel in kernels[0]:
        assert not np.array_equal(by_shape.get(kernel.shape), kernel), "two layers start alike"
        by_shape[kernel.shape] = kernel


def test_is_the_same_for_a_seed_and_comes_back_from_its_file(tmp_path):
    annotations = dot_annotations(8, size=(32, 32))

    def make(seed):
        generator = TrainingGenerator(annotations, augmenter=None, seed=seed)
        return StackedHourglass(generator, filters=8, bottleneck_factor=4, n_stacks=2)

    images = np.array(annotations.images)
    a, b, other = (make(seed).predict(images) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, other)
    model = make(1)
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert loaded.hyperparameters == model.hyperparameters
    assert np.array_equal(loaded.predict(images), a)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_mixed_precision_gives_maps_in_32_bits(half):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{half}")
    try:
        network = build_network(small_task(45, 50), filters=6, n_stacks=2)
    finally:
        keras.config.set_dtype_policy(policy)
    assert network.get_layer("front_conv7x7").compute_dtype == half
    assert {o.dtype for o in network.outputs} == {"float32"}
    maps = run(network, images_of(1, 45, 50, 1))
    assert {m.dtype for m in maps} == {np.dtype("float32")}
    assert all(np.isfinite(m).all() for m in maps)
