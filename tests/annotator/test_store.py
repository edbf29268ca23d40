"""The store: file and journal as one, whatever happens to either."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest

from dpk_annotator.asked import FILE
from dpk_annotator.backups import list_backups, read_backup
from dpk_annotator.edits import MoveKeypoint, SetFinished, SetFlag, SetNote
from dpk_annotator.journal import Journal
from dpk_annotator.journal_place import journal_at_home, journal_beside
from dpk_annotator.opening import RECOVERED, OtherSetError
from dpk_annotator.outcome import Applied, Conflict
from dpk_annotator.row_state import Point
from dpk_annotator.set_file import FileLockedError, read_set
from dpk_annotator.skeleton_edits import add_keypoint, remove_keypoint, rename_keypoint
from dpk_annotator.store import Changed, ReadOnlyError, Store
from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import DpkWarning, FileMissingError, OutputError, ValidationError
from dpk_core.poses import Poses
from dpk_core.services.storage import (
    append_annotations,
    read_annotations,
    update_annotations,
    write_annotations,
)

SEVENS, ALL = np.full((1, 5, 2), 7.0), np.ones((1, 5), bool)
HEAD = Point(3, 4, 2, True)
MOVE = [(2, MoveKeypoint("head", 3, 4))]


def opened(path: Path, **options: bool) -> Store:
    return Store.open(path, **({"background": False} | options))


@pytest.fixture
def store(labels_file: Path):
    with opened(labels_file) as store:
        yield store


# -- journal and file -----------------------------------------------------------------------------


def test_notes_that_are_damaged_in_the_file_are_those_of_the_journal(labels_file: Path) -> None:
    with opened(labels_file) as store:
        store.apply([(2, SetNote("blurred")), (3, SetFlag(True))], 0, "me")
    with h5py.File(labels_file, "r+") as file:
        file["dpk_annotator/notes"][0] = 255
    with pytest.warns(DpkWarning, match="notes about its images are damaged"):
        store = opened(labels_file)
    with store:
        assert store.labels()[1].notes == {2: "blurred"}
        store.apply(MOVE, store.revision, "me")
        assert store.save() == store.revision
    disk = read_set(labels_file)
    disk.close()
    assert disk.has_marks
    assert disk.labels.notes == {2: "blurred"}
    assert disk.labels.flag.tolist() == [False, False, False, True, False, False]
    assert disk.labels.keypoints[2, 0].tolist() == [3, 4]


def test_looking_at_a_set_leaves_nothing_behind(labels_file: Path) -> None:
    content = labels_file.read_bytes()
    with opened(labels_file) as store:
        assert len(store) == 6
        assert store.image(3).shape == (24, 32, 1)
        assert store.state(1).point("tail").visibility == 1
        assert store.save() == 0
    assert labels_file.read_bytes() == content
    assert [path.name for path in labels_file.parent.iterdir()] == ["labels.h5"]


def test_an_edit_is_in_the_journal_at_once_and_in_the_file_on_closing(labels_file: Path) -> None:
    store = opened(labels_file)
    outcome = store.apply([*MOVE, (2, SetNote("schön")), (3, SetFlag(True))], 0, "me")
    assert isinstance(outcome, Applied)
    journal = Journal.open(journal_beside(labels_file))
    assert journal is not None
    assert journal.last_seq() == 3
    journal.close()
    assert np.isnan(read_annotations(labels_file).keypoints[2, 0]).all()
    assert store.close()
    assert read_annotations(labels_file).keypoints[2, 0].tolist() == [3, 4]
    disk = read_set(labels_file)
    assert disk.labels.notes == {2: "schön"}
    assert disk.labels.flag.tolist() == [False, False, False, True, False, False]
    disk.close()
    with opened(labels_file) as again:
        assert again.state(2).point("head") == HEAD
        assert again.saved_revision == 3
        assert isinstance(again.undo("me"), Applied)
        assert again.state(2).point("head") == Point()


def test_the_file_follows_in_the_background(labels_file: Path, monkeypatch) -> None:
    monkeypatch.setattr("dpk_annotator.held_set.UPDATE_AFTER", 0.05)
    saved = threading.Event()
    with Store.open(labels_file) as store:
        store.on_saved = lambda revision: saved.set()
        store.apply(MOVE, 0, "me")
        assert saved.wait(300)
        assert read_annotations(labels_file).keypoints[2, 0].tolist() == [3, 4]
        assert store.image(2).shape == (24, 32, 1), "images are read from the new file"


def test_a_lost_file_update_is_made_up_for(labels_file: Path) -> None:
    store = opened(labels_file)
    store.apply(MOVE, 0, "me")
    del store  # as if killed: nothing was closed
    with opened(labels_file) as again:
        assert again.state(2).point("head") == HEAD
    assert read_annotations(labels_file).keypoints[2, 0].tolist() == [3, 4]


def test_what_deepposekit_sees_is_what_was_labelled(labels_file: Path) -> None:
    with opened(labels_file) as store:
        store.apply([(2, MoveKeypoint("head", 3, 4)), (3, SetFinished(True))], 0, "me")
    with h5py.File(labels_file, "r") as file:
        assert file["annotations"][2, 0].tolist() == [3, 4]
        assert file["annotated"][2].tolist() == [True, False, False, False, False]
        assert file["annotated"][3].all()
        assert list(file["skeleton_names"].asstr()) == ["head", "earL", "earR", "hip", "tail"]


# -- others that edit -----------------------------------------------------------------------------


def test_two_stores_on_one_set_see_each_other(labels_file: Path, store: Store) -> None:
    with opened(labels_file) as other:
        events: list[Changed] = []
        other.on_change = events.append
        store.apply(MOVE, 0, "anna")
        other.poll()
        assert events == [Changed(1, (2,), "anna")]
        assert other.state(2).point("head") == HEAD
        assert other.set_id == store.set_id
        assert isinstance(other.apply([(2, MoveKeypoint("head", 9, 9))], 0, "ben"), Conflict)
        merged = other.apply([(2, MoveKeypoint("tail", 9, 9))], 0, "ben")
        assert isinstance(merged, Applied)
        assert merged.merged
        assert store.state(2).point("tail") == Point(9, 9, 2, True)
        assert store.save() == other.save() == 2
        other.poll()
        assert other.saved_revision == 2
        assert not other.notices


def test_a_journal_that_was_looked_at_while_another_began_it(labels_file, store) -> None:
    """Its file is there before its content, and with a write-ahead log stays as it is for long."""
    begun = sqlite3.connect(journal_beside(labels_file))
    assert begun.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    store.poll()
    events: list[Changed] = []
    store.on_change = events.append
    other = opened(labels_file)
    other.apply(MOVE, 0, "anna")
    store.poll()
    assert events == [Changed(1, (2,), "anna")]
    assert store.state(2).point("head") == HEAD
    begun.close()
    other.close()


def test_labels_that_another_program_changed_are_taken_in(labels_file, store) -> None:
    store.apply(MOVE, 0, "me")
    store.save()
    update_annotations(labels_file, [4], keypoints=SEVENS, annotated=ALL)
    store.poll()
    assert store.state(4).point("tail") == Point(7, 7, 2, True)
    assert store.history()[0].client == FILE
    assert "labels of 1 image were taken over" in store.notices[0]
    store.save()
    found = read_annotations(labels_file).keypoints
    assert found[2, 0].tolist() == [3, 4]
    assert found[4, 4].tolist() == [7, 7]


def test_a_keypoint_changed_here_and_there_stays_as_here_and_both_are_told(labels_file, store):
    store.apply(MOVE, 0, "me")
    store.save()
    store.apply([(2, MoveKeypoint("head", 5, 5))], 1, "me")
    update_annotations(labels_file, [2], keypoints=SEVENS, annotated=ALL)
    store.save()
    assert store.state(2).point("head") == Point(5, 5, 2, True)
    assert store.state(2).point("tail") == Point(7, 7, 2, True)
    assert "(5.0, 5.0) here, (7.0, 7.0) in the file" in store.notices[0]
    assert read_annotations(labels_file).keypoints[2, 0].tolist() == [5, 5]
    told = [entry.edit for entry in store.history()]
    assert any(edit.get("points", {}).get("head") == [7.0, 7.0, 2, True] for edit in told)


def test_changes_made_while_it_was_closed_are_taken_in_once(labels_file: Path) -> None:
    with opened(labels_file) as store:
        store.apply(MOVE, 0, "me")
    update_annotations(labels_file, [4], keypoints=SEVENS, annotated=ALL)
    with opened(labels_file) as store:
        assert store.state(4).point("tail") == Point(7, 7, 2, True)
        assert len(store.notices) == 1
        revision = store.revision
        store.undo("me")
    with opened(labels_file) as store:
        assert not store.notices
        assert store.revision == revision + 1
        assert store.state(2).point("head") == Point()


@pytest.mark.parametrize("locking", [True, False])
def test_a_program_that_writes_into_the_open_file(labels_file, store, locking) -> None:
    """HDF5 refuses writers while images are read, those without locks are seen by date and size."""
    code = (
        "import h5py, sys\n"
        f"with h5py.File(sys.argv[1], 'r+', locking={locking}) as file:\n"
        "    file['annotations'][5] = 7.0\n"
    )
    store.apply(MOVE, 0, "me")
    assert store.image(5).any()
    done = subprocess.run([sys.executable, "-c", code, str(labels_file)], capture_output=True)
    store.poll()
    if locking:
        assert done.returncode == 1
        assert b"unable to lock file" in done.stderr
        assert store.state(5).point("head") == Point()
    else:
        assert done.returncode == 0
        assert (store.state(5).point("head").x, store.state(5).point("tail").y) == (7, 7)
    assert store.save() == store.revision
    assert store.state(2).point("head") == HEAD


def test_images_that_were_added_appear(labels_file, store, annotations) -> None:
    store.apply(MOVE, 0, "me")
    more = annotations.subset([0, 1])
    more = attrs.evolve(more, sources=(Source("day2.mp4", 1), Source("day2.mp4", 2)))
    append_annotations(labels_file, more)
    store.poll()
    assert len(store) == 8
    assert store.sources[7] == Source("day2.mp4", 2)
    np.testing.assert_array_equal(store.image(7), annotations.images[1])
    assert store.state(7).point("head") == store.state(1).point("head")
    store.apply([(7, MoveKeypoint("head", 1, 2))], store.revision, "me")
    store.save()
    found = read_annotations(labels_file)
    assert len(found) == 8
    assert found.keypoints[7, 0].tolist() == [1, 2]
    assert found.keypoints[2, 0].tolist() == [3, 4]


def test_a_program_that_drops_what_it_does_not_know(labels_file, annotations) -> None:
    """As DeepPoseKit's own tools may: no stamp any more, new labels, the same images."""
    with opened(labels_file) as store:
        store.apply([*MOVE, (2, SetNote("mine"))], 0, "me")
    keypoints = read_annotations(labels_file).keypoints.copy()
    keypoints[5] = 8
    again = attrs.evolve(annotations, keypoints=keypoints, visibility=None, annotated=None)
    write_annotations(labels_file, again, overwrite=True)
    with opened(labels_file) as store:
        assert store.state(2).note == "mine"
        assert store.state(5).point("hip") == Point(8, 8, 2, True)
        assert store.state(2).point("head") == HEAD


