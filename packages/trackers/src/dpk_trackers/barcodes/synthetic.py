"""Pictures of tags whose true corners are known exactly, for tests and benchmarks.

A scene is a textured ground with clutter, and on it tags at random places, turned and tilted at
random, some on dark or bright bodies, some moving while the shutter is open. A tag is drawn by
looking up, for each of ``supersample`` x ``supersample`` points in every pixel, what the inverse
perspective finds there, and taking the mean: what a pixel that gathers light evenly would see. Then
come uneven light, the blur of the lens, shot and read noise, and rounding to 256 gray levels.

Nothing here is known to a reader: readers get the picture alone.
"""

from __future__ import annotations

from typing import Any

import attrs
import cv2
import numpy as np

from dpk_core.errors import ValidationError
from dpk_trackers.barcodes.dictionary import TagDictionary

Range = tuple[float, float]


@attrs.frozen
class SceneSettings:
    """How a scene looks; every range is drawn from evenly, once for each tag unless it says other.

    Parameters
    ----------
    size
        (height, width) of the picture.
    count
        Tags in it; their ids are drawn without repetition as long as the dictionary has more.
    side
        Of the black square in pixels, before tilt.
    tilt
        Degrees that a tag's plane leans from the picture's, towards a random direction.
    distance
        From the camera in sides of the tag: how strong perspective is.
    white, black
        Gray levels of paper and ink in full light.
    paper
        White around the black square, in modules.
    light
        Darkest light as a part of the brightest; one smooth field for each scene.
    blur
        Standard deviation of the lens's blur in pixels, one for each scene.
    motion
        Pixels that a tag moves while the shutter is open, in a random direction.
    noise
        Standard deviation of read noise in gray levels; one for each scene.
    shot
        Variance of shot noise for each gray level.
    texture
        Amplitude of the ground's texture in gray levels; one for each scene.
    clutter
        Shapes on the ground for each million pixels: ellipses, lines, polygons, squares, frames
        and checkerboards, many as large as a tag.
    bodies
        Part of the tags that lie on an ellipse of some gray level.
    dirt
        Radius, as a part of the side, of a blot of some gray level on each tag.
    supersample
        Points along each side of a pixel.
    """

    size: tuple[int, int] = (2048, 2048)
    count: int = 100
    side: float = 24.0
    tilt: Range = (0.0, 35.0)
    distance: Range = (8.0, 40.0)
    white: Range = (170.0, 240.0)
    black: Range = (15.0, 50.0)
    paper: float = 1.0
    light: Range = (0.45, 0.9)
    blur: Range = (0.5, 0.8)
    motion: Range = (0.0, 1.5)
    noise: Range = (1.0, 4.0)
    shot: float = 0.03
    texture: Range = (4.0, 20.0)
    clutter: float = 120.0
    bodies: float = 0.5
    dirt: Range = (0.0, 0.0)
    supersample: int = 5

    def __attrs_post_init__(self) -> None:
        if min(self.size) < 1 or self.count < 0 or self.side <= 0 or self.supersample < 1:
            raise ValidationError(
                "scene: expected a size, side and supersample above 0 and a count from 0, found "
                f"{self.size}, {self.side}, {self.supersample}, {self.count}"
            )


@attrs.frozen(eq=False)
class Scene:
    """A picture and the truth about it.

    Parameters
    ----------
    image
        (h, w) uint8.
    ids
        (n,) which tags.
    corners
        (n, 4, 2) x, y of the black square's corners, clockwise from the tag's top-left; (0, 0) is
        the centre of the top-left pixel.
    centres
        (n, 2) where the middle of each tag is seen.
    """

    image: np.ndarray
    ids: np.ndarray
    corners: np.ndarray
    centres: np.ndarray


