"""Trackers follow individuals: through crossings they can foresee, gaps, clutter and nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from dpk_core import Detections, Tracks
from dpk_core.errors import ValidationError
from dpk_core.testing import check_tracker
from dpk_core.tracks import COLUMNS
from dpk_trackers.interpolation import interpolate
from dpk_trackers.kalman import KalmanTracker
from dpk_trackers.munkres import MunkresTracker
from dpk_trackers.smoothing import smooth

KINDS = (KalmanTracker, MunkresTracker)


def film(n=60, animals=6, seed=0, noise=0.3, missed=0.0, false=0):
    """Paths (n, animals, 2) over a field of 600x400, and the detections of each frame."""
    rng = np.random.default_rng(seed)
    start, heading = rng.uniform(60, (540, 340), (animals, 2)), rng.uniform(-3, 3, animals)
    turns = heading + rng.normal(0, 0.08, (n, animals)).cumsum(axis=0)
    paths = start + 2.5 * np.stack([np.cos(turns), np.sin(turns)], 2).cumsum(axis=0)
    stream = []
    for points in paths:
        seen = points[rng.uniform(size=animals) >= missed] + 0
        seen = seen + rng.normal(0, noise, seen.shape)
        seen = np.concatenate([seen, rng.uniform(0, (600, 400), (false, 2))])
        seen = rng.permutation(seen)
        sides = np.full(len(seen), 20.0), np.full(len(seen), 10.0)
        stream.append(Detections(*seen.T, *sides, score=np.full(len(seen), 0.9)))
    return paths, stream


def follow(tracker, stream):
    rows = [tracker.update(i, found) for i, found in enumerate(stream)]
    joined = {key: np.concatenate([getattr(r, key) for r in rows]) for key in COLUMNS}
    return tracker.finish(Tracks(**joined))


def identities(paths, tracks):
    """(n, animals) id of the nearest row within 5 px, -1 for none."""
    found = np.full(paths.shape[:2], -1)
    for i, points in enumerate(paths):
        rows = tracks[np.flatnonzero(tracks.frame == i)]
        if not len(rows):
            continue
        apart = np.hypot(*(points[:, None] - np.stack([rows.x, rows.y], 1)).transpose(2, 0, 1))
        for a, b in zip(*linear_sum_assignment(apart), strict=True):
            if apart[a, b] < 5:
                found[i, a] = rows.id[b]
    return found


@pytest.mark.parametrize("name", ["kalman", "munkres"])
def test_the_contract(name):
    check_tracker(name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_everybody_keeps_an_id(kind, seed):
    paths, stream = film(seed=seed)
    found = identities(paths, follow(kind(), stream))
    usual = [np.bincount(column[column >= 0]).argmax() for column in found.T]
    assert (found == usual).mean() > 0.97
    assert len(set(usual)) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_missed_and_false_detections(kind):
    paths, stream = film(n=120, missed=0.08, false=1, seed=4)
    found = identities(paths, follow(kind(), stream))
    usual = [np.bincount(column[column >= 0]).argmax() for column in found.T]
    assert (found == usual).mean() > 0.85


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.sampled_from(KINDS), st.integers(0, 99))
def test_the_order_of_detections_says_nothing(kind, seed):
    _, stream = film(n=25, seed=seed)
    rng = np.random.default_rng(seed)
    mixed = [found[rng.permutation(len(found))] for found in stream]
    first, second = follow(kind(), stream), follow(kind(), mixed)
    order = [np.lexsort((t.y, t.x, t.frame)) for t in (first, second)]
    np.testing.assert_allclose(first.x[order[0]], second.x[order[1]], atol=1e-6)
    pairs = set(zip(first.id[order[0]].tolist(), second.id[order[1]].tolist(), strict=True))
    assert len(pairs) == len(np.unique(first.id)) == len(np.unique(second.id))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_for_long_then_somebody(kind):
    stream = [Detections.none()] * 200 + [Detections([50.0], [60.0], [9.0], [9.0])] * 20
    tracks = follow(kind(), stream)
    assert len(np.unique(tracks.id)) <= 1
    assert not len(tracks) or tracks.frame.min() >= 200


def test_a_gap_is_filled_in_a_straight_line_and_flagged():
    tracks = Tracks([0, 4], [3, 3], [10.0, 30.0], [5.0, 9.0], [8.0, 8.0], [4.0, 4.0], [3.0, -3.0])
    filled = interpolate(tracks, 10)
    order = np.argsort(filled.frame)
    assert filled.frame[order].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(filled.x[order], [10, 15, 20, 25, 30])
    assert filled.interpolated[order].tolist() == [False, True, True, True, False]
    across = (2 * np.pi - 6) / 4  # through pi, the shorter way round
    expected = np.array([3, 3 + across, 3 + 2 * across, 3 + 3 * across, 2 * np.pi - 3])
    turn = np.angle(np.exp(1j * (filled.angle[order] - expected)))
    np.testing.assert_allclose(turn, 0, atol=1e-9)
    assert len(interpolate(tracks, 2)) == 2


def test_smoothing_brings_noisy_paths_nearer_to_the_truth_and_leaves_clean_ones():
    t = np.arange(200)
    true = 100 + 40 * np.sin(t / 25.0)
    noisy = true + np.random.default_rng(0).normal(0, 1, 200)
    tracks = Tracks(t, np.zeros(200, int), noisy, true)
    found = smooth(tracks)
    assert np.abs(found.x - true).mean() < 0.6 * np.abs(noisy - true).mean()
    np.testing.assert_allclose(found.y, true, atol=0.05)


def test_settings_that_cannot_be():
    with pytest.raises(ValidationError, match="match"):
        MunkresTracker(match="nose")
