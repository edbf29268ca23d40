"""Background subtraction: animals that walk, sit still, touch; bad input."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core.errors import DpkError, ValidationError, VideoError
from dpk_core.testing.trackers import walking_dots
from dpk_trackers.background import BackgroundDetector
from dpk_trackers.background_model import build_background

SIZE = (90, 120)
LENGTH, WIDTH = 24.0, 10.0


def film(painted, paths, *, animal=40, ground=190, noise=2.0, seed=0):
    """(n, 90, 120, 1) uint8 of ellipses; paths (n, m, 3) of x, y, angle; animal a level or several.

    The ground has stripes and a gradient, so that it is not flat anywhere.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    plain = ground + 8 * np.sin(x / 5) + 6 * (y > 50)
    levels = np.broadcast_to(animal, paths.shape[1])
    frames = []
    for places in paths:
        image = plain.copy()
        for (px, py, angle), level in zip(places, levels, strict=True):
            ink = painted(px, py, LENGTH, WIDTH, angle, SIZE)
            image = image * (1 - ink) + level * ink
        frames.append(np.clip(image + rng.normal(0, noise, SIZE), 0, 255).round())
    return np.array(frames, np.uint8)[..., None]


def walk(start, end, n, angle=0.0):
    """(n, 3) from one place to another."""
    way = np.linspace(start, end, n)
    return np.column_stack([way, np.full(n, angle)])


def still_then_away(n=60, share=0.7):
    """One sits for most of the film and walks off then; another walks all the time."""
    sits = int(share * n)
    first = np.vstack([walk((30, 30), (30, 30), sits), walk((30, 30), (90, 28), n - sits)])
    return np.stack([first, walk((15, 70), (100, 70), n)], axis=1)


def check_found(detector, frames, paths, tolerance=1.0):
    for i, (frame, truth) in enumerate(zip(frames, paths, strict=True)):
        found = detector.detect(frame)
        assert len(found) == len(truth), f"frame {i}: {found}"
        apart = np.hypot(truth[:, None, 0] - found.x[None], truth[:, None, 1] - found.y[None])
        assert apart.min(axis=1).max() < tolerance, f"frame {i}: {apart}"
        assert len(set(apart.argmin(axis=1))) == len(truth)


@pytest.mark.parametrize(("animal", "ground"), [(40, 190), (220, 60)], ids=["dark", "bright"])
@pytest.mark.parametrize("count", [None, 2])
def test_an_animal_that_sits_for_most_of_the_film_is_found(painted, animal, ground, count):
    paths = still_then_away()
    frames = film(painted, paths, animal=animal, ground=ground)
    detector = BackgroundDetector(count)
    detector.prepare(frames)
    assert detector.model.polarity == ("dark" if animal < ground else "bright")
    check_found(detector, frames, paths)


def test_dark_and_bright_animals_in_one_film(painted):
    paths = still_then_away()
    frames = film(painted, paths, animal=(30, 240), ground=130)
    detector = BackgroundDetector(2)
    detector.prepare(frames)
    assert detector.model.polarity == "both"
    check_found(detector, frames, paths)


def test_where_the_animal_sat_its_ground_is_found(painted):
    paths = still_then_away()
    model = build_background(film(painted, paths))
    bare = film(painted, np.zeros((1, 0, 3)), noise=0)[0, ..., 0]
    assert np.abs(model.image.astype(int) - bare).max() <= 8


@pytest.mark.parametrize("moving", [0, 1])
def test_animals_that_never_move_are_found_when_the_number_is_known(painted, moving):
    still = walk((30, 30), (30, 30), 40, 0.5)
    other = walk((20, 70), (100, 70), 40) if moving else walk((80, 65), (80, 65), 40)
    paths = np.stack([still, other], axis=1)
    detector = BackgroundDetector(2)
    frames = film(painted, paths)
    detector.prepare(frames)
    check_found(detector, frames, paths, tolerance=1.5)


def test_centre_extent_and_angle(painted):
    paths = np.stack(
        [np.column_stack([walk((25.5, 40.25), (90, 40), 30)[:, :2], np.linspace(-1.4, 1.4, 30)])],
        axis=1,
    )
    detector = BackgroundDetector(1)
    frames = film(painted, paths, noise=1.0)
    detector.prepare(frames)
    for frame, ((x, y, angle),) in zip(frames, paths, strict=True):
        found = detector.detect(frame)
        assert (found.x[0], found.y[0]) == pytest.approx((x, y), abs=0.3)
        assert found.width[0] == pytest.approx(LENGTH, rel=0.05)
        assert found.height[0] == pytest.approx(WIDTH, rel=0.08)
        turn = (found.angle[0] - angle + np.pi / 2) % np.pi - np.pi / 2
        assert abs(turn) < np.radians(3)


def test_two_that_touch_are_two_when_the_number_is_known(painted):
    n = 40
    together = np.stack([walk((20, 45), (60, 45), n), walk((105, 50), (78, 50), n, 0.6)], axis=1)
    frames = film(painted, together)
    known, unknown = BackgroundDetector(2), BackgroundDetector()
    known.prepare(frames)
    unknown.prepare(frames)
    assert len(unknown.detect(frames[-1])) == 1, "they do not touch"
    check_found(known, frames, together, tolerance=3)


def test_one_that_leaves_is_not_made_up(painted):
    n = 40
    away = walk((60, 70), (400, 70), n)
    frames = film(painted, np.stack([walk((20, 30), (100, 30), n), away], axis=1))
    detector = BackgroundDetector(2)
    detector.prepare(frames)
    numbers = [len(detector.detect(frame)) for frame in frames]
    assert numbers[0] == 2
    assert set(numbers[20:]) == {1}


