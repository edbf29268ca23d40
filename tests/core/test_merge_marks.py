"""Merging sets: flags, notes and finished marks come along, and what cannot is told."""

from __future__ import annotations

import attrs
import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core import AnnotationSet, Skeleton, write_annotations
from dpk_core.cli.app import app
from dpk_core.errors import DpkWarning
from dpk_core.services.storage.marks import LONGEST_NOTE, Marks, read_marks
from dpk_core.testing import dot_annotations
from dpk_core.workflow.merge import merge_sets


def marks(n: int, flags=(), finished=(), **notes: str) -> Marks:
    made = Marks.none(n)
    made.flag[list(flags)], made.finished[list(finished)] = True, True
    made.notes.update({int(name[1:]): text for name, text in notes.items()})
    return made


@pytest.fixture
def two(tmp_path):
    """``two(marks, marks, dry_run=False)`` merges a set of 4 images with one of images 2, 3, 0."""
    full = dot_annotations(4)

    def make(first: Marks | None, second: Marks | None, second_set=None, **options):
        other = full.subset([2, 3, 0]) if second_set is None else second_set
        write_annotations(tmp_path / "a.h5", full, overwrite=True, marks=first)
        write_annotations(tmp_path / "b.h5", other, overwrite=True, marks=second)
        paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
        result = merge_sets(paths, tmp_path / "c.h5", overwrite=True, **options)
        return result, None if options.get("dry_run") else read_marks(result.output, 4)

    return make


def test_marks_of_both_are_in_the_merged_set(two) -> None:
    result, found = two(
        marks(4, flags=[1], finished=[0], n3="blurred"), marks(3, flags=[0], finished=[1], n2="two")
    )
    assert found.flag.tolist() == [False, True, True, False]
    assert found.finished.tolist() == [True, False, False, True]
    assert found.notes == {3: "blurred", 0: "two"}
    assert "taken over: flags of 2 images, notes of 2, finished marks of 2" in result.notes
    assert not any("dpk_annotator" in note for note in result.notes)


def test_a_set_without_marks_takes_none_away(two) -> None:
    given = marks(4, flags=[1], n3="blurred")
    for pair in ((given, None), (given, Marks.none(3))):
        _, found = two(*pair)
        assert found.flag.tolist() == [False, True, False, False]
        assert found.notes == {3: "blurred"}
    assert two(None, None)[1] is None


def test_different_notes_are_both_kept_and_told_apart(two) -> None:
    result, found = two(marks(4, n0="a wing\nis hidden", n2="same"), marks(3, n2="look", n0="same"))
    assert found.notes == {0: "a.h5: a wing\nis hidden\nb.h5: look", 2: "same"}
    assert any("each with its file's name: row 0" in note for note in result.notes)


def test_merging_again_says_nothing_twice(two, tmp_path) -> None:
    result, found = two(marks(4, n0="one"), marks(3, n2="two"))
    again = merge_sets([result.output, tmp_path / "b.h5"], tmp_path / "d.h5")
    assert read_marks(again.output, 4).notes == found.notes == {0: "a.h5: one\nb.h5: two"}


@pytest.mark.parametrize("newer_first", [True, False])
@pytest.mark.parametrize(
    ("first", "second"),
    [("one", "two"), ("a wing\nis hidden", "look:\nthere")],
    ids=["one line", "several lines"],
)
def test_a_set_and_what_came_of_it_say_nothing_twice(
    two, tmp_path, first, second, newer_first
) -> None:
    result, found = two(marks(4, n0=first), marks(3, n2=second))
    assert found.notes == {0: f"a.h5: {first}\nb.h5: {second}"}
    for older in (["a.h5"], ["b.h5"], ["a.h5", "b.h5"]):
        paths = [tmp_path / name for name in older]
        paths = [result.output, *paths] if newer_first else [*paths, result.output]
        again = merge_sets(paths, tmp_path / "d.h5", overwrite=True)
        assert list(read_marks(again.output, 4).notes.values()) == [found.notes[0]], older


@pytest.mark.parametrize("newer_first", [True, False])
@pytest.mark.parametrize(
    "note", ["left wing", "wing", "left wing torn off", "left wing torn\nand gone"]
)
def test_a_note_that_was_changed_since_is_another_one(two, tmp_path, note, newer_first) -> None:
    result, found = two(marks(4, n0="left wing torn\nsee b.h5: two"), marks(3, n2="two"))
    assert found.notes == {0: "a.h5: left wing torn\nsee b.h5: two\nb.h5: two"}
    write_annotations(
        tmp_path / "a.h5", dot_annotations(4), overwrite=True, marks=marks(4, n0=note)
    )
    paths = [result.output, tmp_path / "a.h5"]
    merged = merge_sets(paths if newer_first else paths[::-1], tmp_path / "d.h5")
    both = [f"c.h5: {found.notes[0]}", f"a.h5: {note}"]
    expected = "\n".join(both if newer_first else both[::-1])
    assert read_marks(merged.output, 4).notes == {0: expected}


