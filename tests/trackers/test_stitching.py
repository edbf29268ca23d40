"""Pieces of one path are joined over gaps, whatever the noise; what cannot be one never is."""

from __future__ import annotations

from itertools import pairwise

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import Tracks
from dpk_trackers.stitching import Pieces, stitch


def line(frames, who, start, velocity, noise=0.0, size=20.0, seed=0):
    """Somebody who walks straight on, seen in those frames."""
    frames = np.asarray(frames)
    rng = np.random.default_rng(seed)
    place = np.asarray(start) + np.outer(frames, velocity) + rng.normal(0, noise, (len(frames), 2))
    extent = np.full(len(frames), size), np.full(len(frames), size / 2)
    return Tracks(frames, np.full(len(frames), who), *place.T, *extent, np.zeros(len(frames)))


def together(*parts):
    columns = {k: np.concatenate([p.columns()[k] for p in parts]) for k in parts[0].columns()}
    return Tracks(**columns)


def wanderers(n=6, frames=240, seed=0):
    """(n, frames, 2) paths that turn, far enough apart to be told from one another."""
    rng = np.random.default_rng(seed)
    start = np.stack([np.full(n, 80.0), 120.0 * np.arange(1, n + 1)], 1)
    turns = rng.normal(0, 0.05, (frames, n)).cumsum(axis=0)
    steps = 2 * np.stack([np.cos(turns), np.sin(turns)], 2)
    return (start + steps.cumsum(axis=0)).transpose(1, 0, 2)


def in_pieces(paths, holes, seed=0, noise=0.5):
    """Tracks of the paths that begin a new id after each hole (animal, first, stop)."""
    rng = np.random.default_rng(seed)
    parts, truth = [], {}
    for animal, path in enumerate(paths):
        seen = np.ones(len(path), bool)
        for _, first, stop in (h for h in holes if h[0] == animal):
            seen[first:stop] = False
        frames = np.flatnonzero(seen)
        for run in np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1):
            who = len(truth)
            truth[who] = animal
            place = path[run] + rng.normal(0, noise, (len(run), 2))
            extent = np.full(len(run), 20.0), np.full(len(run), 10.0)
            parts.append(Tracks(run, np.full(len(run), who), *place.T, *extent))
    return together(*parts), np.array([truth[i] for i in range(len(truth))])


@pytest.mark.parametrize("velocity", [(0.0, 0.0), (0.5, 0.2), (3.0, 0.0), (8.0, -5.0)])
@pytest.mark.parametrize(("first", "gap", "second"), [(30, 6, 34), (30, 50, 34), (16, 6, 16)])
def test_a_perfect_path_without_noise_is_one(first, gap, second, velocity):
    frames = np.arange(first + gap + second)
    parts = [
        line(frames[:first], 0, (50, 900), velocity),
        line(frames[first + gap :], 1, (50, 900), velocity),
    ]
    for tracks in (together(*parts), attrs.evolve(together(*parts), width=None, height=None)):
        assert stitch(tracks).id.tolist() == [0] * len(tracks)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_short_pieces_close_to_each_other_are_one(rows):
    parts = [
        line(np.arange(rows), 3, (50, 60), (2, 0)),
        line(rows + 2 + np.arange(rows), 8, (50, 60), (2, 0)),
    ]
    assert set(stitch(together(*parts)).id.tolist()) == {3}


def test_pieces_far_from_each_other_stay_two():
    near = line(np.arange(30), 0, (50, 50), (3, 0))
    far = line(np.arange(36, 70), 1, (50, 900), (3, 0))
    assert len(np.unique(stitch(together(near, far)).id)) == 2


def test_a_gap_longer_than_allowed_stays():
    tracks = together(line(range(30), 0, (9, 9), (1, 0)), line(range(45, 90), 1, (9, 9), (1, 0)))
    assert len(np.unique(stitch(tracks, 15).id)) == 1
    assert len(np.unique(stitch(tracks, 14).id)) == 2
    assert len(np.unique(stitch(tracks, -1).id)) == 2


@pytest.mark.parametrize("seed", range(3))
def test_pieces_of_many_find_each_other(seed):
    rng = np.random.default_rng(seed)
    holes = [(a, f, f + int(rng.integers(3, 25))) for a in range(6) for f in (40, 100, 170)]
    tracks, truth = in_pieces(wanderers(seed=seed), holes, seed)
    joined = stitch(tracks)
    animal = truth[tracks.id]
    pairs = set(zip(joined.id.tolist(), animal.tolist(), strict=True))
    assert len({i for i, _ in pairs}) == len(pairs), "somebody got two animals"
    assert len(pairs) <= 7, "of 24 pieces, nearly all are joined"


