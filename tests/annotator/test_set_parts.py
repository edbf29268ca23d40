"""The file of a set, backups, changes of skeleton, and where journals live."""

from __future__ import annotations

import os
import time
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest

from dpk_annotator.backups import (
    DAYS,
    LATEST,
    Backup,
    backup_folder,
    list_backups,
    read_backup,
    superfluous,
    write_backup,
)
from dpk_annotator.draft import Draft
from dpk_annotator.edits import MoveKeypoint
from dpk_annotator.entries import SkeletonVersion
from dpk_annotator.foreign import plan_file_changes
from dpk_annotator.journal_place import journal_at_home, place_for, put_aside
from dpk_annotator.labels import Labels
from dpk_annotator.new_set import PLACEHOLDER, placeholder_skeleton
from dpk_annotator.row_state import Point
from dpk_annotator.set_file import (
    GROUP,
    FileLockedError,
    SetChangedError,
    Stamp,
    check_writable,
    image_digests,
    read_set,
    signature,
    write_set,
)
from dpk_annotator.skeleton_edits import (
    SkeletonChange,
    add_keypoint,
    pair_keypoints,
    preview,
    remove_keypoint,
    rename_keypoint,
    reorder_keypoints,
    reparent_keypoint,
)
from dpk_core.annotations import AnnotationSet
from dpk_core.errors import FileFormatError, FileMissingError, SkeletonError, ValidationError
from dpk_core.services.storage import read_annotations
from dpk_core.skeleton import Skeleton

STAMP = Stamp("a set", 12, "fingerprint")


@pytest.fixture
def labels(annotations: AnnotationSet) -> Labels:
    return Labels.of(annotations)


# -- the file -------------------------------------------------------------------------------------


def test_labels_marks_and_stamp_come_back(labels_file: Path, labels: Labels) -> None:
    labels.set_row(3, MoveKeypoint("head", 1, 2).apply(labels.row(3)))
    labels.flag[1], labels.finished[0], labels.notes[4] = True, True, "ganz unscharf"
    before = read_annotations(labels_file)
    write_set(labels_file, labels, STAMP, signature(labels_file))
    disk = read_set(labels_file)
    assert disk.labels.same_as(labels)
    assert (disk.stamp, disk.has_marks) == (STAMP, True)
    assert disk.annotations.sources == before.sources
    np.testing.assert_array_equal(disk.annotations.images[:], before.images[:])
    disk.close()
    labels.notes.clear()
    write_set(labels_file, labels, STAMP, signature(labels_file))
    disk = read_set(labels_file)
    assert disk.labels.notes == {}
    disk.close()


def test_a_file_that_changed_meanwhile_is_not_overwritten(labels_file, labels) -> None:
    found = signature(labels_file)
    os.utime(labels_file, (1, 1))
    content = labels_file.read_bytes()
    with pytest.raises(SetChangedError):
        write_set(labels_file, labels, STAMP, found)
    assert labels_file.read_bytes() == content


def test_a_program_that_writes_while_we_write_is_seen(labels_file, labels, monkeypatch) -> None:
    """The last look is after the copy is on the disk, right before it takes the file's place."""

    def late(path: Path) -> None:
        os.utime(labels_file, (1, 1))

    monkeypatch.setattr("dpk_annotator.set_file._sync", late)
    content = labels_file.read_bytes()
    with pytest.raises(SetChangedError):
        write_set(labels_file, labels, STAMP, signature(labels_file))
    assert labels_file.read_bytes() == content


def test_a_file_of_another_program_has_no_marks(labels_file: Path) -> None:
    disk = read_set(labels_file)
    assert (disk.stamp, disk.has_marks) == (None, False)
    disk.close()


