"""The criteria by which frames are suggested, beside values computed otherwise."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from dpk_core.errors import ValidationError
from dpk_core.services.suggestions import (
    acceleration,
    autoregressive_residuals,
    farthest_points,
    image_features,
    low_confidence,
    map_entropy,
    pose_features,
    rank_average,
    ranks,
    robust_outliers,
    select,
    speed,
)
from dpk_core.services.suggestions.autoregression import fit_autoregression
from dpk_core.services.suggestions.outliers import worst

quick = settings(max_examples=25, deadline=None, derandomize=True)
values = st.floats(-1e3, 1e3, allow_subnormal=False)
with_gaps = st.one_of(values, st.just(np.nan))


# -- confidence and entropy ----------------------------------------------------------------------


def test_what_was_not_found_is_least_sure():
    scores = np.array([[0.9, 0.2], [np.nan, 0.0]])
    np.testing.assert_allclose(low_confidence(scores), [[0.1, 0.8], [1, 1]])


def test_entropy_is_that_of_scipy():
    maps = np.random.default_rng(0).random((3, 6, 8, 2)) ** 4
    expected = stats.entropy(maps.reshape(3, 48, 2), axis=1, base=48)
    np.testing.assert_allclose(map_entropy(maps), expected, atol=1e-12)


def test_two_equal_peaks_spread_more_than_one_and_less_than_noise():
    y, x = np.mgrid[:32, :32]
    one = np.exp(-((x - 8) ** 2 + (y - 8) ** 2) / 8)
    two = one + np.exp(-((x - 24) ** 2 + (y - 24) ** 2) / 8)
    noise = np.random.default_rng(1).random((32, 32))
    found = map_entropy(np.stack([one, two, noise])[..., None])[:, 0]
    assert found[0] < found[1] < found[2]
    # a mixture of two distributions that don't overlap has log(2) more (chain rule of entropy)
    assert found[1] - found[0] == pytest.approx(np.log(2) / np.log(32 * 32), abs=1e-3)


def test_entropy_of_maps_that_say_nothing():
    maps = np.zeros((3, 4, 4, 1))
    maps[1], maps[2] = np.nan, -1
    assert map_entropy(maps).ravel().tolist() == [1, 1, 1]
    assert map_entropy(np.ones((1, 1, 1, 2))).tolist() == [[0, 0]]
    assert map_entropy(np.ones((0, 4, 4, 2))).shape == (0, 2)


@quick
@given(arrays(float, (2, 3, 4, 2), elements=st.floats(0, 1)), st.floats(1e-3, 1e3))
def test_entropy_lies_in_0_to_1_and_knows_no_unit(maps, factor):
    found = map_entropy(maps)
    assert (found >= 0).all()
    assert (found <= 1).all()
    np.testing.assert_allclose(map_entropy(maps * factor), found, atol=1e-9)


# -- motion --------------------------------------------------------------------------------------


def _walk(n=40, k=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, k, 2)).cumsum(axis=0)


def test_speed_and_acceleration_are_differences():
    points = _walk()
    np.testing.assert_allclose(
        speed(points, np.arange(40))[1:], np.hypot(*np.moveaxis(np.diff(points, axis=0), 2, 0))
    )
    second = np.diff(points, n=2, axis=0)
    np.testing.assert_allclose(
        acceleration(points, np.arange(40))[1:-1], np.hypot(*np.moveaxis(second, 2, 0))
    )


def test_uneven_steps_of_a_steady_motion_are_no_outliers():
    frames = np.array([0, 1, 4, 5, 11, 12])
    points = np.stack([3.0 * frames, -4.0 * frames], axis=1)[:, None]
    np.testing.assert_allclose(speed(points, frames)[1:], 5.0)
    np.testing.assert_allclose(acceleration(points, frames)[1:-1], 0, atol=1e-12)


def test_a_parabola_has_one_acceleration_however_it_is_sampled():
    frames = np.array([0, 1, 4, 5, 11, 12])
    points = np.stack([0.5 * frames**2.0, 0 * frames], axis=1)[:, None]
    np.testing.assert_allclose(acceleration(points, frames)[1:-1], 1.0)


@pytest.mark.parametrize("compute", [speed, acceleration])
def test_tracks_are_apart(compute):
    first, second = _walk(seed=1), _walk(seed=2) + 500
    frames = np.arange(40)
    alone = np.concatenate([compute(first, frames), compute(second, frames)])
    together = compute(np.concatenate([first, second]), np.tile(frames, 2), np.repeat([4, 9], 40))
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("compute", [speed, acceleration, autoregressive_residuals])
def test_rows_may_come_in_any_order(compute):
    points, frames = np.concatenate([_walk(), _walk(seed=2) + 500]), np.tile(np.arange(40), 2)
    tracks = np.repeat([4, 9], 40)
    expected = compute(points, frames, tracks)
    firsts = {speed: [0], acceleration: [0, 39], autoregressive_residuals: [0, 1, 2]}[compute]
    assert np.isnan(expected[firsts]).all()
    assert np.isnan(expected[np.add(firsts, 40)]).all()
    order = np.random.default_rng(3).permutation(80)
    found = compute(points[order], frames[order], tracks[order])
    np.testing.assert_allclose(found, expected[order], atol=1e-8)


@pytest.mark.parametrize("compute", [speed, acceleration, autoregressive_residuals])
def test_motion_of_rows_that_cannot_be_told_apart_is_unknown(compute):
    points = np.repeat(_walk(), 2, axis=0)
    assert np.isnan(compute(points, np.repeat(np.arange(40), 2))).all()


@pytest.mark.parametrize("compute", [speed, acceleration, autoregressive_residuals])
def test_motion_of_nothing_of_one_frame_and_of_missing_keypoints(compute):
    assert compute(np.empty((0, 2, 2)), np.empty(0, int)).shape == (0, 2)
    assert np.isnan(compute(np.ones((1, 2, 2)), np.array([7]))).all()
    assert np.isnan(compute(np.full((30, 2, 2), np.nan), np.arange(30))).all()
    points = _walk()
    points[10, 1] = np.nan
    found = compute(points, np.arange(40))
    assert np.isfinite(found[10, 0])
    assert np.isnan(found[[10, 11], 1]).all()
    with pytest.raises(ValidationError, match="keypoints: expected shape"):
        compute(points[..., 0], np.arange(40))
    with pytest.raises(ValidationError, match="frames: expected shape"):
        compute(points, np.arange(39))


# -- autoregression ------------------------------------------------------------------------------


def _fit(series, order):
    rows = np.arange(order, len(series))
    pasts = np.stack([series[rows - lag] for lag in range(1, order + 1)], axis=1)
    sources = np.stack([rows - lag - order for lag in range(order + 1)], axis=1).clip(-1)
    return fit_autoregression(series[rows], pasts, sources), series[rows], pasts


def test_a_swing_is_recovered_exactly_where_least_squares_fail():
    """x[t] = 2 cos(w) x[t-1] - x[t-2] holds for any swing around 0; around 50, too, with
    c = 50 (1 - a1 - a2). Every eighth value is wrong."""
    series = 50 + 20 * np.cos(0.3 * np.arange(400))
    series[5::8] += np.random.default_rng(0).uniform(15, 80, 50)
    found, left, pasts = _fit(series, 2)
    a1, a2 = 2 * np.cos(0.3), -1.0
    np.testing.assert_allclose(found, [50 * (1 - a1 - a2), a1, a2], rtol=1e-4)
    plain = np.linalg.lstsq(np.column_stack([np.ones(len(left)), pasts]), left, rcond=None)[0]
    assert np.abs(plain[1:] - [a1, a2]).max() > 0.5


def test_coefficients_of_a_noisy_process_are_near_the_true_ones():
    rng = np.random.default_rng(1)
    series, noise = np.zeros(5000), rng.normal(size=5000)
    for t in range(2, 5000):
        series[t] = 3 + 0.5 * series[t - 1] + 0.3 * series[t - 2] + noise[t]
    series[rng.choice(5000, 100, replace=False)] += 40
    found, _, _ = _fit(series, 2)
    np.testing.assert_allclose(found[1:], [0.5, 0.3], atol=0.04)
    assert found[0] / (1 - found[1:].sum()) == pytest.approx(15, rel=0.03)  # its mean


def test_the_frame_of_a_glitch_is_found_and_not_those_after_it():
    t = np.arange(300)
    points = np.stack([100 + 40 * np.cos(0.1 * t), 80 + 30 * np.sin(0.13 * t)], axis=1)[:, None]
    points = points + np.random.default_rng(2).normal(0, 0.2, points.shape)
    glitches = [40, 120, 121, 230]
    points[glitches] += 25
    found = autoregressive_residuals(points, t)[:, 0]
    assert set(np.flatnonzero(found > 15)) >= {40, 120, 230}
    assert np.isnan(found[[41, 42, 43, 121, 231, 233]]).all()
    usual = np.delete(found, [*range(40, 44), *range(120, 126), *range(230, 235)])
    assert np.nanmax(usual) < 5


def test_gaps_are_not_bridged():
    frames = np.r_[np.arange(50), np.arange(60, 100)]
    found = autoregressive_residuals(_walk(90), frames, order=3)
    assert np.isnan(found[:3]).all()
    assert np.isnan(found[50:53]).all()
    assert np.isfinite(found[53:]).sum() > 60


def test_an_animal_that_sits_still_has_no_residual():
    found = autoregressive_residuals(np.full((50, 1, 2), 7.0), np.arange(50))
    assert np.nanmax(found) < 1e-6


def test_the_order_of_the_model_is_checked():
    with pytest.raises(ValidationError, match="order: expected at least 1, found 0"):
        autoregressive_residuals(_walk(), np.arange(40), order=0)


@quick
@given(arrays(float, (30, 1, 2), elements=with_gaps), st.integers(1, 4))
def test_residuals_of_anything_are_distances_or_unknown(points, order):
    found = autoregressive_residuals(points, np.arange(30), order=order)
    known = np.isfinite(found)
    assert (found[known] >= 0).all()
    missing = np.isnan(points).any(axis=2)
    assert not known[missing].any()
    assert not known[:order].any()


# -- standing out --------------------------------------------------------------------------------


def test_outliers_are_counted_in_scipys_deviations():
    data = np.random.default_rng(4).gamma(2.0, size=(200, 3))
    scale = stats.median_abs_deviation(data, axis=0, scale="normal")
    expected = ((data - np.median(data, axis=0)) / scale).clip(0)
    np.testing.assert_allclose(robust_outliers(data), expected, rtol=1e-3)


def test_outliers_where_most_or_all_are_equal_or_none_is_known():
    still = np.zeros((20, 3))
    still[7, 0] = 5
    still[:, 2] = np.nan
    found = robust_outliers(still)
    assert found[7, 0] == pytest.approx(5 / (1.2533 * 5 / 20))
    assert found[:, :2].sum() == found[7, 0]
    assert np.isnan(found[:, 2]).all()
    assert robust_outliers(np.empty((0, 2))).shape == (0, 2)


@quick
@given(arrays(float, (12, 2), elements=with_gaps), st.floats(0.1, 10), st.floats(-100, 100))
def test_outliers_know_neither_unit_nor_origin(data, factor, shift):
    found = robust_outliers(data.round(3))
    moved = robust_outliers(data.round(3) * factor + shift)
    wild = np.nan_to_num(found) > 1e6
    np.testing.assert_allclose(np.where(wild, 0, moved), np.where(wild, 0, found), 1e-3, 1e-3)


def test_the_worst_keypoint_decides():
    found = worst(np.array([[1.0, np.nan, 3], [np.nan] * 3]))
    np.testing.assert_array_equal(found, [3, np.nan])


# -- ranks ---------------------------------------------------------------------------------------


@quick
@given(arrays(float, st.integers(2, 30), elements=values))
def test_ranks_are_those_of_scipy(data):
    np.testing.assert_allclose(ranks(data), (stats.rankdata(data) - 1) / (len(data) - 1))


def test_the_average_is_over_what_is_known():
    first, second = np.array([1.0, 2, 3, 4]), np.array([np.nan, 9, 8, np.nan])
    np.testing.assert_allclose(rank_average([first, second]), [0, (1 / 3 + 1) / 2, 1 / 3, 1])
    assert rank_average([np.full(3, np.nan)]).tolist() == [0.5] * 3
    assert ranks(np.array([7.0])).tolist() == [0.5]
    with pytest.raises(ValidationError, match="at least one"):
        rank_average([])
    with pytest.raises(ValidationError, match=r"equal lengths, found \[2, 3\]"):
        rank_average([np.zeros(2), np.zeros(3)])


def test_kinds_count_alike_however_many_see_them():
    rng = np.random.default_rng(5)
    first, second, third = rng.random((3, 10))
    found = rank_average([first, second, third], ["a", "b", "b"])
    expected = (ranks(first) + (ranks(second) + ranks(third)) / 2) / 2
    np.testing.assert_allclose(found, expected)
    with pytest.raises(ValidationError, match="kinds: expected 2, found 1"):
        rank_average([first, second], ["a"])


@quick
@given(arrays(float, 9, elements=values), arrays(float, 9, elements=values))
def test_a_wild_value_weighs_no_more_than_the_highest(first, second):
    wilder = first.copy()
    wilder[np.argmax(first)] += 1e9
    before, after = rank_average([first, second]), rank_average([wilder, second])
    assert np.abs(before - after).max() <= 0.5


# -- diversity -----------------------------------------------------------------------------------


def _radius(points, chosen):
    apart = np.linalg.norm(points[:, None] - points[list(chosen)][None], axis=2)
    return apart.min(axis=1).max()


@quick
@given(arrays(float, (8, 2), elements=values), st.integers(1, 4))
def test_farthest_points_cover_all_at_most_twice_as_far_as_the_best_could(points, n):
    """Gonzalez 1985, Theorem 2.2, against all choices there are."""
    chosen, distances = farthest_points(points, n)
    assert len(set(chosen.tolist())) == n
    best = min(_radius(points, some) for some in combinations(range(8), n))
    assert _radius(points, chosen) <= 2 * best + 1e-6
    assert (np.diff(distances[1:]) <= 1e-9).all()


def test_what_is_labelled_already_counts_as_chosen():
    line = np.array([[0.0], [1], [2], [9], [10]])
    chosen, distances = farthest_points(line, 2, centers=np.array([[10.0]]))
    assert chosen.tolist() == [0, 2]
    assert distances.tolist() == [10, 2]
    assert len(farthest_points(line, 9)[0]) == 5
    assert len(farthest_points(np.empty((0, 3)), 2)[0]) == 0


def test_twenty_copies_are_chosen_once():
    features = np.repeat([[0.0], [5], [9]], 20, axis=0)
    chosen, _ = farthest_points(features, 3)
    assert sorted(features[chosen, 0].tolist()) == [0, 5, 9]


def test_poses_are_compared_wherever_the_animal_is_and_missing_keypoints_count():
    points = _walk(30, 4)
    found = pose_features(points)
    np.testing.assert_allclose(pose_features(points + np.array([30.0, -8])), found, atol=1e-9)
    assert np.mean(np.sum((found - found.mean(axis=0)) ** 2, axis=1)) == pytest.approx(1)
    hidden = np.repeat(points[:1], 10, axis=0)
    hidden[4, 2] = np.nan
    assert farthest_points(pose_features(hidden), 2)[0].tolist() == [0, 4]
    for nothing in (np.full((5, 3, 2), np.nan), np.ones((5, 3, 2))):
        assert (pose_features(nothing) == 0).all()
    assert pose_features(np.empty((0, 3, 2))).shape == (0, 9)


def test_images_are_compared_small_and_gray():
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 255, (4, 48, 96, 3)).astype(np.uint8))
    found = image_features(images)
    assert found.shape == (4, 24 * 12)
    np.testing.assert_array_equal(image_features(iter(images)), found)
    assert image_features([images[0][:, :, :1]] * 3).any() == np.False_
    assert image_features([]).shape == (0, 0)


# -- selection -----------------------------------------------------------------------------------


@quick
@given(
    arrays(float, 20, elements=st.one_of(st.integers(0, 5).map(float), st.just(np.nan))),
    st.integers(1, 25),
    st.integers(1, 6),
    arrays(bool, 20),
)
def test_a_selection_keeps_distance_and_leaves_out_nothing_better(data, n, gap, allowed):
    frames, tracks = np.arange(20) // 2, np.arange(20) % 2
    chosen = select(data, n, frames, tracks, gap, allowed)
    assert len(chosen) <= n
    assert allowed[chosen].all()
    for i, j in combinations(chosen, 2):
        assert tracks[i] != tracks[j] or abs(frames[i] - frames[j]) >= gap
    order = np.nan_to_num(data, nan=-1)
    assert (np.diff(order[chosen]) <= 0).all()
    for i in np.flatnonzero(allowed):  # whatever was left is near a better one, or n was reached
        better = [j for j in chosen if order[j] >= order[i] and tracks[j] == tracks[i]]
        near = any(abs(frames[i] - frames[j]) < gap for j in better)
        assert near or (len(chosen) == n and order[i] <= order[chosen[-1]])


def test_rows_of_equal_value_are_spread():
    chosen = np.sort(select(np.zeros(100), 5, np.arange(100)))
    assert np.diff(chosen).min() >= 10


@pytest.mark.parametrize(("n", "gap", "name"), [(0, 1, "n"), (1, 0, "min_distance")])
def test_numbers_below_one_are_refused(n, gap, name):
    with pytest.raises(ValidationError, match=f"{name}: expected at least 1, found 0"):
        select(np.zeros(3), n, np.arange(3), min_distance=gap)
