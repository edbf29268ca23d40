"""Draw the posture graph's levels for a fly and a mouse: docs/images/posture_graph.png.

    python benchmarks/posture_graph/draw.py

The maps are the ones that networks learn from, at full resolution. Only the keypoints come from
the data; photographs are not shown.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import matplotlib
import numpy as np
from machine import data_folder

from dpk_core import Skeleton, Task
from dpk_core.services.palette import keypoint_colors, sides
from dpk_core.services.sources import open_source
from dpk_core.services.storage import read_annotations
from dpk_models.maps import MAP_SCALE, draw_maps

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "images" / "posture_graph.png"
SIDE, SIGMA = 192, 3.0
MOUSE = Skeleton.from_rows(
    [
        ("snout", None, None),
        ("leftear", "snout", "rightear"),
        ("rightear", "snout", "leftear"),
        ("tailbase", "snout", None),
    ]
)
TITLES = ("keypoints", "limb segments", "whole limbs", "whole graph", "graph and keypoints")
BACKGROUND, GRID, TEXT = "#10151f", "#232c3d", "#e8ecf4"
GRAPH, ALL = np.array([[255, 196, 112]]), np.array([[240, 244, 255]])
BODY = np.array([176, 224, 160])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    output = parser.parse_args().output
    animals = {"fly": fly(), "mouse": mouse()}
    figure, axes = plt.subplots(
        2, len(TITLES), figsize=(12.5, 5.35), facecolor=BACKGROUND, dpi=84,
        gridspec_kw={"wspace": 0.035, "hspace": 0.035, "left": 0.035, "right": 0.995,
                     "bottom": 0.012, "top": 0.925},
    )  # fmt: skip
    for row, (name, (keypoints, skeleton)) in zip(axes, animals.items(), strict=True):
        for axis, picture in zip(row, levels(keypoints, skeleton), strict=True):
            show(axis, picture)
        row[0].set_ylabel(name, color=TEXT, fontsize=14, labelpad=7)
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, color=TEXT, fontsize=14, pad=8)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    picture.save(output, optimize=True)


def fly() -> tuple[np.ndarray, Skeleton]:
    annotations = read_annotations(data_folder("fly") / "example_annotation_set.h5")
    skeleton = Skeleton.from_csv(data_folder("fly") / "skeleton.csv")
    return fitted(annotations.keypoints[0], turn=-40), skeleton


def mouse() -> tuple[np.ndarray, Skeleton]:
    annotations: Any = open_source(data_folder("openfield"))
    order = [annotations.skeleton.index(name) for name in MOUSE.names]
    return fitted(annotations.keypoints[86][order], turn=0), MOUSE


def fitted(keypoints: np.ndarray, turn: float, margin: float = 18) -> np.ndarray:
    """Turned by some degrees, centred, and as large as the picture allows."""
    angle = np.deg2rad(turn)
    rotation = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    points = keypoints @ np.transpose(rotation)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (SIDE - 2 * margin) / (high - low).max()
    return (points - (low + high) / 2) * scale + (SIDE - 1) / 2


def levels(keypoints: np.ndarray, skeleton: Skeleton) -> list[np.ndarray]:
    """Five (h, w, 3) pictures, every map in a colour of its own."""
    task = Task((SIDE, SIDE, 1), skeleton, downsample_factor=0, sigma=SIGMA)
    maps, _ = draw_maps(keypoints[None].astype("float32"), task)
    maps = keras.ops.convert_to_numpy(maps)[0] / MAP_SCALE
    k, n_limbs, n_edges = len(skeleton), len(skeleton.limbs), len(skeleton.edges)
    points, limbs, segments, graph, everything = np.split(
        maps, np.cumsum([k, n_limbs, n_edges, 1]), axis=-1
    )
    of_keypoint = softened(keypoint_colors(skeleton))
    of_edge = np.array([of_keypoint[child] for child, _ in skeleton.edges])
    of_limb = np.array([limb_color(edges, skeleton, of_keypoint) for edges in skeleton.limbs])
    return [
        paint(points, of_keypoint),
        paint(segments, of_edge),
        paint(limbs, of_limb),
        paint(graph, GRAPH),
        paint(everything, ALL),
    ]


def softened(colors: np.ndarray) -> np.ndarray:
    return 0.78 * colors + 0.22 * 235.0


def limb_color(edges: tuple[int, ...], skeleton: Skeleton, of_keypoint: np.ndarray) -> np.ndarray:
    """The limb's own colour on one side of the body, one for all where it spans both."""
    side_of = sides(skeleton)
    members = {i for edge in edges for i in skeleton.edges[edge]}
    if len({side_of[i] for i in members}) > 1:
        return BODY
    return of_keypoint[skeleton.edges[edges[0]][1]]


def paint(maps: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Each map in its colour on the background; where some overlap, the brightest counts most."""
    weight = maps**3 + 1e-12
    color = (weight[..., None] * colors).sum(axis=2) / weight.sum(axis=2)[..., None]
    cover = maps.max(axis=2)[..., None]
    ground = np.array(matplotlib.colors.to_rgb(BACKGROUND)) * 255
    return (cover * color + (1 - cover) * ground) / 255


def show(axis: Any, picture: np.ndarray) -> None:
    axis.imshow(picture, interpolation="bilinear")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color(GRID)


if __name__ == "__main__":
    main()
