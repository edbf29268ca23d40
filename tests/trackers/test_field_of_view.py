"""Gaps are not filled where the camera did not look; whoever turns round in view is followed."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core import Detections, Tracks
from dpk_core.tracks import COLUMNS
from dpk_trackers.field_of_view import FieldOfView
from dpk_trackers.kalman import KalmanTracker
from dpk_trackers.sightings import Sightings


def field(*places):
    here = FieldOfView()
    here.see(Sightings(Detections(*np.array(places, float).T), 0.5))
    return here


def gap(depth, who=0):
    """Six rows; the four in the middle were filled in, to so far beyond x = 100."""
    x = [95.0, 98.0, 100.0 + depth, 100.0 + depth / 2, 98.0, 95.0]
    filled = [False, True, True, True, True, False]
    return Tracks(np.arange(6), np.full(6, who), x, np.full(6, 50.0), interpolated=filled)


def test_a_gap_that_leads_out_of_view_is_cut_where_it_does():
    here = field([0, 0], [100, 80])
    assert here.within(gap(8.0), size=20.0).frame.tolist() == [0, 1, 4, 5]
    assert here.area == 8000.0


def test_a_turn_a_little_beyond_all_sightings_stays():
    assert len(field([0, 0], [100, 80]).within(gap(4.0), size=20.0)) == 6


def test_where_a_picture_was_seen_its_edges_count():
    here = field([0, 0], [100, 80])
    here.watch(np.zeros((90, 104, 3), np.uint8))
    assert here.within(gap(3.0), size=20.0).frame.tolist() == [0, 1, 2, 3, 4, 5]
    assert here.within(gap(4.0), size=20.0).frame.tolist() == [0, 1, 3, 4, 5]


def test_rows_that_were_seen_stay_wherever_they_are():
    tracks = Tracks([0, 1], [0, 0], [-30.0, 400.0], [5.0, 900.0])
    assert len(field([0, 0], [100, 80]).within(tracks, size=20.0)) == 2


def test_without_any_detection_nothing_is_cut():
    assert FieldOfView().area == 0.0
    assert len(FieldOfView().within(Tracks([], [], [], []), size=20.0)) == 0


@pytest.mark.parametrize("still", [True, False])
def test_one_who_leaves_the_picture_and_comes_back_has_no_rows_in_between(still):
    """Two walk to and fro; one of them beyond the right edge at x = 200 for a while."""
    tracker = KalmanTracker(camera="none" if still else "flow", smooth=True)
    picture = np.random.default_rng(0).integers(0, 255, (120, 200, 1), dtype=np.uint8)
    rng, rows = np.random.default_rng(1), []
    for i in range(120):
        places = [[100 + 98.0 * np.sin(i / 15), 30.0], [150 + 75 * np.sin((i - 20) / 20), 90.0]]
        x, y = np.array([p for p in places if p[0] < 199]).T
        size = np.full(len(x), 20.0)
        x, y = x + rng.normal(0, 0.5, len(x)), y + rng.normal(0, 0.5, len(y))
        found = Detections(x, y, size, size, score=np.full(len(x), 0.9))
        rows.append(tracker.update(i, found, None if still else picture))
    joined = Tracks(**{key: np.concatenate([getattr(r, key) for r in rows]) for key in COLUMNS})
    whole = tracker.finish(joined)
    away = [i for i in range(120) if 150 + 75 * np.sin((i - 20) / 20) >= 203]
    lower = whole[np.flatnonzero(whole.y > 60)]
    assert len(away) > 20
    assert len(np.unique(lower.id)) == 1
    assert not set(away) & set(lower.frame.tolist())
    upper = whole[np.flatnonzero(whole.y < 60)]
    assert upper.frame.tolist() == list(range(120)), "who stays in view has all rows"
