"""Merging annotation sets: by name and by content, and no label is lost."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core import AnnotationSet, Skeleton, read_annotations, write_annotations
from dpk_core.errors import ValidationError
from dpk_core.services.storage import merge_annotations, update_annotations
from dpk_core.testing import dot_annotations


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "labels.h5"
    write_annotations(path, dot_annotations(6))
    return path


def test_merging_matches_by_name_and_content(stored):
    target = read_annotations(stored)
    reordered = Skeleton(("right", "tail", "left"))
    keypoints = np.stack(
        [target.keypoints[:, 2], np.full((6, 2), 3.0), target.keypoints[:, 1]], axis=1
    )
    new_images = dot_annotations(2, seed=77).images
    source = AnnotationSet(
        np.concatenate([target.images[:], new_images, new_images[:1]]),
        np.concatenate([keypoints, np.full((3, 3, 2), 9.0)]),
        reordered,
    )
    report = merge_annotations(stored, source)
    assert (report.added, report.duplicates) == (2, 7)
    assert report.dropped == ("tail",)
    assert report.absent == ("body",)
    assert report.conflicts == ()
    merged = read_annotations(stored)
    assert len(merged) == 8
    assert (merged.keypoints[6:, 1:] == 9.0).all()
    assert np.isnan(merged.keypoints[6:, 0]).all()
    assert np.array_equal(merged.keypoints[:6], target.keypoints, equal_nan=True)


def test_merging_fills_gaps_and_reports_conflicts(stored):
    truth = dot_annotations(6)
    update_annotations(
        stored,
        [0],
        keypoints=np.stack([[[np.nan, np.nan], *truth.keypoints[0, 1:]]]),
        annotated=np.array([[False, True, True]]),
    )
    moved = truth.keypoints.copy()
    moved[1, 2] += (3, 4)
    report = merge_annotations(stored, AnnotationSet(truth.images, moved, truth.skeleton))
    assert report.filled == 1
    assert [(row, name) for row, name, _ in report.conflicts] == [(1, "right")]
    assert report.conflicts[0][2] == pytest.approx(5.0)
    merged = read_annotations(stored)
    assert np.array_equal(merged.keypoints[0], truth.keypoints[0])
    assert np.array_equal(merged.keypoints[1], truth.keypoints[1])


def test_labels_of_an_image_that_the_source_has_twice_come_together(stored):
    new = dot_annotations(1, seed=50)
    first, second = np.full((1, 3, 2), np.nan), new.keypoints.copy()
    first[0, 0] = new.keypoints[0, 0] + (0, 8)
    source = AnnotationSet(
        np.concatenate([new.images] * 2), np.concatenate([first, second]), new.skeleton
    )
    report = merge_annotations(stored, source)
    assert (report.added, report.duplicates, report.filled) == (1, 1, 2)
    assert report.conflicts == ((6, "body", 8.0),)
    merged = read_annotations(stored)
    assert len(merged) == 7
    assert np.array_equal(merged.keypoints[6, 1:], new.keypoints[0, 1:])
    assert np.array_equal(merged.keypoints[6, 0], first[0, 0])


def test_new_keypoints_are_taken_only_when_asked_for(stored):
    before = read_annotations(stored)
    truth = dot_annotations(6)
    skeleton = Skeleton.from_rows(
        [("nose", "body", None), ("body", None, None), ("tail", "nose", None)]
    )
    keypoints = np.stack([np.full((6, 2), 2.5), truth.keypoints[:, 0], np.full((6, 2), 9.0)], 1)
    new = dot_annotations(2, seed=8)
    source = AnnotationSet(
        np.concatenate([truth.images, new.images]),
        np.concatenate([keypoints, np.full((2, 3, 2), 7.0)]),
        skeleton,
    )
    report = merge_annotations(stored, source, extend=True)
    assert (report.added, report.duplicates, report.dropped) == (2, 6, ())
    assert report.filled == 12
    merged = read_annotations(stored)
    assert merged.skeleton.to_rows() == [
        *before.skeleton.to_rows(),
        ("nose", "body", None),
        ("tail", "nose", None),
    ]
    assert np.array_equal(merged.keypoints[:6, :3], before.keypoints, equal_nan=True)
    assert (merged.keypoints[:6, 3] == 2.5).all()
    assert (merged.keypoints[6:, [0, 3, 4]] == 7.0).all()
    assert np.isnan(merged.keypoints[6:, 1:3]).all()
    assert np.array_equal(merged.images[7], new.images[1])
    assert (merged.visibility[:6, 4] == 2).all()
    again = merge_annotations(stored, source, extend=True)
    assert (again.added, again.duplicates, again.filled, again.conflicts) == (0, 8, 0, ())


def test_merging_a_set_with_itself_changes_nothing(stored):
    before = read_annotations(stored)
    report = merge_annotations(stored, stored)
    assert (report.added, report.duplicates, report.filled) == (0, 6, 0)
    assert repr(report) == (
        "MergeReport(0 added, 6 duplicates, 0 labels filled, 0 conflicts, 0 keypoints dropped, "
        "0 absent)"
    )
    after = read_annotations(stored)
    assert np.array_equal(after.keypoints, before.keypoints, equal_nan=True)
    assert np.array_equal(after.images[:], before.images[:])


def test_images_of_another_size_are_refused(stored):
    before = stored.read_bytes()
    with pytest.raises(ValidationError, match="48x64x1, the new ones 48x64x3"):
        merge_annotations(stored, dot_annotations(1, channels=3))
    assert stored.read_bytes() == before
