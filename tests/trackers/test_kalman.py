"""The stages, gates and learned quantities of the Kalman tracker, and the filter itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import Detections, Tracks
from dpk_core.errors import ValidationError
from dpk_core.tracks import COLUMNS
from dpk_trackers.assignment import assign
from dpk_trackers.kalman import KalmanTracker
from dpk_trackers.kalman_filter import MotionFilter
from dpk_trackers.similarity import iou, iou_of_pairs, log_sizes, oks, oks_of_pairs


def boxes(places, score=0.9, size=(20.0, 20.0), **columns):
    places = np.asarray(places, float).reshape(-1, 2)
    n = len(places)
    scores = np.broadcast_to(score, n)
    return Detections(*places.T, np.full(n, size[0]), np.full(n, size[1]), score=scores, **columns)


def follow(tracker, stream, finish=False):
    rows = [tracker.update(i, found) for i, found in enumerate(stream)]
    joined = Tracks(**{key: np.concatenate([getattr(r, key) for r in rows]) for key in COLUMNS})
    return tracker.finish(joined) if finish else joined


# -- stages ---------------------------------------------------------------------------------------


def test_a_weak_detection_continues_but_never_begins():
    """ByteTrack's second stage: somebody half hidden is followed, a shadow is not."""
    walk = [[[50 + 2.0 * i, 60.0], [300.0, 200.0]] for i in range(40)]
    scores = [[0.3 if 20 <= i < 30 else 0.9, 0.3] for i in range(40)]
    tracks = follow(KalmanTracker(), [boxes(w, s) for w, s in zip(walk, scores, strict=True)])
    assert set(tracks.id.tolist()) == {0}
    assert set(range(20, 30)) <= set(tracks.frame.tolist())
    without = follow(
        KalmanTracker(weak=0.5), [boxes(w, s) for w, s in zip(walk, scores, strict=True)]
    )
    assert not set(range(20, 30)) & set(without.frame.tolist())


def test_a_strong_detection_comes_before_a_weak_one_that_is_nearer():
    stream = [boxes([[50.0, 60.0]])] * 10
    stream += [boxes([[51.5, 60.0], [50.0, 60.0]], [0.9, 0.3])]
    tracks = follow(KalmanTracker(), stream)
    assert tracks.x[tracks.frame == 10].tolist() == [51.5]


def test_weak_detections_do_not_bring_back_who_was_long_gone():
    here, gone = boxes([[50.0, 60.0]]), Detections.none()
    weak = boxes([[50.0, 60.0]], 0.3)
    for pause, comes_back in ((1, True), (6, False)):
        tracks = follow(KalmanTracker(), [here] * 10 + [gone] * pause + [weak])
        assert (10 + pause in tracks.frame.tolist()) == comes_back


def test_newcomers_count_from_their_third_sighting_and_have_the_first_ones_in_the_end():
    stream = [boxes([[50.0, 60.0]])] * 6
    assert follow(KalmanTracker(), stream).frame.tolist() == [2, 3, 4, 5]
    assert follow(KalmanTracker(), stream, finish=True).frame.tolist() == [0, 1, 2, 3, 4, 5]
    assert follow(KalmanTracker(min_hits=1), stream).frame.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(follow(KalmanTracker(), stream[:2], finish=True)) == 0


def test_a_second_box_around_somebody_begins_nobody():
    stream = [boxes([[50.0, 60.0]])] * 10 + [boxes([[50.0, 60.0], [51.0, 60.5]])] * 10
    assert len(np.unique(follow(KalmanTracker(), stream, finish=True).id)) == 1


# -- gates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leap", "same"), [(4.0, True), (70.0, False)])
def test_the_gate_grows_with_what_is_not_known(leap, same):
    """Five body sizes in a frame are somebody else; a small start after rest is not."""
    stream = [boxes([[50.0, 60.0]])] * 20 + [boxes([[50.0 + leap, 60.0]])] * 20
    tracks = follow(KalmanTracker(stitch_gap=0), stream, finish=True)
    assert (len(np.unique(tracks.id)) == 1) == same


