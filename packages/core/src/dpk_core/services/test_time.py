"""Predicting an image and its mirror, and making one pose of the two."""

from __future__ import annotations

import numpy as np

from dpk_core.interfaces import Model
from dpk_core.skeleton import Skeleton


def predict_with_mirror(
    model: Model, images: np.ndarray, batch_size: int = 32, *, agree: float = 8.0
) -> np.ndarray:
    """Predict images and their mirrors, which takes twice as long, and combine the two.

    Works with every model and engine.

    Parameters
    ----------
    images
        (n, h, w, c) uint8.
    agree
        Pixels: where the two lie closer, their mean weighted by score is taken, otherwise the one
        with the higher score.

    Returns
    -------
    (n, k, 3) float32 of x, y in pixels of the images, score.
    """
    images = np.asarray(images)
    seen = model.predict(images, batch_size)
    mirrored = model.predict(np.ascontiguousarray(images[:, :, ::-1]), batch_size)
    return combine(seen, mirror_back(mirrored, images.shape[2], model.skeleton), agree)


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
