"""Running a trained network over images, whichever engine computes it.

An engine is a function from (b, h, w, c) uint8 images, of the size that the network sees, to
(b, k, 3) float32 of x, y in pixels of those images, and a score. Everything around it is here:
batches, sizes, channels, and the way back to the pixels of the images that were given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.interfaces import Dataset
from dpk_core.services.imaging import (
    coordinates_to_original,
    prepare_images,
    scaled_size,
)
from dpk_core.task import Task

Run = Callable[[np.ndarray], np.ndarray]
"""(b, h, w, c) uint8 -> (b, k, 3) float32, in pixels of the network's images."""


def predict_images(
    run: Run,
    task: Task,
    images: Any,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Find the keypoints in any number of images.

    Parameters
    ----------
    run
        The engine. It always gets ``batch_size`` images: the last batch is filled up, so that
        every result is computed by the very same program.
    task
        What the network was made for.
    images
        (n, h, w, c) uint8 of the size of the original training images, in memory or in a file
        that is read by slices; or a `Dataset`; or anything with ``len`` and ``frames()``, such as
        a `VideoReader`.
    progress
        Called with the number of images done and their total after each batch.

    Returns
    -------
    (n, k, 3) float32 of x, y in pixels of the given images, and a score in [0, 1].

    Raises
    ------
    ValidationError
        On images of another size or type than the network was trained on.
    """
    if batch_size < 1:
        raise ValidationError(f"batch_size: expected at least 1, found {batch_size}")
    batches = _batches(images, batch_size)
    total = len(images)
    results = []
    done = 0
    for batch in batches:
        results.append(_predict_batch(run, task, batch, batch_size))
        done += len(batch)
        if progress is not None:
            progress(done, total)
    if not results:
        return np.empty((0, task.n_keypoints, 3), np.float32)
    return np.concatenate(results)


class Realtime:
    """One frame in, coordinates out, as soon as can be: what a closed loop calls.

    Memory is made once. The first call may take long (the network is compiled); call `warm_up`
    before the animal is watched.

    Parameters
    ----------
    run
        The engine, called with one image at a time.
    task
        What the network was made for.

    Examples
    --------
    >>> from dpk_core.testing import dot_annotations
    >>> task = Task(image_shape=(48, 64, 1), skeleton=dot_annotations().skeleton)
    >>> realtime = Realtime(lambda image: np.zeros((1, task.n_keypoints, 3), np.float32), task)
    >>> realtime(np.zeros((48, 64, 1), np.uint8)).shape
    (3, 3)
    """

    def __init__(self, run: Run, task: Task) -> None:
        self._run = run
        self.task = task
        self._input = np.zeros((1, *task.image_shape), np.uint8)
        size = task.image_shape[:2]
        self._is_unscaled = scaled_size(size, task.scale) == size

    def warm_up(self, calls: int = 3) -> None:
        """Run on a black frame, so that the first real one is as quick as any."""
        self._input[...] = 0
        for _ in range(calls):
            self._run(self._input)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Find the keypoints in one frame.

        Parameters
        ----------
        frame
            (h, w, c) or, for gray, (h, w) uint8, of the size of the original training images; gray
            and colour are converted to what the network was trained on.

        Returns
        -------
        (k, 3) float32 of x, y in pixels of the frame, and a score in [0, 1].

        Raises
        ------
        ValidationError
            On a frame of another size or type.
        """
        frame = np.asarray(frame)
        if frame.ndim == 2:
            frame = frame[..., None]
        size = frame.shape[:2]
        as_it_is = frame.shape == self.task.image_shape and self._is_unscaled
        if as_it_is and frame.dtype == np.uint8:
            self._input[0] = frame
        else:
            self._input[...] = prepare_images(frame[None], self.task)
        # A copy: some engines write the next result to the same memory.
        return coordinates_to_original(self._run(self._input)[0], self.task, size)


def _predict_batch(run: Run, task: Task, batch: np.ndarray, batch_size: int) -> np.ndarray:
    prepared = prepare_images(batch, task)
    n = len(prepared)
    if n < batch_size:
        blank = np.zeros((batch_size - n, *task.image_shape), np.uint8)
        prepared = np.concatenate([prepared, blank])
    found = np.asarray(run(np.ascontiguousarray(prepared)))[:n]
    return coordinates_to_original(found, task, (int(batch.shape[1]), int(batch.shape[2])))


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
