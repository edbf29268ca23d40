"""What is in a file, whichever of ours (or of an installed plugin's) it is."""

from __future__ import annotations

import json
import zipfile
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpk_core.errors import (
    DpkError,
    FileFormatError,
    FileMissingError,
    ModelFileError,
    VideoError,
)
from dpk_core.losses import LossReport
from dpk_core.services.model_task import DESCRIPTION

if TYPE_CHECKING:
    from dpk_core.services.formats import FoundFormat

_VIDEOS = (".mp4", ".avi", ".mov", ".m4v", ".mkv", ".mpg", ".mpeg", ".webm", ".wmv", ".ts")

MODEL_FORMAT = 1
"""The newest version of that description which is known here."""


def describe_file(path: str | PathLike[str], *, check: bool = False) -> dict[str, Any]:
    """Facts about a file or folder by name, "kind" first; JSON values.

    Knows annotation sets, poses, tracks, models (exported ones too), skeletons, videos, training
    runs, and what format plugins recognise. Reads as little as it can; a model's plugin need not
    be installed.

    Parameters
    ----------
    check
        Decode all of a video and tell which frames can be read.

    Raises
    ------
    FileMissingError
    FileFormatError
        When nothing knows the file, or it is damaged.
    MissingDependencyError
        For an exported model, when nothing is installed that reads it.
    """
    path = Path(path)
    if not path.exists():
        raise FileMissingError(f"no file at {path}")
    suffix = path.suffix.lower()
    if path.is_dir():
        return _run_folder(path) or _by_plugin(path) or _refuse(path)
    if suffix in (".h5", ".hdf5"):
        return _hdf5(path)
    if suffix == ".keras":
        return _model(path)
    if suffix == ".onnx":
        return _exported_model(path)
    if suffix == ".csv":
        return _skeleton(path)
    return _video(path, check)


def _hdf5(path: Path) -> dict[str, Any]:
    from dpk_core.services.storage import describe

    facts = describe(path)
    if facts.get("kind") == "unknown HDF5":
        return _by_plugin(path) or facts
    return facts


