"""Prediction: uint8 frames in, coordinates out; the confidence maps never leave the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.interfaces import Dataset
from dpk_core.services.imaging import coordinates_to_original, prepare_images
from dpk_core.services.plugins import registry
from dpk_core.task import Task
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
    return registry().get("peak_detectors", name).load()(sigma=task.sigma / task.output_stride)


def make_predictor(model: PoseModel) -> keras.Model:
    """The compiled prediction of a model."""
    detector = make_peak_detector(model.peak_detector, model.task)
    predictor = Predictor(model.network, model.task, detector)
    predictor.compile(jit_compile=jit_compile())
    return predictor


def predict(
    model: PoseModel,
    images: Any,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """See `PoseModel.predict`."""
    if batch_size < 1:
        raise ValidationError(f"batch_size: expected at least 1, found {batch_size}")
    batches = _batches(images, batch_size)
    total = len(images)
    results = []
    done = 0
    for batch in batches:
        results.append(_predict_batch(model, batch, batch_size))
        done += len(batch)
        if progress is not None:
            progress(done, total)
    if not results:
        return np.empty((0, model.task.n_keypoints, 3), np.float32)
    return np.concatenate(results)


def _predict_batch(model: PoseModel, batch: np.ndarray, batch_size: int) -> np.ndarray:
    prepared = prepare_images(batch, model.task)
    n = len(prepared)
    if n < batch_size:
        filling = np.zeros((batch_size - n, *prepared.shape[1:]), prepared.dtype)
        prepared = np.concatenate([prepared, filling])
    found = np.array(model.predictor.predict_on_batch(prepared), dtype=np.float32)[:n]
    original = coordinates_to_original(found[..., :2], model.task, batch.shape[1:3])
    found[..., :2] = original
    return found


def _batches(images: Any, batch_size: int) -> Iterator[np.ndarray]:
    """(b, h, w, c) arrays from an array, a Dataset, or a video; wrong types are refused at once."""
    if isinstance(images, Dataset):
        return _stacked((images[i].image for i in range(len(images))), batch_size)
    if hasattr(images, "frames"):
        return _stacked(images.frames(), batch_size)
    if hasattr(images, "shape") and hasattr(images, "dtype"):
        if len(images.shape) != 4:
            raise ValidationError(
                f"images: expected (n, height, width, channels), found {tuple(images.shape)}; add "
                "the missing axes, for instance images[None] for one image"
            )
        starts = range(0, len(images), batch_size)
        return (np.asarray(images[start : start + batch_size]) for start in starts)
    raise ValidationError(
        f"images: expected an array, a Dataset or a VideoReader, found {type(images).__name__}"
    )


def _stacked(rows: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    batch: list[np.ndarray] = []
    for i, row in enumerate(rows):
        if batch and row.shape != batch[0].shape:
            raise ValidationError(
                f"images: expected images of one size, found {batch[0].shape} and, as number {i}, "
                f"{row.shape}; predict them apart from each other"
            )
        batch.append(row)
        if len(batch) == batch_size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
