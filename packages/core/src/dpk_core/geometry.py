"""Invertible transforms between the pixels of one image and those of another.

All of them are affine, so one class holds them all: a 2x3 matrix on (x, y), the image sizes on both
sides, and, for mirrors, the new order of left and right keypoints. (0, 0) is the centre of the
top-left pixel: scaling by s maps x to (x + 0.5) * s - 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians, sin

import attrs
import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError

Size = tuple[int, int]
"""(height, width) in pixels."""


def _size(value: Sequence[int]) -> Size:
    height, width = (int(v) for v in value)
    if height < 1 or width < 1:
        raise ValidationError(f"size: expected (height, width) of at least 1, found {value}")
    return height, width


def _matrix(value: object) -> np.ndarray:
    return as_array("matrix", value, np.float64, (2, 3))


@attrs.frozen(eq=False, repr=False)
class Transform:
    """An affine map from the pixels of a source image to those of a target image.

    Parameters
    ----------
    matrix
        (2, 3) float64: target = matrix[:, :2] @ (x, y) + matrix[:, 2].
    source_size, target_size
        (height, width) of the images on both sides.
    order
        (k,) permutation of keypoints to use after a mirror, or None.

    Examples
    --------
    >>> t = crop((480, 640), top=10, left=20, height=100, width=100).then(
    ...     resize((100, 100), (50, 50)))
    >>> t.apply([[20.0, 10.0]])
    array([[-0.25, -0.25]])
    >>> t.inverse().apply(t.apply([[33.0, 44.0]]))
    array([[33., 44.]])
    """

    matrix: np.ndarray = attrs.field(converter=_matrix)
    source_size: Size = attrs.field(converter=_size)
    target_size: Size = attrs.field(converter=_size)
    order: np.ndarray | None = None

    def __attrs_post_init__(self) -> None:
        if not np.isfinite(self.matrix).all() or abs(np.linalg.det(self.matrix[:, :2])) < 1e-12:
            raise ValidationError("matrix: expected finite and invertible")
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ValidationError("order: expected a permutation of the keypoints")

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map (..., k, 2) points of x, y in source pixels to target pixels; NaN stays NaN."""
        points = np.asarray(points, dtype=np.float64)
        mapped = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return mapped if self.order is None else mapped[..., self.order, :]

    def inverse(self) -> Transform:
        """The way back from target to source."""
        linear = np.linalg.inv(self.matrix[:, :2])
        matrix = np.column_stack([linear, -linear @ self.matrix[:, 2]])
        order = None if self.order is None else np.argsort(self.order)
        return Transform(matrix, self.target_size, self.source_size, order)

    def then(self, following: Transform) -> Transform:
        """This transform followed by another one; their sizes must meet."""
        if self.target_size != following.source_size:
            raise ValidationError(
                f"cannot compose: the first gives images of {self.target_size}, the second "
                f"expects {following.source_size} (height, width)"
            )
        linear = following.matrix[:, :2]
        matrix = linear @ self.matrix
        matrix[:, 2] += following.matrix[:, 2]
        return Transform(
            matrix, self.source_size, following.target_size, _compose(self.order, following.order)
        )

    def __repr__(self) -> str:
        (h0, w0), (h1, w1) = self.source_size, self.target_size
        mirror = ", swaps keypoints" if self.order is not None else ""
        return f"Transform({h0}x{w0} -> {h1}x{w1}{mirror})"


def identity(size: Sequence[int]) -> Transform:
    """Changes nothing."""
    return Transform(np.eye(2, 3), size, size)


def resize(size: Sequence[int], new_size: Sequence[int]) -> Transform:
    """Scale an image of (height, width) to another one, sides independently."""
    (h0, w0), (h1, w1) = _size(size), _size(new_size)
    sx, sy = w1 / w0, h1 / h0
    return Transform([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5]], size, new_size)


def crop(size: Sequence[int], top: int, left: int, height: int, width: int) -> Transform:
    """Cut out a box of whole pixels; it may reach beyond the image."""
    return Transform([[1, 0, -left], [0, 1, -top]], size, (height, width))


def pad_to_multiple(size: Sequence[int], multiple: int) -> Transform:
    """Add rows below and columns on the right until both sides are multiples of ``multiple``.

    Coordinates don't change: that is why only those two sides are padded.
    """
    if multiple < 1:
        raise ValidationError(f"multiple: expected at least 1, found {multiple}")
    height, width = _size(size)
    padded = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    return Transform(np.eye(2, 3), size, padded)


def rotate(
    size: Sequence[int], degrees: float, centre: tuple[float, float] | None = None
) -> Transform:
    """Turn by an angle from the x axis towards the y axis (clockwise on the screen).

    The image keeps its size; ``centre`` (x, y) is by default the middle of the image.
    """
    height, width = _size(size)
    cx, cy = centre if centre is not None else ((width - 1) / 2, (height - 1) / 2)
    c, s = cos(radians(degrees)), sin(radians(degrees))
    matrix = [[c, -s, cx - c * cx + s * cy], [s, c, cy - s * cx - c * cy]]
    return Transform(matrix, size, size)


def flip(size: Sequence[int], axis: str, order: Sequence[int] | None = None) -> Transform:
    """Mirror an image; ``order`` (`Skeleton.flip_order`) exchanges left and right keypoints.

    Parameters
    ----------
    axis
        "horizontal" exchanges left and right of the image, "vertical" top and bottom.
    """
    height, width = _size(size)
    if axis not in ("horizontal", "vertical"):
        raise ValidationError(f"axis: expected 'horizontal' or 'vertical', found {axis!r}")
    if axis == "horizontal":
        matrix = [[-1, 0, width - 1], [0, 1, 0]]
    else:
        matrix = [[1, 0, 0], [0, -1, height - 1]]
    return Transform(matrix, size, size, None if order is None else np.asarray(order))


def _compose(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    if first is None or second is None:
        return second if first is None else first
    composed = np.asarray(first)[np.asarray(second)]
    # Two mirrors are a rotation: nothing is left to swap.
    return None if np.array_equal(composed, np.arange(len(composed))) else composed
