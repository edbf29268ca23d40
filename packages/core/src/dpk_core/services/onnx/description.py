"""What an ONNX file of ours says about itself, in its metadata.

The entry ``dpk`` is JSON: format version, the model's plugin and hyperparameters, the task with
the skeleton and the image size, precision, and the training record. For programs that know nothing
of dpk there are plain entries beside it: ``keypoints`` (names, with commas between), ``input`` and
``output`` in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from dpk_core.errors import ModelFileError
from dpk_core.task import Task

KEY = "dpk"
FORMAT_VERSION = 1


@attrs.frozen
class OnnxDescription:
    """What is in an exported model.

    Parameters
    ----------
    model
        Name of the model plugin that built the network.
    task
        Image shape, skeleton, stride and scale.
    precision
        "float32" or "int8".
    hyperparameters, record
        Of the model, and of its training (None when it was not trained); JSON values.
    software
        What wrote the file, such as ``("dpk-models 0.1.0", "keras 3.15.1")``.
    """

    model: str
    task: Task
    precision: str = "float32"
    hyperparameters: Mapping[str, Any] = attrs.field(factory=dict)
    record: Mapping[str, Any] | None = None
    software: tuple[str, ...] = attrs.field(default=(), converter=tuple)

    def to_metadata(self) -> dict[str, str]:
        """Text by key, for the file's metadata."""
        height, width, channels = self.task.image_shape
        content = {
            "format": FORMAT_VERSION,
            "model": self.model,
            "task": self.task.to_config(),
            "precision": self.precision,
            "hyperparameters": dict(self.hyperparameters),
            "record": None if self.record is None else dict(self.record),
            "software": list(self.software),
        }
        return {
            KEY: json.dumps(content),
            "keypoints": ",".join(self.task.skeleton.names),
            "input": f"uint8 images (batch, height={height}, width={width}, channels={channels})"
            + (
                f", the original ones scaled by {self.task.scale:g}" if self.task.scale != 1 else ""
            ),
            "output": f"float32 (batch, {self.task.n_keypoints}, 3) of x, y in pixels of the input "
            "with (0, 0) the centre of the top-left one, and a score from 0 to 1"
            + (", an animal each" if self.task.centroids else ""),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> OnnxDescription:
        """The inverse of `to_metadata`.

        Raises
        ------
        ModelFileError
            When the file was not written by dpk, or by a newer one.
        """
        if KEY not in metadata:
            raise ModelFileError(
                f"{path} is an ONNX file, but not one of dpk's (its metadata has no {KEY!r}); "
                "expected one written by: dpk export model.keras model.onnx"
            )
        try:
            content = json.loads(metadata[KEY])
            if int(content["format"]) > FORMAT_VERSION:
                raise ModelFileError(
                    f"{path} was written by a newer dpk (format {content['format']}, this one "
                    f"reads up to {FORMAT_VERSION}); update with: python -m pip install -U dpk-core"
                )
            record = content.get("record")
            return cls(
                model=str(content["model"]),
                task=Task.from_config(content["task"]),
                precision=str(content["precision"]),
                hyperparameters=dict(content.get("hyperparameters", {})),
                record=None if record is None else dict(record),
                software=tuple(map(str, content.get("software", ()))),
            )
        except ModelFileError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ModelFileError(f"{path}: the metadata {KEY!r} is damaged ({error})") from None


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file, with whatever that can be read here.

    Raises
    ------
    ModelFileError
        When the file is damaged.
    MissingDependencyError
        When neither onnx nor onnxruntime is installed.
    """
    from dpk_core.services.onnx import sessions

    try:
        import onnx
    except ImportError:
        return sessions.OnnxRuntimeSession(path).metadata
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors have no common parent but this
        raise ModelFileError(sessions.damaged(path, error)) from None
    return {entry.key: entry.value for entry in model.metadata_props}