def test_before_the_first_edit_a_changed_file_is_simply_shown(labels_file, store) -> None:
    events: list[Changed] = []
    store.on_change = events.append
    update_annotations(labels_file, [4], keypoints=SEVENS, annotated=ALL)
    store.poll()
    assert store.state(4).point("tail") == Point(7, 7, 2, True)
    assert events == [Changed(0, None, FILE)]
    assert store.revision == 0


# -- trouble --------------------------------------------------------------------------------------


def test_read_only_refuses_every_change_and_writes_nothing(labels_file: Path) -> None:
    with opened(labels_file, read_only=True) as store:
        for change in (
            lambda: store.apply(MOVE, 0, "me"),
            lambda: store.undo("me"),
            lambda: store.restore(0, "me"),
            lambda: store.put_guesses([0], np.zeros((1, 5, 2)), np.ones((1, 5))),
            store.save,
        ):
            with pytest.raises(ReadOnlyError):
                change()
    assert [path.name for path in labels_file.parent.iterdir()] == ["labels.h5"]


def test_read_only_sees_what_others_do(labels_file: Path, store: Store) -> None:
    with opened(labels_file, read_only=True) as looking:
        store.apply(MOVE, 0, "me")
        assert looking.state(2).point("head") == HEAD
        assert looking.revision == 1


