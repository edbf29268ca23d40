"""Merging the open set with one beside it: listed, looked at beforehand, written as a new file."""

from __future__ import annotations

import time

import attrs
import numpy as np
import pytest

from dpk_annotator.edits import SetFlag, SetNote
from dpk_annotator.jobs import DONE, RUNNING
from dpk_annotator.store import Store
from dpk_core.services.storage import read_annotations, write_annotations
from dpk_core.workflow.merge import merge_sets


@pytest.fixture
def other(labels_file, annotations):
    """Four images of the set and one of its own; one label differs, one is new."""
    keypoints = annotations.keypoints.copy()
    visibility = annotations.visibility.copy()
    keypoints[0, 1] += (3, 4)
    keypoints[2, 0], visibility[2, 0] = (5, 6), 2
    images = np.asarray(annotations.images).copy()
    images[5] = 255 - images[5]
    made = attrs.evolve(
        annotations,
        images=images,
        keypoints=keypoints,
        visibility=visibility,
        annotated=np.isfinite(keypoints[..., 0]),
    )
    path = labels_file.with_name("ben.h5")
    write_annotations(path, made)
    return path


def test_only_sets_are_listed(client, other, labels_file) -> None:
    other.with_name("day1.poses.h5").write_bytes(b"")
    other.with_name("notes.h5").write_bytes(b"no set")
    other.with_name(".hidden.h5").write_bytes(other.read_bytes())
    (found,) = client.get("api/merge").json["sets"]
    assert (found["id"], found["name"], found["n"], found["error"]) == (0, "ben.h5", 6, None)
    assert found["labels"] == 11


@pytest.mark.parametrize(("prefer", "kept"), [("first", "this"), ("second", "other")])
def test_what_would_become_of_it_is_told_beforehand(client, served, other, prefer, kept) -> None:
    before = sorted(path.name for path in other.parent.iterdir())
    edit = {"kind": "move", "keypoint": "head", "x": 5.0, "y": 6.25}
    body = {"client": "me", "base": 0, "token": "t", "changes": [{"row": 2, "edit": edit}]}
    client.post("api/edit", body)
    found = client.post("api/merge/preview", {"id": 0, "prefer": prefer}).json
    assert (found["output"], found["n"], found["new"]) == ("labels+ben.h5", 7, 1)
    (conflict,) = found["conflicts"]  # a quarter of a pixel is none
    assert (conflict["row"], conflict["other_row"], conflict["kept"]) == (0, 0, kept)
    assert conflict["difference"] == "5.0 px"
    new = {path.name for path in other.parent.iterdir()} - set(before)
    assert all(name.startswith(("labels.h5.", ".")) for name in new), "nothing is written"


def test_both_are_written_into_a_new_set(client, served, other, labels_file) -> None:
    answer = client.post("api/merge", {"id": 0, "prefer": "second"}).json
    assert (answer["kind"], answer["settings"]["output"]) == ("merge", "labels+ben.h5")
    jobs = served.partner.jobs
    until = time.monotonic() + 600
    while jobs.get(answer["id"]).state == RUNNING:
        assert time.monotonic() < until
        time.sleep(0.05)
    job = jobs.get(answer["id"])
    assert job.state == DONE, "\n".join(job.log())
    merged = read_annotations(labels_file.with_name("labels+ben.h5"))
    first, second = read_annotations(labels_file), read_annotations(other)
    assert len(merged) == 7
    np.testing.assert_array_equal(merged.keypoints[0, 1], second.keypoints[0, 1])
    np.testing.assert_array_equal(merged.keypoints[2, 0], (5, 6))
    np.testing.assert_array_equal(merged.keypoints[1], first.keypoints[1])
    found = client.post("api/merge/preview", {"id": 0, "prefer": "first"}).json
    assert found["output"] == "labels+ben-2.h5", "nothing is overwritten"


def test_flags_notes_and_finished_marks_come_along(client, served, other, labels_file) -> None:
    with Store.open(other, background=False) as theirs:
        theirs.apply([(0, SetNote("her ear")), (2, SetFlag(True))], 0, "ben")
    edits = [(0, {"kind": "note", "note": "his ear"}), (1, {"kind": "finished", "finished": True})]
    changes = [{"row": row, "edit": edit} for row, edit in edits]
    client.post("api/edit", {"client": "me", "base": 0, "token": "t", "changes": changes})
    found = client.post("api/merge/preview", {"id": 0, "prefer": "first"}).json
    assert any("together, each with its file's name: row 0" in note for note in found["notes"])
    output = labels_file.with_name("both.h5")
    merge_sets([labels_file, other], output)
    with Store.open(output, background=False) as merged:
        assert merged.state(0).note == "labels.h5: his ear\nben.h5: her ear"
        assert merged.state(2).flag
        assert merged.state(1).finished
        merged.apply([(0, SetFlag(True))], 0, "me")
        merged.undo("me")
        assert merged.state(0).note.endswith("her ear")


def test_what_cannot_be_merged_is_refused(client, other, annotations) -> None:
    strange = type(annotations)(
        np.zeros((2, 8, 8, 1), np.uint8),
        np.zeros((2, 1, 2)),
        type(annotations.skeleton)(("antenna",)),
    )
    write_annotations(other.with_name("strange.h5"), strange)
    answer = client.post("api/merge/preview", {"id": 1, "prefer": "first"})
    assert answer.status == 400
    assert "neither a keypoint nor an image in common" in answer.json["error"]
    for path, body in (
        ("api/merge/preview", {"id": 7, "prefer": "first"}),
        ("api/merge", {"id": 7, "prefer": "first"}),
        ("api/merge", {"id": 0, "prefer": "mine"}),
        ("api/merge", {"id": 0}),
    ):
        assert client.post(path, body).status == 400