def test_size_tells_who_goes_on():
    """Two meet, neither is seen for a while, and both come out where the other might have."""
    parts, frames = [], np.arange(60)
    for who, (size, y) in enumerate([(20, 200.0), (30, 206.0)]):
        parts.append(line(frames, who, (10, y), (1, 0), 0.3, size, who))
    for who, (size, y) in enumerate([(30, 202.0), (20, 204.0)]):
        parts.append(line(80 + frames, 2 + who, (10, y), (1, 0), 0.3, size, 5 + who))
    for who in range(8):  # others, from which is learned how sizes differ
        parts.append(line(range(140), 4 + who, (10, 300.0 + 40 * who), (1, 0), 0.3, 16 + 2 * who))
    sizes = np.random.default_rng(3).normal(1, 0.03, sum(len(p) for p in parts))
    tracks = together(*parts)
    tracks = attrs.evolve(tracks, width=tracks.width * sizes, height=tracks.height * sizes)
    joined = stitch(tracks)
    assert set(joined.id[tracks.id == 2].tolist()) == {1}
    assert set(joined.id[tracks.id == 3].tolist()) == {0}


def test_a_small_difference_in_size_counts_where_many_rows_bear_it_out():
    """One leaves and another, 8 % larger, comes out in its place: 100 rows tell, 8 do not."""
    noise = np.random.default_rng(4)

    def said(rows):
        parts = [line(range(100 - rows, 100), 0, (10, 100), (1, 0), 0.5, 20.0, 1)]
        parts.append(line(range(110, 110 + rows), 1, (10, 100), (1, 0), 0.5, 21.6, 2))
        for who in range(12):  # others, from which is learned how sizes differ and scatter
            size = 16.0 * np.exp(0.04 * who)
            parts.append(line(range(210), 2 + who, (10, 300 + 90 * who), (1, 0), 0.5, size, who))
        tracks = together(*parts)
        extent = np.exp(noise.normal(0, 0.06, (2, len(tracks))))
        tracks = attrs.evolve(
            tracks, width=tracks.width * extent[0], height=tracks.height * extent[1]
        )
        pieces, pair = Pieces(tracks), (np.array([0]), np.array([1]))
        far, variance = pieces.motion(*pair, 60)
        return float((pieces.costs(*pair, 60) - far - 2 * np.log(2 * np.pi * variance))[0])

    assert min(said(100) for _ in range(5)) > 8
    assert np.mean([said(8) for _ in range(5)]) < 6


def test_rows_without_a_position_count_for_nothing():
    tracks = together(line(range(20), 0, (9, 9), (1, 0)), line(range(26, 50), 1, (9, 9), (1, 0)))
    blank = attrs.evolve(tracks, x=np.where(tracks.frame == 10, np.nan, tracks.x))
    assert set(stitch(blank).id.tolist()) == {0}
    nowhere = attrs.evolve(tracks, x=None, y=None)
    assert stitch(nowhere).id.tolist() == tracks.id.tolist()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(0, 400)), max_size=40),
    st.integers(0, 30),
)
def test_invariants(rows, max_gap):
    cells = {(who, frame): x for who, frame, x in rows}
    who, frame = (np.array([k[i] for k in cells], int) for i in (0, 1))
    x = np.array(list(cells.values()), float)
    tracks = Tracks(frame, who, x, x / 2)
    joined = stitch(tracks, max_gap)
    assert joined.frame.tolist() == frame.tolist()
    assert joined.x.tolist() == x.tolist()
    assert set(joined.id.tolist()) <= set(who.tolist()), "no new names"
    both = set(zip(joined.frame.tolist(), joined.id.tolist(), strict=True))
    assert len(both) == len(tracks), "nobody is twice in a frame"
    for i in np.unique(who):
        assert len(np.unique(joined.id[who == i])) == 1, "a piece stays whole"
    for i in np.unique(joined.id):  # pieces of one never overlap, nor lie farther apart
        pieces = [frame[who == j] for j in np.unique(who[joined.id == i])]
        spans = sorted((piece.min(), piece.max()) for piece in pieces)
        gaps = [b[0] - a[1] - 1 for a, b in pairwise(spans)]
        assert all(0 <= gap <= max_gap for gap in gaps)
