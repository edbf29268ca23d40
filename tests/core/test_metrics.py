"""Metrics against values worked out by hand and by plain loops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dpk_core.errors import ValidationError
from dpk_core.services.metrics import accuracy, keypoint_errors, oks, pck, summarize_errors

NAN = math.nan
TRUE = np.array([[[0, 0], [10, 10], [NAN, NAN]], [[5, 5], [20, 0], [1, 1]]], float)
PREDICTED = np.array(
    [[[3, 4, 0.9], [10, 10, 0.8], [7, 7, 0.2]], [[5, 17, 0.1], [NAN, NAN, 0], [1, 2, 0.5]]]
)
ERRORS = np.array([[5, 0, NAN], [12, NAN, 1]])


def test_errors_are_euclidean_and_missing_where_either_is():
    np.testing.assert_allclose(keypoint_errors(TRUE, PREDICTED), ERRORS)
    with pytest.raises(ValidationError, match=r"predicted: expected shape \(2, 3, 2\)"):
        keypoint_errors(TRUE, PREDICTED[:1])


def test_the_summary_matches_values_by_hand():
    summary = summarize_errors(
        ERRORS, ["a", "b", "c"], labelled=~np.isnan(TRUE[..., 0]), percentiles=(50, 90)
    )
    assert summary.count.tolist() == [2, 1, 1]
    assert summary.missed.tolist() == [0, 1, 0]
    np.testing.assert_allclose(summary.mean, [8.5, 0, 1])
    np.testing.assert_allclose(summary.median, [8.5, 0, 1])
    np.testing.assert_allclose(summary.rmse, [math.sqrt((25 + 144) / 2), 0, 1])
    np.testing.assert_allclose(summary.accuracy, [(1 / 6 + 1 / 13) / 2, 1, 0.5])
    np.testing.assert_allclose(summary.percentiles[90.0], [5 + 0.9 * 7, 0, 1])
    overall = summary.overall
    assert (overall["count"], overall["missed"]) == (4, 1)
    assert overall["mean"] == pytest.approx(4.5)
    assert overall["median"] == pytest.approx(3)
    assert overall["rmse"] == pytest.approx(math.sqrt(170 / 4))
    assert overall["p50"] == pytest.approx(3)
    assert "mean 4.5" in repr(summary)


def test_the_summary_turns_into_rows_and_json():
    summary = summarize_errors(ERRORS, ["a", "b", "c"])
    rows = summary.to_rows()
    assert [row["name"] for row in rows] == ["a", "b", "c", "all"]
    assert {tuple(row) for row in rows} == {
        (
            "name",
            "count",
            "missed",
            "mean",
            "median",
            "rmse",
            "accuracy",
            "p25",
            "p75",
            "p90",
            "p95",
        )
    }
    read = json.loads(json.dumps(summary.to_dict()))
    assert read["keypoints"]["a"]["mean"] == 8.5
    assert read["overall"]["count"] == 4


def test_nothing_known_gives_nan_without_a_warning(recwarn):
    summary = summarize_errors(np.full((3, 2), NAN))
    assert summary.count.tolist() == [0, 0]
    assert np.isnan(summary.mean).all()
    assert math.isnan(summary.overall["rmse"])
    assert np.isnan(oks(TRUE[:1, 2:], PREDICTED[:1, 2:], 1.0, 1.0)).all()
    assert math.isnan(pck(TRUE[:1, 2:], PREDICTED[:1, 2:], 1.0))
    assert not recwarn.list


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        float,
        st.tuples(st.integers(1, 6), st.integers(1, 4)),
        elements=st.one_of(st.just(NAN), st.floats(0, 1e3)),
    )
)
def test_the_summary_matches_nan_functions(errors):
    summary = summarize_errors(errors)
    for i, column in enumerate(errors.T):
        known = column[~np.isnan(column)].tolist()
        if not known:
            assert math.isnan(summary.mean[i])
            continue
        assert summary.mean[i] == pytest.approx(math.fsum(known) / len(known))
        assert summary.median[i] == pytest.approx(np.nanmedian(column))
        assert summary.rmse[i] == pytest.approx(
            math.sqrt(math.fsum(e * e for e in known) / len(known))
        )
        assert summary.percentiles[95.0][i] == pytest.approx(np.nanpercentile(column, 95))


def test_accuracy_keeps_nan():
    np.testing.assert_allclose(accuracy([0, 1, 9, NAN]), [1, 0.5, 0.1, NAN])


def test_pck_counts_missed_predictions_as_wrong_and_leaves_out_missing_labels():
    assert pck(TRUE, PREDICTED, 5) == pytest.approx(3 / 5)
    assert pck(TRUE, PREDICTED, 4.999) == pytest.approx(2 / 5)
    np.testing.assert_allclose(pck(TRUE, PREDICTED, 5, per_keypoint=True), [0.5, 0.5, 1])


def test_pck_relative_to_a_length_for_each_image():
    assert pck(TRUE, PREDICTED, 0.5, reference=10.0) == pytest.approx(3 / 5)
    assert pck(TRUE, PREDICTED, 0.5, reference=[10.0, 24.0]) == pytest.approx(4 / 5)
    assert pck(TRUE, PREDICTED, 0.5, reference=[10.0, NAN]) == pytest.approx(1)


def coco_similarity(true, predicted, area, sigmas):
    """Plain loops after the text of COCO's evaluation page, sigmas being half of kappa."""
    total, count = 0.0, 0
    for (x, y), (u, v), sigma in zip(true, predicted, sigmas, strict=True):
        if math.isnan(x):
            continue
        count += 1
        if not math.isnan(u):
            variance = (2 * sigma) ** 2
            total += math.exp(-((x - u) ** 2 + (y - v) ** 2) / variance / area / 2)
    return total / count


def test_oks_matches_coco():
    sigmas = np.array([0.026, 0.25, 0.107])  # nose, a body part, hip
    areas = np.array([900.0, 2500.0])
    expected = [coco_similarity(TRUE[i], PREDICTED[i, :, :2], areas[i], sigmas) for i in range(2)]
    np.testing.assert_allclose(oks(TRUE, PREDICTED, areas, 2 * sigmas), expected)
    # by hand: distance 1, area 1, kappa 1
    one = oks(np.zeros((1, 1, 2)), np.array([[[1.0, 0.0]]]), 1.0, 1.0)
    np.testing.assert_allclose(one, math.exp(-0.5))


@pytest.mark.parametrize(("area", "kappa"), [(0.0, 1.0), (1.0, [1, 1, -1]), ([1, NAN], 1.0)])
def test_oks_refuses_areas_and_kappas_that_are_none(area, kappa):
    with pytest.raises(ValidationError, match="above 0"):
        oks(TRUE, PREDICTED, area, kappa)


def test_wrong_arguments_say_what_is_expected():
    with pytest.raises(ValidationError, match="names: expected one for each of 3"):
        summarize_errors(ERRORS, ["a"])
    with pytest.raises(ValidationError, match="percentiles"):
        summarize_errors(ERRORS, percentiles=[950])
    with pytest.raises(ValidationError, match="threshold"):
        pck(TRUE, PREDICTED, NAN)
