"""Train a model by name and save it."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import attrs

from dpk_core.errors import OutputExistsError, ValidationError
from dpk_core.interfaces import Dataset, Model
from dpk_core.progress import TrainProgressCallback
from dpk_core.services.generator import TrainingGenerator
from dpk_core.services.plugins import registry
from dpk_core.services.storage.atomic import check_output
from dpk_core.specs import EngineSpec

RUN_SUFFIX = ".run"


@attrs.frozen
class Training:
    """What became of a training.

    Parameters
    ----------
    output
        The model file.
    run_dir
        The folder with log, split and checkpoints.
    description
        The model and the data in words.
    record
        What the model's ``fit`` gave.
    """

    output: Path
    run_dir: Path
    description: str
    record: Any

    @property
    def stopped(self) -> str:
        """Why training ended, such as "no improvement" or "interrupted"."""
        return str(getattr(self.record, "stopped", "finished"))

    @property
    def was_interrupted(self) -> bool:
        """Stopped by Ctrl-C; what was saved is the best so far, and the run can be continued."""
        return self.stopped == "interrupted"

    @property
    def notes(self) -> list[str]:
        """What went on, but not as well as it could, and what to do about it."""
        return list(getattr(self.record, "notes", None) or [])

    @property
    def best(self) -> Mapping[str, float]:
        """The line of the log of the epoch whose weights were saved; empty when there is none."""
        history = getattr(self.record, "history", None) or []
        epoch = getattr(self.record, "best_epoch", 0)
        return history[epoch - 1] if 0 < epoch <= len(history) else {}

    @property
    def validation_error_px(self) -> float:
        """Mean error of the saved weights on the validation images, NaN when not known."""
        return float(self.best.get("val_error_px", math.nan))


def train_model(
    source: str | PathLike[str] | Dataset,
    model: str = "StackedDenseNet",
    output: str | PathLike[str] = "model.keras",
    *,
    hyperparameters: Mapping[str, Any] | None = None,
    generator_options: Mapping[str, Any] | None = None,
    fit_options: Mapping[str, Any] | None = None,
    run_dir: str | PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: TrainProgressCallback | None = None,
    on_start: Callable[[str], None] | None = None,
) -> Training:
    """Train a model on labelled images and save it.

    Parameters
    ----------
    source
        As for `TrainingGenerator`.
    model
        Name of a model plugin.
    output
        The model file.
    hyperparameters, generator_options, fit_options
        For the model class, for `TrainingGenerator`, and for the model's ``fit``. Without a
        ``downsample_factor``, the model's ``suited_downsample_factor`` is taken.
    run_dir
        Folder for log, split and checkpoints. Default: ``output`` with the suffix ``.run``.
    resume
        Continue the training in ``run_dir``.
    overwrite
        Replace an output and a run that are there.
    progress
        Called with a `TrainProgress` after each step.
    on_start
        Called with a text that describes model and data before the training begins.

    Raises
    ------
    PluginError
        When no installed plugin has that model.
    ValidationError
        On data or options that don't fit.
    TrainingError, DeviceMemoryError
        When nothing could be learned; nothing is saved then. The message says what to try.
    OutputExistsError, OutputError
        Before anything is trained.
    FileMissingError, FileFormatError
        Also when the run to resume is not there, or is of another training.
    """
    output = Path(output)
    run_dir = output.with_suffix(RUN_SUFFIX) if run_dir is None else Path(run_dir)
    model_class = registry().get("models", model).load()
    check_hyperparameters(model, model_class, hyperparameters or {})
    _check_outputs(model, output, run_dir, resume=resume, overwrite=overwrite)
    generator = TrainingGenerator(source, **_suited(model_class, generator_options or {}))
    network: Model = model_class(generator, **(hyperparameters or {}))
    description = f"{network!r}\n{generator!r}"
    if on_start is not None:
        on_start(description)
    record = network.fit(
        run_dir=run_dir,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        **(fit_options or {}),
    )
    network.save(output)
    return Training(output, run_dir, description, record)


def check_hyperparameters(name: str, model_class: type, given: Mapping[str, Any]) -> None:
    """ValidationError, with what there is, on a hyperparameter that the class does not have."""
    parameters = inspect.signature(model_class).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    known = list(parameters)[1:]
    for setting in given:
        if setting in known:
            continue
        close = difflib.get_close_matches(setting, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValidationError(
            f"{name} has no hyperparameter {setting!r}; it has {', '.join(known) or 'none'}{hint}"
        )


def _suited(model_class: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with the size of confidence maps that the model is made for."""
    suited = getattr(model_class, "suited_downsample_factor", None)
    if suited is None or options.get("downsample_factor") is not None:
        return dict(options)
    return {**options, "downsample_factor": suited}


def _check_outputs(
    model: str, output: Path, run_dir: Path, *, resume: bool, overwrite: bool
) -> None:
    """Refuse now rather than after hours of training."""
    suffixes = _suffixes(model)
    if suffixes and output.suffix not in suffixes:
        raise ValidationError(
            f"output: expected a name that ends in {' or '.join(suffixes)}, found {output.name!r}"
        )
    if (run_dir / "run.json").exists() and not resume and not overwrite:
        raise OutputExistsError(
            f"{run_dir} holds a training already; continue it (--resume, resume=True), replace it "
            "(--force, overwrite=True), or choose another output"
        )
    check_output(output, overwrite=overwrite or resume)


def _suffixes(model: str) -> list[str]:
    """Of the files that the model's own plugin opens; of all plugins' when it opens none."""
    wanted = registry().get("models", model)
    everyones: list[str] = []
    for plugin in registry().plugins:
        found = [
            s for _, spec in plugin.specs if isinstance(spec, EngineSpec) for s in spec.suffixes
        ]
        if found and any(spec is wanted for _, spec in plugin.specs):
            return found
        everyones += found
    return everyones
