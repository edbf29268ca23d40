"""Labels with their journal: conflicts, merges, undo, redo, going back; two processes at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_annotator.asked import FILE
from dpk_annotator.edits import ClearKeypoint, MoveKeypoint, Reset, SetFlag, SetNote, SwapSides
from dpk_annotator.journal import Journal
from dpk_annotator.journal_place import journal_beside
from dpk_annotator.labels import Labels
from dpk_annotator.ledger import Ledger
from dpk_annotator.outcome import Applied, Conflict
from dpk_annotator.row_state import Point
from dpk_annotator.skeleton_edits import (
    add_keypoint,
    remove_keypoint,
    rename_keypoint,
)
from dpk_core.annotations import AnnotationSet
from dpk_core.errors import ValidationError
from dpk_core.services.storage import read_annotations
from dpk_core.skeleton import Skeleton

PROCESS = Path(__file__).with_name("editing_process.py")
SKELETON = Skeleton.from_rows(
    [
        ("head", None, None),
        ("earL", "head", "earR"),
        ("earR", "head", "earL"),
        ("tail", "head", None),
    ]
)


def blank(n: int = 4) -> Labels:
    k = len(SKELETON)
    return Labels(
        SKELETON, np.full((n, k, 2), np.nan), np.zeros((n, k), np.uint8), np.zeros((n, k), bool)
    )


def opened(path: Path) -> Ledger:
    """A ledger as another process would open it."""

    def begin(labels: Labels) -> Journal:
        return Journal.create(path, {"set_id": "x"}, labels)

    return Ledger(blank(), Journal.open(path), 0, begin)


@pytest.fixture
def open_ledger(tmp_path: Path):
    ledgers = []

    def open_one() -> Ledger:
        ledgers.append(opened(tmp_path / "labels.h5.journal"))
        return ledgers[-1]

    yield open_one
    for ledger in ledgers:
        if ledger.journal is not None:
            ledger.journal.close()


@pytest.fixture
def ledger(open_ledger: Callable[[], Ledger]) -> Ledger:
    return open_ledger()


def test_nothing_is_written_before_the_first_edit(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.undo("me") is None
    assert ledger.steps("me") == (0, 0)
    assert not list(tmp_path.iterdir())


def test_an_edit_is_applied_and_undone_and_done_again(ledger: Ledger) -> None:
    before = ledger.state(1)
    first = ledger.apply([(1, MoveKeypoint("head", 3, 4))], 0, "me")
    assert isinstance(first, Applied)
    assert (first.revision, first.rows, first.merged) == (1, (1,), False)
    after = ledger.state(1)
    assert ledger.steps("me") == (1, 0)
    undone = ledger.undo("me")
    assert isinstance(undone, Applied)
    assert undone.state == before == ledger.state(1)
    assert ledger.steps("me") == (0, 1)
    redone = ledger.redo("me")
    assert isinstance(redone, Applied)
    assert redone.state == after
    assert ledger.redo("me") is None


def test_undo_goes_by_client_and_over_restarts(open_ledger) -> None:
    one = open_ledger()
    one.apply([(0, MoveKeypoint("head", 1, 1))], 0, "anna")
    one.apply([(1, MoveKeypoint("head", 2, 2))], 1, "ben")
    one.apply([(0, MoveKeypoint("tail", 3, 3))], 2, "anna")
    other = open_ledger()
    assert other.steps("anna") == (2, 0)
    assert other.undo("anna").rows == (0,)
    assert other.state(0).point("tail") == Point()
    assert other.undo("anna").state.point("head") == Point()
    assert other.undo("anna") is None
    assert other.state(1).point("head") == Point(2, 2, 2, True)


def test_a_new_edit_ends_what_could_be_done_again(ledger: Ledger) -> None:
    ledger.apply([(0, SetFlag(True))], 0, "me")
    ledger.undo("me")
    ledger.apply([(0, SetNote("look"))], ledger.seq, "me")
    assert ledger.steps("me") == (1, 0)


def test_several_edits_at_once_are_one_step(ledger: Ledger) -> None:
    changes = [(row, MoveKeypoint("head", row, row)) for row in range(4)]
    assert ledger.apply(changes, 0, "me").rows == (0, 1, 2, 3)
    ledger.undo("me")
    assert np.isnan(ledger.labels.keypoints).all()
    ledger.redo("me")
    assert ledger.labels.keypoints[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_all_or_none_when_one_cannot_be_done(ledger: Ledger) -> None:
    changes = [(0, MoveKeypoint("head", 1, 1)), (9, MoveKeypoint("head", 1, 1))]
    with pytest.raises(ValidationError, match="from 0 to 3, found 9"):
        ledger.apply(changes, 0, "me")
    assert ledger.seq == 0
    assert np.isnan(ledger.labels.keypoints).all()


def test_what_changes_nothing_makes_no_entry(ledger: Ledger) -> None:
    outcome = ledger.apply([(0, ClearKeypoint("head"))], 0, "me")
    assert (outcome.revision, ledger.seq, ledger.steps("me")) == (0, 0, (0, 0))


def test_a_repeated_request_is_done_once(open_ledger) -> None:
    one, other = open_ledger(), open_ledger()
    edit = [(0, MoveKeypoint("head", 1, 1))]
    assert one.apply(edit, 0, "me", "token").revision == 1
    assert other.apply(edit, 0, "me", "token").revision == 1
    assert one.apply(edit, 1, "you", "token").revision == 1, "nothing changes, and no mix-up"
    assert one.undo("me", 1, "u").revision == 2
    assert other.undo("me", 1, "u").revision == 2
    assert one.redo("me", 2, "r").revision == other.redo("me", 2, "r").revision == 3
    assert one.restore(0, "me", None, "back").revision == 4
    assert other.restore(0, "me", None, "back").revision == 4
    change = add_keypoint(SKELETON, "paw")
    assert one.change_skeleton(change, 4, "me", "skeleton").revision == 5
    assert other.change_skeleton(change, 4, "me", "skeleton").revision == 5
    assert one.catch_up() == 0
    assert one.seq == other.seq == 5


# -- others ---------------------------------------------------------------------------------------


def test_different_keypoints_of_one_image_are_merged(open_ledger) -> None:
    one, other = open_ledger(), open_ledger()
    one.apply([(0, MoveKeypoint("head", 1, 1))], 0, "anna")
    outcome = other.apply([(0, MoveKeypoint("tail", 2, 2))], 0, "ben")
    assert isinstance(outcome, Applied)
    assert outcome.merged
    assert outcome.state.point("head") == Point(1, 1, 2, True)
    assert one.catch_up() == 1
    assert one.labels.same_as(other.labels)


def test_the_same_keypoint_is_a_conflict_that_shows_both(open_ledger) -> None:
    one, other = open_ledger(), open_ledger()
    one.apply([(0, MoveKeypoint("head", 1, 1))], 0, "anna")
    outcome = other.apply([(0, MoveKeypoint("head", 2, 2))], 0, "ben")
    assert isinstance(outcome, Conflict)
    assert (outcome.row, outcome.client, outcome.parts) == (0, "anna", (".head",))
    assert (outcome.base_revision, outcome.revision) == (0, 1)
    assert outcome.yours.point("head") == Point(2, 2, 2, True)
    assert outcome.theirs.point("head") == Point(1, 1, 2, True)
    assert "anna has changed head" in outcome.message
    assert other.seq == 1, "nothing was done"
    insisted = other.apply([(0, MoveKeypoint("head", 2, 2))], outcome.revision, "ben")
    assert insisted.state.point("head") == Point(2, 2, 2, True)


def test_undo_of_what_others_have_changed_since_is_a_conflict(open_ledger) -> None:
    one, other = open_ledger(), open_ledger()
    one.apply([(0, MoveKeypoint("head", 1, 1))], 0, "anna")
    other.apply([(0, MoveKeypoint("head", 2, 2))], 1, "ben")
    refused = one.undo("anna", 1)
    assert isinstance(refused, Conflict)
    assert one.state(0).point("head") == Point(2, 2, 2, True)
    assert one.undo("anna", 2).state.point("head") == Point(), "having seen it, she may"


def test_a_change_of_skeleton_stands_against_edits_made_before_it(open_ledger) -> None:
    one, other = open_ledger(), open_ledger()
    one.apply([(0, MoveKeypoint("head", 1, 1))], 0, "anna")
    one.change_skeleton(remove_keypoint(SKELETON, "tail"), 1, "anna")
    refused = other.apply([(0, MoveKeypoint("tail", 2, 2))], 1, "ben")
    assert isinstance(refused, Conflict)
    assert "anna has changed the skeleton" in refused.message
    with pytest.raises(ValidationError, match="no keypoint 'tail'"):
        other.apply([(0, MoveKeypoint("tail", 2, 2))], 2, "ben")


def test_labels_of_others_stand_against_removing_their_keypoint(open_ledger) -> None:
    one, other = open_ledger(), open_ledger()
    one.apply([(0, MoveKeypoint("tail", 1, 1))], 0, "anna")
    refused = other.change_skeleton(remove_keypoint(SKELETON, "tail"), 0, "ben")
    assert isinstance(refused, Conflict)
    assert isinstance(
        other.change_skeleton(rename_keypoint(SKELETON, "tail", "end"), 0, "ben"), Applied
    )


@pytest.mark.parametrize(
    ("base", "client", "token", "expected"),
    [
        (-1, "me", None, "from 0"), (True, "me", None, "from 0"), (1.5, "me", None, "from 0"),
        (7, "me", None, "not there yet"), (0, "", None, "1 to 200"), (0, 3, None, "1 to 200"),
        (0, "x" * 201, None, "1 to 200"), (0, "a\nb", None, "printable"),
        (0, "\ud800", None, "printable"), (0, FILE, None, "file itself"),
        (0, "me", "", "1 to 200"), (0, "me", "\x00", "printable"), (0, "me", 5, "1 to 200"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused(ledger, base, client, token, expected) -> None:
    with pytest.raises(ValidationError, match=expected):
        ledger.apply([(0, SetFlag(True))], base, client, token)
    assert ledger.seq == 0


def test_going_back_before_the_beginning_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValidationError, match="from 0"):
        ledger.restore(-1, "me")


# -- going back -----------------------------------------------------------------------------------

MOVES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.one_of(
            st.builds(
                MoveKeypoint, st.sampled_from(SKELETON.names), st.integers(0, 99), st.integers(0, 9)
            ),
            st.builds(SetFlag, st.booleans()),
            st.builds(SetNote, st.text("ab", max_size=2)),
            st.just(SwapSides()),
            st.just(Reset()),
        ),
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(moves=MOVES, back=st.integers(0, 12))
def test_any_moment_comes_back_and_the_way_back_can_be_undone(tmp_path_factory, moves, back):
    ledger = opened(tmp_path_factory.mktemp("x") / "journal")
    history = [ledger.labels.copy()]
    for row, edit in moves:
        ledger.apply([(row, edit)], ledger.seq, "me")
        while len(history) <= ledger.seq:
            history.append(ledger.labels.copy())
    back = min(back, ledger.seq)
    now = ledger.labels.copy()
    assert ledger.state_at(back).same_as(history[back])
    restored = ledger.restore(back, "me")
    assert ledger.labels.same_as(history[back])
    if restored.rows:
        ledger.undo("me")
        assert ledger.labels.same_as(now)
    other = opened(ledger.journal.path) if ledger.journal else ledger
    assert other.labels.same_as(ledger.labels)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(moves=MOVES)
def test_undoing_all_gives_the_beginning_and_redoing_all_the_end(tmp_path_factory, moves):
    ledger = opened(tmp_path_factory.mktemp("x") / "journal")
    first = ledger.labels.copy()
    for row, edit in moves:
        ledger.apply([(row, edit)], ledger.seq, "me")
    last, steps = ledger.labels.copy(), ledger.steps("me")[0]
    for _ in range(steps):
        assert isinstance(ledger.undo("me"), Applied)
    assert ledger.labels.same_as(first)
    for _ in range(steps):
        assert isinstance(ledger.redo("me"), Applied)
    assert ledger.labels.same_as(last)


def test_going_back_over_a_change_of_skeleton(ledger: Ledger) -> None:
    ledger.apply([(0, MoveKeypoint("tail", 5, 6)), (0, MoveKeypoint("earL", 1, 2))], 0, "me")
    before = ledger.labels.copy()
    ledger.change_skeleton(rename_keypoint(SKELETON, "earL", "leftEar"), 2, "me")
    ledger.change_skeleton(remove_keypoint(ledger.labels.skeleton, "tail"), 3, "me")
    assert ledger.state(0).point("leftEar") == Point(1, 2, 2, True)
    ledger.restore(2, "me")
    assert ledger.labels.same_as(before)
    ledger.undo("me")
    assert "tail" not in ledger.labels.skeleton.names


def test_undo_of_a_removal_gives_the_labels_back(ledger: Ledger) -> None:
    ledger.apply([(2, MoveKeypoint("tail", 5, 6))], 0, "me")
    before = ledger.labels.copy()
    ledger.change_skeleton(remove_keypoint(SKELETON, "tail"), 1, "me")
    ledger.undo("me")
    assert ledger.labels.same_as(before)
    ledger.redo("me")
    assert "tail" not in ledger.labels.skeleton.names


def test_undo_finds_a_keypoint_under_its_new_name(ledger: Ledger) -> None:
    ledger.apply([(2, MoveKeypoint("tail", 5, 6))], 0, "me")
    ledger.change_skeleton(rename_keypoint(SKELETON, "tail", "end"), 1, "you")
    assert ledger.undo("me", 2).state.point("end") == Point()


def test_a_snapshot_shortens_the_way(ledger: Ledger, monkeypatch, open_ledger) -> None:
    monkeypatch.setattr("dpk_annotator.ledger._SNAPSHOT_EVERY", 3)
    for i in range(5):
        ledger.apply([(0, MoveKeypoint("head", i, i))], ledger.seq, "me")
    ledger.snapshot_if_due()
    seq, labels = ledger.journal.snapshot(99)
    assert seq == 5
    assert labels.same_as(ledger.labels)
    assert open_ledger().labels.same_as(ledger.labels)


# -- two processes --------------------------------------------------------------------------------


def test_two_processes_at_once_lose_no_edit(labels_file: Path) -> None:
    n = 40
    workers = [
        subprocess.Popen(
            [sys.executable, str(PROCESS), str(labels_file), client, keypoint, str(n)],
            stdout=subprocess.PIPE, text=True,
        )
        for client, keypoint in (("anna", "head"), ("ben", "tail"))
    ]  # fmt: skip
    revisions = []
    for worker in workers:
        told, _ = worker.communicate(timeout=600)
        assert worker.returncode == 0
        revisions += [int(line.split()[1]) for line in told.splitlines()[1:]]
    assert sorted(revisions) == list(range(1, 2 * n + 1))
    journal = Journal.open(journal_beside(labels_file))
    assert journal is not None
    entries = journal.entries()
    journal.close()
    assert [entry.seq for entry in entries] == list(range(1, 2 * n + 1))
    keypoints = read_annotations(labels_file).keypoints
    for client, j in (("anna", 0), ("ben", 4)):
        assert sum(entry.client == client for entry in entries) == n
        assert keypoints[:, j, 0].tolist() == [36, 37, 38, 39, 40, 35], "the file has both"


def test_labels_survive_npz(annotations: AnnotationSet) -> None:
    labels = Labels.of(annotations)
    labels.flag[2], labels.notes[3] = True, "Schwanz verdeckt"
    again = Labels.from_bytes(labels.to_bytes())
    assert again.same_as(labels)
    again.visibility[1, 4] = 2
    assert not again.same_as(labels)
    with pytest.raises((ValueError, OSError, KeyError)):
        Labels.from_bytes(labels.to_bytes()[:-200])


def test_a_change_with_a_name_that_stands_for_another_keypoint_is_refused(ledger: Ledger) -> None:
    ledger.apply([(0, MoveKeypoint("tail", 5, 6))], 0, "me")
    removed = remove_keypoint(SKELETON, "tail")
    ledger.change_skeleton(removed, 1, "me")
    ledger.change_skeleton(add_keypoint(ledger.labels.skeleton, "paw"), 2, "me")
    ledger.change_skeleton(add_keypoint(ledger.labels.skeleton, "tail", "head"), 3, "me")
    with pytest.raises(ValidationError, match="another one than at that moment"):
        ledger.restore(1, "me")
    assert ledger.state(0).point("tail") == Point(), "it is not the tail that was labelled"
