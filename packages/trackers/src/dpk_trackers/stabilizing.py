"""Brings tracks of a moving camera onto the ground and back, where gaps are straight lines."""

from __future__ import annotations

import attrs
import numpy as np

from dpk_core.tracks import Tracks
from dpk_trackers.camera_motion import compose


class Stabilizer:
    """Remembers how the camera moved; the ground has the pixels of the first frame.

    Frames that were not seen count as the last one before them.
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._to_frame: list[np.ndarray] = []

    def see(self, number: int, move: np.ndarray) -> None:
        """Take in the (2, 3) move from the frame before to this one."""
        before = self._to_frame[-1] if self._to_frame else np.eye(2, 3)
        self._numbers.append(number)
        self._to_frame.append(compose(move, before))

    def to_ground(self, tracks: Tracks) -> Tracks:
        """Positions, angles and extents as if the camera stood still."""
        if not self._numbers:
            return tracks
        matrices = self._matrices(tracks)
        inverse = np.linalg.inv(matrices[:, :, :2])
        shift = -np.einsum("nij,nj->ni", inverse, matrices[:, :, 2])
        return _moved(tracks, np.concatenate([inverse, shift[:, :, None]], axis=2))

    def to_frames(self, tracks: Tracks) -> Tracks:
        """The way back."""
        return _moved(tracks, self._matrices(tracks)) if self._numbers else tracks

    def _matrices(self, tracks: Tracks) -> np.ndarray:
        at = np.searchsorted(self._numbers, tracks.frame, side="right") - 1
        return np.stack(self._to_frame)[at.clip(min=0)]


def _moved(tracks: Tracks, matrices: np.ndarray) -> Tracks:
    place = np.stack([tracks.x, tracks.y], axis=1)
    x, y = (np.einsum("nij,nj->ni", matrices[:, :, :2], place) + matrices[:, :, 2]).T
    turn = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    angle = np.angle(np.exp(1j * (tracks.angle + turn)))
    zoom = np.hypot(matrices[:, 0, 0], matrices[:, 1, 0])
    extent = {"width": tracks.width * zoom, "height": tracks.height * zoom}
    return attrs.evolve(tracks, x=x, y=y, angle=angle, **extent)
