"""What is in one of our HDF5 files, in a few words."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from dpk_core.services.storage.annotations_file import read_annotations
from dpk_core.services.storage.hdf5 import open_for_reading
from dpk_core.services.storage.poses_file import is_complete, read_poses
from dpk_core.services.storage.tracks_file import read_tracks


def describe(path: str | PathLike[str]) -> dict[str, Any]:
    """Facts about an annotation set, poses or tracks, by name, for ``dpk info``.

    Raises
    ------
    FileMissingError, FileFormatError
        The latter also when the file is damaged in the way that its reader reports.
    """
    path = Path(path)
    with open_for_reading(path) as file:
        keys = set(file)
        found: dict[str, Any] = {"written by": file.attrs.get("dpk_version", "another program")}
    if {"images", "annotations"} <= keys:
        return {"kind": "annotations", **_annotations(path), **found}
    if {"keypoints", "rows_done"} <= keys:
        return {"kind": "poses", **_poses(path), **found}
    if {"frame", "id", "x", "y"} <= keys:
        return {"kind": "tracks", "rows": repr(read_tracks(path)), **found}
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


def _poses(path: Path) -> dict[str, Any]:
    poses = read_poses(path)
    return {
        "content": repr(poses),
        "skeleton": repr(poses.skeleton),
        "keypoints": list(poses.skeleton.names),
        "complete": is_complete(path),
        "mean score": float(poses.scores.mean()) if len(poses) else None,
        "provenance": poses.provenance,
    }
