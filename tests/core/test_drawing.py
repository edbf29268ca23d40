"""Drawing: exact places, sizes that follow the image, sides that can be told apart."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpk_core import Skeleton
from dpk_core.errors import ValidationError
from dpk_core.services.drawing import (
    DrawStyle,
    draw_label,
    draw_legend,
    draw_pose,
    draw_trails,
    to_rgb,
)
from dpk_core.services.palette import keypoint_colors, sides

DOT = Skeleton(("dot",))
WHITE = DrawStyle(colors=np.array([[255, 255, 255]]))
PAIR = Skeleton(("a", "b"), parent=(-1, 0))
INSECT = Skeleton.from_rows(
    [
        ("head", None, None),
        ("antennaL", "head", "antennaR"),
        ("antennaR", "head", "antennaL"),
        ("thorax", "head", None),
        ("legL1", "thorax", "legR1"),
        ("footL1", "legL1", "footR1"),
        ("legR1", "thorax", "legL1"),
        ("footR1", "legR1", "footL1"),
        ("legL2", "thorax", "legR2"),
        ("legR2", "thorax", "legL2"),
    ]
)


def centroid(drawn: np.ndarray) -> np.ndarray:
    weight = drawn.astype(float).sum(axis=2)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(40, 120),
    y=st.floats(30, 70),
    size=st.sampled_from([0.5, 1.0, 2.0, 6.0]),
    score=st.sampled_from([0.0, 1.0]),
)
def test_a_point_lies_where_it_belongs(x, y, size, score):
    style = DrawStyle(size=size, colors=WHITE.colors)
    drawn = draw_pose(np.zeros((100, 160), np.uint8), [[x, y]], [score], DOT, style=style)
    assert np.abs(centroid(drawn) - (x, y)).max() < 0.1


@settings(max_examples=30, deadline=None)
@given(ax=st.floats(20, 140), ay=st.floats(20, 80), bx=st.floats(20, 140), by=st.floats(20, 80))
def test_an_edge_runs_from_point_to_point(ax, ay, bx, by):
    a, b = np.array([ax, ay]), np.array([bx, by])
    assume(np.hypot(*(b - a)) > 3)
    style = DrawStyle(points=False, colors=np.full((2, 3), 255))
    drawn = draw_pose(np.zeros((100, 160), np.uint8), np.stack([a, b]), None, PAIR, style=style)
    assert np.abs(centroid(drawn) - (a + b) / 2).max() < 0.5


def test_pixel_centres_are_whole_numbers():
    drawn = draw_pose(np.zeros((41, 41), np.uint8), [[20, 20]], None, DOT, style=WHITE)
    assert drawn[20, 20].min() == 255
    mirrored = [drawn[::-1], drawn[:, ::-1], drawn.transpose(1, 0, 2)]
    for other in mirrored:
        np.testing.assert_array_equal(drawn, other)


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 1), (48, 64, 3), (2160, 3840, 3), (1, 1)])
def test_any_frame_becomes_rgb_and_stays_as_it_was(shape):
    frame = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    before = frame.copy()
    middle = [(shape[1] - 1) / 2, (shape[0] - 1) / 2]
    drawn = draw_pose(frame, [middle], None, DOT, style=WHITE)
    assert drawn.shape == (*shape[:2], 3)
    assert drawn.dtype == np.uint8
    assert drawn[shape[0] // 2, shape[1] // 2].min() > 200
    np.testing.assert_array_equal(frame, before)


def test_sizes_grow_with_the_image_and_edges_stay_thinner_than_points():
    sizes = [(32, 32), (160, 160), (480, 640), (2160, 3840)]
    radii = [DrawStyle().point_radius(size) for size in sizes]
    assert radii == sorted(radii)
    assert radii[-1] > 15
    for size in sizes:
        assert DrawStyle().line_width(size) < 2 * DrawStyle().point_radius(size)


def test_missing_and_distant_points_are_left_out():
    frame = np.zeros((40, 60), np.uint8)
    for point in ([np.nan, 3], [np.nan, np.nan], [1e9, -1e9], [-300, 20]):
        assert not draw_pose(frame, [point], [1.0], DOT).any()
    assert not draw_pose(frame, [[np.nan, np.nan], [500, 500]], None, PAIR).any()


def test_an_edge_to_a_point_outside_still_enters_the_frame():
    frame = np.zeros((40, 60), np.uint8)
    drawn = draw_pose(frame, [[30, 20], [300, 20]], None, PAIR)
    assert drawn[20, 59].any()
    assert not drawn[5].any()


def test_low_scores_are_hollow_and_faint():
    frame = np.zeros((300, 300), np.uint8)
    style = DrawStyle(size=4, colors=WHITE.colors)
    sure = draw_pose(frame, [[150, 150]], [0.9], DOT, min_score=0.5, style=style)
    unsure = draw_pose(frame, [[150, 150]], [0.4], DOT, min_score=0.5, style=style)
    assert sure[150, 150, 0] == 255
    assert unsure[150, 150, 0] == 0
    assert 60 < unsure.max() < 160


def test_an_edge_to_an_unsure_point_is_faint():
    frame = np.zeros((100, 100), np.uint8)
    style = DrawStyle(points=False, colors=np.full((2, 3), 255))
    points = [[20, 50], [80, 50]]
    sure = draw_pose(frame, points, [1, 1], PAIR, style=style)
    unsure = draw_pose(frame, points, [1, 0], PAIR, style=style)
    assert unsure[50, 50, 0] < 0.6 * sure[50, 50, 0]


def test_several_individuals_in_one_frame():
    both = draw_pose(np.zeros((60, 60), np.uint8), [[[15, 30]], [[45, 30]]], None, DOT, style=WHITE)
    assert both[30, 15, 0] == both[30, 45, 0] == 255
    assert both[30, 30, 0] == 0


def test_left_is_cool_and_right_is_warm_and_every_limb_has_its_colour():
    colors = keypoint_colors(INSECT)
    for color, side in zip(colors, sides(INSECT), strict=True):
        red, _, blue = (int(v) for v in color)
        if side == "left":
            assert blue > red + 80
        elif side == "right":
            assert red > blue + 80
    hues = {
        round(360 * colorsys.rgb_to_hls(*(colors[INSECT.index(name)] / 255))[0])
        for name in ("antennaL", "legL1", "legL2", "antennaR", "legR1", "legR2")
    }
    assert min(np.diff(sorted(hues))) > 10
    np.testing.assert_array_equal(np.unique(colors, axis=0).shape, (len(INSECT), 3))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("snout", "", ""), ("leftear", "", ""), ("rightear", "", "")], "mlr"),
        ([("paw_L", "", ""), ("R_paw", "", ""), ("tail", "", "")], "lrm"),
        ([("eye1", "", "eye2"), ("eye2", "", "eye1")], "lr"),
        ([("Rhip", "", "Lhip"), ("Lhip", "", "Rhip")], "rl"),
        ([("hipR", "", "hipL"), ("hipL", "", "hipR"), ("knee", "hipR", "")], "rlr"),
        ([("tail", "", ""), ("nail", "", ""), ("roll", "", "")], "mmm"),
    ],
)
def test_sides(rows, expected):
    found = sides(Skeleton.from_rows(rows))
    assert "".join(side[0] for side in found) == expected


@pytest.mark.parametrize("k", [1, 4, 7, 12, 40])
def test_keypoints_without_sides_have_different_colours(k):
    colors = keypoint_colors(Skeleton([f"p{i}" for i in range(k)])).astype(int)
    distances = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 999 * np.eye(k, dtype=int)
    assert distances.min() > 20


def test_trails_fade_with_age_and_stop_at_gaps():
    frame = np.zeros((60, 120), np.uint8)
    history = np.stack([np.linspace(10, 110, 11), np.full(11, 30.0)], axis=1)[:, None]
    drawn = draw_trails(frame, history, DOT, style=WHITE)[30, :, 0].astype(int)
    assert 0 < drawn[15] < drawn[60] < drawn[105]
    history[5] = np.nan
    broken = draw_trails(frame, history, DOT, style=WHITE)[30, :, 0]
    assert broken[60] == 0
    assert broken[105] > 0
    assert not draw_trails(frame, history[:1], DOT).any()


def test_legend_and_label_write_something_where_there_is_room():
    frame = np.zeros((200, 200), np.uint8)
    legend = draw_legend(frame, INSECT)
    assert legend[:, :100].any()
    assert not draw_legend(np.zeros((20, 20), np.uint8), INSECT).any()
    assert draw_label(frame, "7", (100, 100)).any()
    assert not draw_label(frame, "7", (np.nan, 3)).any()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((4, 4)), "expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), "1 or 3 channels"),
        (np.zeros((0, 4, 3), np.uint8), "1 or 3 channels"),
    ],
)
def test_wrong_frames(frame, message):
    with pytest.raises(ValidationError, match=message):
        to_rgb(frame)


def test_wrong_arguments():
    frame = np.zeros((40, 40), np.uint8)
    with pytest.raises(ValidationError, match="keypoints: expected shape"):
        draw_pose(frame, np.zeros((3, 2)), None, PAIR)
    with pytest.raises(ValidationError, match="scores: expected shape"):
        draw_pose(frame, np.zeros((2, 2)), np.ones(3), PAIR)
    with pytest.raises(ValidationError, match="opacity"):
        DrawStyle(opacity=1.5)
    with pytest.raises(ValidationError, match="size"):
        DrawStyle(size=0)
