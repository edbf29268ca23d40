"""Poses and tracks as plain NumPy arrays in an ``.npz`` file; nothing in it is ever a pickle.

The format is dpk's own, so there is no convention of another program to follow. Poses:

==================  =============  ===============================================================
``keypoints``       (n, k, 2)      float32 x, y in pixels of the video frame, NaN for missing
``scores``          (n, k)         float32 in [0, 1]
``frames``          (n,)           int64, number of the frame from 0
``track_ids``       (n,)           int32, -1 for none
``keypoint_names``  (k,)           text
``skeleton``        (k, 2)         int32 indices of parent and swap partner, -1 for none
``provenance``      ()             text: JSON
==================  =============  ===============================================================

Tracks have one array for each column of `dpk_core.tracks.Tracks` and ``provenance``. Of poses, only
``keypoints`` must be there: without ``scores`` every keypoint that was found has score 1, without
``frames`` they count from 0, without names keypoints are numbered.

``np.load(path)`` opens the file. Arrays are read and written a piece at a time, through temporary
files beside the target, because a zip archive holds one whole array after another.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import (
    DpkError,
    FileFormatError,
    SkeletonError,
    ValidationError,
)
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.storage.hdf5 import to_json
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PIECE, PoseStream
from dpk_core.tracks import COLUMNS, Tracks
from dpk_io_formats import tidy
from dpk_io_formats.npz_archive import Column, Npz

_POSE_COLUMNS = ("keypoints", "scores", "frames", "track_ids")
_POSES = {*_POSE_COLUMNS, "keypoint_names", "skeleton", "provenance"}
_TRACKS = {*COLUMNS, "provenance"}
_NEEDED_TRACKS = ("frame", "id", "x", "y")


class NumpyFormat(PoseFormat):
    """Reads and writes ``.npz`` files of plain arrays."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            return bool(self.kinds(path))
        except DpkError:
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        with Npz(Path(path)) as file:
            names = set(file.names)
        if "keypoints" in names:
            return ("poses",)
        return ("tracks",) if set(_NEEDED_TRACKS) <= names else ()

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "poses",
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> PoseStream | Tracks:
        """Poses as a stream, or tracks.

        Raises
        ------
        FileMissingError
        FileFormatError
            When an array is missing, of another shape, a pickle, or the file is damaged.
        SkeletonError
            When the stored skeleton is none.
        ValidationError
            On unknown options.
        """
        if options:
            raise ValidationError(f"numpy: unknown options {', '.join(sorted(options))}")
        path = Path(path)
        with Npz(path) as file:
            _check_names(file, _POSES if kind == "poses" else _TRACKS, report)
            provenance = _provenance(file)
            if kind == "tracks":
                return _read_tracks(file, provenance)
            columns = {name: file.column(name) for name in _POSE_COLUMNS if name in file.names}
            skeleton, n = _check_poses(columns, file)

        def pieces() -> Iterator[Poses]:
            return _read_pieces(path, skeleton, n, provenance, report)

        return PoseStream(skeleton, pieces, n, provenance)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> None:
        """Write poses piece by piece, or tracks.

        Raises
        ------
        ValidationError
            For labels, unknown options, and provenance that JSON cannot hold.
        """
        if options:
            raise ValidationError(f"numpy: unknown options {', '.join(sorted(options))}")
        if isinstance(data, AnnotationSet):
            raise ValidationError("numpy holds poses and tracks, no labelled images")
        provenance = np.array(to_json(data.provenance))
        with Path(path).open("wb") as file, zipfile.ZipFile(file, "w") as archive:
            # first: whoever finds it knows which arrays must follow
            _write_array(archive, "provenance", provenance)
            if isinstance(data, Tracks):
                for name, array in data.columns().items():
                    _write_array(archive, name, array)
            else:
                _write_poses(archive, data, Path(path).parent, report)
                names = np.array(data.skeleton.names, np.str_)
                _write_array(archive, "keypoint_names", _exact(names, data.skeleton.names))
                _write_array(archive, "skeleton", data.skeleton.to_array())


# -- writing --------------------------------------------------------------------------------------


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(
            file, np.ascontiguousarray(array).reshape(array.shape), None, False
        )


def _write_poses(
    archive: zipfile.ZipFile, stream: PoseStream, folder: Path, report: LossReport | None
) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in _POSE_COLUMNS]
        n = 0
        for piece in stream:
            piece = tidy.without_infinite(piece, report)
            n += len(piece)
            for name, file in zip(_POSE_COLUMNS, files, strict=True):
                file.write(np.ascontiguousarray(getattr(piece, name)).data)
        k = len(stream.skeleton)
        kinds = (((n, k, 2), "f4"), ((n, k), "f4"), ((n,), "i8"), ((n,), "i4"))
        for name, file, (shape, dtype) in zip(_POSE_COLUMNS, files, kinds, strict=True):
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            file.seek(0)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(file, member, 2**20)


