"""Scenes of many animals under a moving camera, with exact truth and faulty detections.

Everything about a scene follows from its `Setting` and its seed. The settings were written down
before any tracker was tried on them; README.md lists them.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import cv2
import numpy as np

from dpk_core.detections import Detections


@attrs.frozen
class Setting:
    """What a scene is like; lengths in pixels, times in frames (30 of them are a second)."""

    in_view: int  # on average; the world has as many more as it is larger
    size: tuple[int, int] = (720, 1280)
    frames: int = 600
    camera: bool = True
    margin: float = 0.15  # of the view's size, that the world reaches beyond it on each side
    body: tuple[float, float] = (44.0, 18.0)
    body_spread: float = 0.12
    speed: float = 3.0
    speed_spread: float = 0.4  # of the log
    stop_every: float = 120.0
    stop_for: float = 40.0
    turn: float = 0.09  # radians a frame
    bushes: int = 8
    bush_radius: tuple[float, float] = (28.0, 50.0)
    noise: float = 1.5
    size_noise: float = 0.06
    missed: float = 0.05
    burst_every: float = 200.0
    burst_for: float = 6.0
    hidden: float = 0.6  # a body covered more than this is not found
    false: float = 0.05  # false detections in a frame for each animal
    false_stays: float = 0.3
    false_for: float = 12.0
    pan: float = 2.5
    jitter: float = 0.8
    gust_every: float = 100.0
    gust: float = 15.0
    forget: int = 60  # out of sight longer than trackers remember, it counts as another one

    @property
    def n(self) -> int:
        """Animals in the world."""
        return round(self.in_view * (1 + 2 * self.margin) ** 2)


SETTINGS = {
    "30": Setting(30),
    "100": Setting(100, size=(1080, 1920), bushes=18),
}


@attrs.frozen(eq=False)
class Scene:
    """A scene.

    truth
        For each frame (ids (n,), boxes (n, 4) x0, y0, x1, y1) of what has its centre in view.
    detections
        For each frame.
    cameras
        (frames, 2, 3) from the world to the view.
    """

    setting: Setting
    truth: list[tuple[np.ndarray, np.ndarray]]
    detections: list[Detections]
    cameras: np.ndarray
    paths: np.ndarray
    headings: np.ndarray
    bodies: np.ndarray
    bushes: np.ndarray
    seed: int

    def images(self) -> Iterator[np.ndarray]:
        """The frames as the camera sees them, (h, w, 1) uint8."""
        ground, origin = _ground(self)
        h, w = self.setting.size
        for t, camera in enumerate(self.cameras):
            to_ground = camera.copy()
            to_ground[:, 2] += camera[:, :2] @ origin
            image = cv2.warpAffine(
                ground, to_ground, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            )
            turn = np.degrees(np.arctan2(camera[1, 0], camera[0, 0]))
            zoom = np.hypot(camera[0, 0], camera[1, 0])
            places = self.paths[t] @ camera[:, :2].T + camera[:, 2]
            for (x, y), heading, body in zip(places, self.headings[t], self.bodies, strict=True):
                angle = np.degrees(heading) + turn
                cv2.ellipse(image, ((x, y), tuple(body * zoom), angle), 45, -1)
            covers = self.bushes[:, :2] @ camera[:, :2].T + camera[:, 2]
            for (x, y), r in zip(covers, self.bushes[:, 2] * zoom, strict=True):
                cv2.circle(image, (round(x), round(y)), round(r), 95, -1)
            yield image[..., None]


def make_scene(setting: Setting, seed: int) -> Scene:
    """The scene with that seed."""
    rng = np.random.default_rng(seed)
    h, w = setting.size
    low = -setting.margin * np.array([w, h])
    high = (1 + setting.margin) * np.array([w, h])
    paths, headings = _walks(setting, low, high, rng)
    bodies = np.array(setting.body) * np.exp(rng.normal(0, setting.body_spread, (setting.n, 1)))
    bushes = np.c_[
        rng.uniform(low, high, (setting.bushes, 2)),
        rng.uniform(*setting.bush_radius, setting.bushes),
    ]
    cameras = _cameras(setting, rng)
    truth, detections = _observe(setting, paths, headings, bodies, bushes, cameras, rng)
    return Scene(setting, truth, detections, cameras, paths, headings, bodies, bushes, seed)


def _walks(
    setting: Setting, low: np.ndarray, high: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(t, n, 2) and (t, n): walks with stops, turned back at the borders of the world."""
    n, frames = setting.n, setting.frames
    place = rng.uniform(low, high, (n, 2))
    heading, turning = rng.uniform(-np.pi, np.pi, n), np.zeros(n)
    pace = setting.speed * np.exp(rng.normal(0, setting.speed_spread, n))
    walking, speed = rng.random(n) < 0.75, np.zeros(n)
    paths, headings = np.empty((frames, n, 2)), np.empty((frames, n))
    for t in range(frames):
        change = rng.random(n) < np.where(walking, 1 / setting.stop_every, 1 / setting.stop_for)
        walking ^= change
        speed += 0.25 * (pace * walking * np.exp(rng.normal(0, 0.2, n)) - speed)
        turning = 0.8 * turning + rng.normal(0, 0.6 * setting.turn, n)
        heading = heading + turning * (speed > 0.2)
        step = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
        out = (place + step < low) | (place + step > high)
        heading = np.where(out[:, 0], np.pi - heading, heading)
        heading = np.where(out[:, 1], -heading, heading)
        place = np.clip(place + np.where(out, 0, step), low, high)
        paths[t], headings[t] = place, heading
    return paths, headings


