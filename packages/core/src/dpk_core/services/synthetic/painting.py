"""Painting the animal: colour and coverage of each pixel, drawn large and averaged down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dpk_core.services.synthetic.animal import INDEX, LEGS, SIDES, SPINE_JOINTS

SUPERSAMPLING = 4
_SHIFT = 4
_BACK = (78, 70, 52)
_STRIPE = (150, 132, 84)
_SPOT = (52, 46, 36)
_LEG = (66, 58, 44)
_FOOT = (112, 84, 60)
_EYE = (22, 20, 20)
_SNOUT = (120, 98, 80)


def paint(keypoints: np.ndarray, length: float, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """The animal in one pose.

    Parameters
    ----------
    keypoints
        (k, 2) in pixels.
    length
        Body length in pixels.
    size
        (height, width) of the image.

    Returns
    -------
    (color (a, b, 3) float32, cover (a, b) float32 in 0..1, (top, left)): a cut-out of the image,
    and where it lies. All empty when the animal is outside.
    """
    import cv2

    box = _box(keypoints, 0.2 * length + 2, size)
    if box is None:
        return np.zeros((0, 0, 3), np.float32), np.zeros((0, 0), np.float32), np.zeros(2, int)
    top, left, bottom, right = box
    s = SUPERSAMPLING
    shape = ((bottom - top) * s, (right - left) * s)
    color = np.zeros((*shape, 3), np.uint8)
    cover = np.zeros(shape, np.uint8)

    def to_fixed(points: np.ndarray) -> np.ndarray:
        large = (points - (left, top) + 0.5) * s - 0.5
        return np.round(large * 2**_SHIFT).astype(np.int32)

    def fill(outline: np.ndarray, tone: tuple[int, int, int]) -> None:
        fixed = [to_fixed(outline)]
        cv2.fillPoly(color, fixed, tone, cv2.LINE_8, _SHIFT)
        cv2.fillPoly(cover, fixed, 255, cv2.LINE_8, _SHIFT)

    def disc(centre: np.ndarray, radius: float, tone: tuple[int, int, int]) -> None:
        x, y = to_fixed(centre)
        r = round(radius * s * 2**_SHIFT)
        cv2.circle(color, (int(x), int(y)), r, tone, -1, cv2.LINE_8, _SHIFT)
        cv2.circle(cover, (int(x), int(y)), r, 255, -1, cv2.LINE_8, _SHIFT)

    _paint_legs(keypoints, length, fill, disc)
    _paint_body(keypoints, length, fill, disc)
    _paint_head(keypoints, length, fill, disc)
    target = (right - left, bottom - top)
    small_cover = cv2.resize(cover, target, interpolation=cv2.INTER_AREA) / np.float32(255)
    small = cv2.resize(color.astype(np.float32), target, interpolation=cv2.INTER_AREA)
    # Where a pixel is covered in part, the average above is darker by that part: undo it.
    small /= np.maximum(small_cover, 1e-3)[..., None]
    return small, small_cover, np.array([top, left])


Fill = Callable[[np.ndarray, tuple[int, int, int]], None]
Disc = Callable[[np.ndarray, float, tuple[int, int, int]], None]


def _paint_legs(keypoints: np.ndarray, length: float, fill: Fill, disc: Disc) -> None:
    for leg in LEGS:
        joint = keypoints[INDEX["neck" if leg == "front" else "hip"]]
        for side in SIDES:
            knee = keypoints[INDEX[f"{leg}knee{side}"]]
            foot = keypoints[INDEX[f"{leg}foot{side}"]]
            fill(_limb(joint, knee, 0.05 * length, 0.04 * length), _LEG)
            fill(_limb(knee, foot, 0.04 * length, 0.028 * length), _LEG)
            disc(knee, 0.04 * length, _LEG)
            disc(foot, 0.046 * length, _FOOT)


def _paint_body(keypoints: np.ndarray, length: float, fill: Fill, disc: Disc) -> None:
    joints = np.stack([keypoints[INDEX[name]] for name in SPINE_JOINTS])
    line = _smooth(joints, 40)
    t = np.linspace(0, 1, len(line))
    width = np.interp(
        t, [0, 0.12, 0.28, 0.47, 0.55, 0.75, 1], [0.09, 0.12, 0.135, 0.1, 0.075, 0.045, 0.008]
    )
    fill(_ribbon(line, width * length), _BACK)
    fill(_ribbon(line, 0.28 * width * length), _STRIPE)
    for place in (6, 10, 14, 18, 23, 28):
        normal = _normals(line)[place] * 0.55 * width[place] * length
        for sign in (-1, 1):
            disc(line[place] + sign * normal, 0.018 * length, _SPOT)


def _paint_head(keypoints: np.ndarray, length: float, fill: Fill, disc: Disc) -> None:
    neck, snout = keypoints[INDEX["neck"]], keypoints[INDEX["snout"]]
    along = snout - neck
    line = neck + np.linspace(-0.15, 1.0, 16)[:, None] * along
    t = np.linspace(-0.15, 1.0, 16)
    width = np.interp(t, [-0.15, 0.1, 0.55, 0.85, 1.0], [0.07, 0.09, 0.1, 0.06, 0.02])
    fill(_ribbon(line, width * length), _BACK)
    disc(snout - 0.1 * along, 0.03 * length, _SNOUT)
    for side in SIDES:
        disc(keypoints[INDEX[f"eye{side}"]], 0.032 * length, _EYE)


def _ribbon(line: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """Outline of a band along a line."""
    offset = half_width[:, None] * _normals(line)
    return np.concatenate([line + offset, (line - offset)[::-1]])


def _limb(a: np.ndarray, b: np.ndarray, at_a: float, at_b: float) -> np.ndarray:
    return _ribbon(np.stack([a, b]), np.array([at_a, at_b]))


def _normals(line: np.ndarray) -> np.ndarray:
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    return np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)


def _smooth(joints: np.ndarray, n: int) -> np.ndarray:
    """A Catmull-Rom curve through the joints."""
    p = np.concatenate([2 * joints[:1] - joints[1:2], joints, 2 * joints[-1:] - joints[-2:-1]])
    at = np.linspace(0, len(joints) - 1 - 1e-9, n)
    i = at.astype(int)
    u = (at - i)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (
        2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3
    )


def _box(
    keypoints: np.ndarray, margin: float, size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    height, width = size
    low = np.floor(keypoints.min(axis=0) - margin).astype(int)
    high = np.ceil(keypoints.max(axis=0) + margin).astype(int) + 1
    left, top = max(int(low[0]), 0), max(int(low[1]), 0)
    right, bottom = min(int(high[0]), width), min(int(high[1]), height)
    return (top, left, bottom, right) if right > left and bottom > top else None
