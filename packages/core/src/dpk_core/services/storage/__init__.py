"""Storage: annotation sets, poses and tracks in HDF5, written whole or not at all."""

from __future__ import annotations

from dpk_core.services.storage.annotations_file import (
    append_annotations,
    read_annotations,
    update_annotations,
    write_annotations,
)
from dpk_core.services.storage.atomic import atomic_path
from dpk_core.services.storage.describe import describe
from dpk_core.services.storage.merge import MergeReport, merge_annotations
from dpk_core.services.storage.poses_file import (
    PosesWriter,
    exchange_tracks,
    is_complete,
    read_poses,
    write_poses,
)
from dpk_core.services.storage.tracks_file import read_tracks, write_tracks

__all__ = [
    "MergeReport",
    "PosesWriter",
    "append_annotations",
    "atomic_path",
    "describe",
    "exchange_tracks",
    "is_complete",
    "merge_annotations",
    "read_annotations",
    "read_poses",
    "read_tracks",
    "update_annotations",
    "write_annotations",
    "write_poses",
    "write_tracks",
]
