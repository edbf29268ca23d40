"""Annotation sets in HDF5: the one module that knows their keys.

========================  =================  ===================================================
``images``                (n, h, w, c)       uint8, one image a chunk
``annotations``           (n, k, 2)          float64 x, y; NaN is missing
``annotated``             (n, k)             bool: a person dealt with it
``skeleton``              (k, 2)             int32 parent and swap partner, -1 for none
``skeleton_names``        (k,)               bytes
``visibility``            (n, k)             uint8, ours: 0 not labelled, 1 hidden, 2 visible
``source_video``          (n,)               text, ours: where the image came from
``source_frame``          (n,)               int64, ours: -1 unknown
``source_individual``     (n,)               text, ours
``source_crop``           (n, 6)             float64, ours: NaN for a whole frame
========================  =================  ===================================================

The first five are DeepPoseKit's: its files open here as they are, and ours open there.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import FileFormatError, ValidationError
from dpk_core.services.storage.atomic import atomic_path, exclusive, require_space
from dpk_core.services.storage.hdf5 import (
    open_for_reading,
    open_shared,
    read_skeleton,
    require_dataset,
    stamp,
    write_skeleton,
)

KIND = "annotations"
SENTINELS = (-1.0, -99999.0)
"""A point with one of these in x and in y is missing: what other programs write for NaN."""

LIBVER = ("earliest", "v110")
"""The oldest HDF5 that can read our files: DeepPoseKit's environments have old ones."""

_BLOCK_BYTES = 64 * 2**20


