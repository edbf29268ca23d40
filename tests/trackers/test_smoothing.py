"""Gaps are filled within their limit, and noise is taken out, as much as there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import Tracks
from dpk_core.errors import ValidationError
from dpk_trackers.interpolation import angles_between, interpolate
from dpk_trackers.smoothing import smooth


def test_only_gaps_up_to_the_limit_are_filled():
    tracks = Tracks([0, 4, 9], [3, 3, 3], [0.0, 8.0, 13.0], [1.0, 1.0, 1.0])
    assert interpolate(tracks, 4).frame.tolist() == list(range(10))
    assert interpolate(tracks, 3).frame.tolist() == [0, 1, 2, 3, 4, 9]
    assert interpolate(tracks, 2).frame.tolist() == [0, 4, 9]
    np.testing.assert_allclose(interpolate(tracks, 3).x, [0, 2, 4, 6, 8, 13])


def test_gaps_of_two_at_once_and_rows_without_a_position():
    nan = np.nan
    tracks = Tracks(
        [0, 1, 2, 0, 3], [5, 5, 5, 6, 6], [0.0, nan, 4.0, 10.0, 40.0], [0.0, nan, 0.0, 1.0, 1.0]
    )
    filled = interpolate(tracks)
    assert list(zip(filled.frame.tolist(), filled.id.tolist(), strict=True)) == [
        (0, 5), (0, 6), (1, 5), (1, 6), (2, 5), (2, 6), (3, 6),
    ]  # fmt: skip
    np.testing.assert_allclose(filled.x, [0, 10, 2, 20, 4, 30, 40])
    assert filled.interpolated.tolist() == [False, False, True, True, False, True, False]
    # Before the first sighting nothing is made up: the row stays as it was.
    early = interpolate(Tracks([0, 1], [5, 5], [nan, 4.0], [nan, 0.0]))
    assert np.isnan(early.x[0])
    assert not early.interpolated.any()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.floats(-6, 6), st.floats(-3.1, 3.1), st.floats(0, 1))
def test_angles_go_the_shorter_way_round(first, way, share):
    between = angles_between(np.array([first]), np.array([first + way]), np.array([share]))
    expected = np.exp(1j * (first + share * way))
    np.testing.assert_allclose(np.exp(1j * between), [expected], atol=1e-9)
    assert -np.pi <= between[0] <= np.pi


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=40), st.integers(0, 12))
def test_what_was_seen_stays_and_what_is_filled_lies_between(cells, max_gap):
    who, frame = np.array(sorted(cells), int).reshape(-1, 2).T
    rng = np.random.default_rng(len(cells))
    tracks = Tracks(frame, who, *rng.uniform(0, 100, (2, len(who))))
    filled = interpolate(tracks, max_gap)
    pairs = list(zip(filled.frame.tolist(), filled.id.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    seen = filled[np.flatnonzero(~filled.interpolated)]
    assert sorted(zip(seen.id, seen.frame, seen.x, strict=True)) == sorted(
        zip(who, frame, tracks.x, strict=True)
    )
    for i in np.unique(who):
        own, known = np.sort(filled.frame[filled.id == i]), np.sort(frame[who == i])
        assert own[0] == known[0]
        assert own[-1] == known[-1]
        longest = np.diff(own).max(initial=1) - 1
        assert longest == 0 or longest > max_gap


def wave(n=300, noise=1.0, seed=0):
    t = np.arange(n)
    true = np.stack([200 + 80 * np.sin(t / 30), 150 + 60 * np.cos(t / 23)], 1)
    return true, true + np.random.default_rng(seed).normal(0, noise, true.shape)


def test_the_smoother_is_penalized_least_squares():
    """Against the dense normal equations (W + s D^T D) z = W y (Eilers 2003)."""
    y = np.random.default_rng(0).normal(0, 1, 12).cumsum()
    t = np.arange(12)
    tracks = Tracks(t, np.zeros(12, int), y, y)
    difference = np.diff(np.eye(12), 2, axis=0)
    expected = np.linalg.solve(np.eye(12) + 5.0 * difference.T @ difference, y)
    # Without outliers; one step of Huber's weights changes little.
    np.testing.assert_allclose(smooth(tracks, 5.0).x, expected, atol=0.12)


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_noise_is_reduced_without_being_told_how_much(noise):
    true, noisy = wave(noise=noise)
    found = smooth(Tracks(np.arange(300), np.zeros(300, int), *noisy.T))
    error = np.sqrt(((np.stack([found.x, found.y], 1) - true) ** 2).mean())
    assert error < 0.6 * noise


def test_a_path_without_noise_stays():
    true, _ = wave()
    found = smooth(Tracks(np.arange(300), np.zeros(300, int), *true.T))
    np.testing.assert_allclose(np.stack([found.x, found.y], 1), true, atol=0.05)


def test_an_outlier_hardly_pulls():
    true, noisy = wave(noise=0.5)
    noisy[150] += 40
    found = smooth(Tracks(np.arange(300), np.zeros(300, int), *noisy.T))
    near = slice(140, 161)
    assert np.abs(found.x - true[:, 0])[near].max() < 4


def test_what_was_filled_in_bends_with_the_path():
    true, noisy = wave(noise=0.3)
    seen = np.r_[0:140, 160:300]
    tracks = interpolate(Tracks(seen, np.zeros(280, int), *noisy[seen].T))
    found = smooth(tracks)
    gap = slice(140, 160)
    straight = np.abs(tracks.x - true[:, 0])[gap].mean()
    assert np.abs(found.x - true[:, 0])[gap].mean() < 0.5 * straight
    assert found.interpolated.sum() == 20


def test_angles_are_smoothed_across_the_seam():
    t = np.arange(100)
    true = np.pi + 0.3 * np.sin(t / 15)
    noisy = np.angle(np.exp(1j * (true + np.random.default_rng(0).normal(0, 0.1, 100))))
    tracks = Tracks(t, np.zeros(100, int), t * 1.0, t * 1.0, angle=noisy)
    found = smooth(tracks, columns=("angle",))
    error = np.angle(np.exp(1j * (found.angle - true)))
    assert np.sqrt((error**2).mean()) < 0.06
    np.testing.assert_array_equal(found.x, tracks.x)


def test_short_and_empty_tracks_and_settings():
    for n in range(5):
        tracks = Tracks(np.arange(n), np.zeros(n, int), 1.0 * np.arange(n), np.zeros(n))
        found = smooth(tracks, 10.0)
        np.testing.assert_allclose(found.x, tracks.x, atol=1e-6)
    with pytest.raises(ValidationError, match="smoothness: expected a number of 0 or more"):
        smooth(tracks, -1.0)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 1000))
def test_rows_stay_in_place(seed):
    """The same rows in the same order; NaN stays NaN; nothing of one individual is in another's."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 80))
    frame, who = np.divmod(rng.permutation(120)[:n], 3)
    x = rng.normal(0, 5, n) + 1000 * who
    x[rng.random(n) < 0.1] = np.nan
    tracks = Tracks(frame, who, x, np.where(np.isnan(x), np.nan, 3.0))
    found = smooth(tracks)
    assert found.frame.tolist() == frame.tolist()
    assert found.id.tolist() == who.tolist()
    np.testing.assert_array_equal(np.isnan(found.x), np.isnan(x))
    assert np.nanmax(np.abs(found.x - 1000 * who), initial=0) < 60
