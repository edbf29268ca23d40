"""Choosing an engine, converting for it, and getting the same coordinates from all of them."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
import sys
import textwrap
import zipfile

import attrs
import numpy as np
import pytest

from dpk_core import AnnotationSet, Skeleton, Task, TrainingGenerator
from dpk_core.errors import (
    DpkError,
    DpkWarning,
    FileMissingError,
    MissingDependencyError,
    ModelFileError,
    OutputError,
    OutputExistsError,
    PluginError,
    ValidationError,
)
from dpk_core.services import engines as module
from dpk_core.services.engines import (
    exported_file,
    load_model,
    open_model,
    other_plans,
    plan_engine,
)
from dpk_core.services.plugins import registry
from dpk_core.services.storage import read_poses
from dpk_core.testing import dot_annotations
from dpk_core.workflow.predict import predict_video

AGREE_PX = 0.05
"""Pixels of the images that the network sees."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# -- a stranger's engines: one that opens and exports .slow files, one that runs the result -------

ENGINES = """
    import json, os
    from pathlib import Path
    from dpk_core import hookimpl
    from dpk_core.errors import DpkError, ModelFileError
    from dpk_core.specs import EngineSpec
    from fake_engine import FakeNet, load as load_fake


    class SlowNet(FakeNet):
        engine = "slow, here"

        def export(self, path, **options):
            with open(os.environ["EXPORTS"], "a") as log:
                log.write("exported\\n")
            if os.environ.get("EXPORT_FAILS"):
                cause = eval(os.environ["EXPORT_FAILS"])
                cause = cause if isinstance(cause, Exception) else None
                raise DpkError("the layer Fancy cannot be exported") from cause
            stored = {"task": self.task.to_config(), "offset": self.offset}
            Path(path).write_text(json.dumps(stored))


    class SwiftNet(FakeNet):
        engine = "swift, here"


    def _load(path, cls):
        model = load_fake(path)
        return cls(model.task, offset=model.offset)


    def open_slow(path):
        return _load(path, SlowNet)


    def open_swift(path, precision="float32"):
        if os.environ.get("SWIFT_FAILS"):
            raise ModelFileError("swift does not know this operation")
        model = _load(path, SwiftNet)
        model.engine = f"swift, here, {precision}"
        return model


    def swift_priority():
        return 50


    def slow_priority():
        return int(os.environ.get("SLOW_PRIORITY", 10))


    @hookimpl
    def dpk_engines():
        return [
            EngineSpec(
                "slow", "opens and exports", "two_engines:open_slow", (".slow",),
                exports=(".swift",), priority="two_engines:slow_priority",
                export_requires=tuple(os.environ.get("EXPORT_REQUIRES", "").split()),
                install="python -m pip install slow[all]",
            ),
            EngineSpec(
                "swift", "runs what slow exports", "two_engines:open_swift", (".quick", ".swift"),
                precisions=("float32", "int8"), priority="two_engines:swift_priority",
            ),
            EngineSpec(
                "absent", "would be the best", "two_engines:open_swift", (".slow", ".swift"),
                requires=("no_such_module", "no.such.package"), priority="no_such_module:rank",
                precisions=("float32", "bfloat16"),
                install="python -m pip install absent",
            ),
        ]
"""


@pytest.fixture
def two_engines(tmp_path, monkeypatch, fake_engine):
    """Those engines, installed for one test; gives a function that counts exports."""
    folder = tmp_path / "site"
    info = folder / "two_engines-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: two-engines\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[dpk]\ntwo = two_engines\n")
    (folder / "two_engines.py").write_text(textwrap.dedent(ENGINES))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("EXPORTS", str(tmp_path / "exports.txt"))
    sys.modules.pop("two_engines", None)
    registry.cache_clear()
    log = tmp_path / "exports.txt"
    yield lambda: len(log.read_text().splitlines()) if log.exists() else 0
    sys.modules.pop("two_engines", None)
    registry.cache_clear()


