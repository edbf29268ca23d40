"""Backbones: normalization, features at a stride of 16, weights from files and from Keras."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from itertools import repeat

import h5py
import keras
import numpy as np
import pytest

from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_models.backbones import BACKBONES, LAYER, Backbone
from dpk_models.seeding import seeds_from

APPLICATIONS = keras.applications
SMALL = Backbone("mobilenetv2", 0.35)
EARLY = {
    "resnet50": "conv2_block1_out",
    "mobilenetv2": "block_2_add",
    "densenet121": "pool2_relu",
    "xception": "block2_pool",
}
"""A layer near the front of each backbone."""

UNREACHABLE = "http://127.0.0.1:9"


def images_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def network_of(backbone, height=64, width=64, channels=3, seed=0):
    """Images to features."""
    inputs = keras.Input((height, width, channels), dtype="uint8")
    return keras.Model(inputs, backbone.features(backbone.normalize(inputs), seeds_from(seed)))


def run(network, images):
    return keras.ops.convert_to_numpy(network(images))


def lively(network, seed=0):
    """Weights under which signals neither fade nor grow, as in a trained network."""
    rng = np.random.default_rng(seed)
    values = []
    for weight in network.weights:
        shape = tuple(weight.shape)
        if len(shape) == 4:
            n_inputs = shape[0] * shape[1] * (1 if "depthwise" in weight.path else shape[2])
            values.append(rng.normal(0, np.sqrt(2 / n_inputs), shape))
        else:
            values.append(rng.uniform(0.8, 1.2, shape))
    network.set_weights(values)
    return network


@pytest.mark.parametrize("name", BACKBONES)
def test_statistics_keep_up_with_a_short_training(name):
    backbone = network_of(Backbone(name, end=EARLY[name])).get_layer(LAYER)
    momenta = {
        layer.momentum
        for layer in backbone.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert momenta
    assert max(momenta) <= 0.99


def test_prediction_agrees_with_training_after_a_short_one():
    """Maps that prediction sees, by moving averages, are those that training has seen."""
    images = images_of((4, 32, 32, 3))
    network = network_of(Backbone("mobilenetv2", 0.35, end="block_2_add"), 32, 32)
    network.compile(keras.optimizers.SGD(0.0), "mse")  # statistics alone are learned
    target = np.zeros((4, *network.output_shape[1:]), "float32")
    for _ in range(1000):
        network.train_on_batch(images, target)
    learned = keras.ops.convert_to_numpy(network(images, training=True))
    predicted = run(network, images)
    assert np.abs(predicted - learned).mean() < 0.1 * np.abs(learned).mean()


@pytest.fixture(scope="module")
def mobilenet():
    return lively(APPLICATIONS.MobileNetV2(alpha=0.35, weights=None, include_top=False))


@pytest.fixture(scope="module")
def files(mobilenet, tmp_path_factory):
    """The same weights in all formats that Keras has had."""
    folder = tmp_path_factory.mktemp("weights")
    mobilenet.save_weights(folder / "new.weights.h5")
    mobilenet.save(folder / "whole_model.h5")
    # What Keras offers for download holds the same groups, without a model around them.
    with (
        h5py.File(folder / "whole_model.h5") as whole,
        h5py.File(folder / "old.h5", "w") as weights,
    ):
        for name in whole["model_weights"]:
            whole.copy(f"model_weights/{name}", weights)
        for name, value in whole["model_weights"].attrs.items():
            weights.attrs[name] = value
    return folder


# -- normalization ------------------------------------------------------------------------------

PREPROCESS = {
    "resnet50": APPLICATIONS.resnet.preprocess_input,
    "mobilenetv2": APPLICATIONS.mobilenet_v2.preprocess_input,
    "densenet121": APPLICATIONS.densenet.preprocess_input,
    "xception": APPLICATIONS.xception.preprocess_input,
}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_normalized_as_keras_does(name, channels):
    images = images_of((2, 7, 9, channels))
    inputs = keras.Input((7, 9, channels), dtype="uint8")
    network = keras.Model(inputs, Backbone(name).normalize(inputs))
    found = run(network, images)
    colour = np.repeat(images, 3, axis=-1) if channels == 1 else images
    expected = PREPROCESS[name](colour.astype("float32"))
    assert network.output_shape == (None, 7, 9, 3)
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_start_as_their_mean(channels):
    images = images_of((2, 7, 9, channels))
    inputs = keras.Input((7, 9, channels), dtype="uint8")
    network = keras.Model(inputs, SMALL.normalize(inputs))
    gray = images.mean(axis=-1, keepdims=True) / 127.5 - 1
    np.testing.assert_allclose(run(network, images), np.repeat(gray, 3, axis=-1), atol=1e-5)
    assert len(network.trainable_weights) == 1


def test_the_normalization_comes_back_from_its_config():
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    network = keras.Model(inputs, Backbone("resnet50").normalize(inputs))
    again = keras.Model.from_config(network.get_config())
    images = images_of((1, 4, 4, 3))
    assert np.array_equal(run(network, images), run(again, images))


# -- features -----------------------------------------------------------------------------------


# How many convolutions are dilated: read off DeepPoseKit 0.3.9.
@pytest.mark.parametrize(
    ("name", "channels", "n_dilated"),
    [
        ("resnet50", 2048, 2),
        ("mobilenetv2", 1280, 3),
        ("densenet121", 1024, 16),
        ("xception", 2048, 2),
    ],
)
def test_features_have_a_stride_of_16(name, channels, n_dilated):
    inputs = keras.Input((48, 80, 3))
    features = Backbone(name).features(inputs, repeat(None))
    assert features.shape == (None, 3, 5, channels)
    network = keras.Model(inputs, features).get_layer(LAYER)
    rates = [np.max(getattr(layer, "dilation_rate", 1)) for layer in network.layers]
    assert rates.count(2) == n_dilated
    assert set(rates) == {1, 2}


def test_dilation_gives_the_classifier_s_features_and_those_between(mobilenet, files):
    """Every other feature is what the unchanged network finds at a stride of 32."""
    network = network_of(SMALL, 96, 128)
    SMALL.load_weights(network, str(files / "new.weights.h5"))
    images = images_of((1, 96, 128, 3))
    expected = run(mobilenet, PREPROCESS["mobilenetv2"](images.astype("float32")))
    assert expected.shape == (1, 3, 4, 1280)
    assert expected.std() > 0.1
    np.testing.assert_allclose(run(network, images)[:, 1::2, 1::2], expected, atol=1e-3)


def test_the_first_blocks_alone(tmp_path):
    path = tmp_path / "densenet.weights.h5"
    whole = lively(APPLICATIONS.DenseNet121(weights=None, include_top=False))
    whole.save_weights(path)
    end = "conv3_block12_concat"
    backbone = Backbone("densenet121", end=end)
    network = network_of(backbone, 40, 48)
    backbone.load_weights(network, str(path))
    images = images_of((1, 40, 48, 3))
    expected = run(
        keras.Model(whole.input, whole.get_layer(end).output),
        PREPROCESS["densenet121"](images.astype("float32")),
    )
    assert expected.shape == (1, 5, 6, 512)
    np.testing.assert_allclose(
        run(network, images), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
    )


def test_a_seed_repeats_the_weights_and_touches_no_other_generator():
    random.seed(5)
    state = random.getstate()
    first, again, other = (network_of(SMALL, seed=seed) for seed in (1, 1, 2))
    assert random.getstate() == state
    kernels = [[w for w in n.get_weights() if w.ndim == 4] for n in (first, again, other)]
    by_shape: dict[tuple, np.ndarray] = {}
    for a, b, c in zip(*kernels, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(by_shape.get(a.shape), a), "two layers start alike"
        by_shape[a.shape] = a


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet",), "resnet50, mobilenetv2, densenet121, xception, found 'resnet'"),
        ((None,), "found None"),
        (("resnet50", 0.5), 'expected 1.*backbone="mobilenetv2"'),
        (("mobilenetv2", 0), "alpha: expected a number above 0, found 0"),
        (("mobilenetv2", float("nan")), "above 0, found nan"),
        (("mobilenetv2", "1"), "above 0, found '1'"),
        (("mobilenetv2", True), "above 0, found True"),
    ],
)
def test_refuses_what_there_is_not(arguments, message):
    with pytest.raises(ValidationError, match=message):
        Backbone(*arguments)


def test_not_every_width_has_imagenet_weights():
    Backbone("mobilenetv2", 0.6).check_weights(None)
    Backbone("mobilenetv2", 0.35).check_weights("imagenet")
    with pytest.raises(ValidationError, match=r"0\.35, 0\.5, 0\.75, 1\.0, 1\.3, 1\.4 for ImageNet"):
        Backbone("mobilenetv2", 0.6).check_weights("imagenet")


# -- files of weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new.weights.h5", "whole_model.h5", "old.h5"])
def test_weights_arrive_where_they_belong(mobilenet, files, name):
    network = network_of(SMALL)
    random.seed(5)
    state = random.getstate()
    SMALL.load_weights(network, str(files / name))
    assert random.getstate() == state
    loaded = network.get_layer(LAYER)
    compared = 0
    for layer in mobilenet.layers[1:]:
        mine = loaded.get_layer(layer.name).get_weights()
        for a, b in zip(mine, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
            compared += 1
    assert compared == len(mobilenet.weights) == len(loaded.weights)


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "xception"])
def test_weights_have_the_same_order_in_every_backbone(name):
    """Copied in this order, they end up in layers of the same kind and place."""
    backbone = Backbone(name)
    make = {"resnet50": "ResNet50", "densenet121": "DenseNet121", "xception": "Xception"}[name]
    source = getattr(APPLICATIONS, make)(weights=None, include_top=False)
    mine = network_of(backbone).get_layer(LAYER)
    unnamed = ("conv2d", "batch_normalization")  # numbered anew each time
    for a, b in zip(
        (layer for layer in mine.layers if layer.weights),
        (layer for layer in source.layers if layer.weights),
        strict=True,
    ):
        assert type(a) is type(b)
        assert [w.shape for w in a.weights] == [w.shape for w in b.weights]
        assert a.name == b.name or (a.name.startswith(unnamed) and b.name.startswith(unnamed))


def test_a_file_for_another_architecture_is_refused(files, tmp_path):
    wide = Backbone("mobilenetv2", 0.5)
    network = network_of(wide)
    before = network.get_weights()
    with pytest.raises(
        FileFormatError,
        match=r"new\.weights\.h5 has weights of another network: expected mobilenetv2 with "
        r"alpha=0\.5, 706,224 numbers in 260 arrays, found 410,208 numbers in 260 arrays",
    ):
        wide.load_weights(network, str(files / "new.weights.h5"))
    with pytest.raises(FileFormatError, match=r"old\.h5 has weights of another network"):
        wide.load_weights(network, str(files / "old.h5"))
    assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True))

    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(
        tmp_path / "dense.weights.h5"
    )
    with pytest.raises(FileFormatError, match=r"expected mobilenetv2.*found 3 numbers in 2 arrays"):
        wide.load_weights(network, str(tmp_path / "dense.weights.h5"))


def test_files_that_are_none(files, tmp_path):
    network = network_of(SMALL)
    with pytest.raises(FileMissingError, match=r"no file with weights of mobilenetv2.*absent\.h5"):
        SMALL.load_weights(network, str(tmp_path / "absent.h5"))
    (tmp_path / "weights.pth").touch()
    with pytest.raises(FileFormatError, match=r"weights\.pth: expected .* ends in \.h5"):
        SMALL.load_weights(network, str(tmp_path / "weights.pth"))
    content = (files / "new.weights.h5").read_bytes()
    for share in (0, 0.01, 0.5, 0.9):
        (tmp_path / "cut.weights.h5").write_bytes(content[: int(share * len(content))])
        with pytest.raises(FileFormatError, match=r"cut\.weights\.h5 is damaged or not an HDF5"):
            SMALL.load_weights(network, str(tmp_path / "cut.weights.h5"))


def test_files_with_the_other_format_s_name(files, tmp_path):
    network = network_of(SMALL)
    (tmp_path / "a.h5").write_bytes((files / "new.weights.h5").read_bytes())
    with pytest.raises(FileFormatError, match=r"a\.h5: rename .* ends in \.weights\.h5"):
        SMALL.load_weights(network, str(tmp_path / "a.h5"))
    (tmp_path / "b.weights.h5").write_bytes((files / "old.h5").read_bytes())
    with pytest.raises(FileFormatError, match=r"rename .* ends in \.h5, but not in \.weights\.h5"):
        SMALL.load_weights(network, str(tmp_path / "b.weights.h5"))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_right_shapes_under_wrong_names(mobilenet, tmp_path):
    path = tmp_path / "shuffled.weights.h5"
    with h5py.File(path, "w") as file:
        for i, weight in enumerate(mobilenet.get_weights()):
            file[f"arrays/{i}"] = weight
    with pytest.raises(FileFormatError, match=r"shuffled\.weights\.h5: expected .* order"):
        SMALL.load_weights(network_of(SMALL), str(path))


# -- weights that Keras downloads ---------------------------------------------------------------


def test_a_failed_download_says_what_to_do(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, UNREACHABLE)
    widest = Backbone("mobilenetv2", 1.4)
    with pytest.raises(DpkError, match=r"of mobilenetv2 with alpha=1\.4 could not be downloaded.*"):
        widest.load_weights(network_of(widest, 32, 32), "imagenet")


IMAGENET = """
import sys
import numpy as np
import keras
from dpk_models.backbones import Backbone
from itertools import repeat
backbone = Backbone("mobilenetv2", 0.35)
inputs = keras.Input((32, 32, 3))
network = keras.Model(inputs, backbone.features(inputs, repeat(None)))
backbone.load_weights(network, "imagenet")
np.savez(sys.argv[1], *network.get_weights())
"""


def test_weights_come_from_the_cache_of_keras(mobilenet, files, tmp_path):
    """With the file where a download would put it, all of Keras' own way is gone."""
    cached = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / cached).write_bytes((files / "old.h5").read_bytes())
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), "https_proxy": UNREACHABLE}
    command = [sys.executable, "-c", IMAGENET, str(tmp_path / "found.npz")]
    subprocess.run(command, check=True, env=environment)
    with np.load(tmp_path / "found.npz") as found:
        weights = [found[f"arr_{i}"] for i in range(len(found.files))]
    assert sum(w.size for w in weights) == mobilenet.count_params() == 410_208
    by_shape = sorted((w.shape, w.sum().item()) for w in weights)
    assert by_shape == sorted((w.shape, w.sum().item()) for w in mobilenet.get_weights())
