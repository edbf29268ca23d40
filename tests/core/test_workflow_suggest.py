"""Suggestions from files: which frames, why, and how they get into a set."""

from __future__ import annotations

import weakref

import attrs
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.cli.app import app
from dpk_core.errors import DpkError, FileMissingError, ValidationError
from dpk_core.interfaces import Model
from dpk_core.poses import Poses
from dpk_core.services.storage import (
    read_annotations,
    write_annotations,
    write_poses,
    write_tracks,
)
from dpk_core.services.video import VideoReader
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_core.testing import dot_annotations
from dpk_core.tracks import Tracks
from dpk_core.workflow.predict import predict_video
from dpk_core.workflow.suggest import BY, suggest_frames
from dpk_core.workflow.suggest_add import add_suggestions
from dpk_core.workflow.suggest_images import RowImages

SKELETON = Skeleton(("head", "left", "right"))
FACTS = {"n_frames": 40, "height": 48, "width": 64}


def smooth_poses(n=40, **fields):
    """Keypoints that drift over the frame of 48x64, all of them found."""
    t = np.arange(n)[:, None]
    x = 20 + 10 * np.cos(0.2 * t + np.arange(3))
    y = 24 + 8 * np.sin(0.17 * t + np.arange(3))
    noise = np.random.default_rng(0).normal(0, 0.05, (n, 3, 2))
    points = np.stack([x, y], axis=2) + noise
    fields = {"provenance": {"video": "walk.mp4", **FACTS}, **fields}
    return Poses(points, np.full((n, 3), 0.9), SKELETON, **fields)


@pytest.fixture
def glitched():
    """The same with a jump of "left" in frame 21 and low scores in frames 8 to 11."""
    poses = smooth_poses()
    points, scores = poses.keypoints.copy(), poses.scores.copy()
    points[21, 1] += 15
    scores[8:12] = (0.3, 0.2, 0.1)
    return attrs.evolve(poses, keypoints=points, scores=scores)


def dpk(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], prog_name="dpk")


# -- which frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["speed", "acceleration", "autoregression"])
def test_a_jump_is_found_and_named(video, glitched, by):
    (first,) = suggest_frames(video, glitched, 1, by=by).chosen
    assert first.frame in ((21, 22) if by == "speed" else (21,))
    assert first.reasons[0].startswith("left ")
    assert "px" in first.reasons[0]
    assert first.score == 1


def test_low_scores_are_found_and_named(video, glitched):
    result = suggest_frames(video, glitched, 2, by="confidence", min_distance=10)
    assert result.frames[0] in range(8, 12)
    assert abs(result.frames[1] - result.frames[0]) >= 10
    assert result.chosen[0].reasons == ("low scores, right 0.10",)
    assert result.chosen[0].values["confidence"] == pytest.approx(0.8)


def test_combined_takes_what_is_wrong_and_not_one_moment_alone(video, glitched):
    result = suggest_frames(video, glitched, 4)
    assert {21, 22} & set(result.frames.tolist())
    assert set(range(8, 12)) & set(result.frames.tolist())
    assert len(set(result.frames.tolist())) == 4
    assert (np.diff([one.score for one in result.chosen]) <= 0).all()
    assert set(result.values) == {"confidence", "speed", "acceleration", "autoregression"}
    assert all(len(values) == 40 for values in result.values.values())


