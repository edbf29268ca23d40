"""Readers of tags: one interface, three programs behind it.

A reader is made for a `TagDictionary` and gives the `Readings` of one frame at a time. ``soft`` is
ours, ``aruco`` is OpenCV's and ``apriltag`` that of the AprilTag project.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import attrs
import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError
from dpk_core.services.settings import make_with
from dpk_trackers.barcodes.dictionary import TagDictionary


class Reading(NamedTuple):
    """One tag in a frame, in pixels; (0, 0) is the centre of the top-left pixel.

    id; corners (4, 2) of the black square, clockwise from the tag's top-left; centre (2,), where
    the middle of the tag is seen; angle in radians from the x axis to the tag's own, left to
    right, towards the y axis (clockwise on the screen); score and margin in [0, 1]: how well the
    code fits, and how much better than the next best.
    """

    id: int
    corners: np.ndarray
    centre: np.ndarray
    angle: float
    score: float
    margin: float


@attrs.frozen(repr=False, eq=False)
class Readings:
    """The tags of one frame, in arrays.

    Parameters
    ----------
    id
        (n,) integers; one may stand twice where a picture has it twice.
    corners
        (n, 4, 2) of the black square, clockwise from the tag's own top-left.
    score, margin
        (n,) in [0, 1].
    """

    id: np.ndarray
    corners: np.ndarray
    score: np.ndarray
    margin: np.ndarray

    def __attrs_post_init__(self) -> None:
        n = len(self.id)
        for name, dtype, shape in (
            ("id", np.int64, (n,)),
            ("corners", np.float64, (n, 4, 2)),
            ("score", np.float64, (n,)),
            ("margin", np.float64, (n,)),
        ):
            value = as_array(name, getattr(self, name), dtype, shape)
            object.__setattr__(self, name, value)

    @classmethod
    def none(cls) -> Readings:
        """Nothing read."""
        return cls(np.zeros(0, int), np.zeros((0, 4, 2)), np.zeros(0), np.zeros(0))

    @property
    def centre(self) -> np.ndarray:
        """(n, 2) where the diagonals cross, which is where a tag's middle is seen."""
        a, b, c, d = np.moveaxis(self.corners, 1, 0)
        ac, bd = c - a, d - b
        with np.errstate(divide="ignore", invalid="ignore"):
            part = _cross(b - a, bd) / _cross(ac, bd)
        return np.where(np.isfinite(part)[:, None], a + part[:, None] * ac, (a + c) / 2)

    @property
    def angle(self) -> np.ndarray:
        """(n,) radians from the x axis to the tag's left-to-right direction, clockwise."""
        right = self.corners[:, 1] + self.corners[:, 2] - self.corners[:, 0] - self.corners[:, 3]
        return np.arctan2(right[:, 1], right[:, 0])

    @property
    def side(self) -> np.ndarray:
        """(n,) mean side of the black square in pixels."""
        sides = np.roll(self.corners, -1, axis=1) - self.corners
        return np.linalg.norm(sides, axis=-1).mean(axis=1)

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, rows: slice | np.ndarray) -> Readings:
        """The chosen ones."""
        return Readings(self.id[rows], self.corners[rows], self.score[rows], self.margin[rows])

    def __iter__(self) -> Iterator[Reading]:
        columns = (self.id, self.corners, self.centre, self.angle, self.score, self.margin)
        for tag_id, corners, centre, angle, score, margin in zip(*columns, strict=True):
            yield Reading(int(tag_id), corners, centre, float(angle), float(score), float(margin))

    def __repr__(self) -> str:
        return f"Readings({len(self)} of {len(np.unique(self.id))} tags)"


class TagReader(ABC):
    """Reads the tags of one dictionary.

    Contract: `read` takes a frame of any size, gray or RGB, uint8, and leaves it as it is; it
    gives the same readings for the same frame whatever was read before, and is called from one
    thread at a time.
    """

    def __init__(self, dictionary: TagDictionary) -> None:
        self.dictionary = dictionary

    @abstractmethod
    def _read(self, gray: np.ndarray) -> Readings:
        """(h, w) uint8, neither side 0 -> what is in it."""

    def read(self, frame: np.ndarray) -> Readings:
        """The tags in a frame: (h, w), (h, w, 1) or (h, w, 3) uint8.

        Raises
        ------
        ValidationError
            On arrays of another type or shape.
        """
        gray = _as_gray(frame)
        return self._read(gray) if gray.size else Readings.none()


def make_reader(name: str, dictionary: TagDictionary, **options: object) -> TagReader:
    """The reader ``"soft"``, ``"aruco"`` or ``"apriltag"`` for a dictionary.

    Raises
    ------
    ValidationError
        On another name, or an option that the reader does not have.
    MissingDependencyError
        When ``apriltag`` is asked for and pyapriltags is not installed.
    """
    if name == "soft":
        from dpk_trackers.barcodes.soft_reader import SoftReader

        soft: TagReader = make_with("the reader soft", partial(SoftReader, dictionary), options)
        return soft
    if name in ("aruco", "apriltag"):
        from dpk_trackers.barcodes import other_readers

        kind = other_readers.ArucoReader if name == "aruco" else other_readers.AprilTagReader
        return kind(dictionary, **options)
    raise ValidationError(f"reader: expected 'soft', 'aruco' or 'apriltag', found {name!r}")


def _as_gray(frame: np.ndarray) -> np.ndarray:
    found = getattr(frame, "dtype", None)
    if found != np.uint8:
        hint = ""
        if found is not None and found.kind in "uif":
            hint = "; scale its range to 0..255 and convert with .astype('uint8')"
        raise ValidationError(
            f"frame: expected uint8, found {found if found is not None else type(frame).__name__}"
            f"{hint}"
        )
    if frame.ndim == 3 and frame.shape[2] == 1:
        frame = frame[:, :, 0]
    if frame.ndim == 2:
        return np.ascontiguousarray(frame)
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ValidationError(
            f"frame: expected (h, w), (h, w, 1) or (h, w, 3), found {frame.shape}"
        )
    if not frame.size:
        return np.zeros((0, 0), np.uint8)
    import cv2

    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