def test_motion_is_foretold_through_a_crossing():
    """Two walk through each other unseen for 4 frames; each goes on as it did."""
    t = np.arange(60)
    first = np.stack([100 + 3.0 * t, np.full(60, 80.0)], 1)
    second = np.stack([277 - 3.0 * t, np.full(60, 83.0)], 1)
    stream = [
        Detections.none() if 28 <= i < 32 else boxes([first[i], second[i]]) for i in range(60)
    ]
    tracks = follow(KalmanTracker(), stream)
    start = tracks.id[(tracks.frame == 20) & (tracks.x < 190)]
    end = tracks.id[(tracks.frame == 50) & (tracks.x > 190)]
    assert start.tolist() == end.tolist()


def test_overlap_tells_two_of_different_form_apart_at_one_place():
    """A long flat box and a high narrow one in the same place: who is where after a jump?"""

    def pair(i):
        # Both drift by less than the noise; the order of detections says nothing.
        rows = [[100.0, 80.0, 60.0, 14.0], [101.0 + 0.2 * (i % 2), 80.0, 14.0, 60.0]]
        x, y, w, h = np.array(rows if i % 2 else rows[::-1]).T
        return Detections(x, y, w, h, score=np.full(2, 0.9))

    tracks = follow(KalmanTracker(), [pair(i) for i in range(40)])
    for who in np.unique(tracks.id):
        assert len(np.unique(tracks.width[tracks.id == who])) == 1


def test_size_tells_two_upright_boxes_apart():
    """Boxes change with the heading, the diagonal does not: the one that is larger stays it."""
    rng = np.random.default_rng(0)
    stream, big = [], []
    for i in range(200):
        apart = 4 + abs(100 - i) * 1.0  # they come, touch and go back
        lengths = np.array([36.0, 26.0]) * np.exp(rng.normal(0, 0.03, 2))
        turn = rng.uniform(-np.pi, np.pi, 2)
        a, b = lengths, 0.4 * lengths
        w = np.hypot(a * np.cos(turn), b * np.sin(turn))
        h = np.hypot(a * np.sin(turn), b * np.cos(turn))
        x = np.array([200 - apart, 200 + apart]) + rng.normal(0, 1.5, 2)
        stream.append(Detections(x, [80.0, 80.0], w, h, score=[0.9, 0.9]))
        big.append(x[0])
    tracks = follow(KalmanTracker(), stream, finish=True)
    left = tracks.id[(tracks.x < 195) & ((tracks.frame < 85) | (tracks.frame > 115))]
    assert len(np.unique(left)) == 1


def test_tags_forbid():
    walk = [[50.0, 60.0]]
    stream = [boxes(walk, id=[4])] * 10 + [boxes(walk, id=[5])] * 10
    tracks = follow(KalmanTracker(stitch_gap=0), stream, finish=True)
    assert len(np.unique(tracks.id)) == 2
    assert sorted(tracks.provenance["track_names"].values()) == ["tag 4", "tag 5"]


def test_who_leaves_and_who_enters():
    stream = []
    for i in range(80):
        here = [[30.0 + 4 * i, 50.0]] if i < 40 else []
        here += [[30.0 + 4 * (i - 30), 150.0]] if i >= 30 else []
        stream.append(boxes(here) if here else Detections.none())
    tracks = follow(KalmanTracker(), stream, finish=True)
    assert len(np.unique(tracks.id)) == 2
    assert tracks.frame[tracks.y < 100].max() == 39
    assert tracks.frame[tracks.y > 100].min() == 30


def test_fast_ones_that_never_overlap_with_where_they_were_are_followed():
    stream = [boxes([[20.0 + 25 * i, 60.0], [900.0 - 25 * i, 160.0]]) for i in range(30)]
    tracks = follow(KalmanTracker(), stream, finish=True)
    assert len(np.unique(tracks.id)) == 2
    assert len(tracks) == 60


# -- settings and contract ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"camera": "yes"}, {"max_gap": -1}, {"wait": -2}, {"strong": 2}, {"noise": 0}, {"pose": -1},
     {"clutter": 0}, {"persistence": 0}, {"min_hits": 0}, {"keep": "x"}, {"smooth": "no"},
     {"sigmas": "wide"}, {"sigmas": [0.1, -1]}, {"sigmas": []}, {"min_hits": 1.5}, {"weak": 1.9},
     {"noise": np.inf}],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        KalmanTracker(**wrong)