def test_diversity_prefers_poses_that_differ(video):
    poses = smooth_poses()
    points = np.repeat(poses.keypoints[:1], 40, axis=0)
    points[[7, 33]] = points[[7, 33]][:, ::-1]
    points[33, 0] += 9
    same = attrs.evolve(poses, keypoints=points)
    result = suggest_frames(video, same, 3, by="diversity", min_distance=1, use_images=False)
    assert {7, 33} <= set(result.frames.tolist())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 50),
    by=st.sampled_from([name for name in BY if name != "entropy"]),
    gap=st.none() | st.integers(1, 50),
    share=st.floats(0, 1),
)
def test_whatever_was_predicted_suggestions_are_frames_apart(seed, n, by, gap, share):
    rng = np.random.default_rng(seed)
    points = rng.normal(30, 20, (60, 2, 2))
    points[rng.random((60, 2)) < share] = np.nan
    numbers = np.sort(rng.choice(40, 30, replace=False)).repeat(2)
    tracks = np.tile([0, 5], 30)
    poses = Poses(points, rng.random((60, 2)), Skeleton(("a", "b")), numbers, tracks)
    images = np.zeros((40, 8, 8, 1), np.uint8)
    labels = np.full((40, 2, 2), np.nan)
    labels[:5] = 1
    source = AnnotationSet(images, labels, Skeleton(("a", "b")))
    if by in ("speed", "acceleration", "autoregression"):
        with pytest.raises(ValidationError, match="don't follow each other in time"):
            suggest_frames(source, poses, n, by=by)
        return
    result = suggest_frames(source, poses, n, by=by, min_distance=gap)
    assert len(result.chosen) <= n
    assert len(set(result.rows.tolist())) == len(result.chosen)
    assert (result.frames >= 5).all()
    np.testing.assert_array_equal(numbers[result.rows], result.frames)
    assert all(0 <= one.score <= 1 and one.reasons for one in result.chosen)
    assert len(result.chosen) == min(n, result.candidates.sum()) or result.notes


def test_one_full_image_is_in_memory_at_a_time(video, monkeypatch):
    alive: list[weakref.ref[np.ndarray]] = []
    most = []
    read = RowImages.image

    def image(self, row):
        found = read(self, row).copy()
        alive.append(weakref.ref(found))
        most.append(sum(ref() is not None for ref in alive))
        return found

    monkeypatch.setattr(RowImages, "image", image)
    suggest_frames(video, smooth_poses(), 8, by="diversity")
    assert len(most) > 20
    assert max(most) <= 2


def test_frames_of_a_set_are_not_suggested_again(video, glitched, tmp_path):
    taken = [8, 9, 10, 11, 21, 22]
    labels = attrs.evolve(
        dot_annotations(6), skeleton=SKELETON, sources=tuple(Source("walk.mp4", i) for i in taken)
    )
    write_annotations(tmp_path / "labels.h5", labels)
    result = suggest_frames(video, glitched, 20, labels=tmp_path / "labels.h5", min_distance=1)
    assert not set(taken) & set(result.frames.tolist())
    assert result.candidates.sum() == 34
    everything = attrs.evolve(
        dot_annotations(40), skeleton=SKELETON,
        sources=tuple(Source(video.as_posix(), i) for i in range(40)),
    )  # fmt: skip
    with pytest.raises(ValidationError, match="nothing is left to suggest: all of the 40 frames"):
        suggest_frames(video, glitched, labels=everything)


def test_individuals_are_told_apart(video, tmp_path):
    one = smooth_poses()
    poses = Poses(
        np.concatenate([one.keypoints, one.keypoints + 5]),
        np.concatenate([one.scores, one.scores * 0.5]),
        SKELETON, np.tile(np.arange(40), 2), np.repeat([3, 8], 40),
        {**one.provenance, "track_names": {"3": "anna"}},
    )  # fmt: skip
    result = suggest_frames(video, poses, 3, by="confidence")
    assert [s.track for s in result.chosen] == [8, 8, 8]
    sources = (Source(video.as_posix(), 4, "anna"), Source(video.as_posix(), 5))
    labels = attrs.evolve(dot_annotations(2), sources=sources)
    free = suggest_frames(video, poses, 3, labels=labels).candidates.reshape(2, 40)
    assert np.flatnonzero(~free[0]).tolist() == [4, 5]
    assert np.flatnonzero(~free[1]).tolist() == [5]


# -- entropy -------------------------------------------------------------------------------------


class Mapper(Model):
    """Gives maps of one pixel, but of noise where the image is dark in its corner."""

    def __init__(self, skeleton=SKELETON):
        self.task = Task((48, 64, 3), skeleton)

    def confidence_maps(self, images):
        maps = np.zeros((len(images), 6, 8, 3), np.float32)
        maps[:, 2, 3] = 1
        maps[images[:, 0, 0, 0] == 0] = 0.5
        return maps

    def fit(self, *a, **k): ...
    def predict(self, *a, **k): ...
    def evaluate(self, *a): ...
    def save(self, path): ...


