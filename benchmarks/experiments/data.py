"""The animals of the experiments, and which of their images are unseen in each repeat."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import attrs
import h5py
import numpy as np
from machine import data_folder

from dpk_core import AnnotationSet, Skeleton, VideoReader, read_annotations, write_annotations
from dpk_core.annotations import Source
from dpk_core.errors import FileFormatError
from dpk_core.services.conversion import cache_folder
from dpk_core.services.sources import open_source
from dpk_core.services.splits import Split
from dpk_core.services.synthetic import SyntheticAnimal

CROP = 160
"""Side of the flies' crops in pixels, as in the paper's locusts and zebras."""
STILL_UNTIL, EVERY = 950, 25
"""The flies hardly move before this frame: only every 25th is taken."""
BLOCKS = 4
"""Stretches of time; each repeat holds out another one, the first repeat the last."""
PIXEL_CENTRE_SINCE = 1.1
"""SLEAP's files say in ``format_id`` which pixel coordinates they have: from 1.1 on (0, 0) is the
centre of the top-left pixel, as in dpk, and before it was that pixel's corner (sleap-io,
sleap_io/io/slp.py, function read_instances: 0.5 is subtracted from coordinates of older files)."""


@attrs.frozen
class Animal:
    """Labelled images in order of time.

    Parameters
    ----------
    name
        In tables and figures.
    images
        The annotation set.
    gap
        Frames next to the unseen block that nobody trains on, as they look like it.
    share
        Of the experiment's time, when several animals are compared.
    scales
        Image scales to choose from, the best first.
    """

    name: str
    images: AnnotationSet
    gap: int
    share: float
    scales: tuple[float, ...]

    def split(self, repeat: int, n_train: int | None = None) -> tuple[Split, np.ndarray]:
        """Rows that train, and rows of a block of time that are unseen.

        The split has no validation rows: the unseen block decides nothing, neither the weights
        nor the end of the training. Fewer training images are part of more: (repeat, 10) is in
        (repeat, 25).
        """
        frames = self.images.frames
        assert frames is not None
        order = np.argsort(frames, kind="stable")
        block = np.array_split(order, BLOCKS)[-1 - repeat % BLOCKS]
        first, last = frames[block].min(), frames[block].max()
        unseen = np.flatnonzero((frames >= first) & (frames <= last))
        far = (frames < first - self.gap) | (frames > last + self.gap)
        train = np.random.default_rng(repeat).permutation(np.flatnonzero(far))[:n_train]
        return Split(train, (), len(self.images), method="block", seed=repeat), unseen

    def most_images(self, repeats: int) -> int:
        """Training images that every repeat has, in fives: see `plan.BATCH`."""
        return min(len(self.split(r)[0].train) for r in range(repeats)) // 5 * 5


def openfield() -> Animal:
    dataset = open_source(data_folder("openfield"))
    assert isinstance(dataset, AnnotationSet)
    return Animal("openfield", dataset, gap=15, share=0.4, scales=(0.5, 0.25))


def flies() -> Animal:
    """Each fly in a square of its own; cached, as reading the video takes a while."""
    folder = data_folder("flies-clip")
    path = cache_folder() / "experiments" / f"flies-{CROP}-{STILL_UNTIL}-{EVERY}.h5"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        crops = read_crops(folder / "clip.slp", folder / "clip.mp4")
        write_annotations(path, crops, overwrite=True)
    return Animal("flies", read_annotations(path), gap=12, share=0.6, scales=(1.0, 0.5))


def animal(n_images: int = 160) -> Animal:
    """The synthetic animal, for machines without the data."""
    film = SyntheticAnimal(seed=1, size=(128, 160), n_frames=1200)
    frames = np.linspace(0, len(film) - 1, n_images).astype(int)
    dataset = AnnotationSet(
        np.stack([film.render(int(i)) for i in frames]),
        film.keypoints[frames],
        film.skeleton,
        sources=tuple(Source("animal.mp4", int(i)) for i in frames),
    )
    return Animal("animal", dataset, gap=20, share=0.3, scales=(1.0, 0.5))


ANIMALS: dict[str, Callable[[], Animal]] = {
    "flies": flies,
    "openfield": openfield,
    "animal": animal,
}


def available() -> list[str]:
    """The real animals whose data is there, otherwise the synthetic one."""
    found = [
        name
        for name, folder in (("flies", "flies-clip"), ("openfield", "openfield"))
        if data_folder(folder).is_dir()
    ]
    return found or ["animal"]


# -- SLEAP's labels -----------------------------------------------------------------------------


def read_crops(labels: Path, video: Path) -> AnnotationSet:
    """Every labelled individual in a square around the middle of its keypoints.

    What lies outside the video is black. Frames before `STILL_UNTIL` are thinned.
    """
    keypoints, frames, tracks, skeleton, names = read_sleap(labels)
    chosen = (frames >= STILL_UNTIL) | (frames % EVERY == 0)
    chosen &= np.isfinite(keypoints).all(axis=2).any(axis=1)
    rows = np.flatnonzero(chosen)
    images = np.zeros((len(rows), CROP, CROP, 1), np.uint8)
    inside = np.empty((len(rows), *keypoints.shape[1:]))
    sources = []
    with VideoReader(video, grayscale=True) as reader:
        last, picture = -1, np.empty(0)
        for i, row in enumerate(rows):
            if frames[row] != last:
                last = int(frames[row])
                picture = np.asarray(reader[last]).reshape(reader.shape[0], reader.shape[1])
            left, top = np.round(np.nanmean(keypoints[row], axis=0)).astype(int) - CROP // 2
            images[i, :, :, 0] = cut(picture, int(left), int(top))
            inside[i] = keypoints[row] - (left, top)
            crop = (1.0, 0.0, -float(left), 0.0, 1.0, -float(top))
            sources.append(Source(video.name, last, names[tracks[row]], crop))
    return AnnotationSet(images, inside, skeleton, sources=tuple(sources))


def cut(picture: np.ndarray, left: int, top: int) -> np.ndarray:
    """A square of `CROP` pixels, black where it leaves the picture."""
    square = np.zeros((CROP, CROP), np.uint8)
    height, width = picture.shape
    x0, x1 = np.clip((left, left + CROP), 0, width)
    y0, y1 = np.clip((top, top + CROP), 0, height)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
    return square


def read_sleap(
    path: Path,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Skeleton, list[str]]:
    """What people labelled in a SLEAP file, in order of frames.

    Returns
    -------
    keypoints (n, k, 2) with NaN for missing, frames (n,), tracks (n,), the skeleton and the names
    of the tracks.
    """
    with h5py.File(path) as file:
        try:
            metadata = json.loads(file["metadata"].attrs["json"])
            version = float(file["metadata"].attrs["format_id"])
            instances, points, frames = (file[k][()] for k in ("instances", "points", "frames"))
            tracks = [json.loads(text)[1] for text in file["tracks_json"][()]]
        except KeyError as error:
            raise FileFormatError(f"{path}: not SLEAP's labels: {error}") from None
    skeleton = sleap_skeleton(metadata)
    people = instances[instances["instance_type"] == 0]
    keypoints = np.stack([_points(points[i["point_id_start"] : i["point_id_end"]]) for i in people])
    if version < PIXEL_CENTRE_SINCE:
        keypoints -= 0.5
    number = dict(zip(frames["frame_id"].tolist(), frames["frame_idx"].tolist(), strict=True))
    of_frame = np.array([number[int(i)] for i in people["frame_id"]], dtype=np.int64)
    order = np.lexsort((people["track"], of_frame))
    return keypoints[order], of_frame[order], people["track"][order], skeleton, tracks


def _points(points: np.ndarray) -> np.ndarray:
    xy = np.stack([points["x"], points["y"]], axis=1)
    xy[~np.isfinite(xy).all(axis=1)] = np.nan
    return xy


def sleap_skeleton(metadata: dict) -> Skeleton:
    """Edges point from parent to child; names that end in L and R, or hold them, are pairs."""
    described = metadata["skeletons"][0]
    names = [metadata["nodes"][node["id"]]["name"] for node in described["nodes"]]
    place = {node["id"]: i for i, node in enumerate(described["nodes"])}
    parent = [-1] * len(names)
    for link in described["links"]:
        parent[place[link["target"]]] = place[link["source"]]
    swap = [-1] * len(names)
    for i, name in enumerate(names):
        for mine, other in (("L", "R"), ("R", "L")):
            head, found, tail = name.rpartition(mine)
            if found and head + other + tail in names:
                swap[i] = names.index(head + other + tail)
    return Skeleton(tuple(names), parent, swap)
