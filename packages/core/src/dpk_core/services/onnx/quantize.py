"""Eight-bit weights and activations for an exported network; its peaks stay in full precision."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import MissingDependencyError, ModelFileError, ValidationError
from dpk_core.services.imaging import prepare_images
from dpk_core.services.onnx.description import OnnxDescription, read_metadata
from dpk_core.services.onnx.sessions import INSTALL
from dpk_core.services.storage import atomic_path

QUANTIZED = ("Conv", "ConvTranspose", "Concat", "MaxPool")
"""What is computed in integers: convolutions, and what only moves their values."""

N_CALIBRATION = 32
"""Images that show which range each activation has; more change little."""


def quantize(source: Path, target: Path, images: np.ndarray) -> None:
    """Write an exported model again with int8 convolutions.

    Static quantization (Jacob et al. 2018, CVPR, "Quantization and training of neural networks
    for efficient integer-arithmetic-only inference"), each filter with a scale of its own, as
    ONNX Runtime's tools do it. Everything behind the last convolution, which is where maps become
    coordinates, is left in float32.

    Parameters
    ----------
    source, target
        ONNX files; the target is written whole or not at all, and replaced if it is there.
    images
        (n, h, w, c) uint8 of the size of the original training images: what the network will see.
        About `N_CALIBRATION` of them, unlike each other, are enough.

    Raises
    ------
    MissingDependencyError
    ModelFileError
        When the source is not an exported model of ours, is int8 already, or has nothing that
        could be computed in integers.
    ValidationError
        Without images, or on images of another size.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError:
        raise MissingDependencyError(
            f"int8 needs onnx and onnxruntime; install them with: {INSTALL}"
        ) from None
    description = OnnxDescription.from_metadata(read_metadata(source), source)
    if description.precision == "int8":
        raise ModelFileError(f"{source} holds an int8 model already; expected one in float32")
    if not len(images):
        raise ValidationError("int8: expected some images to calibrate with, found none")
    prepared = prepare_images(images, description.task)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, name: str) -> None:
            self._batches: Iterator[dict[str, np.ndarray]] = (
                {name: prepared[i : i + 4]} for i in range(0, len(prepared), 4)
            )

        def get_next(self) -> Any:
            return next(self._batches, None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        shaped = Path(folder) / "shaped.onnx"
        quantized = Path(folder) / "int8.onnx"
        try:
            quantization.quant_pre_process(str(source), str(shaped), skip_symbolic_shape=True)
            graph = onnx.load(shaped).graph
            quantization.quantize_static(
                str(shaped),
                str(quantized),
                Reader(graph.input[0].name),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED),
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=_behind_last_convolution(graph),
            )
        except Exception as error:  # the quantizer raises whatever its parts do
            raise ModelFileError(
                f"{source} could not be made int8 ({type(error).__name__}: {str(error)[:300]}); "
                "it still predicts in float32"
            ) from error
        model = onnx.load(quantized)
        described = attrs.evolve(description, precision="int8")
        onnx.helper.set_model_props(model, described.to_metadata())
        with atomic_path(target, overwrite=True) as temporary:
            onnx.save(model, str(temporary))


def _behind_last_convolution(graph: Any) -> list[str]:
    """Names of the nodes after the last convolution, which are in order of computation."""
    kinds = [node.op_type for node in graph.node]
    convolutions = [i for i, kind in enumerate(kinds) if kind in ("Conv", "ConvTranspose")]
    if not convolutions:
        raise ValueError("it has no convolution, which is what int8 makes faster")
    last = max(convolutions)
    return [node.name for node in graph.node[last + 1 :]]


class _quiet:
    """Silence advice of the quantizer that is meant for its own command line."""

    def __enter__(self) -> None:
        self._level = logging.root.level
        logging.root.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.root.setLevel(self._level)
