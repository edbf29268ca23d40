"""What a model file was trained for, told without opening the model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from dpk_core.errors import ModelFileError, ValidationError
from dpk_core.task import Task

DESCRIPTION = "dpk.json"
"""Member of a ``.keras`` archive in which dpk-models describes the model."""


def read_task(path: Path) -> Task | None:
    """The `Task` of a ``.keras`` or ``.onnx`` file; None for other files, which have to be opened.

    Raises
    ------
    ModelFileError
        When the file is damaged, or not ours.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from dpk_core.services.onnx.description import OnnxDescription, read_metadata

        return OnnxDescription.from_metadata(read_metadata(path), path).task
    if suffix != ".keras":
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return Task.from_config(json.loads(archive.read(DESCRIPTION))["task"])
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"{path} is cut short or was not written by dpk ({error}); expected a file written by "
            "model.save()"
        ) from None


def check_finds_poses(task: Task | None, path: Path) -> None:
    """ValidationError, with what to do, when a model is a detector; an unknown task passes."""
    if task is not None and task.centroids is not None:
        raise ValidationError(
            f"{path} is a detector, which finds {task.finds}; expected a model of poses. Find "
            f"animals with it by: dpk track VIDEO --detector centroids --detector-set model={path}"
        )


def check_finds_centroids(task: Task | None, path: Path) -> None:
    """ValidationError, with what to do, when a model is one of poses; an unknown task passes."""
    if task is not None and task.centroids is None:
        raise ValidationError(
            f"{path} is a model of poses with {task.finds}; expected a detector of centroids. "
            "Train one with: dpk train LABELS --target centroids -o detector.keras"
        )