def _cameras(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """(t, 2, 3): a drone that drifts, trembles and is hit by gusts; it turns and rises a little."""
    h, w = setting.size
    cameras = np.tile(np.eye(2, 3), (setting.frames, 1, 1))
    if not setting.camera:
        return cameras
    reach = 0.6 * setting.margin * np.array([w, h])
    offset, velocity, blow, turn, zoom = np.zeros(2), np.zeros(2), np.zeros(2), 0.0, 0.0
    for t in range(setting.frames):
        velocity = 0.95 * velocity + rng.normal(0, setting.pan * np.sqrt(1 - 0.95**2), 2)
        velocity -= 0.01 * offset * (np.abs(offset) > reach)
        blow *= 0.6
        if rng.random() < 1 / setting.gust_every:
            direction = rng.uniform(-np.pi, np.pi)
            blow += setting.gust * np.array([np.cos(direction), np.sin(direction)])
        offset += velocity + blow
        turn = 0.995 * turn + rng.normal(0, 0.0015)
        zoom = 0.995 * zoom + rng.normal(0, 0.0015)
        a, s = turn, np.exp(zoom)
        linear = s * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        middle = np.array([w, h]) / 2
        shake = rng.normal(0, setting.jitter, 2)
        cameras[t] = np.c_[linear, middle - linear @ middle + offset + shake]
    return cameras


def _observe(
    setting: Setting,
    paths: np.ndarray,
    headings: np.ndarray,
    bodies: np.ndarray,
    bushes: np.ndarray,
    cameras: np.ndarray,
    rng: np.random.Generator,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[Detections]]:
    h, w = setting.size
    n = setting.n
    ids, next_id = np.arange(n), n
    away, burst = np.zeros(n, int), np.zeros(n, int)
    stones = np.empty((0, 5))  # x, y, width, height, frames left; in the world
    truth, found = [], []
    for t, camera in enumerate(cameras):
        linear, shift = camera[:, :2], camera[:, 2]
        zoom = np.hypot(linear[0, 0], linear[1, 0])
        places = paths[t] @ linear.T + shift
        angle = headings[t] + np.arctan2(linear[1, 0], linear[0, 0])
        extent = zoom * _extent(bodies, angle)
        boxes = np.c_[places - extent / 2, places + extent / 2]
        inside = ((places >= 0) & (places < [w, h])).all(axis=1)
        back = inside & (away > setting.forget)
        ids = ids.copy()
        ids[back] = next_id + np.arange(back.sum())
        next_id += int(back.sum())
        away = np.where(inside, 0, away + 1)
        truth.append((ids[inside], boxes[inside]))

        covered = np.maximum(_under_bush(paths[t], bodies, bushes), _under_others(boxes))
        burst = np.maximum(burst - 1, 0)
        starts = rng.random(n) < 1 / setting.burst_every
        burst[starts] = 1 + rng.geometric(1 / setting.burst_for, starts.sum())
        seen = inside & (burst == 0) & (rng.random(n) >= setting.missed)
        seen &= covered <= setting.hidden
        score = rng.beta(8, 2, n) * (1 - 0.7 * np.clip(covered, 0, 1))
        center = places + rng.normal(0, setting.noise, (n, 2)) * (1 + covered[:, None])
        measured = extent * np.exp(rng.normal(0, setting.size_noise, (n, 2)))
        rows = np.c_[center, measured, score][seen]

        new = rng.poisson(setting.false * n)
        strength = np.where(rng.random(new) < 0.1, rng.beta(8, 2, new), rng.beta(2, 5, new))
        some = _extent(bodies[rng.integers(0, n, new)], rng.uniform(-np.pi, np.pi, new))
        false = np.c_[rng.uniform(0, [w, h], (new, 2)), some, strength]
        stays = rng.random(new) < setting.false_stays
        ground = (false[stays, :2] - shift) @ np.linalg.inv(linear).T
        stones = stones[stones[:, 4] > 0]
        again = np.c_[stones[:, :2] @ linear.T + shift, stones[:, 2:4]]
        again[:, :2] += rng.normal(0, setting.noise, (len(again), 2))
        again = np.c_[again, rng.beta(3, 4, len(again))]
        stones[:, 4] -= 1
        stones = np.r_[
            stones,
            np.c_[ground, false[stays, 2:4], rng.geometric(1 / setting.false_for, stays.sum())],
        ]
        rows = np.r_[rows, false, again]
        rows = rows[((rows[:, :2] >= 0) & (rows[:, :2] < [w, h])).all(axis=1)]
        x, y, width, height, score = rows[rng.permutation(len(rows))].T
        found.append(Detections(x, y, width, height, score=np.clip(score, 0.02, 1)))
    return truth, found


def _extent(bodies: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(n, 2) upright extent of ellipses with those axes."""
    a, b = bodies.T
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.hypot(a * cos, b * sin), np.hypot(a * sin, b * cos)], 1)


def _under_bush(places: np.ndarray, bodies: np.ndarray, bushes: np.ndarray) -> np.ndarray:
    """About how much of a body is under a bush, by how deep its centre is in."""
    if not len(bushes):
        return np.zeros(len(places))
    gap = np.linalg.norm(places[:, None] - bushes[None, :, :2], axis=2) - bushes[:, 2]
    size = np.sqrt(bodies.prod(axis=1))[:, None]
    return np.clip(0.5 - gap / size, 0, 1).max(axis=1)


def _under_others(boxes: np.ndarray) -> np.ndarray:
    """How much of a box is covered by those of higher number, at most by one of them."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    shared[np.tril_indices(len(boxes))] = 0
    return (shared / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]).max(axis=1)


def _ground(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """A picture of the ground and the place of its first pixel in the world."""
    setting = scene.setting
    h, w = setting.size
    pad = int(0.5 * max(h, w))
    rng = np.random.default_rng(scene.seed + 10_000)
    shape = (h + 2 * pad, w + 2 * pad)
    image = np.full(shape, 165, np.float32)
    for step, strength in ((64, 18), (16, 12), (4, 8)):
        coarse = rng.normal(0, strength, (shape[0] // step + 2, shape[1] // step + 2))
        image += cv2.resize(coarse.astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 60, 255).astype(np.uint8), np.array([-pad, -pad], float)
