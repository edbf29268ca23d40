"""How the camera moved between two frames, from what stands still."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import ValidationError

METHODS = ("none", "flow", "ecc")
_SIDE = 640
"""Frames are made this small for it; longer side, in pixels."""
_POINTS = 300
_FEWEST = 12


class CameraMotion:
    """Finds the shift, rotation and scale from each frame to the next.

    ``"flow"`` follows corners by sparse optical flow (Lucas and Kanade 1981, in pyramids) and fits
    a similarity to them that ignores what moves by itself (RANSAC). ``"ecc"`` aligns whole frames
    (Evangelidis and Psarakis 2008): for ground without corners; it is slower and does not follow
    leaps. What is inside a detection is left out by both. Where a frame has too little to
    go by, or another size than the one before, the camera counts as still.

    Parameters
    ----------
    method
        "flow" or "ecc".

    Examples
    --------
    >>> motion = CameraMotion()
    >>> motion.see(np.zeros((48, 64, 3), np.uint8)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    def __init__(self, method: str = "flow") -> None:
        if method not in METHODS[1:]:
            raise ValidationError(f"camera: expected one of {METHODS}, found {method!r}")
        self.method = method
        self._last: np.ndarray | None = None
        self._still: np.ndarray | None = None
        self._shape: tuple[int, ...] = ()

    def see(self, frame: np.ndarray, detections: Detections | None = None) -> np.ndarray:
        """(h, w, c) uint8 -> (2, 3) from pixels of the frame before to pixels of this one."""
        gray, scale = _small_gray(frame)
        still = _still_part(gray.shape, detections, scale)
        last, before = self._last, self._still
        same = self._shape == frame.shape[:2]
        self._last, self._still, self._shape = gray, still, frame.shape[:2]
        if last is None or before is None or not same:
            return np.eye(2, 3)
        follow = _by_flow if self.method == "flow" else _by_alignment
        found = follow(last, gray, before, still)
        if found is None or not _is_plausible(found):
            return np.eye(2, 3)
        return _in_pixels(found, scale)


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(2, 3) that does the first and then the second."""
    both: np.ndarray = second[:, :2] @ first
    both[:, 2] += second[:, 2]
    return both


def _small_gray(frame: np.ndarray) -> tuple[np.ndarray, float]:
    import cv2

    if frame.dtype != np.uint8 or frame.ndim not in (2, 3):
        raise ValidationError(
            f"frame: expected (h, w, c) uint8, found {frame.shape} of {frame.dtype}"
        )
    gray = frame if frame.ndim == 2 else frame[..., 0]
    if frame.ndim == 3 and frame.shape[2] >= 3:
        gray = cv2.cvtColor(np.ascontiguousarray(frame[..., :3]), cv2.COLOR_RGB2GRAY)
    scale = min(1.0, _SIDE / max(gray.shape))
    if scale < 1:
        size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(gray), scale


def _still_part(shape: tuple[int, ...], detections: Detections | None, scale: float) -> np.ndarray:
    """255 where no detection is, 0 elsewhere."""
    import cv2

    mask = np.full(shape[:2], 255, np.uint8)
    if detections is None or not len(detections):
        return mask
    boxes = (detections.boxes + 0.5) * scale - 0.5
    for x0, y0, x1, y1 in boxes[np.isfinite(boxes).all(axis=1)]:
        low = max(0, int(x0) - 1), max(0, int(y0) - 1)
        high = min(shape[1], int(x1) + 2), min(shape[0], int(y1) + 2)
        mask[low[1] : max(low[1], high[1]), low[0] : max(low[0], high[0])] = 0
    if np.count_nonzero(mask) < 0.1 * mask.size:  # animals everywhere: better them than nothing
        cv2.rectangle(mask, (0, 0), (shape[1], shape[0]), 255, -1)
    return mask


def _by_flow(
    last: np.ndarray, gray: np.ndarray, before: np.ndarray, still: np.ndarray
) -> np.ndarray | None:
    import cv2

    apart = max(4, round(min(last.shape) / 30))
    points = cv2.goodFeaturesToTrack(last, _POINTS, 0.01, apart, mask=before)
    if points is None or len(points) < _FEWEST:
        return None
    start: Any = None
    found: tuple[Any, ...] = cv2.calcOpticalFlowPyrLK(
        last, gray, points, start, winSize=(21, 21), maxLevel=3
    )
    moved, status, _ = found
    if moved is None:
        return None
    kept = status.ravel() == 1
    if kept.sum() < _FEWEST:
        return None
    return _similarity(np.asarray(points)[kept, 0], moved[kept, 0])


def _similarity(points: np.ndarray, moved: np.ndarray) -> np.ndarray | None:
    import cv2

    matrix, inside = cv2.estimateAffinePartial2D(
        points, moved, method=cv2.RANSAC, ransacReprojThreshold=1.0, maxIters=500
    )
    if matrix is None or inside.sum() < _FEWEST:
        return None
    return matrix


def _by_alignment(
    last: np.ndarray, gray: np.ndarray, before: np.ndarray, still: np.ndarray
) -> np.ndarray | None:
    import cv2

    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
    matrix: Any = np.eye(2, 3, dtype=np.float32)
    try:
        _, matrix = cv2.findTransformECC(last, gray, matrix, cv2.MOTION_EUCLIDEAN, stop, still, 5)
    except cv2.error:  # it does not converge: nothing to see, or a leap
        return None
    return matrix.astype(np.float64)


def _is_plausible(matrix: np.ndarray) -> bool:
    """A camera does not zoom by half from one frame to the next."""
    return bool(np.isfinite(matrix).all() and 0.5 < np.linalg.det(matrix[:, :2]) < 2.0)


def _in_pixels(matrix: np.ndarray, scale: float) -> np.ndarray:
    """From pixels of the smaller frames to those of the frames: x is (x + 0.5) s - 0.5 there."""
    shift = 0.5 * scale - 0.5
    down = np.array([[scale, 0, shift], [0, scale, shift]])
    up = np.array([[1 / scale, 0, -shift / scale], [0, 1 / scale, -shift / scale]])
    return compose(up, compose(matrix, down))