def _model(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if DESCRIPTION not in archive.namelist():
                raise ModelFileError(
                    f"{path} was not written by dpk (no {DESCRIPTION} in it); expected a "
                    "file written by model.save()"
                )
            stored = json.loads(archive.read(DESCRIPTION))
        if stored["format"] > MODEL_FORMAT:
            raise ModelFileError(
                f"{path} was written by a newer dpk (format {stored['format']}, this one reads up "
                f"to {MODEL_FORMAT}); update with: python -m pip install -U dpk-core "
                f"{stored.get('distribution', 'dpk-models')}"
            )
        return _model_facts(stored)
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(
            f"{path} is cut short or not a model file ({error}); expected a .keras file written "
            "by model.save(); copy it again or train again"
        ) from None


def _exported_model(path: Path) -> dict[str, Any]:
    from dpk_core.services.onnx.description import OnnxDescription, read_metadata

    description = OnnxDescription.from_metadata(read_metadata(path), path)
    software = ", ".join(description.software) or "unknown software"
    stored = {
        "model": description.model,
        "task": description.task.to_config(),
        "hyperparameters": dict(description.hyperparameters),
        "record": description.record,
    }
    return {
        **_model_facts(stored),
        "needs": f"dpk-core[onnx] or dpk-core[openvino] (written by {software})",
        "output": f"x, y and score of {description.task.finds}",
        "precision": description.precision,
    }


def _model_facts(stored: dict[str, Any]) -> dict[str, Any]:
    from dpk_core.task import Task

    task = Task.from_config(stored["task"])
    height, width, channels = task.image_shape
    facts: dict[str, Any] = {
        "kind": "model",
        "model": stored["model"],
        "needs": f"{stored.get('distribution')} (written by {stored.get('distribution_version')})",
        "images": f"{height}x{width}x{channels} after scaling by {task.scale:g}",
        "output": f"{task.output_shape[0]}x{task.output_shape[1]} maps, "
        f"{task.finds}"
        + (f" and {task.n_graph_channels} of the posture graph" if task.n_graph_channels else ""),
        "hyperparameters": stored.get("hyperparameters", {}),
        "skeleton": repr(task.skeleton),
        "keypoints": list(task.skeleton.names),
    }
    record = stored.get("record")
    return {**facts, "training": _training_facts(record) if record else "none"}


def _training_facts(record: dict[str, Any]) -> dict[str, Any]:
    history, best = record.get("history", []), record.get("best_epoch", 0)
    facts: dict[str, Any] = {
        "source": record.get("source", ""),
        "epochs": len(history),
        "minutes": round(record.get("seconds", 0) / 60, 1),
        "stopped": record.get("stopped", ""),
    }
    split = record.get("split") or {}
    if "train" in split and "validation" in split:
        facts["images"] = f"{len(split['train'])} training, {len(split['validation'])} validation"
    if 0 < best <= len(history):
        facts["best epoch"] = best
        facts["validation error, px"] = history[best - 1].get("val_error_px")
    return facts


def _skeleton(path: Path) -> dict[str, Any]:
    from dpk_core.skeleton import Skeleton

    try:
        skeleton = Skeleton.from_csv(path)
    except DpkError:
        found = _by_plugin(path)
        if found is None:
            raise
        return found
    facts: dict[str, Any] = {
        "kind": "skeleton",
        "content": repr(skeleton),
        "keypoints": list(skeleton.names),
    }
    if skeleton.one_sided_swaps:
        facts["one-sided swaps"] = [f"{a} -> {b}" for a, b in skeleton.one_sided_swaps]
    return facts


def _video(path: Path, check: bool) -> dict[str, Any]:
    from dpk_core.services.video import VideoReader

    try:
        reader = VideoReader(path)
    except VideoError:
        found = _by_plugin(path)
        if found is None:
            if path.suffix.lower() not in _VIDEOS:
                _identified(path)  # raises, and says what is known of such a file
            raise
        return found
    with reader:
        facts: dict[str, Any] = {
            "kind": "video",
            "frames": len(reader),
            "size": f"{reader.shape[0]}x{reader.shape[1]} (height x width)",
            "codec": reader.codec,
            "frames per second": reader.fps,
            "seconds": round(len(reader) / reader.fps, 3) if reader.fps else None,
        }
        if check:
            facts["check"] = str(reader.check())
    return facts


def _run_folder(path: Path) -> dict[str, Any] | None:
    """A training's folder: what its run.json and record.json say."""
    run, record = path / "run.json", path / "record.json"
    if not run.is_file():
        return None
    try:
        identity = json.loads(run.read_text(encoding="utf-8"))
        ended = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
    except ValueError as error:
        raise FileFormatError(f"{path} is a damaged training run ({error})") from None
    return {
        "kind": "training run",
        "model": identity.get("model"),
        "hyperparameters": identity.get("hyperparameters"),
        "batch size": identity.get("batch_size"),
        "training": _training_facts(ended) if ended else "not ended; continue it with --resume",
    }


def _by_plugin(path: Path) -> dict[str, Any] | None:
    """What the format that recognises the file finds in it."""
    from dpk_core.services.formats import OURS

    try:
        found = _identified(path)
    except FileFormatError:
        return None
    if found.spec.name == OURS:
        return None
    contents, lost, missing = [], [], []
    for kind in found.kinds:
        report = LossReport()
        try:
            contents.append(found.format.read(path, kind, report=report))
        except FileMissingError as error:  # videos of the labels, most often
            missing.append(str(error))
        which = f"as {kind}: " if len(found.kinds) > 1 else ""
        lost += [f"{which}{loss}" for loss in report]
    facts: dict[str, Any] = {
        "kind": f"{found.spec.name} ({found.spec.summary})",
        "content": "; ".join(map(repr, contents)) or ", ".join(found.kinds),
    }
    skeleton = next((c.skeleton for c in contents if hasattr(c, "skeleton")), None)
    if skeleton is not None:
        facts |= {"skeleton": repr(skeleton), "keypoints": list(skeleton.names)}
    if missing:
        facts["not there"] = missing
    return {**facts, "dpk cannot hold": lost} if lost else facts


def _identified(path: Path) -> FoundFormat:
    from dpk_core.services.formats import identify

    return identify(path)


def _refuse(path: Path) -> dict[str, Any]:
    raise FileFormatError(
        f"{path} is a folder that neither dpk nor an installed plugin knows; expected a training "
        "run or another program's project (`dpk plugins` lists the formats)"
    )