def test_entropy_comes_from_the_model_where_one_is_given():
    images = np.full((12, 48, 64, 3), 9, np.uint8)
    images[[3, 7], 0, 0] = 0
    nothing = np.full((12, 3, 2), np.nan)
    source = AnnotationSet(images, nothing, SKELETON)
    poses = smooth_poses(12, provenance={})
    result = suggest_frames(source, poses, 2, by="entropy", model=Mapper())
    assert sorted(result.frames.tolist()) == [3, 7]
    assert "wide map" in result.chosen[0].reasons[0]
    assert "entropy" in suggest_frames(source, poses, 2, model=Mapper()).values
    assert "entropy" not in suggest_frames(source, poses, 2).values
    with pytest.raises(ValidationError, match="--model"):
        suggest_frames(source, poses, 2, by="entropy")
    with pytest.raises(ValidationError, match="head, left, right; the model has a"):
        suggest_frames(source, poses, 2, by="entropy", model=Mapper(Skeleton(("a",))))


def test_a_model_that_ends_in_coordinates_says_so(video, fake_model):
    predict_video(fake_model, video)
    with pytest.raises(DpkError, match=r"FakeNet .* gives coordinates only"):
        suggest_frames(video, by="entropy", model=fake_model)


# -- bad input -----------------------------------------------------------------------------------


def test_no_poses(video, tmp_path):
    with pytest.raises(FileMissingError, match="dpk predict MODEL"):
        suggest_frames(video)
    with pytest.raises(FileMissingError, match="no video"):
        suggest_frames(tmp_path / "no.mp4")
    with pytest.raises(ValidationError, match="expected at least one row, found none"):
        suggest_frames(video, smooth_poses()[[]])
    with pytest.raises(ValidationError, match="poses: expected those"):
        suggest_frames(dot_annotations(2))


def test_poses_of_another_video(video, fake_model, make_video, tmp_path):
    other = make_video(tmp_path / "other.mp4", 41)
    with pytest.raises(
        ValidationError, match=r"of walk.mp4, not of .*other.mp4.*frames 41, not 40"
    ):
        suggest_frames(other, smooth_poses())
    same_size = make_video(tmp_path / "same.mp4", 40, (48, 80))
    with pytest.raises(ValidationError, match="width 80, not 64"):
        suggest_frames(same_size, smooth_poses())
    poses = predict_video(fake_model, video).output
    assert len(suggest_frames(video, poses, 3).chosen) == 3
    content = VideoReader(video)
    with VideoReader(other) as reader:
        assert len(reader) != len(content)
    content.close()
    twin = tmp_path / "twin.mp4"
    make_video(twin, 40)
    if twin.read_bytes() != video.read_bytes():
        with pytest.raises(ValidationError, match="fingerprint"):
            suggest_frames(twin, poses)
    late = smooth_poses(provenance={}, frames=np.arange(5, 45))
    with pytest.raises(ValidationError, match="has only the frames 0 to 39"):
        suggest_frames(video, late)


def test_nothing_found_anywhere_is_told_and_spread(video):
    poses = attrs.evolve(smooth_poses(), keypoints=np.full((40, 3, 2), np.nan))
    result = suggest_frames(video, poses, 4, by="confidence")
    assert np.diff(np.sort(result.frames)).min() >= 5
    assert any("no keypoint was found in any frame" in note for note in result.notes)
    assert len(suggest_frames(video, poses, 4).chosen) == 4


def test_one_frame_and_more_wanted_than_there_are(make_video, tmp_path):
    film = make_video(tmp_path / "one.mp4", 1)
    result = suggest_frames(film, smooth_poses(1, provenance={}), 20)
    assert result.frames.tolist() == [0]
    assert any("asked for 20, but there are only 1" in note for note in result.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"by": "magic"}, "by: expected one of combined, confidence.* found 'magic'"),
        ({"n": 0}, "n: expected at least 1, found 0"),
        ({"min_distance": 0}, "min_distance: expected at least 1, found 0"),
    ],
)
def test_wrong_arguments(video, change, message):
    with pytest.raises(ValidationError, match=message):
        suggest_frames(video, smooth_poses(), **change)