@pytest.mark.parametrize("damage", ["group is a link", "notes are noise", "no stamp", "short"])
def test_a_damaged_group_costs_marks_alone(labels_file, labels, damage) -> None:
    labels.notes[2] = "x"
    write_set(labels_file, labels, STAMP, signature(labels_file))
    with h5py.File(labels_file, "r+") as file:
        group = file[GROUP]
        if damage == "group is a link":
            del file[GROUP]
            file[GROUP] = h5py.SoftLink("/nowhere")
        elif damage == "notes are noise":
            del group["notes"]
            group["notes"] = np.full(9, 200, np.uint8)
        elif damage == "no stamp":
            del group.attrs["revision"]
        else:
            del group["flag"]
            group["flag"] = np.ones(2, bool)
    disk = read_set(labels_file)
    assert disk.fingerprint == labels.fingerprint()
    if damage == "short":
        assert disk.labels.flag.tolist() == [True, True, False, False, False, False]
    else:
        assert disk.labels.notes == ({2: "x"} if damage == "no stamp" else {})
        assert (disk.stamp is None) == (damage != "notes are noise")
    disk.close()
    write_set(labels_file, labels, STAMP, signature(labels_file))
    again = read_set(labels_file)
    assert again.labels.same_as(labels)
    again.close()


def test_a_missing_and_a_protected_file_are_told_of(labels_file: Path) -> None:
    labels_file.chmod(0o444)
    with pytest.raises(FileLockedError, match="make it writable"):
        check_writable(labels_file)
    labels_file.unlink()
    with pytest.raises(FileMissingError, match="put it back"):
        signature(labels_file)
    with pytest.raises(FileMissingError):
        read_set(labels_file)


def test_images_are_known_again_by_a_few(annotations: AnnotationSet) -> None:
    images = np.asarray(annotations.images)
    digests = image_digests(images)
    assert list(digests) == [0, 3, 5]
    assert image_digests(images, [3]) == {3: digests[3]}
    other = images.copy()
    other[3, 0, 0] ^= 1
    assert image_digests(other)[3] != digests[3]
    assert image_digests(images[:3], [0, 5]).keys() == {0}


# -- backups --------------------------------------------------------------------------------------


def test_backups_come_back_and_say_what_is_damaged(labels_file: Path, labels: Labels) -> None:
    labels.notes[1] = "a note"
    path = write_backup(
        labels_file, labels, 17, now=time.mktime((2025, 1, 31, 17, 45, 2, 0, 0, -1))
    )
    assert path == backup_folder(labels_file) / "20250131-174502-r17.npz"
    assert read_backup(path).same_as(labels)
    (backup,) = list_backups(labels_file)
    assert backup.revision == 17
    with np.load(path) as plain:
        np.testing.assert_array_equal(plain["keypoints"], labels.keypoints)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="take another one"):
        read_backup(path)
    with pytest.raises(FileMissingError):
        read_backup(path.with_name("no.npz"))


def test_the_latest_stay_and_the_last_of_each_day_for_a_while() -> None:
    now = time.mktime((2025, 6, 30, 12, 0, 0, 0, 0, -1))
    hours = [Backup(Path(f"{i}"), now - 3600 * i, i) for i in range(24 * 60)]
    removed = {backup.revision for backup in superfluous(hours, now)}
    kept = [backup for backup in hours if backup.revision not in removed]
    assert {backup.revision for backup in hours[:LATEST]}.isdisjoint(removed)
    days = {time.strftime("%j", time.localtime(backup.time)) for backup in kept}
    assert len(days) == DAYS + 1
    assert len(kept) == LATEST + DAYS


def test_writing_removes_what_has_become_too_much(labels_file: Path, labels: Labels) -> None:
    now = time.mktime((2025, 6, 30, 12, 0, 0, 0, 0, -1))
    for i in range(LATEST + 5):
        write_backup(labels_file, labels, i, now + 60 * i)
    (backup_folder(labels_file) / "notes of a person.txt").write_text("stays")
    write_backup(labels_file, labels, 99, now + 6000)
    found = list_backups(labels_file)
    assert [backup.revision for backup in found] == [99, *range(LATEST + 4, 5, -1)]
    assert (backup_folder(labels_file) / "notes of a person.txt").exists()


# -- skeletons ------------------------------------------------------------------------------------


