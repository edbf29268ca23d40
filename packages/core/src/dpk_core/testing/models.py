"""The contract of `Model`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.errors import DpkError
from dpk_core.interfaces import Model
from dpk_core.services.engines import load_model, plan_engine
from dpk_core.services.generator import TrainingGenerator
from dpk_core.services.plugins import registry
from dpk_core.specs import EngineSpec
from dpk_core.task import Task
from dpk_core.testing.contract import ContractError, require, require_array
from dpk_core.testing.datasets import dot_annotations

ENGINES_AGREE_PX = 0.05
"""The most that two engines may differ, in pixels of the images."""

_LOAD_AND_PREDICT = """
import sys
import numpy as np
from dpk_core.services.engines import load_model
model = load_model(sys.argv[1], engine=sys.argv[4])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), batch_size=4))
"""


def check_model(
    name: str,
    *,
    downsample_factor: int = 2,
    suffix: str = ".keras",
    new_process: bool = True,
    **hyperparameters: Any,
) -> None:
    """Check the model plugin of that name against the contract of `Model`.

    Trains for a few steps on small images with missing labels, so choose small hyperparameters.

    Parameters
    ----------
    downsample_factor
        An output stride (as a power of two) that the model can have.
    suffix
        Of the model's files.
    new_process
        Also load the saved model in a new Python process, which takes its time.

    Raises
    ------
    ContractError
    """
    cls = registry().get("models", name).load()
    require(issubclass(cls, Model), "a model derives from dpk_core.Model", cls)
    for size, channels in (((48, 64), 1), ((45, 50), 3)):
        annotations = dot_annotations(size=size, channels=channels)
        generator = TrainingGenerator(
            annotations, downsample_factor=downsample_factor, augmenter=None, seed=1
        )
        _check_build(cls, generator.task, hyperparameters)
    model = cls(generator, **hyperparameters)
    model.fit(batch_size=4, epochs=2)
    images = np.array(annotations.images)
    predictions = _check_predict(model, images)
    _check_learned_nothing_broken(model)
    with tempfile.TemporaryDirectory() as folder:
        _check_save(model, Path(folder), suffix, images, predictions, new_process)


def _check_build(cls: Any, task: Task, hyperparameters: dict[str, Any]) -> None:
    model = cls(task, **hyperparameters)
    require(model.task == task, "a model knows the task it was made for", model.task)
    require(model.skeleton == task.skeleton, "a model knows its skeleton", model.skeleton)


def _check_predict(model: Model, images: np.ndarray) -> np.ndarray:
    n, k = len(images), len(model.skeleton)
    height, width = images.shape[1:3]
    before = images.copy()
    predictions = require_array(
        "predict(images)", model.predict(images, batch_size=4), (n, k, 3), np.float32
    )
    require(np.array_equal(images, before), "predict leaves the images as they were")
    require(np.isfinite(predictions).all(), "predictions are finite after training with NaN labels")
    inside = (predictions[..., :2] >= 0) & (predictions[..., :2] <= (width - 1, height - 1))
    require(inside.all(), "coordinates lie within the images")
    scores = predictions[..., 2]
    require(((scores >= 0) & (scores <= 1)).all(), "scores lie in [0, 1]", scores)
    again = model.predict(images, batch_size=4)
    require(np.array_equal(again, predictions), "predict gives the same twice")
    one_by_one = model.predict(images, batch_size=1)
    require(
        np.allclose(one_by_one, predictions, atol=0.02),
        "predictions don't depend on the batch size",
        np.abs(one_by_one - predictions).max(),
    )
    none = model.predict(images[:0], batch_size=4)
    require_array("predict of no images", none, (0, k, 3))
    return predictions


def _check_learned_nothing_broken(model: Model) -> None:
    result = model.evaluate()
    require("summary" in result, "evaluate() gives a mapping with 'summary'", list(result))


def _check_save(
    model: Model,
    folder: Path,
    suffix: str,
    images: np.ndarray,
    predictions: np.ndarray,
    new_process: bool,
) -> None:
    path = folder / f"model{suffix}"
    model.save(path)
    require(path.is_file(), "save writes one file")
    engine = _own_engine(suffix)
    loaded = load_model(path, engine)
    require(type(loaded) is type(model), "a loaded model has the class it was saved with")
    require(loaded.task == model.task, "a loaded model has its task, skeleton included")
    _compare(loaded.predict(images, batch_size=4), predictions, "after loading")
    if new_process:
        found = _in_new_process(path, folder, images, engine)
        _compare(found, predictions, "after loading in a new process")
    _check_other_engines(path, engine, images, predictions)


def _own_engine(suffix: str) -> str:
    for spec in registry().specs("engines"):
        if isinstance(spec, EngineSpec) and suffix in spec.suffixes:
            return spec.name
    raise ContractError(f"an engine opens {suffix} files, found none")


def _check_other_engines(path: Path, own: str, images: np.ndarray, expected: np.ndarray) -> None:
    """Every engine that is installed and can take the model finds the same."""
    for spec in registry().specs("engines"):
        try:
            plan_engine(path, spec.name)
        except DpkError:
            continue  # it is for other files, or not installed
        if spec.name == own:
            continue
        found = load_model(path, spec.name).predict(images, batch_size=4)
        off = np.abs(found - expected)
        # Where little was learned, two maxima may be equal to rounding and either one right.
        require(
            np.mean(off[..., :2].max(axis=-1) <= ENGINES_AGREE_PX) >= 0.95,
            f"the engine {spec.name} agrees with {own} within {ENGINES_AGREE_PX} px",
            f"differences up to {off[..., :2].max()}",
        )
        require((off[..., 2] < 0.01).all(), f"scores of {spec.name} and {own} agree", off[..., 2])


def _in_new_process(path: Path, folder: Path, images: np.ndarray, engine: str) -> np.ndarray:
    inputs, outputs = folder / "images.npy", folder / "predictions.npy"
    np.save(inputs, images)
    arguments = [str(path), str(inputs), str(outputs), engine]
    command = [sys.executable, "-c", _LOAD_AND_PREDICT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    require(done.returncode == 0, "a saved model loads in a new process", done.stderr[-2000:])
    return np.load(outputs)


def _compare(found: np.ndarray, expected: np.ndarray, when: str) -> None:
    require(
        np.allclose(found, expected, atol=1e-3),
        f"a model predicts the same {when}",
        f"differences up to {np.abs(found - expected).max()}",
    )