def test_specks_are_no_animals(painted):
    paths = still_then_away()
    frames = film(painted, paths)
    detector = BackgroundDetector()
    detector.prepare(frames)
    dirty = frames[5].copy()
    dirty[50:53, 100:103] = 0
    assert len(detector.detect(dirty)) == 2
    small = BackgroundDetector(min_area=5)
    small.prepare(frames)
    assert len(small.detect(dirty)) == 3


def test_light_that_changes_everywhere_is_no_animal(painted):
    paths = still_then_away()
    frames = film(painted, paths)
    detector = BackgroundDetector(2)
    detector.prepare(frames)
    darker = np.clip(frames.astype(int) - 25, 0, 255).astype(np.uint8)
    check_found(detector, darker, paths)


def test_frames_in_another_light_do_not_spoil_the_ground(painted):
    paths = still_then_away()
    frames = film(painted, paths)
    frames[:4] = 0
    detector = BackgroundDetector(2)
    detector.prepare(frames)
    check_found(detector, frames[4:], paths[4:])
    assert len(detector.detect(frames[0])) == 0


def test_empty_frames_have_no_animal(painted):
    frames = film(painted, still_then_away())
    detector = BackgroundDetector(2)
    detector.prepare(frames)
    empty = film(painted, np.zeros((3, 0, 3)), seed=9)
    assert [len(detector.detect(frame)) for frame in empty] == [0, 0, 0]


def test_a_film_of_nothing_has_nothing(painted):
    frames = film(painted, np.zeros((12, 0, 3)))
    for detector in (BackgroundDetector(), BackgroundDetector(polarity="dark")):
        detector.prepare(frames)
        assert sum(len(detector.detect(frame)) for frame in frames) == 0


def test_gray_and_colour_give_the_same(painted):
    paths = still_then_away()
    gray = film(painted, paths)
    detectors = []
    for frames in (gray, np.repeat(gray, 3, axis=-1), gray[..., 0]):
        detector = BackgroundDetector(2)
        detector.prepare(frames)
        detectors.append(detector.detect(frames[7]).columns())
    for other in detectors[1:]:
        for name, column in detectors[0].items():
            assert np.array_equal(column, other[name], equal_nan=True), name


def test_scores_tell_the_whole_from_the_half(painted):
    frames = film(painted, still_then_away())
    detector = BackgroundDetector()
    detector.prepare(frames)
    whole = detector.detect(frames[5])
    half = frames[5].copy()
    half[:, :30] = film(painted, np.zeros((1, 0, 3)))[0][:, :30]
    cut = detector.detect(half)
    assert whole.score.min() > 0.9
    assert cut.score.min() < 0.8


def test_dots_that_walk_are_found_where_they_are():
    frames, truth = walking_dots()
    detector = BackgroundDetector(3)
    detector.prepare(frames)
    apart = []
    for frame, there in zip(frames, truth, strict=True):
        found = detector.detect(frame)
        apart += [
            np.hypot(found.x - x, found.y - y).min() for x, y in zip(there.x, there.y, strict=True)
        ]
    assert np.median(apart) < 0.3
    assert np.mean(np.array(apart) < 4) > 0.97


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_video_that_is_too_short(n):
    with pytest.raises(ValidationError, match=f"background: .*at least 3 frames.*found {n}"):
        BackgroundDetector().prepare(np.zeros((n, 20, 30, 3), np.uint8))


class Damaged:
    """Frames of which some cannot be read."""

    def __init__(self, frames, bad):
        self.frames, self.bad = frames, bad

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, number):
        if number in self.bad:
            raise VideoError(f"frame {number} is damaged")
        return self.frames[number]


def test_a_damaged_video_has_a_ground_all_the_same(painted):
    paths = still_then_away()
    frames = film(painted, paths)
    detector = BackgroundDetector(2)
    detector.prepare(Damaged(frames, set(range(20, 30))))
    check_found(detector, frames, paths)
    with pytest.raises(DpkError, match="damaged"):
        detector.prepare(Damaged(frames, set(range(1, 60))))


def test_frames_of_changing_size():
    frames = [np.zeros((40, 60, 3), np.uint8)] * 5 + [np.zeros((40, 50, 3), np.uint8)] * 5
    with pytest.raises(ValidationError, match=r"background: frame 5.*60x40.*50x40"):
        BackgroundDetector().prepare(frames)
    detector = BackgroundDetector()
    detector.prepare(frames[:5])
    with pytest.raises(ValidationError, match=r"background: expected.*60x40.*found 50x40"):
        detector.detect(frames[7])


def test_detect_comes_after_prepare():
    with pytest.raises(ValidationError, match="background: prepare"):
        BackgroundDetector().detect(np.zeros((20, 30, 3), np.uint8))


@pytest.mark.parametrize("frame", [np.zeros((40, 60, 3), float), np.zeros((40, 60, 2), np.uint8)])
def test_frames_that_are_none(frame):
    frames = [np.zeros((40, 60, 3), np.uint8)] * 5
    detector = BackgroundDetector()
    detector.prepare(frames)
    with pytest.raises(ValidationError, match=r"expected .*found"):
        detector.detect(frame)


@pytest.mark.parametrize(
    "settings",
    [
        {"count": 0},
        {"count": 1.5},
        {"count": "two"},
        {"polarity": "grey"},
        {"threshold": -1},
        {"threshold": 300},
        {"min_area": float("nan")},
        {"samples": 2},
    ],
)
def test_settings_out_of_range_are_named(settings):
    (name,) = settings
    with pytest.raises(ValidationError, match=f"background: {name}"):
        BackgroundDetector(**settings)
