"""What is known of one image: its labelled keypoints, a flag, a note, whether it is finished."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import HIDDEN, NOT_LABELLED, VISIBLE
from dpk_core.errors import ValidationError
from dpk_core.skeleton import Skeleton

LOWEST, HIGHEST = -998.0, 1e6
"""Pixels between which a coordinate must lie; -999 and beyond is "missing" to other programs."""

MARKS = ("flag", "note", "finished")
"""What is said of an image as a whole."""

_BESIDE_SENTINEL = -1.0 + 2.0**-16


def _coordinate(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise ValidationError(f"a coordinate: expected a number of pixels, found {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValidationError("a coordinate: expected pixels, found a huge number") from None


def _same_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _check_visibility(_: Any, __: Any, value: Any) -> None:
    if isinstance(value, bool) or value not in (NOT_LABELLED, HIDDEN, VISIBLE):
        raise ValidationError(
            f"visibility: expected 0 (not labelled), 1 (hidden) or 2 (visible), found {value!r}"
        )


def check_bool(_: Any, attribute: Any, value: Any) -> None:
    """For a field of attrs: ValidationError when it is not true or false."""
    if not isinstance(value, bool):
        raise ValidationError(f"{attribute.name}: expected true or false, found {value!r}")


@attrs.frozen
class Point:
    """One keypoint of one image.

    Parameters
    ----------
    x, y
        Pixels, (0, 0) the centre of the top-left one; NaN (None is taken for it) when missing.
    visibility
        0 not labelled, 1 hidden, 2 visible.
    annotated
        A person dealt with it; without a coordinate that says that it is absent.

    Raises
    ------
    ValidationError
        On one coordinate without the other, one that is infinite, or outside of -998 to 1e6.

    Notes
    -----
    Kept in the form in which a file gives it back: what is missing has visibility 0, what a person
    placed has 1 or 2, and (-1, -1), other programs' sign for "missing", moves by a hair.
    """

    x: float = attrs.field(converter=_coordinate, eq=_same_if_nan, default=math.nan)
    y: float = attrs.field(converter=_coordinate, eq=_same_if_nan, default=math.nan)
    visibility: int = attrs.field(default=NOT_LABELLED, validator=_check_visibility)
    annotated: bool = attrs.field(default=False, validator=check_bool)

    def __attrs_post_init__(self) -> None:
        if math.isnan(self.x) != math.isnan(self.y):
            raise ValidationError(
                f"a keypoint needs x and y, or neither; found x = {self.x}, y = {self.y}"
            )
        if self.is_missing:
            object.__setattr__(self, "visibility", NOT_LABELLED)
            return
        for name, value in (("x", self.x), ("y", self.y)):
            if not LOWEST <= value <= HIGHEST:
                raise ValidationError(
                    f"{name}: expected pixels from {LOWEST:.0f} to {HIGHEST:.0f}, found {value}"
                )
        if self.x == self.y == -1.0:
            object.__setattr__(self, "y", _BESIDE_SENTINEL)
        if self.annotated and self.visibility == NOT_LABELLED:
            object.__setattr__(self, "visibility", VISIBLE)

    @property
    def is_missing(self) -> bool:
        """Whether it has no coordinate."""
        return math.isnan(self.x)

    def to_json(self) -> list[Any]:
        """``[x, y, visibility, annotated]``, None for a missing coordinate."""
        return [_same_if_nan(self.x), _same_if_nan(self.y), self.visibility, self.annotated]

    @classmethod
    def from_json(cls, value: Any) -> Point:
        """The inverse of `to_json`; ValidationError when it is none."""
        if not isinstance(value, (list, tuple)) or len(value) != 4:
            raise ValidationError(
                f"a keypoint: expected [x, y, visibility, annotated], found {value!r}"
            )
        return cls(*value)


@attrs.frozen(eq=False, repr=False)
class RowState:
    """All that a person can say about one image.

    Parameters
    ----------
    skeleton
        Names the k keypoints.
    keypoints, visibility, annotated
        (k, 2) float64 pixels with NaN, (k,) uint8, (k,) bool. Not to be changed.
    flag, note, finished
        What stands beside them.
    revision
        Number of the last edit that touched the image, 0 for none; not part of the comparison.
    """

    skeleton: Skeleton
    keypoints: np.ndarray
    visibility: np.ndarray
    annotated: np.ndarray
    flag: bool = False
    note: str = ""
    finished: bool = False
    revision: int = 0

    @classmethod
    def blank(cls, skeleton: Skeleton) -> RowState:
        """An image that nobody has dealt with."""
        k = len(skeleton)
        return cls(skeleton, np.full((k, 2), np.nan), np.zeros(k, np.uint8), np.zeros(k, bool))

    def point(self, keypoint: str | int) -> Point:
        """One keypoint by name or number; SkeletonError when there is none of that name."""
        i = keypoint if isinstance(keypoint, int) else self.skeleton.index(keypoint)
        x, y = self.keypoints[i].tolist()
        return Point(x, y, int(self.visibility[i]), bool(self.annotated[i]))

    def points(self) -> dict[str, Point]:
        """All keypoints by name."""
        return {name: self.point(i) for i, name in enumerate(self.skeleton.names)}

    def with_points(self, points: Mapping[str, Point]) -> RowState:
        """The state with some keypoints replaced."""
        keypoints = self.keypoints.copy()
        visibility, annotated = self.visibility.copy(), self.annotated.copy()
        for name, point in points.items():
            i = self.skeleton.index(name)
            keypoints[i] = point.x, point.y
            visibility[i], annotated[i] = point.visibility, point.annotated
        return attrs.evolve(self, keypoints=keypoints, visibility=visibility, annotated=annotated)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the page: ``points`` by name, ``flag``, ``note``, ..."""
        return {
            "points": {name: point.to_json() for name, point in self.points().items()},
            **{name: getattr(self, name) for name in MARKS},
            "revision": self.revision,
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowState):
            return NotImplemented
        return (
            self.skeleton == other.skeleton
            and np.array_equal(self.keypoints, other.keypoints, equal_nan=True)
            and np.array_equal(self.visibility, other.visibility)
            and np.array_equal(self.annotated, other.annotated)
            and all(getattr(self, name) == getattr(other, name) for name in MARKS)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        marks = [name for name in ("flag", "finished") if getattr(self, name)]
        return (
            f"RowState({int(self.annotated.sum())} of {len(self.skeleton)} keypoints annotated"
            f"{''.join(f', {mark}' for mark in marks)}{', note' if self.note else ''}, "
            f"revision {self.revision})"
        )
