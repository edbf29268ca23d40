"""The animal: its body plan, and how it walks, bends and looks around.

A lizard seen from above, in units of its body length (snout to hip). The spine follows the path
that the head took, so that it bends in a turn; the legs swing in a trot; the tail lags behind.
"""

from __future__ import annotations

import attrs
import numpy as np

from dpk_core.skeleton import Skeleton

LEGS = ("front", "hind")
SIDES = ("L", "R")

_ROWS: list[tuple[str, str | None, str | None]] = [
    ("snout", "neck", None),
    ("eyeL", "neck", "eyeR"),
    ("eyeR", "neck", "eyeL"),
    ("neck", None, None),
    ("spine", "neck", None),
    ("hip", "spine", None),
    ("tail", "hip", None),
    ("tailtip", "tail", None),
    ("frontkneeL", "neck", "frontkneeR"),
    ("frontfootL", "frontkneeL", "frontfootR"),
    ("frontkneeR", "neck", "frontkneeL"),
    ("frontfootR", "frontkneeR", "frontfootL"),
    ("hindkneeL", "hip", "hindkneeR"),
    ("hindfootL", "hindkneeL", "hindfootR"),
    ("hindkneeR", "hip", "hindkneeL"),
    ("hindfootR", "hindkneeR", "hindfootL"),
]
SKELETON = Skeleton.from_rows(_ROWS)
INDEX = {name: i for i, name in enumerate(SKELETON.names)}

SPINE_JOINTS = ("neck", "spine", "hip", "tail", "tailtip")
_SPINE_LENGTHS = (0.36, 0.36, 0.38, 0.42)
"""From the neck to the spine's middle, the hip, the tail's middle and its tip."""
_SNOUT_LENGTH = 0.28
_EYE = (0.17, 0.085)
"""Along the head from the neck, and to the side."""
_UPPER_LEG, _LOWER_LEG = 0.19, 0.17
_MOST_BEND = np.array([0.5, 0.9, 1.2, 1.5])
"""Radians that each piece of the spine may turn away from the head's direction."""
_GAIT_STRIDE = 0.55
"""Body lengths walked in one cycle of the gait."""


@attrs.frozen
class Motion:
    """The state of the animal in each frame.

    position (n, 2) of the neck in pixels; heading, look (n,) radians; phase (n,) of the gait in
    radians; spine (n, 4) the direction of each piece of the spine, pointing backwards; speed (n,)
    pixels a frame; length: the body length in pixels.
    """

    position: np.ndarray
    heading: np.ndarray
    look: np.ndarray
    phase: np.ndarray
    spine: np.ndarray
    speed: np.ndarray
    length: float


def walk(n_frames: int, size: tuple[int, int], length: float, rng: np.random.Generator) -> Motion:
    """A random walk that turns smoothly, rests now and then and stays inside the image."""
    height, width = size
    centre = np.array([width, height]) / 2
    warm_up = 60
    n = n_frames + warm_up
    position = np.empty((n, 2))
    heading = np.empty(n)
    look = np.empty(n)
    speed = np.empty(n)
    xy = centre + rng.normal(0, 0.08, 2) * (width, height)
    angle, turning, pace, glance = rng.uniform(-np.pi, np.pi), 0.0, 0.6, 0.0
    for i in range(n):
        turning = 0.93 * turning + rng.normal(0, 0.018)
        pace = float(np.clip(0.97 * pace + 0.03 * 0.6 + rng.normal(0, 0.09), 0.0, 1.3))
        glance = 0.94 * glance + rng.normal(0, 0.05)
        angle += turning + _steer(xy, angle, centre, size, length)
        step = 0.032 * length * pace
        xy = xy + step * np.array([np.cos(angle), np.sin(angle)])
        position[i], heading[i], speed[i], look[i] = xy, angle, step, glance
    walked = np.cumsum(speed)
    spine = _follow(walked, heading, length)
    phase = 2 * np.pi * walked / (_GAIT_STRIDE * length)
    spine += _wag(phase)
    kept = slice(warm_up, None)
    return Motion(
        position[kept], heading[kept], look[kept], phase[kept], spine[kept], speed[kept], length
    )


