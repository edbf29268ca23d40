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
from dpk_core.services.storage.annotations_file import append_rows, change, read_annotations
from dpk_core.services.storage.hdf5 import read_skeleton
from dpk_core.skeleton import Skeleton


@attrs.frozen
class MergeReport:
    """What a merge did.

    Parameters
    ----------
    added
        Images that were new.
    duplicates
        Images that were already there (the same pixels).
    filled
        Keypoints of duplicates that only the source had labelled, and that were taken over.
    conflicts
        (row of the target, keypoint, distance in pixels) where both had labelled a keypoint at
        different places; the target's was kept.
    dropped, absent
        Names of keypoints that only the source has, and that only the target has.
    """

    added: int
    duplicates: int
    filled: int
    conflicts: tuple[tuple[int, str, float], ...]
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


def merge_annotations(
    target: str | PathLike[str],
    source: str | PathLike[str] | AnnotationSet,
    *,
    tolerance: float = 0.5,
) -> MergeReport:
    """Add the images and labels of another set to the file ``target``.

    The target's skeleton stays; keypoints are matched by name. An image that is there already (the
    same pixels) is not added again: labels that it lacks are filled in, labels that differ by more
    than ``tolerance`` pixels are reported and left.

    Raises
    ------
    FileMissingError, FileFormatError, ValidationError
        The last also when the images have another size.
    """
    target = Path(target)
    incoming = source if isinstance(source, AnnotationSet) else read_annotations(source)
    reports: list[MergeReport] = []

    def merge(file: h5py.File) -> None:
        skeleton = read_skeleton(file, target, file["annotations"].shape[1])
        matched = match_keypoints(incoming, skeleton)
        known = {_digest(image): row for row, image in enumerate(_rows(file["images"]))}
        new: list[int] = []
        pairs: list[tuple[int, int]] = []
        for i, image in enumerate(_rows(matched.images)):
            digest = _digest(image)
            if digest in known:
                pairs.append((known[digest], i))
            else:
                known[digest] = file["images"].shape[0] + len(new)
                new.append(i)
        pairs = [(row, i) for row, i in pairs if row < file["images"].shape[0]]
        filled, conflicts = _fill(file, matched, pairs, tolerance)
        if new:
            append_rows(file, matched.subset(new), target)
        names, other = skeleton.names, incoming.skeleton.names
        reports.append(
            MergeReport(
                added=len(new),
                duplicates=len(matched) - len(new),
                filled=filled,
                conflicts=tuple((row, names[j], d) for row, j, d in conflicts),
                dropped=tuple(name for name in other if name not in names),
                absent=tuple(name for name in names if name not in other),
            )
        )

    change(target, merge)
    return reports[0]


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


def _fill(
    file: h5py.File, incoming: AnnotationSet, pairs: list[tuple[int, int]], tolerance: float
) -> tuple[int, list[tuple[int, int, float]]]:
    """Take over labels of images that both have; count them, and list the conflicts."""
    keypoints, annotated = file["annotations"][()], file["annotated"][()]
    visibility = file["visibility"][()]
    filled, conflicts = 0, []
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
                conflicts.append((row, int(j), distance))
    file["annotations"][...] = keypoints
    file["annotated"][...] = annotated
    file["visibility"][...] = visibility
    return filled, conflicts


def _rows(images: ImageSource) -> Iterator[np.ndarray]:
    return (images[i] for i in range(len(images)))


def _digest(image: np.ndarray) -> bytes:
    image = np.ascontiguousarray(image)
    return hashlib.blake2b(
        image.data, digest_size=16, person=str(image.shape)[:16].encode()
    ).digest()
