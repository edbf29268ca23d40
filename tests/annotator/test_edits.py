"""Edits: what they do, that they can be taken back, and what they refuse."""

from __future__ import annotations

import json
import math
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_annotator.edits import (
    EDITS,
    ClearKeypoint,
    ConfirmGuesses,
    CopyPoints,
    Edit,
    MoveKeypoint,
    Patch,
    Reset,
    SetFinished,
    SetFlag,
    SetNote,
    SetVisibility,
    SwapSides,
    difference,
    edit_from_json,
)
from dpk_annotator.row_state import Point, RowState
from dpk_core.errors import SkeletonError, ValidationError
from dpk_core.skeleton import Skeleton

SKELETON = Skeleton.from_rows(
    [
        ("head", None, None),
        ("earL", "head", "earR"),
        ("earR", "head", "earL"),
        ("tail", "head", None),
    ]
)
NAMES = SKELETON.names

pixels = st.floats(-900, 5000, width=32)
points = st.one_of(
    st.builds(Point, pixels, pixels, st.sampled_from([0, 1, 2]), st.booleans()),
    st.builds(Point, annotated=st.booleans()),
)
names = st.sampled_from(NAMES)
by_name = st.dictionaries(names, points, max_size=4)
edits = st.one_of(
    st.builds(MoveKeypoint, names, pixels, pixels),
    st.builds(SetVisibility, names, st.sampled_from([0, 1, 2])),
    st.builds(ClearKeypoint, names),
    st.builds(SetFlag, st.booleans()),
    st.builds(SetNote, st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)),
    st.builds(SetFinished, st.booleans()),
    st.just(SwapSides()),
    st.builds(CopyPoints, st.integers(0, 9), by_name, st.booleans()),
    st.builds(ConfirmGuesses, by_name),
    st.just(Reset()),
    st.builds(Patch, by_name, st.none() | st.booleans(), st.none() | st.text("ab", max_size=3)),
)


@st.composite
def states(draw: Any) -> RowState:
    state = RowState.blank(SKELETON).with_points(draw(by_name))
    return attrs.evolve(
        state, flag=draw(st.booleans()), note=draw(st.text("xy", max_size=3)),
        finished=draw(st.booleans()),
    )  # fmt: skip


def done(edit: Edit, state: RowState) -> RowState:
    """The state after an edit; as it was where the edit cannot be done."""
    try:
        return edit.apply(state)
    except ValidationError:
        return state


@settings(max_examples=25, deadline=None, derandomize=True)
@given(states(), st.lists(edits, max_size=6))
def test_taking_back_all_edits_in_turn_gives_what_was_there(
    state: RowState, several: list[Edit]
) -> None:
    now, inverses = state, []
    for edit in several:
        after = done(edit, now)
        inverses.append(difference(after, now))
        now = after
    for inverse in reversed(inverses):
        now = inverse.apply(now)
    assert now == state


@settings(max_examples=25, deadline=None, derandomize=True)
@given(states(), edits)
def test_an_inverse_is_one_step_back_and_its_own_inverse_forth(state: RowState, edit: Edit) -> None:
    after = done(edit, state)
    if after is state:
        return
    back = edit.invert(state)
    assert back.apply(after) == state
    assert back.invert(after).apply(state) == after


@settings(max_examples=25, deadline=None, derandomize=True)
@given(edits)
def test_json_gives_the_same_edit(edit: Edit) -> None:
    text = json.dumps(edit.to_json(), allow_nan=False)
    assert edit_from_json(json.loads(text)) == edit
    assert str(edit)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(states(), edits)
def test_what_is_missing_has_no_visibility_and_what_is_placed_by_hand_has(
    state: RowState, edit: Edit
) -> None:
    """The form in which a file gives labels back: an update of the file changes nothing."""
    after = done(edit, state)
    missing = np.isnan(after.keypoints[:, 0])
    assert (after.visibility[missing] == 0).all()
    assert (after.visibility[~missing & after.annotated] > 0).all()
    assert (np.isnan(after.keypoints).all(axis=1) == missing).all()


def test_every_kind_is_tried_above() -> None:
    assert set(EDITS) == {
        "move", "visibility", "clear", "flag", "note", "finished", "swap", "copy", "confirm",
        "reset", "patch",
    }  # fmt: skip


def test_moving_a_hidden_keypoint_leaves_it_hidden() -> None:
    state = RowState.blank(SKELETON)
    state = MoveKeypoint("head", 3, 4).apply(state)
    assert state.point("head") == Point(3, 4, 2, True)
    state = SetVisibility("head", 1).apply(state)
    assert MoveKeypoint("head", 5, 6).apply(state).point("head") == Point(5, 6, 1, True)


