"""Annotation sets in HDF5: DeepPoseKit's files, ours, and everything that is wrong with a file."""

from __future__ import annotations

import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import (
    AnnotationSet,
    Poses,
    Skeleton,
    Source,
    read_annotations,
    write_annotations,
    write_poses,
)
from dpk_core.errors import (
    DpkError,
    FileFormatError,
    FileMissingError,
    OutputError,
    OutputExistsError,
    SkeletonError,
    ValidationError,
)
from dpk_core.services.storage import (
    append_annotations,
    describe,
    update_annotations,
)
from dpk_core.testing import check_dataset, dot_annotations


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "labels.h5"
    write_annotations(path, dot_annotations(6))
    return path


def same(a: AnnotationSet, b: AnnotationSet) -> bool:
    return (
        np.array_equal(a.images[:], b.images[:])
        and np.array_equal(a.keypoints, b.keypoints, equal_nan=True)
        and np.array_equal(a.annotated, b.annotated)
        and np.array_equal(a.visibility, b.visibility)
        and a.skeleton == b.skeleton
        and a.sources == b.sources
    )


names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(
    lambda name: name.strip() == name
)


@st.composite
def annotation_sets(draw):
    n, k = draw(st.integers(0, 4)), draw(st.integers(1, 4))
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.sampled_from([1, 3])))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    keypoints = rng.normal(0, 50, (n, k, 2))
    keypoints[rng.random((n, k)) < 0.3] = np.nan
    skeleton = Skeleton(
        draw(st.lists(names, min_size=k, max_size=k, unique=True)),
        [draw(st.integers(-1, i - 1)) for i in range(k)],
    )
    crops = st.none() | st.tuples(*[st.floats(-1e3, 1e3)] * 6)
    sources = [
        Source(draw(names), draw(st.integers(-1, 10**6)), draw(names), draw(crops))
        for _ in range(n)
    ]
    annotated = rng.random((n, k)) < 0.5
    # What is annotated has been seen or is hidden; see the test of labels made in DeepPoseKit.
    visibility = np.maximum(rng.integers(0, 3, (n, k)), annotated)
    images = rng.integers(0, 255, (n, *shape)).astype(np.uint8)
    return AnnotationSet(images, keypoints, skeleton, annotated, visibility, sources)


@given(annotation_sets())
@settings(max_examples=40, deadline=None)
def test_round_trip(tmp_path_factory, annotations):
    path = tmp_path_factory.mktemp("set") / "labels.h5"
    write_annotations(path, annotations)
    assert same(read_annotations(path), annotations)


def test_a_stored_set_keeps_the_dataset_contract(stored):
    check_dataset(read_annotations(stored))
    check_dataset(read_annotations(stored).labelled())


# -- DeepPoseKit ---------------------------------------------------------------------------------


def test_deepposekits_file_opens_unchanged(test_data):
    annotations = read_annotations(test_data / "fly" / "example_annotation_set.h5")
    assert repr(annotations) == "AnnotationSet(100 images 192x192x1, 32 keypoints, 0 labelled)"
    with h5py.File(test_data / "fly" / "example_annotation_set.h5") as file:
        assert np.array_equal(annotations.keypoints, file["annotations"][()])
        assert np.array_equal(annotations.images[[5, 3]], file["images"][()][[5, 3]])
        assert np.array_equal(annotations.skeleton.to_array(), file["skeleton"][()])
    assert annotations.skeleton.names[31] == "keypoint_31"


def test_deepposekits_file_can_be_appended_to(test_data, tmp_path):
    path = tmp_path / "fly.h5"
    shutil.copyfile(test_data / "fly" / "example_annotation_set.h5", path)
    with h5py.File(path, "r+") as file:
        file["notes"] = np.arange(3)
    before = read_annotations(path)
    append_annotations(path, before.subset([4, 2]))
    after = read_annotations(path)
    assert len(after) == 102
    assert np.array_equal(after.images[[100, 101]], before.images[[4, 2]])
    assert np.array_equal(after.images[7], before.images[7])
    with h5py.File(path) as file:
        assert file["notes"][()].tolist() == [0, 1, 2]


