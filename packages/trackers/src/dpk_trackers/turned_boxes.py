"""How much boxes that are turned overlap."""

from __future__ import annotations

import cv2
import numpy as np


def turned_iou(boxes: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Intersection over union of the first of several turned boxes with each of the others.

    Parameters
    ----------
    boxes
        (n, 4) x0, y0, x1, y1 in pixels, before they are turned about their middles; n from 1.
    angles
        (n,) radians from the x axis towards the y axis.

    Returns
    -------
    np.ndarray
        (n - 1,) in [0, 1]; exact, by the polygon that two of them have in common.

    Examples
    --------
    >>> cross = np.array([[0.0, 4, 10, 6], [0, 4, 10, 6]])       # 10 x 2, upright and turned
    >>> turned_iou(cross, np.array([0, np.pi / 2])).round(3).tolist()
    [0.111]
    """
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    areas, reach = extent.prod(axis=1), np.hypot(*extent.T) / 2
    apart, extent, angles = _beside_the_first(centre, extent, angles)
    near = np.hypot(*apart.T) < reach[0] + reach
    common = np.zeros(len(boxes))
    first = _rectangle(apart[0], extent[0], angles[0])
    for i in np.flatnonzero(near[1:] & (areas[1:] > 0) & (areas[0] > 0)) + 1:
        _, corners = cv2.rotatedRectangleIntersection(
            first, _rectangle(apart[i], extent[i], angles[i])
        )
        if corners is not None and len(corners) > 2:
            common[i] = cv2.contourArea(cv2.convexHull(corners))
    union = areas[0] + areas[1:] - common[1:]
    return common[1:] / np.maximum(union, 1e-9)


def _beside_the_first(
    centre: np.ndarray, extent: np.ndarray, angles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles, extents and angles as the first box sees them, all turned by at most 45 degrees.

    Numbers stay small, for OpenCV computes in 32 bits; and of two boxes that are nearly the same
    but for a quarter turn it loses corners.
    """
    cos, sin = np.cos(angles[0]), np.sin(angles[0])
    apart = (centre - centre[0]) @ np.array([[cos, -sin], [sin, cos]])
    turned = angles - angles[0]
    quarters = np.round(turned / (np.pi / 2))
    odd = (quarters % 2 == 1)[:, None]
    return apart, np.where(odd, extent[:, ::-1], extent), turned - quarters * (np.pi / 2)


def _rectangle(
    centre: np.ndarray, extent: np.ndarray, angle: float
) -> tuple[tuple[float, float], tuple[float, float], float]:
    """As OpenCV has it: degrees, clockwise on the screen."""
    (x, y), (w, h) = centre.tolist(), extent.tolist()
    return (x, y), (w, h), float(np.degrees(angle))
