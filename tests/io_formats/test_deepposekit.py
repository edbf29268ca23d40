"""DeepPoseKit's HDF5: laid out as its own files are, and refused with a reason."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.services.formats import identify
from dpk_core.services.storage import write_annotations
from dpk_core.skeleton import Skeleton
from dpk_core.testing import check_dataset, dot_annotations
from dpk_core.testing.formats import check_format
from dpk_io_formats.deepposekit import DeepPoseKitFormat


def read(path, **options):
    return DeepPoseKitFormat().read(path, **options)


def write(path, labels, report=None):
    DeepPoseKitFormat().write(path, labels, report=report)
    return path


@pytest.fixture
def theirs(tmp_path):
    """A file as DeepPoseKit's Annotator leaves it, with one bright pixel labelled."""
    path = tmp_path / "labels.h5"
    images = np.zeros((3, 12, 16, 1), np.uint8)
    images[0, 5, 9] = 255
    keypoints = np.full((3, 2, 2), -1.0)
    keypoints[0] = [[9, 5], [3.5, 2.25]]
    keypoints[1, 0] = -99999
    keypoints[2] = [[-5, 400], [np.nan, np.nan]]
    with h5py.File(path, "w") as file:
        file["images"] = images
        file["annotations"] = keypoints
        file["annotated"] = np.array([[True, True], [True, False], [False, False]])
        file["skeleton"] = np.array([[-1, -1], [0, -1]], np.int32)
    return path


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def test_a_painted_dot_lies_at_its_label(theirs):
    labels = read(theirs)
    x, y = labels.keypoints[0, 0]
    assert labels.images[0][int(y), int(x)] == 255
    assert np.isnan(labels.keypoints[1]).all()
    assert labels.keypoints[2, 0].tolist() == [-5, 400]
    assert labels.annotated.tolist() == [[True, True], [True, False], [False, False]]
    assert labels.skeleton.names == ("keypoint_0", "keypoint_1")
    check_dataset(labels)


def test_keeps_its_contract():
    check_format("deepposekit")


def test_ours_and_theirs_are_told_apart(theirs, tmp_path):
    write_annotations(tmp_path / "ours.h5", dot_annotations(3))
    assert identify(theirs).spec.name == "deepposekit"
    assert identify(tmp_path / "ours.h5").spec.name == "dpk"
    assert not DeepPoseKitFormat().sniff(tmp_path)


