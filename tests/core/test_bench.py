"""Measuring engines: every number is there, in a process of its own, and adds up."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core.cli.app import app
from dpk_core.cli.options import image_shape
from dpk_core.errors import DpkError, ValidationError
from dpk_core.services.onnx.operations import count_operations
from dpk_core.workflow.bench import Benchmark, EngineSpeed, benchmark

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("tf2onnx")
    from dpk_core import Task
    from dpk_core.testing import dot_annotations
    from dpk_models import StackedDenseNet

    task = Task((32, 32, 1), dot_annotations().skeleton, scale=0.5)
    path = tmp_path_factory.mktemp("bench") / "model.onnx"
    StackedDenseNet(task, growth_rate=4).export(path)
    return path


def test_an_exported_model_is_measured(exported):
    seen = []
    result = benchmark(
        exported, engines=["onnxruntime"], precisions=["float32", "int8"], batch_sizes=[1, 3],
        seconds=0.05, progress=lambda done, total, message: seen.append((done, total)),
    )  # fmt: skip
    assert [(s.engine, s.precision, s.error) for s in result.speeds] == [
        ("onnxruntime", "float32", ""),
        ("onnxruntime", "int8", ""),
    ]
    for speed in result.speeds:
        assert set(speed.frames_per_second) == {1, 3}
        assert all(rate > 0 for rate in speed.frames_per_second.values())
        assert 0 < speed.latency_ms <= speed.latency_p99_ms
        assert speed.peak_memory_mb is None or 20 < speed.peak_memory_mb < 5000
        assert "onnxruntime" in speed.description
    assert result.operations > 100_000
    assert result.bound == pytest.approx(result.matmul_per_second / result.operations)
    assert seen[-1] == (2, 2)


def test_what_fails_is_told_and_does_not_stop_the_rest():
    speed = EngineSpeed("x", "float32", error="too little memory")
    result = Benchmark("model", "machine", (speed,), None, 1e9)
    assert math.isnan(speed.latency_ms)
    assert result.bound is None


def test_a_conversion_that_fails_does_not_stop_the_rest(exported, monkeypatch):
    from dpk_core.workflow import bench

    pytest.importorskip("openvino")

    def open_model(plan, *arguments):
        if plan.engine.name == "openvino":
            raise DpkError("no such\noperation")

    monkeypatch.setattr(bench, "open_model", open_model)
    result = benchmark(
        exported, engines=["openvino", "onnxruntime"], precisions=["float32"], batch_sizes=[1],
        seconds=0.01,
    )  # fmt: skip
    assert [(s.engine, s.error) for s in result.speeds] == [
        ("openvino", "no such operation"),
        ("onnxruntime", ""),
    ]


def test_without_a_model_the_users_cache_stays_as_it_is(tmp_path, monkeypatch):
    from dpk_core.services.conversion import cache_folder
    from dpk_core.workflow import bench

    seen = []

    def stop(*arguments):
        seen.append(cache_folder())
        raise DpkError("far enough")

    monkeypatch.setattr(bench, "_untrained", stop)
    monkeypatch.setenv("DPK_CACHE", str(tmp_path))
    for expected in (tmp_path, None):
        with pytest.raises(DpkError, match="far enough"):
            benchmark()
        assert os.environ.get("DPK_CACHE") == (str(expected) if expected else None)
        monkeypatch.delenv("DPK_CACHE", raising=False)
    assert tmp_path not in seen
    assert not any(folder.parts[-2:] == ("dpk", "models") for folder in seen)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count otherwise")
def test_the_memory_is_not_that_of_who_started_it():
    ballast = np.ones(60_000_000)  # 480 MB
    code = "from dpk_core.workflow.bench_worker import _peak_memory; print(_peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 10 < float(done.stdout) < ballast.nbytes / 2**20


def test_wrong_options(exported, tmp_path):
    with pytest.raises(ValidationError, match="batch_sizes"):
        benchmark(exported, batch_sizes=[0])
    with pytest.raises(ValidationError, match="expected float32, bfloat16, int8; found 'foo'"):
        benchmark(exported, precisions=["foo"])
    with pytest.raises(DpkError, match="keras"):
        benchmark(exported, engines=["keras"])
    with pytest.raises(DpkError, match="no model at"):
        benchmark(tmp_path / "absent.onnx")


def test_the_command_prints_a_table_and_json(exported):
    arguments = ["bench", str(exported), "--engine", "onnxruntime", "--precision", "float32"]
    arguments += ["--batch-size", "2", "--seconds", "0.05"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "frames/s at 2" in result.output
    assert "At best in float32" in result.output
    result = CliRunner().invoke(app, [*arguments, "--json"])
    found = json.loads(result.stdout)
    assert found["speeds"][0]["frames_per_second"]["2"] > 0
    assert found["bound"] > 0


@pytest.mark.parametrize("text", ["", "192", "192x", "axb", "1x2x3x4", "-1x2"])
def test_sizes_that_are_none(text):
    import typer

    with pytest.raises(typer.BadParameter, match="192x192x1"):
        image_shape(text)


def test_operations_are_counted_as_on_paper(tmp_path):
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "g"], ["d"], kernel_shape=[1, 1], group=4),
        helper.make_node("ConvTranspose", ["d", "t"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MatMul", ["e", "m"], ["y"]),
    ]
    shapes = {"w": [8, 3, 3, 3], "g": [4, 2, 1, 1], "t": [4, 5, 2, 2], "m": [20, 7]}
    weights = [
        helper.make_tensor(n, TensorProto.FLOAT, s, [0.0] * math.prod(s)) for n, s in shapes.items()
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 10, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5, 20, 7])],
        weights,
    )
    onnx.save(helper.make_model(graph), tmp_path / "graph.onnx")
    expected = (
        2 * (10 * 10 * 8) * (3 * 3 * 3)
        + 2 * (10 * 10 * 4) * 2
        + 2 * (10 * 10 * 4) * (5 * 2 * 2)
        + 2 * (5 * 20 * 7) * 20
    )
    assert count_operations(tmp_path / "graph.onnx") == expected
