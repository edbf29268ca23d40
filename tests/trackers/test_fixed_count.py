"""The fixed_count tracker: so many animals and no other, whatever is found."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from dpk_core import Detections, Tracks
from dpk_core.errors import ValidationError
from dpk_core.services.video import VideoWriter
from dpk_core.testing import check_tracker, walking_dots
from dpk_core.tracks import COLUMNS
from dpk_core.workflow.track import track_video
from dpk_trackers.fixed_count import FixedCountTracker
from dpk_trackers.heading import orient


def follow(tracker, stream, first=0):
    rows = [tracker.update(first + i, found) for i, found in enumerate(stream)]
    joined = {key: np.concatenate([getattr(r, key) for r in rows]) for key in COLUMNS}
    return tracker.finish(Tracks(**joined))


def of(places, lengths=20.0, score=1.0, angle=None):
    """Detections at (m, 2) places, half as wide as long."""
    places = np.asarray(places, float).reshape(-1, 2)
    length = np.broadcast_to(lengths, len(places)).astype(float)
    turned = None if angle is None else np.broadcast_to(angle, len(places)).astype(float)
    scores = np.broadcast_to(score, len(places))
    return Detections(*places.T, length, length / 2, turned, score=scores)


def where(tracks, who):
    """(n, 2) places of an individual, by frame."""
    rows = np.flatnonzero(tracks.id == who)
    rows = rows[np.argsort(tracks.frame[rows])]
    return np.stack([tracks.x[rows], tracks.y[rows]], axis=1)


def meeting(n=120, near=14.0):
    """Two that come head on, turn round where they almost touch, and go back. (n, 2, 2)."""
    t = np.abs(np.linspace(-1, 1, n)) * 80 + near / 2
    return np.stack([np.c_[150 - t, np.full(n, 100)], np.c_[150 + t, np.full(n, 100)]], axis=1)


@pytest.mark.parametrize("count", [None, 2, 30])
def test_the_contract(count):
    check_tracker("fixed_count", count=count)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 99), st.integers(1, 5), st.floats(0, 0.4), st.integers(0, 4))
def test_never_more_identities_than_animals_and_none_changes_its_number(seed, count, missed, false):
    rng = np.random.default_rng(seed)
    paths = rng.uniform(30, 300, (1, 4, 2)) + rng.normal(0, 2, (50, 4, 2)).cumsum(axis=0)
    stream = []
    for points in paths:
        seen = points[rng.uniform(size=4) >= missed]
        stream.append(of(np.concatenate([seen, rng.uniform(0, 400, (false, 2))])))
    tracks = follow(FixedCountTracker(count), stream, first=7)
    assert set(tracks.id.tolist()) <= set(range(count))
    assert len(set(zip(tracks.frame.tolist(), tracks.id.tolist(), strict=True))) == len(tracks)
    assert np.isfinite([tracks.x, tracks.y]).all()
    for who in np.unique(tracks.id):  # from its first sighting to its last, without a hole
        frames = tracks.frame[tracks.id == who]
        assert len(frames) == np.ptp(frames) + 1


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 99))
def test_the_order_of_detections_says_nothing(seed):
    _, stream = walking_dots(seed=seed)
    rng = np.random.default_rng(seed)
    mixed = [found[rng.permutation(len(found))] for found in stream]
    first, second = (follow(FixedCountTracker(3), s) for s in (stream, mixed))
    for name, column in first.columns().items():
        np.testing.assert_array_equal(column, second.columns()[name], err_msg=name)


def test_ids_are_from_left_to_right_at_first_and_kept_through_a_crossing():
    t = np.arange(60.0)
    a, b = np.c_[20 + 3 * t, 50 + t], np.c_[200 - 3 * t, 110 - t]
    stream = [of([q, p]) for p, q in zip(a, b, strict=True)]
    tracks = follow(FixedCountTracker(2), stream)
    np.testing.assert_allclose(where(tracks, 0), a, atol=0.5)
    np.testing.assert_allclose(where(tracks, 1), b, atol=0.5)


def test_size_tells_who_is_who_where_motion_misleads():
    paths = meeting()
    rng = np.random.default_rng(1)
    sizes = np.array([26.0, 19.0]) * rng.normal(1, 0.03, (len(paths), 2))
    stream = [of(p, s) for p, s in zip(paths, sizes, strict=True)]
    for i in range(57, 63):  # and as one blob in the middle of it
        stream[i] = of(paths[i].mean(axis=0), 44.0)
    tracks = follow(FixedCountTracker(2), stream)
    np.testing.assert_allclose(where(tracks, 0), paths[:, 0], atol=6)
    np.testing.assert_allclose(where(tracks, 1), paths[:, 1], atol=6)
    filled = tracks.frame[tracks.interpolated]
    assert set(filled.tolist()) == set(range(57, 63))  # one blob is neither of the two


def test_directions_of_bodies_tell_who_is_who_where_they_cross():
    """Both stand still, one over the other, as long as everything but their direction is alike."""
    t = np.linspace(-1, 1, 41)
    a, b = np.c_[100 + 12 * t**3, np.full(41, 100.0)], np.c_[np.full(41, 100.0), 100 - 12 * t**3]
    stream = [of([p, q], angle=[0.0, np.pi / 2]) for p, q in zip(a, b, strict=True)]
    tracks = follow(FixedCountTracker(2, smooth=False, heading=False, mend=False), stream)
    np.testing.assert_allclose(where(tracks, 0), a, atol=1e-9)
    np.testing.assert_allclose(where(tracks, 1), b, atol=1e-9)


def test_what_is_missing_is_filled_in_and_flagged():
    t = np.arange(400.0)
    path = np.c_[50 + 0.2 * t, np.full(400, 60)]
    stream = [of([p, [300, 200]]) for p in path]
    for i in range(100, 350):
        stream[i] = stream[i][[1]]
    tracks = follow(FixedCountTracker(2), stream)
    mine = tracks[np.flatnonzero(tracks.id == 0)]
    assert mine.frame.tolist() == list(range(400))
    assert np.flatnonzero(mine.interpolated).tolist() == list(range(100, 350))
    np.testing.assert_allclose(mine.x, path[:, 0], atol=1)
    assert not tracks.interpolated[tracks.id == 1].any()
    short = follow(FixedCountTracker(2, fill_gap=30), stream)
    assert not short.interpolated.any()


def test_found_again_far_away_with_all_that_was_seen_of_it():
    stream = [of([[50, 60], [300, 200]])] * 20 + [of([[300, 200]])] * 30
    stream += [of([[300, 200], [500, 400]])] * 20
    tracks = follow(FixedCountTracker(2), stream)
    np.testing.assert_allclose(where(tracks, 0)[[19, 50]], [[50, 60], [500, 400]], atol=1)
    assert tracks.frame[tracks.id == 0].tolist() == list(range(70))


def test_false_detections_that_flicker_are_nobody():
    rng = np.random.default_rng(3)
    paths = 100 + rng.normal(0, 1, (200, 2, 2)).cumsum(axis=0) + [[0, 0], [150, 0]]
    stream = [of([*p, *rng.uniform(0, 500, (2, 2))]) for p in paths]
    stream[0] = of(paths[0])
    tracks = follow(FixedCountTracker(2), stream)
    for who in (0, 1):
        apart = np.hypot(*(where(tracks, who) - paths[:, who]).T)
        assert np.mean(apart < 5) > 0.97


@pytest.mark.parametrize("seed", [0, 1])
def test_many_among_misses_and_false_detections_that_stay_a_while(seed):
    rng = np.random.default_rng(seed)
    turns = rng.uniform(-3, 3, 6) + rng.normal(0, 0.1, (300, 6)).cumsum(axis=0)
    steps = 2.5 * np.stack([np.cos(turns), np.sin(turns)], axis=2)
    paths = rng.uniform(0, 500, (6, 2)) + steps.cumsum(axis=0)
    paths = np.abs((paths + 500) % 1000 - 500)  # they turn round at the walls
    stains = np.repeat(rng.uniform(0, 500, (30, 1, 2)), 10, axis=0)
    stream = []
    for points, stain in zip(paths, stains, strict=True):
        seen = points[rng.uniform(size=6) >= 0.08] + rng.normal(0, 0.5, 2)
        stream.append(of(np.concatenate([seen, stain])))
    tracks = follow(FixedCountTracker(6), stream)
    found = np.full((6, 300, 2), np.nan)
    found[tracks.id, tracks.frame] = np.stack([tracks.x, tracks.y], axis=1)
    near = np.hypot(*np.moveaxis(found[:, None] - paths.transpose(1, 0, 2), 3, 0)) < 8
    share = near.mean(axis=2)  # of the frames, for each id and each animal
    a, b = linear_sum_assignment(share, maximize=True)
    assert share[a, b].mean() > 0.85


def test_an_animal_takes_its_id_from_something_faint():
    """A stain was there first; the animal came later."""
    stain = of([[300, 300]], score=0.35)
    late = of([[300, 300], [80, 80]], score=np.array([0.35, 0.95]))
    tracker = FixedCountTracker(1)
    rows = [tracker.update(i, stain if i < 20 else late) for i in range(80)]
    assert [r.x[0] for r in (rows[10], rows[79])] == [300, 80]
    assert all(len(r) == 1 for r in rows)


def test_a_leap_of_all_is_followed_when_nobody_else_can_be_there():
    stream = [of([[50, 60], [200, 60]], [26, 19])] * 30 + [of([[200, 100], [50, 100]], [19, 26])]
    tracker = FixedCountTracker(2)
    rows = [tracker.update(i, found) for i, found in enumerate(stream)]
    assert rows[-1].id.tolist() == [0, 1]
    assert rows[-1].x.tolist() == [50, 200]


@pytest.mark.parametrize("false", [False, True])
def test_animals_that_leap_in_every_frame_after_a_long_rest_lose_nothing(false):
    """A video of few frames a second: what was learned while they sat foretells nothing."""
    rng = np.random.default_rng(5)
    steps = rng.uniform(-15, 15, (40, 2, 2)) + np.array([[8, 4], [8, -4]])
    paths = np.array([[50, 40], [50, 400]]) + np.r_[np.zeros((60, 2, 2)), steps.cumsum(axis=0)]
    stream = [of(p, np.array([26.0, 19.0]) * rng.normal(1, 0.02, 2)) for p in paths]
    if false:
        stream[5] = of([*paths[5], [300, 200]], 20.0)
    tracks = follow(FixedCountTracker(2, smooth=False), stream)
    assert not tracks.interpolated.any()
    for who in (0, 1):
        np.testing.assert_allclose(where(tracks, who), paths[:, who], atol=1e-9)


def test_nothing_at_all_and_nothing_for_long():
    empty = [Detections.none()] * 300
    assert len(follow(FixedCountTracker(2), empty)) == 0
    assert len(follow(FixedCountTracker(), empty)) == 0
    late = follow(FixedCountTracker(2), empty + [of([[50, 60], [200, 60]])] * 3)
    assert late.frame.tolist() == [300, 300, 301, 301, 302, 302]
    again = [of([[50, 60], [200, 60]])] * 10 + empty + [of([[60, 60], [190, 60]])] * 10
    tracks = follow(FixedCountTracker(2), again)
    assert len(tracks) == 2 * 320
    assert where(tracks, 0)[-1].round().tolist() == [60, 60]


def test_the_number_is_that_of_the_first_frame_with_any_unless_it_is_given():
    tracker = FixedCountTracker()
    for i, found in enumerate([[], [[1, 2], [50, 60]], [[1, 2], [50, 60], [90, 90]]]):
        rows = tracker.update(i, of(found))
    assert tracker.count == 2
    assert rows.id.tolist() == [0, 1]


def test_tags_say_who_is_who_and_give_names():
    paths = meeting(60, near=2.0)
    stream = []
    for i, p in enumerate(paths):
        if i >= 30:
            p = p[::-1]  # they went through each other
        columns = of(p).columns()
        stream.append(Detections(**{**columns, "id": np.array([17, 4])}))
    tracks = follow(FixedCountTracker(2), stream)
    assert tracks.provenance["track_names"] == {"0": "tag 17", "1": "tag 4"}
    assert where(tracks, 0)[-1, 0] > 200


def test_axes_become_headings_by_the_way_that_is_gone():
    t = np.linspace(0, 2 * np.pi, 100)
    circle = np.c_[100 + 60 * np.cos(t), 100 + 60 * np.sin(t)]
    true = np.angle(np.exp(1j * (t + np.pi / 2)))
    axis = np.arctan(np.tan(true))
    tracks = Tracks(np.arange(100), np.zeros(100, int), *circle.T, np.full(100, 20.0), angle=axis)
    turned = np.angle(np.exp(1j * (orient(tracks).angle - true)))
    np.testing.assert_allclose(turned, 0, atol=1e-6)
    rest = np.concatenate([circle, np.tile(circle[-1], (50, 1))])  # it rests as it stopped
    longer = Tracks(
        np.arange(150), np.zeros(150, int), *rest.T, angle=np.r_[axis, np.full(50, axis[-1])]
    )
    np.testing.assert_allclose(np.abs(orient(longer).angle[100:] - true[-1]), 0, atol=1e-6)


def test_headings_that_a_detector_knows_are_left_alone():
    tracks = Tracks([0, 1], [0, 0], [10.0, 20.0], [5.0, 5.0], angle=[3.0, 3.1])
    assert orient(tracks) is tracks
    unknown = Tracks([0, 1], [0, 0], [10.0, 20.0], [5.0, 5.0])
    assert np.isnan(orient(unknown).angle).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count: expected a number at least 1"),
        ({"count": 2.5}, "count: expected a whole number"),
        ({"count": "two"}, "count"),
        ({"count": float("inf")}, "count"),
        ({"start": 2}, "start: expected a number from 0 to 1"),
        ({"patience": 0}, "patience"),
        ({"noise": 0}, "noise"),
        ({"form": -1}, "form"),
        ({"fill_gap": -1}, "fill_gap"),
        ({"smooth": "no"}, "smooth: expected true or false, found .no."),
    ],
)
def test_settings_that_cannot_be(wrong, message):
    with pytest.raises(ValidationError, match=message):
        FixedCountTracker(**wrong)


def middle(frame):
    """A detector that has no setting named count."""
    return Detections([frame.shape[1] / 2], [frame.shape[0] / 2])


def test_the_detector_is_told_the_number(tmp_path):
    frames, truth = walking_dots()
    with VideoWriter(tmp_path / "dots.mp4", fps=10) as writer:
        for frame in frames:
            writer.write(frame)
    settings = {"tracker": "fixed_count", "tracker_settings": {"count": 3}}
    done = track_video(tmp_path / "dots.mp4", **settings)
    assert done.tracks.provenance["job"]["detector"]["settings"] == {"count": 3}
    assert len(done.tracks) == 3 * len(truth)
    fewer = track_video(
        tmp_path / "dots.mp4", tmp_path / "2.h5", detector_settings={"count": 2}, **settings
    )
    assert fewer.tracks.provenance["job"]["detector"]["settings"] == {"count": 2}
    function = {"function": f"{__file__}:middle"}
    other = track_video(
        tmp_path / "dots.mp4",
        tmp_path / "3.h5",
        detector="callable",
        detector_settings=function,
        **settings,
    )
    assert other.tracks.provenance["job"]["detector"]["settings"] == function
    assert set(other.tracks.id.tolist()) == {0}


def test_frames_out_of_order():
    tracker = FixedCountTracker(2)
    tracker.update(5, of([[1, 2]]))
    with pytest.raises(ValidationError, match="found frame 5 after frame 5"):
        tracker.update(5, of([[1, 2]]))


def test_hours_of_video_take_no_more_memory_than_their_rows_and_a_little():
    """Little arrays of each frame, kept one by one, take two kilobytes a frame."""
    tracker = FixedCountTracker(count=2)
    tracemalloc.start()
    try:
        for i in range(1024):
            tracker.update(i, of([(50 + i % 7, 50), (150, 90)]))
        before = tracemalloc.get_traced_memory()[0]
        for i in range(1024, 2048):
            tracker.update(i, of([(50 + i % 7, 50), (150, 90)]))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    a_row = 8 * (len(COLUMNS) + 3)
    assert grown < 2 * a_row * 2 * 1024
