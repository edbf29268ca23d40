"""The soft decoder: which code, turned how, explains the gray levels inside a quadrilateral best.

The gray levels are read on a grid of two points to a module, rings included, and compared with
every code in every rotation in one matrix product. Each code is drawn on the same grid as a camera
would see it, blurred by about as much as the modules are small. The score is the correlation
between the two, contrast and any slope of the light taken out. Nothing is ever rounded to black or
white, so a tag can be read whose modules are not told apart one by one.
"""

from __future__ import annotations

import attrs
import numpy as np

from dpk_trackers.barcodes.corners import sample
from dpk_trackers.barcodes.quads import Level
from dpk_trackers.barcodes.templates import BLURS, FINE, Templates, without_light

STIFFNESS = 0.02
"""How much perspective is held back in `align`, relative to what the picture says about a step."""


@attrs.frozen(eq=False)
class Match:
    """What the decoder makes of quadrilaterals, in arrays of their number.

    Parameters
    ----------
    code
        Position of the best code in the dictionary.
    turn
        Quarter turns clockwise at which it fits.
    score
        Correlation with it, -1 to 1.
    margin
        0 to 1: of what the next best code (or rotation of this one) leaves unexplained, the part
        that this one explains. With the squared correlations r1 and r2 of the two that is
        1 - (1 - r1) / (1 - r2); the logarithm of that quotient is how much likelier this code is
        for every independent gray level, so it means the same for clean and for noisy tags.
    contrast
        Gray levels between black and white.
    """

    code: np.ndarray
    turn: np.ndarray
    score: np.ndarray
    margin: np.ndarray
    contrast: np.ndarray


