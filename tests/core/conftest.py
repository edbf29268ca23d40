"""What the tests of the workflow and of the command share: a plugin, a video, labels, a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.services.plugins import registry
from dpk_core.services.storage import write_annotations
from dpk_core.skeleton import Skeleton

FAKE_ENGINE = Path(__file__).parents[1] / "plugins" / "fake_engine"
SIZE = (48, 64)


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The plugin of tests/plugins/fake_engine, installed for one test; its folder."""
    monkeypatch.syspath_prepend(FAKE_ENGINE)
    monkeypatch.setenv("PYTHONPATH", str(FAKE_ENGINE))
    registry.cache_clear()
    yield FAKE_ENGINE
    registry.cache_clear()


@pytest.fixture
def make_video() -> Callable[..., Path]:
    """``make_video(path, n_frames)``: a bright square that walks over a dark noisy ground."""

    def make(path: Path, n_frames: int = 40, size: tuple[int, int] = SIZE) -> Path:
        rng = np.random.default_rng(n_frames)
        height, width = size
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.bit_rate = 2_000_000
            for i in range(n_frames):
                image = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
                x, y = 4 + i % (width - 12), 4 + (3 * i) % (height - 12)
                image[y : y + 6, x : x + 6] = 230
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make


@pytest.fixture
def video(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    """A video of 40 frames, 48x64."""
    return make_video(tmp_path / "walk.mp4")


@pytest.fixture
def skeleton_csv(tmp_path: Path) -> Path:
    """A skeleton of a head and two sides."""
    path = tmp_path / "skeleton.csv"
    path.write_text("name,parent,swap\nhead,,\nleft,head,right\nright,head,left\n")
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Twenty labelled images of that size, with the brightest pixel at the head."""
    rng = np.random.default_rng(3)
    n, (height, width) = 20, SIZE
    images = rng.integers(0, 100, (n, height, width, 3)).astype(np.uint8)
    keypoints = np.empty((n, 3, 2))
    for i in range(n):
        x, y = rng.integers(5, width - 5), rng.integers(5, height - 5)
        images[i, y, x] = 255
        keypoints[i] = [(x, y), (x + 1, y), (x + 2, y)]
    skeleton = Skeleton.from_rows(
        [("head", None, None), ("left", "head", "right"), ("right", "head", "left")]
    )
    sources = tuple(Source("walk.mp4", 2 * i) for i in range(n))
    path = tmp_path / "labels.h5"
    write_annotations(path, AnnotationSet(images, keypoints, skeleton, sources=sources))
    return path


@pytest.fixture
def fake_model(tmp_path: Path, labels: Path, fake_engine: Path) -> Path:
    """A FakeNet trained on those labels."""
    from dpk_core.workflow.train import train_model

    train_model(labels, "FakeNet", tmp_path / "model.fake", generator_options={"augmenter": None})
    return tmp_path / "model.fake"