def test_a_protected_file_keeps_its_labels_in_the_journal(labels_file: Path) -> None:
    labels_file.chmod(0o444)
    store = opened(labels_file)
    assert isinstance(store.apply(MOVE, 0, "me"), Applied)
    with pytest.raises(FileLockedError, match="read-only"):
        store.save()
    assert not store.close()
    assert "the journal labels.h5.journal has them all" in store.notices[0]
    labels_file.chmod(0o644)
    with opened(labels_file) as again:
        assert again.state(2).point("head") == HEAD
    assert read_annotations(labels_file).keypoints[2, 0].tolist() == [3, 4]


def test_a_folder_that_cannot_be_written_has_its_journal_at_home(labels_file, monkeypatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: mode != os.W_OK and real(p, mode))
    store = opened(labels_file)
    store.apply(MOVE, 0, "me")
    assert not store.close()
    assert not journal_beside(labels_file).exists()
    assert journal_at_home(labels_file).exists()
    with opened(labels_file, read_only=True) as again:
        assert again.state(2).point("head") == HEAD


@pytest.mark.skipif(os.name == "nt", reason="Windows locks otherwise")
def test_a_file_that_another_program_has_open_for_writing_waits(labels_file, store) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys\nfile = open(sys.argv[1], 'rb+')\n"
            "fcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()",
            str(labels_file),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        store._disk.close()  # what reads images holds a lock of its own, which keeps writers off
        assert holder.stdout.readline() == "held\n"
        store.apply(MOVE, 0, "me")
        with pytest.raises(FileLockedError, match="another program has it open"):
            store.save()
        assert np.isnan(read_annotations(labels_file).keypoints[2, 0]).all()
    finally:
        holder.communicate()
    assert store.save() == 1
    assert not store.notices


