"""Tags that were read now and then name whole tracks, and join the pieces of one bearer."""

from __future__ import annotations

import attrs
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import Tracks
from dpk_core.detections import NO_ID
from dpk_core.swaps import SwapCandidate, swap_candidates, with_candidates
from dpk_trackers.voting import vote, vote_unique


def pieces(*spans):
    """Tracks of (id, first, last) and rows in order."""
    frame = np.concatenate([np.arange(first, last + 1) for _, first, last in spans])
    who = np.concatenate([np.full(last - first + 1, i) for i, first, last in spans])
    return Tracks(frame, who, frame * 1.0, who * 1.0)


def read(tracks, **of):
    """Tags: ``i3=[7, 7]`` are the first readings of the individual 3."""
    tags = np.full(len(tracks), NO_ID)
    for name, values in of.items():
        rows = np.flatnonzero(tracks.id == int(name[1:]))
        tags[rows[: len(values)]] = values
    return tags


def test_pieces_with_one_tag_are_one_and_named():
    tracks = pieces((2, 0, 9), (5, 20, 29), (1, 0, 29))
    found = vote(tracks, read(tracks, i2=[7, 7, 8], i5=[7], i1=[4]))
    assert found.id.tolist() == [2] * 20 + [1] * 30
    assert found.provenance["track_names"] == {"2": "tag 7", "1": "tag 4"}


def test_of_pieces_that_overlap_those_with_most_votes_are_joined():
    tracks = pieces((0, 0, 9), (1, 5, 14), (2, 15, 24))
    found = vote(tracks, read(tracks, i0=[7], i1=[7, 7, 7], i2=[7]))
    assert found.id.tolist() == [0] * 10 + [1] * 20
    assert found.provenance["track_names"] == {"1": "tag 7"}


def test_a_piece_of_which_readings_disagree_gets_no_name():
    tracks = pieces((0, 0, 9), (1, 12, 20))
    found = vote(tracks, read(tracks, i0=[7, 8], i1=[7, 7]))
    assert found.id.tolist() == tracks.id.tolist()
    assert found.provenance["track_names"] == {"1": "tag 7"}
    assert vote(tracks, np.full(len(tracks), NO_ID)) is tracks


def test_swap_candidates_bear_the_new_names():
    tracks = with_candidates(
        pieces((2, 0, 9), (5, 20, 29), (9, 0, 29)),
        [SwapCandidate(22, 23, 5, 9, 2.0, corrected=False)],
    )
    (candidate,) = swap_candidates(vote(tracks, read(tracks, i2=[7], i5=[7])))
    assert (candidate.first, candidate.second) == (2, 9)


def test_each_tag_once():
    ids, tags = np.array([0, 0, 1, 1, 2]), np.array([5, 6, 5, 5, 5])
    assert vote_unique(ids, tags) == {0: 6, 1: 5}
    assert vote_unique(ids, np.full(5, NO_ID)) == {}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_invariants(seed):
    rng = np.random.default_rng(seed)
    spans = []
    for i in range(int(rng.integers(1, 7))):
        first = int(rng.integers(0, 30))
        spans.append((i, first, first + int(rng.integers(0, 12))))
    tracks = attrs.evolve(pieces(*spans), provenance={"kept": 1})
    tags = np.where(rng.random(len(tracks)) < 0.4, rng.integers(3, 6, len(tracks)), NO_ID)
    found = vote(tracks, tags)
    pairs = set(zip(found.frame.tolist(), found.id.tolist(), strict=True))
    assert len(pairs) == len(tracks), "nobody is twice in a frame"
    assert found.provenance["kept"] == 1
    names = found.provenance.get("track_names", {})
    assert len(set(names.values())) == len(names), "no tag names two"
    assert set(names) <= {str(i) for i in found.id.tolist()}
    for i in np.unique(tracks.id):
        assert len(np.unique(found.id[tracks.id == i])) == 1, "a piece stays whole"
    order = rng.permutation(len(tracks))
    again = vote(tracks[order], tags[order])
    np.testing.assert_array_equal(again.id, found.id[order])
