"""From images, a video or another program's labels to a set that can be labelled."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dpk_annotator.new_set import is_placeholder
from dpk_annotator.row_json import video_names
from dpk_annotator.set_source import prepare_set
from dpk_annotator.store import Store
from dpk_core.annotations import Source
from dpk_core.errors import (
    FileFormatError,
    FileMissingError,
    OutputExistsError,
    SkeletonError,
    ValidationError,
)
from dpk_core.services.storage import read_annotations
from dpk_core.services.video import VideoReader, VideoWriter
from dpk_core.skeleton import Skeleton


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Three pictures of two sizes, gray and coloured, and a text among them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(3)
    cv2.imwrite(str(folder / "frame10.png"), rng.integers(0, 256, (12, 20, 3), np.uint8))
    cv2.imwrite(str(folder / "frame9.png"), rng.integers(0, 256, (16, 10), np.uint8))
    cv2.imwrite(str(folder / "Frame11.PNG"), rng.integers(0, 256, (16, 20, 3), np.uint8))
    (folder / "notes.txt").write_text("no picture")
    (folder / "._frame9.png").write_bytes(b"what a Mac leaves")
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "walk.mp4"
    with VideoWriter(path, fps=10) as writer:
        for i in range(12):
            frame = np.full((32, 48, 3), 20 * i, np.uint8)
            writer.write(frame)
    return path


def test_a_set_is_taken_as_it_is(labels_file: Path) -> None:
    prepared = prepare_set(labels_file)
    assert (prepared.path, prepared.made, prepared.notes) == (labels_file, False, ())


def test_pictures_become_a_set_beside_their_folder(picture_folder: Path) -> None:
    told = []
    prepared = prepare_set(
        picture_folder, progress=lambda done, total, text: told.append((done, total, text))
    )
    assert prepared.path == picture_folder.with_name("pictures.labels.h5")
    assert prepared.made
    assert told[-1] == (3, 3, "writing images")
    found = read_annotations(prepared.path)
    assert is_placeholder(found.skeleton)
    assert found.sources == (
        Source("pictures/frame9.png", size=(16, 10)),
        Source("pictures/frame10.png", size=(12, 20)),
        Source("pictures/Frame11.PNG"),
    )
    assert found.images.shape == (3, 16, 20, 3)
    gray = cv2.imread(str(picture_folder / "frame9.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found.images[0][:16, :10, 1], gray)
    assert not found.images[0][:, 10:].any()
    colour = cv2.imread(str(picture_folder / "frame10.png"))[..., ::-1]
    np.testing.assert_array_equal(found.images[1][:12, :20], colour)
    found.images.close()
    with Store.open(prepared.path, background=False) as store:
        assert video_names(store) == []


def test_a_set_that_was_made_before_goes_on(picture_folder: Path) -> None:
    first = prepare_set(picture_folder).path
    content = first.read_bytes()
    again = prepare_set(picture_folder)
    assert (again.path, again.made) == (first, False)
    assert "its labels go on" in again.notes[0]
    assert first.read_bytes() == content


def test_a_single_picture_with_a_skeleton(picture_folder: Path, tmp_path: Path) -> None:
    csv = tmp_path / "skeleton.csv"
    Skeleton.from_rows([("head", None, None), ("tail", "head", None)]).to_csv(csv)
    prepared = prepare_set(picture_folder / "frame9.png", tmp_path / "one.h5", csv)
    found = read_annotations(prepared.path)
    assert found.skeleton.names == ("head", "tail")
    assert found.images.shape == (1, 16, 10, 1)


def test_frames_of_a_video_are_chosen(video: Path) -> None:
    prepared = prepare_set(video, n_frames=5)
    assert prepared.path == video.with_name("walk.labels.h5")
    found = read_annotations(prepared.path)
    assert len(found) == 5
    assert is_placeholder(found.skeleton)
    with VideoReader(video) as reader:
        np.testing.assert_array_equal(found.images[2], reader[found.sources[2].frame])
    with Store.open(prepared.path, background=False) as store:
        assert len(video_names(store)) == 1


def test_without_scikit_learn_frames_are_taken_at_equal_distances(video, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    prepared = prepare_set(video, n_frames=4)
    assert [source.frame for source in read_annotations(prepared.path).sources] == [1, 4, 7, 10]
    assert "equal distances" in prepared.notes[1]
    assert "pip install" in prepared.notes[1]


def test_labels_of_another_program_come_with_their_losses(test_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("dpk_io_formats")
    source = test_data / "formats" / "small_robot_minimal.slp"
    prepared = prepare_set(source, tmp_path / "robot.h5")
    found = read_annotations(prepared.path)
    assert found.n_labelled > 0
    assert "(sleap)" in prepared.notes[0]
    with Store.open(prepared.path, background=False) as store:
        assert store.state(0).annotated.any()


@pytest.mark.parametrize(
    ("make", "error", "expected"),
    [
        (lambda folder: folder / "nothing", FileMissingError, "nothing is at"),
        (lambda folder: folder, FileFormatError, "holds no images"),
        (lambda folder: _written(folder / "x.h5", b"no HDF5"), FileFormatError, "x.h5"),
        (
            lambda folder: _written(folder / "x.mp4", b"no video"),
            FileFormatError,
            "x.mp4 cannot be read as a v",
        ),
        (lambda folder: _written(folder / "x.mp4", b""), FileFormatError, "x.mp4 cannot be read"),
        (lambda folder: _written(folder / "x.abc", b"abc"), FileFormatError, "no format that is"),
        (lambda folder: _written(folder / "x.png", b"no picture"), FileFormatError, "take it out"),
        (lambda folder: _written(folder / "x.png", b""), FileFormatError, "take it out"),
    ],
)
def test_what_cannot_be_labelled_says_why_and_leaves_nothing(tmp_path, make, error, expected):
    (tmp_path / "in").mkdir()
    source = make(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=expected):
        prepare_set(source)
    assert sorted(tmp_path.rglob("*")) == before


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_another_file_is_not_overwritten(picture_folder: Path, labels_file: Path) -> None:
    content = labels_file.read_bytes()
    with pytest.raises(OutputExistsError, match="choose another name"):
        prepare_set(picture_folder, labels_file)
    _written(picture_folder.with_name("pictures.labels.h5"), b"something else")
    with pytest.raises(OutputExistsError, match="choose another name"):
        prepare_set(picture_folder)
    assert labels_file.read_bytes() == content


def test_a_skeleton_for_a_set_that_has_one(labels_file, skeleton, tmp_path) -> None:
    assert prepare_set(labels_file, None, skeleton).path == labels_file
    with pytest.raises(ValidationError, match="it is another one"):
        prepare_set(labels_file, None, Skeleton(("a",)))
    _written(tmp_path / "bad.csv", b"name,parent,swap\na,b,\n")
    with pytest.raises(SkeletonError, match=r"bad\.csv"):
        prepare_set(labels_file, None, tmp_path / "bad.csv")


def test_looking_only_makes_nothing(picture_folder: Path) -> None:
    with pytest.raises(ValidationError, match="read-only makes none"):
        prepare_set(picture_folder, read_only=True)
    assert not picture_folder.with_name("pictures.labels.h5").exists()


def test_labels_among_images_are_not_left_out_unsaid(picture_folder: Path) -> None:
    (picture_folder / "CollectedData_anna.csv").write_text("scorer,anna")
    notes = prepare_set(picture_folder).notes
    assert "DeepLabCut" in notes[-1]
    assert "dpk annotate the project's config.yaml" in notes[-1]


def test_the_project_of_labels_among_images_is_named(picture_folder: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "labeled-data").mkdir(parents=True)
    (project / "config.yaml").write_text("Task: reaching")
    folder = picture_folder.rename(project / "labeled-data" / "mouse")
    (folder / "CollectedData_anna.csv").write_text("scorer,anna")
    assert f"dpk annotate {project / 'config.yaml'}" in prepare_set(folder).notes[-1]
