"""Labels of LEAP (Pereira et al. 2019, Nature Methods 16:117): .labels.mat, and training sets.

Source of the format: github.com/talmo/leap. ``leap/guis/label_joints.m`` keeps ``positions``
(joints, 2, images) in ``NAME.labels.mat`` beside the images, ``/box`` in ``NAME.h5``; NaN is not
labelled. ``leap/generate_training_set.m`` writes a single .h5 with ``joints``, ``box``,
``confmaps`` and mirrored copies of all images.

Axes: MATLAB stores arrays with the first axis running fastest, so that HDF5 programs see them
turned round: positions (images, 2, joints), the box (images, channels, width, height), which LEAP's
own ``leap/utils.py`` (``preprocess``) turns by (0, 3, 2, 1). x comes first, then y.

Coordinates: MATLAB counts from 1 and ``imagesc`` draws the centre of the top-left pixel at (1, 1);
``leap/pts2confmaps.m`` draws the confidence maps on ``1:width``, ``1:height``. 1 is subtracted.
Training sets that were scaled have ``positions * scale`` as joints, whose pixel centres lie
elsewhere by (1 - scale) / 2; that is put right. In their mirrored copies LEAP wrote ``height - y``
where ``height + 1 - y`` would be the mirrored pixel; the copies are left out, for training makes
its own.
"""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import h5py
import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.skeleton import Skeleton
from dpk_io_formats.leap_files import (
    BoxImages,
    is_old_mat,
    load_old_mat,
    matlab_array,
    matlab_text,
    matlab_texts,
)
from dpk_io_formats.name_graph import forest, partners
from dpk_io_formats.plain_hdf5 import child, dataset, opened

_LABELS = ".labels.mat"
_FIRST = 1.0


