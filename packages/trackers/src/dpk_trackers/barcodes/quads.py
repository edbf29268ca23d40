"""Where in a frame a tag may be: outlines that have four corners.

The frame is halved again and again, so that a tag of any size has a level in which it is small.
At each level, pixels darker than their neighbourhood are marked, and in a second mask those that
are brighter. The outlines of marked regions and of holes in them are searched for quadrilaterals,
which are edges of black squares or of white squares within black; the latter are there whatever
surrounds a tag. Neither mask alone is enough: next to something darker yet, the black ring of a
small tag is hardly darker than its neighbourhood.

All outlines of a level are judged at once, in arrays; only OpenCV looks at them one by one.
"""

from __future__ import annotations

from concurrent.futures import Executor

import attrs
import cv2
import numpy as np

WINDOW = 5
"""Side of the neighbourhood in pixels of the level."""
SMOOTHING = 0.6
"""Standard deviation of the smoothing before, in pixels of the level."""
CONTRAST = (2, 3)
"""Gray levels by which a marked pixel differs from the mean of its neighbourhood: in a quiet frame,
and in a restless one, which would have countless outlines of nothing otherwise."""
RESTLESS = 2.0
"""Activity of half of the frame from which it counts as restless."""
ACTIVITY = (5.0, 8.0)
"""Gray levels by which pixels differ from their neighbourhood on average where a tag may be: at
least, and at most when the whole frame is restless."""
REST = 1.8
"""How many times the activity of half of the frame a tag's is, between those bounds."""
HALVINGS = 2
"""How often the differences from the neighbourhood are halved in size to measure activity."""
CELL = 2**HALVINGS
"""Side in pixels of the cells in which activity is measured."""
THIN = 0.02
"""Of the square of its length in points, how much area an outline has within it at least. A square
has 0.06 to 0.12, a rectangle ten times as long as wide 0.02, most lines and edges have next to
nothing."""
SPECK = 3
"""Side in pixels of what is left out at once, as too small for a tag."""
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


def find_quads(levels: list[Level], smallest: float, pool: Executor | None = None) -> list[Quads]:
    """The quadrilaterals of each level.

    Parameters
    ----------
    smallest
        Side of the smallest in pixels of its level.
    pool
        Shares the work; the result is the same without.
    """
    if pool is None:
        return [_join([_outlined(*task) for task in _masks(level, smallest)]) for level in levels]
    started = [
        [pool.submit(_outlined, *task) for task in _masks(level, smallest)] for level in levels
    ]
    return [_join([future.result() for future in futures]) for futures in started]


def _masks(level: Level, smallest: float) -> list[tuple[np.ndarray, float]]:
    """What is darker than its neighbourhood, and what is brighter."""
    mean = cv2.blur(level.smooth, (WINDOW, WINDOW))
    limit = _limit(level.smooth, mean)
    # In place where possible: new memory takes as long as what is computed in it.
    dark = cv2.subtract(mean, limit)
    dark = cv2.compare(level.smooth, dark, cv2.CMP_LT, dst=dark)
    bright = cv2.add(mean, limit, dst=mean)
    bright = cv2.compare(level.smooth, bright, cv2.CMP_GT, dst=bright)
    return [(dark, smallest), (bright, smallest)]


def _join(found: list[tuple[np.ndarray, np.ndarray]]) -> Quads:
    (dark, holes_in_dark), (bright, holes_in_bright) = found
    return Quads(np.concatenate([dark, bright]), np.concatenate([holes_in_dark, ~holes_in_bright]))