@pytest.fixture
def slow_model(tmp_path, two_engines):
    task = Task((48, 64, 3), Skeleton(("head", "left", "right")), use_graph=False)
    path = tmp_path / "model.slow"
    path.write_text(json.dumps({"task": task.to_config(), "offset": 1.0}))
    return path


def images(n=4):
    found = np.zeros((n, 48, 64, 3), np.uint8)
    found[np.arange(n), np.arange(n) + 5, 20] = 200
    return found


def reload_plugins():
    sys.modules.pop("two_engines", None)
    registry.cache_clear()


# -- choosing ------------------------------------------------------------------------------------


def test_auto_takes_the_fastest_that_can(slow_model, two_engines):
    plan = plan_engine(slow_model)
    assert (plan.engine.name, plan.is_choice, plan.is_direct) == ("swift", True, False)
    model, came_true = open_model(plan)
    assert came_true == plan
    assert model.engine == "swift, here, float32"
    assert two_engines() == 1
    expected = load_model(slow_model, "slow").predict(images())
    assert np.array_equal(model.predict(images()), expected)


def test_auto_opens_the_file_itself_where_that_is_fastest(slow_model, two_engines, monkeypatch):
    monkeypatch.setenv("SLOW_PRIORITY", "60")
    plan = plan_engine(slow_model)
    assert (plan.engine.name, plan.is_direct) == ("slow", True)
    assert open_model(plan)[0].engine == "slow, here"
    assert two_engines() == 0


def test_an_engine_by_name(slow_model, two_engines):
    plan = plan_engine(slow_model, "SLOW")
    assert (plan.engine.name, plan.is_choice) == ("slow", False)
    assert load_model(slow_model, "slow").engine == "slow, here"
    assert two_engines() == 0
    assert load_model(slow_model, "swift").engine == "swift, here, float32"


def test_planning_opens_and_converts_nothing(slow_model, two_engines, cache):
    slow_model.write_text("not a model at all")
    plan_engine(slow_model)
    plan_engine(slow_model, "swift")
    assert two_engines() == 0
    assert not cache.exists()


def test_other_plans_are_what_else_could_run_it(slow_model):
    plan = plan_engine(slow_model)
    others = other_plans(plan)
    assert [(p.engine.name, p.is_choice, p.precision) for p in others] == [
        ("slow", False, "float32")
    ]
    assert other_plans(plan_engine(slow_model, "auto", "int8")) == []


def test_an_unknown_engine_is_answered_with_the_nearest(slow_model):
    with pytest.raises(PluginError, match=r"no engines plugin named 'swfit'.*did you mean 'swift'"):
        plan_engine(slow_model, "swfit")


def test_an_engine_that_is_not_installed_says_what_to_install(slow_model):
    with pytest.raises(MissingDependencyError) as error:
        load_model(slow_model, "absent")
    assert "the engine absent is not installed" in str(error.value)
    assert "install it with: python -m pip install absent" in str(error.value)


def test_what_converts_is_not_installed(slow_model, monkeypatch):
    monkeypatch.setenv("EXPORT_REQUIRES", "json no_such_module.at_all")
    reload_plugins()
    with pytest.raises(MissingDependencyError, match=r"has to be converted.*slow\[all\]"):
        load_model(slow_model, "swift")
    assert plan_engine(slow_model).engine.name == "slow"


def test_an_engine_for_other_files(slow_model, brightest_onnx):
    with pytest.raises(ModelFileError, match=r"fake opens \.fake files.*cannot be converted"):
        plan_engine(slow_model, "fake")
    path = brightest_onnx()
    with pytest.raises(ModelFileError, match=r"swift opens \.quick, \.swift files, and m\.onnx"):
        plan_engine(path, "swift")


