"""Corners to a fraction of a pixel: straight lines fitted to a quadrilateral's edges."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from dpk_trackers.barcodes.quads import intersect


def refine_corners(
    image: np.ndarray,
    corners: np.ndarray,
    rising: np.ndarray,
    *,
    reach: np.ndarray,
    along: int = 10,
    across: int = 9,
) -> np.ndarray:
    """Corners where lines meet that are fitted to the four edges.

    Along each side, the gray level is read on short lines across it. The edge is at the centre of
    gravity of the slope there, and a straight line goes through those places, twice: the second
    time, places far from the line count less.

    Parameters
    ----------
    image
        (h, w) uint8 or float32.
    corners
        (n, 4, 2) near the true ones, clockwise on the screen.
    rising
        (n,) True where the inside is the brighter side.
    reach
        (n,) pixels to look at on both sides of an edge.

    Returns
    -------
    ndarray
        (n, 4, 2); corners that moved farther than twice the reach, or that no edge supports, stay
        where they were.
    """
    if not len(corners):
        return corners
    following = np.roll(corners, -1, axis=1)
    side = following - corners
    length = np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-9)
    outwards = np.stack([side[..., 1], -side[..., 0]], axis=-1) / length
    part = np.linspace(0.09, 0.91, along)
    steps = np.linspace(-1, 1, across)
    feet = corners[:, :, None] + part[:, None] * side[:, :, None]
    offsets = steps * reach[:, None]
    places = feet[:, :, :, None] + (outwards[:, :, None, None] * offsets[:, None, None, :, None])
    gray = sample(image, places)
    # Outwards it gets darker where the inside is the brighter side.
    slope = np.diff(gray, axis=-1) * np.where(rising, -1.0, 1.0)[:, None, None, None]
    weight = np.maximum(slope, 0)
    between = (offsets[:, 1:] + offsets[:, :-1]) / 2
    strength = weight.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        where = np.where(
            strength > 0, (weight * between[:, None, None]).sum(axis=-1) / strength, 0.0
        )
    x = part - 0.5
    trust = strength
    for _ in range(2):
        slope_, middle = _line(x, where, trust)
        away = np.abs(where - (middle[..., None] + slope_[..., None] * x))
        typical = np.median(away, axis=-1, keepdims=True) + 0.05
        trust = strength / (1 + (away / (2 * typical)) ** 2)
    start = corners + outwards * (middle - 0.5 * slope_)[..., None]
    end = following + outwards * (middle + 0.5 * slope_)[..., None]
    fitted = end - start
    fitted /= np.maximum(np.linalg.norm(fitted, axis=-1, keepdims=True), 1e-9)
    normals = np.stack([fitted[..., 1], -fitted[..., 0]], axis=-1)
    refined = intersect(normals, (normals * start).sum(axis=-1))
    moved = np.linalg.norm(refined - corners, axis=-1).max(axis=1)
    good = moved <= 2 * reach  # False for NaN
    return np.where(good[:, None, None], refined, corners)


def sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Gray levels between pixels, float32, for (..., 2) places of x, y; the border goes on."""
    flat = np.asarray(places, np.float32).reshape(-1, 2)
    if not len(flat):
        return np.zeros(places.shape[:-1], np.float32)
    # remap takes no map longer than 32,767 on a side; places that are not numbers are those of the
    # border.
    if not np.isfinite(flat).all():
        flat = np.nan_to_num(flat, nan=-1.0, posinf=-1.0, neginf=-1.0)
    rows = -(-len(flat) // 1024)
    padded = np.zeros((rows * 1024, 2), np.float32)
    padded[: len(flat)] = flat
    parts = []
    no_second: Any = None
    for start in range(0, rows, 32_000):
        maps = padded[start * 1024 : (start + 32_000) * 1024].reshape(-1, 1024, 2)
        parts.append(
            cv2.remap(
                image, maps, no_second, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            ).reshape(-1)
        )
    values = np.concatenate(parts)
    return values[: len(flat)].astype(np.float32, copy=False).reshape(places.shape[:-1])


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares y = middle + slope x over the last axis."""
    weight = weight + 1e-6
    total = weight.sum(axis=-1)
    mean_x = (weight * x).sum(axis=-1) / total
    mean_y = (weight * y).sum(axis=-1) / total
    dx = x - mean_x[..., None]
    slope = (weight * dx * (y - mean_y[..., None])).sum(axis=-1) / (weight * dx**2).sum(axis=-1)
    return slope, mean_y - slope * mean_x
