"""Opening trained models, whichever package knows how."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from dpk_core.errors import FileMissingError, ModelFileError
from dpk_core.interfaces import Model
from dpk_core.services.plugins import registry
from dpk_core.specs import EngineSpec


def load_model(path: str | PathLike[str]) -> Model:
    """Open a trained model through the engine plugin that knows its suffix.

    Raises
    ------
    FileMissingError
    ModelFileError
        When no installed plugin opens such files, or the plugin finds the file damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileMissingError(f"no model at {path}")
    engines = [spec for spec in registry().specs("engines") if isinstance(spec, EngineSpec)]
    for engine in engines:
        if path.suffix.lower() in engine.suffixes:
            return engine.load()(path)
    known = ", ".join(suffix for engine in engines for suffix in engine.suffixes)
    message = (
        f"no installed plugin opens {path.name}; expected a file that ends in {known or '.keras'}"
    )
    if not engines:
        message += "; install one with: python -m pip install dpk-models"
    for plugin in registry().failed:
        message += f"\nplugin {plugin.name!r} ({plugin.origin}) failed: {plugin.error}"
    raise ModelFileError(message)