def test_a_full_disk_keeps_the_file_as_it_was(labels_file, store, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.apply(MOVE, 0, "me")
    content = labels_file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("dpk_core.services.storage.annotations_file.reserve_space", full)
        with pytest.raises(OutputError, match="disk is full"):
            store.save()
        assert labels_file.read_bytes() == content
    assert store.save() == 1


def test_a_journal_that_cannot_be_written_refuses_the_edit(labels_file, store) -> None:
    store.apply(MOVE, 0, "me")
    database = store._ledger.journal._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutputError, match="the edit is not saved"):
        store.apply(
            [(1, SetNote("x" * 9000))] + [(r, SetNote("y" * 9000)) for r in (3, 4)], 1, "me"
        )
    assert store.revision == 1
    assert store.state(1).note == ""
    database.execute("PRAGMA max_page_count = 100000")
    assert isinstance(store.apply([(1, SetNote("x" * 9000))], 1, "me"), Applied)


def test_a_file_that_vanishes_and_comes_back(labels_file: Path, tmp_path: Path) -> None:
    store = opened(labels_file)
    os.rename(labels_file, tmp_path / "elsewhere.h5")
    assert isinstance(store.apply(MOVE, 0, "me"), Applied)
    assert store.image(1).shape == (24, 32, 1)
    with pytest.raises(FileMissingError, match="put it back"):
        store.save()
    store.poll()
    assert "put it back" in store.notices[0]
    os.rename(tmp_path / "elsewhere.h5", labels_file)
    store.poll()
    assert not store.notices
    assert store.close()
    assert read_annotations(labels_file).keypoints[2, 0].tolist() == [3, 4]


