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

The first five are DeepPoseKit's: its files open here as they are, and ours open there. Images are
not compressed: of videos they would shrink to about a third, but HDF5 decompresses one at a time,
whatever the number of threads that wait for training images, and what a file needs on a full disk
could not be known beforehand.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.annotations import VISIBLE, AnnotationSet, Source
from dpk_core.checks import as_array
from dpk_core.errors import FileFormatError, ValidationError
from dpk_core.services.storage.atomic import (
    atomic_path,
    behind_links,
    exclusive,
    require_space,
    reserve_space,
)
from dpk_core.services.storage.hdf5 import (
    damage_as_format_error,
    open_for_reading,
    read_skeleton,
    reading,
    require_dataset,
    stamp,
    write_skeleton,
)
from dpk_core.services.storage.marks import Marks, write_marks
from dpk_core.services.storage.stored_images import StoredImages
from dpk_core.skeleton import Skeleton

KIND = "annotations"
_SENTINEL, _FAR_OUTSIDE = -1.0, -999.0
"""What other programs write into x and y for a missing point: -1, or -999, -9999, -99999, ..."""

LIBVER = ("earliest", "v110")
"""The oldest HDF5 that can read our files: DeepPoseKit's environments have old ones."""

_BLOCK_BYTES = 64 * 2**20
_SLACK_BYTES = 2**18
_MAX_CHUNK, _MIN_CHUNK = 1024, 64
_INDEX_BYTES, _TEXT_BYTES = 128, 64  # HDF5's own for each image, for each text
_LABELS = ("annotations", "annotated", "visibility")
_SOURCE_KEYS = (
    "source_video",
    "source_individual",
    "source_frame",
    "source_crop",
    "source_size",
)


def read_annotations(path: str | PathLike[str]) -> AnnotationSet:
    """Open an annotation set, DeepPoseKit's or ours; images are read when they are asked for.

    A point of (-1, -1), or far outside the image with x = y <= -999, is another program's sign for
    a missing one and becomes NaN. A keypoint that was annotated in DeepPoseKit, which knows no
    visibility, counts as visible.

    Raises
    ------
    FileMissingError
    FileFormatError
        When it is not an annotation set; the message says what it lacks.
    SkeletonError
        When its skeleton has a cycle, a name twice, or an index outside.
    """
    path = Path(path)
    with reading(path) as file:
        images = require_dataset(file, "images", path, "an annotation set")
        shape = _image_shape(images, path)
        stored = require_dataset(file, "annotations", path, "an annotation set")
        if stored.ndim != 3 or stored.shape[0] != shape[0] or stored.shape[2] != 2:
            raise FileFormatError(
                f"{path}: 'annotations' has the shape {stored.shape}; expected "
                f"({shape[0]}, keypoints, 2) for its {shape[0]} images"
            )
        numbers = as_array("annotations", stored[()], np.float64, stored.shape)
        keypoints = _without_sentinels(numbers)
        skeleton = read_skeleton(file, path, keypoints.shape[1])
        annotated = _read_optional(file, "annotated", keypoints.shape[:2], path)
        visibility = _read_optional(file, "visibility", keypoints.shape[:2], path)
        if annotated is not None and visibility is not None:
            seen = annotated.astype(bool) & ~np.isnan(keypoints[..., 0])
            visibility = np.where(seen & (visibility == 0), VISIBLE, visibility)
        known: dict[str, Any] = {"sources": _read_sources(file, shape[0], path)}
        known |= {"annotated": annotated, "visibility": visibility}
    # Only now, for two handles on one file must agree about locks, and this one stays open.
    with damage_as_format_error(path):
        return AnnotationSet(StoredImages(path, shape), keypoints, skeleton, **known)


