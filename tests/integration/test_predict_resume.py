"""``dpk predict`` killed with -9 at random times: it carries on, and nothing differs by a bit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dpk_core.services.storage import is_complete, read_poses
from dpk_core.services.video import VideoWriter
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task

FAKE_ENGINE = Path(__file__).parents[1] / "plugins" / "fake_engine"
SIZE = (48, 64)
SKELETON = Skeleton.from_rows(
    [("head", None, None), ("left", "head", "right"), ("right", "head", "left")]
)
DPK = [sys.executable, "-c", "from dpk_core.cli import main; main()"]


def write_video(path: Path, n_frames: int) -> Path:
    """Noise with a bright square that walks."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    with VideoWriter(path, fps=25) as writer:
        for i in range(n_frames):
            image = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
            x, y = 4 + i % (width - 12), 4 + (3 * i) % (height - 12)
            image[y : y + 6, x : x + 6] = 230
            writer.write(image)
    return path


class Job:
    """One ``dpk predict``, run whole once and then killed again and again."""

    def __init__(self, model: Path, video: Path, batch_size: int, **environment: str) -> None:
        self.command = [*DPK, "predict", str(model), str(video), "--batch-size", str(batch_size)]
        self.batch_size = batch_size
        self.environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
        self.slowed = {**self.environment, "FAKE_ENGINE_SECONDS": "0.1"}  # for each batch
        self.output = video.with_name("killed.poses.h5")
        whole = video.with_name("whole.poses.h5")
        done = self.run(whole)
        assert done.returncode == 0, done.stderr
        self.expected = read_poses(whole).to_predictions()

    def run(self, output: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, "-o", str(output)],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def run_and_kill(self, seconds: float, *, after_rows: int = 0) -> int:
        """Kill so many seconds after so many rows are stored; how many are stored then."""
        process = subprocess.Popen(
            [*self.command, "-o", str(self.output)],
            env=self.slowed, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        deadline = time.monotonic() + 600
        while self.stored() < after_rows and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(seconds)
        process.kill()
        process.communicate()
        return self.check_what_is_stored()

    def stored(self) -> int:
        return len(read_poses(self.output)) if self.output.exists() else 0

    def check_what_is_stored(self) -> int:
        """Whatever the moment: the file opens, and what it holds is right and in whole batches."""
        if not self.output.exists():
            return 0
        stored = read_poses(self.output)
        n = len(stored)
        assert n % self.batch_size == 0 or n == len(self.expected)
        assert stored.frames.tolist() == list(range(n))
        assert np.array_equal(stored.to_predictions(), self.expected[:n])
        return n

    def finish(self) -> None:
        done = self.run(self.output)
        assert done.returncode == 0, done.stderr
        assert is_complete(self.output)
        assert self.check_what_is_stored() == len(self.expected)
        assert "done already" in self.run(self.output).stdout
        assert not list(self.output.parent.glob("*.partial*"))


@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
def test_many_kills_at_random_times(tmp_path):
    model = tmp_path / "model.fake"
    task = Task((*SIZE, 3), SKELETON)
    model.write_text(json.dumps({"task": task.to_config(), "offset": 1.5}))
    video = write_video(tmp_path / "walk.mp4", 303)
    job = Job(model, video, 4, PYTHONPATH=str(FAKE_ENGINE))
    assert len(job.expected) == 303
    rng = random.Random(1)
    stored = [0]
    for i in range(10):
        # By turns at any moment, starting up included, and while results are being written.
        rows = stored[-1] + 1 if i % 2 else 0
        stored.append(job.run_and_kill(rng.uniform(0.0, 0.7), after_rows=rows))
        if stored[-1] == len(job.expected):
            break
    assert stored == sorted(stored)
    assert len(set(stored)) >= 3
    job.finish()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
def test_a_real_model_is_continued_bit_for_bit(tmp_path):
    pytest.importorskip("keras")
    from dpk_models import StackedDenseNet

    model = tmp_path / "model.keras"
    StackedDenseNet(Task((*SIZE, 3), SKELETON), growth_rate=8).save(model)
    video = write_video(tmp_path / "walk.mp4", 1000)
    job = Job(model, video, 8)
    rng = random.Random(2)
    for _ in range(2):
        before = job.stored()
        job.run_and_kill(rng.uniform(0, 0.8), after_rows=before + 1)
    assert job.stored() > 0
    job.finish()
