"""Tracks in HDF5: one dataset for each column of `Tracks`, and ``provenance`` as JSON."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import h5py

from dpk_core.services.storage.atomic import atomic_path, require_space
from dpk_core.services.storage.hdf5 import (
    read_json,
    reading,
    require_dataset,
    stamp,
    to_json,
    write_json,
)
from dpk_core.tracks import COLUMNS, Tracks

KIND = "tracks"


def write_tracks(path: str | PathLike[str], tracks: Tracks, *, overwrite: bool = False) -> None:
    """Write tracks, whole or not at all.

    Raises
    ------
    OutputExistsError, OutputError
    """
    columns, provenance = tracks.columns(), to_json(tracks.provenance)
    with atomic_path(path, overwrite=overwrite) as temporary:
        n_bytes = sum(column.nbytes for column in columns.values())
        require_space(temporary, n_bytes + len(provenance) + 2**16)
        with h5py.File(temporary, "w", libver=("earliest", "v110"), locking=False) as file:
            stamp(file, KIND)
            write_json(file, "provenance", tracks.provenance)
            for name, column in columns.items():
                file.create_dataset(name, data=column)


def read_tracks(path: str | PathLike[str]) -> Tracks:
    """Read what `write_tracks` wrote.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    path = Path(path)
    with reading(path) as file:
        columns = {name: require_dataset(file, name, path, "tracks")[()] for name in COLUMNS}
        return Tracks(**columns, provenance=read_json(file, "provenance", path))
