"""What the machine has, found out without importing a deep-learning framework."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path


def framework_priority() -> int:
    """How a deep-learning framework ranks among the engines here: first on a GPU it can use."""
    return 30 if framework_has_gpu() else 10


def framework_has_gpu() -> bool:
    """Whether there is a GPU and Keras' backend was installed with what it needs to use it."""
    return has_gpu() and backend_has_cuda(keras_backend())


def keras_backend() -> str:
    """The backend that Keras will take, by the rules of keras/src/backend/config.py (Keras 3)."""
    if chosen := os.environ.get("KERAS_BACKEND"):
        return chosen
    home = os.environ.get("KERAS_HOME")
    folder = Path(home) if home else Path(os.path.expanduser("~")) / ".keras"
    try:
        settings = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
        return str(settings["backend"])
    except (OSError, ValueError, LookupError, TypeError):
        return "tensorflow"


@cache
def backend_has_cuda(backend: str) -> bool:
    """Whether a backend was installed with NVIDIA's libraries, as far as can be told unopened.

    ``tensorflow[and-cuda]`` and PyTorch bring cuDNN as a package, JAX a plugin of its own; or
    cuDNN is among the libraries of the environment or the system.
    """
    names = {_normal(found.metadata["Name"] or "") for found in importlib.metadata.distributions()}
    if backend == "jax":
        return any(re.fullmatch(r"jax-cuda\d*-(plugin|pjrt)", name) for name in names)
    if backend == "torch" and (build := re.search(r"\+(cu|cpu)", _version("torch"))):
        return build[1] == "cu"
    if backend == "tensorflow" and "tensorflow" not in names and "tensorflow-cpu" in names:
        return False
    return any(name.startswith("nvidia-cudnn") for name in names) or _has_cudnn()


def _has_cudnn() -> bool:
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep), f"{sys.prefix}/lib"]
    if any(any(Path(folder).glob("libcudnn*")) for folder in folders if folder):
        return True
    return ctypes.util.find_library("cudnn") is not None


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


@cache
def has_gpu() -> bool:
    """Whether the machine has an NVIDIA GPU that is not hidden from this process.

    ``CUDA_VISIBLE_DEVICES`` set to nothing or -1 hides them, as it does from all frameworks.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "GPU" in done.stdout
