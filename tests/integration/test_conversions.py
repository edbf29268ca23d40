"""From any format to any other: no coordinate changes on the way, whatever else is lost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dpk_core import read_annotations, read_poses, read_tracks, write_annotations, write_tracks
from dpk_core.services.formats import format_specs
from dpk_core.services.storage import write_poses
from dpk_core.testing import sample_of
from dpk_core.workflow.convert import convert

CLOSE = 2e-2
"""Pixels: two formats that round to a hundredth or a share of the image."""

ONE_ANIMAL = ("lightning-pose",)


def _pairs(kind):
    names = [s.name for s in format_specs() if kind in s.reads and kind in s.writes]
    return list(itertools.product(names, names))


def _through(folder, source, formats, kind, **options):
    """The file in dpk's format after it went through all those formats."""
    specs = {spec.name: spec for spec in format_specs()}
    for i, name in enumerate([*formats, "dpk"]):
        suffixes = specs[name].suffixes
        target = folder / f"step{i}{suffixes[0] if suffixes else ''}"
        before = formats[i - 1] if i else "dpk"
        convert(source, target, source_format=before, target_format=name, kind=kind, **options)
        source = target
    return source


@pytest.mark.parametrize(("first", "second"), _pairs("annotations"))
def test_labels(tmp_path, first, second):
    labels = sample_of("annotations")
    if {first, second} & set(ONE_ANIMAL):
        labels = labels.subset([0, 2, 3])
    write_annotations(tmp_path / "labels.h5", labels)
    end = _through(
        tmp_path, tmp_path / "labels.h5", [first, second], "annotations", individuals="frames"
    )
    found = read_annotations(end)
    assert found.skeleton.names == labels.skeleton.names
    assert len(found) == len(labels)
    for row, image in zip(labels.keypoints, labels.images, strict=True):
        apart = np.abs(found.keypoints - row)
        same = (apart < CLOSE) | (np.isnan(row) & np.isnan(found.keypoints))
        matches = np.flatnonzero(same.all(axis=(1, 2)))
        assert len(matches) == 1
        assert np.array_equal(found.images[int(matches[0])], image)


@pytest.mark.parametrize(("first", "second"), _pairs("poses"))
def test_poses(tmp_path, first, second):
    poses = sample_of("poses").read()
    write_poses(tmp_path / "poses.h5", poses)
    found = read_poses(_through(tmp_path, tmp_path / "poses.h5", [first, second], "poses"))
    assert found.skeleton.names == poses.skeleton.names
    order = [np.lexsort((p.keypoints[:, 0, 0], p.frames)) for p in (found, poses)]
    a, b = found[order[0]], poses[order[1]]
    np.testing.assert_allclose(a.keypoints, b.keypoints, atol=CLOSE)
    np.testing.assert_array_equal(a.frames, b.frames)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)
    pairs = set(zip(a.track_ids.tolist(), b.track_ids.tolist(), strict=True))
    assert len(pairs) == 2


@pytest.mark.parametrize(("first", "second"), _pairs("tracks"))
def test_tracks(tmp_path, first, second):
    tracks = sample_of("tracks")
    write_tracks(tmp_path / "tracks.h5", tracks)
    found = read_tracks(_through(tmp_path, tmp_path / "tracks.h5", [first, second], "tracks"))
    order = [np.lexsort((t.x, t.frame)) for t in (found, tracks)]
    a, b = found[order[0]], tracks[order[1]]
    np.testing.assert_allclose(np.stack([a.x, a.y]), np.stack([b.x, b.y]), atol=CLOSE)
    np.testing.assert_array_equal(a.frame, b.frame)
    assert len(set(zip(a.id.tolist(), b.id.tolist(), strict=True))) == 2
