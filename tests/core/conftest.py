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


@pytest.fixture
def brightest_onnx(tmp_path: Path) -> Callable[..., Path]:
    """``brightest_onnx(name="m.onnx")``: an exported model made by hand; where it lies.

    It finds the brightest pixel of 12x16 gray images; its score is how bright that is. Options:
    ``metadata`` in the place of what dpk would write; a further ``operation`` (name, domain) on
    the maps; without a ``convolution``.
    """
    onnx = pytest.importorskip("onnx")

    def make(
        name: str = "m.onnx",
        metadata: dict[str, str] | None = None,
        operation: tuple[str, str] = ("Identity", ""),
        convolution: bool = True,
    ) -> Path:
        height, width = 12, 16
        node, kinds = onnx.helper.make_node, onnx.TensorProto
        nodes = [
            node("Cast", ["images"], ["floats"], to=kinds.FLOAT),
            node("Transpose", ["floats"], ["moved"], perm=[0, 3, 1, 2]),
            node("Conv", ["moved", "weights"], ["maps"])
            if convolution
            else node("Mul", ["moved", "weights"], ["maps"]),
            node(operation[0], ["maps"], ["same"], domain=operation[1]),
            node("Reshape", ["same", "shape"], ["flat"]),
            node("ArgMax", ["flat"], ["place"], axis=1, keepdims=1),
            node("Cast", ["place"], ["number"], to=kinds.FLOAT),
            node("Mod", ["number", "width"], ["x"], fmod=1),
            node("Sub", ["number", "x"], ["before"]),
            node("Div", ["before", "width"], ["y"]),
            node("ReduceMax", ["flat"], ["highest"], axes=[1], keepdims=1),
            node("Div", ["highest", "white"], ["score"]),
            node("Concat", ["x", "y", "score"], ["row"], axis=1),
            node("Unsqueeze", ["row", "one"], ["keypoints"]),
        ]
        constants = {
            "weights": np.ones((1, 1, 1, 1), np.float32),
            "shape": np.array([-1, height * width]),
            "width": np.float32(width),
            "white": np.float32(255),
            "one": np.array([1]),
        }
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            nodes,
            "brightest",
            [value("images", kinds.UINT8, ["batch", height, width, 1])],
            [value("keypoints", kinds.FLOAT, ["batch", 1, 3])],
            [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        )
        opsets = [onnx.helper.make_opsetid("", 17)]
        if operation[1]:
            opsets.append(onnx.helper.make_opsetid(operation[1], 1))
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
        if metadata is None:
            from dpk_core.services.onnx.description import OnnxDescription
            from dpk_core.task import Task

            task = Task((height, width, 1), Skeleton(("spot",)), use_graph=False)
            metadata = OnnxDescription("Brightest", task).to_metadata()
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return make
