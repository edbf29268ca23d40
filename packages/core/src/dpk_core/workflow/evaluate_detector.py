"""Measure a trained detector of centroids against labels."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import attrs
import numpy as np

from dpk_core.centroids import Centroids
from dpk_core.checks import check_positive
from dpk_core.interfaces import Dataset
from dpk_core.services.centroid_matching import DetectionScore, score_detections
from dpk_core.services.engines import load_model
from dpk_core.services.generator import TrainingGenerator
from dpk_core.services.model_task import check_finds_centroids
from dpk_core.services.sources import spread_images
from dpk_core.task import Task
from dpk_core.workflow.evaluate import check_only, choose_rows, predict_rows
from dpk_core.workflow.progress import Progress, ignore

THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7)


@attrs.frozen
class DetectorEvaluation:
    """How well a detector finds labelled animals.

    Parameters
    ----------
    scores
        By the score that a detection needs.
    limit
        Pixels of the original images within which a detection is the animal.
    n_images
        That were looked at.
    images_used
        In words: which images, and why these.
    """

    scores: dict[float, DetectionScore]
    limit: float
    n_images: int
    images_used: str

    def to_rows(self) -> list[dict[str, float]]:
        """A row for each threshold."""
        return [
            {
                "threshold": threshold,
                "labelled": score.n_labelled,
                "found": score.n_found,
                "recall": score.recall,
                "precision": score.precision,
                "median_px": score.error_px,
            }
            for threshold, score in self.scores.items()
        ]


def evaluate_detector(
    model_path: str | PathLike[str],
    source: str | PathLike[str],
    *,
    only: str | None = None,
    limit: float | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    batch_size: int = 32,
    engine: str = "auto",
    precision: str = "float32",
    progress: Progress = ignore,
) -> DetectorEvaluation:
    """Count which labelled animals a detector finds, and what else it finds.

    Frames without a labelled animal are left out. Where frames show animals that nobody labelled,
    finding them counts as a mistake: precision is then too low.

    Parameters
    ----------
    source
        Labelled images, as for `TrainingGenerator`.
    only, batch_size, engine, precision
        As for `dpk_core.workflow.evaluate.evaluate_model`.
    limit
        Pixels of the original images within which a detection is the animal. Default: half the
        median extent of a labelled animal, or three standard deviations of the peaks of the map
        where labels have no extent.
    thresholds
        Scores that a detection needs.

    Raises
    ------
    ValidationError
        When the model is one of poses, nothing is labelled, or the limit is not above 0.
    FileMissingError, FileFormatError, ModelFileError
    """
    check_only(only)
    if limit is not None:
        check_positive("limit", limit)
    progress(0, None, "opening the model")
    model = load_model(
        model_path, engine, precision, calibration=lambda: spread_images(_frames(source, None))
    )
    check_finds_centroids(model.task, Path(model_path))
    assert model.task.centroids is not None
    dataset = _frames(source, model.task.centroids.anchor)
    rows, images_used = choose_rows(model, dataset, Path(source), only)
    keypoints, predictions = predict_rows(model, dataset, rows, batch_size, progress)
    limit = usual_limit(model.task) if limit is None else float(limit)
    scores = {}
    for threshold in thresholds:
        found = [points[points[:, 2] >= threshold, :2] for points in predictions]
        scores[float(threshold)] = score_detections(found, keypoints, limit)
    return DetectorEvaluation(scores, limit, len(rows), images_used)


def usual_limit(task: Task) -> float:
    """Pixels of the original images: half an animal, as far as that is known."""
    centroids = task.centroids
    sides = () if centroids is None else (centroids.width, centroids.height)
    extents = [side for side in sides if side is not None]
    return float(np.mean(extents)) / 2 if extents else 3 * task.sigma / task.scale


def _frames(source: str | PathLike[str], anchor: str | None) -> Dataset:
    return TrainingGenerator(
        source, centroids=Centroids(anchor), augmenter=None, validation_split=0, cache_bytes=0
    ).dataset