def homographies(corners: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(n, 3, 3) from modules to pixels, for squares of 2 ``half`` modules seen at ``corners``.

    Solved in closed form (Heckbert 1989, Fundamentals of Texture Mapping and Image Warping, 2.2.3).
    """
    p0, p1, p2, p3 = np.moveaxis(corners, 1, 0)
    total = p0 - p1 + p2 - p3
    d1, d2 = p1 - p2, p3 - p2
    with np.errstate(divide="ignore", invalid="ignore"):
        det = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
        g = (total[:, 0] * d2[:, 1] - total[:, 1] * d2[:, 0]) / det
        h = (d1[:, 0] * total[:, 1] - d1[:, 1] * total[:, 0]) / det
    unit = np.empty((len(corners), 3, 3))
    unit[:, :2, 0] = p1 - p0 + g[:, None] * p1
    unit[:, :2, 1] = p3 - p0 + h[:, None] * p3
    unit[:, :2, 2] = p0
    unit[:, 2, 0], unit[:, 2, 1], unit[:, 2, 2] = g, h, 1
    # From modules about the centre to the unit square.
    to_unit = np.zeros((len(corners), 3, 3))
    to_unit[:, 0, 0] = to_unit[:, 1, 1] = 0.5 / half
    to_unit[:, :2, 2] = 0.5
    to_unit[:, 2, 2] = 1
    return unit @ to_unit


def project(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, 3, 3) homographies and (p, 2) points -> (n, p, 2)."""
    x, y = points[:, 0], points[:, 1]
    rows = matrices[..., None]  # (n, 3, 3, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / (rows[:, 2, 0] * x + (rows[:, 2, 1] * y + rows[:, 2, 2]))
        mapped = np.empty((len(matrices), len(points), 2), matrices.dtype)
        for axis in range(2):
            sums = rows[:, axis, 0] * x + (rows[:, axis, 1] * y + rows[:, axis, 2])
            np.multiply(sums, scale, out=mapped[..., axis])
    return mapped


def read_gray(level: Level, matrices: np.ndarray, templates: Templates) -> np.ndarray:
    """(n, p) gray levels on the grid, float32."""
    return sample(level.image, project(matrices.astype(np.float32), templates.grid_32))


def ring_score(gray: np.ndarray, templates: Templates) -> np.ndarray:
    """(n,) correlation of the two rings alone with what they should be, -1 to 1."""
    return _likeness(gray[:, templates.in_rings], templates.rings)


def quick_ring_score(level: Level, matrices: np.ndarray, templates: Templates) -> np.ndarray:
    """(n,) as `ring_score`, from one point in each module of the rings: most of what is not a tag
    is known by it."""
    places = project(matrices.astype(np.float32), templates.quick_grid)
    return _likeness(sample(level.smooth, places), templates.quick_rings)


def _likeness(values: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Correlation of each row with a pattern of mean 0 and norm 1."""
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("np,np->n", centred, centred))
    return np.einsum("np,p->n", centred, pattern) / np.maximum(norm, 1e-6)


def decode(gray: np.ndarray, blur: np.ndarray, templates: Templates) -> Match:
    """Compare (n, p) gray levels with every code and rotation, as blurred as entry (n,) of BLURS
    says."""
    count = len(templates.dictionary)
    flat = without_light(gray, templates.grid_32)
    spread = np.linalg.norm(flat, axis=1)
    flat = flat / np.maximum(spread, 1e-6)[:, None]
    code, turn = np.zeros(len(gray), int), np.zeros(len(gray), int)
    score, margin = np.zeros(len(gray)), np.zeros(len(gray))
    for index in np.unique(blur):
        rows = np.flatnonzero(blur == index)
        likeness = templates.drawn(int(index)).likeness(flat[rows])
        best = likeness.argmax(axis=1)
        code[rows], turn[rows] = best % count, best // count
        score[rows] = likeness[np.arange(len(rows)), best]
        likeness[np.arange(len(rows)), best] = -1
        second = likeness.max(axis=1).clip(0, 1)
        left = (1 - score[rows].clip(0, 1) ** 2) + 1e-6
        margin[rows] = 1 - left / (1 - second**2 + 1e-6)
    # A pattern of as many black as white points has a spread of half its contrast.
    contrast = 2 * spread / np.sqrt(gray.shape[1])
    return Match(code, turn, score, margin, contrast)


def fitting_blur(gray: np.ndarray, match: Match, templates: Templates) -> np.ndarray:
    """(n,) the entry of BLURS with which the codes that were read fit best: lenses differ."""
    flat = without_light(gray, templates.grid_32)
    rows = match.turn * len(templates.dictionary) + match.code
    fits = [templates.drawn(index).likeness_of(flat, rows) for index in range(len(BLURS))]
    return np.argmax(fits, axis=0)


def contradiction(
    gray: np.ndarray, match: Match, blur: np.ndarray, templates: Templates
) -> np.ndarray:
    """(n,) how far the worst module of the code is from what it should be: 0 where all fit, 1
    where one is black that should be white."""
    seen, _ = _expected(match, blur, templates, slopes=False)
    flat = without_light(seen, templates.grid_32)
    measured = without_light(gray, templates.grid_32)
    gain = (measured * flat).sum(axis=1) / (flat**2).sum(axis=1)
    off = measured / np.where(np.abs(gain) > 1e-3, gain, np.inf)[:, None] - flat
    cells, n = templates.cells, templates.dictionary.n
    off = off.reshape(len(off), cells, FINE, cells, FINE).mean(axis=(2, 4))
    return np.abs(off[:, 2 : 2 + n, 2 : 2 + n]).max(axis=(1, 2), initial=0)


def _expected(
    match: Match, blur: np.ndarray, templates: Templates, *, slopes: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(n, p) brightness of the codes that were read, and (n, 2, p) its slopes."""
    rows = match.turn * len(templates.dictionary) + match.code
    points = len(templates.grid_32)
    seen = np.empty((len(rows), points), np.float32)
    gradient = np.empty((len(rows) if slopes else 0, 2, points), np.float32)
    for index in np.unique(blur):
        at = blur == index
        drawn = templates.drawn(int(index))
        seen[at] = drawn.seen(rows[at])
        if slopes:
            gradient[at] = drawn.gradient(rows[at])
    return seen, gradient


def align(
    level: Level,
    matrices: np.ndarray,
    match: Match,
    blur: np.ndarray,
    templates: Templates,
    *,
    rounds: int = 2,
) -> np.ndarray:
    """Move each homography until the code that was read lies on the picture best.

    Gauss-Newton on all grid points at once, every edge of the code having its say; contrast and
    brightness are fitted along. Perspective is held back a little, because a tag of a few pixels
    says next to nothing about it.

    Returns
    -------
    ndarray
        (n, 3, 3) homographies; those that ran away stay as they were.
    """
    if not len(matrices):
        return matrices
    grid = templates.grid_32
    seen, gradient = _expected(match, blur, templates)
    flat = without_light(seen, grid)
    steepest = without_light(_steepest(gradient, grid), grid)  # (n, 8, p)
    # The part of a step that contrast would explain is no movement.
    power = (flat**2).sum(axis=1)
    shared = (steepest @ flat[..., None])[..., 0] / power[:, None]
    steepest -= shared[..., None] * flat[:, None]
    normal = (steepest @ steepest.transpose(0, 2, 1)).astype(np.float64)
    parts = np.arange(8)
    size = normal[:, parts, parts].mean(axis=1)
    normal[:, parts, parts] += size[:, None] * np.where(parts < 6, 1e-6, STIFFNESS)
    solve = np.linalg.inv(normal).astype(np.float32) @ steepest
    moved = matrices.copy()
    for _ in range(rounds):
        gray = without_light(read_gray(level, moved, templates), grid)
        gain = (gray * flat).sum(axis=1) / power
        error = gray / np.where(np.abs(gain) > 1e-3, gain, np.inf)[:, None] - flat
        step = np.clip((solve @ error[..., None])[..., 0], -0.5, 0.5)
        # Moved by the step, the template looks like the picture: undo it in the homography.
        moved = moved @ np.linalg.inv(_warp(step, grid))
        moved /= moved[:, 2:, 2:]
    places, before = project(moved, grid[[0, -1]]), project(matrices, grid[[0, -1]])
    apart = np.linalg.norm(places - before, axis=-1).max(axis=1)
    size = np.linalg.norm(before[:, 1] - before[:, 0], axis=-1)
    return np.where((apart < 0.1 * size)[:, None, None], moved, matrices)


def _steepest(gradient: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(n, 8, p) change of each grid point for each parameter of `_warp`."""
    x, y = grid.astype(np.float32).T
    gx, gy = gradient[:, 0], gradient[:, 1]
    scale = _scale(grid)
    inwards = (gx * x + gy * y) * scale**2
    parts = [gx, gy, gx * x * scale, gx * y * scale, gy * x * scale, gy * y * scale]
    return np.stack([*parts, -inwards * x, -inwards * y], axis=1)


def _warp(step: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(n, 8) -> (n, 3, 3): the identity for zeros."""
    scale = _scale(grid)
    matrix = np.tile(np.eye(3), (len(step), 1, 1))
    matrix[:, :2, 2] += step[:, :2]
    matrix[:, 0, :2] += step[:, 2:4] * scale
    matrix[:, 1, :2] += step[:, 4:6] * scale
    matrix[:, 2, :2] += step[:, 6:] * scale**2
    return matrix


def _scale(grid: np.ndarray) -> float:
    """So that a step of 1 in any parameter moves the border by about a module."""
    return 1 / float(np.abs(grid).max())
