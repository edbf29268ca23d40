"""Moved videos are found again, and others refused, by their content."""

from __future__ import annotations

import shutil

import attrs
import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core import (
    AnnotationSet,
    Skeleton,
    Source,
    VideoReader,
    VideoWriter,
    read_annotations,
    read_poses,
    write_annotations,
    write_poses,
)
from dpk_core.cli.app import app
from dpk_core.errors import FileFormatError, FileMissingError
from dpk_core.services.individuals import crop_individuals
from dpk_core.services.storage.describe import describe
from dpk_core.testing import sample_of
from dpk_core.workflow.relink import relink


def write_video(path, seed=0, n=20):
    """A dot that walks over a background which is the same in all videos."""
    path.parent.mkdir(parents=True, exist_ok=True)
    background = np.random.default_rng(9).integers(60, 90, (64, 96, 3))
    places = np.random.default_rng(seed).integers(8, 56, (n, 2))
    with VideoWriter(path, fps=10) as writer:
        for x, y in places:
            frame = background.astype(np.uint8)
            frame[y - 6 : y + 6, x - 6 : x + 6] = 240
            writer.write(frame)


@pytest.fixture
def lab(tmp_path):
    """A video in one folder, and a set of its frames in another."""
    video = tmp_path / "old" / "walk.mp4"
    write_video(video)
    frames = [2, 7, 11, 12, 15, 19]
    with VideoReader(video) as reader:
        images = reader[frames]
    keypoints = np.random.default_rng(1).uniform(20, 50, (6, 2, 2))
    sources = tuple(Source("../old/walk.mp4", frame) for frame in frames)
    labels = AnnotationSet(images, keypoints, Skeleton(("a", "b")), sources=sources)
    folder = tmp_path / "labels"
    folder.mkdir()
    write_annotations(folder / "set.h5", labels)
    write_annotations(folder / "crops.h5", crop_individuals(labels, 40))
    gray = images.mean(axis=3, keepdims=True).astype(np.uint8)
    write_annotations(folder / "gray.h5", attrs.evolve(labels, images=gray))
    return tmp_path


NAMES = ["set.h5", "crops.h5", "gray.h5"]


@pytest.mark.parametrize("name", NAMES)
def test_a_video_that_is_there(lab, name):
    path = lab / "labels" / name
    before = path.read_bytes()
    (link,) = relink(path)
    assert (link.video, link.state, link.reasons) == ("../old/walk.mp4", "there", ())
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_a_moved_video_is_found_and_others_of_its_name_are_not_taken(lab, name):
    path = lab / "labels" / name
    labels = read_annotations(path)
    write_video(lab / "new" / "a" / "walk.mp4", seed=5)
    write_video(lab / "new" / "b" / "walk.mp4", n=12)
    (lab / "new" / "c").mkdir()
    (lab / "new" / "c" / "walk.mp4").write_bytes(b"no video")
    shutil.move(lab / "old" / "walk.mp4", lab / "new" / "d.mp4")
    (link,) = relink(path, [lab / "new"])
    assert link.state == "different"
    assert len(link.reasons) == 3
    assert "is not the labelled image" in link.reasons[0]
    assert "it has 12 frames, the labels go to frame 19" in link.reasons[1]
    assert read_annotations(path).sources == labels.sources
    (lab / "new" / "d").mkdir()
    shutil.move(lab / "new" / "d.mp4", lab / "new" / "d" / "walk.mp4")
    (link,) = relink(path, [lab / "new"], write=False)
    assert link.state == "found"
    assert read_annotations(path).sources == labels.sources
    relink(path, [lab / "new"])
    found = read_annotations(path)
    assert {source.video for source in found.sources} == {"../new/d/walk.mp4"}
    np.testing.assert_array_equal(found.keypoints, labels.keypoints)
    np.testing.assert_array_equal(found.images[:], labels.images[:])
    assert relink(path)[0].state == "there"


def test_a_video_of_another_name_can_be_given(lab):
    path = lab / "labels" / "set.h5"
    shutil.move(lab / "old" / "walk.mp4", lab / "old" / "renamed.mp4")
    assert relink(path, [lab / "old"])[0].state == "missing"
    assert relink(path, [lab / "old" / "renamed.mp4"])[0].state == "found"
    assert read_annotations(path).sources[0].video == "../old/renamed.mp4"


def test_poses_know_their_video_by_its_fingerprint(lab):
    video = lab / "old" / "walk.mp4"
    with VideoReader(video) as reader:
        facts = {
            "video": "C:\\films\\walk.mp4", "n_frames": len(reader), "height": 64, "width": 96,
            "job": {"input": reader.fingerprint()},
        }  # fmt: skip
    path = lab / "labels" / "walk.poses.h5"
    poses = attrs.evolve(sample_of("poses").read(), provenance=facts)
    write_poses(path, poses)
    write_video(lab / "new" / "walk.mp4", seed=5)
    assert relink(path)[0].state == "missing"
    (link,) = relink(path, [lab / "new"])
    assert link.state == "different"
    assert "fingerprint" in link.reasons[0]
    assert relink(path, [lab])[0].state == "found"
    stored = read_poses(path)
    assert stored.provenance == {**facts, "video": "../old/walk.mp4"}
    np.testing.assert_array_equal(stored.keypoints, poses.keypoints)
    assert describe(path)["kind"] == "poses"


def test_poses_of_crops_know_the_video_that_was_cropped(lab):
    """Their job is of another content than the video's."""
    with VideoReader(lab / "old" / "walk.mp4") as reader:
        facts = {
            "video": "walk.mp4", "n_frames": len(reader), "height": 64, "width": 96,
            "job": {"input": "of the crops"}, "tracks": "walk.tracks.h5",
        }  # fmt: skip
        known = {**facts, "video_fingerprint": reader.fingerprint()}
    other = {**facts, "video_fingerprint": "of another"}
    path = lab / "labels" / "walk.poses.h5"
    for provenance, state in ((facts, "found"), (known, "found"), (other, "different")):
        write_poses(path, attrs.evolve(sample_of("poses").read(), provenance=provenance))
        assert relink(path, [lab / "old"])[0].state == state
        path.unlink()


def test_what_cannot_be_relinked(lab):
    with pytest.raises(FileMissingError, match="nothing is at"):
        relink(lab / "labels" / "set.h5", [lab / "nowhere"])
    with pytest.raises(FileMissingError):
        relink(lab / "labels" / "gone.h5")
    import h5py

    with h5py.File(lab / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(FileFormatError, match="expected labels, poses or tracks"):
        relink(lab / "other.h5")


def test_on_the_command_line(lab):
    run = CliRunner().invoke
    path = str(lab / "labels" / "set.h5")
    assert run(app, ["relink", path]).exit_code == 0
    shutil.move(lab / "old", lab / "archive")
    done = run(app, ["relink", path])
    assert done.exit_code == 1
    assert "walk.mp4: missing" in done.output
    done = run(app, ["relink", path, "--search", str(lab / "archive"), "--dry-run"])
    assert done.exit_code == 0
    assert "walk.mp4: found at" in done.output
    assert run(app, ["relink", path]).exit_code == 1
    assert run(app, ["relink", path, "-s", str(lab / "archive")]).exit_code == 0
    assert run(app, ["relink", path]).exit_code == 0