def test_frames_must_come_in_order():
    tracker = KalmanTracker()
    tracker.update(3, Detections.none())
    with pytest.raises(ValidationError, match="expected frames in order, found frame 3 after"):
        tracker.update(3, Detections.none())


def test_a_moving_camera_needs_the_picture():
    with pytest.raises(ValidationError, match="frame 0: expected its image"):
        KalmanTracker(camera="flow").update(0, Detections.none())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_invariants(seed, extents, keypoints):
    """Whatever comes in: each id once a frame, rows are detections or marked, nothing is NaN."""
    rng = np.random.default_rng(seed)
    stream = []
    for _ in range(25):
        m = rng.integers(0, 7)
        size = rng.uniform(0, 40, (2, m)) if extents else np.full((2, m), np.nan)
        points = rng.uniform(0, 200, (m, 3, 2)) if keypoints else None
        if points is not None:
            points[rng.random((m, 3)) < 0.3] = np.nan
        stream.append(
            Detections(
                *rng.uniform(0, 60, (2, m)), *size, score=rng.random(m), keypoints=points,
                id=rng.integers(-1, 3, m),
            )
        )  # fmt: skip
    online = follow(KalmanTracker(min_hits=1), stream)
    for i, found in enumerate(stream):
        rows = np.flatnonzero(online.frame == i)
        assert len(np.unique(online.id[rows])) == len(rows)
        assert set(online.x[rows].tolist()) <= set(found.x.tolist())
    whole = follow(KalmanTracker(min_hits=1, smooth=False), stream, finish=True)
    assert len(set(zip(whole.frame.tolist(), whole.id.tolist(), strict=True))) == len(whole)
    assert np.isfinite(whole.x).all()
    seen = whole[np.flatnonzero(~whole.interpolated)]
    every = {(i, x) for i, found in enumerate(stream) for x in found.x.tolist()}
    assert set(zip(seen.frame.tolist(), seen.x.tolist(), strict=True)) <= every
    again = follow(KalmanTracker(min_hits=1, smooth=False), stream, finish=True)
    for name, column in whole.columns().items():
        np.testing.assert_array_equal(column, again.columns()[name])


# -- the filter, and likenesses -------------------------------------------------------------------


def test_the_filter_is_the_textbook_one():
    """Against matrices: x' = F x, P' = F P F^T + Q, K = P H^T / S (Kalman 1960), one axis."""
    tau, q, noise = 20.0, 0.7, 2.0
    ours = MotionFilter(tau)
    ours.add(np.array([[3.0, -1.0]]), np.array([noise]), 1.5)
    x, p = np.array([3.0, 0.0]), np.diag([noise, 1.5**2])
    rng = np.random.default_rng(0)
    for dt in (1.0, 1.0, 3.0, 1.0):
        steps = 4000  # the process noise, integrated numerically
        s = (np.arange(steps) + 0.5) * dt / steps
        g = np.stack([tau * (1 - np.exp(-s / tau)), np.exp(-s / tau)])
        f = np.array([[1, tau * (1 - np.exp(-dt / tau))], [0, np.exp(-dt / tau)]])
        x, p = f @ x, f @ p @ f.T + q**2 * (g @ g.T) * dt / steps
        z = rng.normal(0, 3)
        k = p[:, 0] / (p[0, 0] + noise)
        squared, variance = _step(ours, dt, q, z, noise)
        np.testing.assert_allclose(variance, p[0, 0] + noise, rtol=1e-6)
        np.testing.assert_allclose(squared, (z - x[0]) ** 2 / (p[0, 0] + noise), rtol=1e-6)
        x, p = x + k * (z - x[0]), p - np.outer(k, p[0])
        np.testing.assert_allclose(
            [ours.position[0, 0], ours.velocity[0, 0], *ours.covariance[0]],
            [*x, p[0, 0], p[0, 1], p[1, 1]],
            rtol=1e-5,
        )


def _step(ours, dt, q, z, noise):
    ours.predict(dt, q)
    measured = np.array([[z, ours.position[0, 1]]])
    squared, variance = ours.distances(measured, noise)
    ours.update(np.array([0]), measured, noise)
    return squared[0, 0], variance[0, 0]


