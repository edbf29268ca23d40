"""Evaluating a model on labelled images, whichever engine runs it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.interfaces import Dataset, Model
from dpk_core.services.centroid_matching import in_order_of
from dpk_core.services.metrics import keypoint_errors, summarize_errors


def evaluate_on(model: Model, dataset: Dataset, batch_size: int = 32) -> dict[str, Any]:
    """Errors in pixels of the dataset's images.

    Returns
    -------
    A mapping with "summary" (`dpk_core.services.metrics.ErrorSummary`), "errors" (n, k),
    "predictions" (n, k, 3) and "keypoints" (n, k, 2).

    Raises
    ------
    ValidationError
        On an empty dataset, or one with other keypoints than the model's.
    """
    if not len(dataset):
        raise ValidationError("evaluate: expected at least one image, found an empty dataset")
    names = model.skeleton.names
    if dataset.skeleton.names != names:
        raise ValidationError(
            f"evaluate: expected the keypoints {', '.join(names)} in this order, found "
            f"{', '.join(dataset.skeleton.names)}"
        )
    predictions = model.predict(dataset, batch_size)
    keypoints = np.stack([dataset[i].keypoints for i in range(len(dataset))])
    if model.task.centroids is not None:
        predictions = in_order_of(predictions, keypoints)
    errors = keypoint_errors(keypoints, predictions[..., :2])
    return {
        "summary": summarize_errors(errors, names),
        "errors": errors,
        "predictions": predictions,
        "keypoints": keypoints,
    }
