"""Merging whole sets: by name and content, nothing lost unsaid."""

from __future__ import annotations

import os

import attrs
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dpk_core import AnnotationSet, Skeleton, Source, read_annotations, write_annotations
from dpk_core.cli.app import app
from dpk_core.errors import FileMissingError, OutputExistsError, ValidationError
from dpk_core.testing import dot_annotations
from dpk_core.workflow.merge import merge_sets


@pytest.fixture
def put(tmp_path):
    """``put(name, set)`` writes a set and gives its path."""

    def write(name, annotations):
        write_annotations(tmp_path / name, annotations)
        return tmp_path / name

    return write


def dpk(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], prog_name="dpk")


def test_keypoints_come_together_by_name_and_images_by_content(put, tmp_path):
    first = dot_annotations(4)
    reordered = Skeleton(("tail", *reversed(first.skeleton.names[1:])))
    images = np.concatenate([np.asarray(first.images)[[2, 0]], dot_annotations(1, seed=9).images])
    keypoints = np.full((3, 3, 2), np.nan)
    keypoints[:, 0] = (7, 8)
    keypoints[:2, 1:] = first.keypoints[[2, 0]][:, [2, 1]]
    second = AnnotationSet(images, keypoints, reordered)
    result = merge_sets([put("a.h5", first), put("b.h5", second)], tmp_path / "c.h5")
    merged = read_annotations(result.output)
    assert (result.images, result.new, result.n_images) == ((4, 3), (4, 1), 5)
    assert merged.skeleton.names == (*first.skeleton.names, "tail")
    np.testing.assert_array_equal(merged.images[:4], first.images)
    np.testing.assert_array_equal(merged.images[4], images[2])
    np.testing.assert_array_equal(merged.keypoints[:4, :3], first.keypoints)
    assert np.isnan(merged.keypoints[[1, 3], 3]).all()
    assert (merged.keypoints[[0, 2, 4], 3] == (7, 8)).all()
    assert (result.filled, result.conflicts) == (2, ())
    assert any("b.h5 has no" in note and first.skeleton.names[0] in note for note in result.notes)


def test_what_would_become_of_it_is_found_without_writing(put, tmp_path):
    paths = _differing(put)[2]
    expected = merge_sets(paths, tmp_path / "c.h5", prefer="second")
    found = merge_sets(paths, tmp_path / "c.h5", prefer="second", dry_run=True)
    assert found == expected
    assert not merge_sets(paths, tmp_path / "d.h5", dry_run=True).output.exists()


def _differing(put):
    """Two sets that differ by (3, 4) pixels in one keypoint, and by visibility in another."""
    first = dot_annotations(3)
    keypoints, visibility = first.keypoints.copy(), first.visibility.copy()
    keypoints[1, 2] += (3, 4)
    keypoints[0, 0] += 0.3  # less than the tolerance
    visibility[0, 1] = 1
    second = attrs.evolve(first, keypoints=keypoints, visibility=visibility)
    return first, second, [put("a.h5", first), put("b.h5", second)]


@pytest.mark.parametrize("prefer", [None, "first", "second", "newest"])
def test_a_conflict_is_listed_and_settled_as_asked(put, tmp_path, prefer):
    first, second, paths = _differing(put)
    os.utime(paths[0], ns=(1, 2 * 10**18))
    os.utime(paths[1], ns=(1, 10**18))
    result = merge_sets(paths, tmp_path / "c.h5", prefer=prefer)
    names = first.skeleton.names
    hidden, moved = result.conflicts
    assert (moved.row, moved.keypoint, moved.first, moved.second) == (1, names[2], (0, 1), (1, 1))
    assert moved.distance == pytest.approx(5.0)
    assert (hidden.row, hidden.keypoint, hidden.distance) == (0, names[1], 0.0)
    kept = second if prefer == "second" else first
    merged = read_annotations(result.output)
    np.testing.assert_array_equal(merged.keypoints[1], kept.keypoints[1])
    np.testing.assert_array_equal(merged.visibility, kept.visibility)
    assert {c.kept[0] for c in result.conflicts} == {int(prefer == "second")}