def test_overlap_of_boxes_by_hand():
    first = np.array([[0, 0, 10, 10], [np.nan, 0, 1, 1], [5, 5, 5, 5]], float)
    second = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]], float)
    np.testing.assert_allclose(iou(first, second), [[1 / 3, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_oks_as_in_coco_and_with_slack():
    """exp(-d^2 / (2 area (2 sigma)^2)), by hand; slack adds to the spread."""
    pose = np.array([[[0.0, 0.0], [10.0, 0.0]]])
    other = np.array([[[3.0, 4.0], [10.0, 0.0]], [[np.nan, 0.0], [10.0, 1.0]]])
    spread = 400.0 * 0.1**2
    expected = [(np.exp(-25 / (2 * spread)) + 1) / 2, np.exp(-1 / (2 * spread))]
    np.testing.assert_allclose(oks(pose, other, np.array([400.0]), 0.05), [expected])
    wide = [(np.exp(-25 / (2 * (spread + 9))) + 1) / 2, np.exp(-1 / (2 * (spread + 9)))]
    np.testing.assert_allclose(oks(pose, other, np.array([400.0]), 0.05, np.array([9.0])), [wide])
    with pytest.raises(ValidationError, match="expected 2 of each animal"):
        oks(pose, np.zeros((1, 3, 2)), np.array([400.0]))
    with pytest.raises(ValidationError, match=r"sigmas: expected one, or one for each of 2 .* 3"):
        oks(pose, other, np.array([400.0]), np.array([0.1, 0.1, 0.1]))


def test_pairs_agree_as_much_as_in_the_table_of_all():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 60, (9, 2))
    corners = np.concatenate([low, low + rng.uniform(0, 50, (9, 2))], axis=1)
    corners[2, 1], corners[5, 2:] = np.nan, corners[5, :2]  # unknown; without an area
    i, j = rng.integers(0, 9, (2, 40))
    unknown = (i == 2) | (j == 2)
    expected = np.where(unknown, np.nan, iou(corners, corners)[i, j])
    np.testing.assert_array_equal(iou_of_pairs(corners[i].T, corners[j].T), expected)
    poses = rng.uniform(0, 30, (9, 4, 2))
    poses[rng.random((9, 4)) < 0.3] = np.nan
    area, slack = rng.uniform(200, 400, 9), rng.uniform(0, 9, 9)
    table = oks(poses, poses, area, 0.1, slack)
    pairs = oks_of_pairs(poses[i], poses[j], area[i], 0.1, slack[i])
    np.testing.assert_allclose(pairs, table[i, j], rtol=1e-12)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.floats(2, 200), st.floats(0.1, 1), st.floats(-3, 3))
def test_the_size_of_an_ellipse_does_not_depend_on_its_heading(length, form, turn):
    a, b = length, form * length
    w, h = (
        np.hypot(a * np.cos(turn), b * np.sin(turn)),
        np.hypot(a * np.sin(turn), b * np.cos(turn)),
    )
    upright = log_sizes(np.array([w]), np.array([h]), np.array([np.nan]))
    np.testing.assert_allclose(np.exp(2 * upright), (a**2 + b**2) / 2)
    turned = log_sizes(np.array([a]), np.array([b]), np.array([turn]))
    np.testing.assert_allclose(np.exp(2 * turned), a * b)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5))
def test_the_assignment_is_the_best_of_all(seed, n, m):
    """Against every one-to-one assignment there is, with pairs that are forbidden."""
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0, 10, (n, m))
    cost[rng.random((n, m)) < 0.3] = np.inf
    rows, columns = assign(cost, 6.0)
    assert len(set(rows.tolist())) == len(rows) == len(set(columns.tolist()))
    ours = (cost[rows, columns] - 6.0).sum()

    def best(i, free):
        if i == n:
            return 0.0
        options = [best(i + 1, free)]
        options += [
            cost[i, j] - 6.0 + best(i + 1, free - {j}) for j in free if np.isfinite(cost[i, j])
        ]
        return min(options)

    np.testing.assert_allclose(ours, best(0, frozenset(range(m))), atol=1e-9)