# -- adding --------------------------------------------------------------------------------------


@pytest.fixture
def small_set(tmp_path):
    """Two labelled frames, 0 and 1, of the video, keypoints in another order and one more."""
    labels = dot_annotations(2, size=(48, 64), channels=3)
    skeleton = Skeleton(("right", "head", "nose"))
    path = tmp_path / "labels.h5"
    sources = (Source("walk.mp4", 0), Source("walk.mp4", 1))
    write_annotations(path, attrs.evolve(labels, skeleton=skeleton, sources=sources))
    return path


def test_suggested_frames_are_added_with_guesses_that_are_no_labels(video, glitched, small_set):
    before = read_annotations(small_set)
    result = suggest_frames(video, glitched, 3, labels=small_set)
    assert add_suggestions(small_set, result, video, glitched) == 3
    after = read_annotations(small_set)
    assert len(after) == 5
    np.testing.assert_array_equal(after.keypoints[:2], before.keypoints)
    np.testing.assert_array_equal(after.annotated[:2], before.annotated)
    assert not after.annotated[2:].any()
    assert not after.visibility[2:].any()
    np.testing.assert_array_equal(
        after.keypoints[2:, :2], glitched.keypoints[result.rows][:, [2, 0]].astype(np.float64)
    )
    assert np.isnan(after.keypoints[2:, 2]).all()
    with VideoReader(video) as reader:
        for image, source, frame in zip(
            after.images[2:], after.sources[2:], result.frames, strict=True
        ):
            np.testing.assert_array_equal(image, reader[int(frame)])
            assert (source.video, source.frame) == ("walk.mp4", frame)
    assert after.n_labelled == before.n_labelled
    again = suggest_frames(video, glitched, 40, labels=small_set, min_distance=1)
    assert not set(again.frames.tolist()) & {0, 1, *result.frames.tolist()}


def test_smaller_frames_are_padded(video, glitched, tmp_path):
    path = tmp_path / "large.h5"
    labels = dot_annotations(1, size=(64, 70))
    write_annotations(path, attrs.evolve(labels, skeleton=SKELETON))
    result = suggest_frames(video, glitched, 1)
    add_suggestions(path, result, video, glitched)
    after = read_annotations(path)
    assert after.sources[1].size == (48, 64)
    assert not after.images[1][48:].any()
    assert not after.images[1][:, 64:].any()
    assert after.images[1][:48, :64].any()


def test_crops_around_tracks_come_as_crops(video, tmp_path):
    frames = np.arange(40)
    tracks = Tracks(frames, np.full(40, 2), 30.2 + 0 * frames, 20.7 + 0.1 * frames)
    write_tracks(tmp_path / "walk.tracks.h5", tracks)
    provenance = {
        "video": "walk.mp4", **FACTS, "tracks": "walk.tracks.h5", "crop": [16, 20, 1.0, False],
        "track_names": {"2": "fly"},
    }  # fmt: skip
    poses = smooth_poses(track_ids=np.full(40, 2), provenance=provenance)
    write_poses(tmp_path / "walk.poses.h5", poses)
    path = tmp_path / "crops.h5"
    labels = dot_annotations(1, size=(16, 20), channels=3)
    write_annotations(path, attrs.evolve(labels, skeleton=SKELETON))
    result = suggest_frames(video, n=4, labels=path)
    add_suggestions(path, result, video)
    after = read_annotations(path)
    with VideoReader(video) as reader:
        for i, one in enumerate(result.chosen, start=1):
            source = after.sources[i]
            assert (source.frame, source.individual) == (one.frame, "fly")
            matrix = np.array(source.crop).reshape(2, 3)
            left, top = -matrix[:, 2].astype(int)
            piece = reader[one.frame][top : top + 16, left : left + 20]
            np.testing.assert_array_equal(after.images[i], piece)
            np.testing.assert_allclose(
                after.keypoints[i] + [left, top], poses.keypoints[one.row], atol=1e-5
            )
    (tmp_path / "walk.tracks.h5").unlink()
    with pytest.raises(FileMissingError, match=r"no tracks at walk\.tracks\.h5"):
        suggest_frames(video)


