"""The contract of `Augmenter`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.interfaces import Augmenter
from dpk_core.services.plugins import registry
from dpk_core.testing.contract import require, require_array
from dpk_core.testing.datasets import dot_annotations


def check_augmenter(augmenter: str | Augmenter) -> None:
    """Check an augmenter, or the plugin of that name, against the contract of `Augmenter`.

    Raises
    ------
    ContractError
    """
    annotations = dot_annotations(n=6, size=(40, 56))
    if isinstance(augmenter, str):
        _check(registry().get("augmenters", augmenter).load()(annotations.skeleton), annotations)
    else:
        _check(augmenter, annotations)


def _check(augmenter: Augmenter, annotations: AnnotationSet) -> None:
    require(isinstance(augmenter, Augmenter), "it derives from dpk_core.Augmenter", type(augmenter))
    images = np.array(annotations.images)
    keypoints = annotations.keypoints.astype(np.float32)
    before = images.copy(), keypoints.copy()

    first = augmenter.augment(images, keypoints, 1)
    _check_result(first, images, keypoints)
    require(
        np.array_equal(images, before[0]) and np.array_equal(keypoints, before[1], equal_nan=True),
        "the input arrays stay as they were",
    )
    require(
        np.array_equal(np.isnan(first[1]), np.isnan(keypoints))
        or _only_adds_nan(first[1], keypoints),
        "a NaN keypoint stays NaN",
    )
    augmenter.augment(images, keypoints, 2)
    _check_same(augmenter.augment(images, keypoints, 1), first, "the same seed, the same result")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda s: augmenter.augment(images, keypoints, s), [1, 2] * 6))
    for result in results[::2]:
        _check_same(result, first, "the same seed gives the same result in any thread")
    color = np.repeat(images, 3, axis=-1)
    _check_result(augmenter.augment(color, keypoints, 3), color, keypoints)


def _only_adds_nan(after: np.ndarray, before: np.ndarray) -> bool:
    """Left-right swaps move missing keypoints to their partner; their number per image stays."""
    missing = np.isnan(before).any(axis=-1).sum(axis=1)
    return bool((np.isnan(after).any(axis=-1).sum(axis=1) >= missing).all())


def _check_result(
    result: tuple[np.ndarray, np.ndarray], images: np.ndarray, keypoints: np.ndarray
) -> None:
    require(isinstance(result, tuple) and len(result) == 2, "it gives (images, keypoints)")
    require_array("images", result[0], images.shape, np.uint8)
    require_array("keypoints", result[1], keypoints.shape, np.float32)


def _check_same(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], promise: str
) -> None:
    require(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1], equal_nan=True), promise)