def test_newest_is_the_file_that_was_changed_last(put, tmp_path):
    _, second, paths = _differing(put)
    os.utime(paths[0], ns=(1, 10**18))
    os.utime(paths[1], ns=(1, 2 * 10**18))
    merged = read_annotations(merge_sets(paths, tmp_path / "c.h5", prefer="newest").output)
    np.testing.assert_array_equal(merged.keypoints[1], second.keypoints[1])


def test_strict_writes_nothing_where_labels_differ(put, tmp_path):
    _, _, paths = _differing(put)
    with pytest.raises(
        ValidationError, match=r"2 labels .*\n.*\n.*a.h5 row 1 and .*b.h5 row 1, 5.0"
    ):
        merge_sets(paths, tmp_path / "c.h5", strict=True)
    assert not (tmp_path / "c.h5").exists()
    assert merge_sets(paths, tmp_path / "c.h5", strict=True, prefer="second").n_images == 3


def test_one_that_cannot_be_placed_differs_from_one_that_is(put, tmp_path):
    first = dot_annotations(1)
    keypoints = first.keypoints.copy()
    keypoints[0, 1] = np.nan
    second = attrs.evolve(first, keypoints=keypoints, annotated=np.ones((1, 3), bool))
    result = merge_sets([put("a.h5", first), put("b.h5", second)], tmp_path / "c.h5")
    (conflict,) = result.conflicts
    assert np.isnan(conflict.distance)
    assert np.isfinite(read_annotations(result.output).keypoints).all()


def test_a_label_is_worth_more_than_a_guess_and_lost_guesses_are_told(put, tmp_path):
    truth = dot_annotations(2)
    guess = attrs.evolve(
        truth, keypoints=truth.keypoints + 9, annotated=np.zeros((2, 3), bool),
        visibility=np.zeros((2, 3), np.uint8),
    )  # fmt: skip
    partly = np.array([[True] * 3, [False] * 3])
    second = attrs.evolve(truth, annotated=partly)
    result = merge_sets([put("a.h5", guess), put("b.h5", second)], tmp_path / "c.h5")
    merged = read_annotations(result.output)
    np.testing.assert_array_equal(merged.annotated, partly)
    np.testing.assert_array_equal(merged.keypoints[0], truth.keypoints[0])
    np.testing.assert_array_equal(merged.keypoints[1], guess.keypoints[1])
    assert result.conflicts == ()
    assert result.filled == 3
    assert any(note.startswith("3 keypoints have two different guesses") for note in result.notes)


def test_sizes_are_padded_and_padding_is_no_content(put, tmp_path):
    small = attrs.evolve(dot_annotations(2, size=(40, 60)), sources=None)
    padded = np.zeros((2, 64, 64, 1), np.uint8)
    padded[:, :40, :60] = small.images
    large = AnnotationSet(
        np.concatenate([padded, dot_annotations(1, size=(64, 64), seed=4).images]),
        np.concatenate([small.keypoints, [[[1.0, 1], [2, 2], [3, 3]]]]),
        small.skeleton,
        sources=(Source("a.mp4", 1, size=(40, 60)), Source("a.mp4", 2, size=(40, 60)), Source()),
    )
    result = merge_sets([put("a.h5", small), put("b.h5", large)], tmp_path / "c.h5")
    merged = read_annotations(result.output)
    assert (result.new, merged.image_shape) == ((2, 1), (64, 64, 1))
    np.testing.assert_array_equal(merged.images[:], large.images)
    assert [source.size for source in merged.sources] == [(40, 60), (40, 60), None]
    assert [source.frame for source in merged.sources] == [1, 2, -1]  # the second set knew
    np.testing.assert_array_equal(merged.keypoints[:2], small.keypoints)
    back = merge_sets([result.output, tmp_path / "a.h5"], tmp_path / "d.h5")
    assert (back.n_images, back.filled, back.conflicts) == (3, 0, ())


def test_gray_images_are_the_same_in_colour(put, tmp_path):
    gray = dot_annotations(2)
    colour = attrs.evolve(gray, images=np.repeat(np.asarray(gray.images), 3, axis=3))
    result = merge_sets([put("a.h5", gray), put("b.h5", colour)], tmp_path / "c.h5")
    assert (result.n_images, read_annotations(result.output).image_shape[2]) == (2, 3)
    assert "gray images were stored as colour" in result.notes


