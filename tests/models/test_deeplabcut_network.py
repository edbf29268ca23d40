"""The network of DeepLabCut: its size to the parameter, its shapes, its files."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from dpk_core import TrainingGenerator
from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_core.testing import dot_annotations
from dpk_models import DeepLabCut, load_model
from dpk_models.deeplabcut import build_network

SMALL = {"backbone": "mobilenetv2", "alpha": 0.35}


def small_task(height, width, channels=3, **options):
    skeleton = Skeleton(("a", "b", "c"), (-1, 0, 1))
    return Task((height, width, channels), skeleton, **options)


def images_of(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def run(network, images):
    return keras.ops.convert_to_numpy(network(images))


# Read off DeepPoseKit 0.3.9 with 192x192x1 images and 32 keypoints.
@pytest.mark.parametrize(
    ("backbone", "parameters"),
    [
        ("resnet50", (23_735_200, 23_682_080)),
        ("mobilenetv2", (2_350_176, 2_316_064)),
        ("densenet121", (7_111_264, 7_027_616)),
        ("xception", (21_008_968, 20_954_440)),
    ],
)
def test_has_as_many_parameters_as_the_original(backbone, parameters):
    skeleton = Skeleton(tuple(f"p{i}" for i in range(32)), (-1,) * 32)
    network = build_network(Task((192, 192, 1), skeleton), backbone=backbone)
    trainable = sum(int(np.prod(w.shape)) for w in network.trainable_weights)
    assert (network.count_params(), trainable) == parameters
    assert network.output_shape == (None, 48, 48, 32)


@pytest.mark.parametrize("downsample_factor", [2, 3, 4])
@pytest.mark.parametrize("shape", [(45, 50, 3), (48, 64, 1), (33, 17, 4)])
def test_any_size_and_number_of_channels(shape, downsample_factor):
    task = small_task(*shape, downsample_factor=downsample_factor)
    network = build_network(task, **SMALL)
    expected = (*task.output_shape, task.n_output_channels)
    assert task.n_output_channels == 8  # three keypoints and their graph
    assert network.output_shape == (None, *expected)
    maps = run(network, images_of(2, *shape))
    assert maps.shape == (2, *expected)
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("backbone", ["resnet50", "densenet121", "xception"])
def test_odd_sizes_on_the_other_backbones(backbone):
    for downsample_factor in (2, 3, 4):
        task = small_task(45, 50, downsample_factor=downsample_factor)
        network = build_network(task, backbone=backbone)
        assert network.output_shape == (None, *task.output_shape, 8)


def test_padding_leaves_coordinates_where_they_are():
    """An image cut at the bottom and right gives the maps of the whole one, cut likewise."""
    whole = build_network(small_task(48, 64), seed=3, **SMALL)
    cut = build_network(small_task(45, 61), seed=3, **SMALL)
    image = np.full((1, 48, 64, 3), 127, np.uint8)  # about as gray as the padding
    image[:, :45, :61] = images_of(1, 45, 61, 3)
    maps, maps_of_cut = run(whole, image), run(cut, image[:, :45, :61])
    assert maps_of_cut.shape == (1, 12, 16, 8)
    assert np.abs(maps_of_cut - maps).max() < 0.05 * np.abs(maps).max()


def test_one_training_step_moves_every_weight():
    """The original trains the whole backbone; nothing is frozen, nothing left aside."""
    network = build_network(small_task(32, 32), seed=0, **SMALL)
    before = [keras.ops.convert_to_numpy(w).copy() for w in network.weights]
    network.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse", run_eagerly=True)
    maps = np.random.default_rng(0).normal(0, 50, (4, 8, 8, 8)).astype("float32")
    network.train_on_batch(images_of(4, 32, 32, 3), maps)
    still = [
        weight.path
        for weight, old in zip(network.weights, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(weight), old)
    ]
    assert still == []


def test_the_generator_s_seed_repeats_the_weights():
    def weights(seed):
        generator = TrainingGenerator(dot_annotations(size=(32, 32)), augmenter=None, seed=seed)
        return DeepLabCut(generator, **SMALL).network.get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_outputs_are_float32_in_mixed_precision():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        network = build_network(small_task(45, 50), **SMALL)
    finally:
        keras.config.set_dtype_policy(policy)
    assert network.get_layer("backbone").layers[-1].compute_dtype == "bfloat16"
    assert network.outputs[0].dtype == "float32"
    assert np.isfinite(run(network, images_of(1, 45, 50, 3))).all()


@pytest.mark.parametrize("downsample_factor", [0, 1, 5])
def test_refuses_strides_it_cannot_have(downsample_factor):
    task = small_task(256, 256, downsample_factor=downsample_factor)
    with pytest.raises(
        ValidationError,
        match=rf"2, 3 or 4 \(output strides 4, 8 and 16\), found {downsample_factor} ",
    ):
        build_network(task, **SMALL)


@pytest.mark.parametrize(
    ("task", "hyperparameters", "message"),
    [
        (small_task(16, 40, downsample_factor=4), SMALL, "maps of 1x3 at downsample_factor 4"),
        (small_task(32, 32), {"backbone": "vgg16"}, "one of resnet50, .* found 'vgg16'"),
        (small_task(32, 32), {"alpha": 0.5}, "resnet50 comes in one width only, found 0.5"),
        (small_task(32, 32), {**SMALL, "weights": 5}, "path of a file, found 5"),
        (
            small_task(32, 32),
            {"backbone": "mobilenetv2", "alpha": 0.4, "weights": "imagenet"},
            "for ImageNet weights, found 0.4",
        ),
    ],
)
def test_refuses_what_cannot_work(task, hyperparameters, message):
    with pytest.raises(ValidationError, match=message):
        DeepLabCut(task, **hyperparameters)


# -- weights and files --------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mobilenet.weights.h5"
    source = keras.applications.MobileNetV2(alpha=0.35, weights=None, include_top=False)
    source.save_weights(path)
    return path, source.get_weights()


def test_a_new_model_starts_from_the_file(weights):
    path, values = weights
    model = DeepLabCut(small_task(32, 32), weights=path, **SMALL)
    for a, b in zip(model.network.get_layer("backbone").get_weights(), values, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_wrong_or_absent_file_is_an_error_of_its_own(weights, tmp_path):
    path, _ = weights
    with pytest.raises(FileFormatError, match=r"mobilenet\.weights\.h5 .* expected mobilenetv2"):
        DeepLabCut(small_task(32, 32), "mobilenetv2", alpha=0.5, weights=path)
    with pytest.raises(FileMissingError, match=r"absent\.h5"):
        DeepLabCut(small_task(32, 32), weights=tmp_path / "absent.h5", **SMALL)


ALONE = """
import json, sys
import numpy as np
from dpk_models import load_model
model = load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
print(json.dumps(model.hyperparameters))
"""


def test_a_saved_model_needs_neither_weights_file_nor_network(weights, tmp_path):
    path, _ = weights
    annotations = dot_annotations(6, size=(45, 50), channels=3)
    generator = TrainingGenerator(annotations, downsample_factor=3, augmenter=None, seed=1)
    options = {**SMALL, "weights": str(path), "peak_detector": "maxima"}
    model = DeepLabCut(generator, **options)
    rng = np.random.default_rng(0)  # as if it had been trained: other weights than in the file
    model.network.set_weights(
        [w + rng.uniform(0, 0.1, w.shape) for w in model.network.get_weights()]
    )
    model.save(tmp_path / "model.keras")
    path.unlink()
    images = np.array(annotations.images)
    np.save(tmp_path / "images.npy", images)
    names = ("model.keras", "images.npy", "found.npy")
    command = [sys.executable, "-c", ALONE, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == options
    expected = model.predict(images)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-3)
    with pytest.raises(FileMissingError):  # a new model does need it
        DeepLabCut(generator, **options)


def test_a_saved_model_never_downloads(tmp_path, monkeypatch):
    monkeypatch.setattr(DeepLabCut, "load_pretrained", lambda self: None)
    DeepLabCut(small_task(32, 32), weights="imagenet", **SMALL).save(tmp_path / "model.keras")

    def download(self):
        raise AssertionError("asked for pretrained weights")

    monkeypatch.setattr(DeepLabCut, "load_pretrained", download)
    assert load_model(tmp_path / "model.keras").weights == "imagenet"
    with pytest.raises(AssertionError, match="asked for pretrained weights"):
        DeepLabCut(small_task(32, 32), weights="imagenet", **SMALL)
