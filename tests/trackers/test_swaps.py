"""Hand-made swaps: mended where size, shape or tags contradict, reported, and left where not."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import Detections, Tracks
from dpk_core.detections import NO_ID
from dpk_core.swaps import swap_candidates
from dpk_trackers.kalman import KalmanTracker
from dpk_trackers.swaps import Evidence, correct_swaps, meetings

N, MEETING = 200, 100


def crossing(lengths=(30.0, 24.0), upright=False, seed=0, noise=0.05):
    """Two who come towards each other, meet at frame 100 and go back: who turned, who passed?"""
    rng = np.random.default_rng(seed)
    t = np.arange(N)
    away = np.abs(t - MEETING) * 2.0
    parts = []
    for who, (side, length) in enumerate(zip((-1, 1), lengths, strict=True)):
        heading = 0.7 * np.sin(t / 9.0 + who)
        width = length * np.exp(rng.normal(0, noise, N))
        height = 0.4 * length * np.exp(rng.normal(0, noise, N))
        angle = heading
        if upright:
            cos, sin = np.cos(heading), np.sin(heading)
            width, height = np.hypot(width * cos, height * sin), np.hypot(width * sin, height * cos)
            angle = np.full(N, np.nan)
        columns = (t, np.full(N, who), 300 + side * away, np.full(N, 80.0), width, height, angle)
        parts.append(Tracks(*columns))
    names = parts[0].columns()
    return Tracks(**{k: np.concatenate([p.columns()[k] for p in parts]) for k in names})


def swapped(tracks, after=MEETING):
    """The same, with the wrong names from there on."""
    late = (tracks.frame > after) & (tracks.id < 2)
    return attrs.evolve(tracks, id=np.where(late, 1 - tracks.id, tracks.id))


def errors(found, truth):
    """Share of the rows away from the meeting that bear another name, names being arbitrary."""
    clear = np.abs(truth.frame - MEETING) > 15
    return (found.id != truth.id)[clear].mean()


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_swap_that_the_size_contradicts_is_mended(upright, seed):
    truth = crossing(upright=upright, seed=seed)
    found = correct_swaps(swapped(truth))
    assert errors(found, truth) == 0
    (candidate,) = swap_candidates(found)
    assert candidate.corrected
    assert candidate.frame <= MEETING <= candidate.stop
    assert {candidate.first, candidate.second} == {0, 1}
    untouched = correct_swaps(truth)
    assert errors(untouched, truth) == 0
    assert not any(c.corrected for c in swap_candidates(untouched))


def test_where_both_are_alike_nothing_is_exchanged():
    truth = crossing(lengths=(27.0, 27.0))
    for tracks in (truth, swapped(truth)):
        found = correct_swaps(tracks)
        assert found.id.tolist() == tracks.id.tolist()
        assert not any(c.corrected for c in swap_candidates(found))


def test_a_doubtful_one_is_reported_and_left():
    truth = crossing(lengths=(27.0, 26.3), noise=0.1, seed=2)
    found = correct_swaps(swapped(truth), threshold=1e6, report_from=0.0)
    assert found.id.tolist() == swapped(truth).id.tolist()
    assert [c.corrected for c in swap_candidates(found)] == [False]


def test_tags_that_were_read_now_and_then_contradict():
    truth = crossing(lengths=(27.0, 27.0))
    tags = np.where(np.arange(2 * N) % 12 == 0, 40 + truth.id, NO_ID)
    found = correct_swaps(swapped(truth), tags=tags)
    assert errors(found, truth) == 0
    assert [c.corrected for c in swap_candidates(found)] == [True]


def test_a_single_misread_tag_is_not_enough():
    truth = crossing(lengths=(27.0, 27.0))
    tags = np.full(2 * N, NO_ID)
    tags[[30, 170, 230, 370]] = 40, 41, 40, 40  # one of each side, one of them wrong
    assert correct_swaps(truth, tags=tags).id.tolist() == truth.id.tolist()


def test_the_shape_of_the_pose_contradicts():
    """Equal boxes; one has its keypoints nearer to the middle."""
    truth = crossing(lengths=(27.0, 27.0))
    wrong = swapped(truth)
    rng = np.random.default_rng(4)
    evidence = Evidence()
    for frame in range(N):
        rows = np.flatnonzero(truth.frame == frame)
        reach = np.array([[12.0, 4.0, 9.0], [9.0, 5.0, 12.0]])[truth.id[rows]]
        reach = reach * np.exp(rng.normal(0, 0.04, reach.shape))
        turn = rng.uniform(-3, 3, len(rows))[:, None] + np.array([0.0, 2.1, 4.2])
        points = np.stack([reach * np.cos(turn), reach * np.sin(turn)], 2)
        points += np.stack([truth.x[rows], truth.y[rows]], 1)[:, None]
        seen = Detections(truth.x[rows], truth.y[rows], keypoints=points)
        evidence.see(frame, wrong.id[rows], seen)
    shapes, tags = evidence.of(wrong)
    assert shapes.shape == (2 * N, 3)
    found = correct_swaps(wrong, shapes, tags)
    assert errors(found, truth) == 0


def test_names_after_two_swaps():
    """Exchanged at one meeting and back at the next."""
    truth = crossing()
    again = attrs.evolve(truth, frame=truth.frame + N)
    both = Tracks(**{k: np.concatenate([c, again.columns()[k]]) for k, c in
                     truth.columns().items()})  # fmt: skip
    middle = (both.frame > MEETING) & (both.frame <= N + MEETING)
    wrong = attrs.evolve(both, id=np.where(middle, 1 - both.id, both.id))
    found = correct_swaps(wrong)
    clear = (np.abs(both.frame - MEETING) > 15) & (np.abs(both.frame - N - MEETING) > 15)
    assert (found.id == both.id)[clear].all()
    assert sum(c.corrected for c in swap_candidates(found)) == 2


def test_meetings():
    tracks = crossing()
    ((begin, end, a, b),) = meetings(tracks, 20.0)
    assert (begin, end, a, b) == (95, 105, 0, 1)
    assert meetings(tracks, 0.1) == [(100, 100, 0, 1)]
    assert meetings(tracks[np.flatnonzero(tracks.id == 0)], 50.0) == []


def test_the_tracker_reports_what_it_mended():
    """Two of different size come, touch, wait, and each goes back the way that it came."""
    rng = np.random.default_rng(0)
    tracker, rows = KalmanTracker(max_gap=40), []
    for i in range(240):
        away = max(0.0, abs(i - 119.5) - 10) * 2.0
        lengths = np.array([34.0, 24.0]) * np.exp(rng.normal(0, 0.03, 2))
        x = 300 + np.array([-away - 6, away + 6])
        here = Detections(x, [80.0, 82.0], lengths, lengths / 2, [0.0, 0.0], [0.9, 0.9])
        rows.append(tracker.update(i, here))
    columns = {k: np.concatenate([r.columns()[k] for r in rows]) for k in rows[0].columns()}
    whole = tracker.finish(Tracks(**columns))
    assert "swap_candidates" in whole.provenance
    left = whole.id[whole.x < 250]
    assert len(np.unique(left)) == 1


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.booleans())
def test_invariants(seed, with_tags):
    rng = np.random.default_rng(seed)
    n, k = 60, 4
    place = rng.normal(0, 3, (n, k, 2)).cumsum(axis=0) + 100
    seen = rng.random((n, k)) < 0.9
    frame, who = np.nonzero(seen)
    size = rng.uniform(10, 30, len(who))
    tracks = Tracks(frame, who, *place[seen].T, size, size / 2)
    tags = rng.integers(-1, 3, len(who)) if with_tags else None
    found = correct_swaps(tracks, tags=tags, threshold=2.0, report_from=0.5)
    assert set(found.id.tolist()) <= set(who.tolist()), "no new names"
    pairs = set(zip(found.frame.tolist(), found.id.tolist(), strict=True))
    assert len(pairs) == len(who), "nobody is twice in a frame"
    np.testing.assert_array_equal(found.x, tracks.x)
    changed = (found.id != who).any()
    assert not changed or any(c.corrected for c in swap_candidates(found))


def test_evidence_of_frames_with_and_without_keypoints():
    """More frames than are joined at once; poses in every second one, tags in every third."""
    evidence = Evidence()
    n = 2500
    for i in range(n):
        points = np.array([[[0.0, 0.0], [2.0 + i, 0.0]]]) if i % 2 == 0 else None
        tag = [5 if i % 3 == 0 else NO_ID]
        evidence.see(i, np.array([7]), Detections([1.0], [0.0], id=tag, keypoints=points))
    columns = {k: np.zeros(n) for k in ("x", "y", "width", "height", "angle")}
    order = np.arange(n)[::-1]
    shapes, tags = evidence.of(Tracks(order, np.full(n, 7), **columns))
    np.testing.assert_allclose(shapes[order % 2 == 0, 0], np.log((2.0 + order[order % 2 == 0]) / 2))
    assert np.isnan(shapes[order % 2 == 1]).all()
    assert tags.tolist() == [5 if i % 3 == 0 else NO_ID for i in order]