def unknown_keys(path: str | PathLike[str]) -> list[str]:
    """What a file holds besides an annotation set, such as what other programs keep there.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    known = {"images", *_LABELS, *_SOURCE_KEYS, "skeleton", "skeleton_names"}
    with reading(Path(path)) as file:
        return sorted(set(file) - known)


def write_annotations(
    path: str | PathLike[str],
    annotations: AnnotationSet,
    *,
    overwrite: bool = False,
    marks: Marks | None = None,
) -> None:
    """Write an annotation set, whole or not at all; memory stays flat.

    ``marks`` are what people say of whole images, and are written beside the labels.

    Raises
    ------
    OutputExistsError, OutputError
    """
    with atomic_path(path, overwrite=overwrite) as temporary:
        require_space(temporary, room_for(annotations) + (marks.room if marks else 0))
        with h5py.File(temporary, "w", libver=LIBVER, locking=False) as file:
            _create(file, annotations)
            if marks:
                write_marks(file, marks)


def append_annotations(path: str | PathLike[str], annotations: AnnotationSet) -> None:
    """Add images with their labels to the end of a set with the same skeleton and image size.

    Raises
    ------
    FileMissingError, FileFormatError, OutputError
    ValidationError
        When skeleton or image size differ (`merge_annotations` copes with other skeletons).
    """
    path = Path(path)

    def add(file: h5py.File) -> None:
        present = stored_skeleton(file, path)
        if present.names != annotations.skeleton.names:
            raise ValidationError(
                f"cannot append to {path}: it has the keypoints {', '.join(present.names)}; the "
                f"new images have {', '.join(annotations.skeleton.names)}; merge them instead"
            )
        append_rows(file, annotations, path)

    with exclusive(path):
        rewrite(path, add, room=room_for(annotations))


def update_annotations(
    path: str | PathLike[str],
    rows: Any,
    *,
    keypoints: np.ndarray | None = None,
    visibility: np.ndarray | None = None,
    annotated: np.ndarray | None = None,
) -> None:
    """Change the labels of some images; the rest of the file stays as it is.

    The file is copied for it, so change many rows at once rather than one at a time.

    Parameters
    ----------
    rows
        (m,) numbers of images, each at most once, or (n,) bool.
    keypoints, visibility, annotated
        (m, k, 2), (m, k), (m, k); None leaves them, except that a keypoint which gets its first
        coordinate becomes visible.

    Raises
    ------
    FileMissingError, FileFormatError, OutputError
    ValidationError
        On rows that are not there, other shapes, or a visibility above 2.
    """
    path = Path(path)

    def update(file: h5py.File) -> None:
        n, k = file["annotations"].shape[:2]
        chosen = _row_numbers(rows, n)
        shape = (len(chosen), k)
        new: dict[str, np.ndarray] = {}
        if keypoints is not None:
            new["annotations"] = as_array("keypoints", keypoints, np.float64, (*shape, 2))
        if annotated is not None:
            new["annotated"] = as_array("annotated", annotated, np.bool_, shape)
        if visibility is not None:
            new["visibility"] = as_array("visibility", visibility, np.uint8, shape)
            if new["visibility"].max(initial=0) > VISIBLE:
                raise ValidationError(
                    f"visibility: expected 0, 1 or 2, found {new['visibility'].max()}"
                )
        elif keypoints is not None:
            before = file["visibility"][()][chosen]
            placed = np.isfinite(new["annotations"]).all(axis=2)
            new["visibility"] = np.where(placed & (before == 0), VISIBLE, before)
        for key, value in new.items():
            stored = file[key][()]
            stored[chosen] = value
            file[key][...] = stored

    with exclusive(path):
        rewrite(path, update)


def rewrite(path: Path, edit: Callable[[h5py.File], None], *, room: int = 0) -> None:
    """Apply an edit to a copy of the file, then put the copy in its place.

    A reader, or a crash at any moment, sees the file before the edit or after it. To be called
    while holding the file `exclusive`, so that two writers take turns. ``room`` is the number of
    bytes by which the edit may make it larger: with the disk full, HDF5 may crash, so they are
    allocated before it starts.
    """
    path = behind_links(path)
    ours = _is_ours(path)
    with atomic_path(path, overwrite=True) as temporary:
        if ours:
            shutil.copyfile(path, temporary)
        else:
            _copy_as_ours(path, temporary)
        if room:
            reserve_space(temporary, room)
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


def extend_skeleton(file: h5py.File, skeleton: Skeleton) -> None:
    """Give an open file a skeleton that begins with the keypoints it has; new ones are missing."""
    n, k = file["annotations"].shape[:2]
    more = len(skeleton) - k
    for name, fill in zip(_LABELS, (np.nan, False, 0), strict=True):
        values = file[name][()]
        padding = np.full((n, more, *values.shape[2:]), fill, values.dtype)
        del file[name]
        _create_column(file, name, np.concatenate([values, padding], axis=1))
    del file["skeleton"], file["skeleton_names"]
    write_skeleton(file, skeleton)


def stored_skeleton(file: h5py.File, path: Path) -> Skeleton:
    """The skeleton of an open annotation set."""
    return read_skeleton(file, path, file["annotations"].shape[1])


def room_for(annotations: AnnotationSet) -> int:
    """Bytes that a set takes in a file, rather more than less."""
    n = len(annotations)
    texts = sum(
        len(_encode(source.video)) + len(_encode(source.individual))
        for source in annotations.sources
    )
    per_image = int(np.prod(annotations.image_shape)) + _INDEX_BYTES + 2 * _TEXT_BYTES
    return n * per_image + texts + room_for_labels(n, len(annotations.skeleton))


def room_for_labels(n: int, k: int) -> int:
    """Bytes that everything but images and texts takes, rather more than less."""
    per_row = 18 * k + 8 + 48 + 8 + 2 * 16
    return (n + _MAX_CHUNK) * per_row + _SLACK_BYTES


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
    chunk = min(_MAX_CHUNK, max(_MIN_CHUNK, len(values)))
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
        "source_video": np.array([_encode(s.video) for s in sources], dtype=object),
        "source_frame": np.array([source.frame for source in sources], dtype=np.int64),
        "source_individual": np.array([_encode(s.individual) for s in sources], dtype=object),
        "source_crop": np.array(crops, dtype=np.float64).reshape(-1, 6),
        "source_size": np.array([s.size or (0, 0) for s in sources], np.int32).reshape(-1, 2),
    }


def _write_images(stored: h5py.Dataset, annotations: AnnotationSet, start: int) -> None:
    per_block = max(1, _BLOCK_BYTES // max(1, int(np.prod(annotations.image_shape))))
    for i in range(0, len(annotations), per_block):
        block = annotations.images[i : i + per_block]
        stored[start + i : start + i + len(block)] = block


def _copy_as_ours(path: Path, temporary: Path) -> None:
    """Another program's set as one of ours, which can grow; what we don't know comes along."""
    annotations = read_annotations(path)
    require_space(temporary, path.stat().st_size + room_for(annotations))
    with (
        open_for_reading(path) as old,
        h5py.File(temporary, "w", libver=LIBVER, locking=False) as file,
    ):
        _create(file, annotations)
        for key in set(old) - set(file):
            old.copy(key, file)


def _is_ours(path: Path) -> bool:
    """Whether it has all that our sets have, and can grow; FileFormatError when it is no set."""
    with reading(path) as file:
        for key in ("images", "annotations"):
            require_dataset(file, key, path, "an annotation set")
        if "dpk_format_version" not in file.attrs:
            return False
        images = file["images"]
        keys = (*_LABELS, *_SOURCE_KEYS, "skeleton", "skeleton_names")
        return images.ndim == 4 and images.maxshape[0] is None and all(key in file for key in keys)


def _row_numbers(rows: Any, n: int) -> np.ndarray:
    chosen = np.atleast_1d(np.asarray(rows))
    if chosen.dtype == bool and chosen.shape == (n,):
        return np.flatnonzero(chosen)
    if not chosen.size:
        return np.empty(0, np.int64)
    fits = chosen.dtype.kind in "iu" and chosen.ndim == 1
    if not fits or chosen.min() < 0 or chosen.max() >= n or len(np.unique(chosen)) != len(chosen):
        raise ValidationError(f"rows: expected unique numbers from 0 to {n - 1}, found {rows}")
    return chosen


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
    x, y = keypoints[..., 0], keypoints[..., 1]
    missing = ~np.isfinite(keypoints).all(axis=-1)
    missing |= (x == y) & ((x == _SENTINEL) | (x <= _FAR_OUTSIDE))
    return np.where(missing[..., None], np.nan, keypoints)


def _read_optional(
    file: h5py.File, key: str, shape: tuple[int, ...], path: Path
) -> np.ndarray | None:
    if key not in file:
        return None
    values = require_dataset(file, key, path, "an annotation set")[()]
    if values.shape != shape:
        raise FileFormatError(f"{path}: {key!r} has the shape {values.shape}; expected {shape}")
    return values


def _read_sources(file: h5py.File, n: int, path: Path) -> tuple[Source, ...] | None:
    """Where the images came from; a column that is not there is unknown for all of them."""
    if not any(key in file for key in _SOURCE_KEYS):
        return None
    videos, individuals = (_read_texts(file, key, n, path) for key in _SOURCE_KEYS[:2])
    frames = _read_optional(file, "source_frame", (n,), path)
    crops = _read_optional(file, "source_crop", (n, 6), path)
    frames = np.full(n, -1) if frames is None else frames
    crops = np.full((n, 6), np.nan) if crops is None else crops
    sizes = _read_optional(file, "source_size", (n, 2), path)
    sizes = np.zeros((n, 2), int) if sizes is None else sizes
    return tuple(
        Source(
            videos[i],
            int(frames[i]),
            individuals[i],
            None if np.isnan(crops[i]).all() else tuple(crops[i].tolist()),
            (int(sizes[i][0]), int(sizes[i][1])) if sizes[i].min() > 0 else None,
        )
        for i in range(n)
    )


def _read_texts(file: h5py.File, key: str, n: int, path: Path) -> list[str]:
    values = _read_optional(file, key, (n,), path)
    if values is None:
        return [""] * n
    return [_decode(value) if isinstance(value, bytes) else str(value) for value in values]


# A file name on Linux is any bytes; Python holds those that are no text as surrogates.
def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
