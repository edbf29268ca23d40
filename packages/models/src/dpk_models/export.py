"""Exporting a model with its peaks: one file from uint8 images to coordinates."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dpk_core.errors import DpkError, MissingDependencyError, ModelFileError
from dpk_core.services.conversion import may_pass
from dpk_core.services.onnx.description import OnnxDescription
from dpk_core.services.storage import atomic_path
from dpk_core.services.storage.atomic import check_output
from dpk_models.onnx_rewrites import spell_out_selu
from dpk_models.saving import describe_model, load_model

if TYPE_CHECKING:
    from dpk_models.base import PoseModel

FORMATS = {".onnx": "onnx", ".xml": "openvino", ".tflite": "litert"}
"""Keras' name of the format for each suffix."""

INSTALL = "python -m pip install 'dpk-models[onnx]'"

TOLERANCE_PX = 0.05
"""Engines agree this well, in pixels of the network's images, on peaks that are clear."""

_CANNOT = 3
"""Exit code of a process that found that a network cannot be exported."""


class ExportError(DpkError):
    """A network that cannot be exported."""


def export_model(
    model: PoseModel, path: str | PathLike[str], *, overwrite: bool = True, check: bool = True
) -> None:
    """Write a model for other programs, whole or not at all; see `PoseModel.export`."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ModelFileError(
            f"expected a file name that ends in {', '.join(FORMATS)}, found {path.name!r}"
        )
    check_output(path, overwrite=overwrite)
    if keras.backend.backend() != "tensorflow":
        _export_in_tensorflow(model, path, overwrite, check)
        return
    if path.suffix.lower() == ".onnx":
        with atomic_path(path, overwrite=overwrite) as temporary:
            _export_onnx(model, Path(temporary), check)
    else:
        _export_other(model, path, overwrite)


def _export_onnx(model: PoseModel, path: Path, check: bool) -> None:
    try:
        import onnx
        import tf2onnx  # noqa: F401  (Keras imports it, and says less when it is missing)
    except ImportError as error:
        raise MissingDependencyError(
            f"exporting to ONNX needs {error.name}; install it with: {INSTALL}"
        ) from None
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        try:
            _functional(model).export(str(raw), format="onnx", verbose=False)
        except Exception as error:  # whatever the converter raises
            raise ExportError(_cannot(model, error)) from error
        exported = onnx.load(raw)
    _check_operators(model, exported)
    _name_ports(exported)
    spell_out_selu(exported)
    onnx.helper.set_model_props(exported, _description(model).to_metadata())
    exported.producer_name = "dpk-models"
    onnx.save(exported, str(path))
    if check:
        _check_agreement(model, path)


def _functional(model: PoseModel) -> keras.Model:
    """The prediction as one functional model with a named input."""
    images = keras.Input(model.task.image_shape, dtype="uint8", name="images")
    whole = keras.Model(images, model.predictor(images))
    whole(np.zeros((1, *model.task.image_shape), np.uint8))
    return whole


def _check_operators(model: PoseModel, exported: Any) -> None:
    """The converter leaves TensorFlow's own operators in place where it knows nothing better."""
    import onnx

    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    foreign = sorted({n.op_type for n in exported.graph.node if n.op_type not in known})
    if foreign:
        raise ExportError(
            _cannot(model, f"ONNX has no equivalent of the operation {', '.join(foreign)}")
        )


def _name_ports(exported: Any) -> None:
    """Call the input images and the output keypoints; say that the batch may have any size."""
    graph = exported.graph
    names = {graph.input[0].name: "images", graph.output[0].name: "keypoints"}
    for node in graph.node:
        for ports in (node.input, node.output):
            for i, name in enumerate(ports):
                ports[i] = names.get(name, name)
    for port in (graph.input[0], graph.output[0]):
        port.name = names[port.name]
        port.type.tensor_type.shape.dim[0].dim_param = "batch"


def _description(model: PoseModel) -> OnnxDescription:
    about = describe_model(model)
    return OnnxDescription(
        model=about["model"],
        task=model.task,
        hyperparameters=about["hyperparameters"],
        record=about["record"],
        software=(
            f"{about['distribution']} {about['distribution_version']}",
            f"keras {keras.__version__}",
        ),
    )