def test_our_files_have_what_deepposekit_reads(stored):
    """As its DataGenerator does: shapes, types and the expressions that it applies."""
    with h5py.File(stored) as file:
        assert file["images"].dtype == np.uint8
        assert file["images"].shape == (6, 48, 64, 1)
        assert file["annotations"].dtype == np.float64
        assert file["annotated"].dtype == bool
        assert np.all(file["annotated"][()], axis=1).shape == (6,)
        assert file["skeleton"][:, 0].dtype == np.int32
        assert file["skeleton_names"][()].tolist() == [b"body", b"left", b"right"]


@pytest.mark.parametrize("sentinel", [np.nan, -np.inf, -1, -999, -9999, -99999])
def test_sentinels_become_nan(stored, sentinel):
    with h5py.File(stored, "r+") as file:
        del file["visibility"]
        file["annotations"][2, 1] = sentinel
        file["annotations"][3, 1] = (-1, 7.5)  # real coordinates just outside the image
        file["annotations"][3, 2] = (-5, -5)
    annotations = read_annotations(stored)
    assert np.isnan(annotations.keypoints[2, 1]).all()
    assert annotations.visibility[2].tolist() == [2, 0, 2]
    assert annotations.keypoints[3, 1:].tolist() == [[-1, 7.5], [-5, -5]]


def test_files_without_names_annotated_or_channels(stored):
    with h5py.File(stored, "r+") as file:
        del file["skeleton_names"], file["annotated"]
        gray = file["images"][..., 0]
        del file["images"]
        file["images"] = gray
    annotations = read_annotations(stored)
    assert annotations.skeleton.names == ("keypoint_0", "keypoint_1", "keypoint_2")
    assert annotations.image_shape == (48, 64, 1)
    assert annotations.images[3].shape == (48, 64, 1)
    assert annotations.images[1:4].shape == (3, 48, 64, 1)
    assert annotations.annotated[0].all()
    assert not annotations.annotated[5].any()


def test_labels_made_in_deepposekit_are_visible(stored):
    """It knows no visibility: it writes `annotations` and `annotated` alone."""
    unlabelled = AnnotationSet(
        dot_annotations(6).images, np.full((6, 3, 2), np.nan), dot_annotations(6).skeleton
    )
    write_annotations(stored, unlabelled, overwrite=True)
    with h5py.File(stored, "r+") as file:
        file["annotations"][2] = 5.5
        file["annotated"][2] = True
    assert read_annotations(stored).visibility[2].tolist() == [2, 2, 2]
    assert read_annotations(stored).visibility[1].tolist() == [0, 0, 0]


# -- bad files -----------------------------------------------------------------------------------


def _spoil(path, key, value):
    with h5py.File(path, "r+") as file:
        del file[key]
        if value is not None:
            file[key] = value


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("images", None, FileFormatError, "has no 'images'; expected an annotation set, found"),
        ("annotations", None, FileFormatError, "has no 'annotations'"),
        ("annotations", np.zeros((6, 3)), FileFormatError, r"has the shape \(6, 3\); expected"),
        ("annotations", np.zeros((5, 3, 2)), FileFormatError, r"\(5, 3, 2\); expected \(6,"),
        ("annotations", np.zeros((6, 4, 2)), FileFormatError, "has 3 keypoints.*have 4"),
        ("images", np.zeros((6, 4, 4, 1), np.float32), FileFormatError, "are float32; expected"),
        ("images", np.zeros((6, 4), np.uint8), FileFormatError, r"expected \(n, height"),
        ("annotated", np.zeros((6, 2), bool), FileFormatError, "'annotated' has the shape"),
        ("skeleton", np.array([[1, -1], [0, -1], [-1, -1]]), SkeletonError, "cycle"),
        ("skeleton", np.array([[9, -1], [0, -1], [-1, -1]]), SkeletonError, "parent index 9"),
        ("skeleton_names", np.array([b"a", b"a", b"b"]), SkeletonError, "'a' stands twice"),
        ("skeleton_names", np.array([b"a", b"b"]), FileFormatError, "has 2 keypoints.*have 3"),
        ("skeleton", np.full((3, 2), np.nan), FileFormatError, "not whole; expected indices"),
        ("annotations", np.full((6, 3, 2), b"x"), FileFormatError, "annotations: expected float64"),
        ("visibility", np.full((6, 3), 9), FileFormatError, "expected 0, 1 or 2, found 9"),
        ("source_frame", np.arange(5), FileFormatError, r"\(5,\); expected \(6,\)"),
    ],
)
def test_bad_content(stored, key, value, error, message):
    _spoil(stored, key, value)
    with pytest.raises(error, match=message) as caught:
        read_annotations(stored)
    assert "labels.h5" in str(caught.value)