def test_another_set_in_its_place_is_left_alone(labels_file, store, write_set) -> None:
    store.apply(MOVE, 0, "me")
    write_set(images=np.zeros((6, 24, 32, 1), np.uint8))
    content = labels_file.read_bytes()
    with pytest.raises(OtherSetError, match="another set now"):
        store.save()
    assert labels_file.read_bytes() == content
    assert not store.close()
    with opened(labels_file) as new:
        assert new.revision == 0
        assert "belongs to another set; it was put aside" in new.notices[0]
    aside = list(labels_file.parent.glob("*.journal.other-*"))
    assert len(aside) == 1
    kept = Journal.open(aside[0])
    assert kept is not None
    assert kept.last_seq() == 1
    kept.close()


def test_an_old_copy_with_fewer_images_is_not_grown_with_images_it_lacks(
    labels_file, annotations, tmp_path
) -> None:
    shutil.copy(labels_file, tmp_path / "old.h5")
    append_annotations(labels_file, annotations.subset([0]))
    with opened(labels_file) as store:
        store.apply([(6, MoveKeypoint("head", 1, 2))], 0, "me")
    shutil.copy(tmp_path / "old.h5", labels_file)
    with opened(labels_file) as store:
        assert len(store) == 6
        assert "more images than the file has" in store.notices[0]
        store.apply(MOVE, 0, "me")
    assert read_annotations(labels_file).keypoints.shape == (6, 5, 2)


def test_an_old_copy_that_was_put_back_is_told_of(labels_file: Path, tmp_path: Path) -> None:
    with opened(labels_file) as store:
        store.apply(MOVE, 0, "me")
    shutil.copy(labels_file, tmp_path / "old.h5")
    with opened(labels_file) as store:
        store.apply([(2, MoveKeypoint("head", 9, 9))], 1, "me")
    shutil.copy(tmp_path / "old.h5", labels_file)
    with opened(labels_file) as store:
        assert "older than the journal" in store.notices[0]
        assert store.state(2).point("head") == Point(9, 9, 2, True)


def test_a_set_has_its_name_before_its_first_edit_and_keeps_it(labels_file: Path) -> None:
    with opened(labels_file) as store:
        name = store.set_id
    with opened(labels_file, read_only=True) as store:  # the server died before an edit came
        assert store.set_id == name
    with opened(labels_file) as store:
        store.apply(MOVE, 0, "me")
        assert store.set_id == name
    os.rename(labels_file, labels_file.with_name("renamed.h5"))
    with opened(labels_file.with_name("renamed.h5")) as store:
        assert store.set_id == name


def test_a_copy_and_other_images_in_the_same_place_have_another_name(
    labels_file: Path, annotations: AnnotationSet
) -> None:
    copy = labels_file.with_name("copy.h5")
    shutil.copy(labels_file, copy)
    names = set()
    for path in (labels_file, copy):
        with opened(path) as store:
            names.add(store.set_id)
    frames = [attrs.evolve(source, frame=source.frame + 1) for source in annotations.sources]
    for other in (
        attrs.evolve(annotations, images=255 - np.asarray(annotations.images)),
        attrs.evolve(annotations, sources=tuple(frames)),
    ):
        labels_file.unlink()
        write_annotations(labels_file, other)
        with opened(labels_file) as store:
            names.add(store.set_id)
    assert len(names) == 4


