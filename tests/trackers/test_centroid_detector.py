"""A learned detector: trained on painted animals, it finds all of them, on every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core import AnnotationSet, Skeleton, Source, Task, TrainingGenerator, write_annotations
from dpk_core.centroids import Centroids
from dpk_core.cli.app import app
from dpk_core.errors import (
    FileMissingError,
    ModelFileError,
    OutputExistsError,
    ValidationError,
)
from dpk_core.services.centroid_labels import label_centroids
from dpk_core.services.centroid_matching import match_points, score_detections
from dpk_core.services.engines import load_model
from dpk_core.services.plugins import registry
from dpk_core.services.video import VideoWriter
from dpk_core.testing import check_detector, dot_annotations
from dpk_core.workflow.evaluate import evaluate_model
from dpk_core.workflow.evaluate_detector import evaluate_detector
from dpk_core.workflow.predict import predict_video
from dpk_core.workflow.track import track_video
from dpk_trackers.centroid_detector import CentroidDetector, apart
from dpk_trackers.keypoint_detector import KeypointDetector

SIZE = (64, 96)


def paint(
    points: np.ndarray, seed: int, size: tuple[int, int] = SIZE, radius: float = 6.0
) -> np.ndarray:
    """(m, 2) -> (h, w, 1) uint8: dark blobs on a light ground with noise."""
    y, x = np.mgrid[: size[0], : size[1]]
    near = np.hypot(x - points[:, 0, None, None], y - points[:, 1, None, None])
    ink = np.clip(radius - near, 0, 1).max(axis=0)
    noise = np.random.default_rng(seed).normal(0, 3, size)
    return np.clip(200 - 160 * ink + noise, 0, 255).astype(np.uint8)[..., None]


def scatter(seed: int, n: int, apart_px: float = 20.0) -> np.ndarray:
    """(n, 2) places within a frame that keep apart."""
    rng = np.random.default_rng(seed)
    while True:
        points = rng.uniform((8, 8), (SIZE[1] - 9, SIZE[0] - 9), (n, 2))
        distance = np.linalg.norm(points[:, None] - points, axis=2)
        if n == 1 or distance[~np.eye(n, dtype=bool)].min() > apart_px:
            return points


def herd(n_frames: int = 40) -> AnnotationSet:
    """Two or three animals of three keypoints in each frame, a row each."""
    images, keypoints, sources = [], [], []
    for frame in range(n_frames):
        points = scatter(frame, 2 + frame % 2)
        image = paint(points, frame)
        for i, point in enumerate(points):
            images.append(image)
            keypoints.append(np.add(point, [[-5.0, 0], [0, -5], [5, 5]]))
            sources.append(Source("film.mp4", frame, f"a{i}"))
    skeleton = Skeleton(("left", "top", "corner"))
    return AnnotationSet(np.stack(images), np.array(keypoints), skeleton, sources=sources)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A detector that learned on frames of half the size for a few seconds."""
    pytest.importorskip("keras")
    generator = TrainingGenerator(
        herd(), centroids=Centroids(max_animals=5), downsample_factor=0, scale=0.5, sigma=2.5,
        augmenter=None, validation_split=0.1,
    )  # fmt: skip
    model = registry().get("models", "LEAP").load()(generator, filters=8)
    record = model.fit(4, epochs=30, learning_rate=3e-3)
    assert record.history[-1]["val_error_px"] < 2
    path = tmp_path_factory.mktemp("detector") / "detector.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def exported(trained) -> Path:
    for module in ("onnx", "tf2onnx", "onnxruntime"):
        pytest.importorskip(module)
    path = trained.with_suffix(".onnx")
    load_model(trained, "keras").export(path)
    return path


@pytest.fixture
def unseen() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames and places that took no part in training, each with three animals."""
    points = [scatter(seed, 3) for seed in range(100, 108)]
    return [paint(p, 100 + i) for i, p in enumerate(points)], points


@pytest.fixture(scope="module")
def pose_model(tmp_path_factory) -> Path:
    pytest.importorskip("keras")
    path = tmp_path_factory.mktemp("pose") / "pose.keras"
    generator = TrainingGenerator(
        dot_annotations(4, size=(32, 32)), downsample_factor=0, augmenter=None
    )
    registry().get("models", "LEAP").load()(generator, filters=4).save(path)
    return path


def found_in(detector: CentroidDetector, frames: list[np.ndarray]) -> list[np.ndarray]:
    return [np.stack([d.x, d.y], 1) for d in map(detector.detect, frames)]


def test_it_finds_three_of_three(trained, unseen):
    frames, points = unseen
    detector = CentroidDetector(trained, engine="keras")
    # The middle of the box around the keypoints is the middle of the animal.
    score = score_detections(found_in(detector, frames), points, limit=3.0)
    assert (score.n_labelled, score.n_found, score.n_matched) == (24, 24, 24)
    assert score.error_px < 1
    found = detector.detect(frames[0])
    assert ((found.score > 0.3) & (found.score <= 1)).all()
    assert (np.diff(found.score) <= 0).all()
    np.testing.assert_allclose(found.width, 10)
    np.testing.assert_allclose(found.height, 10)
    assert len(CentroidDetector(trained, engine="keras", count=2).detect(frames[0])) == 2
    assert not len(detector.detect(np.full((*SIZE, 1), 200, np.uint8)))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_agree(trained, exported, unseen, engine):
    pytest.importorskip(engine)
    frames, _ = unseen
    own = found_in(CentroidDetector(trained, engine="keras"), frames)
    others = found_in(CentroidDetector(exported, engine=engine), frames)
    for a, b in zip(own, others, strict=True):
        rows, columns = match_points(a, b)
        assert len(rows) == len(a) == len(b)
        assert np.abs(a[rows] - b[columns]).max() < 0.05


def test_contract(exported):
    check_detector("centroids", model=exported)


def test_the_same_scene_in_more_pixels(exported):
    """Training saw 64x96 pixels of it, this camera takes 128x192."""
    points = [(scatter(seed, 3) + 0.5) * 2 - 0.5 for seed in range(100, 106)]
    frames = [paint(p, i, (128, 192), radius=12) for i, p in enumerate(points)]
    detector = CentroidDetector(exported)
    score = score_detections(found_in(detector, frames), points, limit=6.0)
    assert score.recall == score.precision == 1
    assert score.error_px < 2
    np.testing.assert_allclose(detector.detect(frames[0]).width, 20)


class Ink:
    """A model that has learned: it finds the middle of what is black, and knows how sure it is."""

    task = Task(
        (32, 48, 1), Skeleton(("animal_1", "animal_2")), scale=0.5,
        centroids=Centroids(None, 2, False, 10.0, 8.0),
    )  # fmt: skip

    def realtime(self):
        return lambda frame: self.predict(frame[None])[0]

    def predict(self, images):
        """Positions in pixels of the images, as every model gives them."""
        assert images.shape == (1, *SIZE, 1)
        ink = np.clip(100.0 - images[0, ..., 0], 0, None)
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        total = ink.sum() + 1e-9
        middle = [(x * ink).sum() / total, (y * ink).sum() / total, min(1.0, total)]
        return np.array([[middle, [0, 0, 0]]], np.float32)


@pytest.mark.parametrize(
    ("size", "scale"),
    [((64, 96), 1), ((128, 192), 0.5), ((64, 128), 0.75), ((100, 96), 0.64), ((31, 47), 96 / 47),
     ((300, 100), 64 / 300)],
)  # fmt: skip
def test_places_are_in_pixels_of_the_frame(monkeypatch, tmp_path, size, scale):
    """Whatever the size and aspect ratio: to a tenth of a pixel of what the network sees."""
    (tmp_path / "model.ink").touch()
    monkeypatch.setattr("dpk_core.services.engines.load_model", lambda path, engine: Ink())
    detector = CentroidDetector(tmp_path / "model.ink")
    for place in ((0.3, 0.4), (0.52, 0.61), (0.75, 0.35)):
        point = np.array([place]) * (size[1] - 1, size[0] - 1)
        frame = paint(point, 0, size, radius=5 / scale)
        found = detector.detect(frame)
        assert np.abs([found.x - point[0, 0], found.y - point[0, 1]]).max() < 0.1 / min(scale, 1)
        np.testing.assert_allclose([found.width[0], found.height[0]], [10 / scale, 8 / scale], 0.02)
    assert not len(detector.detect(np.full((*size, 1), 200, np.uint8)))


def test_gray_and_colour(exported, unseen):
    frame = unseen[0][0]
    detector = CentroidDetector(exported)
    for other in (frame[..., 0], np.repeat(frame, 3, axis=2)):
        np.testing.assert_allclose(detector.detect(other).x, detector.detect(frame).x, atol=0.05)


def test_of_two_that_are_close_the_better_one():
    points = np.array([[0.0, 0], [3, 0], [7, 0], [7, 0]])
    assert apart(points, 0).tolist() == [0, 1, 2, 3]
    assert apart(points, 4).tolist() == [0, 2]
    assert apart(np.empty((0, 2)), 4).tolist() == []


def test_through_track_video(exported, tmp_path):
    """Three animals that walk to the right are followed by their ids."""
    start, steps = np.array([[10.0, 12], [30, 32], [20, 52]]), 30
    with VideoWriter(tmp_path / "film.mp4", 25) as writer:
        for i in range(steps):
            writer.write(np.repeat(paint(np.add(start, [i, 0]), i), 3, axis=2))
    done = track_video(
        tmp_path / "film.mp4",
        tracker="kalman",
        detector="centroids",
        detector_settings={"model": str(exported)},
    )
    assert len(done.tracks) == 3 * steps
    assert len(np.unique(done.tracks.id)) == 3
    for identity in np.unique(done.tracks.id):
        one = done.tracks[done.tracks.id == identity]
        assert np.abs(np.diff(one.x) - 1).max() < 1.5
        assert np.ptp(one.y) < 3


def test_a_model_that_was_trained_again_tracks_anew(exported, tmp_path):
    """Under the same name, as after another dpk train --force."""
    onnx = pytest.importorskip("onnx")
    with VideoWriter(tmp_path / "film.mp4", 25) as writer:
        for i in range(3):
            writer.write(np.repeat(paint(scatter(1, 3), i), 3, axis=2))
    model = tmp_path / "detector.onnx"
    model.write_bytes(exported.read_bytes())
    video, settings = tmp_path / "film.mp4", {"model": str(model)}
    track_video(video, detector="centroids", detector_settings=settings)
    again = track_video(video, detector="centroids", detector_settings=settings)
    assert again.n_before == again.n_frames
    other = onnx.load(model)
    other.doc_string = "trained again"
    onnx.save(other, model)
    with pytest.raises(OutputExistsError, match=r"differs in: detector \(files\)"):
        track_video(video, detector="centroids", detector_settings=settings)
    done = track_video(video, detector="centroids", detector_settings=settings, overwrite=True)
    assert done.n_before == 0


def test_a_detector_is_no_pose_model(trained, tmp_path):
    with VideoWriter(tmp_path / "film.mp4", 25) as writer:
        writer.write(np.zeros((*SIZE, 3), np.uint8))
    message = "is a detector, which finds centroids of up to 5 animals; expected a model of poses"
    with pytest.raises(ValidationError, match=message):
        predict_video(trained, tmp_path / "film.mp4", engine="keras")
    assert not (tmp_path / "film.poses.h5").exists()
    with pytest.raises(ValidationError, match=message):
        KeypointDetector(trained, engine="keras")
    write_annotations(tmp_path / "dots.h5", dot_annotations(4))
    with pytest.raises(ValidationError, match=message):
        evaluate_model(trained, tmp_path / "dots.h5", engine="keras")


def test_a_pose_model_is_no_detector(pose_model):
    with pytest.raises(ValidationError, match="model of poses with 3 keypoints; expected a detec"):
        CentroidDetector(pose_model)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValidationError, "centroids: expected a model; name its file"),
        ({"model": "absent.keras"}, FileMissingError, r"centroids: no model at absent\.keras"),
        ({"model": "x.keras", "threshold": 1.5}, ValidationError, "threshold in .* found 1.5"),
        ({"model": "x.keras", "count": 0}, ValidationError, "count of at least 1"),
        ({"model": "x.keras", "distance": -1}, ValidationError, "distance of at least 0"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        CentroidDetector(**settings)


def test_a_damaged_model(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match=r"broken\.keras is cut short"):
        CentroidDetector(tmp_path / "broken.keras")


def test_the_model_remembers_what_it_finds(trained, exported):
    for path in (trained, exported):
        task = load_model(path, "keras" if path.suffix == ".keras" else "onnxruntime").task
        assert task.centroids == Centroids(None, 5, False, 10.0, 10.0)
    assert "32x48x1, centroids of up to 5 animals" in repr(load_model(trained, "keras"))


def test_evaluation(exported, pose_model, tmp_path):
    write_annotations(tmp_path / "labels.h5", herd(8))
    found = evaluate_detector(exported, tmp_path / "labels.h5", thresholds=(0.3, 1.1))
    assert (found.limit, found.n_images) == (5.0, 8)
    good, nothing = found.scores.values()
    assert (good.n_labelled, good.recall, good.precision) == (20, 1.0, 1.0)
    assert (nothing.n_found, nothing.recall) == (0, 0.0)
    assert evaluate_detector(exported, tmp_path / "labels.h5", limit=0.01).scores[0.3].recall < 1
    with pytest.raises(ValidationError, match="limit: expected a number above 0"):
        evaluate_detector(exported, tmp_path / "labels.h5", limit=0)
    with pytest.raises(ValidationError, match="only: expected one of"):
        evaluate_detector(exported, tmp_path / "labels.h5", only="some")
    with pytest.raises(ValidationError, match="is a model of poses"):
        evaluate_detector(pose_model, tmp_path / "labels.h5", engine="keras")
    result = CliRunner().invoke(app, ["evaluate", str(exported), str(tmp_path / "labels.h5")])
    assert result.exit_code == 0, result.output
    line = next(row.split() for row in result.output.splitlines() if row.split()[:1] == ["0.300"])
    assert line[1:5] == ["20", "20", "1.000", "1.000"]


def test_in_python_errors_are_of_pairs(trained):
    """Not of places, which have no order."""
    model = load_model(trained, "keras")
    frames, _ = label_centroids(herd(6), Centroids(max_animals=5))
    found = model.evaluate(frames)
    keypoints = found["keypoints"]
    known = np.isfinite(keypoints).all(axis=2)
    assert np.array_equal(np.isfinite(found["errors"]), known)
    assert found["errors"][known].max() < 4


def test_no_mirror(trained, exported, unseen):
    for path, engine in ((trained, "keras"), (exported, "onnxruntime")):
        with pytest.raises(ValidationError, match="mirror: a detector finds animals in no order"):
            load_model(path, engine).predict(np.stack(unseen[0]), mirror=True)


# -- the command ----------------------------------------------------------------------------------


def test_train_on_the_command_line(tmp_path):
    pytest.importorskip("keras")
    write_annotations(tmp_path / "labels.h5", herd(8))
    arguments = [
        "train", str(tmp_path / "labels.h5"), "--target", "centroids", "--anchor", "top",
        "--max-animals", "4", "--partly-labelled", "-o", str(tmp_path / "d.keras"),
        "--model", "LEAP", "--set", "filters=4", "--downsample-factor", "0", "--scale", "0.5",
        "--epochs", "1", "--augmenter", "default",
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    task = load_model(tmp_path / "d.keras", "keras").task
    assert task.centroids == Centroids("top", 4, True, 10.0, 10.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "centroids", "--anchor", "nose"], "anchor: expected one of the keypoints"),
        (["--anchor", "top"], "are for --target centroids"),
        (["--target", "centroids", "--max-animals", "1"], "max_animals: expected at least 3"),
    ],
)
def test_wrong_options_on_the_command_line(tmp_path, options, message):
    write_annotations(tmp_path / "labels.h5", herd(4))
    arguments = ["train", str(tmp_path / "labels.h5"), "-o", str(tmp_path / "d.keras"), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code
    said = " ".join(f"{result.output} {result.exception}".replace("│", " ").split())
    assert message in said
    assert not (tmp_path / "d.keras").exists()