def render_scene(dictionary: TagDictionary, settings: SceneSettings, seed: int) -> Scene:
    """A scene with tags of the dictionary; the same seed gives the same scene."""
    random = np.random.default_rng(seed)
    ground = make_ground(settings, random)
    places = place_tags(settings, random)
    ids = _draw_ids(dictionary, len(places), random)
    _bodies(ground, places, settings, random)
    corners, centres = np.zeros((len(places), 4, 2)), np.zeros((len(places), 2))
    for i, (tag_id, place) in enumerate(zip(ids, places, strict=True)):
        homography = tag_homography(
            place,
            settings.side,
            turn=random.uniform(0, 2 * np.pi),
            tilt=np.radians(random.uniform(*settings.tilt)),
            towards=random.uniform(0, 2 * np.pi),
            distance=random.uniform(*settings.distance),
        )
        way = random.uniform(0, 2 * np.pi)
        moved = random.uniform(*settings.motion) * np.array([np.cos(way), np.sin(way)])
        draw_tag(
            ground,
            dictionary.picture(int(tag_id)),
            homography,
            white=random.uniform(*settings.white),
            black=random.uniform(*settings.black),
            paper=settings.paper / dictionary.modules,
            moved=moved,
            supersample=settings.supersample,
        )
        if settings.dirt[1] > 0:
            place, radius, level = draw_blots(settings, 1, random)[0]
            soil_tag(ground, homography, place, radius * settings.side, level)
        corners[i], centres[i] = tag_places(homography)
    return Scene(expose(ground, settings, random), ids, corners, centres)


UNIT = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
"""Corners of a tag in its own coordinates, clockwise from its top-left, its side being 1."""


def tag_homography(
    centre: Any, side: float, *, turn: float, tilt: float, towards: float, distance: float
) -> np.ndarray:
    """(3, 3) from a tag's own coordinates (its side 1, its centre 0) to pixels.

    The tag is turned by ``turn`` (clockwise on the screen), then leant back by ``tilt`` about an
    axis in direction ``towards``, all in radians, and seen from ``distance`` sides away.
    """
    c, s = np.cos(turn), np.sin(turn)
    spin = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    axis = np.array([np.cos(towards), np.sin(towards), 0])
    lean, _ = cv2.Rodrigues(axis * tilt)
    turned = (lean @ spin)[:, :2]
    camera = np.array([[side, 0, 0], [0, side, 0], [0, 0, 1]])
    plane = np.column_stack([turned, [0, 0, 1]]).astype(float)
    plane[2, :2] /= distance
    shift = np.array([[1, 0, centre[0]], [0, 1, centre[1]], [0, 0, 1]], float)
    return shift @ camera @ plane


