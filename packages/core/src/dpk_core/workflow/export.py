"""Export a trained model for other programs."""

from __future__ import annotations

import tempfile
from os import PathLike
from pathlib import Path

from dpk_core.errors import ModelFileError, ValidationError
from dpk_core.services.engines import open_model, plan_engine
from dpk_core.services.storage.atomic import check_output
from dpk_core.workflow.frames import calibration_frames, open_frames


def export_model(
    model_path: str | PathLike[str],
    output: str | PathLike[str],
    *,
    precision: str = "float32",
    calibrate: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> str:
    """Write a model as one file from uint8 images to coordinates.

    Parameters
    ----------
    model_path
        A trained model; or, to make int8 of it, one exported to ``.onnx`` before.
    output
        Its suffix says the format.
    precision
        "float32", or "int8" for ``.onnx``.
    calibrate
        For int8: a video, labelled set or folder of images like those that the model will see.

    Returns
    -------
    What was written, in words.

    Raises
    ------
    FileMissingError, ModelFileError, MissingDependencyError
    ValidationError
        On int8 without images, or for another format than ONNX.
    OutputExistsError, OutputError
    DpkError
        When the model cannot be exported.
    """
    model_path, output = Path(model_path), Path(output)
    check_output(output, overwrite=overwrite)
    if precision not in ("float32", "int8"):
        raise ValidationError(
            f"precision: a file holds float32 or int8, found {precision!r}; other precisions are "
            "chosen when it is run"
        )
    if precision == "float32":
        plan = plan_engine(model_path, _opener(model_path))
        model, _ = open_model(plan)
        model.export(output, overwrite=overwrite)
        return f"{plan.engine.name} model with its peaks, float32"
    return _export_int8(model_path, output, calibrate, overwrite)


def _export_int8(
    model_path: Path, output: Path, calibrate: str | PathLike[str] | None, overwrite: bool
) -> str:
    from dpk_core.services.onnx.quantize import quantize

    if output.suffix.lower() != ".onnx":
        raise ValidationError(f"int8: expected a file that ends in .onnx, found {output.name!r}")
    if calibrate is None:
        raise ValidationError(
            "int8: expected images to calibrate with (--calibrate), found none; give a video, a "
            "labelled set or a folder of images like those that the model will see"
        )
    with open_frames(calibrate) as source:
        images = calibration_frames(source)
    with tempfile.TemporaryDirectory() as folder:
        exact = model_path
        if model_path.suffix.lower() != ".onnx":
            exact = Path(folder) / "float32.onnx"
            export_model(model_path, exact)
        quantize(exact, output, images)
    return f"int8, calibrated on {len(images)} images of {calibrate}"


def _opener(path: Path) -> str:
    """The engine that opens the file itself and can export."""
    from dpk_core.services.plugins import registry
    from dpk_core.specs import EngineSpec

    for spec in registry().specs("engines"):
        if isinstance(spec, EngineSpec) and path.suffix.lower() in spec.suffixes and spec.exports:
            return spec.name
    if path.suffix.lower() == ".onnx":
        raise ModelFileError(
            f"{path} is exported already; with --precision int8 it can be made smaller and faster"
        )
    return "auto"
