"""Labels to write, and ways to damage a file, that the tests of several formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.skeleton import Skeleton


def _labels(
    seed: int = 0,
    frames: int = 3,
    animals: int = 2,
    sizes: tuple[tuple[int, int], ...] = ((24, 32), (30, 20)),
    names: tuple[str, ...] = ("head", "wing_l", "wing_r", "Größe"),
    video: str = "walk.mp4",
) -> AnnotationSet:
    """Animals in frames of several sizes, some keypoints hidden, some missing."""
    rng = np.random.default_rng(seed)
    height, width = np.array(sizes).max(axis=0)
    k = len(names)
    images, keypoints, visibility, sources = [], [], [], []
    for frame in range(frames):
        size = sizes[frame % len(sizes)]
        image = np.zeros((height, width, 3), np.uint8)
        image[: size[0], : size[1]] = rng.integers(0, 256, (*size, 3))
        for animal in range(int(rng.integers(1, animals + 1))):
            points = rng.uniform(0, 1, (k, 2)) * (size[1] - 1, size[0] - 1)
            points[rng.random(k) < 0.2] = np.nan
            points[0] = rng.integers(0, min(size), 2)
            images.append(image)
            keypoints.append(points)
            visibility.append(rng.integers(1, 3, k))
            padded = size != (height, width)
            sources.append(Source(video, 7 * frame, f"fly {animal}", size=size if padded else None))
    skeleton = Skeleton(names, [-1, *[0] * (k - 1)], [-1, 2, 1, *[-1] * (k - 3)])
    return AnnotationSet(
        np.array(images), np.array(keypoints), skeleton,
        visibility=np.array(visibility), sources=tuple(sources),
    )  # fmt: skip


def _damaged(content: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """Copies of a file with bytes changed, cut out, doubled, or the end missing."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        copy = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            at, length = int(rng.integers(0, max(1, len(copy)))), int(rng.integers(1, 24))
            way = rng.integers(0, 5)
            if way == 0:
                copy[at : at + length] = rng.bytes(length)
            elif way == 1:
                del copy[at : at + length]
            elif way == 2:
                copy[at:at] = copy[at : at + length]
            elif way == 3:
                signs = rng.choice(list(b'0123456789-.,:;"{}[]<>/ eENn\\'), length)
                copy[at : at + length] = bytes(signs.tolist())
            else:
                del copy[at:]
        yield bytes(copy)


@pytest.fixture(scope="session")
def made_labels() -> Callable[..., AnnotationSet]:
    return _labels


@pytest.fixture(scope="session")
def damaged() -> Callable[..., Iterator[bytes]]:
    return _damaged