def tag_places(homography: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, 2) corners of the black square and (2,) its middle, in pixels."""
    return _project(homography, UNIT), _project(homography, np.zeros((1, 2)))[0]


def draw_tag(
    ground: np.ndarray,
    picture: np.ndarray,
    homography: np.ndarray,
    *,
    white: float = 255.0,
    black: float = 0.0,
    paper: float = 0.0,
    moved: Any = (0.0, 0.0),
    supersample: int = 5,
) -> None:
    """Draw a tag into a float32 image in place, every pixel the mean over its area.

    Parameters
    ----------
    ground
        (h, w) float32 gray levels.
    picture
        (m, m) of 0 and 1, from `TagDictionary.picture`.
    homography
        From the tag's own coordinates to pixels, as `tag_homography` gives it, at mid-exposure.
    paper
        Width of the white paper around, as a part of the tag's side.
    moved
        (x, y) pixels that the tag moves while the shutter is open.
    """
    moved = np.asarray(moved, float)
    outline = _project(homography, UNIT * (1 + 2 * paper))
    reach = np.abs(moved) / 2 + 1
    x0, y0 = np.floor(outline.min(axis=0) - reach).astype(int)
    x1, y1 = np.ceil(outline.max(axis=0) + reach).astype(int) + 1
    x0, y0 = max(x0, 0), max(y0, 0)
    x1, y1 = min(x1, ground.shape[1]), min(y1, ground.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    offsets = (np.arange(supersample) + 0.5) / supersample - 0.5
    xs = (np.arange(x0, x1)[:, None] + offsets).ravel()
    ys = (np.arange(y0, y1)[:, None] + offsets).ravel()
    inverse = np.linalg.inv(homography)
    steps = 1 if not moved.any() else int(np.ceil(np.hypot(*moved) * 3)) + 1
    shape = (y1 - y0, supersample, x1 - x0, supersample)
    covered = np.zeros((y1 - y0, x1 - x0))
    colour = np.zeros_like(covered)
    levels = np.where(picture > 0, white, black)
    for step in range(steps):
        dx, dy = moved * ((step + 0.5) / steps - 0.5)
        inside, seen = _look_up(levels, white, paper, inverse, xs - dx, ys - dy)
        covered += inside.reshape(shape).mean(axis=(1, 3)) / steps
        colour += seen.reshape(shape).mean(axis=(1, 3)) / steps
    region = ground[y0:y1, x0:x1]
    region[...] = region * (1 - covered) + colour


def draw_blots(
    settings: SceneSettings, count: int, random: np.random.Generator
) -> list[tuple[np.ndarray, float, float]]:
    """For each tag where its blot is, in its own coordinates, its radius as a part of the tag's
    side, and its gray level."""
    places = random.uniform(-0.4, 0.4, (count, 2))
    radius, level = random.uniform(*settings.dirt, count), random.uniform(20, 220, count)
    return [(places[i], float(radius[i]), float(level[i])) for i in range(count)]


def soil_tag(
    ground: np.ndarray, homography: np.ndarray, place: np.ndarray, radius: float, level: float
) -> None:
    """Draw a round blot on a tag, in place: at ``place`` in its own coordinates, ``radius`` in
    pixels."""
    centre = _project(homography, place[None])[0]
    x, y, r = (round(float(v) * 16) for v in (*centre, radius))
    cv2.circle(ground, (x, y), r, (level,), -1, cv2.LINE_8, 4)


def _look_up(
    levels: np.ndarray,
    white: float,
    paper: float,
    inverse: np.ndarray,
    xs: np.ndarray,
    ys: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each point lies on the tag or its paper, and its gray level (0 where not)."""
    m = len(levels)
    depth = inverse[2, 0] * xs + (inverse[2, 1] * ys[:, None] + inverse[2, 2])
    u = (inverse[0, 0] * xs + (inverse[0, 1] * ys[:, None] + inverse[0, 2])) / depth
    v = (inverse[1, 0] * xs + (inverse[1, 1] * ys[:, None] + inverse[1, 2])) / depth
    inside = (np.maximum(np.abs(u), np.abs(v)) < 0.5 + paper) & (depth > 0)
    column = np.floor((u + 0.5) * m).astype(int)
    row = np.floor((v + 0.5) * m).astype(int)
    on_tag = (column >= 0) & (column < m) & (row >= 0) & (row < m)
    colour = levels[np.clip(row, 0, m - 1), np.clip(column, 0, m - 1)]
    return inside, np.where(inside, np.where(on_tag, colour, white), 0.0)


