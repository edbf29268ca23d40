"""The compiled prediction: uint8 frames in, coordinates out; maps never leave the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from dpk_core.services.plugins import registry
from dpk_core.task import Task
from dpk_models.centroids import SeveralPeaks
from dpk_models.device import jit_compile
from dpk_models.maps import MAP_SCALE

if TYPE_CHECKING:
    from dpk_models.base import PoseModel


class Predictor(keras.Model):
    """A network with its peak detector behind it.

    Input (n, h, w, c) uint8; output (n, k, 3) of x, y in pixels of the input, and the score.
    """

    def __init__(self, network: keras.Model, task: Task, peak_detector: Any) -> None:
        super().__init__(name="predictor")
        self.network = network
        self.task = task
        self.peak_detector = peak_detector

    def call(self, images: Any) -> Any:
        return detect_peaks(self.network(images, training=False), self.task, self.peak_detector)


def detect_peaks(outputs: Any, task: Task, peak_detector: Any) -> Any:
    """Coordinates (n, k, 3) in network pixels from what a network put out (the last output)."""
    maps = outputs[-1] if isinstance(outputs, (list, tuple)) else outputs
    maps = keras.ops.cast(maps[..., : task.n_keypoints], "float32") / MAP_SCALE
    peaks = peak_detector(maps)
    stride = task.output_stride
    height, width, _ = task.image_shape
    # A peak in the part of a cell that reaches over the border still lies in the image.
    x = keras.ops.clip((peaks[..., 0] + 0.5) * stride - 0.5, 0, width - 1)
    y = keras.ops.clip((peaks[..., 1] + 0.5) * stride - 0.5, 0, height - 1)
    return keras.ops.stack([x, y, peaks[..., 2]], axis=-1)


def make_peak_detector(name: str, task: Task) -> Any:
    """The peak detector plugin of that name, for the width of the task's confidence peaks."""
    sigma = task.sigma / task.output_stride
    detector = registry().get("peak_detectors", name).load()(sigma=sigma)
    if task.centroids is None:
        return detector
    return SeveralPeaks(detector, task.n_keypoints, sigma)


def make_predictor(model: PoseModel) -> keras.Model:
    """The compiled prediction of a model."""
    detector = make_peak_detector(model.peak_detector, model.task)
    predictor = Predictor(model.network, model.task, detector)
    predictor.compile(jit_compile=jit_compile())
    return predictor