def test_unknown_precisions_and_those_an_engine_lacks(slow_model):
    with pytest.raises(ValidationError, match="expected float32, bfloat16, int8; found 'int4'"):
        plan_engine(slow_model, precision="int4")
    with pytest.raises(ValidationError, match="the engine slow has float32; found 'int8'"):
        plan_engine(slow_model, "slow", "int8")
    assert plan_engine(slow_model, "auto", "int8").engine.name == "swift"
    with pytest.raises(MissingDependencyError) as error:
        plan_engine(slow_model, "auto", "bfloat16")
    assert "no installed engine opens model.slow in bfloat16" in str(error.value)
    assert "absent: the engine absent is not installed" in str(error.value)
    assert "swift: precision: the engine swift has float32, int8" in str(error.value)


def test_int8_of_a_strangers_engine_is_its_own_affair(slow_model):
    """What is made int8 here is ONNX; an engine for other files gets the precision."""
    assert load_model(slow_model, "swift", "int8").engine == "swift, here, int8"


def test_files_that_nothing_opens(tmp_path, two_engines):
    with pytest.raises(FileMissingError, match=r"absent\.slow"):
        plan_engine(tmp_path / "absent.slow")
    with pytest.raises(FileMissingError, match="no model at"):
        plan_engine(tmp_path)
    stranger = tmp_path / "model.pt"
    stranger.write_bytes(b"weights")
    with pytest.raises(ModelFileError, match=r"opens model\.pt.*ends in .*\.slow"):
        plan_engine(stranger)


def test_upper_case_suffixes(slow_model, tmp_path):
    path = slow_model.rename(tmp_path / "MODEL.SLOW")
    assert load_model(path).engine == "swift, here, float32"


# -- converting ----------------------------------------------------------------------------------


def test_a_model_is_converted_once(slow_model, two_engines, cache, tmp_path):
    for _ in range(3):
        assert load_model(slow_model).engine.startswith("swift")
    copy = tmp_path / "elsewhere.slow"
    copy.write_bytes(slow_model.read_bytes())
    load_model(copy, "swift")
    assert two_engines() == 1
    assert len(list(cache.glob("*.swift"))) == 1
    slow_model.write_text(slow_model.read_text().replace("1.0", "2.0"))
    assert load_model(slow_model).offset == 2.0
    assert two_engines() == 2


def test_a_newer_exporter_converts_anew(slow_model, two_engines, tmp_path):
    load_model(slow_model)
    (tmp_path / "site" / "two_engines-1.5.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: two-engines\nVersion: 1.6\n"
    )
    reload_plugins()
    load_model(slow_model)
    assert two_engines() == 2


@pytest.mark.parametrize("hook", ["peak_detectors", "models"])
def test_a_newer_release_of_what_the_network_is_made_of_converts_anew(
    slow_model, two_engines, tmp_path, monkeypatch, hook
):
    """What an exported model finds depends on a stranger's layers and peaks, too."""
    info = tmp_path / "site" / "parts-0.1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[dpk]\nparts = parts_of_nets\n")
    spec = {"peak_detectors": "PeakDetectorSpec", "models": "ModelSpec"}[hook]
    (tmp_path / "site" / "parts_of_nets.py").write_text(
        f"from dpk_core import hookimpl\nfrom dpk_core.specs import {spec}\n@hookimpl\n"
        f"def dpk_{hook}():\n    return [{spec}('Mine', 'x', 'parts_of_nets:Mine')]\n"
    )
    for version, exports in (("0.1", 1), ("0.2", 2), ("0.2", 2)):
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: parts\nVersion: {version}\n")
        reload_plugins()
        load_model(slow_model)
        assert two_engines() == exports


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_of_two_processes_at_once_one_converts(slow_model, two_engines):
    def load():
        os._exit(0 if load_model(slow_model).engine.startswith("swift") else 1)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=load) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert two_engines() == 1