def _project(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return mapped[:, :2] / mapped[:, 2:]


def _draw_ids(dictionary: TagDictionary, count: int, random: np.random.Generator) -> np.ndarray:
    rounds = -(-count // len(dictionary))
    drawn = [random.permutation(dictionary.ids) for _ in range(rounds)]
    return np.concatenate(drawn)[:count] if drawn else dictionary.ids[:0]


def place_tags(settings: SceneSettings, random: np.random.Generator) -> np.ndarray:
    """Centres that keep tags, with their paper, apart from each other and inside the picture."""
    height, width = settings.size
    apart = settings.side * 1.9
    border = min(settings.side * 1.1, min(height, width) / 2)
    places = np.zeros((0, 2))
    for _ in range(200 * settings.count):
        if len(places) == settings.count:
            break
        place = random.uniform([border, border], [width - border, height - border])
        if not len(places) or np.hypot(*(places - place).T).min() > apart:
            places = np.vstack([places, place])
    return places


def make_ground(settings: SceneSettings, random: np.random.Generator) -> np.ndarray:
    """(h, w) float32: texture and clutter."""
    height, width = settings.size
    ground = np.full((height, width), random.uniform(60, 170), np.float32)
    amplitude = random.uniform(*settings.texture)
    for cell in (2, 4, 8, 20, 60):
        rows, columns = height // cell + 2, width // cell + 2
        coarse = random.standard_normal((rows, columns), dtype=np.float32)
        fine = cv2.resize(coarse, (columns * cell, rows * cell), interpolation=cv2.INTER_CUBIC)
        ground += amplitude * 0.5 * fine[:height, :width]
    for _ in range(round(settings.clutter * height * width / 1e6)):
        _clutter(ground, settings, random)
    return np.clip(ground, 0, 255)


def _clutter(ground: np.ndarray, settings: SceneSettings, random: np.random.Generator) -> None:
    height, width = ground.shape
    centre = random.uniform([0, 0], [width, height])
    reach = settings.side * np.exp(random.uniform(np.log(0.2), np.log(3.0)))
    level = float(random.uniform(10, 245))
    kind = random.integers(6)
    turn = random.uniform(0, 360)
    if kind == 0:
        long, short = (int(v) + 1 for v in reach * random.uniform(0.2, 1.0, 2))
        cv2.ellipse(ground, _pixel(centre), (long, short), turn, 0, 360, (level,), -1, cv2.LINE_8)
    elif kind == 1:
        end = centre + reach * random.normal(size=2) * 2
        cv2.line(ground, _pixel(centre), _pixel(end), (level,), int(random.integers(1, 5)))
    elif kind == 2:
        points = centre + reach * random.normal(size=(random.integers(3, 7), 2)) * 0.6
        cv2.fillPoly(ground, [np.round(points).astype(np.int32)], (level,))
    else:
        cells = {3: 1, 4: 3, 5: int(random.integers(4, 9))}[int(kind)]
        pattern = random.integers(0, 2, (cells, cells))
        if kind == 3:  # a plain square
            pattern[:] = random.integers(2)
        elif kind == 4:  # a frame
            pattern[:] = 0
            pattern[1, 1] = 1
        homography = tag_homography(
            centre, max(reach * 0.7, 3), turn=turn, tilt=0.3, towards=turn, distance=20
        )
        draw_tag(ground, pattern, homography, white=255 - level / 3, black=level / 3, supersample=2)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _bodies(
    ground: np.ndarray, places: np.ndarray, settings: SceneSettings, random: np.random.Generator
) -> None:
    for place in places:
        if random.uniform() >= settings.bodies:
            continue
        axes = settings.side * random.uniform([1.1, 0.75], [2.0, 1.1])
        level = float(random.uniform(15, 200))
        turn = random.uniform(0, 360)
        centre = place + random.normal(size=2) * settings.side * 0.15
        size = (int(axes[0]), int(axes[1]))
        cv2.ellipse(ground, _pixel(centre), size, turn, 0, 360, (level,), -1, cv2.LINE_8)


def expose(
    ground: np.ndarray,
    settings: SceneSettings,
    random: np.random.Generator,
    noise: np.random.Generator | None = None,
) -> np.ndarray:
    """(h, w) float32 gray levels -> uint8 as a camera gives them: light, lens, noise.

    ``noise`` draws the noise, where light and lens are to stay the same from frame to frame.
    """
    height, width = ground.shape
    coarse = random.uniform(0, 1, (4, 4)).astype(np.float32)
    light = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    light = (light - light.min()) / max(float(np.ptp(light)), 1e-6)
    darkest = random.uniform(*settings.light)
    seen = ground * (darkest + (1 - darkest) * light)
    seen = cv2.GaussianBlur(seen, (0, 0), max(random.uniform(*settings.blur), 1e-3))
    spread = random.uniform(*settings.noise) ** 2 + settings.shot * np.maximum(seen, 0)
    seen += np.sqrt(spread) * (noise or random).standard_normal(seen.shape, dtype=np.float32)
    return np.clip(np.round(seen), 0, 255).astype(np.uint8)
