"""What is compiled for training: targets drawn from keypoints, compared on the device."""

from __future__ import annotations

from typing import Any

import keras

from dpk_core.task import Task
from dpk_models.maps import draw_maps, masked_mse, pixels_per_weight, squared_error
from dpk_models.prediction import detect_peaks
from dpk_models.replicas import sum_over_devices


class MapTrainer(keras.Model):
    """Draws the target maps from keypoints inside the compiled step and compares.

    ``x`` is (n, h, w, c) uint8 and ``y`` (n, k, 2) keypoints in pixels of those images. A NaN
    keypoint weighs nothing.
    """

    def __init__(self, network: keras.Model, task: Task) -> None:
        super().__init__(name="trainer")
        self.network = network
        self.task = task

    def call(self, images: Any, training: bool = False) -> Any:
        return self.network(images, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        maps, weights = draw_maps(y, self.task)
        outputs = y_pred if isinstance(y_pred, (list, tuple)) else [y_pred]
        # Each of several devices sees a part of the batch; the mean is over the whole of it.
        total = sum_over_devices(keras.ops.sum(weights))
        return sum(masked_mse(maps, weights, output, total) for output in outputs)


class Validator(keras.Model):
    """One forward pass that gives all that validation needs.

    Input: images (n, h, w, c) uint8 and keypoints (n, k, 2). Output: (n, 2) sum of weighted
    squared errors and sum of weights of each image, and its peaks (n, k, 3).
    """

    def __init__(self, network: keras.Model, task: Task, peak_detector: Any) -> None:
        super().__init__(name="validator")
        self.network = network
        self.task = task
        self.peak_detector = peak_detector

    def call(self, inputs: Any) -> Any:
        images, keypoints = inputs
        outputs = self.network(images, training=False)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        maps, weights = draw_maps(keypoints, self.task)
        ops = keras.ops
        error = sum(ops.sum(squared_error(maps, weights, o), axis=(1, 2, 3)) for o in outputs)
        weight = ops.sum(weights, axis=(1, 2, 3)) * pixels_per_weight(weights, maps)
        peaks = detect_peaks(outputs, self.task, self.peak_detector)
        return ops.stack([error, weight], axis=-1), peaks
