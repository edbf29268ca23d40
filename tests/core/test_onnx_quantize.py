"""int8: about as exact, and described as what it is."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest

from dpk_core.errors import MissingDependencyError, ModelFileError, ValidationError
from dpk_core.services.engines import load_model
from dpk_core.services.onnx.description import OnnxDescription, read_metadata
from dpk_core.services.onnx.quantize import quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MEDIAN_PX, MOST_PX = 0.1, 0.5
"""What int8 costs on 48x64 images: the median, and the error below which 95 % lie."""


@pytest.fixture(scope="module")
def int8(learned, tmp_path_factory):
    """The learned model in int8, calibrated on some of its images."""
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    quantize(learned.onnx, path, learned.images[:32])
    return path


def describe(path):
    return OnnxDescription.from_metadata(read_metadata(path), path)


def test_it_is_nearly_as_exact(learned, int8):
    exact = load_model(learned.onnx, "onnxruntime").predict(learned.images)
    model = load_model(int8, "onnxruntime")
    assert model.engine.endswith("CPU, int8")
    found = model.predict(learned.images)
    off = np.hypot(*(found - exact)[..., :2].transpose(2, 0, 1))[exact[..., 2] > 0.3]
    assert 0 < np.median(off) < MEDIAN_PX
    assert np.quantile(off, 0.95) < MOST_PX
    assert np.abs(found - exact)[..., 2].max() < 0.15


def test_convolutions_are_in_integers_and_peaks_are_not(int8):
    graph = onnx.load(int8).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    quantized = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    convolutions = [n for n in graph.node if n.op_type == "Conv"]
    assert len(convolutions) > 5
    assert all(n.input[0] in quantized and n.input[1] in quantized for n in convolutions)
    assert onnx.TensorProto.INT8 in weights.values()
    products = [n for n in graph.node if n.op_type in ("MatMul", "Gemm", "ArgMax")]
    assert products
    assert not any(name in quantized for n in products for name in n.input)


def test_it_says_what_it_is(learned, int8):
    exact, small = describe(learned.onnx), describe(int8)
    assert (exact.precision, small.precision) == ("float32", "int8")
    assert small.task == exact.task
    assert (small.model, small.hyperparameters) == (exact.model, exact.hyperparameters)
    assert (small.record, small.software) == (exact.record, exact.software)
    keys = {entry.key for entry in onnx.load(int8).metadata_props}
    assert {"dpk", "keypoints", "input", "output"} <= keys


def test_the_same_images_give_the_same_model(learned, int8, tmp_path):
    quantize(learned.onnx, tmp_path / "again.onnx", learned.images[:32])
    again = load_model(tmp_path / "again.onnx").predict(learned.images)
    assert np.array_equal(again, load_model(int8).predict(learned.images))


def test_colour_images_calibrate_a_gray_model(brightest_onnx, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3)).astype(np.uint8)
    images[:, 4, 7] = 255
    quantize(brightest_onnx(), tmp_path / "int8.onnx", images)
    found = load_model(tmp_path / "int8.onnx").predict(images)
    assert np.allclose(found[:, 0, 2], 1, atol=0.02)


def test_a_file_that_is_there_is_replaced_only_when_all_went_well(brightest_onnx, tmp_path):
    target = tmp_path / "int8.onnx"
    target.write_bytes(b"my own")
    with pytest.raises(ValidationError, match="found none"):
        quantize(brightest_onnx(), target, np.empty((0, 12, 16, 1), np.uint8))
    assert target.read_bytes() == b"my own"
    quantize(brightest_onnx(), target, np.full((1, 12, 16, 1), 200, np.uint8))
    assert describe(target).precision == "int8"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["int8.onnx", "m.onnx"]


def test_logging_stays_as_it_was(brightest_onnx, tmp_path):
    before = logging.root.level
    quantize(brightest_onnx(), tmp_path / "a.onnx", np.full((1, 12, 16, 1), 200, np.uint8))
    assert logging.root.level == before


# -- what cannot be made int8 --------------------------------------------------------------------


def refused(source, tmp_path, images=None):
    images = np.full((2, 12, 16, 1), 200, np.uint8) if images is None else images
    with pytest.raises((ModelFileError, ValidationError)) as error:
        quantize(source, tmp_path / "int8.onnx", images)
    assert not (tmp_path / "int8.onnx").exists()
    return str(error.value)


def test_images_of_another_size(brightest_onnx, tmp_path):
    message = refused(brightest_onnx(), tmp_path, np.zeros((2, 20, 16, 1), np.uint8))
    assert "expected 12x16" in message


def test_a_network_without_convolutions(brightest_onnx, tmp_path):
    message = refused(brightest_onnx(convolution=False), tmp_path)
    assert "no convolution" in message
    assert "still predicts in float32" in message


def test_what_is_int8_already(int8, learned, tmp_path):
    assert "holds an int8 model already" in refused(int8, tmp_path, learned.images)


def test_a_strangers_file_and_a_damaged_one(brightest_onnx, tmp_path):
    assert "not one of dpk's" in refused(brightest_onnx(metadata={}), tmp_path)
    path = brightest_onnx()
    path.write_bytes(path.read_bytes()[:500])
    assert "m.onnx is cut short" in refused(path, tmp_path)


def test_what_to_install(brightest_onnx, tmp_path, monkeypatch):
    path = brightest_onnx()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dpk-core\[onnx\]'"):
        quantize(path, tmp_path / "a.onnx", np.zeros((1, 12, 16, 1), np.uint8))