def test_files_of_one_name_and_rows_of_one_file_are_told_apart(two, tmp_path) -> None:
    two(marks(4, n0="one"), marks(3, n2="two"))
    (tmp_path / "other").mkdir()
    again = tmp_path / "other" / "a.h5"
    images = dot_annotations(4).subset([1, 1])
    write_annotations(again, images, marks=marks(2, n0="three", n1="four"))
    merged = merge_sets([tmp_path / "a.h5", again], tmp_path / "d.h5")
    assert read_marks(merged.output, 4).notes == {
        0: "one", 1: f"{again} row 0: three\n{again} row 1: four"
    }  # fmt: skip


def test_a_note_that_does_not_fit_is_named_and_stays_where_it_was(two, tmp_path) -> None:
    result, found = two(marks(4, n0="x" * (LONGEST_NOTE - 5)), marks(3, n2="the second"))
    assert found.notes == {0: "x" * (LONGEST_NOTE - 5)}
    (told,) = [note for note in result.notes if "was not taken, for" in note]
    assert told.startswith(f"row 0: the note of {tmp_path / 'b.h5'} row 2")
    assert read_marks(tmp_path / "b.h5", 3).notes == {2: "the second"}


def test_finished_is_an_image_whose_every_keypoint_is_dealt_with(two) -> None:
    full = dot_annotations(4)
    skeleton = Skeleton((*full.skeleton.names, "paw"))
    more = np.full((3, 1, 2), np.nan)
    more[0] = 5  # of image 2
    other = full.subset([2, 3, 0])
    other = AnnotationSet(other.images, np.concatenate([other.keypoints, more], axis=1), skeleton)
    result, found = two(marks(4, finished=[1, 2]), None, other)
    assert found.finished.tolist() == [False, False, True, False]
    assert any(note.endswith("not marked finished: row 1") for note in result.notes)


def test_what_would_become_of_marks_is_found_without_writing(two) -> None:
    given = marks(4, flags=[1], n0="one"), marks(3, n2="two")
    assert two(*given, dry_run=True)[0].notes == two(*given)[0].notes


def test_the_command_reports_them(two, tmp_path) -> None:
    two(marks(4, flags=[1, 2]), marks(3, n0="ears"))
    arguments = ["merge", *(str(tmp_path / name) for name in ("a.h5", "b.h5"))]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "e.h5")], prog_name="dpk")
    assert done.exit_code == 0, done.output
    assert "flags of 2 images, notes of 1" in " ".join(done.output.split())
    assert read_marks(tmp_path / "e.h5", 4).notes == {2: "ears"}


@pytest.mark.parametrize("broken", ["flag", "group", "text"])
def test_marks_that_are_none_are_named(two, tmp_path, broken) -> None:
    two(marks(4, flags=[1], n0="one"), None)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        if broken == "group":
            del file["dpk_annotator"]
            file["dpk_annotator"] = [1]
        elif broken == "flag":
            del file["dpk_annotator/flag"]
        else:
            file["dpk_annotator/notes"][...] = ord("x")
    found = merge_sets([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "d.h5")
    told = any("was not taken: dpk_annotator" in note for note in found.notes)
    assert told == (broken != "text")
    kept = read_marks(found.output, 4)
    assert (kept is None) == told
    assert kept is None or (kept.flag.tolist() == [False, True, False, False] and not kept.notes)


def test_marks_of_images_that_were_added_since_are_none(tmp_path) -> None:
    full = dot_annotations(4)
    write_annotations(tmp_path / "a.h5", full, marks=marks(3, flags=[0], n2="x", n7="y"))
    found = read_marks(tmp_path / "a.h5", 4)
    assert found.flag.tolist() == [True, False, False, False]
    assert found.notes == {2: "x"}
    assert bool(found)
    assert not Marks.none(4)
    assert attrs.evolve(found, notes={}).room < found.room


def test_notes_that_are_damaged_are_told_of(tmp_path) -> None:
    path = tmp_path / "a.h5"
    write_annotations(path, dot_annotations(4), marks=marks(4, flags=[1], n3="blurred"))
    with h5py.File(path, "r+") as file:
        file["dpk_annotator/notes"][0] = 255
    with pytest.warns(DpkWarning, match=r"a\.h5: the notes about its images are damaged"):
        found = read_marks(path, 4)
    assert found.flag.tolist() == [False, True, False, False]
    assert not found.notes
    assert found.notes_damaged