class LeapFormat(PoseFormat):
    """Reads ``NAME.labels.mat``, the ``NAME.h5`` beside it, or a training set."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        path = Path(path)
        try:
            if not path.is_file():
                return False
            if is_old_mat(path):
                return {"positions", "skeleton"} <= set(load_old_mat(path))
            if not h5py.is_hdf5(path):
                return False
            with opened(path) as file:
                keys = set(map(str, file))
            has_labels = {"positions", "skeleton"} <= keys or {"joints", "box"} <= keys
            return has_labels or ("box" in keys and _labels_beside(path).is_file())
        except (DpkError, OSError):
            return False

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        images: str | PathLike[str] | None = None,
        dataset: str = "box",
        initialization: bool = False,
        guess_swaps: bool = True,
        **options: Any,
    ) -> AnnotationSet:
        """All images of the box with the labels that are there; images are read when asked for.

        Parameters
        ----------
        images
            The box. Default: the .h5 file beside the labels, or where they say that it is.
        dataset
            Of the images in the box.
        initialization
            Take LEAP's initial guesses where nobody has labelled, as not annotated.
        guess_swaps
            Take joints as partners under a mirror whose names differ only in left and right.

        Raises
        ------
        FileMissingError, FileFormatError, SkeletonError, ValidationError, MissingDependencyError
        """
        if kind != "annotations":
            raise ValidationError(f"the format leap reads annotations, found {kind!r}")
        if options:
            raise ValidationError(f"the format leap has no options {', '.join(options)}")
        losses = LossReport() if report is None else report
        path = Path(path)
        if not path.is_file():
            raise FileMissingError(f"no file at {path}")
        labels = _read_labels(path, losses)
        box_path = labels.box if images is None else Path(images)
        if not box_path.is_file():
            raise FileMissingError(
                f"{labels.path}: the images are not at {box_path}; put the box beside the labels, "
                "or say where it is with the option images=PATH"
            )
        box = BoxImages(box_path, dataset, labels.rows)
        n = labels.positions.shape[0] if labels.rows is None else labels.n_stored
        if box.n_stored != n:
            raise FileFormatError(
                f"{labels.path} has labels for {n} images, {box_path} has {box.n_stored}; they do "
                "not belong together"
            )
        losses.add("images", len(box) if box.is_rounded else 0, "their shares of white are rounded")
        parent, dropped = forest(len(labels.names), labels.edges)
        losses.add(
            "skeleton edges", dropped, "they close a circle, and a skeleton is made of trees"
        )
        keypoints = labels.positions - _FIRST
        annotated = np.asarray(np.isfinite(keypoints).all(axis=2))
        if labels.guesses is not None:
            guesses = labels.guesses - _FIRST
            fills = ~annotated & np.isfinite(guesses).all(axis=2)
            if initialization:
                keypoints = np.where(fills[..., None], guesses, keypoints)
            else:
                losses.add("initial guesses", int(fills.sum()), "initialization=true reads them")
        name = PurePosixPath(str(box_path).replace("\\", "/")).name
        return AnnotationSet(
            box,
            keypoints,
            Skeleton(labels.names, parent, partners(labels.names) if guess_swaps else ()),
            annotated=annotated,
            sources=tuple(Source(name, int(i)) for i in labels.numbers),
        )


@attrs.frozen(eq=False)
class _Labels:
    """Labels as they stand in a file.

    positions, guesses (n, k, 2) counted from 1; rows (n,) of the box, None for all; numbers (n,)
    of the images from 0, for their sources.
    """

    path: Path
    positions: np.ndarray
    guesses: np.ndarray | None
    names: tuple[str, ...]
    edges: list[tuple[int, int]]
    box: Path
    numbers: np.ndarray
    rows: np.ndarray | None = None
    n_stored: int = 0


def _read_labels(path: Path, losses: LossReport) -> _Labels:
    if is_old_mat(path):
        return _from_old_mat(path)
    with opened(path) as file:
        keys = set(map(str, file))
        if "positions" in keys:
            return _from_mat(path, file, losses)
        if {"joints", "box"} <= keys:
            return _from_training_set(path, file, losses)
    beside = _labels_beside(path)
    if "box" in keys and beside.is_file() and beside != path:
        labels = _read_labels(beside, losses)
        return attrs.evolve(labels, box=path)
    raise FileFormatError(
        f"{path} has no labels of LEAP: expected 'positions' (NAME{_LABELS}) or 'joints' and 'box' "
        f"(a training set), found the keys {', '.join(sorted(keys)) or '(none)'}"
    )


def _from_mat(path: Path, file: h5py.File, losses: LossReport) -> _Labels:
    stored = dataset(file, "positions", path, "labels of LEAP")
    positions = _by_image(matlab_array(stored, f"{path}, positions"), path, "positions")
    k = positions.shape[1]
    guesses = None
    item = child(file, "initialization", path)
    if item is not None:
        guesses = _guesses(matlab_array(item, f"{path}, initialization"), positions, path)
    names, edges = None, np.empty((0, 2))
    skeleton = child(file, "skeleton", path)
    if isinstance(skeleton, h5py.Group):
        names = matlab_texts(skeleton, "nodes", path)
        item = child(skeleton, "edges", path)
        edges = edges if item is None else matlab_array(item, f"{path}, edges")
    box = child(file, "boxPath", path)
    box_path = "" if box is None else matlab_text(box, f"{path}, boxPath")
    if names is None:
        losses.add("names of keypoints", k, "MATLAB keeps them in a form of its own")
    return _labels(path, positions, guesses, names, edges, box_path)


def _from_old_mat(path: Path) -> _Labels:
    content = load_old_mat(path)
    if "positions" not in content:
        raise FileFormatError(f"{path} has no 'positions'; expected labels of LEAP")
    positions = _by_image(_numbers(content["positions"], path, "positions"), path, "positions")
    guesses = None
    if "initialization" in content:
        values = _numbers(content["initialization"], path, "initialization")
        guesses = _guesses(values, positions, path)
    skeleton = np.asarray(content.get("skeleton", ()))
    fields = skeleton.dtype.names or ()
    names, edges = None, np.empty((0, 2))
    if skeleton.size == 1 and "nodes" in fields:
        cells = np.ravel(skeleton.ravel()[0]["nodes"])
        names = ["".join(map(str, np.ravel(cell))).strip() for cell in cells]
    if skeleton.size == 1 and "edges" in fields:
        edges = _numbers(skeleton.ravel()[0]["edges"], path, "edges")
    box = "".join(map(str, np.ravel(content.get("boxPath", ""))))
    return _labels(path, positions, guesses, names, edges, box)


def _from_training_set(path: Path, file: h5py.File, losses: LossReport) -> _Labels:
    joints = dataset(file, "joints", path, "a training set of LEAP")
    positions = _by_image(matlab_array(joints, f"{path}, joints"), path, "joints")
    scale = _scale(file, path)
    positions = positions + 0.5 * (1 - scale)
    n = len(positions)
    numbers = _indices(file, "labeledIdx", n, path)
    order = _indices(file, "shuffleIdx", n, path)
    held_out = 0
    testing = child(file, "testing", path)
    if isinstance(testing, h5py.Group):
        others = dataset(testing, "joints", path, "labels held out for testing")
        held_out = others.shape[0] if others.ndim == 3 else 1
        losses.add("labels", held_out, "LEAP set them apart for testing")
    rows = np.arange(n)
    if order is not None:  # the first half are the images, the second half their mirrored copies
        rows = np.flatnonzero(order < (n + held_out) // 2)
        losses.add("mirrored copies", n - len(rows), "training mirrors images itself")
    names, edges = None, np.empty((0, 2))
    skeleton = child(file, "skeleton", path)
    if isinstance(skeleton, h5py.Group):
        joined = skeleton.attrs.get("jointNames")
        joined = joined.decode("utf-8", "replace") if isinstance(joined, bytes) else joined
        names = joined.split("\n") if isinstance(joined, str) else None
        item = child(skeleton, "edges", path)
        edges = edges if item is None else matlab_array(item, f"{path}, edges")
    labels = _labels(path, positions[rows], None, names, edges, "")
    return attrs.evolve(
        labels,
        box=path,
        rows=rows,
        n_stored=n,
        numbers=rows if numbers is None else numbers[rows],
    )


def _labels(
    path: Path,
    positions: np.ndarray,
    guesses: np.ndarray | None,
    names: list[str] | None,
    edges: np.ndarray,
    box: str,
) -> _Labels:
    k = positions.shape[1]
    if names is None:
        names = [f"joint_{i + 1}" for i in range(k)]
    if len(names) != k:
        raise FileFormatError(
            f"{path}: the skeleton has {len(names)} nodes, the positions have {k}; they must agree"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice or "" in names:
        raise FileFormatError(f"{path}: the node {twice[0] if twice else ''!r} stands twice")
    numbers = np.arange(len(positions))
    return _Labels(
        path, positions, guesses, tuple(names), _pairs(edges, k, path), _box(path, box), numbers
    )


def _by_image(values: np.ndarray, path: Path, key: str) -> np.ndarray:
    """(n, k, 2) of MATLAB's (k, 2, n), whose last axis is not there for a single image."""
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[1] != 2 or 0 in values.shape:
        raise FileFormatError(
            f"{path}: {key!r} has the shape {values.shape} in MATLAB; expected (joints, 2, images)"
        )
    return np.moveaxis(values, 2, 0)