def test_labels_follow_their_keypoint_by_name(labels: Labels, skeleton: Skeleton) -> None:
    before = labels.copy()
    rows = [
        ("paw", "hip", None),
        ("tail", "hip", None),
        ("hip", None, None),
        ("muzzle", "hip", None),
    ]
    change = SkeletonChange(Skeleton.from_rows(rows), {"head": "muzzle"})
    back = labels.migrate(change)
    assert labels.skeleton.names == ("paw", "tail", "hip", "muzzle")
    for new, old in (("tail", "tail"), ("hip", "hip"), ("muzzle", "head")):
        for row in range(6):
            assert labels.row(row).point(new) == before.row(row).point(old)
    assert not labels.annotated[:, 0].any()
    labels.migrate(SkeletonChange.from_json(back.to_json()))
    assert labels.same_as(before)


def test_names_can_be_exchanged(labels: Labels, skeleton: Skeleton) -> None:
    left = labels.row(0).point("earL")
    change = SkeletonChange(skeleton, {"earL": "earR", "earR": "earL"})
    labels.migrate(change)
    assert labels.row(0).point("earR") == left


def test_a_preview_counts_what_goes(labels: Labels, skeleton: Skeleton) -> None:
    rows = [
        ("muzzle", None, None),
        ("earR", "muzzle", None),
        ("hip", None, None),
        ("paw", "hip", None),
    ]
    change = SkeletonChange(Skeleton.from_rows(rows), {"head": "muzzle"})
    found = preview(change, skeleton, labels.labelled_in())
    assert attrs.asdict(found) == {
        "added": ("paw",), "removed": ("earL", "tail"), "renamed": (("head", "muzzle"),),
        "reordered": False, "reparented": ("hip",), "repaired": ("earR",),
        "lost": (("earL", 2), ("tail", 2)), "kept": 6,
    }  # fmt: skip
    assert "removed: tail, labelled in 2 images" in str(found)
    assert str(preview(SkeletonChange(skeleton), skeleton, {})) == "nothing changes"
    assert str(preview(SkeletonChange(skeleton), skeleton, {"tail": 1})) == (
        "nothing changes\n1 label stays"
    )


def test_the_preview_of_a_first_skeleton_speaks_of_it_alone(skeleton: Skeleton) -> None:
    first = SkeletonChange(skeleton)
    names = ", ".join(skeleton.names)
    assert str(preview(first, placeholder_skeleton(), {PLACEHOLDER: 0})) == f"new: {names}"
    pressed_by_mistake = preview(first, placeholder_skeleton(), {PLACEHOLDER: 2})
    assert f"removed: {PLACEHOLDER}, labelled in 2 images" in str(pressed_by_mistake)


def test_the_common_changes(skeleton: Skeleton) -> None:
    assert rename_keypoint(skeleton, "head", "nose").skeleton.to_rows()[1] == (
        "earL",
        "nose",
        "earR",
    )
    added = add_keypoint(skeleton, "hipL", "hip", position=0).skeleton
    assert added.names[0] == "hipL"
    assert remove_keypoint(skeleton, "hip").skeleton.to_rows()[-1] == ("tail", "head", None)
    assert reorder_keypoints(skeleton, skeleton.names[::-1]).skeleton.names[0] == "tail"
    assert reparent_keypoint(skeleton, "tail", None).skeleton.to_rows()[-1][1] is None
    parted = pair_keypoints(skeleton, "earL", None).skeleton
    assert [row[2] for row in parted.to_rows()] == [None] * 5
    assert pair_keypoints(parted, "earR", "earL").skeleton == skeleton


