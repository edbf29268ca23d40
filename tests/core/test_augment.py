"""Augmentation: images and keypoints move together, reproducibly."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import PluginError, ValidationError
from dpk_core.services.augment import ImgaugAugmenter, default_augmenter, make_augmenter
from dpk_core.skeleton import Skeleton

iaa = pytest.importorskip("imgaug.augmenters")

SKELETON = Skeleton.from_rows(
    [("head", None, None), ("left", "head", "right"), ("right", "head", "left")]
)
PIPELINES = {
    "default": lambda: default_augmenter(SKELETON, probability=0)._pipeline,
    "affine by skimage": lambda: iaa.Affine(
        rotate=(-180, 180), scale=(0.9, 1.1), shear=(-8, 8), backend="skimage"
    ),
    "a list": lambda: [iaa.Fliplr(0.5), iaa.Affine(translate_px=(-4, 4)), iaa.Flipud(0.5)],
    "resize": lambda: iaa.KeepSizeByResize(iaa.Resize((0.6, 0.9))),
    "half turn": lambda: iaa.Rot90(2),
    "nested": lambda: iaa.Sometimes(0.5, iaa.OneOf([iaa.Fliplr(1), iaa.Affine(rotate=90)])),
}


def paint(size: tuple[int, int], x: float, y: float, sigma: float = 2.5) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.rint(250 * blob).astype(np.uint8)[..., None]


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image[..., 0].astype(float)
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


def some_batch(n: int = 6, size=(40, 56), channels: int = 1, seed: int = 0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, *size, channels), dtype=np.uint8)
    keypoints = rng.uniform(0, 40, (n, 3, 2)).astype(np.float32)
    return images, keypoints


@pytest.mark.parametrize("name", PIPELINES)
@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(80, 170),
    width=st.integers(80, 170),
    radius=st.floats(0, 1),
    angle=st.floats(0, 2 * np.pi),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_keypoint_stays_on_its_blob(name, height, width, radius, angle, seed):
    # the blob stays inside whatever the pipeline does, so its centroid is all of it
    reach = radius * (min(height, width) / 2 - 12 - 0.08 * max(height, width)) / 1.2
    x = (width - 1) / 2 + max(0, reach) * np.cos(angle)
    y = (height - 1) / 2 + max(0, reach) * np.sin(angle)
    keypoints = np.array([[[x, y]]], np.float32)
    augmenter = ImgaugAugmenter(PIPELINES[name]())
    images, moved = augmenter.augment(paint((height, width), x, y)[None], keypoints, seed)
    assert np.abs(centroid(images[0]) - moved[0, 0]).max() < 0.1


def test_every_image_of_a_batch_gets_its_own_transform():
    image, keypoints = paint((64, 96), 40, 30), np.array([[[40, 30]]], np.float32)
    images, moved = default_augmenter(probability=0).augment(
        np.stack([image] * 8), np.repeat(keypoints, 8, axis=0), 0
    )
    assert len(np.unique(moved[:, 0, 0])) == 8
    for one, point in zip(images, moved[:, 0], strict=True):
        assert np.abs(centroid(one) - point).max() < 0.1


def test_left_and_right_swap_in_mirrored_images_only():
    images, keypoints = some_batch(64)
    augmenter = default_augmenter(SKELETON, rotation=0, scale=(1, 1), translation=0, probability=0)
    moved_images, moved = augmenter.augment(images, keypoints, 5)
    seen = set()
    for image, points, new_image, new_points in zip(
        images, keypoints, moved_images, moved, strict=True
    ):
        flips = [
            (x, y)
            for x in (False, True)
            for y in (False, True)
            if np.array_equal(new_image, image[:: -1 if y else 1, :: -1 if x else 1])
        ]
        ((flip_x, flip_y),) = flips
        expected = points.copy()
        if flip_x:
            expected[:, 0] = 55 - expected[:, 0]
        if flip_y:
            expected[:, 1] = 39 - expected[:, 1]
        if flip_x != flip_y:
            expected = expected[[0, 2, 1]]
        np.testing.assert_allclose(new_points, expected, atol=1e-4)
        seen.add((flip_x, flip_y))
    assert len(seen) == 4


def test_a_mirror_however_made_swaps_and_a_rotation_does_not():
    images, keypoints = some_batch(1)
    for pipeline, order in (
        (iaa.Sequential([iaa.Flipud(1), iaa.Rot90(2)]), [0, 2, 1]),
        (iaa.Rot90(2), [0, 1, 2]),
    ):
        plain = ImgaugAugmenter(pipeline).augment(images, keypoints, 0)[1]
        swapped = ImgaugAugmenter(pipeline, SKELETON).augment(images, keypoints, 0)[1]
        np.testing.assert_array_equal(swapped, plain[:, order])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 6])
def test_the_same_seed_repeats_and_another_does_not(n, channels):
    images, keypoints = some_batch(n, channels=channels)
    augmenter = default_augmenter(SKELETON)
    first = augmenter.augment(images, keypoints, 2**32 - 1)
    other = augmenter.augment(images, keypoints, 12)
    again = augmenter.augment(images, keypoints, 2**32 - 1)
    fresh = default_augmenter(SKELETON).augment(images, keypoints, 2**32 - 1)
    for a, b, c, d in zip(first, again, fresh, other, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
        assert not np.array_equal(a, d)
    assert first[0].shape == images.shape
    assert first[0].dtype == np.uint8
    assert first[1].dtype == np.float32


def test_seeding_reaches_augmenters_nested_in_any_way():
    images, keypoints = some_batch(8)
    choice = iaa.OneOf(
        [iaa.Add(9), iaa.Sequential([iaa.Fliplr(1), iaa.Add(40)], random_order=True)]
    )
    masked = iaa.BlendAlphaMask(iaa.InvertMaskGen(0.5, iaa.VerticalLinearGradientMaskGen()), choice)
    pipeline = iaa.Sometimes(0.5, choice, iaa.SomeOf((0, 2), [masked, iaa.Multiply((0.5, 1.5))]))
    augmenter = ImgaugAugmenter(pipeline)
    first = [augmenter.augment(images, keypoints, seed) for seed in range(10)]
    again = [ImgaugAugmenter(pipeline).augment(images, keypoints, seed) for seed in range(10)]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    assert not np.array_equal(first[0][0], first[1][0])


def test_threads_do_not_disturb_each_other():
    images, keypoints = some_batch(4)
    augmenter = default_augmenter(SKELETON)
    expected = [augmenter.augment(images, keypoints, seed) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: augmenter.augment(images, keypoints, seed), range(40)))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


def test_the_input_and_the_users_pipeline_stay_as_they_were():
    images, keypoints = some_batch()
    before = images.copy(), keypoints.copy()
    pipeline = iaa.Sequential([iaa.Fliplr(1.0), iaa.Add(20), iaa.Dropout(0.3)], seed=3)
    state = str(pipeline.random_state.state)
    ImgaugAugmenter(pipeline).augment(images, keypoints, 1)
    default_augmenter(SKELETON).augment(images, keypoints, 1)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(keypoints, before[1])
    assert str(pipeline.random_state.state) == state


def test_missing_keypoints_stay_missing_and_swap_with_their_partner():
    images, keypoints = some_batch(1)
    keypoints[0, 1] = np.nan
    _, moved = ImgaugAugmenter(iaa.Fliplr(1.0), SKELETON).augment(images, keypoints, 0)
    assert np.isnan(moved[0, :, 0]).tolist() == [False, False, True]
    np.testing.assert_allclose(moved[0, 1], [55 - keypoints[0, 2, 0], keypoints[0, 2, 1]])
    keypoints[:] = np.nan
    _, moved = default_augmenter(SKELETON).augment(images, keypoints, 0)
    assert np.isnan(moved).all()


def test_a_keypoint_that_leaves_the_image_keeps_its_place():
    images, keypoints = some_batch(1)
    _, moved = ImgaugAugmenter(iaa.Affine(translate_px={"x": -60})).augment(images, keypoints, 0)
    np.testing.assert_allclose(moved[0], keypoints[0] - [60, 0], atol=1e-4)


def test_each_step_can_be_left_out():
    images, keypoints = some_batch()
    nothing = default_augmenter(
        SKELETON, flip_horizontal=False, flip_vertical=False, rotation=0, scale=(1, 1),
        translation=0, noise=0, dropout=0, patch_dropout=0, blur=0, sharpen=0, contrast=0,
    )  # fmt: skip
    found = nothing.augment(images, keypoints, 0)
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_allclose(found[1], keypoints, atol=1e-4)


def test_rotation_stays_within_its_range():
    augmenter = default_augmenter(
        flip_horizontal=False, flip_vertical=False, rotation=30, scale=(1, 1), translation=0
    )
    images = np.zeros((200, 41, 41, 1), np.uint8)
    _, moved = augmenter.augment(images, np.full((200, 1, 2), [[40, 20]], np.float32), 0)
    x, y = (moved[:, 0] - 20).T
    degrees = np.degrees(np.arctan2(y, x))
    assert np.abs(degrees).max() <= 30
    assert np.ptp(degrees) > 50
    np.testing.assert_allclose(np.hypot(x, y), 20, atol=1e-3)


@pytest.mark.parametrize(
    ("option", "value"),
    [("rotation", 400), ("translation", -1), ("scale", (1.1, 0.9)), ("scale", 2), ("noise", 9),
     ("border", "mirror")],
)  # fmt: skip
def test_wrong_options_say_what_is_expected(option, value):
    with pytest.raises(ValidationError, match=f"{option}: expected"):
        default_augmenter(SKELETON, **{option: value})


def test_a_pipeline_that_changes_the_size_or_loses_keypoints_is_refused():
    images, keypoints = some_batch(1)
    with pytest.raises(ValidationError, match="keep_size=True"):
        ImgaugAugmenter(iaa.Rot90(1, keep_size=False)).augment(images, keypoints, 0)
    keypoints[0, 0] = [-500, 3]
    with pytest.raises(ValidationError, match="removed some keypoints"):
        ImgaugAugmenter(iaa.RemoveCBAsByOutOfImageFraction(0.5)).augment(images, keypoints, 0)


def test_an_image_blacked_out_has_no_keypoints():
    images, keypoints = some_batch(2)
    images, moved = ImgaugAugmenter(iaa.TotalDropout(1.0)).augment(images, keypoints, 0)
    assert not images.any()
    assert np.isnan(moved).all()


def test_make_augmenter_takes_what_a_user_may_give():
    own = ImgaugAugmenter(iaa.Fliplr(0.5))
    assert make_augmenter(None, SKELETON) is None
    assert make_augmenter(own, SKELETON) is own
    assert make_augmenter([iaa.Fliplr(0.5)], SKELETON).skeleton is SKELETON
    assert make_augmenter(iaa.Fliplr(0.5), SKELETON).skeleton is SKELETON
    assert "Affine" in repr(make_augmenter("default", SKELETON))
    with pytest.raises(PluginError, match="defualt"):
        make_augmenter("defualt", SKELETON)
    with pytest.raises(ValidationError, match="found int at position 1"):
        make_augmenter([iaa.Fliplr(0.5), 3], SKELETON)
    with pytest.raises(ValidationError, match="found int"):
        make_augmenter(3, SKELETON)


def test_it_travels_to_another_process():
    images, keypoints = some_batch()
    augmenter = default_augmenter(SKELETON)
    expected = augmenter.augment(images, keypoints, 1)
    found = pickle.loads(pickle.dumps(augmenter)).augment(images, keypoints, 1)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_no_images_give_no_images():
    images, keypoints = default_augmenter().augment(
        np.zeros((0, 8, 8, 1), np.uint8), np.zeros((0, 2, 2), np.float32), 0
    )
    assert images.shape == (0, 8, 8, 1)
    assert keypoints.shape == (0, 2, 2)
