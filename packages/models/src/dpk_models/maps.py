"""Drawing confidence maps and posture-graph maps from keypoints, and comparing them.

Everything is `keras.ops` on fixed shapes, so that it runs inside the compiled training step.

Source: Graving et al. 2019, eLife 8:e47994, "Learning multi-scale geometry": one map a keypoint,
then one map a whole limb, one a limb segment, one of the whole graph, one of graph and keypoints.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_models.centroids import draw_centroids

MAP_SCALE = 255.0
"""Height of a peak in the maps that a network learns; scores are divided by it."""

Tensor = Any

SHORTEST_SEGMENT = 0.05
"""In standard deviations. A shorter segment is drawn as this long: as good as a point."""


def draw_maps(keypoints: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """The maps that a network is to learn.

    A keypoint is a Gaussian of height `MAP_SCALE` and standard deviation ``task.sigma`` image
    pixels. A segment is a line between two keypoints, blurred by the same Gaussian and scaled to
    the same height. Whole limbs and graphs are the sums of their parts, cut off at that height.

    Parameters
    ----------
    keypoints
        (n, k, 2) of x, y in pixels of the image that the network sees; NaN for missing. A keypoint
        outside the image is drawn as far as it reaches in.
    task
        Output shape, stride, sigma and skeleton.

    Returns
    -------
    maps
        (n, h, w, c) float32 from 0 to `MAP_SCALE`; c as in ``task.n_output_channels``. Never NaN.
    weights
        (n, 1, 1, c) of 1, or 0 where a keypoint that the map shows is missing. For a detector see
        `dpk_models.centroids.draw_centroids`.
    """
    keypoints = ops.cast(keypoints, "float32")
    known = ops.all(ops.isfinite(keypoints), axis=-1)
    points = ops.where(known[..., None], keypoints, 0.0)
    points = (points + 0.5) / task.output_stride - 0.5
    known = ops.cast(known, "float32")
    sigma = task.sigma / task.output_stride
    if task.centroids is not None:
        partly = bool(task.centroids.partly_labelled)
        maps, weights = draw_centroids(points, known, task.output_shape, sigma, partly)
        return maps * MAP_SCALE, weights

    maps = _draw_points(points, task.output_shape, sigma) * known[:, None, None, :]
    weights = known
    if task.n_graph_channels:
        graph, graph_weights = _draw_graph(points, known, maps, task, sigma)
        maps = ops.concatenate([maps, graph], axis=-1)
        weights = ops.concatenate([weights, graph_weights], axis=-1)
    return maps * MAP_SCALE, weights[:, None, None, :]


def masked_mse(
    maps_true: Tensor, weights: Tensor, maps_pred: Tensor, total: Tensor | None = None
) -> Tensor:
    """Mean squared error over the maps that weigh something; 0 when none does.

    The mean is over pixels of weighted maps only: a batch with a wholly unlabelled image more
    has the same loss.

    Parameters
    ----------
    maps_true, maps_pred
        (n, h, w, c).
    weights
        (n, 1, 1, c) or (n, h, w, c), 0 or more.
    total
        What to divide by, where these images are a part of a batch: the sum of all its weights.
    """
    weights = ops.cast(weights, "float32")
    total = ops.sum(weights) if total is None else total
    total = total * pixels_per_weight(weights, maps_true)
    error = ops.sum(squared_error(maps_true, weights, maps_pred))
    return error / ops.where(total > 0, total, 1.0)


def squared_error(maps_true: Tensor, weights: Tensor, maps_pred: Tensor) -> Tensor:
    """(n, h, w, c) float32: of each pixel, times its map's weight."""
    error = ops.cast(maps_pred, "float32") - ops.cast(maps_true, "float32")
    return weights * ops.square(error)


def pixels_per_weight(weights: Tensor, maps: Tensor) -> float:
    """How many pixels of the maps each weight stands for."""
    return (maps.shape[1] * maps.shape[2]) / (weights.shape[1] * weights.shape[2])