def test_bad_files(tmp_path, stored):
    with pytest.raises(FileMissingError, match="no file at"):
        read_annotations(tmp_path / "absent.h5")
    with pytest.raises(FileFormatError, match="is a folder"):
        read_annotations(tmp_path)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(FileFormatError, match="is empty"):
        read_annotations(tmp_path / "empty.h5")
    (tmp_path / "text.h5").write_text("name,parent\n")
    with pytest.raises(FileFormatError, match="not HDF5"):
        read_annotations(tmp_path / "text.h5")
    cut = tmp_path / "cut.h5"
    cut.write_bytes(stored.read_bytes()[: stored.stat().st_size // 2])
    with pytest.raises(FileFormatError, match="cut short"):
        read_annotations(cut)
    with h5py.File(stored, "r+") as file:
        file.attrs["dpk_format_version"] = 99
    with pytest.raises(FileFormatError, match=r"newer dpk.*pip install -U dpk-core"):
        read_annotations(stored)


def test_what_is_no_annotation_set_cannot_be_changed(tmp_path):
    path = tmp_path / "poses.h5"
    write_poses(path, Poses(np.zeros((1, 3, 2)), np.ones((1, 3)), dot_annotations(1).skeleton))
    before = path.read_bytes()
    with pytest.raises(FileFormatError, match="expected an annotation set"):
        append_annotations(path, dot_annotations(1))
    assert path.read_bytes() == before


def test_sources_may_be_known_in_part(stored):
    with h5py.File(stored, "r+") as file:
        del file["source_crop"], file["source_individual"]
    before = read_annotations(stored).sources
    assert before[3] == Source("dots.mp4", dot_annotations(6).sources[3].frame)
    append_annotations(stored, dot_annotations(1))
    assert read_annotations(stored).sources[:6] == before


def test_images_that_cannot_be_read_are_the_files_fault(stored):
    annotations = read_annotations(stored)
    annotations.images.close()
    with h5py.File(stored, "r+") as file:  # compressed images whose third one is no such thing
        images = file["images"][()]
        del file["images"]
        stored_images = file.create_dataset(
            "images", data=images, chunks=(1, 48, 64, 1), compression="gzip"
        )
        stored_images.id.write_direct_chunk((2, 0, 0, 0), b"not compressed")
    assert annotations.images[1].shape == (48, 64, 1)
    with pytest.raises(FileFormatError, match=r"labels\.h5 is damaged"):
        annotations.images[2]


# -- writing -------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unasked(stored):
    before = stored.read_bytes()
    with pytest.raises(OutputExistsError, match="--force"):
        write_annotations(stored, dot_annotations(2))
    assert stored.read_bytes() == before
    write_annotations(stored, dot_annotations(2), overwrite=True)
    assert len(read_annotations(stored)) == 2


def test_a_missing_folder_and_a_folder_in_the_way(tmp_path):
    with pytest.raises(OutputError, match="is not there; make it first"):
        write_annotations(tmp_path / "no" / "labels.h5", dot_annotations(1))
    with pytest.raises(OutputError, match="is a folder"):
        write_annotations(tmp_path, dot_annotations(1), overwrite=True)


def test_append_and_update(stored):
    before = read_annotations(stored)
    append_annotations(stored, dot_annotations(3, seed=5))
    update_annotations(
        stored,
        [7, 0],
        keypoints=np.full((2, 3, 2), 4.5),
        annotated=np.array([[1, 1, 0], [0, 1, 1]], bool),
        visibility=np.full((2, 3), 1),
    )
    after = read_annotations(stored)
    assert len(after) == 9
    assert (after.keypoints[[0, 7]] == 4.5).all()
    assert after.annotated[7].tolist() == [True, True, False]
    assert (after.visibility[0] == 1).all()
    assert np.array_equal(after.keypoints[1:5], before.keypoints[1:5], equal_nan=True)
    assert np.array_equal(after.images[6], dot_annotations(3, seed=5).images[0])


def test_a_first_coordinate_makes_a_keypoint_visible(stored):
    keypoints = read_annotations(stored).keypoints[:2]
    update_annotations(stored, [0, 1], visibility=[[1, 0, 0]] * 2, annotated=np.zeros((2, 3)))
    keypoints[1, 2] = np.nan
    update_annotations(stored, np.arange(6) < 2, keypoints=keypoints)
    assert read_annotations(stored).visibility[:2].tolist() == [[1, 2, 2], [1, 2, 0]]


def test_names_of_videos_may_be_any_bytes(tmp_path):
    source = Source(os.fsdecode(b"caf\xe9/\xc3\xa9.mp4"), 3, "Ω", (1, 0, -4, 0, 1, 2.5))
    one = dot_annotations(1)
    annotations = AnnotationSet(one.images, one.keypoints, one.skeleton, sources=(source,))
    write_annotations(tmp_path / "a.h5", annotations)
    append_annotations(tmp_path / "a.h5", annotations)
    assert read_annotations(tmp_path / "a.h5").sources == (source, source)


def test_refused_changes_leave_the_file_as_it_was(stored):
    before = stored.read_bytes()
    with pytest.raises(ValidationError, match="images are 48x64x1, the new ones 48x64x3"):
        append_annotations(stored, dot_annotations(1, channels=3))
    other = AnnotationSet(np.zeros((1, 48, 64, 1), np.uint8), np.zeros((1, 1, 2)), Skeleton(("x",)))
    with pytest.raises(ValidationError, match="keypoints body, left, right; the new images have x"):
        append_annotations(stored, other)
    with pytest.raises(ValidationError, match="unique numbers from 0 to 5"):
        update_annotations(stored, [6], annotated=np.ones((1, 3), bool))
    with pytest.raises(ValidationError, match="keypoints: expected shape"):
        update_annotations(stored, [0], keypoints=np.ones((1, 2, 2)))
    with pytest.raises(ValidationError, match="visibility: expected 0, 1 or 2, found 7"):
        update_annotations(stored, [0], visibility=np.full((1, 3), 7))
    with pytest.raises(ValidationError, match="unique numbers"):
        update_annotations(stored, [0.5], annotated=np.ones((1, 3), bool))
    with pytest.raises(FileMissingError):
        append_annotations(stored.with_name("absent.h5"), dot_annotations(1))
    assert stored.read_bytes() == before
    assert [p.name for p in stored.parent.iterdir() if ".partial" in p.name] == []


def test_an_open_set_goes_on_reading_what_it_opened(stored):
    opened = read_annotations(stored)
    first = opened.images[0].copy()
    write_annotations(stored, dot_annotations(6, seed=9), overwrite=True)
    assert np.array_equal(opened.images[0], first)
    assert not np.array_equal(read_annotations(stored).images[0], first)


def test_images_are_read_by_threads_and_copied_between_processes(stored):
    images = read_annotations(stored).images
    expected = dot_annotations(6).images
    with ThreadPoolExecutor(4) as pool:
        for i, image in enumerate(pool.map(lambda i: images[i % 6], range(60))):
            assert np.array_equal(image, expected[i % 6])
    assert np.array_equal(pickle.loads(pickle.dumps(images))[2], expected[2])


@pytest.mark.parametrize(
    "rows", [3, -1, slice(None, None, -2), slice(4, 1), [5, 0, 5], [], np.arange(6) % 2 == 0]
)
def test_images_are_indexed_as_an_array(stored, rows):
    expected = dot_annotations(6).images[rows]
    assert np.array_equal(read_annotations(stored).images[rows], expected)


def test_images_are_found_from_another_working_directory(stored, tmp_path, monkeypatch):
    monkeypatch.chdir(stored.parent)
    images = read_annotations(stored.name).images
    images.close()
    monkeypatch.chdir(tmp_path.parent)
    assert images[5].shape == (48, 64, 1)


def test_images_that_changed_before_they_were_opened_are_not_mixed_up(stored):
    sent = pickle.dumps(read_annotations(stored).images)
    append_annotations(stored, dot_annotations(1))
    assert len(pickle.loads(sent)) == 6
    write_annotations(stored, dot_annotations(2), overwrite=True)
    with pytest.raises(FileFormatError, match="has changed since it was opened"):
        pickle.loads(sent)[0]
    stored.unlink()
    with pytest.raises(FileFormatError, match=r"labels\.h5"):
        pickle.loads(sent)


def test_where_open_files_cannot_be_replaced_none_stays_open(stored, monkeypatch):
    """As on Windows."""
    monkeypatch.setattr("dpk_core.services.storage.stored_images._KEEP_OPEN", False)
    images = read_annotations(stored).images
    assert np.array_equal(images[2:4], dot_annotations(6).images[2:4])
    with h5py.File(stored, "r+", locking=True):  # refused while any handle is open
        pass


def test_describe(stored, test_data):
    facts = describe(stored)
    assert facts["kind"] == "annotations"
    assert facts["videos"] == ["dots.mp4"]
    assert describe(test_data / "fly" / "example_annotation_set.h5")["one-sided swaps"]


@pytest.mark.parametrize("kind", ["external link", "soft link", "virtual data", "external data"])
def test_nothing_outside_of_the_file_is_read(tmp_path, kind):
    path, secret = tmp_path / "set.h5", tmp_path / "secret.h5"
    write_annotations(path, dot_annotations(4))
    write_annotations(secret, dot_annotations(4, seed=1))
    with h5py.File(path, "r+") as file:
        shape = file["annotations"].shape
        del file["annotations"]
        if kind == "external link":
            file["annotations"] = h5py.ExternalLink("secret.h5", "annotations")
        elif kind == "soft link":
            file["annotations"] = h5py.SoftLink("/images")
        elif kind == "virtual data":
            layout = h5py.VirtualLayout(shape, np.float64)
            layout[:] = h5py.VirtualSource(str(secret), "annotations", shape)
            file.create_virtual_dataset("annotations", layout)
        else:
            raw = [(str(secret), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("annotations", shape, np.float64, external=raw)
    with pytest.raises(
        FileFormatError, match=r"set\.h5: .*'annotations'.*(not followed|not opened)"
    ):
        read_annotations(path)


def test_a_damaged_root_is_said_of_the_file(tmp_path):
    path = tmp_path / "set.h5"
    write_annotations(path, dot_annotations(4))
    content = bytearray(path.read_bytes())
    told = []
    for place in range(400):
        broken = tmp_path / "broken.h5"
        broken.write_bytes(content[:place] + bytes([255]) + content[place + 1 :])
        try:
            read_annotations(broken)
        except DpkError as error:
            told.append(str(error))
    assert len(told) > 20
    assert all("broken.h5" in text for text in told)
