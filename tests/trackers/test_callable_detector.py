"""Any function as a detector, and functions that do not keep to what was agreed on."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core.detections import Detections
from dpk_core.errors import PluginError, ValidationError
from dpk_trackers.callable_detector import CallableDetector

FRAME = np.zeros((40, 60, 3), np.uint8)
BOX = [9.5, 19.5, 13.5, 21.5]


@pytest.mark.parametrize(
    ("given", "score"),
    [
        ([BOX], 1.0),
        (np.array([[*BOX, 0.5]]), 0.5),
        (([BOX], [0.25]), 0.25),
        (Detections.from_boxes(np.array([BOX]), np.array([0.75])), 0.75),
    ],
)
def test_what_a_function_may_give(given, score):
    found = CallableDetector(lambda frame: given).detect(FRAME)
    assert (found.x[0], found.y[0], found.width[0], found.height[0]) == (11.5, 20.5, 4, 2)
    assert found.score[0] == pytest.approx(score)


@pytest.mark.parametrize("given", [None, [], np.empty((0, 4)), np.empty((0, 5)), ([], [])])
def test_nothing(given):
    assert len(CallableDetector(lambda frame: given).detect(FRAME)) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[np.nan, 0, 1, 1]], "NaN"),
        ([[0, 0, np.inf, 1]], "infinity"),
        ([[5, 5, 1, 1]], "x0 <= x1"),
        ([[100, 5, 110, 9]], r"\(105.0, 7.0\), outside of the frame of 60x40"),
        ([[-20, 5, -10, 9]], "outside of the frame"),
        ([[*BOX, 1.5]], r"in \[0, 1\]"),
        ([[1, 2, 3]], "shape"),
        (([BOX], [0.1, 0.2]), "score"),
        ("boxes", "expected Detections"),
        ({"boxes": [BOX]}, "expected Detections"),
        (7, "shape"),
    ],
)
def test_what_it_may_not_give_is_said_with_its_name(given, message):
    def finds(frame):
        return given

    with pytest.raises(PluginError, match=f"callable: .*finds.*{message}"):
        CallableDetector(finds).detect(FRAME)


def test_a_function_that_raises_is_named_with_the_cause():
    def breaks(frame):
        raise KeyError("weights")

    with pytest.raises(
        PluginError, match=r"callable: .*breaks failed: KeyError: 'weights'"
    ) as told:
        CallableDetector(breaks).detect(FRAME)
    assert isinstance(told.value.__cause__, KeyError)


def test_a_function_that_draws_leaves_the_frame_as_it_is():
    def draws(frame):
        frame[:] = 255

    frame = FRAME.copy()
    CallableDetector(draws).detect(frame)
    assert not frame.any()


def test_functions_by_name_and_their_options(tmp_path, monkeypatch):
    (tmp_path / "own_finder.py").write_text(
        "def find(frame, size=4):\n    return [[0, 0, size, size]]\n", encoding="utf-8"
    )
    by_file = CallableDetector(f"{tmp_path / 'own_finder.py'}:find", size=8)
    assert by_file.detect(FRAME).width[0] == 8
    monkeypatch.syspath_prepend(str(tmp_path))
    assert CallableDetector("own_finder:find").detect(FRAME).width[0] == 4


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (None, ValidationError, "expected a function"),
        ("own_finder", ValidationError, "package.module:function"),
        ("no_such_module_here:find", PluginError, "could not be loaded: ModuleNotFoundError"),
        ("math:no_such", PluginError, "could not be loaded: AttributeError"),
        ("math:pi", PluginError, "found float"),
        ("no/such/file.py:find", PluginError, "FileNotFoundError"),
    ],
)
def test_names_of_no_function(name, error, message):
    with pytest.raises(error, match=message):
        CallableDetector(name)
