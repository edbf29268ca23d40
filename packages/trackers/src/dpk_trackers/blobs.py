"""Blobs: what stands out from a background, in one piece, with its centre, extent and angle."""

from __future__ import annotations

from typing import NamedTuple

import attrs
import cv2
import numpy as np

PIXEL_VARIANCE = 1 / 12
"""Of a coordinate within one pixel: pixels are squares, not points."""


class Ellipse(NamedTuple):
    """An ellipse: centre x, y; full axes in pixels, along and across; angle in (-pi/2, pi/2].

    The angle goes from the x axis towards the y axis. Nothing in a shape says which end of it is
    the head.
    """

    x: float
    y: float
    length: float
    width: float
    angle: float


@attrs.frozen(repr=False, eq=False)
class Blob:
    """Pixels that belong together.

    Parameters
    ----------
    points
        (n, 2) float64 x, y of the pixels; (0, 0) is the centre of the top-left pixel.
    contrast
        (n,) float32 how much each stands out, in gray levels above zero.
    """

    points: np.ndarray
    contrast: np.ndarray

    @property
    def area(self) -> int:
        """Pixels."""
        return len(self.points)

    def __repr__(self) -> str:
        return f"Blob({self.area} pixels)"


def find_blobs(contrast: np.ndarray, threshold: float, min_area: float = 1.0) -> list[Blob]:
    """Connected regions that stand out by more than a threshold.

    Parameters
    ----------
    contrast
        (h, w) uint8, or float32.
    threshold
        Pixels above it belong to a blob; neighbours, diagonal ones too, to the same one.
    min_area
        Smaller ones are dropped.

    Returns
    -------
    Blobs
        The largest first.
    """
    _, mask = cv2.threshold(contrast, threshold, 255, cv2.THRESH_BINARY)
    if mask.dtype != np.uint8:
        mask = mask.astype(np.uint8)
    n, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    areas = stats[1:n, cv2.CC_STAT_AREA]
    chosen = np.flatnonzero(areas >= max(min_area, 1)) + 1
    order = chosen[np.argsort(-areas[chosen - 1], kind="stable")]
    return [_cut_out(labels, contrast, int(label), stats[label]) for label in order]


def fit_ellipse(
    points: np.ndarray, weights: np.ndarray | None = None, core: np.ndarray | None = None
) -> Ellipse:
    """The ellipse with the same moments up to the second as the weighted pixels.

    It is that from which pixels are, when they fill an ellipse evenly.

    Parameters
    ----------
    points
        (n, 2) x, y.
    weights
        (n,) of the pixels. Default: 1 each.
    core
        (n,) other weights that say which way the body lies: extents are measured along and across
        its long axis. Default: the same.
    """
    weights = np.ones(len(points)) if weights is None else weights
    center, covariance = _moments(points, weights)
    body = covariance if core is None else _moments(points, core)[1]
    along = np.linalg.eigh(body)[1][:, 1]
    across = np.array([-along[1], along[0]])
    angle = np.arctan2(along[1], along[0])
    if angle <= -np.pi / 2 or angle > np.pi / 2:
        angle -= np.copysign(np.pi, angle)
    # The variance along an axis of an even ellipse is a sixteenth of the squared full axis.
    length, width = (4 * np.sqrt(axis @ covariance @ axis) for axis in (along, across))
    return Ellipse(float(center[0]), float(center[1]), float(length), float(width), float(angle))


def _moments(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(2,) mean and (2, 2) covariance of squares, not points, with these weights."""
    total = weights.sum()
    center = weights @ points / total
    away = points - center
    return center, (away * weights[:, None]).T @ away / total + np.eye(2) * PIXEL_VARIANCE


def _cut_out(labels: np.ndarray, contrast: np.ndarray, label: int, stats: np.ndarray) -> Blob:
    left, top, width, height = (int(v) for v in stats[:4])
    window = np.s_[top : top + height, left : left + width]
    y, x = np.nonzero(labels[window] == label)
    values = contrast[window][y, x].astype(np.float32)
    return Blob(np.stack([x + left, y + top], axis=1).astype(np.float64), values)
