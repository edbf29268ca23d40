"""Features: where two frames lie near each other, they look alike."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from dpk_core.checks import as_array
from dpk_core.services.imaging import match_channels, resize_image, scaled_size


def pose_features(keypoints: np.ndarray) -> np.ndarray:
    """Poses as points in a space, wherever the animal is in the frame.

    Each pose is shifted so that the mean of its keypoints is 0. A missing keypoint stands where it
    usually does, and whether it is missing is a feature of its own. Directions stay: an animal
    that faces left looks different to a network.

    Parameters
    ----------
    keypoints
        (n, k, 2) pixels, NaN missing.

    Returns
    -------
    np.ndarray
        (n, 3k) float64; the mean squared distance from their mean is 1, or 0 where all are equal.

    Examples
    --------
    >>> pose = np.array([[1.0, 2], [5, 8]])
    >>> moved = pose_features(np.stack([pose, pose + 40, pose[::-1]]))
    >>> bool(np.allclose(moved[0], moved[1])), bool(np.allclose(moved[0], moved[2]))
    (True, False)
    """
    keypoints = as_array("keypoints", keypoints, np.float64, ("n", "k", 2))
    n, k = keypoints.shape[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # frames without any keypoint
        centered = keypoints - np.nanmean(keypoints, axis=1, keepdims=True)
        usual = np.nan_to_num(np.nanmedian(centered, axis=0)) if n else np.zeros((k, 2))
    missing = np.isnan(keypoints).any(axis=2)
    centered = np.where(missing[..., None], usual, centered)
    size = float(np.sqrt(np.mean(centered**2))) if n else 0.0
    return _scaled(np.concatenate([centered.reshape(n, 2 * k), size * missing], axis=1))


def image_features(images: Iterable[np.ndarray], longest_side: int = 24) -> np.ndarray:
    """Images as points in a space: small and gray, as one row of pixels.

    Parameters
    ----------
    images
        n of one size, (h, w, c) uint8; from an iterator, one at a time is in memory.
    longest_side
        Of the small images.

    Returns
    -------
    np.ndarray
        (n, pixels) float64; the mean squared distance from their mean is 1, or 0.

    References
    ----------
    Pereira et al. 2019, Nature Methods 16:117: cluster sampling of frames by their pixels.
    """
    rows = []
    for image in images:
        height, width = image.shape[:2]
        size = scaled_size((height, width), min(1.0, longest_side / max(height, width)))
        rows.append(match_channels(resize_image(image, size), 1).ravel().astype(np.float64))
    return _scaled(np.stack(rows)) if rows else np.empty((0, 0))


def _scaled(features: np.ndarray) -> np.ndarray:
    if not len(features):
        return features
    features = features - features.mean(axis=0)
    spread = float(np.sqrt(np.mean((features**2).sum(axis=1))))
    return features / spread if spread > 0 else features
