"""Merging annotation sets: keypoints by name, images by content, no label overwritten."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import attrs
import h5py
import numpy as np

from dpk_core.annotations import AnnotationSet, ImageSource
from dpk_core.services.storage.annotations_file import (
    append_rows,
    extend_skeleton,
    read_annotations,
    rewrite,
    room_for,
    room_for_labels,
)
from dpk_core.services.storage.atomic import exclusive
from dpk_core.skeleton import Skeleton

_BLOCK_BYTES = 16 * 2**20

Conflict = tuple[int, str, float]


@attrs.frozen(repr=False)
class MergeReport:
    """What a merge did; printed, it says so in a few lines.

    Parameters
    ----------
    added
        Images that were new.
    duplicates
        Images that were already there (the same pixels), or stood twice in the source.
    filled
        Keypoints of duplicates that only the source had labelled, and that were taken over.
    conflicts
        (row of the target, keypoint, distance in pixels) where both had labelled a keypoint at
        different places; the target's was kept. NaN distance: one of them says it can't be seen.
    dropped, absent
        Names of keypoints that only the source has and that were not taken, and of those that only
        the target has.
    """

    added: int
    duplicates: int
    filled: int
    conflicts: tuple[Conflict, ...]
    dropped: tuple[str, ...]
    absent: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.added} images added, {self.duplicates} were there already",
            f"{self.filled} labels taken over for those, {len(self.conflicts)} conflicts kept "
            "as they were",
        ]
        if self.dropped:
            lines.append(f"not taken, unknown here: {', '.join(self.dropped)}")
        if self.absent:
            lines.append(f"without labels in the new images: {', '.join(self.absent)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"MergeReport({self.added} added, {self.duplicates} duplicates, {self.filled} labels "
            f"filled, {len(self.conflicts)} conflicts, {len(self.dropped)} keypoints dropped, "
            f"{len(self.absent)} absent)"
        )


def merge_annotations(
    target: str | PathLike[str],
    source: str | PathLike[str] | AnnotationSet,
    *,
    extend: bool = False,
    tolerance: float = 0.5,
) -> MergeReport:
    """Add the images and labels of another set to the file ``target``.

    Keypoints are matched by name. An image that is there already (the same pixels) is not added
    again: labels that it lacks are filled in, labels that differ by more than ``tolerance`` pixels
    are reported and left.

    Parameters
    ----------
    extend
        Take keypoints that only the source has into the target's skeleton, behind its own.
        By default the target's skeleton stays, and the report names what was not taken.

    Raises
    ------
    FileMissingError, FileFormatError, OutputError
    ValidationError
        When the images have another size.
    """
    target = Path(target)
    incoming = source if isinstance(source, AnnotationSet) else read_annotations(source)
    found: list[tuple[int, tuple[Conflict, ...]]] = []
    with exclusive(target):
        present = read_annotations(target)
        skeleton = present.skeleton
        if extend:
            skeleton = extended(skeleton, incoming.skeleton)
        matched = match_keypoints(incoming, skeleton)
        new, pairs = _compare(present.images, matched.images)
        added = matched.subset(new)

        def merge(file: h5py.File) -> None:
            if len(skeleton) > len(present.skeleton):
                extend_skeleton(file, skeleton)
            if new:
                append_rows(file, added, target)
            found.append(_fill(file, matched, pairs, tolerance))

        room = room_for(added) + room_for_labels(len(present), len(skeleton))
        rewrite(target, merge, room=room)
    filled, conflicts = found[0]
    mine, theirs = present.skeleton.names, incoming.skeleton.names
    return MergeReport(
        added=len(new),
        duplicates=len(matched) - len(new),
        filled=filled,
        conflicts=conflicts,
        dropped=tuple(name for name in theirs if name not in skeleton.names),
        absent=tuple(name for name in mine if name not in theirs),
    )


def match_keypoints(annotations: AnnotationSet, skeleton: Skeleton) -> AnnotationSet:
    """The set with the keypoints of another skeleton, by name; unknown ones are unlabelled."""
    n, k = len(annotations), len(skeleton)
    keypoints = np.full((n, k, 2), np.nan)
    annotated = np.zeros((n, k), bool)
    visibility = np.zeros((n, k), np.uint8)
    for j, name in enumerate(skeleton.names):
        if name in annotations.skeleton.names:
            i = annotations.skeleton.index(name)
            keypoints[:, j] = annotations.keypoints[:, i]
            annotated[:, j] = annotations.annotated[:, i]
            visibility[:, j] = annotations.visibility[:, i]
    return AnnotationSet(
        annotations.images, keypoints, skeleton, annotated, visibility, annotations.sources
    )


def extended(skeleton: Skeleton, other: Skeleton) -> Skeleton:
    """The skeleton with the keypoints that only the other one has behind its own.

    Examples
    --------
    >>> eyes = Skeleton.from_rows([("eyeL", None, "eyeR"), ("eyeR", None, "eyeL")])
    >>> extended(Skeleton(("head", "eyeL")), eyes).to_rows()
    [('head', None, None), ('eyeL', None, 'eyeR'), ('eyeR', None, 'eyeL')]
    """
    new = {name: row for name, *row in other.to_rows() if name not in skeleton.names}
    partner = {name: swap for name, _, swap in other.to_rows() if swap in new}
    own = [(name, up, swap or partner.get(name)) for name, up, swap in skeleton.to_rows()]
    return Skeleton.from_rows([*own, *((name, up, swap) for name, (up, swap) in new.items())])


def _compare(
    present: ImageSource, incoming: ImageSource
) -> tuple[list[int], list[tuple[int, int]]]:
    """Which incoming images are new, and (row in the target, row in the source) of the others.

    Rows of the target go on counting through the new images, for an image that the source has
    twice may have some labels here and others there.
    """
    known: dict[bytes, int] = {}
    for row, digest in enumerate(_digests(present)):
        known.setdefault(digest, row)
    new: list[int] = []
    pairs: list[tuple[int, int]] = []
    for i, digest in enumerate(_digests(incoming)):
        if digest in known:
            pairs.append((known[digest], i))
        else:
            known[digest] = len(present) + len(new)
            new.append(i)
    return new, pairs


def _fill(
    file: h5py.File, incoming: AnnotationSet, pairs: list[tuple[int, int]], tolerance: float
) -> tuple[int, tuple[Conflict, ...]]:
    """Take over labels of images that both have; count them, and list the conflicts."""
    keypoints, annotated = file["annotations"][()], file["annotated"][()]
    visibility = file["visibility"][()]
    filled = 0
    conflicts: list[Conflict] = []
    for row, i in pairs:
        for j in np.flatnonzero(incoming.annotated[i]):
            if not annotated[row, j]:
                keypoints[row, j] = incoming.keypoints[i, j]
                visibility[row, j] = incoming.visibility[i, j]
                annotated[row, j] = True
                filled += 1
                continue
            distance = float(np.linalg.norm(keypoints[row, j] - incoming.keypoints[i, j]))
            one_missing = np.isnan(keypoints[row, j, 0]) != np.isnan(incoming.keypoints[i, j, 0])
            if distance > tolerance or one_missing:
                conflicts.append((row, incoming.skeleton.names[j], distance))
    file["annotations"][...] = keypoints
    file["annotated"][...] = annotated
    file["visibility"][...] = visibility
    return filled, tuple(conflicts)


def _digests(images: ImageSource) -> Iterator[bytes]:
    shape = str(tuple(images.shape[1:])).encode()
    per_block = max(1, _BLOCK_BYTES // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), per_block):
        for image in np.ascontiguousarray(images[start : start + per_block]):
            digest = hashlib.blake2b(shape, digest_size=16)
            digest.update(image.data)
            yield digest.digest()
