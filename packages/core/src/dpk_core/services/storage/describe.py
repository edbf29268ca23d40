"""What is in one of our HDF5 files, in a few words."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.poses import NO_TRACK
from dpk_core.services.storage.annotations_file import read_annotations
from dpk_core.services.storage.hdf5 import reading
from dpk_core.services.storage.poses_file import is_complete, read_poses
from dpk_core.services.storage.tracks_file import read_tracks
from dpk_core.swaps import KEY as SWAPS

_BLOCK_ROWS = 65536


def describe(path: str | PathLike[str]) -> dict[str, Any]:
    """Facts about an annotation set, poses or tracks, by name, for ``dpk info``.

    Raises
    ------
    FileMissingError, FileFormatError
        The latter also when the file is damaged in the way that its reader reports.
    """
    path = Path(path)
    with reading(path) as file:
        keys = set(map(str, file))
        found: dict[str, Any] = {"written by": file.attrs.get("dpk_version", "another program")}
    if {"images", "annotations"} <= keys:
        return {"kind": "annotations", **_annotations(path), **found}
    if {"keypoints", "rows_done"} <= keys:
        return {"kind": "poses", **_poses(path), **found}
    if {"frame", "id", "x", "y"} <= keys:
        return {"kind": "tracks", **_tracks(path), **found}
    return {"kind": "unknown HDF5", "keys": sorted(keys), **found}


def _annotations(path: Path) -> dict[str, Any]:
    annotations = read_annotations(path)
    facts: dict[str, Any] = {
        "content": repr(annotations),
        "skeleton": repr(annotations.skeleton),
        "keypoints": list(annotations.skeleton.names),
        "labelled images": annotations.n_labelled,
        "missing keypoints": int((annotations.visibility == 0).sum()),
        "hidden keypoints": int((annotations.visibility == 1).sum()),
        "videos": sorted({source.video for source in annotations.sources if source.video}),
    }
    if annotations.skeleton.one_sided_swaps:
        facts["one-sided swaps"] = [f"{a} -> {b}" for a, b in annotations.skeleton.one_sided_swaps]
    return facts


def _tracks(path: Path) -> dict[str, Any]:
    tracks = read_tracks(path)
    provenance = dict(tracks.provenance)
    meetings = provenance.pop(SWAPS, [])  # by the hundred, which dpk swaps lists
    facts: dict[str, Any] = {"rows": repr(tracks), "provenance": provenance}
    return {**facts, "meetings to look at": len(meetings)} if meetings else facts


def _poses(path: Path) -> dict[str, Any]:
    first = read_poses(path, 0, 0)
    tracks: set[int] = set()
    n_rows, lowest, highest, total = 0, 0, 0, 0.0
    while len(block := read_poses(path, n_rows, n_rows + _BLOCK_ROWS)):  # memory stays flat
        low, high = int(block.frames.min()), int(block.frames.max())
        lowest, highest = (min(lowest, low), max(highest, high)) if n_rows else (low, high)
        tracks |= set(np.unique(block.track_ids[block.track_ids != NO_TRACK]).tolist())
        total += float(block.scores.sum(dtype=np.float64))
        n_rows += len(block)
    span = f"frames {lowest}-{highest}" if n_rows else "no frames"
    return {
        "content": f"{n_rows} rows, {span}, {len(tracks)} tracks",
        "skeleton": repr(first.skeleton),
        "keypoints": list(first.skeleton.names),
        "complete": is_complete(path),
        "mean score": total / (n_rows * len(first.skeleton)) if n_rows else None,
        "provenance": first.provenance,
    }
