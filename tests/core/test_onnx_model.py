"""Exported models: what they say about themselves, what they find, and files that are none."""

from __future__ import annotations

import importlib.metadata
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dpk_core.errors import (
    DeviceMemoryError,
    DpkError,
    FileMissingError,
    MissingDependencyError,
    ModelFileError,
    ValidationError,
)
from dpk_core.services.engines import load_model
from dpk_core.services.onnx.description import KEY, OnnxDescription, read_metadata
from dpk_core.services.onnx.sessions import OnnxRuntimeSession, OpenVinoSession
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_core.testing import dot_annotations

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ENGINES = ("onnxruntime", "openvino")
TASK = Task((12, 16, 1), Skeleton(("spot",)), use_graph=False)


@pytest.fixture(params=ENGINES)
def engine(request):
    pytest.importorskip(request.param)
    return request.param


def spots(n=7, channels=1):
    """Images with one bright pixel each, which lies at (i + 2, 11 - i)."""
    images = np.zeros((n, 12, 16, channels), np.uint8)
    for i in range(n):
        images[i, 11 - i, i + 2] = 50 + i
    return images


def change_metadata(path, **entries):
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**metadata, **entries})
    onnx.save(model, path)


def content_of(path):
    return json.loads(read_metadata(path)[KEY])


# -- what the file says about itself -------------------------------------------------------------


def test_a_description_comes_back_from_its_metadata(tmp_path):
    skeleton = dot_annotations(2).skeleton
    task = Task((48, 64, 3), skeleton, scale=0.5, downsample_factor=3, sigma=4.5)
    described = OnnxDescription(
        "FromAStranger",
        task,
        "int8",
        {"growth_rate": 8, "names": ["a"]},
        {"source": "labels.h5", "split": {"train": [0], "validation": [1]}},
        ("stranger 1.0", "keras 3.15"),
    )
    metadata = described.to_metadata()
    assert all(isinstance(text, str) for pair in metadata.items() for text in pair)
    assert OnnxDescription.from_metadata(metadata, tmp_path) == described


def test_other_programs_can_read_what_goes_in_and_comes_out():
    metadata = OnnxDescription("Net", Task((48, 64, 3), dot_annotations(2).skeleton, scale=0.5))
    metadata = metadata.to_metadata()
    assert metadata["keypoints"] == "body,left,right"
    assert "uint8" in metadata["input"]
    assert "height=48, width=64, channels=3" in metadata["input"]
    assert "scaled by 0.5" in metadata["input"]
    assert "(batch, 3, 3) of x, y" in metadata["output"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        "{}",
        json.dumps({"format": "one"}),
        json.dumps({"format": 1}),
        json.dumps({"format": 1, "model": "Net", "precision": "float32", "task": {}}),
        json.dumps({"format": 1, "model": "Net", "precision": "float32", "task": []}),
        "[" * 100_000,
    ],
    ids=lambda text: text[:40] or "empty",
)
def test_damaged_metadata_is_told_of(content, brightest_onnx, engine):
    path = brightest_onnx()
    change_metadata(path, **{KEY: content})
    with pytest.raises(ModelFileError, match=r"m\.onnx: the metadata 'dpk' is damaged"):
        load_model(path, engine)


@pytest.mark.parametrize(
    "change",
    [
        {"task": {**TASK.to_config(), "image_shape": [0, 0, 0]}},
        {"task": {**TASK.to_config(), "skeleton": [["a", "b", None]]}},
        {"task": {**TASK.to_config(), "surprise": 1}},
        {"record": ["a", "list"]},
        {"hyperparameters": 3},
        {"software": 3},
    ],
    ids=str,
)
def test_metadata_with_wrong_values_is_told_of(change, brightest_onnx):
    path = brightest_onnx()
    change_metadata(path, **{KEY: json.dumps({**content_of(path), **change})})
    with pytest.raises(ModelFileError, match="'dpk' is damaged"):
        load_model(path)


def test_a_file_of_a_newer_dpk(brightest_onnx, engine):
    path = brightest_onnx()
    change_metadata(path, **{KEY: json.dumps({"format": 99, "what": "ever"})})
    with pytest.raises(ModelFileError, match=r"newer dpk \(format 99.*pip install -U dpk-core"):
        load_model(path, engine)