def _check_agreement(model: PoseModel, path: Path) -> None:
    """Compare with this model's predictions, where ONNX Runtime is installed."""
    from dpk_core.services.onnx.sessions import OnnxRuntimeSession

    try:
        session = OnnxRuntimeSession(path)
    except MissingDependencyError:
        return
    images = np.random.default_rng(0).integers(0, 256, (2, *model.task.image_shape), np.uint8)
    expected = model._run(images)
    try:
        found = session(images)
    except Exception as error:  # each of its errors is a class of its own below Exception
        raise ExportError(_cannot(model, error)) from error
    if model.task.centroids is not None:
        found, expected = _nearest(found, expected)
    # Where nothing was learned yet, all maps are noise and the least rounding moves the maximum
    # elsewhere: then only scores tell, which don't jump.
    score_off = float(np.abs(found[..., 2] - expected[..., 2]).max())
    clear = expected[..., 2] > 0.5
    off = np.abs(found[..., :2] - expected[..., :2]).max(axis=-1)[clear]
    if not np.isfinite(found).all() or score_off > 1e-2 or (off > TOLERANCE_PX).any():
        raise ExportError(
            f"the exported {type(model).__name__} predicts otherwise than the original: "
            f"coordinates are up to {off.max() if len(off) else 0:.3f} px off, scores "
            f"{score_off:.4f}; predict with engine='keras' instead"
        )


def _nearest(found: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each image the surest animal, (n, 1, 3), and what was found nearest to it.

    The rest changes places, and comes and goes, with the least rounding.
    """
    surest = expected[:, :1]
    distance = np.linalg.norm(found[..., :2] - surest[..., :2], axis=2)
    nearest = np.take_along_axis(found, distance.argmin(axis=1)[:, None, None], axis=1)
    # The highest value of a map, unlike the place where it is, hardly moves.
    return np.concatenate([nearest[..., :2], found[:, :1, 2:]], axis=2), surest


def _export_other(model: PoseModel, path: Path, overwrite: bool) -> None:
    """OpenVINO and LiteRT, as far as Keras and what is installed can."""
    form = FORMATS[path.suffix.lower()]
    with _quiet(), tempfile.TemporaryDirectory(dir=path.parent, prefix=".dpk-") as folder:
        made = Path(folder) / path.name
        try:
            _functional(model).export(str(made), format=form, verbose=False)
        except ImportError as error:
            raise MissingDependencyError(
                f"exporting to {path.suffix} needs {error.name or error}; install it with: "
                f"python -m pip install {'openvino' if form == 'openvino' else 'ai-edge-litert'}"
            ) from None
        except Exception as error:  # whatever the converter raises
            raise ExportError(_cannot(model, error)) from error
        # OpenVINO keeps weights in a file of its own; the one that was asked for comes last.
        pieces = sorted(Path(folder).iterdir(), key=lambda piece: piece.name == path.name)
        for piece in pieces:
            check_output(path.with_name(piece.name), overwrite=overwrite)
        for piece in pieces:
            os.replace(piece, path.with_name(piece.name))


def _export_in_tensorflow(model: PoseModel, path: Path, overwrite: bool, check: bool) -> None:
    """A model file is the same for all backends, and TensorFlow's has the best converters."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model.keras"
        model.save(saved)
        done = subprocess.run(
            [sys.executable, "-m", "dpk_models.export", saved, path.absolute(), str(int(check)),
             str(int(overwrite))],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        # What failed for want of memory or disk, or was killed, may go well another time.
        ended = ChildProcessError(f"exit code {done.returncode}")
        cause = None if done.returncode == _CANNOT else ended
        raise ExportError(f"{type(model).__name__} could not be exported: {lines[-1]}") from cause


def _cannot(model: PoseModel, cause: object) -> str:
    text = str(cause).strip() or type(cause).__name__
    return (
        f"{type(model).__name__} could not be exported: {text[:500]}; it still predicts with the "
        "engine keras"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """The converter tells of its passes, NumPy of the converter's age, TensorFlow of devices.

    TensorFlow writes to the file descriptor itself, so that is what has to be turned away.
    """
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        logger.setLevel(level)


def _main(source: str, target: str, check: str, overwrite: str) -> None:
    try:
        export_model(load_model(source), target, check=check == "1", overwrite=overwrite == "1")
    except DpkError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(1 if may_pass(error) else _CANNOT)


if __name__ == "__main__":
    _main(*sys.argv[1:])