def pose(motion: Motion) -> np.ndarray:
    """(n, k, 2) keypoints in pixels, all of them, wherever they are."""
    keypoints = np.empty((len(motion.position), len(SKELETON), 2))
    neck = motion.position
    keypoints[:, INDEX["neck"]] = neck
    _put_head(keypoints, motion)
    joint = neck
    for j, name in enumerate(SPINE_JOINTS[1:]):
        joint = joint + _SPINE_LENGTHS[j] * motion.length * _direction(motion.spine[:, j])
        keypoints[:, INDEX[name]] = joint
    for leg in LEGS:
        for side in SIDES:
            _put_leg(keypoints, motion, leg, side)
    return keypoints


def _put_head(keypoints: np.ndarray, motion: Motion) -> None:
    neck, head = motion.position, motion.heading + motion.look
    forward, left = _direction(head), _direction(head - np.pi / 2)
    keypoints[:, INDEX["snout"]] = neck + _SNOUT_LENGTH * motion.length * forward
    along, aside = (v * motion.length for v in _EYE)
    keypoints[:, INDEX["eyeL"]] = neck + along * forward + aside * left
    keypoints[:, INDEX["eyeR"]] = neck + along * forward - aside * left


def _put_leg(keypoints: np.ndarray, motion: Motion, leg: str, side: str) -> None:
    """Two-jointed legs; diagonal ones swing together, as in a trot."""
    sign = -1.0 if side == "L" else 1.0  # y points down: left of the animal is at minus 90 degrees
    joint, piece = ("neck", 0) if leg == "front" else ("hip", 2)
    body = motion.spine[:, piece] + np.pi
    offset = 0.0 if (leg == "front") == (side == "L") else np.pi
    swing = np.sin(motion.phase + offset)
    lag = np.sin(motion.phase + offset - 0.9)
    base = 1.15 if leg == "front" else 1.9
    root = keypoints[:, INDEX[joint]] + 0.09 * motion.length * _direction(body + sign * np.pi / 2)
    if leg == "front":
        root = root - 0.08 * motion.length * _direction(body)
    upper = body + sign * (base - 0.45 * swing)
    lower = body + sign * (base - 0.55 - 0.55 * lag)
    knee = root + _UPPER_LEG * motion.length * _direction(upper)
    keypoints[:, INDEX[f"{leg}knee{side}"]] = knee
    keypoints[:, INDEX[f"{leg}foot{side}"]] = knee + _LOWER_LEG * motion.length * _direction(lower)


def _follow(walked: np.ndarray, heading: np.ndarray, length: float) -> np.ndarray:
    """(n, 4) directions, backwards: each piece heads where the head headed when it was there."""
    behind = np.cumsum((0.0, *_SPINE_LENGTHS))[:-1] + 0.5 * np.array(_SPINE_LENGTHS)
    past = np.stack([np.interp(walked - b * length, walked, heading) for b in behind], axis=1)
    bend = np.clip(past - heading[:, None], -_MOST_BEND, _MOST_BEND)
    return heading[:, None] + bend + np.pi


def _wag(phase: np.ndarray) -> np.ndarray:
    """The spine's own wave, stronger towards the tail."""
    amplitude = np.array([0.05, 0.10, 0.22, 0.35])
    lag = np.array([0.0, 0.8, 1.7, 2.6])
    return amplitude * np.sin(phase[:, None] - lag)


def _steer(
    xy: np.ndarray, angle: float, centre: np.ndarray, size: tuple[int, int], length: float
) -> float:
    """Turn towards the middle of the image, the more so the nearer the border is."""
    height, width = size
    half = np.array([width, height]) / 2
    nearness = float(np.max(np.abs(xy - centre) / np.maximum(half - 0.45 * length, 1.0)))
    if nearness < 0.55:
        return 0.0
    towards = np.arctan2(*(centre - xy)[::-1])
    return 0.17 * (nearness - 0.55) / 0.45 * np.sin(towards - angle)


def _direction(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