class StoredImages:
    """The images of a file, read row by row; safe to use from several threads.

    The file is opened when the first row is read and stays open: should another process replace
    it meanwhile, these rows still come from the one that was read before.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._path = path
        self.shape = shape
        self.dtype = np.dtype(np.uint8)
        self._lock = threading.Lock()
        self._file: h5py.File | None = self._open()
        self._pid = os.getpid()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: Any) -> np.ndarray:
        with self._lock:
            stored = self._dataset()
            if isinstance(row, (int, np.integer, slice)):
                block = stored[row]
            else:  # h5py wants sorted unique indices; a user may want any
                block = np.stack([stored[int(i)] for i in np.arange(len(self))[row]])
        return block if self.shape[-1] != 1 or stored.ndim == 4 else block[..., None]

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _open(self) -> h5py.File:
        # As h5py does by default first: this handle lives long, and a user may open one beside it.
        return open_shared(self._path, (None, False))

    def _dataset(self) -> h5py.Dataset:
        if self._file is None or self._pid != os.getpid():  # after a fork, a handle of its own
            self._file = self._open()
            self._pid = os.getpid()
        return self._file["images"]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["shape"])  # type: ignore[misc]


def read_annotations(path: str | PathLike[str]) -> AnnotationSet:
    """Open an annotation set, DeepPoseKit's or ours; images are read when they are asked for.

    Raises
    ------
    FileMissingError
    FileFormatError
        When it is not an annotation set; the message says what it lacks.
    """
    path = Path(path)
    with open_for_reading(path) as file:
        images = require_dataset(file, "images", path, "an annotation set")
        shape = _image_shape(images, path)
        stored = require_dataset(file, "annotations", path, "an annotation set")
        if stored.ndim != 3 or stored.shape[0] != shape[0] or stored.shape[2] != 2:
            raise FileFormatError(
                f"{path}: 'annotations' has the shape {stored.shape}; expected "
                f"({shape[0]}, keypoints, 2) for its {shape[0]} images"
            )
        keypoints = _without_sentinels(stored[()].astype(np.float64))
        skeleton = read_skeleton(file, path, keypoints.shape[1])
        annotated = _read_optional(file, "annotated", keypoints.shape[:2], path)
        visibility = _read_optional(file, "visibility", keypoints.shape[:2], path)
        sources = _read_sources(file, shape[0])
    known: dict[str, Any] = {"annotated": annotated, "visibility": visibility, "sources": sources}
    return AnnotationSet(StoredImages(path, shape), keypoints, skeleton, **known)


def write_annotations(
    path: str | PathLike[str], annotations: AnnotationSet, *, overwrite: bool = False
) -> None:
    """Write an annotation set, whole or not at all; memory stays flat.

    Raises
    ------
    OutputExistsError, OutputError
    """
    with atomic_path(path, overwrite=overwrite) as temporary:
        require_space(temporary, int(np.prod(annotations.images.shape)) + 2**14)
        with h5py.File(temporary, "w", libver=LIBVER) as file:
            _create(file, annotations)


def append_annotations(path: str | PathLike[str], annotations: AnnotationSet) -> None:
    """Add images with their labels to the end of a set with the same skeleton and image size.

    Raises
    ------
    ValidationError
        When skeleton or image size differ (`merge_annotations` copes with other skeletons).
    """
    path = Path(path)

    def add(file: h5py.File) -> None:
        present = read_skeleton(file, path, file["annotations"].shape[1])
        if present.names != annotations.skeleton.names:
            raise ValidationError(
                f"cannot append to {path}: it has the keypoints {', '.join(present.names)}; the "
                f"new images have {', '.join(annotations.skeleton.names)}; merge them instead"
            )
        append_rows(file, annotations, path)

    change(path, add)


def update_annotations(
    path: str | PathLike[str],
    rows: Any,
    *,
    keypoints: np.ndarray | None = None,
    visibility: np.ndarray | None = None,
    annotated: np.ndarray | None = None,
) -> None:
    """Change the labels of some images; the rest of the file stays as it is.

    Parameters
    ----------
    rows
        (m,) numbers of images, each at most once.
    keypoints, visibility, annotated
        (m, k, 2), (m, k), (m, k); None leaves them.
    """
    path, rows = Path(path), np.atleast_1d(np.asarray(rows))

    def update(file: h5py.File) -> None:
        n, k = file["annotations"].shape[:2]
        if rows.min(initial=0) < 0 or rows.max(initial=-1) >= n or len(set(rows)) != len(rows):
            raise ValidationError(f"rows: expected unique numbers from 0 to {n - 1}, found {rows}")
        for key, value, shape in (
            ("annotations", keypoints, (len(rows), k, 2)),
            ("visibility", visibility, (len(rows), k)),
            ("annotated", annotated, (len(rows), k)),
        ):
            if value is None:
                continue
            value = np.asarray(value)
            if value.shape != shape:
                raise ValidationError(f"{key}: expected shape {shape}, found {value.shape}")
            stored = file[key][()]
            stored[rows] = value
            file[key][...] = stored

    change(path, update)


def change(path: Path, edit: Callable[[h5py.File], None]) -> None:
    """Apply an edit to a copy of the file, then put the copy in its place.

    A reader, or a crash at any moment, sees the file before the edit or after it. Two writers
    take turns.
    """
    with exclusive(path), atomic_path(path, overwrite=True) as temporary:
        if _is_ours(path):
            shutil.copyfile(path, temporary)
        else:
            _copy_as_ours(path, temporary)
        with h5py.File(temporary, "r+", locking=False) as file:
            edit(file)


def append_rows(file: h5py.File, annotations: AnnotationSet, path: Path) -> None:
    """Append to an open file whose keypoints are already in the same order."""
    images = file["images"]
    size, new = images.shape[1:], tuple(annotations.image_shape)
    if size != new:
        raise ValidationError(
            f"cannot add to {path}: its images are {'x'.join(map(str, size))}, the new ones "
            f"{'x'.join(map(str, new))} (height x width x channels); resize or crop them first"
        )
    n, m = images.shape[0], len(annotations)
    for name, values in _columns(annotations).items():
        file[name].resize(n + m, axis=0)
        file[name][n:] = values
    images.resize(n + m, axis=0)
    _write_images(images, annotations, n)


# -- small parts ------------------------------------------------------------------------------


def _create(file: h5py.File, annotations: AnnotationSet) -> None:
    stamp(file, KIND)
    write_skeleton(file, annotations.skeleton)
    shape = annotations.image_shape
    images = file.create_dataset(
        "images",
        (len(annotations), *shape),
        np.uint8,
        maxshape=(None, *shape),
        chunks=(1, *shape),
    )
    for name, values in _columns(annotations).items():
        _create_column(file, name, values)
    _write_images(images, annotations, 0)


def _create_column(file: h5py.File, name: str, values: np.ndarray) -> None:
    text = h5py.string_dtype() if values.dtype == object else None
    chunk = max(1, min(1024, len(values)))
    file.create_dataset(
        name,
        data=values,
        dtype=text,
        maxshape=(None, *values.shape[1:]),
        chunks=(chunk, *values.shape[1:]),
    )


def _columns(annotations: AnnotationSet) -> dict[str, np.ndarray]:
    """Everything but images and skeleton, by key."""
    sources = annotations.sources
    crops = [source.crop or (np.nan,) * 6 for source in sources]
    return {
        "annotations": annotations.keypoints,
        "annotated": annotations.annotated,
        "visibility": annotations.visibility,
        "source_video": np.array([source.video for source in sources], dtype=object),
        "source_frame": np.array([source.frame for source in sources], dtype=np.int64),
        "source_individual": np.array([s.individual for s in sources], dtype=object),
        "source_crop": np.array(crops, dtype=np.float64).reshape(-1, 6),
    }


def _write_images(stored: h5py.Dataset, annotations: AnnotationSet, start: int) -> None:
    per_block = max(1, _BLOCK_BYTES // max(1, int(np.prod(annotations.image_shape))))
    for i in range(0, len(annotations), per_block):
        block = annotations.images[i : i + per_block]
        stored[start + i : start + i + len(block)] = block


def _copy_as_ours(path: Path, temporary: Path) -> None:
    """Another program's set as one of ours, which can grow; what we don't know comes along."""
    with open_for_reading(path) as old, h5py.File(temporary, "w", libver=LIBVER) as file:
        _create(file, read_annotations(path))
        for key in set(old) - set(file):
            old.copy(key, file)


def _is_ours(path: Path) -> bool:
    with open_for_reading(path) as file:
        return "dpk_format_version" in file.attrs


def _image_shape(images: h5py.Dataset, path: Path) -> tuple[int, int, int, int]:
    if images.dtype != np.uint8:
        raise FileFormatError(
            f"{path}: 'images' are {images.dtype}; expected uint8 in 0..255; convert them, for "
            "instance (images * 255).round().astype('uint8') if they lie in 0..1"
        )
    if images.ndim == 3:
        return (*images.shape, 1)
    if images.ndim != 4:
        raise FileFormatError(
            f"{path}: 'images' has the shape {images.shape}; expected (n, height, width, channels)"
        )
    return images.shape


def _without_sentinels(keypoints: np.ndarray) -> np.ndarray:
    """NaN where another program wrote a sentinel into both coordinates."""
    missing = ~np.isfinite(keypoints).all(axis=-1)
    for sentinel in SENTINELS:
        missing |= (keypoints == sentinel).all(axis=-1)
    return np.where(missing[..., None], np.nan, keypoints)


def _read_optional(
    file: h5py.File, key: str, shape: tuple[int, int], path: Path
) -> np.ndarray | None:
    if key not in file:
        return None
    values = file[key][()]
    if values.shape != shape:
        raise FileFormatError(f"{path}: {key!r} has the shape {values.shape}; expected {shape}")
    return values


def _read_sources(file: h5py.File, n: int) -> tuple[Source, ...] | None:
    if "source_video" not in file:
        return None
    crops = file["source_crop"][()]
    whole = np.isnan(crops).all(axis=1)
    return tuple(
        Source(video, int(frame), individual, None if whole[i] else tuple(crops[i].tolist()))
        for i, (video, frame, individual) in enumerate(
            zip(
                file["source_video"].asstr()[()],
                file["source_frame"][()],
                file["source_individual"].asstr()[()],
                strict=True,
            )
        )
    )
