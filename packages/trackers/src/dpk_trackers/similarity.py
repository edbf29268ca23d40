"""How alike two sets of boxes or poses are, and how large a body is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import isnan, sqrt

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import ValidationError

SIGMA = 0.05
"""Default spread of a keypoint, relative to the square root of the animal's area. COCO's own, for
the human body, lie between 0.025 (eyes) and 0.107 (hips)."""


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of upright boxes.

    Parameters
    ----------
    first, second
        (n, 4) and (m, 4) of x0, y0, x1, y1: outer edges.

    Returns
    -------
    ndarray
        (n, m) in [0, 1]; 0 where a box is NaN or has no area.
    """
    return _shared_part(first.T[:, :, None], second.T[:, None])


def iou_of_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """As `iou`, of each box with the one in the same place of the other list.

    Parameters
    ----------
    first, second
        (4, p) of x0, y0, x1, y1.

    Returns
    -------
    ndarray
        (p,) in [0, 1]; NaN where a box is NaN, 0 where one has no area.
    """
    alike = _shared_part(first, second)
    unknown = np.isnan(first[0] + first[1] + first[2] + first[3])
    unknown |= np.isnan(second[0] + second[1] + second[2] + second[3])
    alike[unknown] = np.nan
    return alike


def oks(
    first: np.ndarray,
    second: np.ndarray,
    area: np.ndarray,
    sigmas: np.ndarray | float = SIGMA,
    slack: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Object keypoint similarity of every pose with every other.

    ``exp(-d^2 / (2 s^2 k^2))``, averaged over the keypoints that both have, with s^2 the area and
    k twice the sigma of the keypoint (COCO keypoint evaluation, cocodataset.org/#keypoints-eval;
    ``computeOks`` in pycocotools/cocoeval.py, version 2.0).

    Parameters
    ----------
    first, second
        (n, k, 2) and (m, k, 2) pixels, NaN missing.
    area
        (n,) of the animals in ``first``, in square pixels.
    sigmas
        (k,), or one for all.
    slack
        (n,) variances of the places of the poses in ``first`` along each axis, in square pixels,
        which widen the spread of each keypoint: of poses that are foretold, say. COCO has none.

    Returns
    -------
    ndarray
        (n, m) in [0, 1]; NaN where no keypoint is in both, or the area is unknown.
    """
    _check_poses(first, second, sigmas)
    slack = np.broadcast_to(slack, len(first))[:, None]
    return _alike(first[:, None], second[None], np.asarray(area)[:, None], sigmas, slack)


def oks_of_pairs(
    first: np.ndarray,
    second: np.ndarray,
    area: np.ndarray,
    sigmas: np.ndarray | float = SIGMA,
    slack: np.ndarray | float = 0.0,
) -> np.ndarray:
    """(p,) as `oks`, of each pose (p, k, 2) with the one in the same place of the other list."""
    _check_poses(first, second, sigmas)
    return _alike(first, second, np.asarray(area), sigmas, np.broadcast_to(slack, len(first)))


def body_areas(detections: Detections) -> np.ndarray:
    """(m,) width times height; that of the box around the keypoints where there is no extent.

    NaN where neither is known, or it has no area.
    """
    areas = detections.width * detections.height
    if detections.keypoints is not None and np.isnan(areas).any():
        points = detections.keypoints.astype(np.float64)
        known = np.isfinite(points)
        high = np.where(known, points, -np.inf).max(axis=1, initial=-np.inf)
        low = np.where(known, points, np.inf).min(axis=1, initial=np.inf)
        around = np.maximum(high - low, 0).prod(axis=1)  # nothing known: 0
        areas = np.where(np.isnan(areas), around, areas)
    return np.where(areas > 0, areas, np.nan)


def log_sizes(width: np.ndarray, height: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(m,) log of the size of each body in pixels, whichever way it is turned; NaN unknown.

    The mean extent of a box that turns with the body. The upright box around a turned ellipse
    changes in width, height and area, but not in its diagonal, the root of the sum of the squared
    axes: that is taken where there is no angle.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = 0.5 * np.log((width**2 + height**2) / 2)
        turned = ~np.isnan(angle)
        if turned.any():
            sizes = np.where(turned, 0.5 * np.log(width * height), sizes)
    return np.where(np.isfinite(sizes), sizes, np.nan)


def check_sigmas(sigmas: float | Sequence[float]) -> np.ndarray:
    """One or more for `oks`, each positive, or ValidationError."""
    try:
        found = np.asarray(sigmas, float)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim > 1 or not found.size or not (np.isfinite(found) & (found > 0)).all():
        raise ValidationError(
            f"sigmas: expected a positive number, or one for each keypoint, found {sigmas!r}"
        )
    return found


class BodyScale:
    """The usual size of a body in pixels, the unit of distances that nobody gave in pixels.

    The median over the last frames of the square root of `body_areas`. Without any extent, a
    quarter of the usual distance between neighbours; with neither, 25 px.
    """

    def __init__(self, frames: int = 64) -> None:
        self._sizes: deque[float] = deque(maxlen=frames)
        self._gaps: deque[float] = deque(maxlen=frames)
        self.value = 25.0

    def see(self, detections: Detections, areas: np.ndarray | None = None) -> float:
        """Take a frame into account and give the size; (m,) `body_areas` where they are known."""
        areas = body_areas(detections) if areas is None else areas
        usual = _middle(areas[np.isfinite(areas)].tolist())
        if not isnan(usual):
            self._sizes.append(sqrt(usual))
        elif len(detections) > 1 and not self._sizes:
            self._gaps.append(_usual_gap(detections))
        if self._sizes:
            self.value = _middle(self._sizes)
        elif self._gaps:
            self.value = max(1.0, _middle(self._gaps) / 4)
        return self.value


def _shared_part(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union; x0, y0, x1, y1 along the first axis, the others are broadcast.

    Axis by axis: NumPy is slow on short last axes.
    """
    shared = _overlap(first, second, 0)
    shared *= _overlap(first, second, 1)
    both = _area(first) + _area(second)
    both -= shared
    known = (shared > 0) & (both > 0)  # False where NaN
    return np.divide(shared, both, out=np.zeros_like(shared), where=known)


def _overlap(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    """Length that boxes share along an axis."""
    low = np.maximum(first[axis], second[axis])
    length: np.ndarray = np.minimum(first[axis + 2], second[axis + 2])
    length -= low
    return np.maximum(length, 0, out=length)


def _area(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    return area


def _check_poses(first: np.ndarray, second: np.ndarray, sigmas: np.ndarray | float) -> None:
    if first.shape[1:] != second.shape[1:]:
        raise ValidationError(
            f"keypoints: expected {first.shape[1]} of each animal as before, found "
            f"{second.shape[1]}; choose one detector for a video"
        )
    if np.size(sigmas) not in (1, first.shape[1]):
        raise ValidationError(
            f"sigmas: expected one, or one for each of {first.shape[1]} keypoints, found "
            f"{np.size(sigmas)}"
        )


def _alike(
    first: np.ndarray,
    second: np.ndarray,
    area: np.ndarray,
    sigmas: np.ndarray | float,
    slack: np.ndarray,
) -> np.ndarray:
    """Object keypoint similarity; poses (..., k, 2) and areas and variances (...) are broadcast."""
    distance = ((first - second) ** 2).sum(axis=-1)
    spread = (2 * np.broadcast_to(sigmas, first.shape[-2:-1])) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.exp(-distance / (2 * (area[..., None] * spread + slack[..., None])))
        known = np.isfinite(each)
        found: np.ndarray = np.where(known, each, 0).sum(axis=-1) / known.sum(axis=-1)
    return found


def _middle(values: Iterable[float]) -> float:
    """Their median; NaN of none."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if not ordered:
        return float("nan")
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _usual_gap(detections: Detections) -> float:
    x, y = detections.x, detections.y
    gaps = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(gaps, np.inf)
    return float(np.median(gaps.min(axis=1)))
