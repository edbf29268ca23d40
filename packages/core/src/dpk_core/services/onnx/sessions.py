"""The programs that run ONNX files, behind one face: uint8 images in, coordinates out."""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.errors import (
    DeviceMemoryError,
    DpkError,
    MissingDependencyError,
    ModelFileError,
    ValidationError,
)
from dpk_core.services.devices import framework_has_gpu, has_gpu

CPU_PIECE, GPU_PIECE = 4, 128
"""Images that ONNX Runtime gets at once. On a CPU a few stay in the caches: at 192x192 and on two
cores, pieces of 4 were a third faster than 32, and need a tenth of the memory."""

SPIN = "30"
"""Microseconds that a thread without work waits for more before it sleeps."""

_OUT_OF_MEMORY = ("Failed to allocate", "bad_alloc", "out of memory", "bad allocation")
"""In the messages of both, which have no class of error for it."""

INSTALL = "python -m pip install 'dpk-core[onnx]'"
INSTALL_OPENVINO = "python -m pip install 'dpk-core[openvino]'"


def onnxruntime_priority() -> int:
    """How ONNX Runtime ranks among the engines of this machine: first on a CPU."""
    if has_gpu() and "CUDAExecutionProvider" in _onnxruntime().get_available_providers():
        return 40
    return 5 if framework_has_gpu() else 30


def openvino_priority() -> int:
    """OpenVINO runs on CPUs: on x86, 3 to 40 % faster than ONNX Runtime for the models measured."""
    if framework_has_gpu():
        return 4
    return 35 if platform.machine().lower() in ("x86_64", "amd64") else 20


class OnnxRuntimeSession:
    """ONNX Runtime, on a GPU where its build and the machine have one, else on all CPU cores.

    Attributes
    ----------
    path
        The file to name when it does not run.

    Raises
    ------
    MissingDependencyError
    ModelFileError
    """

    def __init__(self, path: Path, precision: str = "float32", threads: int | None = None) -> None:
        _check_precision("onnxruntime", precision, ("float32", "int8"))
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 4  # errors are raised, too
        # Threads that wait give up their core after some microseconds, and share the work in small
        # pieces: with ONNX Runtime's own settings a video decoder or another program on the same
        # cores halves the speed. Not to spin at all costs a fifth on an idle machine.
        options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN)
        options.add_session_config_entry("session.dynamic_block_base", "4")
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [p for p in wanted if p in runtime.get_available_providers()]
        # Falling back from the CPU to the CPU only tells of it, loudly.
        fall_back = {"enable_fallback": int(len(providers) > 1)}
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=providers, **fall_back
            )
            self._input = self._session.get_inputs()[0].name
            self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        except Exception as error:  # each of its errors is a class of its own below Exception
            raise ModelFileError(damaged(path, error)) from None
        self.path = path
        device = "GPU" if "CUDAExecutionProvider" in self._session.get_providers() else "CPU"
        self._piece = GPU_PIECE if device == "GPU" else CPU_PIECE
        self.description = f"onnxruntime {runtime.__version__}, {device}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        n = len(images)
        try:
            pieces = [
                self._session.run(None, {self._input: images[i : i + self._piece]})[0]
                for i in range(0, n, self._piece)
            ]
        except Exception as error:  # as above
            raise failed(self.path, error, n) from error
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class OpenVinoSession:
    """OpenVINO on all CPU cores, in float32 or, where the CPU has it, bfloat16."""

    def __init__(self, path: Path, precision: str = "float32", threads: int | None = None) -> None:
        _check_precision("openvino", precision, ("float32", "bfloat16", "int8"))
        try:
            import onnx
            import openvino
        except ImportError:
            raise MissingDependencyError(
                f"the engine openvino is not installed; install it with: {INSTALL_OPENVINO}"
            ) from None
        core = openvino.Core()
        if precision == "bfloat16" and "BF16" not in core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            raise ValidationError(
                "precision: this CPU has no bfloat16 instructions; choose float32 or int8"
            )
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
        }
        try:
            # What is not quite an ONNX file may crash OpenVINO, and with it the process.
            onnx.checker.check_model(str(path))
            model = core.compile_model(core.read_model(str(path)), "CPU", settings)
            self._request = model.create_infer_request()
        except Exception as error:  # onnx raises protobuf's errors, OpenVINO RuntimeError
            raise ModelFileError(damaged(path, error)) from None
        self.path = path
        self._only_one = threading.Lock()  # a request computes one batch at a time
        self.description = f"openvino {openvino.__version__.split('-')[0]}, CPU"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        # The request owns the memory of its outputs and writes to it again in the next call.
        try:
            with self._only_one:
                return np.array(next(iter(self._request.infer([images]).values())))
        except (RuntimeError, MemoryError) as error:
            raise failed(self.path, error, len(images)) from error


def usable_cores() -> int:
    """CPU cores that this process may use: a cluster's scheduler often grants only some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def failed(path: Path, error: Exception, n_images: int) -> DpkError:
    """What to raise when a model that was opened does not run."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        return out_of_memory(path, n_images)
    return ModelFileError(
        f"{path} was opened, but cannot be run on {n_images} images ({_cause(error)}); try another "
        "engine, or see whether the file is damaged"
    )


def out_of_memory(path: Path, n_images: int) -> DeviceMemoryError:
    """What to raise when images at once are too many."""
    half = n_images // 2
    remedy = (
        f"try a smaller batch, such as batch_size={half} (--batch-size {half})"
        if half
        else "close other programs, or use a smaller network"
    )
    return DeviceMemoryError(f"{path}: too little memory for {n_images} images at once; {remedy}")


def damaged(path: Path, error: Exception) -> str:
    """What to say of a file that cannot be opened."""
    return (
        f"{path} is cut short or not an ONNX model that runs here ({_cause(error)}); expected "
        "one written by: dpk export model.keras model.onnx"
    )


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    # OpenVINO begins with places in its own source.
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (" ".join(filter(None, told)) or type(error).__name__)[:300]


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            f"the engine onnxruntime is not installed; install it with: {INSTALL}"
        ) from None
    return onnxruntime


def _check_precision(engine: str, found: str, known: tuple[str, ...]) -> None:
    if found not in known:
        raise ValidationError(
            f"precision: the engine {engine} has {', '.join(known)}; found {found!r}"
        )