def _limit(smooth: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(h, w) gray levels by which a marked pixel differs from the mean of its neighbourhood; 255,
    which none does, where too little goes on for a tag: most of a frame is ruled out."""
    # In cells of CELL x CELL pixels: how restless a place is changes slowly.
    away = cv2.absdiff(smooth, mean)
    for _ in range(HALVINGS):  # halves are OpenCV's fastest means
        away = cv2.resize(away, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    activity = cv2.blur(away, (3, 3))
    usual = float(np.median(activity[::2, ::2]))
    least = float(np.clip(round(REST * usual), *ACTIVITY))
    limit: np.ndarray = np.full(activity.shape, 255, np.uint8)
    busy = cv2.dilate(activity, np.ones((3, 3), np.uint8)) >= least
    limit[busy] = CONTRAST[int(usual >= RESTLESS)]
    # Pixels beyond the last whole cell have what is next to them.
    limit = cv2.copyMakeBorder(limit, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    height, width = smooth.shape
    return limit.repeat(CELL, axis=1).repeat(CELL, axis=0)[:height, :width]


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The mask, changed in place, less what lies alone within SPECK x SPECK pixels.

    Noise leaves some specks for every outline that may be a tag's, and each outline costs time.
    """
    other = cv2.dilate(mask, _ring(3))
    mask = cv2.bitwise_and(mask, other, dst=mask)  # single pixels are gone
    other = cv2.dilate(mask, _ring(SPECK + 2), dst=other)
    alone = cv2.subtract(mask, other, dst=other)
    alone = cv2.dilate(alone, np.ones((SPECK, SPECK), np.uint8), dst=alone)
    return cv2.subtract(mask, alone, dst=mask)


def _ring(side: int) -> np.ndarray:
    """1 along the border of a square."""
    return np.pad(np.zeros((side - 2, side - 2), np.uint8), 1, constant_values=1)


def _outlined(mask: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, 4, 2) corners of the quadrilaterals among the outlines of a mask, and (n,) whether each
    is that of a hole."""
    if 0.5 * smallest > SPECK - 1:  # none of them is wide enough
        mask = _without_specks(mask)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    lengths = np.fromiter(map(len, contours), np.int64, len(contours))
    # An outline of side s has 4 s points, 2.8 s when it lies on its corner.
    wanted = np.flatnonzero((lengths >= 2.4 * smallest) & (lengths <= 8 * LARGEST))
    if not len(wanted):
        return np.zeros((0, 4, 2)), np.zeros(0, bool)
    points = np.concatenate([contours[i] for i in wanted.tolist()])[:, 0]
    outlines = _Outlines.of(points[:, 0], points[:, 1], lengths[wanted])
    extent = [outlines.most(v) + outlines.most(-v) for v in (outlines.x, outlines.y)]
    fits = np.minimum(*extent) >= 0.5 * smallest
    fits &= np.maximum(*extent) <= 1.45 * LARGEST
    outlines = outlines.keep(fits)
    if not len(outlines.starts):
        return np.zeros((0, 4, 2)), np.zeros(0, bool)
    return _fit(outlines, smallest)


@attrs.frozen(eq=False)
class _Outlines:
    """Points of all outlines, one outline after another, as float32 that whole numbers fit in."""

    x: np.ndarray
    y: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, lengths: np.ndarray) -> _Outlines:
        starts = (np.cumsum(lengths) - lengths).astype(np.intp)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        return cls(
            np.ascontiguousarray(x, np.float32),
            np.ascontiguousarray(y, np.float32),
            lengths,
            starts,
            owner,
        )

    def keep(self, fits: np.ndarray) -> _Outlines:
        points = fits[self.owner]
        return _Outlines.of(self.x[points], self.y[points], self.lengths[fits])

    def most(self, values: np.ndarray) -> np.ndarray:
        """The largest value of each outline."""
        return np.maximum.reduceat(values, self.starts)

    def total(self, values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, self.starts)

    def point_of_most(self, values: np.ndarray) -> np.ndarray:
        """(n, 2) the first point of each outline at which the value is largest."""
        at_top = values == self.most(values)[self.owner]
        position = np.where(at_top, np.arange(len(values)), len(values))
        first = np.minimum.reduceat(position, self.starts)
        return np.stack([self.x[first], self.y[first]], axis=-1)


def _fit(outlines: _Outlines, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """Those outlines that are quadrilaterals."""
    x, y, owner = outlines.x, outlines.y, outlines.owner
    # From each outline's first point: small numbers, of which float32 is exact enough.
    shift_x, shift_y = x[outlines.starts], y[outlines.starts]
    outlines = attrs.evolve(outlines, x=x - shift_x[owner], y=y - shift_y[owner])
    shift = np.column_stack([shift_x, shift_y])
    area = _area(outlines)
    wide = np.abs(area) >= THIN * outlines.lengths**2
    if not wide.any():
        return np.zeros((0, 4, 2)), np.zeros(0, bool)
    outlines, area, shift = outlines.keep(wide), area[wide], shift[wide]
    corners = _extremes(outlines)
    quad_area = _cross(corners, np.roll(corners, -1, axis=1)).sum(axis=1) / 2
    sides = np.hypot(*np.moveaxis(np.roll(corners, -1, axis=1) - corners, -1, 0))
    filled = np.abs(area) / np.maximum(quad_area, 1e-3)
    fits = (
        (filled > 0.75)
        & (filled < 1.3)
        & (sides.min(axis=1) > 0.5 * smallest)
        & (sides.min(axis=1) > 0.3 * sides.max(axis=1))
    )
    outlines, corners = outlines.keep(fits), corners[fits]
    if not len(corners):
        return np.zeros((0, 4, 2)), np.zeros(0, bool)
    ragged = outlines.total(_to_sides(outlines, corners)) / outlines.lengths
    straight = ragged < 0.35 + 0.02 * np.sqrt(quad_area[fits])
    # OpenCV follows holes the other way round, along the marked pixels that surround them; outer
    # outlines run along the outermost marked pixels: the edge is half a pixel from either.
    holes = (area[fits] > 0)[straight]
    corners = (corners + shift[fits][:, None]).astype(np.float64)[straight]
    return _grow(corners, np.where(holes, -0.5, 0.5)), holes


def _area(outlines: _Outlines) -> np.ndarray:
    """(n,) signed area within each outline."""
    following = np.arange(1, len(outlines.x) + 1)
    following[outlines.starts + outlines.lengths - 1] = outlines.starts
    x, y = outlines.x, outlines.y
    return outlines.total(x * y[following] - y * x[following]) / 2


def _extremes(outlines: _Outlines) -> np.ndarray:
    """(n, 4, 2): the point farthest from the middle, that farthest from it, and the farthest on
    both sides of the line between them; clockwise on the screen."""
    x, y, owner = outlines.x, outlines.y, outlines.owner
    middle_x = (outlines.total(x) / outlines.lengths).astype(np.float32)
    middle_y = (outlines.total(y) / outlines.lengths).astype(np.float32)
    first = outlines.point_of_most((x - middle_x[owner]) ** 2 + (y - middle_y[owner]) ** 2)
    from_x, from_y = x - first[owner, 0], y - first[owner, 1]
    third = outlines.point_of_most(from_x**2 + from_y**2)
    along = third - first
    beside = along[owner, 0] * from_y - along[owner, 1] * from_x
    second, fourth = outlines.point_of_most(-beside), outlines.point_of_most(beside)
    return np.stack([first, second, third, fourth], axis=1)


def _to_sides(outlines: _Outlines, corners: np.ndarray) -> np.ndarray:
    """Distance of each point from the nearest side's line."""
    along = np.roll(corners, -1, axis=1) - corners
    length = np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-6)
    normal_x, normal_y = -along[..., 1] / length, along[..., 0] / length
    offset = normal_x * corners[..., 0] + normal_y * corners[..., 1]
    nearest = np.full(len(outlines.x), np.inf, np.float32)
    for side in range(4):
        nx, ny, off = (v[:, side][outlines.owner] for v in (normal_x, normal_y, offset))
        np.minimum(nearest, np.abs(outlines.x * nx + outlines.y * ny - off), out=nearest)
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
