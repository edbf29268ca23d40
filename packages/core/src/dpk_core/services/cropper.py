"""Egocentric crops: a piece of the frame around each individual, and the exact way back."""

from __future__ import annotations

import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError


class Cropper:
    """Cuts crops of one size out of frames, one warp each.

    Parameters
    ----------
    size
        (height, width) of the crops in pixels.
    scale
        Pixels of the crop to a pixel of the frame.
    rotate
        Turn each crop so that the body axis points to the right (Graving et al. 2019, "align").
        An individual whose angle is not known stays upright.

    Raises
    ------
    ValidationError
        On a size or scale that is not positive.

    Examples
    --------
    >>> cropper = Cropper((32, 32), rotate=True)
    >>> matrices = cropper.matrices(np.array([100.0]), np.array([50.0]), np.array([np.pi / 2]))
    >>> points = np.array([[[100.0, 50.0], [100.0, 60.0]]])    # the body points down
    >>> np.round(Cropper.apply(matrices, points), 6).tolist()    # and in the crop to the right
    [[[15.5, 15.5], [25.5, 15.5]]]
    """

    def __init__(self, size: tuple[int, int], *, scale: float = 1.0, rotate: bool = False) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ValidationError(f"size: expected height and width from 1, found {size}")
        if not (np.isfinite(scale) and scale > 0):
            raise ValidationError(f"scale: expected a positive number, found {scale}")
        self.size = (int(size[0]), int(size[1]))
        self.scale = float(scale)
        self.rotate = bool(rotate)

    def matrices(self, x: np.ndarray, y: np.ndarray, angle: np.ndarray | None = None) -> np.ndarray:
        """(n, 2, 3) maps from pixels of the frame to pixels of each crop.

        The position comes to the middle of the crop, ((width - 1) / 2, (height - 1) / 2). Where
        nothing is turned or scaled it is rounded so that pixels are copied, not resampled.

        Parameters
        ----------
        x, y
            (n,) positions in pixels of the frame, finite.
        angle
            (n,) radians from the x axis towards the y axis; NaN where it is not known.
        """
        x, y = as_array("x", x, np.float64, ("n",)), as_array("y", y, np.float64, ("n",))
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValidationError("positions: expected finite numbers, found NaN or infinity")
        turn = np.zeros(len(x))
        if self.rotate and angle is not None:
            turn = np.nan_to_num(as_array("angle", angle, np.float64, (len(x),)))
        cos, sin = self.scale * np.cos(turn), self.scale * np.sin(turn)
        height, width = self.size
        linear = np.stack([np.stack([cos, sin], 1), np.stack([-sin, cos], 1)], axis=1)
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = middle - np.einsum("nij,nj->ni", linear, np.stack([x, y], 1))
        if self.scale == 1:
            shift = np.where((turn == 0)[:, None], np.floor(shift + 0.5), shift)
        return np.concatenate([linear, shift[:, :, None]], axis=2)

    def crop(self, frame: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """(n, height, width, c) uint8 crops of an (h, w, c) frame; black outside of it.

        Where crops are smaller than what they show, each pixel is the mean of what lies under it,
        as in every resize: thin legs fade instead of breaking up.
        """
        height, width = self.size
        crops = np.zeros((len(matrices), height, width, frame.shape[2]), np.uint8)
        for crop, matrix in zip(crops, matrices, strict=True):
            if np.array_equal(matrix[:, :2], np.eye(2)) and np.array_equal(
                matrix[:, 2], np.round(matrix[:, 2])
            ):
                copy_piece(frame, crop, -matrix[:, 2].astype(int))
                continue
            crop[...] = _warped(frame, matrix, (width, height)).reshape(crop.shape)
        return crops

    @staticmethod
    def apply(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(n, k, 2) points of the frame -> points of the crops; NaN stays NaN."""
        linear, shift = matrices[:, :, :2], matrices[:, :, 2]
        return np.einsum("nij,nkj->nki", linear, points) + shift[:, None]

    @staticmethod
    def invert(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(n, k, 2) points of the crops -> points of the frame; the exact inverse of `apply`."""
        linear, shift = matrices[:, :, :2], matrices[:, :, 2]
        return np.einsum("nij,nkj->nki", np.linalg.inv(linear), points - shift[:, None])


def _warped(frame: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The (width, height) piece of a frame, black outside; averaged where it shrinks."""
    import cv2

    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    times = max(1, int(np.ceil(1 / scale - 1e-9)))
    finer = times * matrix
    finer[:, 2] += (times - 1) / 2  # (0, 0) is the centre of a pixel, not its corner
    warped = cv2.warpAffine(
        frame, finer, (times * size[0], times * size[1]), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )  # fmt: skip
    return warped if times == 1 else cv2.resize(warped, size, interpolation=cv2.INTER_AREA)


def copy_piece(frame: np.ndarray, crop: np.ndarray, corner: np.ndarray) -> None:
    """Copy what of the crop lies in the frame; ``corner`` is the x, y of its top-left pixel."""
    (left, top), (height, width) = corner, crop.shape[:2]
    x0, x1 = max(left, 0), min(left + width, frame.shape[1])
    y0, y1 = max(top, 0), min(top + height, frame.shape[0])
    if x0 < x1 and y0 < y1:
        crop[y0 - top : y1 - top, x0 - left : x1 - left] = frame[y0:y1, x0:x1]
