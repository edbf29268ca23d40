"""One ``.keras`` file for a trained model, opened by plugin name; no code in it is ever run.

The file is Keras' own archive with one member more, ``dpk.json``: the model's plugin name and
distribution, its hyperparameters, the task with the skeleton, and the training record. Loading
finds the plugin, has it build the network anew from those, and reads only the weights from the
archive; Keras' stored configuration, which could name arbitrary classes, is never deserialized.
"""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from dpk_core.errors import (
    DpkError,
    DpkWarning,
    FileMissingError,
    ModelFileError,
    PluginError,
)
from dpk_core.services.plugins import registry
from dpk_core.services.storage import atomic_path
from dpk_core.specs import Spec
from dpk_core.task import Task
from dpk_models.base import PoseModel, without_pretrained
from dpk_models.record import TrainingRecord, plain

FORMAT_VERSION = 1
DESCRIPTION = "dpk.json"
WEIGHTS = "model.weights.h5"


def save_model(model: PoseModel, path: str | PathLike[str], *, overwrite: bool = True) -> None:
    """Write a model to one file, whole or not at all; see `PoseModel.save`.

    Raises
    ------
    PluginError
        When the model's class is not registered under its name: nobody could load the file.
    OutputExistsError, OutputError
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ModelFileError(f"expected a file name that ends in .keras, found {path.name!r}")
    description = json.dumps(describe_model(model), indent=1, default=plain)
    with atomic_path(path, overwrite=overwrite) as temporary:
        model.network.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(DESCRIPTION, description)


def load_model(path: str | PathLike[str]) -> PoseModel:
    """Read a model that `PoseModel.save` wrote, ready to predict.

    Raises
    ------
    FileMissingError
    ModelFileError
        When the file is damaged, not a dpk model, from a newer version, or needs a plugin that
        is not installed (the message says which).
    """
    path = Path(path)
    if not path.is_file():
        raise FileMissingError(f"no model at {path}")
    if path.suffix.lower() != ".keras" and not zipfile.is_zipfile(path):
        raise ModelFileError(
            f"{path}: expected a .keras file written by model.save(); dpk_core.load_model opens "
            "models in other formats, such as exported ones, with the engine that runs them"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            description = _read_description(archive, path)
            model = _construct(description, path)
            _read_weights(archive, model.network, path)
    except zipfile.BadZipFile as error:
        raise ModelFileError(
            f"{path} is cut short or not a model file ({error}); expected a .keras file written "
            "by model.save(); copy it again or train again"
        ) from None
    model.record = _record(description, path)
    return model


def describe_model(model: PoseModel) -> dict[str, Any]:
    """What a file says about the model in it; JSON values.

    Raises
    ------
    PluginError
        When no plugin announces the model's class.
    """
    name, distribution, version = _plugin_of(type(model))
    return {
        "format": FORMAT_VERSION,
        "model": name,
        "distribution": distribution,
        "distribution_version": version,
        "keras_version": keras.__version__,
        "hyperparameters": model.hyperparameters,
        "task": model.task.to_config(),
        "record": None if model.record is None else model.record.to_config(),
    }


def warn_if_unsavable(model: PoseModel) -> None:
    """Say before a training, not after it, that its result could be used but not saved."""
    try:
        _plugin_of(type(model))
    except PluginError as error:
        warnings.warn(f"this model can't be saved: {error}", DpkWarning, stacklevel=3)


def _plugin_of(cls: type) -> tuple[str, str, str]:
    """Name, distribution and version of the plugin that announces a class."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    announced = [
        (plugin, spec)
        for plugin in registry().plugins
        for kind, spec in plugin.specs
        if kind == "models"
    ]
    # Names first: other plugins' modules are slow to import, or broken.
    for is_announcement in (lambda spec: spec.target == target, partial(_leads_to, cls)):
        for plugin, spec in announced:
            if is_announcement(spec):
                return spec.name, plugin.distribution, plugin.version
    raise PluginError(
        f"{target} is not announced by any plugin, so a file of it could not be loaded; announce "
        "it with the dpk_models hook (docs: writing a plugin)"
    )


def _leads_to(cls: type, spec: Spec) -> bool:
    """Whether a plugin announces the class under another name, which it imports it by."""
    try:
        return spec.load() is cls
    except PluginError:
        return False  # another plugin's trouble, which must not cost this model


def _read_description(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if DESCRIPTION not in archive.namelist():
        raise ModelFileError(
            f"{path} was not written by dpk (no {DESCRIPTION} in it); expected a file written by "
            "model.save()"
        )
    try:
        description = json.loads(archive.read(DESCRIPTION))
        version = int(description["format"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelFileError(f"{path}: {DESCRIPTION} is damaged ({error})") from None
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} was written by a newer dpk (format {version}, this one reads up to "
            f"{FORMAT_VERSION}); update with: python -m pip install -U "
            f"{description.get('distribution', 'dpk-models')}"
        )
    for key, kind in (("model", str), ("hyperparameters", dict), ("task", dict)):
        if not isinstance(description.get(key), kind):
            raise ModelFileError(f"{path}: {DESCRIPTION} is damaged (it has no {key!r})")
    return description


def _construct(description: dict[str, Any], path: Path) -> PoseModel:
    name, distribution = description["model"], description.get("distribution", "its package")
    try:
        cls = registry().get("models", name).load()
    except PluginError as error:
        raise ModelFileError(
            f"{path} needs the model {name!r}, which is not installed here; install it with: "
            f"python -m pip install {distribution}\n({error})"
        ) from None
    try:
        with without_pretrained():
            return cls(Task.from_config(description["task"]), **description["hyperparameters"])
    except (TypeError, ValueError, LookupError, DpkError) as error:
        raise ModelFileError(
            f"{path} was written by {distribution} {description.get('distribution_version')}, "
            f"whose {name} had other settings than the one installed here: {error}"
        ) from error


def _read_weights(archive: zipfile.ZipFile, network: keras.Model, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            weights = archive.extract(WEIGHTS, folder)
            network.load_weights(weights)
        except (KeyError, OSError, ValueError, RuntimeError) as error:
            raise ModelFileError(
                f"{path}: the weights are damaged or of another network: {error}"
            ) from None


def _record(description: dict[str, Any], path: Path) -> TrainingRecord | None:
    if description.get("record") is None:
        return None
    try:
        return TrainingRecord(**description["record"])
    except TypeError as error:
        raise ModelFileError(f"{path}: the training record is damaged ({error})") from None