def test_a_conversion_that_failed_is_not_tried_by_auto_again(slow_model, two_engines, monkeypatch):
    monkeypatch.setenv("EXPORT_FAILS", "1")
    with pytest.warns(DpkWarning, match=r"swift, the fastest here.*slow does instead.*Fancy"):
        model, plan = open_model(plan_engine(slow_model))
    assert (model.engine, plan.engine.name) == ("slow, here", "slow")
    assert plan_engine(slow_model).engine.name == "slow"
    assert load_model(slow_model).engine == "slow, here"
    assert two_engines() == 1
    for _ in range(2):
        with pytest.raises(DpkError, match="Fancy"):
            load_model(slow_model, "swift")
    assert two_engines() == 3
    with pytest.raises(DpkError, match="swift: the layer Fancy cannot be exported"):
        load_model(slow_model, "auto", "int8")
    monkeypatch.delenv("EXPORT_FAILS")
    load_model(slow_model, "swift")
    assert plan_engine(slow_model).engine.name == "swift"


@pytest.mark.parametrize("cause", ["OSError(28, 'disk full')", "MemoryError()"])
def test_auto_tries_again_what_failed_for_want_of_memory_or_disk(
    slow_model, two_engines, monkeypatch, cause
):
    monkeypatch.setenv("EXPORT_FAILS", cause)
    for attempt in (1, 2):
        with pytest.warns(DpkWarning, match="slow does instead"):
            assert load_model(slow_model).engine == "slow, here"
        assert two_engines() == attempt
    monkeypatch.delenv("EXPORT_FAILS")
    assert load_model(slow_model).engine == "swift, here, float32"


def test_a_converted_model_that_does_not_run(slow_model, monkeypatch):
    monkeypatch.setenv("SWIFT_FAILS", "1")
    assert load_model(slow_model).engine == "slow, here"
    with pytest.raises(ModelFileError, match="does not know this operation"):
        load_model(slow_model, "swift")


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 100])
def test_a_damaged_conversion_is_made_again(slow_model, two_engines, cache, content):
    load_model(slow_model)
    (converted,) = cache.glob("*.swift")
    converted.write_bytes(content)
    assert load_model(slow_model, "swift").engine == "swift, here, float32"
    assert two_engines() == 2
    assert load_model(slow_model).engine == "swift, here, float32"
    assert two_engines() == 2