def test_metadata_is_read_by_either_package(brightest_onnx, monkeypatch):
    path = brightest_onnx()
    by_onnx = read_metadata(path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert read_metadata(path) == by_onnx
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dpk-core\[onnx\]'"):
        read_metadata(path)


# -- what it finds -------------------------------------------------------------------------------


def test_it_predicts(brightest_onnx, engine):
    model = load_model(brightest_onnx(), engine)
    found = model.predict(spots(), batch_size=3)
    assert found.shape == (7, 1, 3)
    assert found.dtype == np.float32
    i = np.arange(7)
    assert np.allclose(found[:, 0], np.stack([i + 2, 11 - i, (50 + i) / 255], axis=1), atol=1e-5)
    assert np.array_equal(model.predict(spots(channels=3)), model.predict(spots()))
    assert model.predict(spots(0)).shape == (0, 1, 3)
    for batch_size in (1, 4, 5, 32):
        assert np.array_equal(model.predict(spots(), batch_size), found)


def test_it_says_what_it_is(brightest_onnx, engine):
    model = load_model(brightest_onnx(), engine)
    version = importlib.metadata.version(engine).split("-")[0]
    assert model.engine == f"{engine} {version}, CPU, float32"
    assert repr(model) == f"OnnxModel(Brightest, 12x16x1, 1 keypoint, {model.engine})"
    assert model.task == TASK
    assert model.skeleton.names == ("spot",)


def test_realtime(brightest_onnx, engine):
    realtime = load_model(brightest_onnx(), engine).realtime()
    realtime.warm_up()
    first = realtime(spots()[0])
    assert np.allclose(first, [[2, 11, 50 / 255]])
    realtime(spots()[1])
    assert np.allclose(first, [[2, 11, 50 / 255]])


def test_evaluate_needs_images(learned):
    model = load_model(learned.onnx)
    annotations = dot_annotations(6)
    found = model.evaluate(annotations)
    assert found["errors"].shape == (6, 3)
    assert np.nanmedian(found["errors"]) < 3
    with pytest.raises(ValidationError, match="expected a dataset"):
        model.evaluate()


def test_the_training_record_stays_with_it(learned):
    record = load_model(learned.onnx).record
    assert record.source == learned.model.record.source
    assert record.split == learned.model.record.to_config()["split"]


def test_it_cannot_be_trained_or_exported_again(brightest_onnx, tmp_path):
    model = load_model(brightest_onnx())
    with pytest.raises(DpkError, match=r"cannot be trained; train the \.keras file"):
        model.fit()
    with pytest.raises(DpkError, match="exported already"):
        model.export(tmp_path / "again.onnx")


def test_saving_copies_the_file(brightest_onnx, tmp_path):
    model = load_model(brightest_onnx())
    model.save(tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == model.path.read_bytes()
    model.save(model.path)  # onto itself
    assert np.array_equal(load_model(model.path).predict(spots()), model.predict(spots()))
    with pytest.raises(ModelFileError, match=r"ends in \.onnx, found 'copy\.keras'"):
        model.save(tmp_path / "copy.keras")


def test_precisions_that_an_engine_lacks(brightest_onnx):
    path = brightest_onnx()
    with pytest.raises(ValidationError, match="onnxruntime has float32, int8; found 'bfloat16'"):
        OnnxRuntimeSession(path, "bfloat16")
    pytest.importorskip("openvino")
    with pytest.raises(ValidationError, match="openvino has float32, bfloat16, int8"):
        OpenVinoSession(path, "float64")


def test_a_cpu_without_bfloat16_is_told_of(brightest_onnx, monkeypatch):
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(openvino.Core, "get_property", lambda *a: ["FP32", "INT8"])
    with pytest.raises(ValidationError, match="no bfloat16 instructions; choose float32 or int8"):
        load_model(brightest_onnx(), "openvino", "bfloat16")


# -- where it does not run ------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [10**11, 10**17, 10**19])
def test_batches_beyond_all_memory(brightest_onnx, engine, batch_size):
    with pytest.raises(DeviceMemoryError, match=rf"m\.onnx.*batch_size={batch_size // 2} "):
        load_model(brightest_onnx(), engine).predict(spots(), batch_size=batch_size)


@pytest.mark.parametrize(
    "cause",
    [
        RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 99"),
        RuntimeError("Exception from src/x.cpp:66:\nstd::bad_alloc"),
        MemoryError(),
    ],
    ids=str,
)
def test_too_little_memory_names_a_smaller_batch(brightest_onnx, engine, monkeypatch, cause):
    model = load_model(brightest_onnx(), engine)
    break_it(monkeypatch, model, cause)
    with pytest.raises(
        DeviceMemoryError, match=r"m\.onnx.*8 images.*batch_size=4 \(--batch-size 4"
    ):
        model.predict(spots(), batch_size=8)
    with pytest.raises(DeviceMemoryError, match="smaller network"):
        model.realtime()(spots()[0])


def break_it(monkeypatch, model, cause):
    """Put something that fails in the place of either program's object."""

    def fail(*arguments):
        raise cause

    name = "_session" if hasattr(model._run, "_session") else "_request"
    monkeypatch.setattr(model._run, name, SimpleNamespace(run=fail, infer=fail))


def test_another_failure_names_the_model_that_was_opened(brightest_onnx, engine, monkeypatch):
    model = load_model(brightest_onnx(), engine)
    model.name_in_errors(Path("mine.keras"))
    break_it(monkeypatch, model, RuntimeError("no such kernel"))
    with pytest.raises(ModelFileError, match=r"mine\.keras was opened, but.*no such kernel"):
        model.predict(spots())


def test_several_threads_share_a_model(brightest_onnx, engine):
    model = load_model(brightest_onnx(), engine)
    images = np.repeat(spots(), 40, axis=0)
    expected = model.predict(images, batch_size=280)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: model.predict(images, batch_size=280), range(40)))
    assert all(np.array_equal(one, expected) for one in found)


