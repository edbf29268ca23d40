"""Our own files as a format among the others."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import h5py

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.services.storage.annotations_file import read_annotations, write_annotations
from dpk_core.services.storage.hdf5 import reading
from dpk_core.services.storage.poses_file import PosesWriter, read_poses
from dpk_core.services.storage.tracks_file import read_tracks, write_tracks
from dpk_core.streams import PIECE, PoseStream
from dpk_core.tracks import Tracks

_KEYS = {
    "annotations": {"images", "annotations"},
    "poses": {"keypoints", "rows_done"},
    "tracks": {"frame", "id", "x", "y"},
}


class DpkFormat(PoseFormat):
    """Labels, poses and tracks in dpk's HDF5 files; DeepPoseKit's labels have the same form."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        path = Path(path)
        try:
            return path.is_file() and h5py.is_hdf5(path) and bool(self._found(path))
        except (DpkError, OSError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        return self._found(Path(path))

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> AnnotationSet | PoseStream | Tracks:
        _refuse(options)
        if kind == "poses":
            return stream_poses(path)
        return read_tracks(path) if kind == "tracks" else read_annotations(path)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> None:
        _refuse(options)
        if isinstance(data, AnnotationSet):
            write_annotations(path, data)
        elif isinstance(data, Tracks):
            write_tracks(path, data)
        else:
            with PosesWriter(
                path, data.skeleton, data.provenance, capacity_hint=data.length
            ) as writer:
                for piece in data:
                    writer.append(piece)

    def _found(self, path: Path) -> tuple[str, ...]:
        with reading(path) as file:
            keys = set(map(str, file))
        return tuple(kind for kind, needed in _KEYS.items() if needed <= keys)


def stream_poses(path: str | PathLike[str]) -> PoseStream:
    """The poses of a file, read in pieces.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    path = Path(path)
    head = read_poses(path, 0, 0)
    with reading(path) as file:
        n = int(file["rows_done"][()])

    def pieces() -> Iterator[Poses]:
        for start in range(0, n, PIECE):
            piece = read_poses(path, start, min(n, start + PIECE))
            if not len(piece):
                raise FileFormatError(f"{path} has become shorter while it was read")
            yield piece

    return PoseStream(head.skeleton, pieces, n, head.provenance)


def _refuse(options: dict[str, Any]) -> None:
    if options:
        raise ValidationError(f"the format dpk has no options; found {', '.join(options)}")
