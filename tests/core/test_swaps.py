"""Swaps for review: listed, written as a table, exchanged and undone, on the command line too."""

from __future__ import annotations

import csv

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dpk_core import Tracks, read_tracks, write_tracks
from dpk_core.cli.app import app
from dpk_core.errors import OutputExistsError, ValidationError
from dpk_core.swaps import SwapCandidate, exchange, swap_candidates, with_candidates
from dpk_core.workflow.swaps import exchange_names, list_swaps

RUN = CliRunner()
MEETINGS = [
    SwapCandidate(10, 14, 0, 1, 2.5, corrected=False),
    SwapCandidate(20, 20, 1, 2, 9.0, corrected=True),
    SwapCandidate(30, 33, 0, 2, 1.2, corrected=False),
]


def three(n=40):
    """Three who stay at x = 10, 20 and 30; rows say who is whose by x."""
    frame, who = np.repeat(np.arange(n), 3), np.tile([0, 1, 2], n)
    return Tracks(frame, who, 10.0 * (1 + who), np.zeros(3 * n), provenance={"n_frames": n})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.tracks.h5"
    write_tracks(path, with_candidates(three(), MEETINGS))
    return path


def test_the_likeliest_come_first_and_survive_a_file(file):
    assert [c.evidence for c in list_swaps(file)] == [9.0, 2.5, 1.2]
    assert set(swap_candidates(read_tracks(file))) == set(MEETINGS)
    assert swap_candidates(three()) == []


def test_names_are_exchanged_after_the_meeting_and_later_meetings_follow(file, tmp_path):
    done = exchange_names(file, [1], tmp_path / "b.tracks.h5")  # 0 and 1, at 10 to 14
    early, late = done.frame <= 12, done.frame > 12
    assert done.id[early].tolist() == three().id[early].tolist()
    assert done.id[late].tolist() == np.tile([1, 0, 2], late.sum() // 3).tolist()
    listed = list_swaps(tmp_path / "b.tracks.h5")
    assert [(c.first, c.second, c.corrected) for c in listed] == [
        (0, 2, True),
        (0, 1, True),
        (1, 2, False),
    ]
    assert read_tracks(tmp_path / "b.tracks.h5").provenance["n_frames"] == 40


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2), max_size=4))
def test_an_exchange_twice_is_none_and_nothing_else_changes(numbers):
    tracks = before = with_candidates(three(), MEETINGS)
    for number in [*numbers, *reversed(numbers)]:
        tracks = exchange(tracks, number)
        for name in set(tracks.columns()) - {"id"}:
            np.testing.assert_array_equal(tracks.columns()[name], before.columns()[name])
        pairs = set(zip(tracks.frame.tolist(), tracks.id.tolist(), strict=True))
        assert len(pairs) == len(tracks)
    assert tracks.id.tolist() == before.id.tolist()
    assert swap_candidates(tracks) == swap_candidates(before)


def test_the_table(file, tmp_path):
    list_swaps(file, tmp_path / "swaps.csv")
    with (tmp_path / "swaps.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert rows[1] == {
        "number": "1", "frame": "10", "stop": "14", "first": "0", "second": "1",
        "evidence": "2.5", "corrected": "False",
    }  # fmt: skip
    with pytest.raises(OutputExistsError):
        list_swaps(file, tmp_path / "swaps.csv")


def test_on_the_command_line(file, tmp_path):
    done = RUN.invoke(app, ["swaps", str(file)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split("\t") == ["0", "20", "20", "1", "2", "9.0", "yes"]
    done = RUN.invoke(app, ["swaps", str(file), "-o", str(tmp_path / "swaps.csv")])
    assert "3 candidates" in done.output
    mended = tmp_path / "mended.tracks.h5"
    assert RUN.invoke(app, ["swaps", str(file), "--exchange", "0"]).exit_code == 2
    done = RUN.invoke(app, ["swaps", str(file), "--exchange", "0", "-o", str(mended)])
    assert done.exit_code == 0, done.output
    assert read_tracks(mended).id[-3:].tolist() == [0, 2, 1]
    none = tmp_path / "none.tracks.h5"
    write_tracks(none, three())
    assert "noted no meeting" in RUN.invoke(app, ["swaps", str(none)]).output


def test_what_cannot_be(file, tmp_path):
    with pytest.raises(ValidationError, match="number of a swap candidate, 0 to 2; found 7"):
        exchange_names(file, [7], tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()
    broken = attrs.evolve(three(), provenance={"swap_candidates": [{"frame": 3}]})
    with pytest.raises(ValidationError, match="expected a list of swap candidates"):
        swap_candidates(broken)
