"""Poses in HDF5: a file that grows while a video is predicted and survives a kill at any moment.

=================  ==============  ==============================================================
``keypoints``      (n, k, 2)       float32 x, y in pixels of the video frame
``scores``         (n, k)          float32 in [0, 1]
``frames``         (n,)            int64 number of the frame in the video; -1: row not written yet
``track_ids``      (n,)            int32; -1: no track
``rows_done``      ()              int64: rows up to here are whole
``complete``       ()              uint8: 1 when the job came to its end
``skeleton``       (k, 2)          int32, and ``skeleton_names``, as in annotation sets
attributes                         ``provenance`` (JSON), version
=================  ==============  ==============================================================

How a kill is survived: room for many rows is allocated ahead, in a file that takes its place whole.
After that only raw numbers are written into that room, never HDF5's own bookkeeping, and last of
all ``rows_done``. When the room is used up, a copy with twice of it takes the file's place. At the
end a copy without the room that was not needed does; a complete file has exactly its rows.
"""

from __future__ import annotations

import json
import shutil
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import FileFormatError, OutputExistsError, SkeletonError, ValidationError
from dpk_core.poses import Poses
from dpk_core.services.storage.atomic import (
    atomic_path,
    behind_links,
    check_output,
    exclusive,
    output_errors,
    require_space,
)
from dpk_core.services.storage.hdf5 import (
    open_for_reading,
    read_json,
    read_skeleton,
    reading,
    require_dataset,
    stamp,
    to_json,
    write_json,
    write_skeleton,
)
from dpk_core.skeleton import Skeleton

KIND = "poses"
_INITIAL_ROWS = 4096
_COPY_ROWS = 65536
_COLUMNS = ("keypoints", "scores", "frames", "track_ids")


def write_poses(path: str | PathLike[str], poses: Poses, *, overwrite: bool = False) -> None:
    """Write poses at once, whole or not at all.

    Raises
    ------
    OutputExistsError, OutputError
    """
    with atomic_path(path, overwrite=overwrite) as temporary:
        _create(temporary, poses.skeleton, poses.provenance, len(poses))
        with h5py.File(temporary, "r+", locking=False) as file:
            _put(file, 0, poses)
            file["rows_done"][()] = len(poses)
            file["complete"][()] = True