def test_absent_is_dealt_with_and_without_coordinates() -> None:
    state = MoveKeypoint("tail", 3, 4).apply(RowState.blank(SKELETON))
    assert SetVisibility("tail", 0).apply(state).point("tail") == Point(annotated=True)
    assert ClearKeypoint("tail").apply(state).point("tail") == Point()


def test_finished_deals_with_all_keypoints_and_taking_it_back_restores_them() -> None:
    state = MoveKeypoint("head", 3, 4).apply(RowState.blank(SKELETON))
    finished = SetFinished(True).apply(state)
    assert finished.finished
    assert finished.annotated.all()
    assert SetFinished(True).invert(state).apply(finished) == state


def test_swapping_sides_swaps_pairs_alone() -> None:
    state = RowState.blank(SKELETON)
    for i, name in enumerate(NAMES):
        state = MoveKeypoint(name, i, 10 * i).apply(state)
    swapped = SwapSides().apply(state)
    assert swapped.keypoints[:, 0].tolist() == [0, 2, 1, 3]


def test_copies_and_guesses_stay_off_what_a_person_labelled() -> None:
    state = MoveKeypoint("head", 3, 4).apply(RowState.blank(SKELETON))
    new = {"head": Point(9, 9, 2, True), "tail": Point(8, 8, 1, True), "earL": Point()}
    for edit in (CopyPoints(7, new), ConfirmGuesses(new)):
        after = edit.apply(state)
        assert after.point("head") == Point(3, 4, 2, True)
        assert after.point("tail") == Point(8, 8, 1, True)
        assert after.point("earL") == Point()
    assert CopyPoints(7, new, True).apply(state).point("head") == Point(9, 9, 2, True)


def test_the_sign_of_other_programs_for_missing_moves_by_a_hair() -> None:
    point = MoveKeypoint("head", -1, -1).apply(RowState.blank(SKELETON)).point("head")
    assert point.x == -1
    assert point.y != -1
    assert abs(point.y + 1) < 1e-4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "expected an object"),
        ([], "expected an object"),
        ({}, "expected one of"),
        ({"kind": "fly"}, "expected one of"),
        ({"kind": ["move"]}, "expected one of"),
        ({"kind": "move", "keypoint": "head", "x": 1}, "missing y"),
        ({"kind": "move", "keypoint": "head", "x": 1, "y": 2, "z": 3}, "unknown z"),
        ({"kind": "move", "keypoint": 3, "x": 1, "y": 2}, "expected a keypoint's name"),
        ({"kind": "move", "keypoint": "", "x": 1, "y": 2}, "expected a keypoint's name"),
        ({"kind": "move", "keypoint": "head", "x": "1", "y": 2}, "expected a number"),
        ({"kind": "move", "keypoint": "head", "x": True, "y": 2}, "expected a number"),
        ({"kind": "move", "keypoint": "head", "x": None, "y": 2}, "needs x and y"),
        ({"kind": "move", "keypoint": "head", "x": None, "y": None}, "use 'clear'"),
        ({"kind": "move", "keypoint": "head", "x": math.inf, "y": 2}, "expected pixels"),
        ({"kind": "move", "keypoint": "head", "x": 1e7, "y": 2}, "expected pixels"),
        ({"kind": "move", "keypoint": "head", "x": 10**400, "y": 2}, "expected pixels"),
        ({"kind": "move", "keypoint": "head", "x": -999, "y": -999}, "expected pixels"),
        ({"kind": "visibility", "keypoint": "head", "visibility": 3}, "expected 0"),
        ({"kind": "visibility", "keypoint": "head", "visibility": True}, "expected 0"),
        ({"kind": "flag", "flag": 1}, "expected true or false"),
        ({"kind": "note", "note": 1}, "expected text"),
        ({"kind": "note", "note": "x" * 10_001}, "shorten it"),
        ({"kind": "note", "note": "\ud800"}, "half a character"),
        ({"kind": "finished", "finished": None}, "expected true or false"),
        ({"kind": "copy", "source": -1, "points": {}}, "number of an image"),
        ({"kind": "copy", "source": 0, "points": 3}, "keypoints by name"),
        ({"kind": "copy", "source": 0, "points": {"head": [1, 2]}}, "expected .x, y"),
        ({"kind": "confirm", "points": [["a", [1, 2, 2, True]], ["a", [1, 2, 2, True]]]}, "twice"),
    ],
)  # fmt: skip
def test_a_bad_edit_is_refused_with_what_was_expected(value: Any, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        edit_from_json(value)


def test_an_unknown_keypoint_is_named_with_those_there_are() -> None:
    with pytest.raises(SkeletonError, match="no keypoint 'wing'; this skeleton has head"):
        MoveKeypoint("wing", 1, 2).apply(RowState.blank(SKELETON))


def test_hiding_what_has_no_place_is_refused() -> None:
    with pytest.raises(ValidationError, match="no place yet"):
        SetVisibility("head", 1).apply(RowState.blank(SKELETON))