def test_the_layout_is_that_of_a_real_file(test_data, tmp_path):
    """Types, ranks, storage and the skeleton of DeepPoseKit's published example."""
    real = test_data / "fly" / "example_annotation_set.h5"
    named = read(real, skeleton=test_data / "fly" / "skeleton.csv")
    assert named.skeleton.names[0] == "head"
    labels = read(real)
    report = LossReport()
    written = write(tmp_path / "again.h5", labels, report)
    with h5py.File(real) as a, h5py.File(written) as b:
        assert set(b) == {*a, "skeleton_names"}
        assert not b.attrs
        for key in a:
            assert (b[key].dtype, b[key].shape) == (a[key].dtype, a[key].shape), key
            assert b[key].chunks is None
            assert b[key].compression is None
            assert np.array_equal(a[key][()], b[key][()]), key
    assert not report


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 5),
    k=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_theirs_and_back(tmp_path_factory, seed, n, k, channels):
    """DeepPoseKit -> ours -> DeepPoseKit: nothing changes."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("deepposekit")
    keypoints = rng.normal(10, 30, (n, k, 2))
    keypoints[rng.random((n, k)) < 0.2] = -99999
    parents = [-1, *(int(rng.integers(-1, i)) for i in range(1, k))]
    columns = {
        "images": rng.integers(0, 256, (n, 6, 7, channels), dtype=np.uint8),
        "annotations": keypoints,
        "annotated": rng.random((n, k)) < 0.5,
        "skeleton": np.stack([parents, rng.integers(-1, k, k)], axis=1).astype(np.int32),
        "skeleton_names": np.array([f"käse{i}".encode() for i in range(k)]),
    }
    with h5py.File(folder / "a.h5", "w") as file:
        file.update(columns)
    report = LossReport()
    write(folder / "b.h5", read(folder / "a.h5", report=report), report)
    with h5py.File(folder / "b.h5") as file:
        assert set(file) == set(columns)
        for key, values in columns.items():
            assert np.array_equal(file[key][()], values), key
            assert file[key].dtype == values.dtype
    assert not report


def test_losses_of_writing(tmp_path):
    skeleton = Skeleton(("a", "b"))
    labels = AnnotationSet(
        np.zeros((2, 8, 8, 1), np.uint8),
        np.array([[[1.0, 2], [-1, -1]], [[3, 4], [np.nan, np.nan]]]),
        skeleton,
        visibility=np.array([[1, 2], [0, 0]]),
        sources=(Source("a.mp4", 3, "anna", (1, 0, -2, 0, 1, 0)), Source(size=(4, 8))),
    )
    report = LossReport()
    again = read(write(tmp_path / "a.h5", labels, report))
    assert {loss.what: loss.count for loss in report} == {
        "visibilities": 1, "keypoints": 1, "videos and frame numbers": 1, "identities": 1,
        "positions of crops": 1, "image sizes": 1,
    }  # fmt: skip
    assert again.visibility.tolist() == [[2, 0], [2, 0]]
    with pytest.raises(DpkError, match="exists already"):
        write(tmp_path / "a.h5", labels)


# -- bad input ------------------------------------------------------------------------------------


def test_links_are_not_followed(theirs, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["annotated"] = np.ones((3, 2), bool)
        file["source_video"] = np.array([b"x"] * 3)

    def external(file):
        del file["annotated"]
        file["annotated"] = h5py.ExternalLink("secret.h5", "/annotated")

    edit(theirs, external)
    assert not DeepPoseKitFormat().sniff(theirs)
    with pytest.raises(FileFormatError, match="'annotated' is a link to elsewhere"):
        read(theirs)

    def soft(file):
        del file["annotated"]
        file["annotated"] = np.ones((3, 2), bool)
        file["source_video"] = h5py.ExternalLink("secret.h5", "/source_video")

    with pytest.raises(FileFormatError, match="'source_video' is a link to elsewhere"):
        read(edit(theirs, soft))


def test_data_in_other_files_are_not_read(theirs, tmp_path):
    (tmp_path / "raw").write_bytes(bytes(6))

    def raw(file):
        del file["annotated"]
        file.create_dataset("annotated", (3, 2), "?", external=[("raw", 0, 6)])

    with pytest.raises(FileFormatError, match="'annotated' lie in other files"):
        read(edit(theirs, raw))

    def virtual(file):
        del file["annotated"]
        layout = h5py.VirtualLayout((3, 2), "?")
        layout[:] = h5py.VirtualSource("secret.h5", "annotated", (3, 2))
        file.create_virtual_dataset("annotated", layout)

    with pytest.raises(FileFormatError, match="'annotated' lie in other files"):
        read(edit(theirs, virtual))


def test_what_is_no_annotation_set(theirs, tmp_path):
    def without(file):
        del file["images"]

    with pytest.raises(FileFormatError, match="no 'images'"):
        read(edit(theirs, without))
    for content, match in [
        (b"", "is empty"),
        (b"hello", "not HDF5"),
        (b"\x89HDF\r\n\x1a\n", "cut"),
    ]:
        (tmp_path / "x.h5").write_bytes(content)
        assert not DeepPoseKitFormat().sniff(tmp_path / "x.h5")
        with pytest.raises(FileFormatError, match=match):
            read(tmp_path / "x.h5")
    with pytest.raises(FileMissingError):
        read(tmp_path / "absent.h5")


def test_skeletons_that_cannot_be(theirs, tmp_path):
    def twice(file):
        file["skeleton_names"] = np.array([b"nose", b"nose"])

    with pytest.raises(DpkError, match=r"labels\.h5.*'nose' stands twice"):
        read(edit(theirs, twice))

    def cycle(file):
        del file["skeleton_names"]
        file["skeleton"][...] = [[1, -1], [0, -1]]

    with pytest.raises(DpkError, match="cycle"):
        read(edit(theirs, cycle))
    csv = tmp_path / "skeleton.csv"
    csv.write_text("name,parent,swap\nnose,,\n")
    with pytest.raises(FileFormatError, match=r"1 keypoints.*has 2"):
        read(edit(theirs, lambda file: file["skeleton"].write_direct(-np.ones((2, 2), np.int32))),
             skeleton=csv)  # fmt: skip


def test_more_than_labels_is_counted(theirs):
    report = LossReport()
    read(edit(theirs, lambda file: file.update({"notes": [1], "more": [2]})), report=report)
    assert {loss.what: loss.count for loss in report} == {"datasets": 2}


def test_unknown_options(theirs):
    with pytest.raises(ValidationError, match="no options colour"):
        read(theirs, colour=1)
    with pytest.raises(ValidationError, match="reads annotations"):
        read(theirs, kind="poses")


def test_a_damaged_root(theirs):
    """The file opens, but its first group is none: byte 112 says what kind of object it is."""
    content = bytearray(theirs.read_bytes())
    content[112] = 255
    theirs.write_bytes(content)
    assert not DeepPoseKitFormat().sniff(theirs)
    with pytest.raises(FileFormatError, match="is damaged"):
        read(theirs)


def test_damaged_files_are_refused_or_read(theirs, damaged):
    for content in damaged(theirs.read_bytes(), 150, seed=2):
        theirs.write_bytes(content)
        DeepPoseKitFormat().sniff(theirs)
        try:
            labels = read(theirs)
            image = labels.images[0]
        except DpkError:
            continue
        assert image.shape == labels.image_shape
