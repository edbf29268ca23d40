"""A pose model of a whole frame as a detector: the box around its keypoints."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import ValidationError
from dpk_core.interfaces import Detector


class KeypointDetector(Detector):
    """Finds the one animal of a video with a trained pose model, of any engine.

    Parameters
    ----------
    model
        A file that `load_model` opens (``.keras``, ``.onnx``, ...), trained on frames of this size.
    threshold
        Keypoints with a lower score don't count.
    keypoints
        That many must be found, at least.
    margin
        Pixels added around them on every side.
    engine
        That runs the model; "auto" takes the fastest.

    Raises
    ------
    ValidationError
        Without a model, and on frames of another size than the model's.
    """

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        threshold: float = 0.2,
        keypoints: int = 2,
        margin: float = 0.0,
        engine: str = "auto",
    ) -> None:
        from dpk_core.services.engines import load_model
        from dpk_core.services.model_task import check_finds_poses

        if model is None:
            raise ValidationError("keypoints: expected a model; name its file (model=model.keras)")
        if not (0 <= threshold <= 1 and keypoints >= 1 and margin >= 0):
            raise ValidationError(
                "keypoints: expected threshold in [0, 1], keypoints of at least 1, margin of at "
                f"least 0, found {threshold}, {keypoints}, {margin}"
            )
        self.threshold, self.least, self.margin = threshold, keypoints, margin
        self.model = load_model(model, engine)
        check_finds_poses(self.model.task, Path(model))

    def detect(self, frame: np.ndarray) -> Detections:
        from dpk_core.services.imaging import match_channels

        height, width, channels = self.model.task.image_shape
        if frame.shape[:2] != (height, width):
            raise ValidationError(
                f"keypoints: expected a frame of {width}x{height} pixels as the model was trained "
                f"on, found {frame.shape[1]}x{frame.shape[0]} (width x height)"
            )
        found = self.model.predict(match_channels(frame[None], channels), batch_size=1)[0]
        good = np.isfinite(found).all(axis=1) & (found[:, 2] >= self.threshold)
        if good.sum() < self.least:
            return Detections.none()
        points = found[good, :2].astype(np.float64)
        limit = np.array([width, height]) - 0.5
        low = np.clip(points.min(axis=0) - self.margin - 0.5, -0.5, limit)
        high = np.clip(points.max(axis=0) + self.margin + 0.5, -0.5, limit)
        (x, y), (w, h) = (low + high)[:, None] / 2, (high - low)[:, None]
        score = np.array([found[good, 2].mean()])
        kept = np.where(good[:, None], found[:, :2], np.nan)[None]
        return Detections(x, y, w, h, score=score, keypoints=kept)
