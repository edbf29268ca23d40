"""The videos that a file names, and how to name others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import FileFormatError
from dpk_core.services.storage.annotations_file import rewrite
from dpk_core.services.storage.atomic import atomic_path, exclusive
from dpk_core.services.storage.describe import describe
from dpk_core.services.storage.hdf5 import read_json, reading, write_json

_VIDEO = "video"


def read_video_facts(path: str | PathLike[str]) -> dict[str, Any]:
    """What poses or tracks know of their video: ``video`` and, where known, ``n_frames``,
    ``height``, ``width`` and ``fingerprint``; empty without a video.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    path = Path(path)
    with reading(path) as file:
        provenance = read_json(file, "provenance", path)
    if not isinstance(provenance.get(_VIDEO), str):
        return {}
    facts = {key: provenance.get(key) for key in (_VIDEO, "n_frames", "height", "width")}
    return {**facts, "fingerprint": video_fingerprint(provenance)}


def video_fingerprint(provenance: Mapping[str, Any]) -> str | None:
    """Fingerprint of the video that poses or tracks are of; None where it is not known.

    What was predicted around tracks is a job of another content than the video's: its crops.
    """
    own = provenance.get("video_fingerprint")
    if isinstance(own, str):
        return own
    job = provenance.get("job")
    known = job.get("input") if isinstance(job, dict) and "tracks" not in provenance else None
    return known if isinstance(known, str) else None


def rename_videos(path: str | PathLike[str], names: Mapping[str, str]) -> None:
    """Replace names of videos in a file of annotations, poses or tracks, whole or not at all.

    Raises
    ------
    FileMissingError, FileFormatError
    OutputError
    """
    path = Path(path)
    kind = describe(path)["kind"]
    with exclusive(path):
        if kind == "annotations":
            rewrite(path, _in_sources(names), room=_room(names, path))
        elif kind in ("poses", "tracks"):
            with atomic_path(path, overwrite=True) as temporary:
                shutil.copyfile(path, temporary)
                with h5py.File(temporary, "r+", locking=False) as file:
                    _in_provenance(file, path, names)
        else:
            raise FileFormatError(f"{path} holds neither annotations nor poses nor tracks")


def _in_sources(names: Mapping[str, str]) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        column = file["source_video"]
        stored = [value.decode("utf-8", "surrogateescape") for value in column[()]]
        new = [names.get(name, name).encode("utf-8", "surrogateescape") for name in stored]
        column[...] = np.array(new, dtype=object)

    return edit


def _in_provenance(file: h5py.File, path: Path, names: Mapping[str, str]) -> None:
    provenance = read_json(file, "provenance", path)
    provenance[_VIDEO] = names.get(provenance[_VIDEO], provenance[_VIDEO])
    write_json(file, "provenance", provenance)


def _room(names: Mapping[str, str], path: Path) -> int:
    with reading(path) as file:
        n = len(file["annotations"])
    return n * (max(map(len, names.values()), default=0) * 4 + 32) + 2**16
