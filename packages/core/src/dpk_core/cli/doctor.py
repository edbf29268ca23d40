"""``dpk doctor``: what works here, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import attrs
import typer

from dpk_core.cli.console import say, table

OK, MISSING, BROKEN = "ok", "missing", "BROKEN"

_OURS = ("dpk-core", "dpk-models", "dpk-trackers", "dpk-annotator", "dpk-io-formats")
_LIBRARIES = {"numpy": "numpy", "h5py": "h5py", "av": "av", "opencv-python-headless": "cv2"}
_FOR_TRAINING = {"imaug": "imgaug", "scikit-learn": "sklearn", "matplotlib": "matplotlib"}
_DECODERS = ("h264", "hevc", "mpeg4", "mjpeg", "vp9", "av1", "ffv1", "rawvideo")
_ENCODERS = ("libx264", "mpeg4", "mjpeg", "ffv1")
_INSTALL_CUDA = {
    "tensorflow": "python -m pip install 'tensorflow[and-cuda]'",
    "jax": "python -m pip install 'jax[cuda12]'",
    "torch": "install a build with CUDA, see https://pytorch.org/get-started/locally",
}

_ASK_KERAS = """
import json, os, sys
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
name = keras.backend.backend()
if name == "tensorflow":
    import tensorflow as backend
    devices = [d.name.split("physical_device:")[-1] for d in backend.config.list_physical_devices()]
elif name == "jax":
    import jax as backend
    devices = [str(d) for d in backend.devices()]
elif name == "torch":
    import torch as backend
    devices = ["CPU"] + [
        backend.cuda.get_device_name(i) for i in range(backend.cuda.device_count())
    ]
else:
    backend, devices = None, []
print(json.dumps({
    "keras": keras.__version__, "backend": name,
    "version": getattr(backend, "__version__", ""), "devices": devices,
}))
"""


@attrs.frozen
class Finding:
    """One thing that was looked at.

    ``state`` is "ok", "missing" (optional, and not there) or "BROKEN" (there, and does not work).
    """

    subject: str
    state: str
    detail: str
    remedy: str = ""


def command(
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for Keras and its backend to start.")
    ] = 120.0,
) -> None:
    """Look at this installation: versions, devices, video codecs, disk, plugins.

    [bold]Example:[/bold] dpk doctor

    What is missing comes with the command that installs it. Exit code 1 when something that is
    installed does not work.
    """
    findings = list(examine(timeout))
    table(("", "subject", "found"), [(f.state, f.subject, f.detail) for f in findings])
    remedies = [f for f in findings if f.remedy]
    if remedies:
        say("")
    for finding in remedies:
        say(f"{finding.subject}: {finding.remedy}")
    if any(finding.state == BROKEN for finding in findings):
        raise typer.Exit(1)


def examine(timeout: float) -> Iterator[Finding]:
    """All findings; whatever goes wrong with one never hides the others."""
    parts: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("libraries", _libraries),
        ("backend", lambda: _backend(timeout)),
        ("video", _video),
        ("disk", _disk),
        ("plugins", _plugins),
    )
    for subject, part in parts:
        try:
            yield from part()
        except Exception as error:  # a doctor reports an illness, it does not catch it
            yield Finding(subject, BROKEN, f"{type(error).__name__}: {error}")


def _python() -> Iterator[Finding]:
    yield Finding("Python", OK, f"{platform.python_version()} at {sys.executable}")
    yield Finding("system", OK, f"{platform.platform()}, {os.cpu_count()} CPU cores")


def _packages() -> Iterator[Finding]:
    for name in _OURS:
        version = _version(name)
        if version:
            yield Finding(name, OK, version)
        else:
            yield Finding(name, MISSING, "not installed", f"python -m pip install {name}")


def _libraries() -> Iterator[Finding]:
    """Import each in a process of its own: one that crashes must not take the doctor along."""
    modules = {**_LIBRARIES, **_FOR_TRAINING}
    processes = {
        distribution: subprocess.Popen(
            [sys.executable, "-c", f"import {module}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for distribution, module in modules.items()
    }  # fmt: skip
    for distribution, process in processes.items():
        package = "'dpk-core[train]'" if distribution in _FOR_TRAINING else distribution
        install = f"python -m pip install {package}"
        version = _version(distribution)
        _, message = process.communicate()
        if process.returncode == 0:
            yield Finding(distribution, OK, version or "from another package")
        elif version:
            reason = _last_line(message, process.returncode)
            yield Finding(distribution, BROKEN, reason, f"{install} --force-reinstall")
        else:
            yield Finding(distribution, MISSING, "not installed", install)


def _backend(timeout: float) -> Iterator[Finding]:
    from dpk_core.services.devices import has_gpu

    if not _version("keras"):
        yield Finding(
            "Keras", MISSING, "needed to train and predict", "python -m pip install dpk-models"
        )
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_KERAS],
            capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        yield Finding("Keras", BROKEN, f"did not start within {timeout:.0f} s")
        return
    if done.returncode != 0:
        yield Finding(
            "Keras",
            BROKEN,
            f"{_version('keras')} does not start: {_last_line(done.stderr, done.returncode)}",
            "install a backend (python -m pip install tensorflow), or choose one that is there "
            "with the environment variable KERAS_BACKEND",
        )
        return
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    yield Finding("Keras", OK, f"{facts['keras']} on {facts['backend']} {facts['version']}")
    yield Finding("devices", OK, ", ".join(facts["devices"]) or "none told")
    if (
        facts["devices"]
        and has_gpu()
        and all("CPU" in device.upper() for device in facts["devices"])
    ):
        yield Finding(
            "GPU",
            MISSING,
            f"the machine has one, but {facts['backend']} does not use it",
            _INSTALL_CUDA.get(facts["backend"], "install a backend with CUDA"),
        )


def _video() -> Iterator[Finding]:
    import av

    available = av.codecs_available
    for what, wanted in (("decoders", _DECODERS), ("encoders", _ENCODERS)):
        absent = [name for name in wanted if name not in available]
        detail = ", ".join(name for name in wanted if name in available)
        if absent:
            yield Finding(
                f"video {what}",
                MISSING,
                f"{detail}; without {', '.join(absent)}",
                "python -m pip install --force-reinstall --only-binary av av",
            )
        else:
            yield Finding(f"video {what}", OK, detail)


def _disk() -> Iterator[Finding]:
    folder = os.getcwd()
    free = shutil.disk_usage(folder).free / 2**30
    writable = os.access(folder, os.W_OK)
    detail = f"{free:.1f} GiB free in {folder}"
    if not writable:
        yield Finding("disk", BROKEN, f"{folder} is read-only", "work in a folder of your own")
    elif free < 1:
        yield Finding("disk", BROKEN, detail, "free some space: models and videos need it")
    else:
        yield Finding("disk", OK, detail)


def _plugins() -> Iterator[Finding]:
    from dpk_core.services.plugins import registry

    found = registry()
    working = [plugin.name for plugin in found.plugins if not plugin.error]
    yield Finding("plugins", OK, ", ".join(working) or "none")
    for plugin in found.failed:
        yield Finding(
            f"plugin {plugin.name}",
            BROKEN,
            f"{plugin.origin}: {plugin.error}",
            f"update or uninstall it: python -m pip install -U {plugin.distribution}",
        )
    for (kind, name), claimants in found.conflicts.items():
        yield Finding(
            f"{kind} {name}", BROKEN, f"claimed by {' and '.join(claimants)}", "uninstall one"
        )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _last_line(message: str, code: int) -> str:
    lines = message.strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"
