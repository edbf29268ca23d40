"""Maps drawn in the compiled step, compared with slow drawings made another way."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_models.maps import MAP_SCALE, draw_maps, masked_mse

# Two limbs: 0 - 1 - 2 with 3 on 1, and 4 - 5; 6 stands alone.
SKELETON = Skeleton(tuple("abcdefg"), (-1, 0, 1, 1, -1, 4, -1))
EDGES = [(1, 0), (2, 1), (3, 1), (5, 4)]
LIMBS = [[0, 1, 2], [3]]
TASK = Task((40, 56, 1), SKELETON, downsample_factor=2, sigma=5.0)


def draw(keypoints: np.ndarray, task: Task = TASK) -> tuple[np.ndarray, np.ndarray]:
    maps, weights = draw_maps(np.asarray(keypoints, "float32"), task)
    maps, weights = keras.ops.convert_to_numpy(maps), keras.ops.convert_to_numpy(weights)
    n, c = len(keypoints), task.n_output_channels
    assert maps.shape == (n, *task.output_shape, c)
    assert weights.shape == (n, 1, 1, c)
    assert maps.dtype == weights.dtype == np.float32
    return maps, weights[:, 0, 0]


def draw_slowly(keypoints: np.ndarray, task: Task = TASK) -> np.ndarray:
    """(k, 2) -> (h, w, c) in 0..1: lines as many thousand dots, each blurred on its own."""
    height, width = task.output_shape
    stride = task.output_stride

    def blurred(dots: np.ndarray) -> np.ndarray:
        image = np.zeros((height, width))
        for row in range(height):
            for column in range(width):
                here = ((column + 0.5) * stride - 0.5, (row + 0.5) * stride - 0.5)
                squared = ((dots - here) ** 2).sum(axis=1)
                image[row, column] = np.exp(-squared / (2 * task.sigma**2)).mean()
        return image

    def segment(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        steps = (np.arange(2000) + 0.5) / 2000
        dots = a + steps[:, None] * (b - a)
        highest = np.exp(-((dots - (a + b) / 2) ** 2).sum(axis=1) / (2 * task.sigma**2)).mean()
        return blurred(dots) / highest

    points = [blurred(p[None]) for p in keypoints]
    segments = [segment(keypoints[a], keypoints[b]) for a, b in EDGES]
    limbs = [np.minimum(sum(segments[e] for e in edges), 1) for edges in LIMBS]
    graph = np.minimum(sum(segments), 1)
    everything = np.minimum(graph + sum(points), 1)
    return np.stack([*points, *limbs, *segments, graph, everything], axis=-1)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_slow_drawing(seed):
    keypoints = np.random.default_rng(seed).uniform((-5, -5), (60, 45), (1, 7, 2))
    keypoints[0, 5] = keypoints[0, 4] + (0.6, -0.3)  # a segment far shorter than sigma
    maps, weights = draw(keypoints)
    np.testing.assert_allclose(maps[0] / MAP_SCALE, draw_slowly(keypoints[0]), atol=2e-4)
    assert (weights == 1).all()


def draw_with_opencv(keypoints: np.ndarray, task: Task, fine: int = 9) -> np.ndarray:
    """(k, 2) -> segments (h, w, e): thin lines on a fine raster, blurred by OpenCV, and sampled.

    Every segment is divided by its value in the middle, as that of a short one is below 1.
    """
    cv2 = pytest.importorskip("cv2")
    height, width = task.output_shape
    margin, shift = 40, 8  # map pixels around, so that nothing is cut off; bits of a fraction
    sigma = fine * task.sigma / task.output_stride
    on_map = (keypoints + 0.5) / task.output_stride - 0.5
    on_raster = (on_map + margin) * fine + (fine - 1) / 2

    def segment(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        raster = np.zeros(((height + 2 * margin) * fine, (width + 2 * margin) * fine), np.uint8)
        ends = [tuple(int(v) for v in np.rint(p * 2**shift)) for p in (a, b)]
        cv2.line(raster, *ends, 255, 1, cv2.LINE_AA, shift)
        blurred = cv2.GaussianBlur(raster.astype(np.float64), (0, 0), sigma)
        middle = cv2.getRectSubPix(
            blurred.astype(np.float32), (1, 1), tuple(float(v) for v in (a + b) / 2)
        )[0, 0]
        inner = blurred[margin * fine : -margin * fine, margin * fine : -margin * fine]
        return inner[fine // 2 :: fine, fine // 2 :: fine] / middle

    return np.stack([segment(on_raster[a], on_raster[b]) for a, b in EDGES], axis=-1)


@pytest.mark.parametrize("stride_exponent", [1, 2, 3])
def test_segments_agree_with_lines_blurred_by_opencv(stride_exponent):
    task = Task((40, 56, 1), SKELETON, downsample_factor=stride_exponent, sigma=5.0)
    rng = np.random.default_rng(stride_exponent)
    while True:  # lines of some length: OpenCV draws whole pixels of the raster at the ends
        keypoints = rng.uniform((-5, -5), (60, 45), (7, 2))
        if min(np.linalg.norm(keypoints[a] - keypoints[b]) for a, b in EDGES) > 12:
            break
    maps, _ = draw(keypoints[None], task)
    segments = maps[0, ..., 9:13] / MAP_SCALE
    np.testing.assert_allclose(segments, draw_with_opencv(keypoints, task), atol=0.03)


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 160])
def test_a_line_is_as_wide_as_a_peak(angle):
    """Across the middle of a long segment the profile is the one through a keypoint."""
    task = Task((81, 81, 1), Skeleton(("a", "b"), (-1, 0)), downsample_factor=0, sigma=3.0)
    way = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    ends = np.stack([(40, 40) - 30 * way, (40, 40) + 30 * way])
    segment = draw(ends[None], task)[0][0, ..., 3] / MAP_SCALE
    y, x = np.mgrid[:81, :81]
    across = (x - 40) * way[1] - (y - 40) * way[0]
    near = np.abs((x - 40) * way[0] + (y - 40) * way[1]) < 15
    profile = np.exp(-(across**2) / (2 * 3.0**2))
    np.testing.assert_allclose(segment[near], profile[near], atol=1e-3)


def test_a_keypoint_on_the_centre_of_a_cell_is_brightest_there():
    keypoints = np.full((1, 7, 2), np.nan)
    keypoints[0, 0] = (21.5, 9.5)  # the middle of image pixels 20..23 and 8..11
    maps, _ = draw(keypoints)
    assert maps[0, 2, 5, 0] == MAP_SCALE
    assert (maps[0, ..., 0] == MAP_SCALE).sum() == 1


@pytest.mark.parametrize(("stride_exponent", "neighbour"), [(0, 0.980199), (2, 0.726149)])
def test_a_peak_is_as_wide_in_the_image_whatever_the_stride(stride_exponent, neighbour):
    # exp(-(1/5)^2 / 2) one pixel away, exp(-(4/5)^2 / 2) four pixels away.
    task = Task((40, 56, 1), Skeleton(("a",)), downsample_factor=stride_exponent, sigma=5.0)
    centre = 2.5 * task.output_stride - 0.5
    maps, _ = draw(np.array([[[centre, centre]]]), task)
    assert maps[0, 2, 3, 0] / MAP_SCALE == pytest.approx(neighbour, abs=1e-5)


def test_a_segment_without_length_is_a_peak():
    keypoints = np.full((1, 7, 2), (25.5, 21.5))
    maps, _ = draw(keypoints)
    points, segments = maps[0, ..., :7], maps[0, ..., 9:13]
    np.testing.assert_allclose(segments, points[..., :4], atol=1e-3 * MAP_SCALE)


def test_limbs_and_graphs_are_cut_off_at_the_height_of_a_peak():
    keypoints = np.full((1, 7, 2), (25.5, 21.5))
    maps, _ = draw(keypoints)
    assert maps.max() == MAP_SCALE


def test_what_a_missing_keypoint_takes_with_it():
    keypoints = np.random.default_rng(0).uniform(5, 35, (1, 7, 2))
    keypoints[0, 2] = np.nan
    maps, weights = draw(keypoints)
    #              a  b  c  d  e  f  g  limbs segments    graph, everything
    expected = [1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 0, 0]
    assert weights[0].tolist() == expected
    assert (maps[0, ..., 2] == 0).all()
    assert (maps[0, ..., 10] == 0).all()
    keypoints[0, 2] = 20.0
    keypoints[0, 6, 1] = np.nan  # half a keypoint is none; this one has no edge
    _, weights = draw(keypoints)
    assert weights[0].tolist() == [1] * 6 + [0] + [1] * 7 + [0]


@given(
    hnp.arrays(
        np.float32,
        (3, 7, 2),
        elements=st.one_of(
            st.floats(-80, 120, width=32), st.just(np.nan), st.just(np.inf), st.just(20.0)
        ),
    )
)
@settings(max_examples=60, deadline=None)
def test_maps_are_finite_and_in_range_whatever_is_missing(keypoints):
    maps, weights = draw(keypoints)
    assert np.isfinite(maps).all()
    assert maps.min() >= 0
    assert maps.max() <= MAP_SCALE * (1 + 1e-6)
    known = np.isfinite(keypoints).all(axis=-1)
    edges = np.stack([known[:, a] & known[:, b] for a, b in EDGES], axis=1)
    limbs = np.stack([edges[:, edges_of].all(axis=1) for edges_of in LIMBS], axis=1)
    graph = edges.all(axis=1, keepdims=True)
    everything = known.all(axis=1, keepdims=True)
    expected = np.concatenate([known, limbs, edges, graph, everything], axis=1)
    np.testing.assert_array_equal(weights, expected)
    assert (maps[..., :7] == 0).all(axis=(1, 2))[~known].all()


def test_without_graph_there_are_only_keypoints():
    keypoints = np.random.default_rng(0).uniform(5, 35, (2, 7, 2))
    with_graph, _ = draw(keypoints)
    plain, weights = draw(keypoints, Task((40, 56, 1), SKELETON, use_graph=False))
    np.testing.assert_array_equal(plain, with_graph[..., :7])
    assert weights.shape == (2, 7)
    draw(np.zeros((1, 2, 2)), Task((40, 56, 1), Skeleton(("a", "b"))))  # no edges: no graph


# -- the loss -----------------------------------------------------------------------------------


def loss(true: np.ndarray, weights: np.ndarray, predicted: np.ndarray) -> float:
    return float(masked_mse(*(np.asarray(a, "float32") for a in (true, weights, predicted))))


def test_without_missing_keypoints_the_loss_is_the_mean_squared_error():
    rng = np.random.default_rng(0)
    true, predicted = rng.normal(size=(2, 3, 4, 5, 6))
    expected = np.mean((true - predicted) ** 2)
    assert loss(true, np.ones((3, 1, 1, 6)), predicted) == pytest.approx(expected, rel=1e-5)


def test_an_unlabelled_image_changes_nothing():
    rng = np.random.default_rng(0)
    true, predicted = rng.normal(size=(2, 3, 4, 5, 6))
    weights = rng.integers(0, 2, (3, 1, 1, 6))
    weights[2] = 0
    with_it = loss(true, weights, predicted)
    assert with_it == pytest.approx(loss(true[:2], weights[:2], predicted[:2]), rel=1e-6)
    chosen = ((true - predicted) ** 2).mean(axis=(1, 2))[weights[:, 0, 0].astype(bool)]
    assert with_it == pytest.approx(chosen.mean(), rel=1e-5)


def test_the_loss_of_nothing_is_zero():
    assert loss(np.zeros((2, 4, 4, 3)), np.zeros((2, 1, 1, 3)), np.ones((2, 4, 4, 3))) == 0


class OneLayer(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.layer = keras.layers.Conv2D(TASK.n_output_channels, 4, strides=4)

    def call(self, images):
        return self.layer(keras.ops.cast(images, "float32"))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        maps, weights = draw_maps(y, TASK)
        return masked_mse(maps, weights, y_pred)


def test_gradients_stay_finite_in_a_compiled_step():
    keypoints = np.full((3, 7, 2), np.nan, "float32")
    keypoints[0, :3] = (20.0, 10.0)  # two segments of length 0
    keypoints[1] = np.random.default_rng(0).uniform(0, 40, (7, 2))
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 56, 1), dtype=np.uint8)
    model = OneLayer()
    model.compile(optimizer=keras.optimizers.SGD(1e-6))
    for batch in (keypoints, np.full_like(keypoints, np.nan)):
        before = [w.copy() for w in model.get_weights()]
        value = model.train_on_batch(images, batch)
        after = model.get_weights()
        assert np.isfinite(value)
        assert all(np.isfinite(w).all() for w in after)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)  # the last batch has no keypoint at all
