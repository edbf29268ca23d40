"""A trained model in an ONNX file, ready to predict."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dpk_core.errors import DpkError, FileMissingError, ModelFileError, ValidationError
from dpk_core.interfaces import Dataset, Model
from dpk_core.services.inference import Realtime, Run, predict_images
from dpk_core.services.onnx.description import OnnxDescription, read_metadata
from dpk_core.services.onnx.sessions import OnnxRuntimeSession, OpenVinoSession, out_of_memory


class OnnxModel(Model):
    """Predicts with an exported model; it cannot be trained further.

    Parameters
    ----------
    path
        The file it was opened from.
    run
        The session that computes it.
    description
        What the file says about itself.
    engine
        Words for the session, its device and precision.

    Attributes
    ----------
    record
        What is known of the training, such as ``source`` and ``split``.
    """

    def __init__(self, path: Path, run: Run, description: OnnxDescription, engine: str) -> None:
        self.path = path
        self._opened = path
        self.task = description.task
        self.description = description
        self.record = SimpleNamespace(**(description.record or {"split": None, "source": ""}))
        self._run = run
        self._engine = engine

    @property
    def engine(self) -> str:
        return self._engine

    def fit(self, batch_size: int = 16, *, n_workers: int = 1, **options: Any) -> Any:
        raise DpkError(
            f"{self.path} is an exported model and cannot be trained; train the .keras file that "
            "it was exported from"
        )

    def predict(
        self,
        images: np.ndarray | Dataset | Any,
        batch_size: int = 32,
        *,
        mirror: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """(n, h, w, c) uint8 -> (n, k, 3); see `dpk_core.services.inference.predict_images`.

        With ``mirror`` each image is also looked at in the mirror: twice the time for a somewhat
        smaller error, see `dpk_core.services.test_time`.

        Raises
        ------
        DeviceMemoryError
            When so many images at once are too much.
        """
        from dpk_core.services.test_time import check_mirror, with_mirror

        check_mirror(self.task, mirror)
        run = with_mirror(self._run, self.task.skeleton, self.task.sigma) if mirror else self._run
        try:
            return predict_images(run, self.task, images, batch_size, progress)
        except DpkError:
            raise
        except (MemoryError, ValueError) as error:  # NumPy has both for arrays that are too large
            if isinstance(error, ValueError) and not _is_of_size(error):
                raise
            raise out_of_memory(self._opened, batch_size) from error

    def name_in_errors(self, path: Path) -> None:
        """Tell errors of the model file that this one was converted from."""
        self._opened = path
        if hasattr(self._run, "path"):
            self._run.path = path

    def realtime(self) -> Realtime:
        return Realtime(self._run, self.task)

    def evaluate(self, dataset: Dataset | None = None, batch_size: int = 32) -> Mapping[str, Any]:
        """See `dpk_core.services.evaluation.evaluate_on`; needs a dataset."""
        from dpk_core.services.evaluation import evaluate_on

        if dataset is None:
            raise ValidationError("evaluate: expected a dataset; an exported model has none")
        return evaluate_on(self, dataset, batch_size)

    def save(self, path: str | PathLike[str]) -> None:
        """Copy the file; the copy's name, too, has to end in ``.onnx``."""
        from dpk_core.services.storage import atomic_path

        path = Path(path)
        if path.suffix.lower() != ".onnx":
            raise ModelFileError(f"expected a file name that ends in .onnx, found {path.name!r}")
        with atomic_path(path, overwrite=True) as temporary:
            shutil.copyfile(self.path, temporary)

    def export(self, path: str | PathLike[str], **options: Any) -> None:
        raise DpkError(
            f"{self.path} is exported already; export the .keras file that it was made from"
        )

    def __repr__(self) -> str:
        h, w, c = self.task.image_shape
        return f"OnnxModel({self.description.model}, {h}x{w}x{c}, {self.task.finds}, {self.engine})"


def open_with_onnxruntime(path: str | PathLike[str], precision: str = "float32") -> OnnxModel:
    """Open an exported model with ONNX Runtime.

    Raises
    ------
    FileMissingError
    ModelFileError
        When the file is damaged or not one of ours.
    MissingDependencyError
    """
    path = _existing(path)
    session = OnnxRuntimeSession(path, precision)
    return _model(path, session, OnnxDescription.from_metadata(session.metadata, path), precision)


def open_with_openvino(path: str | PathLike[str], precision: str = "float32") -> OnnxModel:
    """Open an exported model with OpenVINO; as `open_with_onnxruntime`."""
    path = _existing(path)
    description = OnnxDescription.from_metadata(read_metadata(path), path)
    return _model(path, OpenVinoSession(path, precision), description, precision)


def _model(path: Path, session: Any, description: OnnxDescription, precision: str) -> OnnxModel:
    if precision == "int8" and description.precision != "int8":
        raise ModelFileError(
            f"{path} holds {description.precision} weights; write one of int8 with: dpk export "
            f"{path} {path.stem}_int8.onnx --precision int8 --calibrate IMAGES"
        )
    effective = description.precision if precision == "float32" else precision
    return OnnxModel(path, session, description, f"{session.description}, {effective}")


def _is_of_size(error: ValueError) -> bool:
    return any(
        words in str(error) for words in ("array is too big", "Maximum allowed", "too large")
    )


def _existing(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileMissingError(f"no model at {path}")
    return path