@pytest.mark.parametrize(
    "change",
    [
        lambda s: rename_keypoint(s, "head", "tail"),
        lambda s: rename_keypoint(s, "wing", "tail"),
        lambda s: add_keypoint(s, "head"),
        lambda s: remove_keypoint(s, "wing"),
        lambda s: reorder_keypoints(s, ["head"]),
        lambda s: reparent_keypoint(s, "head", "tail"),
        lambda s: SkeletonChange(s, {"head": "wing"}),
        lambda s: SkeletonChange(s, [("a", "head"), ("a", "tail")]),
        lambda s: SkeletonChange(s, {"wing": "head"}).origins(s),
    ],
)
def test_changes_that_cannot_be_are_refused(skeleton: Skeleton, change) -> None:
    with pytest.raises(SkeletonError):
        change(skeleton)


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"skeleton": 3}, {"skeleton": [[1, 2, 3]]}, {"skeleton": [["a", None]]},
     {"skeleton": [["a", None, None]], "more": 1}, {"skeleton": [["a", None, None]], "renamed": 3},
     {"skeleton": [["a", None, None]], "renamed": {"b": 3}}],
)  # fmt: skip
def test_a_change_from_bad_json_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        SkeletonChange.from_json(value)


# -- changes of others ----------------------------------------------------------------------------


def _planned(ours: Labels, base: Labels, theirs: Labels, *, has_marks: bool = True):
    """Ours after the plan, and what was found."""
    version = SkeletonVersion(0, base.skeleton, tuple(range(len(base.skeleton))))
    draft = Draft(ours, version, 0, lambda: 100)
    found = plan_file_changes(draft, ours, base, theirs, version, has_marks=has_marks)
    return draft._flushed(), found


def test_each_side_keeps_what_it_alone_changed(labels: Labels) -> None:
    base, ours, theirs = labels, labels.copy(), labels.copy()
    ours.set_row(2, MoveKeypoint("head", 1, 1).apply(ours.row(2)))
    theirs.set_row(2, MoveKeypoint("tail", 2, 2).apply(theirs.row(2)))
    theirs.flag[5] = True
    after, found = _planned(ours, base, theirs)
    assert after.row(2).point("head") == Point(1, 1, 2, True)
    assert after.row(2).point("tail") == Point(2, 2, 2, True)
    assert after.flag[5]
    assert (found.labels, found.conflicts) == (2, [])
    after, _ = _planned(ours, base, theirs, has_marks=False)
    assert not after.flag[5], "a file without marks has not taken any away"


def test_a_skeleton_changed_on_both_sides_gets_all_keypoints(labels: Labels) -> None:
    base, ours, theirs = labels, labels.copy(), labels.copy()
    ours.migrate(rename_keypoint(ours.skeleton, "tail", "end"))
    theirs.migrate(add_keypoint(theirs.skeleton, "paw", "hip"))
    theirs.set_row(3, MoveKeypoint("paw", 4, 4).apply(theirs.row(3)))
    then = SkeletonVersion(0, base.skeleton, tuple(range(5)))
    now = SkeletonVersion(1, ours.skeleton, tuple(range(5)))
    draft = Draft(ours, now, 1, lambda: 5)
    found = plan_file_changes(draft, ours, base, theirs, then, has_marks=True)
    after = draft._flushed()
    assert found.skeleton
    assert set(after.skeleton.names) == {"head", "earL", "earR", "hip", "end", "paw"}
    assert after.row(3).point("paw") == Point(4, 4, 2, True)
    assert after.row(1).point("end") == base.row(1).point("tail")


# -- where journals live --------------------------------------------------------------------------


def test_a_journal_lies_beside_its_file_or_at_home(labels_file, monkeypatch, tmp_path) -> None:
    assert place_for(labels_file) == labels_file.with_name("labels.h5.journal")
    monkeypatch.setattr(os, "access", lambda *_: False)
    home = place_for(labels_file)
    assert home.parent == Path(os.environ["DPK_JOURNALS"])
    assert home.name.endswith("-labels.h5.journal")
    assert home != journal_at_home(tmp_path / "other" / "labels.h5")


def test_putting_aside_never_overwrites(tmp_path: Path) -> None:
    names = set()
    for i in range(3):
        (tmp_path / "x.journal").write_text(str(i))
        (tmp_path / "x.journal-wal").write_text(f"wal {i}")
        aside = put_aside(tmp_path / "x.journal", "damaged")
        assert aside.read_text() == str(i)
        assert aside.with_name(aside.name + "-wal").read_text() == f"wal {i}"
        names.add(aside)
    assert len(names) == 3