def test_images_of_the_very_set_get_guesses_where_nobody_labelled(tmp_path):
    labels = attrs.evolve(dot_annotations(6), skeleton=SKELETON)
    annotated = np.zeros((6, 3), bool)
    annotated[0] = True
    path = tmp_path / "set.h5"
    write_annotations(path, attrs.evolve(labels, annotated=annotated))
    poses = smooth_poses(6, provenance={"images": "set.h5"})
    result = suggest_frames(path, poses, 2)
    assert 0 not in result.frames
    assert add_suggestions(path, result, path, poses) == 2
    after = read_annotations(path)
    np.testing.assert_array_equal(after.annotated, annotated)
    assert len(after) == 6
    for row in range(6):
        expected = poses.keypoints if row in result.frames else labels.keypoints
        np.testing.assert_allclose(after.keypoints[row], expected[row])
    assert not after.visibility[result.frames].any()


def test_a_folder_of_images(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    images = dot_annotations(6, size=(48, 64)).images
    for i in range(6):
        cv2.imwrite(str(folder / f"img{i}.png"), np.asarray(images[i]))
    poses = smooth_poses(6, provenance={"images": "images", "n_frames": 6})
    path = tmp_path / "set.h5"
    write_annotations(path, attrs.evolve(dot_annotations(1), skeleton=SKELETON))
    result = suggest_frames(folder, poses, 4, labels=path)
    add_suggestions(path, result, folder, poses)
    after = read_annotations(path)
    for image, source, frame in zip(
        after.images[1:], after.sources[1:], result.frames, strict=True
    ):
        assert (source.video, source.frame) == (f"images/img{frame}.png", -1)
        np.testing.assert_array_equal(image, images[int(frame)])
    monkeypatch.chdir(folder)
    rest = suggest_frames(".", poses, 6, labels=path).frames
    assert sorted([*rest.tolist(), *result.frames.tolist()]) == list(range(6))


def test_a_set_that_does_not_fit_stays_as_it_is(video, glitched, tmp_path, small_set):
    result = suggest_frames(video, glitched, 2)
    before = small_set.read_bytes()
    renamed = attrs.evolve(glitched, skeleton=Skeleton(("x", "y", "z")))
    with pytest.raises(ValidationError, match="no keypoint in common: the poses have x, y, z"):
        add_suggestions(small_set, result, video, renamed)
    assert small_set.read_bytes() == before
    tiny = tmp_path / "tiny.h5"
    write_annotations(tiny, attrs.evolve(dot_annotations(1, size=(32, 32)), skeleton=SKELETON))
    with pytest.raises(ValidationError, match=r"48x64 pixels .*tiny\.h5 of 32x32"):
        add_suggestions(tiny, result, video, glitched)
    assert len(read_annotations(tiny)) == 1
    with pytest.raises(FileMissingError, match="dpk sample"):
        add_suggestions(tmp_path / "no.h5", result, video, glitched)


# -- the command ---------------------------------------------------------------------------------


def test_the_command_prints_reasons_and_adds(video, glitched, small_set, tmp_path):
    write_poses(tmp_path / "walk.poses.h5", glitched)
    result = dpk("suggest", video, "-n", 2, "--by", "acceleration")
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert lines[0] == ["frame", "rank", "why"]
    assert lines[1][:2] == ["21", "1.00"]
    assert lines[1][2].startswith("left changed its way by")
    added = dpk("suggest", video, "-n", 5, "--add", small_set)
    assert added.exit_code == 0, added.output
    assert added.stdout.splitlines()[-1] == f"{small_set}: 5 frames to label"
    assert len(read_annotations(small_set)) == 7
    both = dpk("suggest", video, "--add", small_set, "--labels", small_set)
    assert both.exit_code == 2
    missing = dpk("suggest", video, "--poses", tmp_path / "no.h5")
    assert missing.exit_code == 1
    assert "Traceback" not in missing.output
