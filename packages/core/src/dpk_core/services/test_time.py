"""Predicting every image together with its mirror, and making one pose of the two.

Twice the work for an error a few percent lower: benchmarks/recipes has the numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task

Run = Callable[[np.ndarray], np.ndarray]
"""(b, h, w, c) uint8 -> (b, k, 3) of x, y, score, as in `dpk_core.services.inference`."""


def check_mirror(task: Task, mirror: bool) -> None:
    """ValidationError when a mirror is asked for of a detector, whose points have no order."""
    if mirror and task.centroids is not None:
        raise ValidationError(
            "mirror: a detector finds animals in no order, so that those of an image and of its "
            "mirror cannot be told to be the same; leave mirror out"
        )


def with_mirror(run: Run, skeleton: Skeleton, agree: float) -> Run:
    """An engine that also looks at the mirror of each image.

    Parameters
    ----------
    run
        The engine.
    skeleton
        Its left-right pairs swap in the mirror.
    agree
        Pixels: where the two poses lie closer, their mean weighted by score is taken, otherwise
        the one with the higher score.

    Examples
    --------
    >>> def brightest(images):
    ...     rows, columns = np.divmod(images[..., 0].reshape(len(images), -1).argmax(1), 8)
    ...     return np.stack([columns, rows, np.ones(len(images))], -1)[:, None]
    >>> image = np.zeros((1, 6, 8, 1), np.uint8)
    >>> image[0, 2, 5] = 255
    >>> with_mirror(brightest, Skeleton(("spot",)), agree=5.0)(image).tolist()
    [[[5.0, 2.0, 1.0]]]
    """

    def run_both(images: np.ndarray) -> np.ndarray:
        seen = run(images)
        mirrored = run(np.ascontiguousarray(images[:, :, ::-1]))
        return combine(seen, mirror_back(mirrored, images.shape[2], skeleton), agree)

    return run_both


def mirror_back(poses: np.ndarray, width: int, skeleton: Skeleton) -> np.ndarray:
    """Poses (n, k, 3) found in mirrored images, in pixels of the images: left is left again."""
    poses = poses[:, skeleton.flip_order].copy()
    poses[..., 0] = width - 1 - poses[..., 0]
    return poses


def combine(a: np.ndarray, b: np.ndarray, agree: float) -> np.ndarray:
    """One pose (n, k, 3) of two: their weighted mean, or the surer where they contradict."""
    weights = np.stack([a[..., 2], b[..., 2]]) + 1e-6
    mean = (a * weights[0, ..., None] + b * weights[1, ..., None]) / weights.sum(0)[..., None]
    surer = np.where((a[..., 2] >= b[..., 2])[..., None], a, b)
    apart = np.linalg.norm(a[..., :2] - b[..., :2], axis=-1)
    return np.where((apart <= agree)[..., None], mean, surer).astype(np.float32)
