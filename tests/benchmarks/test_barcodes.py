"""The benchmark of tags counts what it says, and carries on where it was."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dpk_core.errors import ValidationError

pytest.importorskip("dpk_trackers")
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "barcodes"


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def readings(*rows):
    """Readings of (id, x, y), with squares of 10 pixels."""
    from dpk_trackers.barcodes import Readings

    square = np.array([[-5.0, -5], [5, -5], [5, 5], [-5, 5]])
    ids, x, y = np.array(rows, float).T
    corners = square + np.stack([x, y], axis=1)[:, None]
    return Readings(ids.astype(int), corners, np.ones(len(ids)), np.ones(len(ids)))


def test_a_tally_tells_right_wrong_and_false_readings(part):
    from dpk_trackers.barcodes.synthetic import Scene

    tally = part("tally").Tally()
    truth = readings((1, 20, 20), (2, 60, 20), (3, 90, 90))
    scene = Scene(np.zeros((9, 9), np.uint8), truth.id, truth.corners, truth.centre)
    found = readings((1, 20.3, 20.4), (1, 20, 20), (7, 60, 21), (3, 40, 90))
    tally.add(scene, found, 0.5, 0.4)
    assert (tally.tags, tally.right, tally.wrong, tally.false) == (3, 1, 1, 1)
    assert tally.centre == tally.corner == [0.5]
    both = tally.plus(tally)
    assert (both.tags, both.right, both.seconds) == (6, 2, [0.5, 0.5])
    assert both.row().split() == ["0.3333", "2", "2", "0.500", "0.500", "500", "500", "400"]


def test_what_was_measured_is_not_measured_again(part, tmp_path):
    log, calls = part("tally").Log, []

    def measure():
        calls.append(1)
        return {"n": len(calls)}

    path = tmp_path / "log.jsonl"
    assert log(path, {"seed": 1}).get("a", measure) == {"n": 1}
    assert log(path, {"seed": 1}).get("a", measure) == {"n": 1}
    assert log(path, {"seed": 1}).get("b", measure) == {"n": 2}
    with pytest.raises(ValidationError, match="other settings"):
        log(path, {"seed": 2})


def test_films_are_followed_and_judged(part, tmp_path, monkeypatch):
    import attrs

    film, arms = part("film"), part("arms")
    scene = attrs.evolve(film.SCENE, size=(220, 260), count=3, side=26.0, clutter=20.0)
    small = attrs.evolve(film.FILMS["clean"], frames=24, hidden=6, scene=scene, speed=1.0)
    (one,) = film._follow_all([arms.FILM_ARMS[0]], small, 3)
    assert (one["visible"], one["hidden"], one["gaps"]) == (54, 18, 3)
    assert one["seen"] >= 50
    assert (one["wrong"], one["held"], one["filled"]) == (0, 3, 18)
    assert one["seen_error"] / one["seen"] < 0.1
    monkeypatch.setattr(film, "FILMS", {"clean": small})
    lines = film.film_table(arms.FILM_ARMS[:1], 1, 0, tmp_path)
    assert sum("soft (ours)" in line for line in lines) == 1


def test_a_stage_s_time_leaves_out_that_of_the_stages_it_calls(part, monkeypatch):
    stages = part("stages")
    now = iter([0.0, 1, 3, 6])  # outer begins, inner begins, inner ends, outer ends
    clocks = SimpleNamespace(process_time=lambda: next(now), perf_counter=lambda: 0.0)
    monkeypatch.setattr(stages, "time", clocks)
    owner = SimpleNamespace(inner=lambda x: x + 1, outer=lambda x: 2 * owner.inner(x))
    clock = stages.Clock()
    for name in ("inner", "outer"):
        clock.watch(owner, name)
    assert owner.outer(3) == 8
    assert clock.spent["inner"].tolist() == [2, 0, 1]
    assert clock.spent["outer"].tolist() == [4, 0, 1]


def test_all_stages_that_are_timed_are_there(part):
    for owner, names in part("stages").STAGES.items():
        assert all(callable(getattr(owner, name)) for name in names)
