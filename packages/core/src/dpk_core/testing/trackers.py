"""The contracts of `Detector` and `Tracker`."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpk_core.detections import Detections
from dpk_core.interfaces import Detector, Tracker
from dpk_core.services.plugins import registry
from dpk_core.testing.contract import require
from dpk_core.tracks import Tracks

SIZE = (96, 128)


def walking_dots(n: int = 40, seed: int = 0) -> tuple[np.ndarray, list[Detections]]:
    """A film of three dots that walk about, and where they are.

    Returns
    -------
    frames
        (n, 96, 128, 3) uint8: dark dots on a light background with some noise.
    truth
        For each frame the `Detections` of the three, always in the same order.
    """
    rng = np.random.default_rng(seed)
    start, turn = rng.uniform(20, 76, (3, 2)), rng.uniform(-0.3, 0.3, (n, 3)).cumsum(axis=0)
    steps = 2.0 * np.stack([np.cos(turn), np.sin(turn)], axis=2)
    paths = start + steps.cumsum(axis=0) + [0, 0]
    limit = np.array([SIZE[1], SIZE[0]]) - 21.0
    paths = 10 + np.abs((paths - 10) % (2 * limit) - limit)  # they turn round at the border
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    frames, truth = np.empty((n, *SIZE, 3), np.uint8), []
    background = 200 + rng.normal(0, 3, SIZE)
    for i, points in enumerate(paths):
        near = np.hypot(x - points[:, 0, None, None], y - points[:, 1, None, None])
        ink = np.clip(5 - near, 0, 1).max(axis=0)
        image = background * (1 - ink) + 30 * ink + rng.normal(0, 2, SIZE)
        frames[i] = np.clip(image, 0, 255).astype(np.uint8)[..., None]
        x_of, y_of = points.T
        truth.append(Detections(x_of, y_of, np.full(3, 9.0), np.full(3, 9.0)))
    return frames, truth


def check_detector(name: str, **settings: Any) -> None:
    """Check a registered detector against the contract of `Detector`.

    Raises
    ------
    ContractError
    """
    made = registry().get("detectors", name).load()
    frames, _ = walking_dots()
    detector, second = made(**settings), made(**settings)
    require(isinstance(detector, Detector), "a detector derives from dpk_core.Detector", detector)
    detector.prepare(frames)
    second.prepare(frames)
    first = [_detected(detector, frame) for frame in frames]
    again = [_detected(second, frame) for frame in frames[::-1]][::-1]
    for i, (a, b) in enumerate(zip(first, again, strict=True)):
        same = all(
            np.array_equal(a.columns()[key], b.columns()[key], equal_nan=True)
            for key in a.columns()
        )
        require(same, f"what is found in frame {i} does not depend on frames before it")
    _detected(detector, np.zeros_like(frames[0]))
    _detected(detector, np.full_like(frames[0], 255))


def check_tracker(name: str, **settings: Any) -> None:
    """Check a registered tracker against the contract of `Tracker`.

    Raises
    ------
    ContractError
    """
    made = registry().get("trackers", name).load()
    frames, truth = walking_dots()
    tagged = [_with_ids(detections) for detections in truth]
    first, again = (_tracked(made(**settings), frames, tagged) for _ in range(2))
    for key, column in first.columns().items():
        same = np.array_equal(column, again.columns()[key], equal_nan=True)
        require(same, f"the same stream gives the same {key}")
    gone = [d if i % 7 else Detections.none() for i, d in enumerate(tagged)]
    _tracked(made(**settings), frames, gone)
    _tracked(made(**settings), frames, [Detections.none()] * len(frames))
    _tracked(made(**settings), frames, tagged, step=3)
    many = [_crowd(i) for i in range(12)]
    _tracked(made(**settings), frames, many)
    bare = [Detections(d.x, d.y, id=d.id) for d in tagged]  # points, of which no extent is known
    _tracked(made(**settings), frames, bare)
    posed = [_with_pose(detections, i) for i, detections in enumerate(tagged)]
    _tracked(made(**settings), frames, posed)


def _with_ids(detections: Detections) -> Detections:
    columns: dict[str, Any] = detections.columns()
    return Detections(**{**columns, "id": np.arange(len(detections)) + 5})


def _with_pose(detections: Detections, number: int) -> Detections:
    """Turned by and by, with three keypoints along the body, of which some are missing."""
    angle = np.angle(np.exp(0.2j * (number + np.arange(len(detections)))))
    along = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None] * [[-4.0], [0.0], [4.0]]
    keypoints = np.stack([detections.x, detections.y], axis=1)[:, None] + along
    keypoints[number % 3, number % 2] = np.nan
    if number % 5 == 0:
        keypoints[0] = np.nan
    columns: dict[str, Any] = detections.columns()
    return Detections(**{**columns, "angle": angle}, keypoints=keypoints)


def _crowd(seed: int) -> Detections:
    """More than there were, some of them outside the frame."""
    x, y = np.random.default_rng(seed).uniform(-20, 140, (2, 25))
    return Detections(x, y, np.full(25, 9.0), np.full(25, 9.0), id=np.arange(25))


def _detected(detector: Detector, frame: np.ndarray) -> Detections:
    before = frame.copy()
    found = detector.detect(frame)
    require(isinstance(found, Detections), "detect gives Detections", type(found))
    require(np.array_equal(before, frame), "detect leaves the frame as it is")
    inside = (found.x >= -0.5) & (found.x <= SIZE[1] - 0.5)
    inside &= (found.y >= -0.5) & (found.y <= SIZE[0] - 0.5)
    require(inside.all(), "no detection lies outside the frame", found.x[~inside])
    return found


def _tracked(
    tracker: Tracker, frames: np.ndarray, stream: list[Detections], step: int = 1
) -> Tracks:
    require(isinstance(tracker, Tracker), "a tracker derives from dpk_core.Tracker", tracker)
    rows = []
    for i, detections in enumerate(stream):
        number = 3 + step * i
        frame = frames[i] if tracker.uses_frames else None
        found = tracker.update(number, detections, frame)
        require(isinstance(found, Tracks), "update gives Tracks", type(found))
        require((found.frame == number).all(), f"rows are of frame {number}", found.frame)
        require(len(np.unique(found.id)) == len(found), "an id stands once in a frame", found.id)
        require((found.id >= 0).all(), "ids count from 0", found.id)
        rows.append(found)
    columns: dict[str, Any] = {
        key: np.concatenate([r.columns()[key] for r in rows]) for key in rows[0].columns()
    }
    done = tracker.finish(Tracks(**columns))
    require(isinstance(done, Tracks), "finish gives Tracks", type(done))
    pairs = set(zip(done.frame.tolist(), done.id.tolist(), strict=True))
    require(len(pairs) == len(done), "after finish, too, an id stands once in a frame", len(done))
    return done
