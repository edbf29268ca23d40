"""The example of a closed loop runs as its first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from dpk_core import AnnotationSet, Skeleton, TrainingGenerator, VideoWriter
from dpk_models import StackedDenseNet

EXAMPLE = Path(__file__).parents[2] / "examples" / "closed_loop" / "closed_loop.py"


def test_the_light_follows_the_dot(tmp_path):
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(4, 28, (80, 1, 2))
    images = np.stack([dot(x, y) for x, y in keypoints[:, 0]])
    annotations = AnnotationSet(images, keypoints, Skeleton(("dot",)))
    generator = TrainingGenerator(annotations, augmenter=None, sigma=3.0, seed=0)
    model = StackedDenseNet(generator, growth_rate=8)
    model.fit(epochs=20)
    model.save(tmp_path / "model.keras")
    places = [(6, 16)] * 3 + [(25, 16)] * 3 + [(6, 16)] * 3
    with VideoWriter(tmp_path / "film.mp4", fps=20) as writer:
        for place in places:
            writer.write(dot(*place))
    command = [EXAMPLE, "model.keras", "film.mp4", "--keypoint", "dot", "--zone", 16, 0, 31, 31]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["frame 3: light on", "frame 6: light off"]
    assert "9 frames by" in lines[-1]
    assert "switched 2 times" in lines[-1]


def dot(x: float, y: float) -> np.ndarray:
    rows, columns = np.mgrid[:32, :32]
    blob = 220 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    return blob[..., None].astype(np.uint8)
