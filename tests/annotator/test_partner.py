"""The partner: trains on the labels, its guesses come back, it says what to label next."""

from __future__ import annotations

import time

import attrs
import numpy as np
import pytest

from dpk_annotator.edits import MoveKeypoint
from dpk_annotator.jobs import DONE, RUNNING
from dpk_annotator.partner import Partner
from dpk_annotator.store import Store
from dpk_core.errors import ValidationError
from dpk_core.poses import Poses
from dpk_core.services.storage import write_annotations, write_poses
from dpk_core.testing import dot_annotations


@pytest.fixture
def labels(tmp_path):
    """Sixteen images with dots, of which twelve are labelled."""
    annotations = dot_annotations(16, size=(32, 32))
    keypoints = annotations.keypoints.copy()
    keypoints[12:] = np.nan
    waiting = np.isfinite(keypoints[..., 0])
    path = tmp_path / "labels.h5"
    write_annotations(
        path,
        attrs.evolve(
            annotations,
            keypoints=keypoints,
            annotated=waiting,
            visibility=np.where(waiting, 2, 0).astype(np.uint8),
        ),
    )
    return path


@pytest.fixture
def partner(labels):
    with Store.open(labels, background=False) as store:
        made = Partner(store)
        yield made
        made.close()


def ended(partner, job):
    until = time.monotonic() + 900
    while partner.jobs.get(job.number).state == RUNNING:
        assert time.monotonic() < until
        time.sleep(0.05)
    job = partner.jobs.get(job.number)
    assert job.state == DONE, "\n".join(job.log())
    return job


def taken(partner, job):
    until = time.monotonic() + 300
    while not (job.folder / "taken").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_from_labels_to_guesses_by_way_of_a_training(partner):
    store = partner._store
    told = []
    partner.tell = told.append
    with pytest.raises(ValidationError, match="no trained model yet"):
        partner.predict({})
    job = ended(partner, partner.train({"model": "LEAP", "minutes": 0.02}))
    assert job.settings == {"model": "LEAP", "minutes": 0.02, "scale": 1.0, "graph": False}
    assert [model.name for model in partner.models()] == ["job 1"]
    store.apply([(0, MoveKeypoint(store.skeleton.names[0], 3.0, 4.0))], store.revision, "me")
    before = store.state(0).keypoints.copy()
    job = ended(partner, partner.predict({}))
    taken(partner, job)
    assert job.settings == {"model": "job 1"}
    guess = store.guess(15)
    assert np.isfinite(guess.keypoints).all()
    assert (guess.keypoints >= -0.5).all()
    assert (guess.keypoints <= 31.5).all()
    np.testing.assert_array_equal(store.state(0).keypoints, before, "a guess is no label")
    assert not store.state(15).annotated.any()
    assert {one.kind for one in told} == {"train", "predict"}
    wanted = partner.suggest("confidence", 2)
    rows = [one.row for one in wanted]
    lowest = np.argsort([np.min(store.guess(row).scores) for row in range(12, 16)])[:2] + 12
    assert set(rows) <= {12, 13, 14, 15}, "labelled images are not suggested"
    assert len(rows) == len(lowest) == 2
    assert wanted[0].reasons


def test_guesses_of_another_model_file_follow_names(partner, labels, tmp_path):
    """What a prediction found while no server ran becomes guesses when one starts."""
    store = partner._store
    names = store.skeleton.names
    folder = tmp_path / "labels.h5.jobs" / "1"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(
        '{"number": 1, "kind": "predict", "exit_code": 0, "began": 1.0, "settings": {"model": "m"}}'
    )
    order = list(range(len(names)))[::-1]
    keypoints = np.arange(2 * len(names), dtype=np.float32).reshape(1, -1, 2)
    skeleton = type(store.skeleton)([names[i] for i in order])
    write_poses(
        folder / "guesses.poses.h5",
        Poses(keypoints[:, order], np.full((1, len(names)), 0.5), skeleton, frames=[13]),
    )
    partner.start()
    np.testing.assert_array_equal(store.guess(13).keypoints, keypoints[0])
    assert store.guess(13).model == "m"
    assert store.guess(12) is None
    partner.start()
    assert (folder / "taken").read_text() == "1 images"


def test_a_server_starts_although_it_cannot_note_what_it_has_taken_in(partner, tmp_path):
    store = partner._store
    folder = tmp_path / "labels.h5.jobs" / "1"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text('{"number": 1, "kind": "predict", "exit_code": 0}')
    (folder / "taken").symlink_to(tmp_path / "no such folder" / "taken")
    k = len(store.skeleton)
    poses = Poses(np.ones((1, k, 2)), np.ones((1, k)), store.skeleton, frames=[13])
    write_poses(folder / "guesses.poses.h5", poses)
    partner.start()
    assert store.guess(13) is not None


def test_suggestions_need_guesses_or_go_by_the_images_alone(partner):
    with pytest.raises(ValidationError, match="no guesses yet"):
        partner.suggest("combined", 2)
    wanted = partner.suggest("diversity", 3)
    assert len({one.row for one in wanted}) == 3
    assert {one.row for one in wanted} <= {12, 13, 14, 15}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "LEEP"}, "model: expected one of .*LEAP"),
        ({"minutes": 0}, "minutes: expected a number above 0"),
        ({"scale": 9.0}, "scale: expected a number from 0.05"),
        ({"model": "--help"}, "model: expected one of"),
    ],
)
def test_settings_that_cannot_be(partner, settings, message):
    with pytest.raises(ValidationError, match=message):
        partner.train(settings)


def test_a_set_without_labels_cannot_be_trained_on(tmp_path):
    annotations = dot_annotations(4, size=(32, 32))
    path = tmp_path / "new.h5"
    keypoints = np.full_like(annotations.keypoints, np.nan)
    write_annotations(
        path,
        attrs.evolve(
            annotations,
            keypoints=keypoints,
            annotated=np.zeros(keypoints.shape[:2], bool),
            visibility=np.zeros(keypoints.shape[:2], np.uint8),
        ),
    )
    with Store.open(path, background=False) as store, pytest.raises(ValidationError, match="label"):
        Partner(store).train({})


def test_models_beside_the_set_can_be_chosen(partner, labels):
    (labels.parent / "old.keras").write_bytes(b"")
    (labels.parent / ".hidden.onnx").write_bytes(b"")
    assert [model.name for model in partner.models()] == ["old.keras"]
    with pytest.raises(ValidationError, match=r"no model '\.\./x\.keras'; there are old\.keras"):
        partner.predict({"model": "../x.keras"})