def test_animals_that_share_a_frame_stay_apart(put, tmp_path):
    one = dot_annotations(1)
    images = np.concatenate([one.images] * 2)
    keypoints = np.concatenate([one.keypoints, one.keypoints + 3])
    sources = (Source("a.mp4", 5, "female"), Source("a.mp4", 5, "male"))
    both = AnnotationSet(images, keypoints, one.skeleton, sources=sources)
    result = merge_sets([put("a.h5", both), put("b.h5", both.subset([1, 0]))], tmp_path / "c.h5")
    merged = read_annotations(result.output)
    assert (len(merged), result.conflicts) == (2, ())
    np.testing.assert_array_equal(merged.keypoints, keypoints)
    assert merged.sources == sources


def test_names_of_videos_lead_there_from_the_new_place(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "one" / "a.mp4").write_bytes(b"film")
    first = attrs.evolve(dot_annotations(1), sources=(Source("a.mp4", 3),))
    second = attrs.evolve(dot_annotations(1, seed=5), sources=(Source("gone.mp4", 4),))
    write_annotations(tmp_path / "one" / "a.h5", first)
    write_annotations(tmp_path / "one" / "b.h5", second)
    paths = [tmp_path / "one" / name for name in ("a.h5", "b.h5")]
    result = merge_sets(paths, tmp_path / "two" / "c.h5")
    videos = [source.video for source in read_annotations(result.output).sources]
    assert videos == ["../one/a.mp4", "gone.mp4"]
    assert any("videos that are not there: gone.mp4" in note for note in result.notes)
    assert not any("not there: a.mp4" in note for note in result.notes)


def test_what_other_programs_keep_in_a_file_is_told_of(put, tmp_path):
    paths = [put("a.h5", dot_annotations(1)), put("b.h5", dot_annotations(1, seed=2))]
    with h5py.File(paths[1], "r+") as file:
        file["diary"] = [1, 2]
    notes = merge_sets(paths, tmp_path / "c.h5").notes
    assert [note for note in notes if "diary" in note] == [
        f"{paths[1]} has more than labels, which was not taken: diary"
    ]


def test_other_connections_of_a_keypoint_are_told_of(put, tmp_path):
    one = dot_annotations(1)
    a, b, c = one.skeleton.names
    other = Skeleton.from_rows([(a, b, None), (b, None, None), (c, b, None)])
    assert other.to_rows() != one.skeleton.to_rows()
    paths = [put("a.h5", one), put("b.h5", attrs.evolve(one, skeleton=other))]
    result = merge_sets(paths, tmp_path / "c.h5")
    assert read_annotations(result.output).skeleton == one.skeleton
    assert any("connects or swaps" in note for note in result.notes)


def test_an_input_can_be_the_output_only_when_asked(put, tmp_path):
    paths = [put("a.h5", dot_annotations(2)), put("b.h5", dot_annotations(1, seed=3))]
    before = paths[0].read_bytes()
    with pytest.raises(OutputExistsError):
        merge_sets(paths, paths[0])
    assert paths[0].read_bytes() == before
    merge_sets(paths, paths[0], overwrite=True)
    np.testing.assert_array_equal(
        read_annotations(paths[0]).images[:],
        np.concatenate([dot_annotations(2).images, dot_annotations(1, seed=3).images]),
    )


def test_sets_that_have_nothing_in_common_are_refused(put, tmp_path):
    first = dot_annotations(2)
    second = attrs.evolve(dot_annotations(2, seed=8), skeleton=Skeleton(("x", "y", "z")))
    paths = [put("a.h5", first), put("b.h5", second)]
    with pytest.raises(
        ValidationError, match=r"neither a keypoint nor an image in common.*x, y, z"
    ):
        merge_sets(paths, tmp_path / "c.h5")
    # who labels other keypoints of the same images shares the work
    shared = put("d.h5", attrs.evolve(first, skeleton=Skeleton(("x", "y", "z"))))
    merged = read_annotations(merge_sets([paths[0], shared], tmp_path / "c.h5").output)
    np.testing.assert_array_equal(merged.keypoints[:, 3:], first.keypoints)


