"""The place: sand with pebbles, light that changes slowly, grass that hides things."""

from __future__ import annotations

import attrs
import numpy as np


@attrs.frozen(eq=False)
class Scene:
    """Everything that stays where it is.

    ground (h, w, 3) float32 in 0..255; grass (h, w, 3) its colours and cover (h, w) in 0..1 how
    much of each pixel it hides.
    """

    ground: np.ndarray
    grass: np.ndarray
    cover: np.ndarray


def make_scene(size: tuple[int, int], rng: np.random.Generator, *, occlusion: bool) -> Scene:
    """A place of its own for each generator state."""
    ground = _sand(size, rng)
    _add_pebbles(ground, rng)
    grass = np.zeros((*size, 3), np.float32)
    cover = np.zeros(size, np.float32)
    if occlusion:
        _add_grass(grass, cover, rng)
    return Scene(ground, grass, cover)


def light(size: tuple[int, int], i: int, phase: np.ndarray) -> np.ndarray:
    """(h, w) factor of the light in frame i: brightness and direction drift slowly."""
    height, width = size
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    gain = 1 + 0.10 * np.sin(2 * np.pi * i / 311 + phase[0])
    turn = 2 * np.pi * i / 523 + phase[1]
    slope = 0.10 * (x * np.cos(turn) + y * np.sin(turn))
    vignette = 1 - 0.09 * (x * x + y * y)
    return ((gain + slope) * vignette).astype(np.float32)


def _sand(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    import cv2

    texture = np.zeros(size, np.float32)
    for sigma, weight in ((0.7, 7.0), (2.0, 7.0), (6.0, 8.0), (20.0, 9.0)):
        grain = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), sigma)
        texture += weight * grain / max(float(grain.std()), 1e-6)
    tint = np.array([168, 150, 122], np.float32)
    return tint + texture[..., None] * np.array([1.0, 0.95, 0.85], np.float32)


def _add_pebbles(ground: np.ndarray, rng: np.random.Generator) -> None:
    import cv2

    height, width = ground.shape[:2]
    for _ in range(max(6, height * width // 900)):
        centre = rng.uniform((0, 0), (width, height))
        radius = rng.gamma(2.0, 0.008) * min(height, width) + 0.6
        axes = radius * rng.uniform(0.6, 1.0, 2)
        shade = float(rng.normal(0, 26))
        stone = np.zeros((height, width), np.float32)
        cv2.ellipse(
            stone,
            _fixed(centre),
            _fixed(axes),
            float(rng.uniform(0, 180)),
            0,
            360,
            1.0,
            -1,
            cv2.LINE_8,
            _SHIFT,
        )
        stone = cv2.GaussianBlur(stone, (0, 0), 0.7)
        lit = cv2.GaussianBlur(stone, (0, 0), max(radius / 2, 0.7))
        ground += (stone * (shade + 22 * (lit - 0.5)))[..., None]


def _add_grass(grass: np.ndarray, cover: np.ndarray, rng: np.random.Generator) -> None:
    """Curved blades that grow in from the border."""
    import cv2

    height, width = cover.shape
    reach = min(height, width)
    for _ in range(5):
        start = rng.uniform((0, 0), (width, height))
        side = rng.integers(4)
        start[side % 2] = 0 if side < 2 else (width, height)[side % 2]
        towards = np.array([width, height]) / 2 + rng.normal(0, 0.25, 2) * reach - start
        angle = np.arctan2(towards[1], towards[0]) + rng.normal(0, 0.2)
        bend, length = rng.normal(0, 0.9), reach * rng.uniform(0.35, 0.75)
        t = np.linspace(0, 1, 24)
        turned = angle + bend * t
        step = length / len(t) * np.stack([np.cos(turned), np.sin(turned)], axis=1)
        line = start + np.cumsum(step, axis=0)
        half = 0.013 * reach * (1 - t[:, None]) + 0.35
        normal = np.stack([-np.sin(turned), np.cos(turned)], axis=1)
        outline = np.concatenate([line + half * normal, (line - half * normal)[::-1]])
        blade = np.zeros((height * 4, width * 4), np.uint8)
        fixed = np.round(((outline + 0.5) * 4 - 0.5) * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(blade, [fixed], 255, cv2.LINE_8, _SHIFT)
        mask = cv2.resize(blade, (width, height), interpolation=cv2.INTER_AREA) / np.float32(255)
        green = np.array([96, 118, 62]) + rng.normal(0, 12, 3)
        grass += mask[..., None] * (green.astype(np.float32) - grass)
        np.maximum(cover, mask, out=cover)


_SHIFT = 6


def _fixed(point: np.ndarray) -> tuple[int, int]:
    return round(point[0] * 2**_SHIFT), round(point[1] * 2**_SHIFT)
