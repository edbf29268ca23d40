"""Our detectors keep to the contract, by name, as a user reaches them; and the whole chain."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dpk_core.errors import PluginError, ValidationError
from dpk_core.interfaces import Tracker
from dpk_core.services.plugins import registry
from dpk_core.services.video import VideoWriter
from dpk_core.testing import ContractError, check_detector, check_tracker, trackers
from dpk_core.testing.trackers import walking_dots
from dpk_core.tracks import Tracks
from dpk_core.workflow.track import track_video

FINDER = """
import numpy as np

def find(frame, fault=None):
    if fault is not None and frame[0, 0, 0] > 250:
        if fault == "raises":
            raise RuntimeError("no luck")
        return {"nan": [[np.nan] * 4], "outside": [[500, 5, 510, 9]]}[fault]
    dark = np.argwhere(frame[..., 0] < 60)
    return [] if not len(dark) else [[*dark.min(axis=0)[::-1], *dark.max(axis=0)[::-1]]]
"""


@pytest.fixture
def finder(tmp_path) -> str:
    path = tmp_path / "finder.py"
    path.write_text(FINDER, encoding="utf-8")
    return f"{path}:find"


@pytest.mark.parametrize(
    "settings",
    [{}, {"count": 3}, {"polarity": "dark"}, {"polarity": "bright"}, {"polarity": "both"},
     {"count": 5, "threshold": 40, "min_area": 10, "samples": 10}],
)  # fmt: skip
def test_background(settings):
    check_detector("background", **settings)


def test_callable(finder):
    check_detector("callable", function=finder)


def test_onnx(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    place = Path(__file__).with_name("test_onnx_detector.py")
    spec = importlib.util.spec_from_file_location("onnx_detector_tests", place)
    graphs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(graphs)
    check_detector("onnx", model=graphs.brightest(tmp_path / "m.onnx", 96, 128), threshold=0.1)


class Pointer:
    """A pose model that has learned: three keypoints, the last one of them unsure."""

    task = SimpleNamespace(image_shape=(96, 128, 1), centroids=None)

    def predict(self, images, batch_size=32):
        assert images.shape == (1, 96, 128, 1)
        points = np.array([[[20, 30, 0.9], [50, 34, 0.7], [90, 90, 0.1]]], np.float32)
        return points if images.any() else np.full_like(points, np.nan)


def test_keypoints(monkeypatch):
    monkeypatch.setattr("dpk_core.services.engines.load_model", lambda path, engine: Pointer())
    check_detector("keypoints", model="model.keras")
    detector = registry().get("detectors", "keypoints").load()("model.keras", margin=2)
    found = detector.detect(np.ones((96, 128, 3), np.uint8))
    # Around the pixels of both, and two more on every side.
    np.testing.assert_allclose(found.boxes, [[17.5, 27.5, 52.5, 36.5]])
    assert found.score[0] == pytest.approx(0.8)
    np.testing.assert_array_equal(np.isnan(found.keypoints[0, :, 0]), [False, False, True])
    with pytest.raises(ValidationError, match=r"keypoints: expected a frame of 128x96"):
        detector.detect(np.zeros((48, 64, 1), np.uint8))


@pytest.fixture
def film(tmp_path) -> Path:
    """A video whose seventh frame has a bright corner."""
    frames, _ = walking_dots(20)
    frames[7, :8, :8] = 255
    with VideoWriter(tmp_path / "film.mp4", 25) as writer:
        for frame in frames:
            writer.write(frame)
    return tmp_path / "film.mp4"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", r"frame 7: callable: .*find failed: RuntimeError: no luck"),
        ("nan", r"frame 7: callable: .*find.*NaN"),
        ("outside", r"frame 7: callable: .*find found something at \(505.0, 7.0\), outside"),
    ],
)
def test_faults_name_the_frame_and_the_detector(tmp_path, film, finder, fault, message):
    settings = {"function": finder, "fault": fault}
    with pytest.raises(PluginError, match=message):
        track_video(
            film,
            tmp_path / "out.tracks.h5",
            tracker=_any_tracker(),
            detector="callable",
            detector_settings=settings,
        )


def test_settings_travel_as_text(film, tmp_path):
    """What is given on the command line is what the file of tracks says."""
    done = track_video(
        film,
        tmp_path / "out.tracks.h5",
        tracker=_any_tracker(),
        detector="background",
        detector_settings={"count": 3},
    )
    assert '"count": 3' in json.dumps(done.tracks.provenance)
    assert len(done.tracks) > 40


def _any_tracker() -> str:
    names = [spec.name for spec in registry().specs("trackers")]
    if not names:
        pytest.skip("no tracker is installed")
    return "munkres" if "munkres" in names else names[0]


class BySize(Tracker):
    """Names animals by their rank in size, which it takes to be always known."""

    def update(self, number, detections, frame=None):
        rank = np.argsort(np.argsort(detections.width)).astype(float)
        rank[np.isnan(detections.width)] = -1
        ids = rank.astype(int)
        return Tracks(np.full(len(ids), number), ids, detections.x, detections.y)


def test_a_tracker_that_needs_extents_is_told(monkeypatch):
    found = SimpleNamespace(get=lambda *_: SimpleNamespace(load=lambda: BySize))
    monkeypatch.setattr(trackers, "registry", lambda: found)
    with pytest.raises(ContractError, match="an id stands once in a frame"):
        check_tracker("by_size")