def read_poses(path: str | PathLike[str], start: int = 0, stop: int | None = None) -> Poses:
    """Read poses, also those of a prediction that is still running or was cut off.

    Parameters
    ----------
    start, stop
        Rows to read; by default all that are done.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    path = Path(path)
    with reading(path) as file:
        keypoints = require_dataset(file, "keypoints", path, "poses")
        if keypoints.ndim != 3 or keypoints.shape[2] != 2:
            raise FileFormatError(
                f"{path}: 'keypoints' has the shape {keypoints.shape}; expected (rows, k, 2)"
            )
        done = int(require_dataset(file, "rows_done", path, "poses")[()])
        rows = slice(*slice(start, stop).indices(done))
        return Poses(
            keypoints[rows],
            require_dataset(file, "scores", path, "poses")[rows],
            read_skeleton(file, path, keypoints.shape[1]),
            frames=require_dataset(file, "frames", path, "poses")[rows],
            track_ids=require_dataset(file, "track_ids", path, "poses")[rows],
            provenance=read_json(file, "provenance", path),
        )


def is_complete(path: str | PathLike[str]) -> bool:
    """Whether the prediction that wrote the file came to its end."""
    path = Path(path)
    with reading(path) as file:
        require_dataset(file, "rows_done", path, "poses")
        return "complete" in file and bool(file["complete"][()])


def exchange_tracks(path: str | PathLike[str], frame: int, first: int, second: int) -> int:
    """Exchange the identities of two individuals from a frame on; the number of rows changed.

    Doing the same again takes it back. The file notes it in its provenance under "exchanges". A
    reader, or a crash at any moment, sees the file before or after it.

    Parameters
    ----------
    path
        Complete poses.
    frame
        The first one that is changed.
    first, second
        Track ids.

    Raises
    ------
    FileMissingError, FileFormatError, OutputError
    ValidationError
        When the prediction is still under way, or an individual is not in the file.
    """
    path = Path(path)
    if not is_complete(path):
        raise ValidationError(
            f"{path} is not complete; run its prediction to the end, then exchange identities"
        )
    with exclusive(path):
        frames, ids = _identities(path)
        for one in (first, second):
            if one not in ids:
                known = ", ".join(map(str, np.unique(ids)))
                raise ValidationError(f"{path} has no individual {one}; it has {known}")
        after = frames >= frame
        changed = (after & (ids == first), after & (ids == second))
        ids[changed[0]], ids[changed[1]] = second, first
        with atomic_path(path, overwrite=True) as temporary:
            shutil.copyfile(behind_links(path), temporary)
            with h5py.File(temporary, "r+", locking=False) as file:
                file["track_ids"][: len(ids)] = ids
                provenance = read_json(file, "provenance", path)
                done = [*provenance.get("exchanges", []), [frame, first, second]]
                write_json(file, "provenance", {**provenance, "exchanges": done})
    return int(changed[0].sum() + changed[1].sum())


def _identities(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with reading(path) as file:
        done = int(require_dataset(file, "rows_done", path, "poses")[()])
        frames = require_dataset(file, "frames", path, "poses")[:done]
        return frames, require_dataset(file, "track_ids", path, "poses")[:done]


class PosesWriter:
    """Writes poses as they are predicted; a context manager.

    Parameters
    ----------
    path
        The file; it is there, and readable, from the first moment.
    skeleton
        Of all rows.
    provenance
        Stored with the file as JSON. Its entry ``"job"`` says which job this is: another run with
        exactly the same one, and the same skeleton, may continue the file.
    overwrite
        Replace a file that is there.
    resume
        Continue a file of the same job.
    capacity_hint
        How many rows are expected, to allocate room for them at once.

    Attributes
    ----------
    n_rows : int
        Rows that are safely in the file; after a resume, the rows that need not be done again.
    complete : bool
        Whether the file was already finished when it was opened.

    Raises
    ------
    OutputExistsError
        When the file is there and belongs to another job (the message says what differs), or
        neither ``overwrite`` nor ``resume`` is set.
    OutputError
        When the disk is full or the folder can't be written. After `append` raised it, the rows
        up to ``n_rows`` are safe, and the same rows can be appended again.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        skeleton: Skeleton,
        provenance: dict[str, Any],
        *,
        overwrite: bool = False,
        resume: bool = False,
        capacity_hint: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.skeleton = skeleton
        self.provenance = provenance
        self.n_rows = 0
        self.complete = False
        if resume and self.path.exists() and self._is_same_job(overwrite):
            self._continue()
        else:
            check_output(self.path, overwrite=overwrite)
            rows = max(1, capacity_hint or _INITIAL_ROWS)
            with atomic_path(self.path, overwrite=overwrite) as temporary:
                _create(temporary, skeleton, provenance, rows)
        with output_errors(self.path):
            self._file: h5py.File | None = self._open()

    def append(self, poses: Poses) -> None:
        """Add rows; when this returns, a kill can't lose them."""
        if poses.skeleton.names != self.skeleton.names:
            raise ValidationError(
                f"expected poses of {self.skeleton!r}, found {poses.skeleton!r} with other names"
            )
        if self._file is None:
            raise ValueError(f"{self.path} is closed")
        with output_errors(self.path):
            if self.n_rows + len(poses) > len(self._file["frames"]):
                self._grow(self.n_rows + len(poses))
            _put(self._file, self.n_rows, poses)
            self._file.flush()
            self._file["rows_done"][()] = self.n_rows + len(poses)
            self._file.flush()
        self.n_rows += len(poses)

    def close(self, *, complete: bool = True) -> None:
        """Give back the room that was not needed and note whether the job came to its end."""
        if self._file is None:
            return
        exact = self.n_rows == len(self._file["frames"])
        with output_errors(self.path):
            if complete and exact:
                self._file["complete"][()] = True
            self._file.close()
            self._file = None
            if complete and not exact:
                self._rewrite(self.n_rows, complete=True)
        self.complete = self.complete or complete

    def __enter__(self) -> PosesWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(complete=error is None)

    # -- small parts ----------------------------------------------------------------------------

    def _open(self) -> h5py.File:
        return h5py.File(self.path, "r+", locking=False)

    def _is_same_job(self, overwrite: bool) -> bool:
        """Whether the file can be continued; False when it may be replaced instead."""
        job = json.loads(to_json(self.provenance)).get("job")
        try:
            stored, skeleton = _read_job(self.path)
        except (FileFormatError, SkeletonError):
            stored, skeleton = None, None
        if job is not None and stored == job and skeleton == self.skeleton:
            return True
        if overwrite:
            return False
        difference = _differences(stored, job)
        if stored == job and skeleton is not None:
            difference = f", its skeleton differs:\n  {skeleton!r}: {', '.join(skeleton.names)}\n"
        raise OutputExistsError(
            f"{self.path} exists and is of another job{difference}; choose another name, or "
            "replace it (--force, overwrite=True)"
        )

    def _continue(self) -> None:
        with reading(self.path) as file:
            self.n_rows = int(file["rows_done"][()])
        self.complete = is_complete(self.path)

    def _grow(self, needed: int) -> None:
        assert self._file is not None
        capacity = max(needed, 2 * len(self._file["frames"]))
        self._file.close()
        try:
            self._rewrite(capacity, complete=False)
        finally:
            self._file = self._open()  # the larger one, or the old one when the disk is full

    def _rewrite(self, capacity: int, *, complete: bool) -> None:
        """Put a copy with another capacity in the file's place."""
        with atomic_path(self.path, overwrite=True) as temporary:
            _create(temporary, self.skeleton, self.provenance, capacity)
            with (
                h5py.File(temporary, "r+", locking=False) as new,
                open_for_reading(self.path) as old,
            ):
                done = int(old["rows_done"][()])
                for start in range(0, done, _COPY_ROWS):
                    rows = slice(start, min(start + _COPY_ROWS, done))
                    for name in _COLUMNS:
                        new[name][rows] = old[name][rows]
                new["rows_done"][()] = done
                new["complete"][()] = complete