def _exact(array: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """NumPy drops NUL at the end of a text; such names are refused rather than changed."""
    if array.tolist() != list(names):
        raise ValidationError("numpy: a keypoint's name ends with NUL, which NumPy cannot hold")
    return array


# -- reading --------------------------------------------------------------------------------------


def _check_names(file: Npz, known: set[str], report: LossReport | None) -> None:
    others = sorted(set(file.names) - known)
    missing = sorted(known - set(file.names))
    if "provenance" in file.names and (others or missing):
        # dpk wrote it, and dpk writes all of them: what is not there was lost, not left out
        raise FileFormatError(
            f"{file.path} is damaged: without {', '.join(missing) or 'nothing'}, but with "
            f"{', '.join(others) or 'nothing'} that dpk does not write; restore it from a copy"
        )
    if report is not None:
        report.add("arrays", len(others), f"dpk has no use for them ({', '.join(others)})")


def _provenance(file: Npz) -> dict[str, Any]:
    if "provenance" not in file.names:
        return {}
    try:
        value = json.loads(file.text("provenance"))
    except ValueError as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{file.path}: 'provenance' is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise FileFormatError(f"{file.path}: 'provenance' is no JSON object")
    return value


def _check_poses(columns: dict[str, Column], file: Npz) -> tuple[Skeleton, int]:
    shape = columns["keypoints"].shape if "keypoints" in columns else ()
    if len(shape) != 3 or shape[2] != 2 or not shape[1]:
        raise FileFormatError(
            f"{file.path}: 'keypoints' has the shape {shape}; expected (rows, keypoints, 2)"
        )
    n, k = shape[:2]
    wanted = {"keypoints": shape, "scores": (n, k), "frames": (n,), "track_ids": (n,)}
    for name, column in columns.items():
        if column.shape != wanted[name]:
            raise FileFormatError(
                f"{file.path}: {name!r} has the shape {column.shape}; expected {wanted[name]}"
            )
        kinds = "fiu" if name in ("keypoints", "scores") else "iu"
        if column.dtype.kind not in kinds:
            raise FileFormatError(f"{file.path}: {name!r} holds {column.dtype}; expected numbers")
    names = tuple(f"keypoint_{i}" for i in range(k))
    if "keypoint_names" in file.names:
        stored = file.array("keypoint_names")
        if stored.dtype.kind != "U" or stored.shape != (k,):
            raise FileFormatError(
                f"{file.path}: 'keypoint_names' is {stored.dtype} of the shape {stored.shape}; "
                f"expected {k} texts"
            )
        names = tuple(map(str, stored))
    links = np.full((k, 2), -1)
    if "skeleton" in file.names:
        links = file.array("skeleton")
        if links.dtype.kind not in "iu" or links.shape != (k, 2):
            raise FileFormatError(
                f"{file.path}: 'skeleton' is {links.dtype} of the shape {links.shape}; expected "
                f"indices of the shape ({k}, 2)"
            )
    try:
        return Skeleton.from_array(links, names), n
    except SkeletonError as error:
        raise SkeletonError(f"{file.path}: {error}") from None


def _read_pieces(
    path: Path,
    skeleton: Skeleton,
    n: int,
    provenance: dict[str, Any],
    report: LossReport | None,
) -> Iterator[Poses]:
    with Npz(path) as file:
        columns = {name: file.column(name) for name in _POSE_COLUMNS if name in file.names}
        if columns.get("keypoints") is None or columns["keypoints"].shape[:2] != (n, len(skeleton)):
            raise FileFormatError(f"{path} has changed while it was read")
        for start in range(0, n, PIECE):
            rows = min(PIECE, n - start)
            found = {name: column.take(rows) for name, column in columns.items()}
            yield _poses(found, start, skeleton, provenance, path, report)


def _poses(
    found: dict[str, np.ndarray],
    start: int,
    skeleton: Skeleton,
    provenance: dict[str, Any],
    path: Path,
    report: LossReport | None,
) -> Poses:
    where = tidy.Rows(path, start)
    keypoints = found["keypoints"].astype(np.float32)
    rows, k = keypoints.shape[:2]
    where.check(~np.isinf(keypoints).any(axis=(1, 2)), "a coordinate is infinite; NaN is missing")
    missing = np.isnan(keypoints)
    nowhere = missing.any(axis=2)
    scores = found.get("scores", np.ones((rows, k), np.float32)).astype(np.float32)
    where.check(
        (nowhere | ((scores >= 0) & (scores <= 1))).all(axis=1),
        lambda i: f"expected scores from 0 to 1, found {scores[i].tolist()}",
    )
    if report is not None:
        if "scores" not in found:
            report.add("keypoint scores", rows * k, "the file has none; 1 stands in their place")
        elif lost := int((nowhere & (scores > 0)).sum()):
            report.add("keypoint scores", lost, "the keypoint has no coordinates, so it is 0")
        half = int((nowhere & ~missing.all(axis=2)).sum())
        report.add("coordinates", half, "the other one of the same keypoint is missing")
    frames = found.get("frames", np.arange(start, start + rows))
    tracks = found.get("track_ids", np.full(rows, NO_TRACK))
    narrow = np.iinfo(np.int32)
    where.check(
        (tracks >= narrow.min) & (tracks <= narrow.max),
        lambda i: f"the track {tracks[i]} is larger than int32",
    )
    return Poses(
        keypoints,
        np.where(nowhere, np.float32(0), scores),
        skeleton,
        frames,
        tracks,
        provenance,
    )


def _read_tracks(file: Npz, provenance: dict[str, Any]) -> Tracks:
    columns: dict[str, Any] = {}
    missing = [name for name in _NEEDED_TRACKS if name not in file.names]
    if missing:
        raise FileFormatError(f"{file.path} has no {', '.join(missing)}; expected tracks")
    for name in COLUMNS:
        if name in file.names:
            columns[name] = file.array(name)
            if columns[name].ndim != 1 or len(columns[name]) != len(columns["frame"]):
                raise FileFormatError(
                    f"{file.path}: {name!r} has the shape {columns[name].shape}; expected "
                    f"({len(columns['frame'])},)"
                )
    where = tidy.Rows(file.path, 0)
    for name, column in columns.items():
        if column.dtype.kind == "f":
            where.check(~np.isinf(column), f"{name} is infinite")
    tidy.check_pairs(columns["frame"], columns["id"], where)
    try:
        return Tracks(**columns, provenance=provenance)
    except ValidationError as error:
        raise FileFormatError(f"{file.path}: {error}") from None
