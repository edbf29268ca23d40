"""A model trained on one of Keras' backends predicts the same on the others."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpk_core.services.plugins import registry
from dpk_core.testing import dot_annotations

BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
"""Keras' name of each backend, and the module that it needs."""

SETTINGS = {
    "StackedDenseNet": {"growth_rate": 8},
    "StackedHourglass": {"filters": 16, "n_stacks": 1},
    "LEAP": {"filters": 8},
    "DeepLabCut": {"backbone": "mobilenetv2", "alpha": 0.35},
}

TRAIN = """
import sys
import numpy as np
from dpk_core import TrainingGenerator
from dpk_core.services.plugins import registry
from dpk_core.testing import dot_annotations
folder, name, stride, settings = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
images = dot_annotations(16, size=(48, 64))
generator = TrainingGenerator(images, downsample_factor=stride, augmenter=None, sigma=4.0)
model = registry().get("models", name).load()(generator, **settings)
model.fit(batch_size=8, epochs=2, learning_rate=1e-3)
model.save(f"{folder}/{name}.keras")
"""

PREDICT = """
import sys
import numpy as np
from dpk_models import load_model
model = load_model(sys.argv[1])
images = np.load(sys.argv[2])
maps = model.network(images[:2], training=False)
maps = maps[-1] if isinstance(maps, (list, tuple)) else maps
if hasattr(maps, "detach"):
    maps = maps.detach().cpu()
np.savez(sys.argv[3], maps=np.asarray(maps), predictions=model.predict(images, batch_size=4))
"""


def _installed() -> list[str]:
    return [name for name, module in BACKENDS.items() if importlib.util.find_spec(module)]


def _run(backend: str, code: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"on {backend}:\n{done.stderr[-3000:]}"


def _predict(backend: str, model: Path, images: Path) -> dict[str, np.ndarray]:
    output = model.with_name(f"{backend}.npz")
    _run(backend, PREDICT, model, images, output)
    return dict(np.load(output))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_model_trained_on_one_backend_predicts_the_same_on_all(name, tmp_path):
    backends = _installed()
    if len(backends) < 2:
        pytest.skip(f"only {', '.join(backends)} is installed; run: nox -s backends")
    registry().get("models", name)
    own = os.environ.get("KERAS_BACKEND", "tensorflow")
    stride = 0 if name == "LEAP" else 2
    _run(own, TRAIN, tmp_path, name, stride, repr(SETTINGS[name]))
    images = tmp_path / "images.npy"
    np.save(images, np.array(dot_annotations(12, size=(48, 64), seed=5).images))
    model = tmp_path / f"{name}.keras"
    expected = _predict(own, model, images)
    for backend in (b for b in backends if b != own):
        found = _predict(backend, model, images)
        assert np.abs(found["maps"] - expected["maps"]).max() < 0.05  # of 255
        off = np.abs(found["predictions"] - expected["predictions"])
        # A map that learned little has maxima that are equal to rounding.
        assert np.mean(off[..., :2].max(axis=-1) <= 0.05) >= 0.95, f"{backend}: {off.max()}"
        assert off[..., 2].max() < 0.001
