"""Fixtures that every package's tests share."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Several processes import pynwb at once here; one would read what another has half written.
os.environ.setdefault("PYNWB_NO_CACHE_DIR", "1")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data: ``$DPK_TEST_DATA``, or ``shared/data`` beside the project."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("DPK_TEST_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set DPK_TEST_DATA to a folder that has it")
    return root


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Converted models of the tests never reach the cache of whoever runs them."""
    os.environ["DPK_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small network that finds its keypoints, so that engines can be compared by what they find.

    Has ``model``; its files ``keras`` and ``onnx``; ``labels``, the file it was trained on, and
    ``images`` (40, 48, 64, 1), those in it. Leave the files as they are.
    """
    pytest.importorskip("dpk_models")
    pytest.importorskip("tf2onnx")
    from dpk_core import TrainingGenerator
    from dpk_core.services.storage import write_annotations
    from dpk_core.testing import dot_annotations
    from dpk_models import StackedDenseNet

    folder = tmp_path_factory.mktemp("learned")
    annotations = dot_annotations(40, size=(48, 64))
    write_annotations(folder / "labels.h5", annotations)
    generator = TrainingGenerator(
        folder / "labels.h5", augmenter=None, sigma=4.0, use_graph=False, seed=1
    )
    model = StackedDenseNet(generator, growth_rate=8)
    model.fit(batch_size=8, epochs=40, learning_rate=5e-3)
    images = np.asarray(annotations.images)
    assert np.mean(model.predict(images)[..., 2] > 0.3) > 0.9, "it has not learned to find them"
    model.save(folder / "model.keras")
    model.export(folder / "model.onnx")
    return SimpleNamespace(
        model=model,
        keras=folder / "model.keras",
        onnx=folder / "model.onnx",
        labels=folder / "labels.h5",
        images=images,
    )
