"""Sampling: which frames of a video to annotate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Protocol

import numpy as np

from dpk_core.errors import MissingDependencyError, ValidationError, VideoError
from dpk_core.services.imaging import match_channels, resize_image, scaled_size

METHODS = ("kmeans", "uniform", "random")

Progress = Callable[[int, int], None]
"""Called with how many of how many frames are done."""

_LONGEST_SIDE = 64
_N_COMPONENTS = 50


class FrameSource(Protocol):
    """A video, such as `dpk_core.services.video.VideoReader`."""

    def __len__(self) -> int: ...

    def frames(self, start: int, stop: int, step: int) -> Iterator[np.ndarray]:
        """The (h, w, c) uint8 frames start, start + step, ... before stop, in order."""


def sample_frames(
    video: str | PathLike[str] | FrameSource,
    n: int,
    method: str = "kmeans",
    *,
    seed: int = 0,
    start: int = 0,
    stop: int | None = None,
    exclude: Sequence[int] = (),
    n_clusters: int = 10,
    max_candidates: int = 2000,
    progress: Progress | None = None,
) -> np.ndarray:
    """Choose n frames of a video.

    Parameters
    ----------
    video
        A path or a `FrameSource`.
    n
        How many. When the video has fewer to choose from, all of those are given, with a warning.
    method
        - "kmeans" looks at the frames, groups those that look alike and takes about equally many
          from each group, so that rare postures are not missed. Frames are shrunk to gray images
          of at most 64 pixels, reduced to 50 principal components, and clustered by k-means.
        - "uniform" takes frames at equal distances, the first and last half a distance from the
          ends.
        - "random" draws frames, all equally likely.
    seed
        The same seed gives the same frames.
    start, stop
        Choose from the frames start <= i < stop; stop None is the end.
    exclude
        Frames that are not to be chosen, such as those annotated already.
    n_clusters
        Groups of "kmeans"; at most n are used.
    max_candidates
        "kmeans" looks at no more than this many frames (or n, when that is more), at equal
        distances, which bounds its memory and time on a long video.
    progress
        Called with (done, total) while "kmeans" reads frames.

    Returns
    -------
    np.ndarray
        (n,) int64 of frame numbers, sorted, each once.

    Raises
    ------
    ValidationError
        On a wrong method, number or range.
    VideoError
        When the video has no frames in the range.
    MissingDependencyError
        When "kmeans" is asked for and scikit-learn is not installed.

    References
    ----------
    Pereira et al. 2019, Nature Methods 16:117, "Fast animal pose estimation using deep neural
    networks", Methods: cluster sampling.
    """
    if method not in METHODS:
        raise ValidationError(f"method: expected one of {METHODS}, found {method!r}")
    for name, number in (("n", n), ("n_clusters", n_clusters), ("max_candidates", max_candidates)):
        if number < 1:
            raise ValidationError(f"{name}: expected at least 1, found {number}")
    if isinstance(video, str | PathLike):
        from dpk_core.services.video import VideoReader

        with VideoReader(video) as reader:
            return sample_frames(
                reader, n, method, seed=seed, start=start, stop=stop, exclude=exclude,
                n_clusters=n_clusters, max_candidates=max_candidates, progress=progress,
            )  # fmt: skip
    frames = _choosable(len(video), start, stop, exclude)
    if n >= len(frames):
        if n > len(frames):
            warnings.warn(
                f"asked for {n} frames, but there are only {len(frames)} to choose from; "
                "taking all of them",
                stacklevel=2,
            )
        return frames
    rng = np.random.default_rng(seed)
    if method == "uniform":
        return frames[_uniform(len(frames), n)]
    if method == "random":
        return np.sort(rng.choice(frames, n, replace=False))
    candidates = _candidates(frames, n, max(n, max_candidates))
    candidates, features = _look_at(video, candidates, progress)
    if len(candidates) < n:
        warnings.warn(
            f"asked for {n} frames, but only {len(candidates)} could be read; the video is damaged",
            stacklevel=2,
        )
    chosen = _evenly(_cluster(features, min(n, n_clusters), seed), n, rng)
    return np.sort(candidates[chosen])


def _choosable(length: int, start: int, stop: int | None, exclude: Sequence[int]) -> np.ndarray:
    stop = length if stop is None else min(stop, length)
    if start < 0:
        raise ValidationError(f"start: expected 0 or more, found {start}")
    if start >= stop:
        raise VideoError(
            f"no frames to choose from: the video has {length}, asked for those from {start} to "
            f"before {stop}"
        )
    frames = np.setdiff1d(np.arange(start, stop), np.asarray(exclude, dtype=np.int64))
    if not len(frames):
        raise ValidationError(f"all {stop - start} frames of the range are excluded")
    return frames


def _uniform(length: int, n: int) -> np.ndarray:
    return ((np.arange(n) + 0.5) * length / n).astype(np.int64)


def _candidates(frames: np.ndarray, least: int, most: int) -> np.ndarray:
    """``least`` to ``most`` of the frames, at equal distances where they have no gaps."""
    if len(frames) <= most:
        return frames
    step = math.ceil((frames[-1] + 1 - frames[0]) / most)
    on_stride = frames[(frames - frames[0]) % step == 0]
    # a stride lets a video be read in one go; where it gives too few, take every so many frames
    enough = len(on_stride) >= max(least, most // 2)
    return on_stride if enough else frames[_uniform(len(frames), most)]


def _look_at(
    video: FrameSource, candidates: np.ndarray, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray]:
    """The candidates that could be read, and (m, pixels) float32 of them small and gray."""
    first = int(candidates[0])
    steps = np.diff(candidates)
    step = max(1, int(np.gcd.reduce(steps))) if len(steps) else 1
    wanted = np.zeros((int(candidates[-1]) - first) // step + 1, dtype=bool)
    wanted[(candidates - first) // step] = True
    small: list[np.ndarray] = []
    found: list[int] = []
    reading = video.frames(first, int(candidates[-1]) + 1, step)
    try:
        for i, (frame, take) in enumerate(zip(reading, wanted, strict=False)):
            if take:
                small.append(_small_gray(np.asarray(frame)))
                found.append(first + i * step)
            if progress is not None:
                progress(i + 1, len(wanted))
    except VideoError as error:  # the frames before the damage are as good as any
        if not small:
            raise
        warnings.warn(f"{error}; choosing from the frames before that", stacklevel=3)
    if not small:
        raise VideoError(f"none of {len(candidates)} frames could be read; is the video damaged?")
    return np.array(found, dtype=np.int64), np.stack(small)


def _small_gray(frame: np.ndarray) -> np.ndarray:
    frame = frame[..., None] if frame.ndim == 2 else frame
    height, width = frame.shape[:2]
    size = scaled_size((height, width), min(1.0, _LONGEST_SIDE / max(height, width)))
    gray = match_channels(resize_image(frame, size), 1)
    return gray.reshape(-1).astype(np.float32)


def _cluster(features: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """(m,) the cluster of each image."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA
        from threadpoolctl import threadpool_limits  # which scikit-learn itself requires
    except ImportError as error:
        raise MissingDependencyError(
            "sampling by k-means needs scikit-learn; install it with "
            "python -m pip install 'dpk-core[train]', or sample 'uniform' or 'random'"
        ) from error
    different = len(np.unique(features, axis=0))
    n_clusters = min(n_clusters, different)
    if n_clusters == 1:
        return np.zeros(len(features), dtype=np.int64)
    n_components = min(_N_COMPONENTS, *features.shape)
    # One thread: the work is small, more threads than free cores slow it down tenfold, and sums
    # do not depend on the number of cores. No mini-batches, because they overlook rare frames.
    with threadpool_limits(1):
        pca = PCA(n_components, svd_solver="randomized", random_state=seed)
        scores = pca.fit_transform(features)
        return KMeans(n_clusters, random_state=seed, n_init=10).fit_predict(scores)


def _evenly(clusters: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n positions, one from each cluster in turn, at random within a cluster."""
    order = rng.permutation(len(clusters))
    turn = np.empty(len(clusters), dtype=np.int64)
    for cluster in np.unique(clusters):
        members = order[clusters[order] == cluster]
        turn[members] = np.arange(len(members))
    # a stable sort by turn: the first of every cluster, then the second of every cluster, ...
    return order[np.argsort(turn[order], kind="stable")][:n]
