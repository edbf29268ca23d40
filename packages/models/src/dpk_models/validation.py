"""Validation: the loss and the error in pixels on images that don't train."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import keras
import numpy as np

from dpk_core.services.centroid_matching import in_order_of
from dpk_core.services.imaging import coordinates_to_original
from dpk_models.device import jit_compile
from dpk_models.prediction import make_peak_detector
from dpk_models.replicas import fill_up
from dpk_models.trainer import Validator

if TYPE_CHECKING:
    from dpk_core.services.generator import TrainingGenerator
    from dpk_models.base import PoseModel


@attrs.frozen
class Validation:
    """What validation found.

    Parameters
    ----------
    loss
        None without a labelled image.
    error_px
        Mean error in pixels of the original images; NaN without a labelled keypoint.
    """

    loss: float | None = None
    error_px: float = math.nan


class ValidationRun:
    """Validates a model's network, as often as it changes, on its generator's images."""

    def __init__(self, model: PoseModel, generator: TrainingGenerator, batch_size: int) -> None:
        self.batch_size = min(batch_size, max(1, generator.n_validation))
        self._generator, self._task = generator, generator.task
        detector = make_peak_detector(model.peak_detector, self._task)
        self._validator: keras.Model = Validator(model.network, self._task, detector)
        self._validator.compile(jit_compile=jit_compile())

    def run(self) -> Validation:
        """One pass over the validation images."""
        if not self._generator.n_validation:
            return Validation()
        sums, distances = np.zeros(2), []
        for images, keypoints in self._generator.batches(self.batch_size, validation=True):
            n = len(images)
            # Every batch is of one size, so that one program does them all.
            batch = fill_up(images, keypoints, self.batch_size)
            image_sums, peaks = self._validator.predict_on_batch(list(batch))
            sums += np.asarray(image_sums)[:n].sum(axis=0)
            found = np.asarray(peaks)[:n]
            if self._task.centroids is not None:
                found = in_order_of(found, keypoints)
            found = found[..., :2]
            difference = self._to_original(found) - self._to_original(keypoints)
            distances.append(np.linalg.norm(difference, axis=-1).ravel())
        distance = np.concatenate(distances)
        known = distance[np.isfinite(distance)]
        return Validation(
            float(sums[0] / sums[1]) if sums[1] else None,
            float(known.mean()) if len(known) else math.nan,
        )

    def _to_original(self, keypoints: np.ndarray) -> np.ndarray:
        height, width, _ = self._generator.dataset.image_shape
        return coordinates_to_original(keypoints, self._task, (height, width))