def test_two_journals_of_one_name_are_told_apart(labels_file: Path, tmp_path: Path) -> None:
    shutil.copy(labels_file, tmp_path / "as it was.h5")
    with opened(labels_file) as store:
        store.apply(MOVE, 0, "me")
    shutil.move(labels_file, tmp_path / "labelled.h5")
    journal_beside(labels_file).unlink()
    shutil.copy(tmp_path / "as it was.h5", labels_file)
    with opened(labels_file) as store:
        store.apply([(3, MoveKeypoint("tail", 5, 5))], 0, "me")
    # Its stamp says "entry 1", but of the other journal: the label must not count as known.
    shutil.copy(tmp_path / "labelled.h5", labels_file)
    with opened(labels_file) as store:
        assert store.state(2).point("head") == HEAD


def test_a_copy_begins_a_journal_of_its_own(labels_file: Path, tmp_path: Path) -> None:
    with opened(labels_file) as store:
        store.apply(MOVE, 0, "me")
        first = store.set_id
    shutil.copy(labels_file, tmp_path / "copy.h5")
    with opened(tmp_path / "copy.h5") as copy:
        copy.apply([(3, MoveKeypoint("head", 1, 1))], 0, "me")
        assert copy.set_id != first
        assert copy.state(2).point("head") == HEAD
    with opened(tmp_path / "copy.h5") as copy:
        assert copy.steps("me") == (1, 0)
        assert not copy.notices


def test_a_renamed_set_keeps_its_undo(labels_file: Path, tmp_path: Path) -> None:
    with opened(labels_file) as store:
        store.apply(MOVE, 0, "me")
    os.rename(labels_file, tmp_path / "better name.h5")
    with opened(tmp_path / "better name.h5") as store:
        assert store.steps("me") == (1, 0)


def test_a_damaged_journal_is_put_aside_and_its_edits_are_recovered(labels_file: Path) -> None:
    with opened(labels_file) as store:
        store.apply(MOVE, 0, "me")
    store = opened(labels_file)
    store.apply([(3, MoveKeypoint("tail", 1, 2))], 1, "me")
    store.apply([(3, MoveKeypoint("tail", 3, 4))], 2, "me")
    store._ledger.journal._database.execute("DROP TRIGGER entries_stay")
    store._ledger.journal._database.execute("UPDATE entries SET edit = '{}' WHERE seq = 3")
    store._ledger.journal.close()
    with opened(labels_file) as again:
        assert "put aside as labels.h5.journal.damaged-" in again.notices[0]
        assert "recovered" in again.notices[1]
        assert again.state(3).point("tail") == Point(1, 2, 2, True)
        assert again.history()[0].client == RECOVERED
    assert read_annotations(labels_file).keypoints[3, 4].tolist() == [1, 2]


def test_a_journal_of_noise_costs_undo_alone(labels_file: Path) -> None:
    with opened(labels_file) as store:
        store.apply(MOVE, 0, "me")
    journal_beside(labels_file).write_bytes(b"noise" * 10_000)
    with opened(labels_file) as again:
        assert again.state(2).point("head") == HEAD
        assert again.steps("me") == (0, 0)
        assert len(again.notices) == 1


# -- the rest -------------------------------------------------------------------------------------


def test_backups_hold_the_beginning_and_what_was_saved(labels_file: Path, store: Store) -> None:
    before = store.labels()[1]
    store.apply(MOVE, 0, "me")
    store.save()
    last, first = list_backups(labels_file)
    assert (last.revision, first.revision) == (1, 0)
    assert read_backup(first.path).same_as(before)
    store.apply([(2, MoveKeypoint("head", 9, 9))], 1, "me")
    store.save()
    assert len(list_backups(labels_file)) == 2, "not with every update"
    store.restore_labels(read_backup(last.path), "me")
    assert store.state(2).point("head") == HEAD


