"""What the Kalman tracker knows of each individual beside where it goes, as arrays over all."""

from __future__ import annotations

import numpy as np

from dpk_core.detections import NO_ID
from dpk_trackers.sightings import Sightings


class Individuals:
    """n individuals, one column for each in two tables, so that few steps serve all of them.

    What is given below are views: writing to them changes the table.
    """

    def __init__(self) -> None:
        self._whole = np.empty((6, 0), np.int64)
        self._real = np.empty((9, 0))
        self.pose: np.ndarray | None = None
        """(n, k, 2) keypoints when seen last; None as long as there are none."""

    def __len__(self) -> int:
        return self._whole.shape[1]

    @property
    def id(self) -> np.ndarray:
        """(n,) -1 as long as it does not count."""
        return self._whole[0]

    @property
    def key(self) -> np.ndarray:
        """(n,) number from birth on."""
        return self._whole[1]

    @property
    def tag(self) -> np.ndarray:
        """(n,) that was read last."""
        return self._whole[2]

    @property
    def hits(self) -> np.ndarray:
        """(n,) sightings."""
        return self._whole[3]

    @property
    def seen(self) -> np.ndarray:
        """(n,) frame of the last one."""
        return self._whole[4]

    @property
    def column(self) -> np.ndarray:
        """(n,) the detection that is theirs in this frame, -1 for none."""
        return self._whole[5]

    @property
    def odds(self) -> np.ndarray:
        """(n,) log odds of being an animal."""
        return self._real[0]

    @property
    def area(self) -> np.ndarray:
        """(n,) of the body when seen last."""
        return self._real[1]

    @property
    def size(self) -> np.ndarray:
        """(n,) mean log of the size."""
        return self._real[2]

    @property
    def place(self) -> np.ndarray:
        """(2, n) x and y when seen last."""
        return self._real[3:5]

    @property
    def boxes(self) -> np.ndarray:
        """(4, n) the box when seen last, around its place."""
        return self._real[5:]

    def add(self, number: int, keys: np.ndarray, odds: np.ndarray) -> np.ndarray:
        """Begin new ones that were seen once, in this frame; the rows they are given."""
        before, m = len(self), len(keys)
        whole, real = np.full((6, m), -1, np.int64), np.full((9, m), np.nan)
        whole[1], whole[2], whole[3], whole[4], real[0] = keys, NO_ID, 1, number, odds
        self._whole = np.concatenate((self._whole, whole), axis=1)
        self._real = np.concatenate((self._real, real), axis=1)
        if self.pose is not None:
            blank = np.full((m, *self.pose.shape[1:]), np.nan)
            self.pose = np.concatenate((self.pose, blank))
        return np.arange(before, before + m)

    def see(self, rows: np.ndarray, seen: Sightings, columns: np.ndarray) -> None:
        """Those rows are those detections; what one does not tell stays as it was."""
        place, tag, area = seen.place[:, columns], seen.found.id[columns], seen.area[columns]
        boxes = seen.boxes[:, columns] - np.concatenate((place, place))
        if not seen.boxed:
            boxes = np.where(np.isnan(boxes), self.boxes[:, rows], boxes)
            area = np.where(np.isnan(area), self.area[rows], area)
        self._real[3:5, rows], self._real[5:, rows] = place, boxes
        self.area[rows], self.column[rows] = area, columns
        if seen.tagged:
            self.tag[rows] = np.where(tag == NO_ID, self.tag[rows], tag)
        keypoints = seen.found.keypoints
        if keypoints is not None:
            if self.pose is None:
                self.pose = np.full((len(self), *keypoints.shape[1:]), np.nan)
            self.pose[rows] = keypoints[columns]

    def keep(self, rows: np.ndarray) -> None:
        """Forget all but those rows."""
        self._whole = self._whole.take(rows, axis=1)
        self._real = self._real.take(rows, axis=1)
        if self.pose is not None:
            self.pose = self.pose[rows]

    def warp(self, matrix: np.ndarray) -> None:
        """Move with the camera: (2, 3) from pixels of the frame before to those of this one."""
        linear, shift = matrix[:, :2], matrix[:, 2]
        self.place[:] = linear @ self.place + shift[:, None]
        if self.pose is not None:
            self.pose = self.pose @ linear.T + shift