def test_with_the_mirror(learned):
    model = load_model(learned.onnx)
    plain, both = model.predict(learned.images), model.predict(learned.images, mirror=True)
    original = load_model(learned.keras, "keras").predict(learned.images, mirror=True)
    assert not np.array_equal(plain, both)
    assert np.abs(both - original)[..., :2].max() < 0.1


# -- files that are none -------------------------------------------------------------------------


def test_a_strangers_file(brightest_onnx, engine):
    path = brightest_onnx(metadata={"author": "a stranger"})
    with pytest.raises(ModelFileError, match=r"not one of dpk's.*expected one written by"):
        load_model(path, engine)


def test_a_file_that_is_not_there(tmp_path, engine):
    with pytest.raises(FileMissingError, match=r"no model at .*absent\.onnx"):
        load_model(tmp_path / "absent.onnx", engine)


def test_a_file_cut_short(brightest_onnx, engine, tmp_path):
    """At whatever length: refused with its name, or it is still whole as far as that matters."""
    whole = brightest_onnx().read_bytes()
    path = tmp_path / "cut.onnx"
    works = 0
    for length in [*range(0, len(whole) - 1, 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        found, refusal = attempt(path, engine)
        if found is None:
            assert "cut.onnx" in refusal
        else:
            works += 1
            assert np.allclose(found[0], [[2, 11, 50 / 255]], atol=1e-5)
    assert works <= 3


def attempt(path, engine):
    """What it finds in the images of its size, or else why it was refused."""
    try:
        model = load_model(path, engine)
        images = spots() if model.task == TASK else np.zeros((1, *model.task.image_shape), np.uint8)
        return model.predict(images), ""
    except ModelFileError as error:
        return None, str(error)


def test_random_bytes(tmp_path, engine):
    path = tmp_path / "noise.onnx"
    for n in (1, 10, 1000, 100_000):
        path.write_bytes(random.Random(n).randbytes(n))
        with pytest.raises(ModelFileError, match=r"noise\.onnx"):
            load_model(path, engine)


def test_flipped_bytes_end_in_words_and_not_in_a_crash(brightest_onnx, engine, tmp_path):
    whole = brightest_onnx().read_bytes()
    path = tmp_path / "flipped.onnx"
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        found, refusal = attempt(path, engine)
        refused += found is None
        assert found is not None or "flipped.onnx" in refusal
    assert refused > 75


def test_a_custom_operator(brightest_onnx, engine):
    path = brightest_onnx(operation=("Fancy", "com.stranger"))
    with pytest.raises(ModelFileError, match=r"m\.onnx.*Fancy|m\.onnx.*com\.stranger"):
        load_model(path, engine)


def test_weights_in_another_file_that_is_not_there(brightest_onnx, engine, tmp_path):
    path = brightest_onnx()
    model = onnx.load(path)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    onnx.external_data_helper.set_external_data(weights, "weights.bin")
    onnx.save(model, path)
    assert (tmp_path / "weights.bin").exists()
    assert np.allclose(load_model(path, engine).predict(spots())[0], [[2, 11, 50 / 255]], atol=1e-5)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelFileError, match=r"m\.onnx"):
        load_model(path, engine)