def _guesses(values: np.ndarray, positions: np.ndarray, path: Path) -> np.ndarray:
    guesses = _by_image(values, path, "initialization")
    if guesses.shape != positions.shape:
        raise FileFormatError(
            f"{path}: 'initialization' has the shape {guesses.shape}, 'positions' "
            f"{positions.shape}; they must agree"
        )
    return guesses


def _numbers(values: Any, path: Path, key: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise FileFormatError(f"{path}: expected numbers as {key!r}, found {array.dtype}")
    return array.astype(np.float64)


def _pairs(edges: np.ndarray, k: int, path: Path) -> list[tuple[int, int]]:
    """Edges counted from 0."""
    if not edges.size:
        return []
    if edges.ndim != 2 or edges.shape[1] != 2 or not np.isin(edges, np.arange(1, k + 1)).all():
        raise FileFormatError(
            f"{path}: expected edges between joints 1 to {k}, two a row, found an array of "
            f"{edges.shape}"
        )
    return [(int(a) - 1, int(b) - 1) for a, b in edges]


def _indices(file: h5py.File, key: str, n: int, path: Path) -> np.ndarray | None:
    """Numbers counted from 0; None when they are not there."""
    item = child(file, key, path)
    if item is None:
        return None
    values = matlab_array(item, f"{path}, {key}").ravel()
    if len(values) != n or not np.isfinite(values).all() or (values < 1).any():
        raise FileFormatError(f"{path}: expected {n} numbers from 1 in {key!r}")
    if (values > 2**53).any():
        raise FileFormatError(f"{path}: the numbers in {key!r} are too large")
    return values.astype(np.int64) - 1


def _scale(file: h5py.File, path: Path) -> float:
    values = np.ravel(file.attrs.get("scale", 1.0))
    if len(values) != 1 or values.dtype.kind not in "iuf" or not 0 < float(values[0]) < 1e3:
        raise FileFormatError(f"{path}: expected a positive number as scale, found {values}")
    return float(values[0])


def _box(path: Path, stored: str) -> Path:
    """Beside the labels under their name, beside them under its own, or where it was."""
    stem = re.sub(r"(?i)(\.labels)?\.mat$", "", path.name)
    own = path.with_name(f"{stem}.h5")
    name = PurePosixPath(stored.replace("\\", "/")).name.replace("\0", "")
    beside = path.with_name(name) if name not in ("", ".", "..") else own
    for candidate in (own, beside, Path(stored.replace("\0", "") or ".")):
        try:
            if candidate.is_file() and (candidate.parent == path.parent or candidate.is_absolute()):
                return candidate
        except OSError:  # a name that is too long
            continue
    return own


def _labels_beside(box: Path) -> Path:
    return box.with_name(f"{box.stem}{_LABELS}")
