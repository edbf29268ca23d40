"""Opening trained models, with whichever engine runs them best here.

An engine opens model files of certain suffixes. Where a better one is installed than those that
open a file itself, the model is converted for it once, and the result kept for the next time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import cast

import attrs
import numpy as np

from dpk_core.errors import (
    DpkError,
    DpkWarning,
    FileMissingError,
    MissingDependencyError,
    ModelFileError,
    ValidationError,
)
from dpk_core.interfaces import Model
from dpk_core.services.conversion import Conversion
from dpk_core.services.fingerprints import file_hash
from dpk_core.services.plugins import registry
from dpk_core.specs import EngineSpec

PRECISIONS = ("float32", "bfloat16", "int8")

_PARTS = {"models", "peak_detectors"}
"""Kinds of plugins whose code becomes part of an exported model."""

Calibration = Callable[[], np.ndarray]
"""Gives images (n, h, w, c) uint8 of the kind that the model will see."""


def load_model(
    path: str | PathLike[str],
    engine: str = "auto",
    precision: str = "float32",
    *,
    calibration: Calibration | None = None,
) -> Model:
    """Open a trained model.

    Parameters
    ----------
    path
        A model file that an installed plugin opens.
    engine
        Name of the engine that shall run it; "auto" takes the fastest that can. The model's
        ``engine`` says which it was.
    precision
        "float32", or "bfloat16" or "int8" on engines that have it, which is faster and less exact.
    calibration
        Gives some images; needed for int8 unless the file holds an int8 model already.

    Raises
    ------
    FileMissingError
    ModelFileError
        When no installed plugin opens such files, or the plugin finds the file damaged.
    MissingDependencyError
        When the engine that was asked for is not installed.
    ValidationError
        On a precision that no engine has.
    """
    return open_model(plan_engine(path, engine, precision), calibration)[0]


@attrs.frozen
class EnginePlan:
    """Which engine shall open a model file.

    Parameters
    ----------
    path, precision
        The model file and the precision asked for.
    engine
        The engine's spec.
    is_choice
        Whether it was chosen here and not by the user: should it fail, another may be taken.
    """

    path: Path
    precision: str
    engine: EngineSpec
    is_choice: bool

    @property
    def is_direct(self) -> bool:
        """Whether the engine opens the file itself."""
        return _suffix(self.path) in self.engine.suffixes


def plan_engine(
    path: str | PathLike[str], engine: str = "auto", precision: str = "float32"
) -> EnginePlan:
    """Choose an engine, quickly and without opening the model; see `load_model`."""
    path = Path(path)
    if precision not in PRECISIONS:
        raise ValidationError(f"precision: expected {', '.join(PRECISIONS)}; found {precision!r}")
    if not path.is_file():
        raise FileMissingError(f"no model at {path}")
    engines = _engines()
    if not any(_suffix(path) in e.suffixes for e in engines):
        raise ModelFileError(_nothing_opens(path, engines))
    if engine == "auto":
        return EnginePlan(path, precision, _best(path, precision, engines), True)
    spec = registry().get("engines", engine)
    assert isinstance(spec, EngineSpec)
    if problem := _problem(spec, path, precision, engines):
        raise problem
    return EnginePlan(path, precision, spec, False)


def open_model(
    plan: EnginePlan, calibration: Calibration | None = None
) -> tuple[Model, EnginePlan]:
    """Open a model as planned; the plan that came true, too.

    They differ where the model cannot be converted for an engine that was chosen here; a
    `DpkWarning` says why.
    """
    try:
        return _open(plan, calibration), plan
    except (DpkError, MemoryError) as error:
        own = [e for e in _engines_that_open(plan.path) if e.is_available]
        if not plan.is_choice or plan.is_direct or plan.precision != "float32" or not own:
            raise
        cause = str(error) or "too little memory"
    other = attrs.evolve(plan, engine=max(own, key=EngineSpec.rank))
    model = _open(other, calibration)
    warnings.warn(
        f"the engine {plan.engine.name}, the fastest here, cannot run {plan.path.name} now; "
        f"{other.engine.name} does instead: {cause}",
        DpkWarning,
        stacklevel=2,
    )
    return model, other


def other_plans(plan: EnginePlan) -> list[EnginePlan]:
    """The same file and precision with each other engine that can run it."""
    engines = _engines()
    others = [e for e in engines if e is not plan.engine]
    able = [e for e in others if _problem(e, plan.path, plan.precision, engines) is None]
    return [attrs.evolve(plan, engine=engine, is_choice=False) for engine in able]


def exported_file(path: str | PathLike[str]) -> Path | None:
    """The ONNX form of a model: the file itself, or a conversion that was made before."""
    path = Path(path)
    if _suffix(path) == ".onnx":
        return path
    if not any(".onnx" in e.exports for e in _engines_that_open(path)):
        return None
    conversion = _exported(path, ".onnx")
    return conversion.path if conversion.is_made else None


def _open(plan: EnginePlan, calibration: Calibration | None) -> Model:
    path = _converted(plan, calibration)
    load = plan.engine.load()
    options = {} if plan.precision == "float32" else {"precision": plan.precision}
    model = load(path, **options)  # most engines know no other precision
    if path != plan.path:
        from dpk_core.services.onnx.model import OnnxModel

        if isinstance(model, OnnxModel):
            model.name_in_errors(plan.path)
    return cast(Model, model)


def _best(path: Path, precision: str, engines: list[EngineSpec]) -> EngineSpec:
    problems: dict[str, DpkError | None] = {
        e.name: _problem(e, path, precision, engines) for e in engines
    }
    able = [e for e in engines if problems[e.name] is None]
    for engine in sorted(able, key=EngineSpec.rank, reverse=True):
        failure = _failure_before(engine, path)
        if failure is None:
            return engine
        problems[engine.name] = ModelFileError(failure)
    own = [e.name for e in engines if _suffix(path) in e.suffixes]
    causes = "\n".join(f"{name}: {problems[name]}" for name in problems if problems[name])
    raise MissingDependencyError(
        f"no installed engine opens {path.name} in {precision}; files of this kind are for "
        f"{' and '.join(own)}\n{causes}"
    )


def _problem(
    engine: EngineSpec, path: Path, precision: str, engines: list[EngineSpec]
) -> DpkError | None:
    """Why an engine cannot run a model file; None when it can."""
    if not engine.is_available:
        return MissingDependencyError(
            f"the engine {engine.name} is not installed" + _install_hint(engine)
        )
    if precision not in engine.precisions:
        return ValidationError(
            f"precision: the engine {engine.name} has {', '.join(engine.precisions)}; found "
            f"{precision!r}"
        )
    if _suffix(path) in engine.suffixes:
        return None
    openers = [e for e in engines if _suffix(path) in e.suffixes]
    exporters = [e for e in openers if _common_form(e, engine)]
    if not exporters:
        return ModelFileError(
            f"the engine {engine.name} opens {', '.join(engine.suffixes)} files, and "
            f"{path.name} cannot be converted to one"
        )
    if not any(e.is_available and e.can_export for e in exporters):
        return MissingDependencyError(
            f"{path.name} has to be converted for the engine {engine.name}, and what does that is "
            "not installed" + _install_hint(exporters[0])
        )
    return None


def _install_hint(engine: EngineSpec) -> str:
    return f"; install it with: {engine.install}" if engine.install else ""


def _failure_before(engine: EngineSpec, path: Path) -> str | None:
    """Why the model could not be converted for the engine when that was tried."""
    if _suffix(path) in engine.suffixes:
        return None
    return _exported(path, _form_for(engine, path)).failure


def _converted(plan: EnginePlan, calibration: Calibration | None) -> Path:
    """A file that the engine opens, in the precision that was asked for."""
    path = plan.path
    if not plan.is_direct:
        conversion = _exported(path, _form_for(plan.engine, path))
        path = conversion.get(lambda target: _export(plan.path, target))
    if plan.precision == "int8" and _suffix(path) == ".onnx":
        path = _quantized(path, calibration)
    return path


def _exported(path: Path, form: str) -> Conversion:
    """Other releases of what exports, and of what the network is made of, make their own."""
    exporters = [e for e in _engines_that_open(path) if form in e.exports]
    packages = {name for e in exporters for name in software_of(e, e.export_requires)}
    # Which of them the file needs is known only after opening it, which takes a framework.
    parts = [p.origin for p in registry().plugins if {kind for kind, _ in p.specs} & _PARTS]
    return Conversion(file_hash(path), form, exported_by=sorted(packages), made_of=sorted(parts))


def _export(source: Path, target: Path) -> None:
    exporters = [
        e
        for e in _engines_that_open(source)
        if e.is_available and e.can_export and _suffix(target) in e.exports
    ]
    max(exporters, key=EngineSpec.rank).load()(source).export(target)


def _form_for(engine: EngineSpec, path: Path) -> str:
    """The suffix of the file that the model has to become for the engine."""
    return next(filter(None, (_common_form(e, engine) for e in _engines_that_open(path))))


def _common_form(exporter: EngineSpec, engine: EngineSpec) -> str | None:
    return next((suffix for suffix in engine.suffixes if suffix in exporter.exports), None)


def software_of(engine: EngineSpec, modules: tuple[str, ...]) -> list[str]:
    """The package that brought an engine, and those of some modules, with their versions."""
    brought_by = [
        plugin.origin
        for plugin in registry().plugins
        for _, spec in plugin.specs
        if spec is engine and plugin.distribution != "dpk-core"
    ]
    return [*brought_by, *(f"{name} {_version(name)}".strip() for name in modules)]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # named otherwise than its module
        return ""


def _quantized(path: Path, calibration: Calibration | None) -> Path:
    from dpk_core.services.onnx.description import OnnxDescription, read_metadata
    from dpk_core.services.onnx.quantize import quantize

    if OnnxDescription.from_metadata(read_metadata(path), path).precision == "int8":
        return path
    if calibration is None:
        raise ValidationError(
            "int8: expected some images to calibrate with, found none; give load_model a "
            "calibration, or export with: dpk export MODEL -o model.onnx --precision int8 "
            "--calibrate IMAGES"
        )
    images = np.ascontiguousarray(calibration())
    digest = hashlib.blake2b(images.tobytes(), digest_size=16).hexdigest()
    conversion = Conversion(file_hash(path), ".onnx", precision="int8", calibration=digest)
    return conversion.get(lambda target: quantize(path, target, images))


def _engines() -> list[EngineSpec]:
    return [spec for spec in registry().specs("engines") if isinstance(spec, EngineSpec)]


def _engines_that_open(path: Path) -> list[EngineSpec]:
    return [engine for engine in _engines() if _suffix(path) in engine.suffixes]


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _nothing_opens(path: Path, engines: list[EngineSpec]) -> str:
    known = ", ".join(dict.fromkeys(suffix for engine in engines for suffix in engine.suffixes))
    message = (
        f"no installed plugin opens {path.name}; expected a file that ends in {known or '.keras'}"
    )
    if not any(".keras" in engine.suffixes for engine in engines):
        message += "; to open .keras files: python -m pip install dpk-models"
    for plugin in registry().failed:
        message += f"\nplugin {plugin.name!r} ({plugin.origin}) failed: {plugin.error}"
    return message
