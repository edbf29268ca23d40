"""Whether a GPU can be used, told from what is installed."""

from __future__ import annotations

import json
import subprocess

import pytest

from dpk_core.services import devices
from dpk_core.services.devices import backend_has_cuda, framework_priority, keras_backend


@pytest.fixture
def install(tmp_path, monkeypatch):
    """``install("name 1.0", ...)``: nothing else is installed then."""

    def make(*packages):
        for package in packages:
            name, version = package.split()
            info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            (info / "METADATA").write_text(text)
        monkeypatch.setattr(devices.sys, "path", [str(tmp_path)])

    monkeypatch.setattr(devices, "_has_cudnn", lambda: False)
    backend_has_cuda.cache_clear()
    yield make
    backend_has_cuda.cache_clear()


@pytest.mark.parametrize(
    ("backend", "packages", "expected"),
    [
        ("tensorflow", ["tensorflow 2.20.0"], False),
        ("tensorflow", ["tensorflow 2.20.0", "nvidia-cudnn-cu12 9.1"], True),
        ("tensorflow", ["tensorflow-cpu 2.20.0", "nvidia-cudnn-cu12 9.1"], False),
        ("jax", ["jax 0.7.0", "nvidia-cudnn-cu12 9.1"], False),
        ("jax", ["jax 0.7.0", "jax-cuda12-plugin 0.7.0"], True),
        ("torch", ["torch 2.8.0+cpu", "nvidia-cudnn-cu12 9.1"], False),
        ("torch", ["torch 2.8.0+cu128"], True),
        ("torch", ["torch 2.8.0", "nvidia-cudnn-cu12 9.1"], True),
        ("torch", ["torch 2.8.0"], False),
    ],
)
def test_what_brings_cuda(install, monkeypatch, backend, packages, expected):
    install(*packages)
    assert backend_has_cuda(backend) == expected
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    assert framework_priority() == (30 if expected else 10)
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    assert framework_priority() == 10


def test_cudnn_of_the_system_counts(install, monkeypatch):
    install("tensorflow 2.20.0")
    monkeypatch.setattr(devices, "_has_cudnn", lambda: True)
    assert backend_has_cuda("tensorflow")


def test_cudnn_is_looked_for_where_libraries_are(tmp_path, monkeypatch):
    monkeypatch.setattr(devices.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(devices.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    assert not devices._has_cudnn()
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "libcudnn.so.9").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "cuda"))
    assert devices._has_cudnn()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "tensorflow"),
        ("{", "tensorflow"),
        ("[]", "tensorflow"),
        ('{"backend": "jax"}', "jax"),
    ],
)
def test_the_backend_that_keras_takes(tmp_path, monkeypatch, content, expected):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    if content is not None:
        (tmp_path / "keras.json").write_text(content)
    assert keras_backend() == expected
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert keras_backend() == "torch"


@pytest.mark.parametrize(
    ("found", "told"), [(["CPU:0"], True), (["CPU:0", "GPU:0"], False), ([], False)]
)
def test_the_doctor_tells_of_a_gpu_that_lies_idle(monkeypatch, found, told):
    from dpk_core.cli import doctor

    facts = {"keras": "3", "backend": "tensorflow", "version": "2", "devices": found}
    done = subprocess.CompletedProcess([], 0, json.dumps(facts), "")
    monkeypatch.setattr(doctor, "_version", lambda name: "3")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **options: done)
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    findings = {finding.subject: finding for finding in doctor._backend(1.0)}
    assert ("GPU" in findings) == told
    if told:
        assert "tensorflow[and-cuda]" in findings["GPU"].remedy
