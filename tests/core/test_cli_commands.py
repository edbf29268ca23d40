"""The dpk command: what it prints, what it exits with, what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core.annotations import AnnotationSet
from dpk_core.cli.app import COMMANDS, app
from dpk_core.errors import ValidationError
from dpk_core.services.engines import plan_engine
from dpk_core.services.plugins import registry
from dpk_core.services.storage import read_annotations, read_poses, write_annotations
from dpk_core.services.video import VideoReader
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task

runner = CliRunner()


def dpk(*arguments):
    return runner.invoke(app, [str(a) for a in arguments], prog_name="dpk")


def fails(*arguments, code=1):
    """Run, expect a failure without a traceback, and give the message on stderr."""
    result = dpk(*arguments)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


# -- help and usage ------------------------------------------------------------------------------


def test_help_lists_the_commands_in_the_order_of_the_workflow():
    text = dpk("--help").output
    places = [text.index(f" {name} ") for name in COMMANDS]
    panel = text[text.index("Commands") :]
    assert [panel.index(f" {name} ") for name in COMMANDS] == sorted(
        panel.index(f" {name} ") for name in COMMANDS
    )
    assert len(places) == len(COMMANDS) > 8


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches_by_an_example(name):
    result = dpk(name, "--help")
    assert result.exit_code == 0
    assert f"dpk {name}" in re.split("Examples?:", result.output)[1]


def test_wrong_usage_is_2():
    assert "No such command" in fails("trian", code=2)
    assert dpk("predict", "model.keras").exit_code == 2
    assert dpk("predict", "m", "v", "--batch-size", "many").exit_code == 2
    assert dpk("train", "labels.h5", "--time-limit", "soon").exit_code == 2
    assert dpk("train", "labels.h5", "--set", "growth_rate").exit_code == 2


def test_version():
    from dpk_core import __version__

    assert __version__ in dpk("--version").output


def test_the_list_of_commands_needs_no_heavy_library():
    code = (
        "import sys; from dpk_core.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'cv2', 'av', 'h5py', 'sklearn', 'matplotlib', 'keras', 'imgaug', 'numpy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


# -- the workflow --------------------------------------------------------------------------------


def test_sample(video, skeleton_csv, tmp_path):
    output = tmp_path / "new.h5"
    result = dpk("sample", video, "-s", skeleton_csv, "-o", output, "-n", 4, "--method", "uniform")
    assert result.exit_code == 0, result.output
    assert "4 frames" in result.stdout
    assert "4 images" in result.stdout
    assert "exists already" in fails("sample", video, "-s", skeleton_csv, "-o", output)
    result = dpk("sample", video, "-o", output, "--append", "-n", 100)
    assert "36 frames (4 were there already)" in result.stdout
    assert "Note:" in result.stderr
    assert len(read_annotations(output)) == 40


def test_train_passes_every_option_on(labels, fake_engine, tmp_path):
    output = tmp_path / "m.fake"
    result = dpk(
        *("train", labels, "-o", output, "--model", "FakeNet", "--set", "offset=2"),
        *("--downsample-factor", 3, "--scale", 0.5, "--sigma", 4, "--no-graph", "--grayscale"),
        *("--augmenter", "none", "--validation-split", 0.2, "--seed", 5, "--group-by", "random"),
        *("--epochs", 2, "--batch-size", 4, "--workers", 2),
    )
    assert result.exit_code == 0, result.output
    stored = json.loads(output.read_text())
    task = stored["task"]
    assert (stored["offset"], task["downsample_factor"], task["scale"]) == (2, 3, 0.5)
    assert (task["sigma"], task["use_graph"]) == (4, False)
    assert task["image_shape"] == [24, 32, 1]
    split = stored["record"]["split"]
    assert (split["method"], split["seed"], len(split["validation"])) == ("random", 5, 4)
    assert "best epoch 2, validation error 5.00 px" in result.stdout
    assert "16 training and 4 validation images" in result.stderr


def test_train_passes_options_of_the_training_on_only_where_given(labels, monkeypatch):
    from dpk_core.workflow import train

    seen = {}

    def note(*arguments, **options):
        seen.update(options)
        raise ValidationError("enough")

    monkeypatch.setattr(train, "train_model", note)
    fails("train", labels)
    assert seen["fit_options"] == {"n_workers": 1}
    assert seen["generator_options"]["use_graph"] is None
    fails(
        *("train", labels, "--recipe", "paper", "--batch-size", 2, "--ema", 0.9, "--graph"),
        *("--precision", "mixed_float16", "--devices", 2, "--schedule", "cosine"),
        *("--time-limit", "1m", "--learning-rate", 0.01),
    )
    assert seen["fit_options"] == {
        "recipe": "paper", "batch_size": 2, "n_workers": 1, "learning_rate": 0.01, "ema": 0.9,
        "schedule": "cosine", "time_limit": 60.0, "precision": "mixed_float16", "devices": 2,
    }  # fmt: skip
    assert seen["generator_options"]["use_graph"] is True
    assert dpk("train", labels, "--devices", "none").exit_code == 2


def test_what_a_training_remarks_is_told(labels, fake_engine, tmp_path):
    arguments = ("train", labels, "-o", tmp_path / "m.fake", "--model", "FakeNet")
    result = dpk(*arguments, "--augmenter", "none", "--set", "stop=diverged")
    assert result.exit_code == 0, result.output
    assert "m.fake: diverged" in result.stdout
    assert "try a lower learning rate" in result.stderr


def test_an_interrupted_training_is_saved_and_tells_how_to_go_on(
    labels, fake_engine, tmp_path, monkeypatch
):
    output = tmp_path / "m.fake"
    arguments = ["train", str(labels), "-o", str(output), "--model", "FakeNet"]
    arguments += ["--set", "stop=interrupted", "--augmenter", "none"]
    monkeypatch.setattr(sys, "argv", ["dpk", *arguments])
    message = fails(*arguments, code=130)
    assert output.exists()
    advice = shlex.split(message.split("Carry on with:")[1])
    assert advice == ["dpk", *arguments, "--resume"]
    assert dpk(*advice[1:]).exit_code == 130
    assert json.loads((tmp_path / "m.run" / "run.json").read_text())["resume"] is True
    assert "--resume" in fails(*arguments)


def test_evaluate(labels, fake_model, tmp_path):
    table = tmp_path / "errors.csv"
    result = dpk("evaluate", fake_model, labels, "--csv", table)
    assert result.exit_code == 0, result.output
    assert "2 validation images" in result.stderr
    rows = [line.split("\t") for line in result.stdout.splitlines()[:5]]
    assert rows[0][:4] == ["name", "count", "missed", "mean"]
    assert [row[0] for row in rows[1:]] == ["head", "left", "right", "all"]
    assert float(rows[4][3]) == pytest.approx(0, abs=1e-3)
    assert len(table.read_text().splitlines()) == 3
    assert "exists already" in fails("evaluate", fake_model, labels, "--csv", table)
    result = dpk("evaluate", fake_model, labels, "--csv", table, "--force", "--only", "all")
    assert "20 labelled images" in " ".join(result.stderr.split())
    assert len(table.read_text().splitlines()) == 21


def test_predict(fake_model, video, tmp_path):
    result = dpk("predict", fake_model, video)
    assert result.exit_code == 0, result.output
    assert "40 frames" in result.stdout
    assert len(read_poses(tmp_path / "walk.poses.h5")) == 40
    result = dpk("predict", fake_model, video)
    assert result.exit_code == 0
    assert "done already" in result.stdout
    assert "another job" in fails("predict", fake_model, video, "--stop", 9)
    assert dpk("predict", fake_model, video, "--stop", 9, "--force").exit_code == 0
    assert len(read_poses(tmp_path / "walk.poses.h5")) == 9


def test_a_prediction_that_is_interrupted_says_that_it_can_go_on(fake_model, video, monkeypatch):
    from dpk_core.workflow import predict

    def interrupt(self, predictions):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict._Store, "add", interrupt)
    assert "carries on" in fails("predict", fake_model, video, code=130)


def test_render(fake_model, video, tmp_path):
    dpk("predict", fake_model, video)
    poses = tmp_path / "walk.poses.h5"
    result = dpk("render", poses, video, "--trail", 3, "--scale", 1)
    assert result.exit_code == 0, result.output
    output = tmp_path / "walk.labelled.mp4"
    with VideoReader(output) as reader:
        assert (len(reader), reader.shape[:2]) == (40, (48, 64))
    assert "40 frames of 48x64" in result.stdout
    assert "exists already" in fails("render", poses, video)
    assert dpk("render", poses, video, "--force", "--start", 5, "--stop", 9).exit_code == 0
    with VideoReader(output) as reader:
        assert len(reader) == 4


# -- engines and exported models -----------------------------------------------------------------


def test_predict_says_which_engine_it_took(learned, tmp_path):
    output = tmp_path / "p.h5"
    result = dpk("predict", learned.onnx, learned.labels, "-o", output)
    assert result.exit_code == 0, result.output
    took = plan_engine(learned.onnx).engine.name
    assert took in ("onnxruntime", "openvino")
    assert f"by {took}" in " ".join(result.stdout.split())
    assert "differs in: engine" in fails(
        "predict", learned.onnx, learned.labels, "-o", output, "--precision", "int8"
    )
    result = dpk("predict", learned.onnx, learned.labels, "-o", output, "--force", "--engine",
                 "onnxruntime", "--precision", "int8")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "int8" in result.stdout
    assert len(read_poses(output)) == 40


def test_engines_and_precisions_that_cannot_be(fake_model, brightest_onnx, video):
    assert "did you mean 'onnxruntime'" in fails(
        "predict", brightest_onnx(), video, "--engine", "onnxruntme"
    )
    assert "the engine onnxruntime has float32, int8" in fails(
        *("predict", brightest_onnx(), video, "--engine", "onnxruntime"),
        *("--precision", "bfloat16"),
    )
    assert "in int8" in fails("predict", fake_model, video, "--precision", "int8")
    assert dpk("predict", fake_model, video, "--precision", "int4").exit_code == 2
    assert "not one of dpk's" in fails("predict", brightest_onnx(metadata={}), video)


def test_evaluate_with_an_engine_and_a_precision(learned, tmp_path):
    def errors(*arguments):
        result = dpk("evaluate", learned.onnx, learned.labels, *arguments)
        assert result.exit_code == 0, result.output
        assert "validation images" in " ".join(result.stderr.split())
        rows = [line.split("\t") for line in result.stdout.splitlines()]
        return float(next(row for row in rows if row[0] == "all")[3])

    exact = errors("--engine", "onnxruntime")
    assert errors() == exact
    int8 = errors("--engine", "onnxruntime", "--precision", "int8")
    assert 0 < abs(int8 - exact) < 0.5
    assert "no engines plugin named 'none'" in fails(
        "evaluate", learned.onnx, learned.labels, "--engine", "none"
    )


def test_export(learned, fake_model, tmp_path):
    output = tmp_path / "m.onnx"
    result = dpk("export", learned.keras, output)
    assert result.exit_code == 0, result.output
    assert "float32" in result.stdout
    before = output.read_bytes()
    assert "exists already" in fails("export", learned.keras, output)
    small = ("export", output, tmp_path / "small.onnx", "--precision", "int8")
    assert "--calibrate" in fails(*small)
    result = dpk(*small, "--calibrate", learned.labels)
    assert "int8, calibrated on 32 images" in " ".join(result.stdout.split())
    assert "holds an int8 model already" in fails(
        *("export", tmp_path / "small.onnx", tmp_path / "b.onnx", "--precision", "int8"),
        *("--calibrate", learned.labels),
    )
    assert "exported already" in fails("export", output, tmp_path / "c.onnx")
    assert "cannot be exported" in fails("export", fake_model, output, "--force")
    assert "ends in .onnx, .xml, .tflite" in fails("export", learned.keras, tmp_path / "m.pt")
    assert output.read_bytes() == before
    names = {path.name for path in tmp_path.glob("*.onnx")}
    assert names == {"m.onnx", "small.onnx"}


def test_info_of_an_exported_model(learned, brightest_onnx):
    keras_facts = json.loads(dpk("info", learned.keras, "--json").stdout)
    facts = json.loads(dpk("info", learned.onnx, "--json").stdout)
    for name in ("kind", "model", "images", "hyperparameters", "keypoints", "skeleton", "training"):
        assert facts[name] == keras_facts[name], name
    assert facts["precision"] == "float32"
    assert facts["output"] == "x, y and score of 3 keypoints"
    assert "dpk-core[onnx]" in facts["needs"]
    assert "written by dpk-models" in facts["needs"]
    assert "growth_rate" in dpk("info", learned.onnx).stdout
    assert json.loads(dpk("info", brightest_onnx(), "--json").stdout)["training"] == "none"


def test_info_of_onnx_files_that_cannot_be_read(brightest_onnx, tmp_path):
    assert "not one of dpk's" in fails("info", brightest_onnx(metadata={"author": "a stranger"}))
    newer = {"dpk": json.dumps({"format": 99})}
    assert "newer dpk" in fails("info", brightest_onnx(metadata=newer))
    assert "'dpk' is damaged" in fails("info", brightest_onnx(metadata={"dpk": "{"}))
    path = brightest_onnx()
    path.write_bytes(path.read_bytes()[:200])
    assert "cut short" in fails("info", path)


# -- bad input -----------------------------------------------------------------------------------


def test_missing_files(fake_model, labels, tmp_path):
    absent = tmp_path / "absent.h5"
    assert str(absent) in fails("info", absent)
    assert str(absent) in fails("predict", fake_model, absent)
    assert str(absent) in fails("evaluate", fake_model, absent)
    assert str(absent) in fails("train", absent, "-o", tmp_path / "m.fake", "--model", "FakeNet")
    assert "absent.fake" in fails("predict", tmp_path / "absent.fake", labels)


@pytest.mark.parametrize("content", [b"", b"this is no HDF5 file, nor a video", bytes(5000)])
@pytest.mark.parametrize("suffix", [".h5", ".mp4", ".csv", ".keras"])
def test_files_that_are_not_what_they_seem(content, suffix, fake_model, tmp_path):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    assert path.name in fails("info", path)
    if suffix in (".h5", ".mp4"):
        assert path.name in fails("predict", fake_model, path)


def test_a_video_without_frames(fake_model, tmp_path, make_video):
    path = make_video(tmp_path / "whole.mp4", 5)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[:300])
    assert "cut.mp4" in fails("predict", fake_model, cut)
    assert not (tmp_path / "cut.poses.h5").exists()


def test_a_damaged_video_keeps_what_came_before(fake_model, make_video, tmp_path):
    path = make_video(tmp_path / "cut.avi", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = fails("predict", fake_model, path)
    n = len(read_poses(tmp_path / "cut.poses.h5"))
    assert 0 < n < 60
    assert f"{n} of" in message
    assert "stored in" in message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,b,\nb,a,\n", "cycle"),
        ("a,,\na,,\n", "stands twice"),
        ("a,spine,\n", "spine"),
    ],
)
def test_skeletons_that_are_none(rows, message, video, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("name,parent,swap\n" + rows)
    assert message in fails("info", path)
    assert message in fails("sample", video, "-s", path, "-o", tmp_path / "l.h5")
    assert not (tmp_path / "l.h5").exists()


def test_nothing_annotated(fake_engine, tmp_path):
    path = tmp_path / "l.h5"
    images = np.zeros((3, 48, 64, 1), np.uint8)
    write_annotations(path, AnnotationSet(images, np.full((3, 1, 2), np.nan), Skeleton(("a",))))
    message = fails("train", path, "-o", tmp_path / "m.fake", "--model", "FakeNet")
    assert "annotate some first" in message


def test_a_model_whose_plugin_is_not_installed_says_what_to_install(video, labels, tmp_path):
    model = tmp_path / "model.unknown"
    model.write_bytes(b"weights")
    assert "no installed plugin opens" in fails("predict", model, video)
    message = fails("train", labels, "--model", "NoSuchNet", "-o", tmp_path / "m.keras")
    assert "NoSuchNet" in message
    assert "StackedDenseNet" in message


def test_a_read_only_folder(fake_model, video, tmp_path, monkeypatch):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.name == "nt" or os.geteuid() == 0:  # rights don't bind this user
        monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    message = fails("predict", fake_model, video, "-o", folder / "p.h5")
    assert "no permission" in message
    assert not list(folder.iterdir())


def test_a_folder_that_is_not_there(fake_model, video, tmp_path):
    message = fails("predict", fake_model, video, "-o", tmp_path / "no" / "p.h5")
    assert "is not there" in message


def test_a_full_disk(fake_model, video, monkeypatch):
    import errno

    from dpk_core.services.storage import poses_file

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(poses_file, "_put", full)
    assert "disk is full" in fails("predict", fake_model, video)


# -- plugins -------------------------------------------------------------------------------------


@pytest.fixture
def broken_plugin(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    info = folder / "broken_plugin-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text("[dpk]\nbroken = broken_plugin\n")
    (folder / "broken_plugin.py").write_text("raise RuntimeError('no licence found')\n")
    monkeypatch.syspath_prepend(folder)
    registry.cache_clear()
    yield
    registry.cache_clear()


def test_plugins_shows_where_everything_came_from(fake_engine):
    result = dpk("plugins")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert ["models", "FakeNet", "finds the brightest pixel", "fake-engine 1.0"] in rows
    assert any(row[1:2] == ["StackedDenseNet"] for row in rows)


def test_a_broken_plugin_is_named_and_takes_nobody_down(fake_engine, broken_plugin):
    result = dpk("plugins")
    assert result.exit_code == 1
    message = " ".join(result.stderr.split())
    assert "'broken' (broken-plugin 2.5" in message
    assert "no licence found" in message
    assert "FakeNet" in result.stdout
    assert dpk("greet").exit_code == 0


def test_two_plugins_with_one_name_are_both_named(fake_engine, tmp_path, monkeypatch):
    folder = tmp_path / "twin"
    info = folder / "twin_engine-3.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: twin-engine\nVersion: 3.0\n")
    (info / "entry_points.txt").write_text("[dpk]\ntwin = fake_engine_plugin\n")
    monkeypatch.syspath_prepend(folder)
    registry.cache_clear()
    result = dpk("plugins")
    assert result.exit_code == 1
    message = " ".join(result.stderr.split())
    assert "fake-engine 1.0 and twin-engine 3.0" in message
    assert "models named 'fakenet'" in message


def test_commands_of_plugins(fake_engine):
    assert "say hello" in dpk("--help").output
    assert dpk("greet", "--name", "Ada").output == "hello Ada\n"
    assert "Say hello to somebody" in dpk("greet", "--help").output
    assert "fake_engine_absent" in fails("absent")


# -- info and doctor -----------------------------------------------------------------------------


def test_info_of_each_kind(video, labels, skeleton_csv, fake_model, tmp_path):
    dpk("predict", fake_model, video)
    for path, kind, found in (
        (video, "video", "40"),
        (labels, "annotations", "20 images 48x64x3"),
        (skeleton_csv, "skeleton", "head, left, right"),
        (tmp_path / "walk.poses.h5", "poses", "40 rows"),
    ):
        result = dpk("info", path)
        assert result.exit_code == 0, result.output
        assert kind in result.stdout
        assert found in result.stdout
        facts = json.loads(dpk("info", path, "--json").stdout)
        assert (facts["file"], facts["kind"]) == (str(path), kind)


@pytest.fixture
def keras_file(tmp_path):
    """A function that writes what `dpk info` reads of a model file, with changes."""

    def write(**changes):
        description = {
            "format": 1,
            "model": "StackedDenseNet",
            "distribution": "dpk-models",
            "distribution_version": "0.1.0",
            "hyperparameters": {"growth_rate": 32},
            "task": Task((48, 64, 1), Skeleton(("head", "tail"))).to_config(),
            "record": {
                "history": [{"epoch": 1, "val_error_px": 3.25}, {"epoch": 2, "val_error_px": 4.0}],
                "best_epoch": 1,
                "stopped": "time limit",
                "source": "labels.h5",
                "split": {"train": [0, 1, 2], "validation": [3]},
            },
        }
        path = tmp_path / "m.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("dpk.json", json.dumps({**description, **changes}))
        return path

    return write


def test_info_of_a_model_needs_neither_keras_nor_its_plugin(keras_file):
    facts = json.loads(dpk("info", keras_file(model="FromAStranger"), "--json").stdout)
    assert (facts["kind"], facts["model"]) == ("model", "FromAStranger")
    assert facts["training"]["validation error, px"] == 3.25
    assert facts["training"]["images"] == "3 training, 1 validation"
    assert facts["keypoints"] == ["head", "tail"]
    assert "growth_rate  32" in dpk("info", keras_file()).stdout


def test_info_of_model_files_that_cannot_be_read(keras_file, tmp_path):
    assert "newer dpk" in fails("info", keras_file(format=99))
    assert "cut short" in fails("info", keras_file(task={}))
    path = keras_file()
    path.write_bytes(path.read_bytes()[:100])
    assert "cut short" in fails("info", path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    assert "not written by dpk" in fails("info", path)


@pytest.mark.slow
def test_predict_with_a_model_whose_plugin_is_not_installed(keras_file, video):
    pytest.importorskip("keras")
    message = fails(
        "predict", keras_file(model="FromAStranger", distribution="strangers-models"), video
    )
    assert "'FromAStranger', which is not installed" in message
    assert "python -m pip install strangers-models" in message
    assert "newer dpk" in fails("predict", keras_file(format=99), video)


def test_info_of_a_training_that_has_not_ended(fake_model, tmp_path):
    facts = json.loads(dpk("info", tmp_path / "model.run", "--json").stdout)
    assert (facts["kind"], facts["model"]) == ("training run", "FakeNet")
    assert "--resume" in facts["training"]


def test_info_checks_a_video_when_asked(video):
    assert "all 40 frames decode" in dpk("info", video, "--check").stdout


def test_doctor_tells_versions_and_what_is_broken(broken_plugin, monkeypatch):
    from dpk_core.cli import doctor

    monkeypatch.setattr(doctor, "_ASK_KERAS", "raise SystemExit('no backend here')")
    monkeypatch.setattr(doctor, "_FOR_TRAINING", {"h5py": "a_module_that_is_not_there"})
    result = dpk("doctor")
    assert result.exit_code == 1
    found = {
        row.split("\t")[1]: row.split("\t") for row in result.stdout.splitlines() if "\t" in row
    }
    assert found["numpy"][2] == np.__version__
    assert found["h5py"][0] == "BROKEN"
    assert "a_module_that_is_not_there" in found["h5py"][2]
    assert found["Keras"][0] == "BROKEN"
    assert "no backend here" in found["Keras"][2]
    assert found["plugin broken"][0] == "BROKEN"
    assert "h264" in found["video decoders"][2]
    assert "GiB free" in found["disk"][2]
    assert "broken-plugin" in result.stdout.splitlines()[-1]


def test_doctor_outlives_a_backend_that_hangs_and_names_what_is_missing(monkeypatch):
    from dpk_core.cli import doctor

    monkeypatch.setattr(doctor, "_ASK_KERAS", "import time; time.sleep(900)")
    monkeypatch.setattr(doctor, "_FOR_TRAINING", {})
    monkeypatch.setattr(doctor, "_OURS", ("dpk-core", "dpk-something-else"))
    findings = {finding.subject: finding for finding in doctor.examine(0.2)}
    assert findings["Keras"].state == "BROKEN"
    assert "did not start" in findings["Keras"].detail
    assert findings["dpk-something-else"].remedy == "python -m pip install dpk-something-else"
