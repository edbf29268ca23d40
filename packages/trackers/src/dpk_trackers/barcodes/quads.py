"""Where in a frame a tag may be: outlines that have four corners.

The frame is halved again and again, so that a tag of any size has a level in which it is small.
At each level, pixels darker than their neighbourhood are marked, and in a second mask those that are
brighter. The outlines of marked regions and of holes in them are searched for quadrilaterals, which
are edges of black squares or of white squares within black; the latter are there whatever surrounds
a tag. Neither mask alone is enough: next to something darker yet, the black ring of a small tag is
hardly darker than its neighbourhood.

All outlines of a level are judged at once, in arrays; only OpenCV looks at them one by one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import attrs
import cv2
import numpy as np

WINDOW = 5
"""Side of the neighbourhood in pixels of the level."""
SMOOTHING = 0.6
"""Standard deviation of the smoothing before, in pixels of the level."""
CONTRAST = 2
"""Gray levels by which a marked pixel differs from the mean of its neighbourhood."""
ACTIVITY = (4.0, 8.0)
"""Gray levels by which pixels differ from their neighbourhood on average where a tag may be: at
least, and at most when the whole frame is restless."""
REST = 1.6
"""How many times the activity of half of the frame a tag's is, between those bounds."""
LARGEST = 36.0
"""Side of the largest square looked for in one level, in its pixels; larger ones wait for the
next."""


@attrs.frozen(eq=False)
class Quads:
    """Quadrilaterals in one level of a frame.

    Parameters
    ----------
    corners
        (n, 4, 2) x, y in pixels of the level, clockwise on the screen.
    white
        (n,) True where the inside is the brighter side.
    """

    corners: np.ndarray
    white: np.ndarray

    def __len__(self) -> int:
        return len(self.corners)


@attrs.frozen(eq=False)
class Level:
    """The frame, made smaller by 2**number: as it is, and smoothed a little."""

    number: int
    image: np.ndarray
    smooth: np.ndarray


