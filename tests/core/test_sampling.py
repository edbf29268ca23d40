"""Sampling of frames from a video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import ValidationError, VideoError
from dpk_core.services.sampling import sample_frames


class Scenes:
    """A video whose frame i shows scene ``scene(i)``, with noise, and that counts what is read."""

    def __init__(self, scenes, size=(48, 80), channels=3, readable=None) -> None:
        self.scenes = np.asarray(scenes)
        self.size, self.channels = size, channels
        self.readable = len(self.scenes) if readable is None else readable
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.scenes)

    def frames(self, start: int, stop: int, step: int):
        height, width = self.size
        for i in range(start, min(stop, self.readable), step):
            self.read.append(i)
            rng = np.random.default_rng(i)
            frame = rng.integers(0, 10, (height, width, self.channels), dtype=np.uint8)
            column = 10 * int(self.scenes[i])
            frame[10:30, column : column + 10] = 220
            yield frame


def test_kmeans_finds_rare_scenes_and_takes_equally_many():
    scenes = np.zeros(300, int)
    scenes[[40, 41, 42, 200, 201]] = [1, 1, 1, 2, 2]
    chosen = sample_frames(Scenes(scenes), 6, n_clusters=3)
    assert np.bincount(scenes[chosen]).tolist() == [2, 2, 2]
    assert np.bincount(scenes[sample_frames(Scenes(scenes), 10, n_clusters=3)]).tolist() == [
        5,
        3,
        2,
    ]


@pytest.mark.parametrize("method", ["kmeans", "uniform", "random"])
def test_the_same_seed_repeats(method):
    scenes = np.arange(100) % 7
    first = sample_frames(Scenes(scenes), 12, method, seed=1)
    np.testing.assert_array_equal(first, sample_frames(Scenes(scenes), 12, method, seed=1))
    if method != "uniform":
        assert not np.array_equal(first, sample_frames(Scenes(scenes), 12, method, seed=2))


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 60),
    n=st.integers(1, 60),
    method=st.sampled_from(["kmeans", "uniform", "random"]),
    start=st.integers(0, 20),
    max_candidates=st.integers(1, 60),
    exclude=st.lists(st.integers(0, 60), max_size=20),
)
def test_frames_are_sorted_unique_and_within_range(
    length, n, method, start, max_candidates, exclude
):
    choosable = sorted(set(range(start, length)) - set(exclude))
    if len(choosable) < n:
        return
    video = Scenes(np.arange(length) % 5, size=(8, 60), channels=1)
    chosen = sample_frames(
        video, n, method, start=start, exclude=exclude, max_candidates=max_candidates
    )
    assert chosen.dtype == np.int64
    assert len(chosen) == n
    assert (np.diff(chosen) > 0).all()
    assert set(chosen.tolist()) <= set(choosable)


def test_uniform_is_evenly_spaced_without_reading():
    video = Scenes(np.zeros(100))
    assert sample_frames(video, 4, "uniform").tolist() == [12, 37, 62, 87]
    assert sample_frames(video, 2, "uniform", start=50, stop=60).tolist() == [52, 57]
    assert video.read == []


def test_a_long_video_is_read_on_a_stride_with_progress():
    video, seen = Scenes(np.arange(5000) % 3), []
    chosen = sample_frames(video, 5, max_candidates=50, progress=lambda *step: seen.append(step))
    assert len(video.read) == 50
    assert set(chosen.tolist()) <= set(range(0, 5000, 100))
    assert seen[-1] == (50, 50)


def test_more_frames_than_there_are_gives_all_with_a_warning():
    with pytest.warns(UserWarning, match="asked for 9 frames, but there are only 4"):
        assert sample_frames(Scenes(np.zeros(4)), 9).tolist() == [0, 1, 2, 3]


def test_a_video_that_never_changes_can_be_sampled():
    class Still(Scenes):
        def frames(self, start, stop, step):
            return (np.full((40, 40, 1), 7, np.uint8) for _ in range(start, stop, step))

    assert len(sample_frames(Still(np.zeros(30)), 5)) == 5


def test_a_video_that_ends_early_is_sampled_where_it_can_be_read():
    chosen = sample_frames(Scenes(np.zeros(60), readable=20), 5)
    assert len(chosen) == 5
    assert chosen.max() < 20
    with pytest.warns(UserWarning, match="only 20 could be read"):
        assert len(sample_frames(Scenes(np.zeros(60), readable=20), 30)) == 20
    with pytest.raises(VideoError, match="none of 60 frames could be read"):
        sample_frames(Scenes(np.zeros(60), readable=0), 5)


def test_a_damaged_video_is_sampled_before_the_damage():
    class Damaged(Scenes):
        def frames(self, start, stop, step):
            yield from super().frames(start, min(stop, self.readable), step)
            raise VideoError(f"frame {self.readable} cannot be decoded")

    with pytest.warns(UserWarning, match="frame 20 cannot be decoded; choosing from the frames"):
        chosen = sample_frames(Damaged(np.zeros(60), readable=20), 5)
    assert len(chosen) == 5
    assert chosen.max() < 20
    with pytest.raises(VideoError, match="frame 0 cannot"):
        sample_frames(Damaged(np.zeros(60), readable=0), 5)


def test_wrong_requests_say_what_is_expected():
    video = Scenes(np.zeros(10))
    with pytest.raises(ValidationError, match=r"kmeans.*found 'means'"):
        sample_frames(video, 3, "means")
    with pytest.raises(ValidationError, match="n: expected at least 1, found 0"):
        sample_frames(video, 0)
    with pytest.raises(VideoError, match="the video has 10"):
        sample_frames(video, 3, start=10)
    with pytest.raises(VideoError, match="the video has 0"):
        sample_frames(Scenes([]), 3)
    with pytest.raises(ValidationError, match="excluded"):
        sample_frames(video, 3, stop=2, exclude=[0, 1])
