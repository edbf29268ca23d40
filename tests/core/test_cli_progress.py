"""Progress: few lines in a log, bars with the time left on a terminal; values of options."""

from __future__ import annotations

import json

import pytest
import typer
from rich.console import Console

from dpk_core.cli import progress
from dpk_core.cli.options import assignments, seconds
from dpk_core.progress import TrainProgress


class Clock:
    """`time.monotonic` that a test moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def event(epoch: int = 3, **changes) -> TrainProgress:
    values = {
        "epoch": epoch, "epochs": 10, "step": 1, "steps": 2, "loss": 0.5, "validation_loss": 0.4,
        "validation_error_px": 2.345, "best_epoch": 2, "learning_rate": 1e-3, "elapsed_s": 30.0,
    }  # fmt: skip
    return TrainProgress(**{**values, **changes})


def test_quick_work_leaves_no_line_in_a_log(clock, capsys):
    with progress.shown() as show:
        for i in range(100):
            clock.now += 0.04
            show(i, 100, "predicting")
    assert capsys.readouterr().err == ""


def test_long_work_says_now_and_then_how_long_it_still_takes(clock, capsys):
    with progress.shown() as show:
        for i in range(101):
            show(i, 100, "predicting")
            clock.now += 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "predicting: 5 of 100, 1 min 35 s left"
    assert len(lines) == 4


def test_training_in_a_log(clock, capsys):
    with progress.training_shown() as show:
        for i in range(1, 70):
            clock.now += 1
            show(event(i))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("epoch 5/10, loss 0.5, validation error 2.35 px (best epoch 2)")
    assert len(lines) == 3


def test_bars_on_a_terminal_show_the_time_left(monkeypatch):
    console = Console(force_terminal=True, width=100, record=True)
    monkeypatch.setattr(progress, "err", lambda: console)
    with progress.shown() as show:
        show(0, None, "opening the model")
        show(10, 100, "predicting")
    with progress.training_shown() as show:
        show(event())
    text = console.export_text()
    assert "predicting" in text
    assert "10%" in text
    assert "left" in text
    assert "epoch 3/10" in text


def test_a_training_is_done_by_epochs_or_by_time_whichever_comes_first():
    assert progress._fraction(event(6, step=0)) == pytest.approx(0.5)
    assert progress._fraction(event(1, step=0, time_limit_s=40.0)) == pytest.approx(0.75)
    assert progress._fraction(event(6, step=0, time_limit_s=4000.0)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90s", 90), ("20m", 1200), ("20 min", 1200), ("1h30m", 5400), ("0.5h", 1800)],
)
def test_times(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "-5", "0", "5x", "1..2m", "m"])
def test_texts_that_are_no_times(text):
    with pytest.raises(typer.BadParameter, match="such as 90s"):
        seconds(text)


def test_hyperparameters_have_the_type_that_they_look_like():
    texts = ["a=32", "b=0.5", "c=true", "d=False", "e=None", "f=resnet50", "g=[1, 2]", "h=a=b"]
    assert assignments(texts) == {
        "a": 32, "b": 0.5, "c": True, "d": False, "e": None, "f": "resnet50", "g": [1, 2],
        "h": "a=b",
    }  # fmt: skip
    for text in ("growth_rate", "=5", "1a=2"):
        with pytest.raises(typer.BadParameter, match="name=value"):
            assignments([text])


def test_other_programs_read_progress_from_a_file(clock, tmp_path, monkeypatch):
    path = tmp_path / "job.json"
    monkeypatch.setenv("DPK_PROGRESS_FILE", str(path))
    with progress.shown() as show:
        show(1, None, "looking at the video")
        assert json.loads(path.read_text())["total"] is None
        show(0, 100, "predicting")
        clock.now += 0.2
        show(40, 100, "predicting")
        assert json.loads(path.read_text())["done"] == 0, "not more often than twice a second"
        clock.now += 0.4
        show(60, 100, "predicting")
        found = json.loads(path.read_text())
        assert (found["message"], found["done"], found["total"]) == ("predicting", 60, 100)
        assert found["elapsed_s"] == pytest.approx(0.6)
        show(100, 100, "predicting")
    assert json.loads(path.read_text())["done"] == 100, "the end is never left out"
    assert [p.name for p in tmp_path.iterdir()] == ["job.json"]


def test_a_training_tells_its_curve_in_the_file(clock, tmp_path, monkeypatch):
    path = tmp_path / "job.json"
    monkeypatch.setenv("DPK_PROGRESS_FILE", str(path))
    with progress.training_shown() as show:
        show(event(epoch=3, validation_loss=float("nan")))
    found = json.loads(path.read_text())
    assert (found["epoch"], found["epochs"], found["validation_loss"]) == (3, 10, None)
    assert found["validation_error_px"] == 2.345
    assert 0.2 <= found["done"] <= 0.3


def test_a_progress_file_that_cannot_be_written_ends_nothing(clock, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DPK_PROGRESS_FILE", str(tmp_path / "absent" / "job.json"))
    with progress.shown() as show:
        show(5, 10, "predicting")
        clock.now += 6
        show(6, 10, "predicting")
    assert "predicting: 6 of 10" in capsys.readouterr().err
