"""One file for a model: whole, opened by plugin name, and never running code of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from dpk_core.errors import (
    DpkWarning,
    FileMissingError,
    ModelFileError,
    OutputExistsError,
    PluginError,
)
from dpk_core.services.engines import load_model as load_through_engine
from dpk_core.services.plugins import PluginInfo, registry
from dpk_core.specs import ModelSpec
from dpk_core.testing import dot_annotations
from dpk_models import PoseModel, StackedDenseNet, load_model, pose_model
from dpk_models.saving import DESCRIPTION, describe_model


@pytest.fixture(scope="module")
def images():
    return np.asarray(dot_annotations(3, size=(32, 32)).images)


@pytest.fixture
def saved(make_model, tmp_path):
    """A trained model whose settings are none of the defaults, and its file."""
    generator = make_model(
        use_graph=False, downsample_factor=2, sigma=2.5, validation_split=0.25
    ).generator
    model = StackedDenseNet(
        generator,
        n_stacks=2,
        n_transitions=3,
        growth_rate=5,
        bottleneck_factor=0.5,
        compression_factor=0.4,
        peak_detector="maxima",
    )
    model.fit(batch_size=4, epochs=1)
    model.save(tmp_path / "model.keras")
    return model, tmp_path / "model.keras"


def rewrite(path, name, content):
    """Replace one member of an archive."""
    old = path.with_suffix(".old")
    shutil.move(path, old)
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(path, "w") as target:
        for item in source.namelist():
            if item != name:
                target.writestr(item, source.read(item))
        if content is not None:
            target.writestr(name, content)


def change_description(path, **changes):
    with zipfile.ZipFile(path) as archive:
        description = json.loads(archive.read(DESCRIPTION))
    rewrite(path, DESCRIPTION, json.dumps({**description, **changes}))


def test_everything_comes_back(saved, images):
    model, path = saved
    loaded = load_model(path)
    assert loaded.hyperparameters == model.hyperparameters
    assert loaded.task == model.task
    assert loaded.record == model.record
    assert np.array_equal(loaded.predict(images), model.predict(images))
    assert type(load_through_engine(path, engine="keras")) is StackedDenseNet


IN_A_NEW_PROCESS = """
import sys, numpy as np
from dpk_models import load_model
np.save(sys.argv[2], load_model(sys.argv[1]).predict(np.load(sys.argv[3])))
"""


def test_it_opens_in_a_new_process(saved, images, tmp_path):
    model, path = saved
    np.save(tmp_path / "images.npy", images)
    arguments = [path, tmp_path / "found.npy", tmp_path / "images.npy"]
    subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS, *map(str, arguments)], check=True)
    assert np.allclose(np.load(tmp_path / "found.npy"), model.predict(images), atol=1e-4)


def test_code_in_the_file_is_never_run(saved, tmp_path):
    """Keras' own configuration could name any function; ours is not looked at."""
    _, path = saved
    marker = tmp_path / "run.txt"
    harmful = {
        "module": "builtins",
        "class_name": "exec",
        "config": f"open({str(marker)!r}, 'w')",
        "registered_name": None,
    }
    rewrite(path, "config.json", json.dumps(harmful))
    assert isinstance(load_model(path), StackedDenseNet)
    assert not marker.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short(saved, share):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match=r"model\.keras is cut short or not a model"):
        load_model(path)


def test_damaged_weights_and_descriptions(saved):
    _, path = saved
    rewrite(path, "model.weights.h5", b"\x89HDF nothing")
    with pytest.raises(ModelFileError, match="weights are damaged"):
        load_model(path)
    rewrite(path, "model.weights.h5", None)
    with pytest.raises(ModelFileError, match="weights are damaged"):
        load_model(path)
    rewrite(path, DESCRIPTION, "{")
    with pytest.raises(ModelFileError, match=r"dpk\.json is damaged"):
        load_model(path)


