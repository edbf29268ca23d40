"""Sampling frames of videos into annotation sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import (
    FileFormatError,
    FileMissingError,
    OutputExistsError,
    SkeletonError,
    ValidationError,
)
from dpk_core.services.storage import read_annotations, update_annotations, write_annotations
from dpk_core.services.video import VideoReader
from dpk_core.services.video_paths import portable
from dpk_core.skeleton import Skeleton
from dpk_core.workflow.sample import sample_videos


@pytest.mark.parametrize("method", ["kmeans", "uniform", "random"])
def test_a_new_set_holds_frames_of_the_video_unlabelled(video, skeleton_csv, tmp_path, method):
    output = tmp_path / "labels.h5"
    result = sample_videos([video], output, skeleton_csv, n_frames=6, method=method)
    assert result.added == {video.as_posix(): 6}
    annotations = read_annotations(output)
    assert result.n_images == len(annotations) == 6
    assert annotations.skeleton == Skeleton.from_csv(skeleton_csv)
    assert annotations.n_labelled == 0
    assert np.isnan(annotations.keypoints).all()
    with VideoReader(video) as reader:
        for image, source in zip(annotations.images, annotations.sources, strict=True):
            assert source.video == portable(video, tmp_path)
            assert np.array_equal(image, reader[source.frame])


def test_the_same_seed_gives_the_same_frames(video, skeleton_csv, tmp_path):
    frames = []
    for i, seed in enumerate((1, 1, 2)):
        output = tmp_path / f"{i}.h5"
        sample_videos([video], output, skeleton_csv, n_frames=6, method="random", seed=seed)
        frames.append([source.frame for source in read_annotations(output).sources])
    assert frames[0] == frames[1] != frames[2]


def test_appending_chooses_other_frames_and_keeps_the_labels(video, skeleton_csv, tmp_path):
    output = tmp_path / "labels.h5"
    sample_videos([video], output, skeleton_csv, n_frames=10, method="uniform")
    update_annotations(output, [3], keypoints=np.full((1, 3, 2), 7.0))
    result = sample_videos([video, video], output, n_frames=10, method="uniform", append=True)
    assert result.added == {video.as_posix(): 10}
    assert result.skipped == {video.as_posix(): 10}
    annotations = read_annotations(output)
    frames = [source.frame for source in annotations.sources]
    assert len(frames) == len(set(frames)) == 20
    assert (annotations.keypoints[3] == 7).all()


@pytest.mark.parametrize(("first", "then"), [(True, False), (False, True)])
def test_a_video_has_one_name_in_a_set_however_it_was_given(
    video, skeleton_csv, tmp_path, monkeypatch, first, then
):
    shutil.copy(video, tmp_path / "mouse.mp4")
    monkeypatch.chdir(tmp_path)
    given = {False: Path("mouse.mp4"), True: tmp_path / "mouse.mp4"}
    sample_videos([given[first]], "labels.h5", skeleton_csv, n_frames=2)
    sample_videos([given[then]], "labels.h5", n_frames=2, append=True)
    assert {source.video for source in read_annotations("labels.h5").sources} == {"mouse.mp4"}


def test_a_set_that_knows_a_video_by_another_name_keeps_it(video, skeleton_csv, tmp_path):
    output = tmp_path / "labels.h5"
    images = np.zeros((1, *VideoReader(video, grayscale=False).shape), np.uint8)
    old = AnnotationSet(
        images,
        np.full((1, 3, 2), np.nan),
        Skeleton.from_csv(skeleton_csv),
        sources=(Source(video.resolve().as_posix(), 0),),
    )
    write_annotations(output, old)
    sample_videos([video], output, n_frames=2, append=True)
    assert {s.video for s in read_annotations(output).sources} == {video.resolve().as_posix()}


def test_a_set_names_its_videos_from_where_it_lies(video, skeleton_csv, tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    (tmp_path / "sets").mkdir()
    shutil.copy(video, tmp_path / "videos" / "mouse.mp4")
    monkeypatch.chdir(tmp_path)
    sample_videos(["videos/mouse.mp4"], "sets/labels.h5", skeleton_csv, n_frames=2)
    assert read_annotations("sets/labels.h5").sources[0].video == "../videos/mouse.mp4"


def test_a_video_with_too_few_frames_gives_all_it_has(video, skeleton_csv, tmp_path):
    output = tmp_path / "labels.h5"
    result = sample_videos([video], output, skeleton_csv, n_frames=100)
    assert result.n_images == 40
    assert "only 40" in result.notes[0]
    result = sample_videos([video], output, n_frames=5, append=True)
    assert result.added == {video.as_posix(): 0}
    assert result.n_images == 40
    assert "in the set already" in result.notes[0]


def test_gray_sets_stay_gray(video, skeleton_csv, tmp_path):
    output = tmp_path / "labels.h5"
    sample_videos([video], output, skeleton_csv, n_frames=2, grayscale=True)
    sample_videos([video], output, n_frames=2, append=True)
    assert read_annotations(output).image_shape == (48, 64, 1)


def test_videos_of_mixed_sizes_are_named_and_nothing_is_written(
    video, make_video, skeleton_csv, tmp_path
):
    other = make_video(tmp_path / "large.mp4", 5, (64, 96))
    output = tmp_path / "labels.h5"
    with pytest.raises(ValidationError, match=r"large\.mp4 has frames of 64x96x3.*48x64x3"):
        sample_videos([video, other], output, skeleton_csv)
    assert not output.exists()
    sample_videos([video], output, skeleton_csv, n_frames=3)
    with pytest.raises(ValidationError, match="64x96x3"):
        sample_videos([other], output, append=True)
    assert len(read_annotations(output)) == 3


def test_an_existing_set_is_replaced_only_when_told(video, skeleton_csv, tmp_path):
    output = tmp_path / "labels.h5"
    sample_videos([video], output, skeleton_csv, n_frames=3)
    with pytest.raises(OutputExistsError, match="exists already"):
        sample_videos([video], output, skeleton_csv, n_frames=4)
    assert len(read_annotations(output)) == 3
    sample_videos([video], output, skeleton_csv, n_frames=4, overwrite=True)
    assert len(read_annotations(output)) == 4


def test_what_is_missing_is_told(video, skeleton_csv, tmp_path):
    output = tmp_path / "labels.h5"
    with pytest.raises(FileMissingError, match="append"):
        sample_videos([video], output, append=True)
    with pytest.raises(ValidationError, match="--skeleton"):
        sample_videos([video], output)
    with pytest.raises(ValidationError, match="at least one"):
        sample_videos([], output, skeleton_csv)
    with pytest.raises(FileMissingError, match=r"no\.csv"):
        sample_videos([video], output, tmp_path / "no.csv")
    with pytest.raises(FileMissingError, match=r"no\.mp4"):
        sample_videos([tmp_path / "no.mp4"], output, skeleton_csv)
    with pytest.raises(FileFormatError):
        sample_videos([skeleton_csv], output, skeleton_csv)
    skeleton_csv.write_text("name,parent,swap\na,b,\nb,a,\n")
    with pytest.raises(SkeletonError, match="cycle"):
        sample_videos([video], output, skeleton_csv)
    assert not output.exists()


def test_appending_to_a_set_with_another_skeleton(video, skeleton_csv, tmp_path):
    output = tmp_path / "labels.h5"
    images = np.zeros((1, 48, 64, 3), np.uint8)
    other = AnnotationSet(images, np.full((1, 1, 2), np.nan), Skeleton(("nose",)))
    write_annotations(output, other)
    with pytest.raises(ValidationError, match="nose"):
        sample_videos([video], output, skeleton_csv, append=True)
    assert sample_videos([video], output, n_frames=2, append=True).n_images == 3


def test_frames_of_a_relinked_video_are_not_chosen_again(
    make_video, skeleton_csv, tmp_path, monkeypatch
):
    from dpk_core.workflow.relink import relink

    (tmp_path / "films").mkdir()
    (tmp_path / "sets").mkdir()
    video = make_video(tmp_path / "films" / "walk.mp4", 12)
    output = tmp_path / "sets" / "labels.h5"
    sample_videos([video], output, skeleton_csv, n_frames=8)
    moved = video.rename(tmp_path / "walk.mp4")
    relink(output, [tmp_path])
    assert {s.video for s in read_annotations(output).sources} == {"../walk.mp4"}
    monkeypatch.chdir(tmp_path / "films")
    result = sample_videos([moved], output, n_frames=8, append=True)
    assert list(result.skipped.values()) == [8]
    assert list(result.added.values()) == [4]
    frames = [s.frame for s in read_annotations(output).sources]
    assert sorted(frames) == list(range(12))