def _draw_points(points: Tensor, shape: tuple[int, int], sigma: float) -> Tensor:
    """(n, k, 2) in map pixels -> (n, h, w, k) Gaussians, each the product of two 1-D ones."""
    x, y = points[:, None, :, 0], points[:, None, :, 1]
    rows = ops.exp(-ops.square(_pixels(shape[0]) - y) / (2 * sigma**2))
    columns = ops.exp(-ops.square(_pixels(shape[1]) - x) / (2 * sigma**2))
    return rows[:, :, None, :] * columns[:, None, :, :]


def _draw_graph(
    points: Tensor, known: Tensor, point_maps: Tensor, task: Task, sigma: float
) -> tuple[Tensor, Tensor]:
    skeleton = task.skeleton
    children, parents = np.array(skeleton.edges, "int32").T
    known_edges = ops.take(known, children, axis=1) * ops.take(known, parents, axis=1)
    segments = _draw_segments(
        ops.take(points, children, axis=1),
        ops.take(points, parents, axis=1),
        task.output_shape,
        sigma,
    )
    segments *= known_edges[:, None, None, :]
    of_limb = _edges_of_limbs(skeleton)
    limbs = ops.minimum(ops.matmul(segments, of_limb), 1.0)
    whole = ops.sum(segments, axis=-1, keepdims=True)
    graph = ops.minimum(whole, 1.0)
    everything = ops.minimum(graph + ops.sum(point_maps, axis=-1, keepdims=True), 1.0)
    maps = ops.concatenate([limbs, segments, graph, everything], axis=-1)

    # A map that lacks one of its parts can't be compared with.
    missing_in_limb = ops.matmul(1.0 - known_edges, of_limb)
    weights = [
        ops.cast(missing_in_limb == 0, "float32"),
        known_edges,
        ops.min(known_edges, axis=1, keepdims=True),
        ops.min(known, axis=1, keepdims=True),
    ]
    return maps, ops.concatenate(weights, axis=-1)


def _draw_segments(start: Tensor, end: Tensor, shape: tuple[int, int], sigma: float) -> Tensor:
    """(n, e, 2) ends in map pixels -> (n, h, w, e).

    A line convolved with a Gaussian falls off as the Gaussian across, and as the difference of
    two error functions along. Divided by its value in the middle, its highest point is 1 also
    where the segment is short; of length 0 it is the Gaussian itself.
    """
    way = end - start
    squared = ops.sum(ops.square(way), axis=-1)
    shortest = SHORTEST_SEGMENT * sigma
    length = ops.sqrt(ops.maximum(squared, shortest**2))
    is_point = squared < shortest**2
    ux = ops.where(is_point, 1.0, way[..., 0] / length)[:, None, None, :]
    uy = ops.where(is_point, 0.0, way[..., 1] / length)[:, None, None, :]
    middle = (start + end) / 2
    dx = (_pixels(shape[1]) - middle[:, None, :, 0])[:, None, :, :]
    dy = (_pixels(shape[0]) - middle[:, None, :, 1])[:, :, None, :]
    along = dx * ux + dy * uy
    across = dx * uy - dy * ux
    half = length[:, None, None, :] / 2
    scale = 1 / (math.sqrt(2) * sigma)
    profile = ops.erf((along + half) * scale) - ops.erf((along - half) * scale)
    profile = ops.maximum(profile, 0.0) / (2 * ops.erf(half * scale))
    return ops.exp(-ops.square(across * scale)) * profile


def _pixels(n: int) -> Tensor:
    """(1, n, 1) float32 positions of pixel centres."""
    return ops.arange(n, dtype="float32")[None, :, None]


def _edges_of_limbs(skeleton: Skeleton) -> np.ndarray:
    """(e, l) float32: 1 where an edge belongs to a limb."""
    matrix = np.zeros((len(skeleton.edges), len(skeleton.limbs)), "float32")
    for limb, edges in enumerate(skeleton.limbs):
        matrix[list(edges), limb] = 1
    return matrix
