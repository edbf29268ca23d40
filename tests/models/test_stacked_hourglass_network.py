"""The network of Stacked Hourglass: its size to the parameter, its shapes, its refusals."""

from __future__ import annotations

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


def test_mixed_precision_gives_maps_in_32_bits():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = build_network(small_task(45, 50), filters=6, n_stacks=2)
    finally:
        keras.config.set_dtype_policy(policy)
    assert network.get_layer("front_conv7x7").compute_dtype == "bfloat16"
    assert {o.dtype for o in network.outputs} == {"float32"}
    assert {m.dtype for m in run(network, images_of(1, 45, 50, 1))} == {np.dtype("float32")}
