"""Splits: what is held out, and that neighbours stay together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import FileFormatError, ValidationError
from dpk_core.services.splits import Split, make_split


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 120),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 1000),
    n_videos=st.integers(0, 12),
    knows_frames=st.booleans(),
    group_by=st.sampled_from(["auto", "video", "block", "random"]),
)
def test_every_row_is_used_once(n, fraction, seed, n_videos, knows_frames, group_by):
    rng = np.random.default_rng(seed)
    groups = [f"video {i}" for i in rng.integers(0, n_videos, n)] if n_videos else None
    frames = rng.integers(-1, 30, n) if knows_frames else None
    if group_by == "video" and (groups is None or len(set(groups)) < 2):
        return
    split = make_split(n, fraction, seed=seed, groups=groups, frames=frames, group_by=group_by)
    both = np.concatenate([split.train, split.validation])
    assert sorted(both.tolist()) == list(range(n))
    assert len(split.train) >= 1
    if fraction == 0:
        assert len(split.validation) == 0
    elif n >= 5:
        assert len(split.validation) >= 1
    if split.method == "random":
        wanted = max(fraction * n, 1 if n >= 5 else 0)
        assert abs(len(split.validation) - min(wanted, n - 1)) <= 0.5
    again = make_split(n, fraction, seed=seed, groups=groups, frames=frames, group_by=group_by)
    assert again == split
    assert Split.from_json(split.to_json()) == split


@pytest.mark.parametrize("seed", range(10))
def test_a_single_video_holds_out_one_run_of_frames(seed):
    frames = np.random.default_rng(seed).permutation(500)[:100]
    split = make_split(100, 0.1, seed=seed, groups=["a"] * 100, frames=frames)
    assert split.method == "block"
    assert len(split.validation) == 10
    ranks = np.argsort(np.argsort(frames))[split.validation]
    assert np.ptp(ranks) == 9


def test_many_images_hold_out_runs_all_over_the_video():
    split = make_split(1000, 0.1, frames=np.arange(1000))
    starts = np.flatnonzero(np.diff(split.validation, prepend=-2) > 1)
    assert len(split.validation) == 100
    assert 8 <= len(starts) <= 10
    # a run in every tenth of the video
    assert set(split.validation // 100) == set(range(10))


def test_each_video_gives_its_share_of_blocks():
    groups = ["long"] * 200 + ["short"] * 100
    split = make_split(300, 0.1, groups=groups, frames=[*range(200), *range(100)])
    assert split.method == "block"
    assert (split.validation < 200).sum() == 20
    assert (split.validation >= 200).sum() == 10


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), fraction=st.floats(0.02, 0.9))
def test_individuals_of_one_frame_stay_together(seed, fraction):
    frames = np.random.default_rng(seed).integers(0, 30, 100)
    split = make_split(100, fraction, seed=seed, groups=["a"] * 100, frames=frames)
    if split.method == "block":
        assert not set(frames[split.train]) & set(frames[split.validation])


def test_many_videos_are_held_out_whole():
    groups = [f"video {i // 10}" for i in range(200)]
    split = make_split(200, 0.1, groups=groups, frames=np.tile(np.arange(10), 20))
    assert split.method == "video"
    names = np.array(groups)
    assert set(names[split.validation]) == set(split.held_out)
    assert not set(names[split.train]) & set(split.held_out)
    assert len(split.validation) == 20


def test_videos_larger_than_the_fraction_hold_out_the_smallest():
    groups = ["a"] * 50 + ["b"] * 40 + ["c"] * 60
    split = make_split(150, 0.05, groups=groups, group_by="video")
    assert split.held_out == ("b",)


def test_nothing_known_falls_back_to_single_images():
    assert make_split(50, 0.1).method == "random"
    assert make_split(50, 0.1, groups=[""] * 50, frames=[-1] * 50).method == "random"
    # one single moment cannot be divided
    assert make_split(6, 0.5, groups=["a"] * 6, frames=[3] * 6).method == "random"


def test_seeds_differ():
    validations = {tuple(make_split(100, 0.1, seed=seed).validation) for seed in range(5)}
    assert len(validations) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_images": 0}, "at least one image"),
        ({"n_images": 9, "fraction": 1.0}, "fraction from 0 to below 1, found 1.0"),
        ({"n_images": 9, "fraction": -0.1}, "fraction from 0"),
        ({"n_images": 9, "group_by": "clip"}, "found 'clip'"),
        ({"n_images": 9, "groups": ["a"]}, "groups: expected one for each of 9"),
        ({"n_images": 9, "group_by": "video"}, "at least two videos"),
    ],
)
def test_wrong_requests_say_what_is_expected(arguments, message):
    with pytest.raises(ValidationError, match=message):
        make_split(**arguments)


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ([], [1], "at least one training image"),
        ([0, 1], [1], "row 1 stands more than once"),
        ([0, 7], [1], "row 7 is outside"),
        ([0], [-1], "row -1 is outside"),
    ],
)
def test_a_split_that_is_none_is_refused(train, validation, message):
    with pytest.raises(ValidationError, match=message):
        Split(train, validation, 5)


def test_a_split_cannot_be_changed():
    split = make_split(10, 0.2)
    with pytest.raises(ValueError, match="read-only"):
        split.train[0] = 3


@pytest.mark.parametrize("text", ["{", "[1]", '{"train": [1]}', ""])
def test_text_that_is_no_split_is_refused(text):
    with pytest.raises(FileFormatError, match="not a split"):
        Split.from_json(text)
