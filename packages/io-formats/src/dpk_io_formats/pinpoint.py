"""Tracks of pinpoint's 2-D barcodes (github.com/jgraving/pinpoint).

What this reader is based on: the docstring and the code of ``Tracker.track`` in pinpoint's
``Tracker.py`` and of ``sort_corners`` in its ``utils.py``, which write one HDF5 file::

    /data/frame_idx   (n,)       number of the frame, from 0
    /data/corners     (n, 4, 2)  x, y of the tag's corners
    /data/identity    (n,)       the nearest barcode
    /data/distances   (n,)       Hamming distance to it

No published file was at hand, and no CSV that pinpoint itself writes is known; some versions have
the columns as (n, 1), or call the last one ``distance``.

Coordinates: corners are OpenCV's, where (0, 0) is the centre of the top-left pixel, divided by the
factor of enlargement (``resize``). With a factor other than 1 they lie (1 - 1/resize) / 2 pixels
off, because OpenCV enlarges around the pixels' edges; the file does not tell the factor, so give it
as ``resize=`` when there was one.

Corners stand clockwise from the tag's own top-left one. The position is their mean, the angle the
direction from the tag's left to its right side, width and height are measured along and across it.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import DpkError, FileFormatError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.tracks import Tracks
from dpk_io_formats import plain_hdf5 as hdf5

_GROUP = "data"
_NEEDED = ("frame_idx", "corners", "identity")
_DISTANCES = ("distances", "distance")


class PinpointFormat(PoseFormat):
    """Reads the HDF5 file of pinpoint's tracker."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        path = Path(path)
        try:
            if not path.is_file() or not h5py.is_hdf5(path):
                return False
            with hdf5.opened(path) as file:
                group = hdf5.child(file, _GROUP, path)
                return isinstance(group, h5py.Group) and set(_NEEDED) <= set(group)
        except (DpkError, OSError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        return ("tracks",)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "tracks",
        *,
        report: LossReport | None = None,
        resize: float = 1.0,
        **options: Any,
    ) -> Tracks:
        """Tracks with one row for each identity in each frame, the nearest match.

        Parameters
        ----------
        resize
            The factor that the tracker enlarged frames by.

        Raises
        ------
        FileMissingError, FileFormatError
        ValidationError
            On unknown options.
        """
        if options:
            raise ValidationError(f"pinpoint: unknown options {', '.join(sorted(options))}")
        if not (np.isfinite(resize) and resize > 0):
            raise ValidationError(f"resize: expected a number above 0, found {resize}")
        path = Path(path)
        with hdf5.opened(path) as file:
            group = hdf5.child(file, _GROUP, path)
            if not isinstance(group, h5py.Group):
                raise FileFormatError(
                    f"{path} has no group {_GROUP!r}; expected a file of pinpoint's tracker"
                )
            corners = hdf5.array(group, "corners", path)
            frames, ids = (_whole(group, name, len(corners), path) for name in _NEEDED[::2])
            name = next((name for name in _DISTANCES if name in group), None)
            distances = None if name is None else _whole(group, name, len(corners), path)
        if corners.ndim != 3 or corners.shape[1:] != (4, 2) or corners.dtype.kind not in "fiu":
            raise FileFormatError(
                f"{path}: 'corners' has the shape {corners.shape}; expected (rows, 4, 2)"
            )
        corners = corners.astype(np.float64) + (1 / resize - 1) / 2
        rows = _nearest(frames, ids, distances)
        if report is not None:
            why = "another match of the same identity in the frame is nearer"
            report.add("matches", len(frames) - len(rows), why)
            report.add("tag corners", 4 * len(rows), "tracks have a centre, a size and an angle")
            if distances is not None:
                report.add("Hamming distances", len(rows), "tracks have no place for them")
        return _tracks(frames[rows], ids[rows], corners[rows])


def _whole(group: h5py.Group, name: str, n: int, path: Path) -> np.ndarray:
    found = hdf5.array(group, name, path)
    if found.shape not in ((n,), (n, 1)):
        raise FileFormatError(f"{path}: {name!r} has the shape {found.shape}; expected ({n},)")
    flat = found.reshape(n)
    if flat.dtype.kind not in "fiu" or not (np.abs(flat) < 2**53).all() or np.mod(flat, 1).any():
        raise FileFormatError(f"{path}: {name!r} holds numbers that are not whole")
    return flat.astype(np.int64)


def _nearest(frames: np.ndarray, ids: np.ndarray, distances: np.ndarray | None) -> np.ndarray:
    """Rows in the file's order, without those that match worse than another one."""
    by = np.zeros(len(frames)) if distances is None else distances
    order = np.lexsort((np.arange(len(frames)), by, ids, frames))
    again = (np.diff(frames[order]) == 0) & (np.diff(ids[order]) == 0)
    return np.sort(order[np.concatenate([np.ones(min(1, len(order)), bool), ~again])])


def _tracks(frames: np.ndarray, ids: np.ndarray, corners: np.ndarray) -> Tracks:
    tl, tr, br, bl = np.moveaxis(corners, 1, 0)
    across, down = (tr + br - tl - bl) / 2, (bl + br - tl - tr) / 2
    centre = corners.mean(axis=1)
    return Tracks(
        frames,
        ids,
        centre[:, 0],
        centre[:, 1],
        np.hypot(*across.T),
        np.hypot(*down.T),
        np.arctan2(across[:, 1], across[:, 0]),
        provenance={"source_software": "pinpoint"},
    )
