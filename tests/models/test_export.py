"""Exported models: whole, agreeing with the original, usable without us, or refused in words."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from dpk_core import Skeleton, Task
from dpk_core.errors import (
    DpkError,
    MissingDependencyError,
    ModelFileError,
    OutputError,
    OutputExistsError,
    ValidationError,
)
from dpk_core.services.engines import load_model
from dpk_core.services.plugins import PluginInfo, registry
from dpk_core.specs import ModelSpec
from dpk_core.testing import dot_annotations
from dpk_core.workflow.export import export_model as export_file
from dpk_models import PoseModel, StackedDenseNet, pose_model
from dpk_models import export as module
from dpk_models.export import ExportError
from dpk_models.maps import MAP_SCALE

onnx = pytest.importorskip("onnx")
pytest.importorskip("tf2onnx")

TASK = Task((24, 32, 1), Skeleton(("spot", "other")), use_graph=False)


@keras.saving.register_keras_serializable("test_export")
class Fancy(keras.layers.Layer):
    """Sorts the values of each pixel's row by an operation that ONNX has not."""

    def call(self, x):
        import tensorflow as tf

        return x + 0 * tf.cast(tf.math.bessel_i0e(x), x.dtype)


@pose_model
class FancyNet(PoseModel):
    """A third party's network with a layer that cannot be exported."""

    def build(self, task: Task) -> keras.Model:
        images = keras.Input(task.image_shape, dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(images)
        x = keras.layers.Conv2D(task.n_output_channels, 3, 4, padding="same")(x)
        return keras.Model(images, Fancy()(x))


@pose_model
class Brightness(PoseModel):
    """A third party's network that can be."""

    def build(self, task: Task) -> keras.Model:
        images = keras.Input(task.image_shape, dtype="uint8")
        x = keras.layers.Rescaling(MAP_SCALE / 255)(images)
        x = keras.layers.AveragePooling2D(task.output_stride, padding="same")(x)
        weights = keras.initializers.Ones()
        return keras.Model(
            images, keras.layers.Conv2D(task.n_output_channels, 1, kernel_initializer=weights)(x)
        )


@pytest.fixture
def announced(monkeypatch):
    """Both networks, as if a plugin brought them."""
    specs = [
        ("models", ModelSpec(cls.__name__, "a stranger's", f"{__name__}:{cls.__name__}"))
        for cls in (FancyNet, Brightness)
    ]
    stranger = PluginInfo("stranger", "strangers-models", "1.0", __name__, tuple(specs))
    monkeypatch.setattr(registry(), "plugins", [*registry().plugins, stranger])


def backend_is_tensorflow():
    return keras.backend.backend() == "tensorflow"


# -- what is in the file -------------------------------------------------------------------------


def test_plain_onnxruntime_gives_coordinates(learned):
    """As a program would that knows nothing of dpk."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(learned.onnx), providers=["CPUExecutionProvider"])
    (images,), (keypoints,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == (
        "images",
        "tensor(uint8)",
        ["batch", 48, 64, 1],
    )
    assert (keypoints.name, keypoints.type) == ("keypoints", "tensor(float)")
    assert keypoints.shape == ["batch", 3, 3]
    for n in (1, 5):
        (found,) = session.run(None, {"images": learned.images[:n]})
        expected = learned.model.predict(learned.images[:n], batch_size=n)
        assert found.shape == (n, 3, 3)
        clear = expected[..., 2] > 0.3
        assert np.abs(found - expected)[clear].max() < 0.05


def test_onnx_alone_reads_what_is_in_it(learned):
    model = onnx.load(learned.onnx)
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["keypoints"] == "body,left,right"
    assert "height=48, width=64, channels=1" in metadata["input"]
    assert "(batch, 3, 3)" in metadata["output"]
    assert model.producer_name == "dpk-models"
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx", "ai.onnx.ml"}


def test_all_that_the_model_knew_is_in_the_file(learned):
    found = load_model(learned.onnx)
    assert found.task == learned.model.task
    assert found.description.model == "StackedDenseNet"
    assert found.description.hyperparameters == learned.model.hyperparameters
    assert dict(found.description.record) == learned.model.record.to_config()
    assert found.description.software[0].startswith("dpk-models ")


@pytest.mark.parametrize("suffix", [".xml", ".tflite"])
def test_other_programs_formats(learned, tmp_path, suffix):
    if not backend_is_tensorflow():
        pytest.skip("one backend is enough: all export through TensorFlow")
    run = {".xml": openvino_runner, ".tflite": litert_runner}[suffix]()
    path = tmp_path / f"model{suffix}"
    learned.model.export(path)
    expected = learned.model.predict(learned.images[:4], batch_size=4)
    found = run(path, learned.images[:4])
    clear = expected[..., 2] > 0.3
    assert np.abs(found - expected)[clear].max() < 0.05
    pieces = {p.name for p in tmp_path.iterdir()}
    assert pieces == ({"model.xml", "model.bin"} if suffix == ".xml" else {"model.tflite"})


@pytest.mark.parametrize("detector", ["maxima", "subpixel_maxima", "dark"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_many_keypoints(engine, detector, announced, tmp_path):
    """OpenVINO has other programs for 16 and more maps, which take fewer shapes."""
    pytest.importorskip(engine)
    names = tuple(f"k{i}" for i in range(16))
    task = Task((96, 96, 1), Skeleton(names), use_graph=False)
    model = Brightness(task, peak_detector=detector)
    model.export(tmp_path / "m.onnx")
    y, x = np.mgrid[:96, :96]
    near = np.exp(-((x - 30.3) ** 2 + (y - 41.8) ** 2) / 200)
    image = (250 * near).astype(np.uint8)[None, :, :, None]
    found = load_model(tmp_path / "m.onnx", engine).predict(image)
    assert np.allclose(found, model.predict(image), atol=0.05)
    assert np.ptp(found[..., :2], axis=1).max() < 0.05


def openvino_runner():
    openvino = pytest.importorskip("openvino")

    def run(path, images):
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        model = openvino.Core().compile_model(str(path), "CPU", exact)
        return np.array(next(iter(model(images).values())))

    return run


def litert_runner():
    litert = pytest.importorskip("ai_edge_litert.interpreter")

    def run(path, images):
        interpreter = litert.Interpreter(str(path))
        (images_in,), (keypoints,) = (
            interpreter.get_input_details(),
            interpreter.get_output_details(),
        )
        interpreter.resize_tensor_input(images_in["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(images_in["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(keypoints["index"])

    return run


# -- refused -------------------------------------------------------------------------------------


def only(folder, *names):
    return sorted(p.name for p in folder.iterdir()) == sorted(names)


def test_an_unknown_suffix(tmp_path):
    model = StackedDenseNet(TASK, growth_rate=4)
    with pytest.raises(ModelFileError, match=r"ends in \.onnx, \.xml, \.tflite, found 'm\.pt'"):
        model.export(tmp_path / "m.pt")
    with pytest.raises(ModelFileError, match=r"\.onnx"):
        model.export(tmp_path / "m")
    assert only(tmp_path)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".tflite"])
def test_a_file_that_is_there(learned, tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"my own")
    with pytest.raises(OutputExistsError, match="exists already"):
        learned.model.export(path, overwrite=False)
    assert path.read_bytes() == b"my own"


def test_weights_that_are_there_beside_an_xml_file(learned, tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "m.bin").write_bytes(b"my own")
    with pytest.raises(OutputExistsError, match=r"m\.bin exists already"):
        learned.model.export(tmp_path / "m.xml", overwrite=False)
    assert (tmp_path / "m.bin").read_bytes() == b"my own"
    assert only(tmp_path, "m.bin")


def test_a_folder_that_is_not_there(learned, tmp_path):
    for suffix in (".onnx", ".xml"):
        with pytest.raises(OutputError, match="is not there"):
            learned.model.export(tmp_path / "no" / f"m{suffix}")


@pytest.mark.skipif(not backend_is_tensorflow(), reason="its layer calls TensorFlow")
def test_a_layer_that_onnx_lacks(announced, tmp_path):
    model = FancyNet(TASK)
    (tmp_path / "m.onnx").write_bytes(b"my own")
    with pytest.raises(ExportError) as error:
        model.export(tmp_path / "m.onnx")
    message = str(error.value)
    assert "FancyNet could not be exported" in message
    assert "BesselI0e" in message
    assert "engine keras" in message
    assert (tmp_path / "m.onnx").read_bytes() == b"my own"
    assert only(tmp_path, "m.onnx")


def test_a_result_that_differs_is_not_kept(learned, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    from dpk_core.services.onnx.sessions import OnnxRuntimeSession

    right = OnnxRuntimeSession.__call__
    for wrong, message in (
        (lambda self, images: right(self, images) + np.float32(0.05), "predicts otherwise"),
        (lambda self, images: right(self, images) * np.nan, "predicts otherwise"),
        (lambda self, images: 1 / 0, "division by zero"),
    ):
        monkeypatch.setattr(OnnxRuntimeSession, "__call__", wrong)
        with pytest.raises(ExportError, match=message):
            module._check_agreement(learned.model, learned.onnx)
    with pytest.raises(ExportError, match="division by zero"):
        learned.model.export(tmp_path / "m.onnx")
    assert only(tmp_path)


def test_what_to_install(tmp_path, monkeypatch):
    if not backend_is_tensorflow():
        pytest.skip("a process of its own exports")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(MissingDependencyError, match=r"tf2onnx.*pip install 'dpk-models\[onnx\]'"):
        StackedDenseNet(TASK, growth_rate=4).export(tmp_path / "m.onnx")
    assert only(tmp_path)


def test_a_strangers_network_is_exported_like_ours(announced, tmp_path):
    pytest.importorskip("onnxruntime")
    model = Brightness(TASK)
    model.export(tmp_path / "m.onnx")
    images = np.asarray(dot_annotations(4, size=(24, 32)).images)
    found = load_model(tmp_path / "m.onnx")
    assert found.description.model == "Brightness"
    assert np.allclose(found.predict(images), model.predict(images), atol=0.05)


def test_standard_error_is_given_back(capfd):
    with module._quiet():
        os.write(2, b"noise of a converter\n")
    os.write(2, b"a message of ours\n")
    told = capfd.readouterr().err
    assert "a message of ours" in told
    assert "converter" not in told


# -- the workflow's export -----------------------------------------------------------------------


def test_exporting_a_file(learned, tmp_path):
    told = export_file(learned.keras, tmp_path / "m.onnx")
    assert "float32" in told
    # Bit for bit what another export gives: a conversion that was deleted may be made again.
    images = learned.images[:8]
    expected = load_model(learned.onnx).predict(images)
    assert np.array_equal(load_model(tmp_path / "m.onnx").predict(images), expected)
    with pytest.raises(OutputExistsError):
        export_file(learned.keras, tmp_path / "m.onnx")


def test_exporting_in_int8(learned, tmp_path):
    told = export_file(
        learned.onnx, tmp_path / "m.onnx", precision="int8", calibrate=learned.labels
    )
    assert told.startswith("int8, calibrated on 32 images of")
    assert load_model(tmp_path / "m.onnx").description.precision == "int8"
    assert only(tmp_path, "m.onnx")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"precision": "int8"}, ValidationError, "expected images to calibrate with"),
        ({"precision": "int8", "output": "m.tflite"}, ValidationError, r"ends in \.onnx"),
        ({"precision": "bfloat16"}, ValidationError, "a file holds float32 or int8"),
        ({"precision": "int8", "calibrate": "absent.mp4"}, DpkError, r"absent\.mp4"),
        ({"source": "onnx"}, ModelFileError, "is exported already.*--precision int8"),
        ({"source": "onnx", "output": "m.tflite"}, ModelFileError, "is exported already"),
    ],
    ids=str,
)
def test_exports_that_cannot_be(learned, tmp_path, arguments, error, message):
    source = learned.onnx if arguments.get("source") else learned.keras
    output = tmp_path / arguments.get("output", "m.onnx")
    options = {k: v for k, v in arguments.items() if k in ("precision", "calibrate")}
    with pytest.raises(error, match=message):
        export_file(source, output, **options)
    assert only(tmp_path)


# -- other backends ------------------------------------------------------------------------------

ON_JAX = """
import sys
import keras, numpy as np
assert keras.backend.backend() == "jax"
from dpk_models import load_model
from dpk_models.export import ExportError
from dpk_core.errors import OutputExistsError
model = load_model(sys.argv[1])
model.export(sys.argv[2])
try:
    model.export(sys.argv[2], overwrite=False)
except OutputExistsError:
    print("refused")
"""


@pytest.mark.slow
def test_a_model_on_another_backend_is_exported_too(learned, tmp_path):
    pytest.importorskip("jax")
    path = tmp_path / "m.onnx"
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, learned.keras, path],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"]
    assert np.allclose(
        load_model(path).predict(learned.images), load_model(learned.onnx).predict(learned.images)
    )


@pytest.mark.parametrize(("code", "passing"), [(3, False), (1, True), (-9, True)])
def test_a_process_that_was_killed_says_nothing_of_the_network(
    tmp_path, monkeypatch, code, passing
):
    from dpk_core.services.conversion import may_pass
    from dpk_models import export

    ended = subprocess.CompletedProcess([], code, "", "the last words")
    monkeypatch.setattr(export.subprocess, "run", lambda *args, **options: ended)
    model = SimpleNamespace(save=lambda path: None)
    with pytest.raises(export.ExportError, match="the last words") as error:
        export._export_in_tensorflow(model, tmp_path / "m.onnx", True, True)
    assert may_pass(error.value) == passing