def test_a_skeleton_changes_in_file_and_journal(labels_file: Path) -> None:
    with opened(labels_file) as store:
        tail = store.state(1).point("tail")
        change = rename_keypoint(store.skeleton, "tail", "end")
        assert store.preview_skeleton(change).kept == 10
        store.change_skeleton(change, 0, "me")
        store.change_skeleton(add_keypoint(store.skeleton, "paw", "hip"), 1, "me")
        assert store.touched_by(["head", "earL"]) == 2
        store.change_skeleton(remove_keypoint(store.skeleton, "head"), 2, "me")
        assert store.skeleton_seq == 3
        store.apply([(4, MoveKeypoint("paw", 5, 6))], 3, "me")
    found = read_annotations(labels_file)
    assert found.skeleton.names == ("earL", "earR", "hip", "end", "paw")
    assert found.keypoints[1, 3].tolist() == [tail.x, tail.y]
    assert found.visibility[1, 3] == 1
    assert found.keypoints[4, 4].tolist() == [5, 6]
    with opened(labels_file) as store:
        for _ in range(4):
            assert isinstance(store.undo("me"), Applied)
        assert store.state(1).point("tail") == tail
        assert store.saved_revision == 4
    assert read_annotations(labels_file).skeleton.names[0] == "head"


def test_guesses_are_kept_apart_and_confirmed_where_nothing_is_labelled(labels_file, store):
    points = np.full((2, 5, 2), 6.0)
    points[0, 1] = np.nan
    scores = np.tile(np.linspace(0.1, 0.9, 5), (2, 1))
    assert store.put_guesses([2, 1], points, scores, "net 1") == 2
    guess = store.guess(2)
    assert guess.model == "net 1"
    assert guess.scores[1] == 0
    assert store.guess(0) is None
    assert store.state(2).point("head") == Point(), "a guess is no label"
    assert store.revision == 0
    before = store.state(1)
    store.confirm(1, 0, "me")
    assert store.state(1) == before, "labels stay"
    store.confirm(2, 0, "me", threshold=0.5)
    assert store.state(2).annotated.tolist() == [False, False, True, True, True]
    store.confirm(2, store.revision, "me", keypoints=["head"])
    assert store.state(2).point("head") == Point(6, 6, 2, True)
    with pytest.raises(ValidationError, match="no guesses for image 0"):
        store.confirm(0, store.revision, "me")
    with pytest.raises(ValidationError, match="no keypoint 'wing'"):
        store.confirm(2, store.revision, "me", keypoints=["wing"])
    with opened(labels_file) as other:
        assert other.guess(1).model == "net 1"
        store.put_guesses([1], points[:1], scores[:1], "net 2")
        other.poll()
        assert other.guess(1).model == "net 2"
        assert np.isnan(other.labels()[2][0])


@pytest.mark.parametrize(
    ("rows", "keypoints", "scores"),
    [([9], np.zeros((1, 5, 2)), np.ones((1, 5))), ([0.5], np.zeros((1, 5, 2)), np.ones((1, 5))),
     ([0], np.zeros((1, 4, 2)), np.ones((1, 5))), ([0], np.zeros((1, 5, 2)), np.ones((2, 5)))],
)  # fmt: skip
def test_guesses_of_other_shapes_are_refused(store, rows, keypoints, scores) -> None:
    with pytest.raises(ValidationError):
        store.put_guesses(rows, keypoints, scores)


def test_guesses_follow_their_keypoint_through_changes_of_the_skeleton(labels_file, store) -> None:
    places = np.arange(10.0).reshape(1, 5, 2)
    store.put_guesses([2], places, np.full((1, 5), 0.9), "net 1")
    names = store.skeleton.names
    wanted = dict(zip(names, places[0].tolist(), strict=True))

    def guessed(store: Store) -> dict[str, list[float]]:
        guess = store.guess(2)
        assert guess is not None
        return dict(zip(store.skeleton.names, guess.keypoints.tolist(), strict=True))

    store.change_skeleton(rename_keypoint(store.skeleton, "tail", "end"), 0, "me")
    renamed = {"end" if name == "tail" else name: place for name, place in wanted.items()}
    assert guessed(store) == renamed
    store.change_skeleton(remove_keypoint(store.skeleton, "end"), store.revision, "me")
    assert "end" not in guessed(store)
    store.undo("me")
    assert guessed(store) == renamed
    with opened(labels_file) as other:
        assert guessed(other) == renamed
    store.undo("me")
    assert guessed(store) == wanted


