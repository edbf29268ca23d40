"""How a camera moved over real pictures, and tracks that stay on their ground under it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import Detections, Tracks
from dpk_core.errors import ValidationError
from dpk_core.tracks import COLUMNS
from dpk_trackers.camera_motion import CameraMotion, compose
from dpk_trackers.kalman import KalmanTracker
from dpk_trackers.stabilizing import Stabilizer

SIZE = (180, 260)


def ground(seed=0, size=(480, 640)):
    """Earth with stones: texture of all sizes."""
    rng = np.random.default_rng(seed)
    image = np.full(size, 128.0)
    for step, strength in ((32, 25), (8, 20), (3, 12)):
        coarse = rng.normal(0, strength, (size[0] // step + 2, size[1] // step + 2))
        image += cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def look(image, shift, turn=0.0, zoom=1.0, size=SIZE):
    """What a camera sees, and its (2, 3) map from pixels of the ground to those of the frame."""
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]])
    middle = np.array(size[::-1]) / 2
    matrix = np.c_[linear, middle - linear @ (np.array([320.0, 240.0]) + shift)]
    frame = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR)
    return frame[..., None], matrix


def between(first, second):
    """The map from the first camera's frame to the second's."""
    whole = [np.vstack([m, [0, 0, 1]]) for m in (first, second)]
    return (whole[1] @ np.linalg.inv(whole[0]))[:2]


def corners(matrix, size=SIZE):
    h, w = size
    points = np.array([[0, 0], [w, 0], [0, h], [w, h]], float)
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize(
    ("method", "shift", "turn", "zoom"),
    [
        ("flow", (7.0, -4.5), 0.0, 1.0),
        ("flow", (-12.0, 9.0), 0.02, 1.01),
        ("ecc", (2.0, -1.5), 0.0, 1.0),
        ("ecc", (-1.0, 2.0), 0.01, 1.0),
    ],
)
def test_shift_turn_and_zoom_are_found(method, shift, turn, zoom):
    image, motion = ground(), CameraMotion(method)
    first, a = look(image, (0, 0))
    second, b = look(image, shift, turn, zoom)
    np.testing.assert_allclose(motion.see(first), np.eye(2, 3))
    found = motion.see(second)
    assert np.abs(corners(found) - corners(between(a, b))).max() < 0.5


def test_animals_that_all_walk_the_same_way_do_not_carry_the_camera_along():
    """A third of the picture goes right; boxes say that it is animals."""
    image, motion = ground(), CameraMotion()
    herd = ground(5)[:60, :200]
    for step in range(2):
        frame, _ = look(image, (3.0 * step, 0))
        frame[60:120, 20 + 9 * step : 220 + 9 * step, 0] = herd
        seen = Detections([119.5 + 9 * step], [89.5], [200.0], [60.0])
        found = motion.see(frame, seen)
    assert np.abs(corners(found) - corners(np.array([[1.0, 0, -3], [0, 1, 0]]))).max() < 0.5


def test_large_colour_frames_are_made_small_and_answers_are_in_their_pixels():
    image = cv2.resize(ground(), (1920, 1440), interpolation=cv2.INTER_CUBIC)
    motion = CameraMotion()
    for shift in (0, 30):
        frame = np.repeat(image[200:1000, 100 + shift : 1400 + shift, None], 3, axis=2)
        found = motion.see(frame)
    truth = np.array([[1.0, 0, -30], [0, 1, 0]])
    assert np.abs(corners(found, (800, 1300)) - corners(truth, (800, 1300))).max() < 1


@pytest.mark.parametrize("method", ["flow", "ecc"])
def test_where_nothing_is_to_be_seen_the_camera_counts_as_still(method):
    motion = CameraMotion(method)
    plain = np.full((*SIZE, 1), 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 1), np.uint8)
    small = plain[:64, :64]
    for frame in (plain, plain, small, plain[:1, :1], noise, plain):
        np.testing.assert_allclose(motion.see(frame), np.eye(2, 3))
    everywhere = Detections([130.0], [90.0], [400.0], [400.0])
    assert motion.see(noise, everywhere).shape == (2, 3)


def test_wrong_frames_and_methods():
    with pytest.raises(ValidationError, match="camera: expected one of"):
        CameraMotion("none")
    with pytest.raises(ValidationError, match="expected \\(h, w, c\\) uint8"):
        CameraMotion().see(np.zeros((4, 4, 1), np.float32))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_to_the_ground_and_back(seed):
    rng = np.random.default_rng(seed)
    stabilizer, to_frame = Stabilizer(), np.eye(2, 3)
    numbers = np.cumsum(rng.integers(1, 4, 8))
    for number in numbers:
        turn, zoom = rng.normal(0, 0.1), np.exp(rng.normal(0, 0.05))
        linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        move = np.c_[linear, rng.normal(0, 20, 2)]
        stabilizer.see(int(number), move)
        to_frame = compose(move, to_frame)
    columns = rng.uniform(1, 50, (5, 8))
    columns[4] /= 20
    tracks = Tracks(numbers, np.arange(8), *columns)
    ground_rows = stabilizer.to_ground(tracks)
    back = stabilizer.to_frames(ground_rows)
    for name in ("x", "y", "width", "height", "angle"):
        turned = np.angle(np.exp(1j * getattr(tracks, name))) if name == "angle" else None
        expected = getattr(tracks, name) if turned is None else turned
        np.testing.assert_allclose(getattr(back, name), expected, atol=1e-7)
    last = np.array([ground_rows.x[-1], ground_rows.y[-1]])
    np.testing.assert_allclose(
        to_frame[:, :2] @ last + to_frame[:, 2], [tracks.x[-1], tracks.y[-1]], atol=1e-7
    )


def herd_under(shifts, hidden=()):
    """Six that sit on the ground in a grid while the camera moves; frames and detections."""
    image = ground()
    places = np.stack(np.meshgrid([290, 320, 350], [225, 255]), 2).reshape(-1, 2).astype(float)
    frames, stream, truth = [], [], []
    rng = np.random.default_rng(0)
    for i, shift in enumerate(shifts):
        frame, matrix = look(image, shift)
        here = places @ matrix[:, :2].T + matrix[:, 2]
        for x, y in here:
            cv2.circle(frame, (round(x), round(y)), 5, 20, -1)
        truth.append(here)
        seen = [k for k in range(6) if (i, k) not in hidden]
        seen = [k for k in seen if (here[k] >= 0).all() and (here[k] < SIZE[::-1]).all()]
        seen = rng.permutation(np.array(seen, int))
        n = len(seen)
        noisy = here[seen] + rng.normal(0, 0.3, (n, 2))
        frames.append(frame)
        stream.append(Detections(*noisy.T, np.full(n, 10.0), np.full(n, 10.0), score=[0.9] * n))
    return frames, stream, np.array(truth)


def follow(tracker, frames, stream):
    rows = [
        tracker.update(i, found, frame if tracker.uses_frames else None)
        for i, (found, frame) in enumerate(zip(stream, frames, strict=True))
    ]
    joined = Tracks(**{k: np.concatenate([r.columns()[k] for r in rows]) for k in COLUMNS})
    return tracker.finish(joined)


def names(tracks, truth):
    """(n, 6) id within 4 px of each, -1 for none."""
    found = np.full(truth.shape[:2], -1)
    for i, points in enumerate(truth):
        rows = tracks[np.flatnonzero(tracks.frame == i)]
        for k, (x, y) in enumerate(points):
            gap = np.hypot(rows.x - x, rows.y - y)
            found[i, k] = rows.id[gap.argmin()] if len(gap) and gap.min() < 4 else -1
    return found


def test_gusts_do_not_exchange_a_grid_when_the_camera_is_compensated():
    """The camera jumps by the distance of neighbours: without compensation each takes the next."""
    jumps = np.zeros((40, 2))
    jumps[15:] += [30.0, 0.0]
    jumps[25:] += [0.0, -30.0]
    frames, stream, truth = herd_under(jumps)
    kept = names(follow(KalmanTracker(camera="flow"), frames, stream), truth)
    assert (kept == kept[0]).all()
    assert len(set(kept[0].tolist())) == 6
    lost = names(follow(KalmanTracker(), frames, stream), truth)
    assert (lost[-1] != lost[0]).any()


def test_a_gap_under_a_moving_camera_is_filled_where_the_ground_was():
    """Unseen for 12 frames while the camera goes there and back: no straight line in the frame."""
    t = np.arange(50)
    shifts = np.stack([25 * np.sin(t / 8.0), np.zeros(50)], 1)
    hidden = {(i, 2) for i in range(18, 30)}
    frames, stream, truth = herd_under(shifts, hidden)
    tracks = follow(KalmanTracker(camera="flow"), frames, stream)
    found = names(tracks, truth)
    assert (found[:, 2] == found[0, 2]).all()
    filled = tracks[np.flatnonzero(tracks.interpolated & (tracks.id == found[0, 2]))]
    assert filled.frame.tolist() == list(range(18, 30))
    assert np.abs(filled.x - truth[18:30, 2, 0]).max() < 2


def test_nothing_is_filled_in_outside_the_picture():
    """The camera looks away and back: those who were out of sight have no rows meanwhile."""
    t = np.arange(60)
    shifts = np.stack([np.interp(t, [0, 12, 22, 38, 48], [0, 0, 130, 130, 0]), np.zeros(60)], 1)
    frames, stream, truth = herd_under(shifts)
    tracks = follow(KalmanTracker(camera="flow"), frames, stream)
    assert ((tracks.x >= -0.5) & (tracks.x <= SIZE[1] - 0.5)).all()
    assert (tracks.frame == 30).sum() < 6
    kept = names(tracks, truth)
    assert (kept[-1] == kept[0]).all(), "and are the same again when it comes back"
