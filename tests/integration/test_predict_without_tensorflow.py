"""An exported model predicts where nothing of the framework that trained it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from dpk_core.services.engines import load_model
from dpk_core.services.storage import read_poses
from dpk_core.services.video import VideoReader, VideoWriter

pytest.importorskip("onnxruntime")

# As on a machine without them: the import system does not find them, nor does whoever asks it.
WITHOUT = """
    import sys

    ABSENT = {absent!r}


    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ABSENT:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
            return None


    sys.meta_path.insert(0, Refuse())
    from dpk_core.cli import main

    try:
        main()
    finally:
        heavy = {{"tensorflow", "keras", "dpk_models", "tf2onnx", "jax", "torch"}}
        print("IMPORTED", *sorted(heavy & set(sys.modules)))
"""
FRAMEWORKS = ("tensorflow", "keras", "dpk_models", "tf2onnx")


@pytest.fixture(scope="module")
def video(learned, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "dots.mp4"
    with VideoWriter(path, fps=20) as writer:
        for image in learned.images[:20]:
            writer.write(image)
    return path


def dpk(*arguments, absent=(), cache=None):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if cache is not None:
        environment["DPK_CACHE"] = str(cache)
    code = textwrap.dedent(WITHOUT).format(absent=tuple(absent))
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def imported(done):
    return done.stdout.splitlines()[-1].split()[1:]


def test_an_exported_model_predicts_a_video(learned, video, tmp_path):
    output = tmp_path / "poses.h5"
    done = dpk("predict", learned.onnx, video, "-o", output, absent=FRAMEWORKS)
    assert done.returncode == 0, done.stderr
    assert "20 frames" in done.stdout
    assert re.search("by (openvino|onnxruntime)", " ".join(done.stdout.split()))
    assert imported(done) == []
    with VideoReader(video) as reader:
        expected = load_model(learned.keras, "keras").predict(reader)
    found = read_poses(output).to_predictions()
    clear = expected[..., 2] > 0.3
    assert clear.mean() > 0.8
    assert np.abs(found - expected)[clear].max() < 0.05


def test_so_it_does_in_int8_and_is_evaluated_and_described(learned, video, tmp_path):
    output = tmp_path / "poses.h5"
    done = dpk(
        "predict", learned.onnx, video, "-o", output, "--precision", "int8",
        absent=FRAMEWORKS, cache=tmp_path / "cache",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "int8" in done.stdout
    assert imported(done) == []
    done = dpk("evaluate", learned.onnx, learned.labels, absent=FRAMEWORKS)
    assert done.returncode == 0, done.stderr
    assert "validation images that the training held out" in " ".join(done.stderr.split())
    assert imported(done) == []
    done = dpk("info", learned.onnx, absent=(*FRAMEWORKS, "onnxruntime"))
    assert "StackedDenseNet" in done.stdout
    assert imported(done) == []


def test_a_keras_model_that_was_converted_before_loads_no_framework(learned, video, tmp_path):
    cache = tmp_path / "cache"
    first = dpk("predict", learned.keras, video, "-o", tmp_path / "a.h5", cache=cache)
    assert first.returncode == 0, first.stderr
    assert "tensorflow" in imported(first)
    second = dpk("predict", learned.keras, video, "-o", tmp_path / "b.h5", cache=cache)
    assert second.returncode == 0, second.stderr
    assert set(imported(second)) <= {"dpk_models"}  # of that, what announces its plugins
    a, b = (read_poses(tmp_path / name).to_predictions() for name in ("a.h5", "b.h5"))
    assert np.array_equal(a, b)


def test_what_is_missing_is_said(learned, video, tmp_path):
    output = tmp_path / "poses.h5"
    done = dpk("predict", learned.keras, video, "-o", output, absent=FRAMEWORKS)
    message = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "no installed plugin opens model.keras" in message
    assert "python -m pip install dpk-models" in message
    done = dpk(
        "predict", learned.onnx, video, "-o", output,
        absent=(*FRAMEWORKS, "onnxruntime", "openvino"),
    )  # fmt: skip
    message = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "install it with: python -m pip install 'dpk-core[onnx]'" in message
    assert "Traceback" not in message
    done = dpk("info", learned.onnx, absent=(*FRAMEWORKS, "onnx", "onnxruntime"))
    assert "pip install 'dpk-core[onnx]'" in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []
