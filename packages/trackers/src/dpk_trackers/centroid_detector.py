"""A model that was trained on centroids as a detector: a point for each animal of a frame."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import FileMissingError, ValidationError
from dpk_core.geometry import Transform, identity
from dpk_core.interfaces import Detector
from dpk_trackers.onnx_detector import letterbox

PADDING = 114
"""Gray level around frames of another aspect ratio than the training images'."""


class CentroidDetector(Detector):
    """Finds the animals that a model of centroids was trained on, with any engine.

    A frame of the size of the training images goes in as they did. One of another size is scaled
    to it, its aspect ratio kept and the rest filled with gray; positions are mapped back exactly.
    The animals should then be about as large, as a share of the frame, as they were in training.

    Every detection has the extent that the labelled animals have in the middle (the medians of
    width and height of their upright boxes), or none where labels have none.

    Parameters
    ----------
    model
        A file that `load_model` opens (``.keras``, ``.onnx``, ...), trained with
        ``dpk train --target centroids``.
    threshold
        Score that a detection needs.
    count
        At most so many, the best. Default: as many as the model can find.
    distance
        Pixels of the frame. Of two that lie closer only the better one is kept.
    engine
        That runs the model; "auto" takes the fastest.

    Raises
    ------
    FileMissingError, ModelFileError
    ValidationError
        Without a model, with one of poses, and on a setting out of its range.
    """

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        threshold: float = 0.3,
        count: int | None = None,
        distance: float = 0.0,
        engine: str = "auto",
    ) -> None:
        from dpk_core.services.engines import load_model
        from dpk_core.services.model_task import check_finds_centroids, read_task

        if model is None:
            raise ValidationError(
                "centroids: expected a model; name its file (model=detector.keras). Train one "
                "with: dpk train LABELS --target centroids -o detector.keras"
            )
        if not (0 <= threshold <= 1 and distance >= 0 and (count is None or count >= 1)):
            raise ValidationError(
                "centroids: expected threshold in [0, 1], count of at least 1, distance of at "
                f"least 0, found {threshold}, {count}, {distance}"
            )
        path = Path(model)
        if not path.is_file():
            raise FileMissingError(f"centroids: no model at {path}")
        check_finds_centroids(read_task(path), path)  # before it is opened, which may take long
        self.model = load_model(path, engine)
        check_finds_centroids(self.model.task, path)
        self.threshold, self.count, self.distance = float(threshold), count, float(distance)
        self._run = self.model.realtime()

    def detect(self, frame: np.ndarray) -> Detections:
        frame = frame[..., None] if frame.ndim == 2 else frame
        way = self._way((frame.shape[0], frame.shape[1]))
        found = self._run(_seen(frame, way))
        found = found[np.isfinite(found).all(axis=1) & (found[:, 2] >= self.threshold)]
        found = found[np.argsort(-found[:, 2], kind="stable")]
        points = way.inverse().apply(found[:, :2].astype(np.float64))
        height, width = way.source_size
        # What is beyond the border by a part of a map's pixel is an animal on the border.
        limit, reach = np.array([width, height]) - 0.5, self._reach(way)
        inside = ((points >= -0.5 - reach) & (points <= limit + reach)).all(axis=1)
        points, scores = np.clip(points[inside], -0.5, limit), found[inside, 2]
        chosen = apart(points, self.distance)[: self.count]
        return self._detections(points[chosen], scores[chosen], way)

    def _way(self, size: tuple[int, int]) -> Transform:
        """From the frame to an image of the size of the original training images."""
        from dpk_core.services.imaging import scaled_size

        task = self.model.task
        height, width, _ = task.image_shape
        if scaled_size(size, task.scale) == (height, width):
            return identity(size)
        return letterbox(size, (round(height / task.scale), round(width / task.scale)))

    def _reach(self, way: Transform) -> float:
        """Half a pixel of the model's map in pixels of the frame."""
        task = self.model.task
        return task.output_stride / task.scale / way.matrix[0, 0] / 2

    def _detections(self, points: np.ndarray, scores: np.ndarray, way: Transform) -> Detections:
        centroids = self.model.task.centroids
        assert centroids is not None  # or the model would have been refused
        extents = []
        for side, axis in ((centroids.width, 0), (centroids.height, 1)):
            length = np.nan if side is None else side / way.matrix[axis, axis]
            extents.append(np.full(len(points), length))
        width, height = extents
        return Detections(points[:, 0], points[:, 1], width, height, score=scores)


def apart(points: np.ndarray, distance: float) -> np.ndarray:
    """Rows of (n, 2) points, the best first, that lie no nearer than that to a better one.

    Examples
    --------
    >>> apart(np.array([[0.0, 0], [3, 0], [6, 0]]), 4.0).tolist()
    [0, 2]
    """
    kept: list[int] = []
    for i, point in enumerate(points):
        if not kept or np.linalg.norm(points[kept] - point, axis=1).min() >= distance:
            kept.append(i)
    return np.array(kept, int)


def _seen(frame: np.ndarray, way: Transform) -> np.ndarray:
    """The frame as ``way`` leads: scaled, in the middle of gray where it does not fill it."""
    from dpk_core.services.imaging import resize_image

    if way.source_size == way.target_size:
        return frame
    (height, width), matrix = way.target_size, way.matrix
    inner = (round(frame.shape[0] * matrix[1, 1]), round(frame.shape[1] * matrix[0, 0]))
    left, top = (round(edge) for edge in way.apply(np.array([[-0.5, -0.5]]))[0] + 0.5)
    seen = np.full((height, width, frame.shape[2]), PADDING, np.uint8)
    seen[top : top + inner[0], left : left + inner[1]] = resize_image(frame, inner)
    return seen