def pyramid(image: np.ndarray, smallest: float, largest: float) -> list[Level]:
    """The levels in which squares with sides from ``smallest`` to ``largest`` pixels are found."""
    levels = []
    number = 0
    while True:
        if smallest / 2**number <= LARGEST:  # otherwise nothing here is small enough
            levels.append(Level(number, image, cv2.GaussianBlur(image, (3, 3), SMOOTHING)))
        if LARGEST * 2**number >= largest or min(image.shape) < 32:
            return levels
        # The mean of 2 x 2 pixels; an odd row or column at the end is left out.
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        image = cv2.resize(
            image[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA
        )
        number += 1


def to_frame(points: np.ndarray, level: int) -> np.ndarray:
    """Points of a level in pixels of the frame."""
    return (points + 0.5) * 2.0**level - 0.5


def find_quads(
    level: Level, smallest: float, *, pool: ThreadPoolExecutor | None = None
) -> Quads:
    """Quadrilaterals of one level.

    Parameters
    ----------
    smallest
        Side of the smallest in pixels of the level.
    pool
        Takes half of the work; the result is the same without.
    """
    mean = cv2.blur(level.smooth, (WINDOW, WINDOW))
    active = _active(level.smooth, mean)
    dark = active & cv2.compare(level.smooth, cv2.subtract(mean, CONTRAST), cv2.CMP_LT)
    bright = active & cv2.compare(level.smooth, cv2.add(mean, CONTRAST), cv2.CMP_GT)
    other = pool.submit(_outlined, bright, smallest) if pool else None
    corners, holes = _outlined(dark, smallest)
    corners_2, holes_2 = other.result() if other else _outlined(bright, smallest)
    return Quads(np.concatenate([corners, corners_2]), np.concatenate([holes, ~holes_2]))


def _active(smooth: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Mask of where so much goes on that a tag may be there; most of a frame is ruled out."""
    activity = cv2.blur(cv2.absdiff(smooth, mean), (15, 15))
    usual = float(np.median(activity[::8, ::8]))
    least = float(np.clip(round(REST * usual), *ACTIVITY))
    return cv2.dilate(cv2.compare(activity, least, cv2.CMP_GE), np.ones((13, 13), np.uint8))


def _outlined(mask: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, 4, 2) corners of the quadrilaterals among the outlines of a mask, and (n,) whether each
    is that of a hole."""
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    lengths = np.fromiter(map(len, contours), np.int64, len(contours))
    # An outline of side s has 4 s points, 2.8 s when it lies on its corner.
    wanted = np.flatnonzero((lengths >= 2.4 * smallest) & (lengths <= 8 * LARGEST))
    if not len(wanted):
        return np.zeros((0, 4, 2)), np.zeros(0, bool)
    points = np.concatenate([contours[i] for i in wanted])[:, 0].astype(np.float32)
    return _fit(points, lengths[wanted], smallest)


def _fit(
    points: np.ndarray, lengths: np.ndarray, smallest: float
) -> tuple[np.ndarray, np.ndarray]:
    """The outlines that are quadrilaterals; ``points`` of all outlines, one after another."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    low = np.minimum.reduceat(points, starts)
    extent = np.maximum.reduceat(points, starts) - low
    fits = (extent.min(axis=1) >= 0.5 * smallest) & (extent.max(axis=1) <= 1.45 * LARGEST)
    points, lengths, starts = _keep(points, lengths, fits)
    if not len(lengths):
        return np.zeros((0, 4, 2)), np.zeros(0, bool)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    points = points - low[fits][owner]  # small numbers, so that float32 is exact enough
    following = np.roll(points, -1, axis=0)
    ends = starts + lengths - 1
    following[ends] = points[starts]
    area = np.add.reduceat(_cross(points, following), starts) / 2
    corners = _extremes(points, starts, owner)
    quad_area = _cross(corners, np.roll(corners, -1, axis=1)).sum(axis=1) / 2
    sides = np.hypot(*np.moveaxis(np.roll(corners, -1, axis=1) - corners, -1, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        filled = np.abs(area) / quad_area
        ragged = np.add.reduceat(_to_sides(points, corners, owner), starts) / lengths
        fits_2 = (
            (filled > 0.75)
            & (filled < 1.3)
            & (sides.min(axis=1) > 0.5 * smallest)
            & (sides.min(axis=1) > 0.3 * sides.max(axis=1))
            & (ragged < 0.35 + 0.02 * np.sqrt(quad_area))
        )
    # OpenCV follows holes the other way round, along the marked pixels that surround them; outer
    # outlines run along the outermost marked pixels: the edge is half a pixel from either.
    holes = area > 0
    corners = corners + low[fits][:, None]
    corners, holes = corners[fits_2].astype(np.float64), holes[fits_2]
    return _grow(corners, np.where(holes, -0.5, 0.5)), holes


def _keep(
    points: np.ndarray, lengths: np.ndarray, fits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = points[np.repeat(fits, lengths)]
    lengths = lengths[fits]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int)
    return points, lengths, starts


def _extremes(points: np.ndarray, starts: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """(n, 4, 2): the point farthest from the middle, that farthest from it, and the farthest on
    both sides of the line between them; clockwise on the screen."""
    counts = np.bincount(owner)[:, None]
    middle = np.add.reduceat(points, starts) / counts
    first = points[_argmax(_squared(points - middle[owner]), starts, owner)]
    third = points[_argmax(_squared(points - first[owner]), starts, owner)]
    beside = _cross((third - first)[owner], points - first[owner])
    second = points[_argmax(-beside, starts, owner)]
    fourth = points[_argmax(beside, starts, owner)]
    return np.stack([first, second, third, fourth], axis=1)


def _argmax(values: np.ndarray, starts: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Index of the first largest value of each group."""
    top = np.flatnonzero(values == np.maximum.reduceat(values, starts)[owner])
    _, first = np.unique(owner[top], return_index=True)
    return top[first]


def _to_sides(points: np.ndarray, corners: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Distance of each point from the nearest side's line."""
    along = np.roll(corners, -1, axis=1) - corners
    length = np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-6)
    normal = np.stack([-along[..., 1], along[..., 0]], axis=-1) / length[..., None]
    offset = (normal * corners).sum(axis=-1)
    nearest = np.full(len(points), np.inf, np.float32)
    for side in range(4):
        n = normal[:, side].astype(np.float32)[owner]
        away = np.abs(points[:, 0] * n[:, 0] + points[:, 1] * n[:, 1] - offset[:, side][owner])
        np.minimum(nearest, away, out=nearest)
    return nearest


def _grow(corners: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Move every side outwards by so many pixels."""
    along = np.roll(corners, -1, axis=1) - corners
    along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
    outwards = np.stack([along[..., 1], -along[..., 0]], axis=-1)
    offset = (outwards * corners).sum(axis=-1) + by[:, None]
    return intersect(outwards, offset)


def intersect(normals: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Corners where each side meets the one before: (n, 4, 2) normals, (n, 4) offsets.

    Side i runs from corner i to corner i + 1. Parallel neighbours give NaN.
    """
    before, before_offset = np.roll(normals, 1, axis=1), np.roll(offsets, 1, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = _cross(before, normals)
        scale = np.where(np.abs(scale) < 1e-6, np.nan, scale)
        x = (before_offset * normals[..., 1] - offsets * before[..., 1]) / scale
        y = (before[..., 0] * offsets - normals[..., 0] * before_offset) / scale
    return np.stack([x, y], axis=-1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _squared(a: np.ndarray) -> np.ndarray:
    return a[..., 0] ** 2 + a[..., 1] ** 2
