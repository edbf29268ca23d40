"""Poses, Tracks, AnnotationSet and Task: validated at construction, shapes in the repr."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpk_core import AnnotationSet, Poses, Skeleton, Source, Task, Tracks
from dpk_core.errors import ValidationError

SKELETON = Skeleton(("a", "b"), (-1, 0))


def _annotations(n=4, **fields):
    keypoints = np.arange(n * 4, dtype=float).reshape(n, 2, 2)
    return AnnotationSet(np.zeros((n, 8, 9, 1), np.uint8), keypoints, SKELETON, **fields)


def test_reprs_show_shapes_and_no_arrays():
    assert repr(_annotations()) == "AnnotationSet(4 images 8x9x1, 2 keypoints, 4 labelled)"
    poses = Poses(np.zeros((3, 2, 2)), np.zeros((3, 2)), SKELETON)
    assert repr(poses) == "Poses(3 rows, 2 keypoints, frames 0-2, 0 tracks)"
    tracks = Tracks([0, 1], [1, 2], [0.0, 1.0], [2.0, 3.0], interpolated=[False, True])
    assert repr(tracks) == "Tracks(2 rows, 2 individuals, frames 0-1, 1 interpolated)"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keypoints": np.zeros((4, 3, 2))}, r"expected shape \(4, 2, 2\), found \(4, 3, 2\)"),
        ({"images": np.zeros((4, 8, 9), np.uint8)}, "images: expected shape"),
        ({"images": np.zeros((4, 8, 9, 1))}, "expected uint8 in 0..255, found float64"),
        ({"annotated": np.zeros((4, 1), bool)}, "annotated: expected shape"),
        ({"visibility": np.full((4, 2), 3)}, "expected 0, 1 or 2, found 3"),
        ({"sources": (Source(),)}, "expected one for each of 4, found 1"),
    ],
)
def test_annotation_sets_say_what_is_wrong(fields, message):
    values = {
        "images": np.zeros((4, 8, 9, 1), np.uint8),
        "keypoints": np.zeros((4, 2, 2)),
        "skeleton": SKELETON,
        **fields,
    }
    with pytest.raises(ValidationError, match=message):
        AnnotationSet(**values)


def test_half_a_coordinate_is_missing():
    keypoints = np.zeros((4, 2, 2))
    keypoints[1, 0, 1] = np.nan
    keypoints[2, 1, 0] = np.inf
    annotations = AnnotationSet(np.zeros((4, 8, 9, 1), np.uint8), keypoints, SKELETON)
    assert np.isnan(annotations.keypoints[1, 0]).all()
    assert np.isnan(annotations.keypoints[2, 1]).all()
    assert annotations.visibility[1].tolist() == [0, 2]


def test_labelled_drops_what_nobody_dealt_with():
    annotated = np.array([[1, 1], [0, 0], [1, 0], [0, 0]], bool)
    labelled = _annotations(annotated=annotated).labelled()
    assert len(labelled) == 2
    assert np.isnan(labelled.keypoints[1, 1]).all()
    assert not np.isnan(labelled.keypoints[1, 0]).any()


def test_poses_refuse_scores_outside_0_to_1_and_zero_the_missing():
    with pytest.raises(ValidationError, match="scores"):
        Poses(np.zeros((1, 2, 2)), np.full((1, 2), 1.5), SKELETON)
    keypoints = np.zeros((1, 2, 2))
    keypoints[0, 1, 0] = np.nan
    poses = Poses(keypoints, np.ones((1, 2)), SKELETON)
    assert poses.scores.tolist() == [[1.0, 0.0]]
    assert np.isnan(poses.keypoints[0, 1]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        # 2**32 + 3 would become the animal 3, and join it
        (lambda: _poses(track_ids=np.array([3, 2**32 + 3])), "track_ids: .*int32.*4294967299"),
        (lambda: _poses(track_ids=np.array([3.0, 1e30])), "track_ids: .*int32.*1e[+]30"),
        (lambda: _poses(frames=np.array([0.0, 1e30])), "frames: .*int64.*1e[+]30"),
        (lambda: _poses(frames=np.array([0, 2**63], np.uint64)), "frames: .*int64"),
        (lambda: Tracks([0, 1], [0, 2**63], [1.0, 2], [1.0, 2]), "id: .*int64"),
        (lambda: _annotations(visibility=np.full((4, 2), 256 + 2)), "visibility: .*uint8.*258"),
    ],
)
def test_numbers_that_a_field_cannot_hold_are_refused(make, message):
    with pytest.raises(ValidationError, match=message):
        make()


def _poses(**fields):
    return Poses(np.zeros((2, 2, 2)), np.zeros((2, 2)), SKELETON, **fields)


def test_fractions_in_a_frame_number_are_refused():
    with pytest.raises(ValidationError, match="frames: expected int64"):
        Poses(np.zeros((1, 2, 2)), np.zeros((1, 2)), SKELETON, frames=[0.5])


@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 4), st.integers(0, 5), st.booleans()
)
def test_tasks_survive_json(height, width, channels, factor, graph):
    import json

    task = Task((height, width, channels), SKELETON, downsample_factor=factor, use_graph=graph)
    assert Task.from_config(json.loads(json.dumps(task.to_config()))) == task
    assert task.output_shape[0] * task.output_stride >= height
    assert (task.output_shape[0] - 1) * task.output_stride < height


def test_tasks_name_what_is_unknown():
    config = Task((8, 8, 1), SKELETON).to_config()
    with pytest.raises(ValidationError, match="colour"):
        Task.from_config({**config, "colour": 1})
    with pytest.raises(ValidationError, match="downsample_factor"):
        Task((8, 8, 1), SKELETON, downsample_factor=1.5)
    with pytest.raises(ValidationError, match="sigma"):
        Task((8, 8, 1), SKELETON, sigma=0)
