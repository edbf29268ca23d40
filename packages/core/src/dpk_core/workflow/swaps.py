"""Swaps to look at: the table of a file of tracks, and what a reviewer decides."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import attrs

from dpk_core.services.storage import read_tracks, write_tracks
from dpk_core.services.storage.atomic import atomic_path
from dpk_core.swaps import SwapCandidate, exchange, swap_candidates
from dpk_core.tracks import Tracks

COLUMNS = ("number", *(field.name for field in attrs.fields(SwapCandidate)))
"""Of the table."""


def list_swaps(
    tracks: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    overwrite: bool = False,
) -> list[SwapCandidate]:
    """The swap candidates of a file of tracks, the likeliest first; also as a CSV table.

    Parameters
    ----------
    tracks
        A file of tracks.
    output
        A CSV file to write: a line for each, with its number from 0.

    Raises
    ------
    FileMissingError, FileFormatError, ValidationError
    OutputExistsError, OutputError
    """
    found = swap_candidates(read_tracks(tracks))
    if output is not None:
        with (
            atomic_path(output, overwrite=overwrite) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows((i, *attrs.astuple(c)) for i, c in enumerate(found))
    return found


def exchange_names(
    tracks: str | PathLike[str],
    numbers: Sequence[int],
    output: str | PathLike[str],
    *,
    overwrite: bool = False,
) -> Tracks:
    """Write tracks in which the names of those candidates are exchanged after their meetings.

    Parameters
    ----------
    tracks
        A file of tracks.
    numbers
        Of candidates, from 0, as `list_swaps` lists them. One whose names the tracker exchanged is
        so undone.
    output
        The file to write. Numbers are the same in it.

    Raises
    ------
    FileMissingError, FileFormatError, ValidationError
    OutputExistsError, OutputError
    """
    changed = read_tracks(Path(tracks))
    for number in numbers:
        changed = exchange(changed, number)
    write_tracks(output, changed, overwrite=overwrite)
    return changed
