"""Merging labelled sets: which images are the same, and what becomes of their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.lazy_images import LazyImages
from dpk_core.services.imaging import match_channels
from dpk_core.skeleton import Skeleton

Place = tuple[int, int]
"""Number of the set, and row in it."""


@attrs.frozen
class Conflict:
    """Two different labels of one keypoint in one image.

    Parameters
    ----------
    row
        Of the merged set.
    keypoint
        Its name.
    first, second
        Where the labels stand.
    distance
        Pixels between them; NaN when one of them says that the keypoint can't be placed, and 0
        when they only differ in whether it is hidden.
    kept
        Which of the two places was kept.
    """

    row: int
    keypoint: str
    first: Place
    second: Place
    distance: float
    kept: Place

    @property
    def difference(self) -> str:
        """How they differ, in words."""
        if np.isnan(self.distance):
            return "not placed in one"
        return f"{self.distance:.1f} px" if self.distance > 0 else "hidden in one"


class MergedLabels:
    """Labels of several sets, image by image; rows are added one by one.

    Parameters
    ----------
    skeleton
        Of all.
    n
        Room for so many rows.
    newer
        For each set a number; the label of the set with the higher one is kept in a conflict, of
        equal ones the first.
    tolerance
        Pixels up to which two labels count as the same.

    Attributes
    ----------
    keypoints, annotated, visibility : np.ndarray
        (n, k, 2), (n, k), (n, k) so far.
    filled : int
        Labels put into rows that another image had begun.
    guesses_left : int
        Guesses that were not kept, as another set has a different one.
    conflicts : list of Conflict
    """

    def __init__(
        self, skeleton: Skeleton, n: int, newer: Sequence[float], tolerance: float
    ) -> None:
        k = len(skeleton)
        self.skeleton = skeleton
        self.keypoints = np.full((n, k, 2), np.nan)
        self.annotated = np.zeros((n, k), bool)
        self.visibility = np.zeros((n, k), np.uint8)
        self.filled = self.guesses_left = 0
        self.conflicts: list[Conflict] = []
        self._newer, self._tolerance = newer, tolerance
        self._origin = np.full((n, k, 2), -1, np.int64)
        self._begun = np.zeros(n, bool)

    def put(self, row: int, place: Place, labels: AnnotationSet) -> None:
        """Take the labels of an image into a row, which may have some of another set already."""
        i = place[1]
        for j, name in enumerate(labels.skeleton.names):
            at = row, self.skeleton.index(name)
            point, is_label = labels.keypoints[i, j], bool(labels.annotated[i, j])
            seen = int(labels.visibility[i, j])
            if self.annotated[at] and is_label:
                self._settle(at, place, point, seen)
            elif is_label:
                self.filled += bool(self._begun[row])
                self._write(at, place, point, seen, True)
            elif not self.annotated[at] and np.isfinite(point).all():
                self._guess(at, place, point, seen)
        self._begun[row] = True

    def _settle(self, at: tuple[int, int], place: Place, point: np.ndarray, seen: int) -> None:
        """Two labels: one is kept, and told of where they differ."""
        distance = float(np.linalg.norm(self.keypoints[at] - point))
        both_missing = np.isnan(self.keypoints[at]).any() and np.isnan(point).any()
        is_same = both_missing or distance <= self._tolerance
        if is_same and self.visibility[at] == seen:
            return
        first = (int(self._origin[at][0]), int(self._origin[at][1]))
        kept = place if self._newer[place[0]] > self._newer[first[0]] else first
        name = self.skeleton.names[at[1]]
        apart = 0.0 if is_same else distance
        self.conflicts.append(Conflict(at[0], name, first, place, apart, kept))
        if kept == place:
            self._write(at, place, point, seen, True)

    def _guess(self, at: tuple[int, int], place: Place, point: np.ndarray, seen: int) -> None:
        there = self.keypoints[at]
        if np.isnan(there).any():
            self._write(at, place, point, seen, False)
        elif np.linalg.norm(there - point) > self._tolerance:
            self.guesses_left += 1
            if self._newer[place[0]] > self._newer[int(self._origin[at][0])]:
                self._write(at, place, point, seen, False)

    def _write(
        self, at: tuple[int, int], place: Place, point: np.ndarray, seen: int, is_label: bool
    ) -> None:
        self.keypoints[at], self.visibility[at], self.annotated[at] = point, seen, is_label
        self._origin[at] = place


def image_keys(labels: AnnotationSet, channels: int) -> Iterator[tuple[bytes, str]]:
    """What tells each image from others: a digest of its pixels, and whose labels the row has.

    Padding is left out, and gray images are taken as colour where ``channels`` is 3, so that the
    same picture has the same key in sets of other sizes. Of animals that share a frame, a set has
    a row each: the same pixels, but another individual.
    """
    for i, source in enumerate(labels.sources):
        image = np.ascontiguousarray(content(labels, i, channels))
        digest = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
        digest.update(image.data)
        yield digest.digest(), source.individual


def content(labels: AnnotationSet, i: int, channels: int) -> np.ndarray:
    """(h, w, channels) uint8: an image without its padding."""
    image = np.asarray(labels.images[i])
    height, width = labels.sources[i].size or image.shape[:2]
    return match_channels(image[:height, :width], channels)


class MergedImages(LazyImages):
    """Images of several sets as one run, padded to one size, read when they are asked for.

    Parameters
    ----------
    sets
        All sets.
    places
        Which image of which set each row is.
    shape
        (h, w, c) of all.
    progress
        Called with the number of images read and their total.
    """

    def __init__(
        self,
        sets: Sequence[AnnotationSet],
        places: Sequence[Place],
        shape: tuple[int, int, int],
        progress: Any,
    ) -> None:
        self._sets, self._places, self._progress = sets, places, progress
        self.shape = (len(places), *shape)

    def size(self, row: int) -> tuple[int, int] | None:
        """(height, width) before padding, None where there is none: as `Source` has it."""
        number, i = self._places[row]
        found = self._sets[number].sources[i].size or self._sets[number].image_shape[:2]
        return None if found == self.shape[1:3] else found

    def image(self, row: int) -> np.ndarray:
        number, i = self._places[row]
        padded = np.zeros(self.shape[1:], np.uint8)
        image = content(self._sets[number], i, self.shape[3])
        padded[: image.shape[0], : image.shape[1]] = image
        self._progress(row + 1, len(self))
        return padded


def known_source(first: Source, second: Source) -> Source:
    """Where an image came from, by two that tell of it: the first's word where it knows."""
    if not first.video and second.video:
        return second
    return first