def test_predictions_of_a_video_become_guesses(tmp_path, annotations: AnnotationSet) -> None:
    crop = (1.0, 0.0, -100.0, 0.0, 1.0, -50.0)
    sources = (
        Source("day1.mp4", 10), Source("day1.mp4", 11), Source("day2.mp4", 10),
        Source("day1.mp4", 12, "7", crop), Source("day1.mp4", 12, "", crop), Source(),
    )  # fmt: skip
    path = tmp_path / "labels.h5"
    write_annotations(path, attrs.evolve(annotations, sources=sources))
    names = annotations.skeleton
    keypoints = np.zeros((4, 5, 2), np.float32)
    keypoints[0] += 5
    keypoints[1] += 6
    keypoints[2] += (300, 300)  # of track 7, elsewhere in the frame
    keypoints[3] += (110, 60)
    poses = Poses(
        keypoints, np.full((4, 5), 0.5, np.float32), names,
        frames=[10, 11, 12, 12], track_ids=[-1, -1, 7, 8],
    )  # fmt: skip
    with opened(path) as store:
        assert store.put_poses(poses, str(tmp_path / "videos" / "day1.mp4"), "net") == 4
        assert store.guess(0).keypoints[0].tolist() == [5, 5]
        assert store.guess(1).keypoints[0].tolist() == [6, 6]
        assert store.guess(2) is None
        assert store.guess(3).keypoints[0].tolist() == [200, 250], "the animal of its name"
        assert store.guess(4).keypoints[0].tolist() == [10, 10], "the one inside the crop"
        assert store.put_poses(poses, "another.mp4") == 0


def test_many_threads_edit_at_once(labels_file: Path) -> None:
    with opened(labels_file) as store:
        names = store.skeleton.names

        def work(j: int) -> None:
            for i in range(12):
                edit = MoveKeypoint(names[j], float(i), float(j))
                outcome = store.apply([(i % 6, edit)], store.revision, f"client {j}")
                assert isinstance(outcome, Applied)
                store.labels()

        threads = [threading.Thread(target=work, args=(j,)) for j in range(5)]
        for thread in threads:
            thread.start()
        store.save()
        for thread in threads:
            thread.join()
        assert store.revision == 60
    found = read_annotations(labels_file).keypoints
    assert found[:, :, 0].tolist() == [[float(i)] * 5 for i in range(6, 12)]


def test_closing_twice_and_what_comes_after(labels_file: Path) -> None:
    store = opened(labels_file)
    store.apply(MOVE, 0, "me")
    assert store.close()
    assert store.close()
    store.poll()
    assert store.save() == 1
    with pytest.raises(ReadOnlyError, match="closed"):
        store.apply(MOVE, 0, "me")


def test_history_tells_the_latest_first(store: Store) -> None:
    assert store.history() == []
    for i in range(5):
        store.apply([(i, SetFlag(True))], i, "me")
    assert [entry.seq for entry in store.history(limit=2)] == [5, 4]
    assert [entry.seq for entry in store.history(before=3)] == [2, 1]
    assert store.pauses() == []
    assert store.labels_at(2).flag.tolist() == [True, True, False, False, False, False]


def test_a_set_opens_without_reading_its_images(tmp_path: Path, annotations) -> None:
    """Whatever its images take: here they are never written to the disk."""
    path, n = tmp_path / "large.h5", 3000
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (n, 512, 512, 1), np.uint8, chunks=(1, 512, 512, 1))
        file["annotations"] = np.full((n, 5, 2), np.nan)
        file["annotated"] = np.zeros((n, 5), bool)
        file["skeleton"] = annotations.skeleton.to_array()
        file["skeleton_names"] = np.array([name.encode() for name in annotations.skeleton.names])
    begin = time.process_time()
    with opened(path) as store:
        assert len(store) == n
        assert store.image(2999).shape == (512, 512, 1)
    assert time.process_time() - begin < 30, "786 MB of images were not read"