def test_a_cache_that_cannot_be_written(slow_model, two_engines, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DPK_CACHE", str(tmp_path / "file" / "cache"))
    assert load_model(slow_model).engine == "slow, here"
    with pytest.raises(OutputError, match="DPK_CACHE"):
        load_model(slow_model, "swift")
    assert two_engines() == 0


def test_a_damaged_model_is_told_of_and_not_of_its_conversion(slow_model):
    slow_model.write_text(slow_model.read_text()[:40])
    for engine in ("auto", "slow", "swift"):
        with pytest.raises(ModelFileError, match=r"model\.slow is cut short"):
            load_model(slow_model, engine)


def test_where_the_exported_form_is(slow_model, brightest_onnx, learned):
    assert exported_file(slow_model) is None
    path = brightest_onnx()
    assert exported_file(path) == path
    assert exported_file(learned.keras) is None
    conversion = module._exported(learned.keras, ".onnx")
    conversion.get(lambda target: shutil.copyfile(learned.onnx, target))
    assert exported_file(learned.keras) == conversion.path


# -- predicting a video --------------------------------------------------------------------------


def test_the_engine_belongs_to_the_job(slow_model, video, tmp_path):
    output = predict_video(slow_model, video).output
    job = read_poses(output).provenance["job"]
    assert job["engine"] == "swift, float32"
    assert "two-engines 1.5" in job["software"]
    assert predict_video(slow_model, video, engine="swift").nothing_to_do
    with pytest.raises(OutputExistsError, match=r"differs in: engine"):
        predict_video(slow_model, video, engine="slow")
    with pytest.raises(OutputExistsError, match=r"differs in: engine"):
        predict_video(slow_model, video, precision="int8")
    assert predict_video(slow_model, video, engine="slow", overwrite=True).engine == "slow, here"


def test_auto_carries_on_with_the_engine_that_began(slow_model, video, tmp_path, monkeypatch):
    """Another may be the fastest by now; results of two engines are never mixed in a file."""
    monkeypatch.setenv("EXPORT_FAILS", "1")
    assert predict_video(slow_model, video).engine == "slow, here"
    monkeypatch.delenv("EXPORT_FAILS")
    load_model(slow_model, "swift")
    assert plan_engine(slow_model).engine.name == "swift"
    assert predict_video(slow_model, video).nothing_to_do
    with pytest.raises(OutputExistsError, match="differs in: batch_size"):
        predict_video(slow_model, video, batch_size=5)


def test_the_same_command_without_a_cache(slow_model, video, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DPK_CACHE", str(tmp_path / "file" / "cache"))
    assert predict_video(slow_model, video).engine == "slow, here"
    assert predict_video(slow_model, video).nothing_to_do


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_stopped_and_continued_it_gives_the_same_bit_for_bit(learned, tmp_path, precision):
    options = {"engine": "onnxruntime", "precision": precision, "batch_size": 7}
    whole = predict_video(learned.onnx, learned.labels, tmp_path / "whole.h5", **options)
    assert whole.engine.endswith(precision)

    def stop(done, total, message):
        if message == "predicting" and done >= 14:
            raise KeyboardInterrupt

    output = tmp_path / "parts.h5"
    with pytest.raises(KeyboardInterrupt):
        predict_video(learned.onnx, learned.labels, output, **options, progress=stop)
    for converted in (tmp_path / "cache").glob("*.onnx"):
        converted.unlink()  # made again, it is the same
    result = predict_video(learned.onnx, learned.labels, output, **options)
    assert 0 < result.n_before < 40
    found, expected = (read_poses(p).to_predictions() for p in (output, whole.output))
    assert np.array_equal(found, expected)
    other = {**options, "precision": "int8" if precision == "float32" else "float32"}
    with pytest.raises(OutputExistsError, match="engine"):
        predict_video(learned.onnx, learned.labels, output, **other)


# -- all engines find the same -------------------------------------------------------------------


def half_size_colour():
    """The dots, twice as large and in colour, of odd size: the network sees them at half."""
    dots = dot_annotations(40, size=(48, 64), channels=3)
    images = np.repeat(np.repeat(np.asarray(dots.images), 2, axis=1), 2, axis=2)[:, :95, :127]
    return AnnotationSet(images, (dots.keypoints + 0.5) * 2 - 0.5, dots.skeleton, dots.annotated)


@pytest.fixture(scope="module")
def cases(learned, tmp_path_factory):
    """Model files with images for them: gray and colour, whole and half size, odd sizes."""
    from dpk_models import StackedDenseNet

    folder = tmp_path_factory.mktemp("cases")
    odd = StackedDenseNet(
        attrs.evolve(learned.model.task, image_shape=(45, 61, 1), scale=0.5), growth_rate=8
    )
    odd.network.set_weights(learned.model.network.get_weights())
    odd.save(folder / "odd.keras")
    twice = np.repeat(np.repeat(learned.images, 2, axis=1), 2, axis=2)

    annotations = half_size_colour()
    generator = TrainingGenerator(
        annotations, augmenter=None, sigma=4.0, use_graph=False, scale=0.5, seed=1
    )
    assert generator.task.image_shape == (48, 64, 3)
    colour = StackedDenseNet(generator, growth_rate=8)
    colour.fit(batch_size=8, epochs=40, learning_rate=5e-3)
    colour.save(folder / "colour.keras")
    return {
        "gray 48x64": (learned.keras, learned.images),
        "gray 89x121 at a half": (folder / "odd.keras", twice[:, :89, :121]),
        "colour 95x127 at a half": (folder / "colour.keras", np.asarray(annotations.images)),
    }


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shared_cache")


@pytest.mark.parametrize("case", ["gray 48x64", "gray 89x121 at a half", "colour 95x127 at a half"])
def test_every_engine_agrees_with_keras(case, cases, learned, shared_cache, monkeypatch):
    monkeypatch.setenv("DPK_CACHE", str(shared_cache))
    path, images = cases[case]
    if path == learned.keras:  # its conversion is there already
        module._exported(path, ".onnx").get(lambda target: shutil.copyfile(learned.onnx, target))
    expected = load_model(path, "keras").predict(images)
    clear = expected[..., 2] > 0.3
    assert clear.mean() > 0.8
    compared = []
    for spec in module._engines():
        for precision in spec.precisions:
            if spec.name == "keras" or not spec.is_available or ".onnx" not in spec.suffixes:
                continue
            if precision == "bfloat16" and not cpu_has_bfloat16():
                continue
            model = load_model(path, spec.name, precision, calibration=lambda: images[:32])
            assert model.engine.startswith(spec.name)
            assert model.engine.endswith(precision)
            found = model.predict(images)
            off = np.hypot(*np.moveaxis((found - expected)[..., :2], -1, 0))[clear]
            if precision == "float32":
                assert off.max() < AGREE_PX / model.task.scale, spec.name
                assert np.abs(found - expected)[..., 2].max() < 0.01
            else:  # some peaks jump
                assert np.median(off) < 0.2 / model.task.scale, (spec.name, precision)
                assert np.quantile(off, 0.9) < 1.0 / model.task.scale, (spec.name, precision)
            compared.append((spec.name, precision))
    assert len(compared) >= 2


def cpu_has_bfloat16():
    openvino = pytest.importorskip("openvino")
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_auto_on_a_keras_file(learned, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    from dpk_core.services import devices
    from dpk_core.services.onnx import sessions

    for place in (devices, sessions):
        monkeypatch.setattr(place, "has_gpu", lambda: False)
    monkeypatch.setattr(sessions.platform, "machine", lambda: "arm64")
    assert plan_engine(learned.keras).engine.name == "onnxruntime"
    assert plan_engine(learned.onnx).engine.name == "onnxruntime"
    assert plan_engine(learned.keras, "auto", "int8").engine.name == "onnxruntime"
    if importlib.util.find_spec("openvino"):
        assert plan_engine(learned.keras, "auto", "bfloat16").engine.name == "openvino"
        monkeypatch.setattr(sessions.platform, "machine", lambda: "x86_64")
        assert plan_engine(learned.keras).engine.name == "openvino"
    for place in (devices, sessions):
        monkeypatch.setattr(place, "has_gpu", lambda: True)
    monkeypatch.setattr(devices, "backend_has_cuda", lambda backend: False)
    assert plan_engine(learned.keras).engine.name != "keras"
    monkeypatch.setattr(devices, "backend_has_cuda", lambda backend: True)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert plan_engine(learned.keras).engine.name == "keras"


def test_int8_needs_images_of_what_it_will_see(learned):
    with pytest.raises(
        ValidationError, match=r"expected some images to calibrate with.*dpk export"
    ):
        load_model(learned.onnx, precision="int8")
    with pytest.raises(ValidationError, match="found none"):
        load_model(learned.onnx, precision="int8", calibration=lambda: learned.images[:0])
    model = load_model(learned.onnx, precision="int8", calibration=lambda: learned.images[:8])
    assert model.engine.endswith("int8")
    assert load_model(model.path).engine.endswith("int8")
    assert load_model(model.path, precision="int8").path == model.path


def test_a_keras_file_of_a_stranger(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    for engine in ("auto", "keras"):
        with pytest.raises(ModelFileError, match="was not written by dpk"):
            load_model(path, engine)
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="cut short or not a model file"):
        load_model(path)
