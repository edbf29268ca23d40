"""The HDF5 file of a set, as the store sees it: labels in, labels out, and whose they are.

Beside labels and marks, which `dpk_core.services.storage` describes, the group of the marks gets as
attributes the stamp: the name of the set, the number of the journal's last entry that is in it, and
a fingerprint of the labels, by which a change made by another program is found.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import h5py
import numpy as np

from dpk_annotator.labels import Labels
from dpk_core.annotations import AnnotationSet, ImageSource
from dpk_core.errors import DpkError, FileMissingError, OutputError
from dpk_core.services.storage.annotations_file import (
    read_annotations,
    rewrite,
    room_for_labels,
    stored_skeleton,
)
from dpk_core.services.storage.hdf5 import reading, write_skeleton
from dpk_core.services.storage.marks import GROUP, Marks, marks_of, write_marks

try:
    import fcntl
except ImportError:  # Windows, which lets nobody replace a file that is open
    fcntl = None  # type: ignore[assignment]

_LABELS = ("annotations", "annotated", "visibility")
_CHUNK = 1024
_TRIES = 5

Signature = tuple[int, int, int]


class SetChangedError(DpkError):
    """The file was changed while it was being brought up to date."""


class FileLockedError(OutputError):
    """The file is there, but nobody may write it now: protected, or open in another program."""


@attrs.frozen
class Stamp:
    """Whose the labels of a file are: name of the set, last entry, fingerprint of the labels."""

    set_id: str
    seq: int
    fingerprint: str


@attrs.frozen(eq=False, repr=False)
class SetOnDisk:
    """What was read from a file.

    Parameters
    ----------
    annotations
        Images and sources; close ``annotations.images`` when they are not needed.
    labels
        With flags and notes where the file has them.
    has_marks
        Whether it has them all; other programs' files don't, nor one whose notes are damaged: then
        those of the journal hold.
    stamp
        None when no store has written it.
    fingerprint
        Of the labels that were found.
    signature
        Of the file that they were found in.
    """

    annotations: AnnotationSet
    labels: Labels
    has_marks: bool
    stamp: Stamp | None
    fingerprint: str
    signature: Signature

    def close(self) -> None:
        """Close the images."""
        close = getattr(self.annotations.images, "close", None)
        if close is not None:
            close()


def signature(path: Path) -> Signature:
    """Number, size and date of a file: it is the same while they are; FileMissingError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise FileMissingError(f"{path} is gone; put it back") from None
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_set(path: Path) -> SetOnDisk:
    """Read all but the images.

    Raises
    ------
    FileMissingError, FileFormatError, SkeletonError
    """
    for attempt in range(_TRIES):
        before = signature(path) if path.exists() else None
        annotations = read_annotations(path)
        labels = Labels.of(annotations)
        with reading(path) as file:
            has_marks, stamp = _read_group(file, labels)
        assert before is not None
        after = signature(path)
        # Somebody who keeps on writing is told of by `nobody_writes`.
        if before == after or attempt == _TRIES - 1:
            break
    return SetOnDisk(annotations, labels, has_marks, stamp, labels.fingerprint(), before)


def write_set(path: Path, labels: Labels, stamp: Stamp, expected: Signature) -> Signature:
    """Put labels into a file, whole or not at all; to be called while holding it exclusive.

    Raises
    ------
    SetChangedError
        When the file is not the ``expected`` one; nothing is written then.
    OutputError, FileFormatError, FileMissingError
    """

    def check() -> None:
        if signature(path) != expected:
            raise SetChangedError(f"{path} was changed by another program meanwhile")

    def edit(file: h5py.File) -> None:
        check()
        _write_labels(file, labels)
        _write_group(file, labels, stamp)
        file.flush()
        _sync(Path(file.filename))  # before the last look, for it may take long
        check()

    n, k = len(labels), len(labels.skeleton)
    with nobody_writes(path):
        rewrite(path, edit, room=2 * room_for_labels(n, k) + 2 * _marks(labels).room)
    return signature(path)


def check_writable(path: Path) -> None:
    """FileLockedError when the file is protected against writing; `rewrite` would replace it."""
    try:
        mode = path.stat().st_mode
    except OSError:  # it is not there, which whoever opens it tells better
        return
    if not (os.access(path, os.W_OK) and mode & 0o222):
        raise FileLockedError(f"cannot write {path}: it is read-only; make it writable")


@contextmanager
def nobody_writes(path: Path) -> Iterator[None]:
    """Hold off programs that would open the file for writing; FileLockedError when
    one has it open.

    HDF5 locks a file that is open: shared for readers, which disturb nobody, else exclusive.
    Source: HDF5 1.10 and later, "File Locking Under HDF5", H5FDsec2.c (flock).
    """
    if fcntl is None:
        yield
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"cannot open {path} ({error.strerror})") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileLockedError(
                f"cannot write {path}: another program has it open for writing; close it there"
            ) from None
        except OSError:  # a disk without locks: what changes is still seen by date and size
            pass
        yield
    finally:
        os.close(descriptor)


def image_digests(images: ImageSource, rows: list[int] | None = None) -> dict[int, str]:
    """Digests of some images, by default the first, the middle and the last."""
    n = len(images)
    rows = sorted({0, n // 2, n - 1} if n else set()) if rows is None else rows
    shape = str(tuple(images.shape[1:])).encode()
    return {
        row: hashlib.blake2b(
            shape + np.ascontiguousarray(images[row]).tobytes(), digest_size=16
        ).hexdigest()
        for row in rows
        if row < n
    }


# -- small parts ------------------------------------------------------------------------------


def _read_group(file: h5py.File, labels: Labels) -> tuple[bool, Stamp | None]:
    marks = marks_of(file, len(labels))
    if marks is not None:
        labels.flag, labels.finished, labels.notes = marks.flag, marks.finished, marks.notes
    group = file.get(GROUP)
    try:
        texts = (str(group.attrs["set_id"]), str(group.attrs["fingerprint"]))
        stamp = Stamp(texts[0], int(group.attrs["revision"]), texts[1])
    except (AttributeError, KeyError, ValueError, TypeError):
        stamp = None
    return marks is not None and not marks.notes_damaged, stamp


def _write_labels(file: h5py.File, labels: Labels) -> None:
    values = (labels.keypoints, labels.annotated, labels.visibility)
    skeleton = stored_skeleton(file, Path(file.filename))
    for key, value in zip(_LABELS, values, strict=True):
        if file[key].shape == value.shape:
            file[key][...] = value
        else:
            del file[key]
            chunk = min(_CHUNK, max(64, len(value)))
            file.create_dataset(
                key, data=value, maxshape=(None, *value.shape[1:]), chunks=(chunk, *value.shape[1:])
            )
    if skeleton != labels.skeleton:
        del file["skeleton"], file["skeleton_names"]
        write_skeleton(file, labels.skeleton)


def _write_group(file: h5py.File, labels: Labels, stamp: Stamp) -> None:
    group = write_marks(file, _marks(labels))
    group.attrs["set_id"] = stamp.set_id
    group.attrs["revision"] = stamp.seq
    group.attrs["fingerprint"] = stamp.fingerprint


def _marks(labels: Labels) -> Marks:
    return Marks(labels.flag, labels.finished, labels.notes)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
