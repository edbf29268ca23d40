"""Maps of several animals against a slow drawing, their loss, and all of their peaks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import AnnotationSet, Skeleton, Source, Task, TrainingGenerator
from dpk_core.centroids import Centroids
from dpk_core.errors import DpkWarning, ValidationError
from dpk_core.services.centroid_labels import label_centroids
from dpk_core.services.centroid_matching import in_order_of, match_points, score_detections
from dpk_models import PoseModel, pose_model
from dpk_models.centroids import FAR_WEIGHT, SeveralPeaks
from dpk_models.maps import MAP_SCALE, draw_maps, masked_mse
from dpk_models.peaks import Dark2D, Maxima2D, SubpixelMaxima2D

SIZE = (44, 58)  # a part of a cell at both borders


def task_of(m: int, **options) -> Task:
    places = Skeleton(tuple(f"animal_{i}" for i in range(m)))
    return Task((*SIZE, 1), places, sigma=5.0, centroids=Centroids(**options))


def draw_slowly(points: np.ndarray, task: Task) -> np.ndarray:
    """(m, 2) in image pixels -> (h, w): of each pixel the Gaussian of the nearest point."""
    height, width = task.output_shape
    image = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            here = (np.array([column, row]) + 0.5) * task.output_stride - 0.5
            for point in points[np.isfinite(points).all(axis=1)]:
                value = np.exp(-((point - here) ** 2).sum() / (2 * task.sigma**2))
                image[row, column] = max(image[row, column], value)
    return image


def drawn(points: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    maps, weights = draw_maps(points.astype("float32"), task)
    return keras.ops.convert_to_numpy(maps), keras.ops.convert_to_numpy(weights)


@pytest.mark.parametrize("m", [1, 3, 8, 9, 20])
def test_agrees_with_a_slow_drawing(m):
    task = task_of(m)
    points = np.random.default_rng(m).uniform((-6, -6), (64, 50), (2, m, 2))
    points[1, ::2] = np.nan
    maps, weights = drawn(points, task)
    assert maps.shape == (2, *task.output_shape, 1)
    expected = np.stack([draw_slowly(p, task) for p in points])
    np.testing.assert_allclose(maps[..., 0] / MAP_SCALE, expected, atol=1e-5)
    np.testing.assert_array_equal(weights[:, 0, 0, 0], [1, 0 if m == 1 else 1])


@pytest.mark.parametrize("m", [1, 2, 11])
def test_of_one_animal_it_is_the_map_of_a_keypoint(m):
    """Places that stay empty change nothing, and the loss is that of a pose model."""
    point = np.array([[[20.3, 31.8]], [[55.0, 2.0]]])
    padded = np.concatenate([point, np.full((2, m - 1, 2), np.nan)], axis=1)
    maps, weights = drawn(padded, task_of(m))
    pose = Task((*SIZE, 1), Skeleton(("spot",)), sigma=5.0)
    expected, of_pose = drawn(point, pose)
    np.testing.assert_allclose(maps, expected, atol=1e-3)
    predicted = np.random.default_rng(0).uniform(0, 255, maps.shape).astype("float32")
    loss = float(masked_mse(maps, weights, predicted))
    assert loss == pytest.approx(float(masked_mse(expected, of_pose, predicted)), rel=1e-5)


def test_order_of_the_animals_does_not_matter():
    points = np.random.default_rng(4).uniform(0, 44, (1, 10, 2))
    np.testing.assert_allclose(
        drawn(points, task_of(10))[0], drawn(points[:, ::-1], task_of(10))[0]
    )


def test_images_without_an_animal_weigh_nothing():
    """They stand for images that only fill up a batch."""
    points = np.array([[[20.0, 20.0]], [[np.nan] * 2]])
    maps, weights = drawn(points, task_of(1))
    assert maps[1].max() == 0
    assert weights.ravel().tolist() == [1, 0]


def test_where_others_may_be_far_pixels_weigh_less():
    """The best that a network can learn of animals of which half are labelled is 0.91, not 0.5."""
    task = task_of(1, partly_labelled=True)
    here, there = np.array([12.0, 12.0]), np.array([45.0, 30.0])
    points = np.array([[here], [there]])  # two images that look alike: both animals are in both
    maps, weights = drawn(points, task)
    assert set(np.unique(weights)) == {np.float32(1), np.float32(FAR_WEIGHT)}
    best = (weights * maps).sum(axis=0) / weights.sum(axis=0)
    assert best.max() / MAP_SCALE == pytest.approx(maps.max() / MAP_SCALE / 1.1, abs=1e-3)
    near = weights[0, :, :, 0] == 1
    rows, columns = np.nonzero(near)
    distance = np.hypot(columns * 4 + 1.5 - here[0], rows * 4 + 1.5 - here[1])
    assert distance.max() <= 15
    # The loss is the mean over weights, by pixels.
    error = (weights * (maps - 7.0) ** 2).sum() / weights.sum()
    loss = masked_mse(maps, weights, np.full_like(maps, 7.0))
    assert float(loss) == pytest.approx(float(error), rel=1e-5)


# -- peaks ----------------------------------------------------------------------------------------


def peaks_of(maps: np.ndarray, n: int, detector=SubpixelMaxima2D, sigma: float = 1.25):
    find = SeveralPeaks(detector(sigma=sigma), n, sigma)
    return keras.ops.convert_to_numpy(find(np.asarray(maps, "float32")))


def blobs(points: np.ndarray, heights: np.ndarray, size=(24, 32), sigma: float = 1.25):
    y, x = np.mgrid[: size[0], : size[1]]
    squared = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    return (heights[:, None, None] * np.exp(-squared / (2 * sigma**2))).max(axis=0)


def far_apart(seed: int, n: int, least: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = np.empty((0, 2))
    while len(points) < n:
        point = rng.uniform((0, 0), (31, 23))
        if not len(points) or np.linalg.norm(points - point, axis=1).min() > least:
            points = np.vstack([points, point])
    return points, rng.uniform(0.4, 1.0, n)


@pytest.mark.parametrize(("detector", "exact"), [(SubpixelMaxima2D, 0.06), (Dark2D, 0.2)])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), n=st.integers(1, 5))
def test_every_blob_is_found(detector, exact, seed, n):
    points, heights = far_apart(seed, n, least=8.0)
    found = peaks_of(blobs(points, heights)[None, :, :, None], 8, detector)[0]
    assert (found[n:, 2] < 0.01).all()
    assert (np.diff(found[:, 2]) <= 0).all()
    rows, columns = match_points(found[:n, :2], points)
    assert len(rows) == n
    off = np.linalg.norm(found[rows, :2] - points[columns], axis=1)
    assert off.max() < exact
    np.testing.assert_allclose(found[rows, 2], heights[columns], atol=0.15)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_whole_pixels_agree_with_a_slow_search(seed):
    maps = np.random.default_rng(seed).integers(0, 6, (2, 9, 11, 1)) / 8  # with many ties
    found = peaks_of(maps, 40, Maxima2D)
    for image, peaks in zip(maps[..., 0], found, strict=True):
        expected = set()
        for row, column in np.ndindex(image.shape):
            window = (slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2))
            value = image[row, column]
            if value > 0 and value == image[window].max():
                expected.add((column, row, value))
        given_back = {tuple(p) for p in peaks.tolist() if p[2] > 0}
        # Of equal pixels next to each other one is left, and of every value at least one.
        assert {p[2] for p in given_back} == {p[2] for p in expected}
        for x, y, value in given_back:
            assert image[int(y), int(x)] == value
            assert any(v == value and max(abs(a - x), abs(b - y)) <= 1 for a, b, v in expected)


def test_of_two_that_are_equal_the_first_is_taken():
    maps = np.zeros((1, 12, 12, 1))
    maps[0, 5, 5:7] = maps[0, 6, 5:7] = 0.8
    found = peaks_of(maps, 3, Maxima2D)[0]
    np.testing.assert_allclose(found[0], [5, 5, 0.8], rtol=1e-6)
    assert (found[1:, 2] == 0).all()


@pytest.mark.parametrize("angle", [0.0, 0.4, 0.8])
@pytest.mark.parametrize(
    ("distance", "weaker"), [(3.0, 1.0), *((d, w) for d in (3.6, 4.4, 6.0) for w in (0.5, 0.7, 1))]
)
def test_neighbours_are_told_apart(distance, weaker, angle):
    """Both are found, and neither is drawn to the other by more than a quarter of a map pixel."""
    way = distance * np.array([np.cos(angle), np.sin(angle)])
    points = np.array([[10.2, 11.4], np.add(way, [10.2, 11.4])])
    image = blobs(points, np.array([1.0, weaker]))
    found = peaks_of(image[None, :, :, None], 4)[0]
    assert (found[:2, 2] > 0.3).all()
    assert (found[2:, 2] < 0.05).all()
    rows, columns = match_points(found[:2, :2], points)
    assert np.linalg.norm(found[rows, :2] - points[columns], axis=1).max() < 0.25


def test_more_peaks_than_pixels_and_maps_without_any():
    small = np.zeros((1, 1, 2, 1))
    small[0, 0, 1] = 0.5
    assert peaks_of(small, 5)[0, :, 2].tolist() == [0.5, 0, 0, 0, 0]
    nothing = peaks_of(np.zeros((2, 10, 10, 1)), 3)
    assert np.isfinite(nothing).all()
    assert (nothing[..., 2] == 0).all()
    broken = peaks_of(np.full((1, 10, 10, 1), np.nan), 3)
    assert np.isfinite(broken).all()
    assert (broken[..., 2] == 0).all()


# -- labels ---------------------------------------------------------------------------------------


def herd(frames: int = 3, animals: int = 2, **options) -> AnnotationSet:
    """Animals of three keypoints; all images of a frame show its number."""
    rng = np.random.default_rng(0)
    n = frames * animals
    middle = rng.uniform(12, 30, (n, 1, 2))
    images = np.repeat(np.arange(frames), animals)[:, None, None, None] + np.zeros((1, 44, 58, 1))
    sources = [Source("f.mp4", 10 * f, f"a{a}") for f in range(frames) for a in range(animals)]
    keypoints = middle + np.array([[-6.0, 0], [1, 2], [6, -1]])
    skeleton = Skeleton(("head", "thorax", "tail"))
    return AnnotationSet(images.astype("uint8"), keypoints, skeleton, sources=sources, **options)


def with_missing(rows: list, keypoints: list, annotated: bool) -> AnnotationSet:
    labels = herd()
    points, marks = labels.keypoints.copy(), labels.annotated.copy()
    points[np.ix_(rows, keypoints)] = np.nan
    marks[np.ix_(rows, keypoints)] = annotated
    return AnnotationSet(
        labels.images, points, labels.skeleton, annotated=marks, sources=labels.sources
    )


def test_rows_of_a_frame_become_its_animals():
    labels = herd()
    frames, centroids = label_centroids(labels, Centroids())
    assert len(frames) == 3
    assert [int(image.max()) for image in frames.images[:]] == [0, 1, 2]
    assert frames.frames.tolist() == [0, 10, 20]
    assert centroids == Centroids(None, 4, False, 12.0, 3.0)
    expected = (labels.keypoints.min(axis=1) + labels.keypoints.max(axis=1)) / 2
    np.testing.assert_allclose(frames.keypoints[:, :2].reshape(-1, 2), expected)
    assert np.isnan(frames.keypoints[:, 2:]).all()


def test_the_anchor_is_a_keypoint():
    frames, _ = label_centroids(herd(), Centroids(anchor="thorax"))
    np.testing.assert_allclose(frames.keypoints[:, :2].reshape(-1, 2), herd().keypoints[:, 1])


@pytest.mark.parametrize(
    ("rows", "keypoints", "annotated", "anchor", "n_frames", "partly"),
    [
        ([3], [0, 1, 2], False, None, 3, True),  # nobody dealt with that animal
        ([3], [0, 1, 2], True, None, 3, False),  # somebody looked: it is not there
        ([3], [1], True, "thorax", 3, True),  # it is there, but the anchor is not
        ([3], [1], True, None, 3, False),
        ([2, 3], [0, 1, 2], False, None, 2, False),  # a frame that nobody looked at is left out
    ],
)
def test_which_animals_are_known(rows, keypoints, annotated, anchor, n_frames, partly):
    labels = with_missing(rows, keypoints, annotated)
    frames, centroids = label_centroids(labels, Centroids(anchor=anchor))
    assert (len(frames), centroids.partly_labelled) == (n_frames, partly)
    told = label_centroids(labels, Centroids(anchor=anchor, partly_labelled=True))[1]
    assert told.partly_labelled


def test_unmarked_positions_count_only_when_asked_for():
    labels = herd(annotated=np.zeros((6, 3), bool))
    with pytest.raises(ValidationError, match=r"only_annotated=False \(--all-labels\)"):
        label_centroids(labels, Centroids())
    assert len(label_centroids(labels, Centroids(), only_annotated=False)[0]) == 3


def test_bad_labels():
    nothing = with_missing(list(range(6)), [0, 1, 2], False)
    with pytest.raises(ValidationError, match="no animal is labelled in the 6 images"):
        label_centroids(nothing, Centroids())
    with pytest.raises(ValidationError, match="anchor: expected one of the keypoints head, th"):
        label_centroids(herd(), Centroids(anchor="nose"))
    with pytest.raises(ValidationError, match="'thorax' is labelled in no image"):
        label_centroids(with_missing(list(range(6)), [1], True), Centroids(anchor="thorax"))
    with pytest.raises(ValidationError, match="max_animals: expected at least 2"):
        label_centroids(herd(), Centroids(max_animals=1))
    crops = herd()
    moved = [Source(s.video, s.frame, s.individual, (1.0, 0, -i, 0, 1, 0))
             for i, s in enumerate(crops.sources)]  # fmt: skip
    crops = AnnotationSet(crops.images, crops.keypoints, crops.skeleton, sources=moved)
    with pytest.raises(ValidationError, match=r"frame 0 of f\.mp4 are crops around single animals"):
        label_centroids(crops, Centroids())
    with pytest.warns(DpkWarning, match="6 of 6 animals are labelled outside"):
        label_centroids(
            AnnotationSet(crops.images, crops.keypoints + 99, crops.skeleton), Centroids()
        )


@pytest.mark.parametrize(
    "wrong", [{"max_animals": 0}, {"max_animals": 2.5}, {"anchor": ""}, {"partly_labelled": 1},
              {"width": 0.0}, {"height": float("nan")}],
)  # fmt: skip
def test_bad_settings(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Centroids(**wrong)


def test_no_posture_graph():
    with pytest.raises(ValidationError, match="learns no posture graph"):
        TrainingGenerator(herd(), centroids=Centroids(), use_graph=True)


def test_the_task_remembers_through_a_file():
    task = TrainingGenerator(herd(), centroids=Centroids("thorax"), augmenter=None).task
    assert Task.from_config(task.to_config()) == task
    assert task.n_output_channels == 1
    assert "centroids" not in Task((8, 8, 1), Skeleton(("a",))).to_config()
    with pytest.raises(ValidationError, match="centroids: expected some of"):
        Task.from_config({**task.to_config(), "centroids": {"anker": "thorax"}})


def test_augmentation_moves_animals_as_it_moves_the_image():
    """A bright pixel under each animal is still there."""
    iaa = pytest.importorskip("imgaug.augmenters")
    labels = herd(frames=4)
    images = np.zeros((8, 44, 58, 1), np.uint8)
    places = label_centroids(labels, Centroids("thorax"))[0].keypoints
    y, x = np.mgrid[:44, :58]
    for i, points in enumerate(places):
        near = np.hypot(x - points[:2, 0, None, None], y - points[:2, 1, None, None]).min(axis=0)
        images[2 * i] = images[2 * i + 1] = (255 * np.exp(-(near**2) / 8))[..., None]
    labels = AnnotationSet(images, labels.keypoints, labels.skeleton, sources=labels.sources)
    generator = TrainingGenerator(
        labels, centroids=Centroids("thorax"), augmenter=[iaa.Fliplr(1.0), iaa.Affine(rotate=20)],
        validation_split=0,
    )  # fmt: skip
    for images, keypoints in generator.batches(4):
        for image, points in zip(images, keypoints, strict=True):
            known = points[np.isfinite(points).all(axis=1)]
            assert len(known) == 2
            for column, row in np.round(known).astype(int):
                assert image[row, column, 0] > 200


# -- models ---------------------------------------------------------------------------------------


@pose_model
class OneLayer(PoseModel):
    """A third party's model, whose author knows nothing of centroids."""

    def build(self, task: Task) -> keras.Model:
        images = keras.Input(task.image_shape, dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(images)
        stride = task.output_stride
        layer = keras.layers.Conv2D(task.n_output_channels, 5, stride, padding="same")
        return keras.Model(images, layer(x))


@pytest.mark.filterwarnings("ignore:this model can't be saved")
@pytest.mark.parametrize("partly", [False, True])
def test_any_model_learns_it(partly):
    generator = TrainingGenerator(
        herd(frames=6), centroids=Centroids(max_animals=3, partly_labelled=partly), augmenter=None
    )
    model = OneLayer(generator)
    assert model.network.output_shape == (None, 11, 15, 1)
    record = model.fit(4, epochs=3)
    losses = [epoch["loss"] for epoch in record.history]
    assert losses[-1] < losses[0]
    assert np.isfinite(record.history[-1]["val_error_px"])
    found = model.predict(np.stack(list(generator.dataset.images[:2])))
    assert found.shape == (2, 3, 3)
    assert np.isfinite(found).all()
    assert model.predict(np.empty((0, 44, 58, 1), np.uint8)).shape == (0, 3, 3)


# -- matching -------------------------------------------------------------------------------------


def test_matching():
    found = np.array([[0.0, 0], [10, 0], [np.nan, np.nan], [10.5, 0]])
    labelled = np.array([[10.4, 0], [3, 4], [50, 50]])
    rows, columns = match_points(found, labelled, limit=5)
    assert (rows.tolist(), columns.tolist()) == ([3, 0], [0, 1])
    score = score_detections([found], [labelled], 5)
    assert (score.n_found, score.n_labelled, score.n_matched) == (3, 3, 2)
    assert score.recall == score.precision == pytest.approx(2 / 3)
    assert score.error_px == pytest.approx((0.1 + 5) / 2)
    nothing = score_detections([np.empty((0, 2))], [np.empty((0, 2))], 5)
    assert all(np.isnan(v) for v in (nothing.recall, nothing.precision, nothing.error_px))


def test_predictions_in_the_order_of_the_labels():
    found = np.array([[[1.0, 1, 0.9], [8, 8, 0.8], [0, 0, 0]]])
    labelled = np.array([[[7.0, 8], [np.nan, np.nan], [2, 1]]])
    ordered = in_order_of(found, labelled)
    np.testing.assert_array_equal(ordered[0, [0, 2]], [[8, 8, 0.8], [1, 1, 0.9]])
    assert np.isnan(ordered[0, 1]).all()