@pytest.mark.parametrize("key", ["model", "hyperparameters", "task"])
def test_descriptions_that_lack_something(saved, key):
    _, path = saved
    change_description(path, **{key: 3})
    with pytest.raises(ModelFileError, match=f"it has no '{key}'"):
        load_model(path)


def test_a_record_of_something_else(saved):
    _, path = saved
    change_description(path, record={"colour": "red"})
    with pytest.raises(ModelFileError, match=r"the training record is damaged.*colour"):
        load_model(path)
    change_description(path, record={"best_epoch": 2})  # as written before there was more to say
    assert load_model(path).record.precision == "float32"


def test_newer_versions_absent_plugins_and_other_settings(saved):
    _, path = saved
    change_description(path, format=99)
    with pytest.raises(ModelFileError, match=r"newer dpk.*pip install -U dpk-models"):
        load_model(path)
    change_description(path, format=1, model="FooNet", distribution="foo-net")
    with pytest.raises(ModelFileError, match=r"needs the model 'FooNet'.*pip install foo-net"):
        load_model(path)
    change_description(path, model="StackedDenseNet", hyperparameters={"depth": 3})
    with pytest.raises(ModelFileError, match="had other settings"):
        load_model(path)


def test_files_that_are_no_models(tmp_path, make_model):
    with pytest.raises(FileMissingError, match="no model at"):
        load_model(tmp_path / "absent.keras")
    (tmp_path / "text.keras").write_text("not a model")
    with pytest.raises(ModelFileError, match="not a model file"):
        load_model(tmp_path / "text.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(ModelFileError, match="was not written by dpk"):
        load_model(tmp_path / "other.keras")
    with pytest.raises(ModelFileError, match=r"ends in \.keras"):
        make_model().save(tmp_path / "model.h5")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08 not ours")
    with pytest.raises(ModelFileError, match=r"expected a \.keras file.*dpk_core\.load_model"):
        load_model(tmp_path / "model.onnx")
    (tmp_path / "model.pt").touch()
    with pytest.raises(ModelFileError, match=r"no installed plugin opens model\.pt.*\.keras"):
        load_through_engine(tmp_path / "model.pt")


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        model.save(path, overwrite=False)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError, match="the disk is full"):
        model.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir() if "partial" in p.name] == []


@pose_model
class Nameless(PoseModel):
    def build(self, task):
        image = keras.Input(task.image_shape, dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(image)
        return keras.Model(image, keras.layers.Conv2D(task.n_output_channels, 4, 4)(x))


def test_a_class_that_nobody_announced_is_not_saved(make_model, tmp_path):
    model = Nameless(make_model().generator)
    with pytest.warns(DpkWarning, match=r"can't be saved.*not announced by any plugin"):
        model.fit(batch_size=4, epochs=1)
    with pytest.raises(PluginError, match="not announced by any plugin"):
        model.save(tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []


def announce(monkeypatch, *targets):
    """As if plugins that come first announced models with these targets."""
    specs = tuple(("models", ModelSpec(f"Model{i}", "a model", t)) for i, t in enumerate(targets))
    plugin = PluginInfo("first", "first-models", "1.0", "first", specs)
    monkeypatch.setattr(registry(), "plugins", [plugin, *registry().plugins])


def test_other_plugins_models_do_not_matter(make_model, tmp_path, monkeypatch):
    """They may be broken, and are not imported where that can be avoided."""
    announce(monkeypatch, "dpk_absent_module:Model", f"{__name__}:Absent")
    monkeypatch.setattr(ModelSpec, "load", lambda spec: pytest.fail(f"imported {spec}"))
    make_model().save(tmp_path / "model.keras")
    monkeypatch.undo()
    assert type(load_model(tmp_path / "model.keras")) is StackedDenseNet


def test_a_class_announced_under_another_module(make_model, monkeypatch):
    monkeypatch.setattr(registry(), "plugins", [])
    announce(monkeypatch, "dpk_absent_module:Model", "dpk_models:StackedDenseNet")
    assert describe_model(make_model())["model"] == "Model1"