def _create(path: Path, skeleton: Skeleton, provenance: dict[str, Any], rows: int) -> None:
    """A file with room for so many rows, all of it allocated and filled."""
    k = len(skeleton)
    require_space(path, rows * (12 * k + 12) + 2**16 + len(to_json(provenance)))
    with h5py.File(path, "w", libver=("earliest", "v110"), locking=False) as file:
        stamp(file, KIND)
        write_json(file, "provenance", provenance)
        write_skeleton(file, skeleton)
        for name, shape, dtype, fill in (
            ("keypoints", (rows, k, 2), np.float32, np.nan),
            ("scores", (rows, k), np.float32, 0),
            ("frames", (rows,), np.int64, -1),
            ("track_ids", (rows,), np.int32, -1),
            ("rows_done", (), np.int64, 0),
            ("complete", (), np.uint8, 0),
        ):
            create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            create.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
            create.set_fill_value(np.array(fill, dtype))
            space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
            h5py.h5d.create(
                file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, create
            )


def _put(file: h5py.File, start: int, poses: Poses) -> None:
    rows = slice(start, start + len(poses))
    if len(poses):
        file["keypoints"][rows] = poses.keypoints
        file["scores"][rows] = poses.scores
        file["frames"][rows] = poses.frames
        file["track_ids"][rows] = poses.track_ids


def _read_job(path: Path) -> tuple[Any, Skeleton]:
    with reading(path) as file:
        keypoints = require_dataset(file, "keypoints", path, "poses")
        require_dataset(file, "rows_done", path, "poses")
        if keypoints.ndim != 3:
            raise FileFormatError(f"{path}: 'keypoints' has the shape {keypoints.shape}")
        return (
            read_json(file, "provenance", path).get("job"),
            read_skeleton(file, path, keypoints.shape[1]),
        )


def _differences(stored: Any, job: Any) -> str:
    if not isinstance(stored, dict) or not isinstance(job, dict):
        return ""
    lines = [
        f"\n  {key}: the file has {stored.get(key)!r}, this is {job.get(key)!r}"
        for key in sorted(set(stored) | set(job))
        if stored.get(key) != job.get(key)
    ]
    return ", it differs in:" + "".join(lines) + "\n" if lines else ""