def test_sets_without_labels_or_without_images(put, tmp_path):
    blank = attrs.evolve(
        dot_annotations(2, seed=6), keypoints=np.full((2, 3, 2), np.nan), annotated=None,
        visibility=None,
    )  # fmt: skip
    empty = dot_annotations(2).subset([])
    paths = [put("a.h5", blank), put("b.h5", dot_annotations(2)), put("c.h5", empty)]
    result = merge_sets(paths, tmp_path / "d.h5")
    merged = read_annotations(result.output)
    assert (result.new, merged.n_labelled) == ((2, 2, 0), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ["a.h5"]}, "two sets or more, found 1"),
        ({"prefer": "oldest"}, "first, second, newest; found 'oldest'"),
        ({"tolerance": float("nan")}, "pixels from 0"),
    ],
)
def test_wrong_arguments(put, tmp_path, change, message):
    inputs = [put("a.h5", dot_annotations(1)), put("b.h5", dot_annotations(1))]
    with pytest.raises(ValidationError, match=message):
        merge_sets(**{"inputs": inputs, "output": tmp_path / "c.h5", **change})
    assert not (tmp_path / "c.h5").exists()


def test_a_missing_set_and_other_channels(put, tmp_path):
    path = put("a.h5", dot_annotations(1))
    with pytest.raises(FileMissingError):
        merge_sets([path, tmp_path / "no.h5"], tmp_path / "c.h5")
    four = attrs.evolve(dot_annotations(1), images=np.zeros((1, 48, 64, 4), np.uint8))
    with pytest.raises(ValidationError, match=r"b\.h5: 4"):
        merge_sets([path, put("b.h5", four)], tmp_path / "c.h5")


rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), min_size=1, max_size=6)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(rows, rows)
def test_every_label_is_in_the_output_or_in_a_conflict(tmp_path_factory, first, second):
    """Whatever two people labelled of the same five images, keypoint by keypoint."""
    folder = tmp_path_factory.mktemp("merge")
    truth = dot_annotations(5)
    sets = []
    for number, chosen in enumerate((first, second)):
        part = truth.subset([i for i, _ in chosen])
        keypoints = part.keypoints.copy()
        for i, (_, code) in enumerate(chosen):
            for j in range(3):
                keypoints[i, j] = np.nan if code >> j & 1 else keypoints[i, j] + 2 * number
        sets.append(attrs.evolve(part, keypoints=keypoints, annotated=None, visibility=None))
        write_annotations(folder / f"{number}.h5", sets[-1])
    result = merge_sets([folder / "0.h5", folder / "1.h5"], folder / "c.h5")
    merged = read_annotations(result.output)
    images = [np.asarray(image).tobytes() for image in merged.images[:]]
    assert len(set(images)) == len(images) == len({i for i, _ in first + second})
    names = truth.skeleton.names
    told = {(place, c.keypoint) for c in result.conflicts for place in (c.first, c.second)}
    for number, one in enumerate(sets):
        for i in range(len(one)):
            row = images.index(np.asarray(one.images[i]).tobytes())
            for j in np.flatnonzero(one.annotated[i]):
                same = np.allclose(merged.keypoints[row, j], one.keypoints[i, j])
                assert same or ((number, i), names[j]) in told


def test_the_command_lists_conflicts(put, tmp_path):
    first, _, (a, b) = _differing(put)
    result = dpk("merge", a, b, "-o", tmp_path / "c.h5")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split("\t") == ["file", "row", "keypoint", "difference", "kept"]
    assert lines[3].split("\t") == [str(a), "1", first.skeleton.names[2], "5.0 px", "kept"]
    assert lines[1].split("\t")[2:] == [first.skeleton.names[1], "hidden in one", "kept"]
    assert lines[4].split("\t")[:4] == [str(b), "1", first.skeleton.names[2], "5.0 px"]
    assert "3 images" in lines[-1]
    refused = dpk("merge", a, b, "-o", tmp_path / "d.h5", "--strict")
    assert refused.exit_code == 1
    assert "2 labels of the same image differ" in refused.output
    assert not (tmp_path / "d.h5").exists()
