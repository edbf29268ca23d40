"""The contract of `Dataset`, and a small labelled set to try other contracts on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.interfaces import Dataset, Sample
from dpk_core.skeleton import Skeleton
from dpk_core.testing.contract import require, require_array


def check_dataset(dataset: Dataset) -> None:
    """Check a dataset with at least one image against the contract of `Dataset`.

    Raises
    ------
    ContractError
    """
    require(isinstance(dataset, Dataset), "a dataset derives from dpk_core.Dataset", type(dataset))
    n, k = len(dataset), len(dataset.skeleton)
    require(n > 0, "the dataset to check has at least one image", n)
    require(len(dataset) == n, "len() is constant")
    for i in {0, n // 2, n - 1}:
        sample = dataset[i]
        _check_sample(sample, dataset.image_shape, k)
        _check_same(sample, dataset[i], f"[{i}] gives the same sample every time")
        _check_same(sample, dataset[i - n], f"[{i - n}] is the same as [{i}]")
    for i in (n, -n - 1):
        require(_raises(IndexError, dataset.__getitem__, i), f"[{i}] of {n} raises IndexError")
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: dataset[0], range(16)))
    for sample in together:
        _check_same(sample, dataset[0], "reading from several threads at once gives the same")
    if dataset.groups is not None:
        require(len(dataset.groups) == n, "groups has a name for each image", len(dataset.groups))
    if dataset.frames is not None:
        require_array("frames", np.asarray(dataset.frames), (n,))


def dot_annotations(
    n: int = 12, size: tuple[int, int] = (48, 64), channels: int = 1, seed: int = 0
) -> AnnotationSet:
    """n small images with a big, a middle and a small dot at their keypoints, some missing.

    The last image is wholly unlabelled, the one before it lacks a keypoint. The middle and the
    small dot are swap partners. Enough to try whether a model trains and stays finite; it says
    nothing of accuracy.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    skeleton = Skeleton.from_rows(
        [("body", None, None), ("left", "body", "right"), ("right", "body", "left")]
    )
    keypoints = rng.uniform(0.2, 0.8, (n, 3, 2)) * (width - 1, height - 1)
    y, x = np.mgrid[:height, :width]
    radii = np.array([4.0, 2.5, 1.5])
    distance = np.hypot(
        x - keypoints[..., 0, None, None], y - keypoints[..., 1, None, None]
    )  # (n, 3, h, w)
    dots = np.clip(radii[:, None, None] - distance + 0.5, 0, 1).max(axis=1)
    images = 40 + 180 * dots + rng.normal(0, 4, (n, height, width))
    images = np.repeat(np.clip(images, 0, 255).astype(np.uint8)[..., None], channels, axis=-1)
    annotated = np.ones((n, 3), bool)
    if n > 2:
        keypoints[-1] = np.nan
        keypoints[-2, 0] = np.nan
    sources = tuple(Source("dots.mp4", 10 * i) for i in range(n))
    return AnnotationSet(images, keypoints, skeleton, annotated, sources=sources)


def _check_sample(sample: Any, image_shape: tuple[int, int, int], k: int) -> None:
    require(isinstance(sample, Sample), "[i] gives a dpk_core.Sample", type(sample).__name__)
    require_array("image", sample.image, tuple(image_shape), np.uint8)
    keypoints = require_array("keypoints", sample.keypoints, (k, 2), np.float32)
    visibility = require_array("visibility", sample.visibility, (k,))
    require(set(visibility.tolist()) <= {0, 1, 2}, "visibility is 0, 1 or 2", visibility)
    missing = np.isnan(keypoints)
    require(np.array_equal(missing[:, 0], missing[:, 1]), "a missing keypoint is NaN in x and in y")
    require(not (visibility[missing[:, 0]] != 0).any(), "a missing keypoint has visibility 0")
    require(not np.isinf(keypoints).any(), "coordinates are finite or NaN")


def _check_same(a: Sample, b: Sample, promise: str) -> None:
    same = all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(a, b, strict=True)
    )
    require(same, promise)


def _raises(error: type[Exception], call: Callable[[int], Any], argument: int) -> bool:
    try:
        call(argument)
    except error:
        return True
    return False
