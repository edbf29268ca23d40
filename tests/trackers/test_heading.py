"""Heads and tails in tracks of any number of animals: crops of one that turns must not flip."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core import Detections, Tracks
from dpk_core.tracks import COLUMNS
from dpk_trackers.heading import orient
from dpk_trackers.kalman import KalmanTracker
from dpk_trackers.munkres import MunkresTracker

N = 120
TURN = np.linspace(0, 2 * np.pi, N)
PLACE = np.stack([200 + 80 * np.cos(TURN), 200 + 80 * np.sin(TURN)], axis=1)
HEADING = TURN + np.pi / 2
MISSED = range(60, 64)


def axis(angle):
    """As a detector of blobs gives it: in (-pi/2, pi/2]."""
    return (angle + np.pi / 2) % np.pi - np.pi / 2


def follow(tracker, angle, **columns):
    rows = [
        tracker.update(i, Detections([x], [y], [20.0], [8.0], [angle[i]], **columns))
        for i, (x, y) in enumerate(PLACE)
        if i not in MISSED
    ]
    return tracker.finish(
        Tracks(**{key: np.concatenate([getattr(r, key) for r in rows]) for key in COLUMNS})
    )


def off(tracks, true):
    return np.abs(np.angle(np.exp(1j * (tracks.angle - true[tracks.frame]))))


@pytest.mark.parametrize("make", [KalmanTracker, MunkresTracker])
def test_one_that_walks_a_circle_looks_ahead_also_where_it_was_not_seen(make):
    tracks = follow(make(), axis(HEADING))
    assert tracks.interpolated.sum() == len(MISSED)
    assert off(tracks, HEADING).max() < 0.1
    plain = follow(make(heading=False), axis(HEADING))
    assert off(plain, HEADING).max() > 3


@pytest.mark.parametrize("make", [KalmanTracker, MunkresTracker])
def test_angles_of_tags_and_headings_that_are_known_stay(make):
    glued = np.full(N, -0.4)  # the tag's own side, whichever way its bearer goes
    np.testing.assert_allclose(follow(make(), glued, id=[7]).angle, -0.4, atol=1e-6)
    backwards = HEADING + np.pi
    assert off(follow(make(), backwards), backwards).max() < 0.1


def test_what_is_an_axis_may_be_told():
    turned = Tracks(np.arange(N), np.zeros(N, int), *PLACE.T, np.full(N, 20.0), angle=HEADING + 3.1)
    assert orient(turned) is turned
    assert off(orient(turned, axes=True), HEADING).max() < 0.1
    assert orient(turned, axes=False) is turned


def test_under_a_camera_that_turns_angles_become_headings_on_the_ground():
    tracker = KalmanTracker(camera="flow")
    camera = 0.02 * np.arange(N)  # radians by which the picture is turned, about its first corner
    rows = []
    for i in range(N):
        cos, sin = np.cos(-0.02 * (i > 0)), np.sin(-0.02 * (i > 0))
        tracker._move = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
        c, s = np.cos(-camera[i]), np.sin(-camera[i])
        x, y = c * PLACE[i, 0] - s * PLACE[i, 1], s * PLACE[i, 0] + c * PLACE[i, 1]
        angle = axis(HEADING[i] - camera[i])
        rows.append(tracker.update(i, Detections([x], [y], [20.0], [8.0], [angle])))
    tracks = tracker.finish(
        Tracks(**{key: np.concatenate([getattr(r, key) for r in rows]) for key in COLUMNS})
    )
    assert off(tracks, HEADING - camera).max() < 0.1
