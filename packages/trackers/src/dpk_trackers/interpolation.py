"""Fills gaps in tracks between two sightings, on a straight line."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from dpk_core.tracks import Tracks

_STRAIGHT = ("x", "y", "width", "height", "score")


def interpolate(tracks: Tracks, max_gap: int = 30) -> Tracks:
    """Fill the frames between two sightings of an individual, as Graving et al. (2019) did.

    Position, extent and score change linearly, the angle along the shorter way round the circle.
    Nothing is made up before the first sighting, after the last, or across a longer gap.

    Parameters
    ----------
    tracks
        In any order. Rows without a position are gaps; where one is filled the row is replaced.
    max_gap
        Most frames in a row that are filled.

    Returns
    -------
    Tracks
        Sorted by frame and id, new rows marked ``interpolated``.

    Examples
    --------
    >>> seen = Tracks([0, 3], [7, 7], [0.0, 3.0], [5.0, 5.0])
    >>> filled = interpolate(seen)
    >>> filled.x.tolist(), filled.interpolated.tolist()
    ([0.0, 1.0, 2.0, 3.0], [False, True, True, False])
    """
    placed = np.isfinite(tracks.x) & np.isfinite(tracks.y)
    known = np.flatnonzero(placed)
    known = known[np.lexsort((tracks.frame[known], tracks.id[known]))]
    before, after = known[:-1], known[1:]
    gaps = tracks.frame[after] - tracks.frame[before] - 1
    fill = (tracks.id[before] == tracks.id[after]) & (gaps > 0) & (gaps <= max_gap)
    before, after, gaps = before[fill], after[fill], gaps[fill]
    at, share = _steps(gaps)
    new = _between(tracks, before[at], after[at], share, at)
    kept = tracks[np.flatnonzero(placed | ~_is_in(tracks, new))]
    columns: dict[str, Any] = {
        name: np.concatenate([column, new[name]]) for name, column in kept.columns().items()
    }
    order = np.lexsort((columns["id"], columns["frame"]))
    columns = {name: column[order] for name, column in columns.items()}
    return attrs.evolve(tracks, **columns)


def angles_between(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Angles a share of the shorter way from the first to the second, in (-pi, pi]."""
    way = np.angle(np.exp(1j * (second - first)))
    return np.angle(np.exp(1j * (first + share * way)))


def _steps(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each new row: its gap, and which share of the way it lies at."""
    at = np.repeat(np.arange(len(gaps)), gaps)
    first = np.repeat(np.cumsum(gaps) - gaps, gaps)
    step = np.arange(len(at)) - first + 1
    return at, step / (gaps[at] + 1)


def _between(
    tracks: Tracks, before: np.ndarray, after: np.ndarray, share: np.ndarray, at: np.ndarray
) -> dict[str, Any]:
    new: dict[str, Any] = {}
    for name in _STRAIGHT:
        column = getattr(tracks, name).astype(np.float64)
        new[name] = column[before] + share * (column[after] - column[before])
    new["score"] = new["score"].astype(np.float32)
    span = tracks.frame[after] - tracks.frame[before]
    new["frame"] = tracks.frame[before] + np.rint(share * span).astype(np.int64)
    new["id"] = tracks.id[before]
    new["angle"] = angles_between(tracks.angle[before], tracks.angle[after], share)
    new["interpolated"] = np.ones(len(at), bool)
    return new


def _is_in(tracks: Tracks, new: dict[str, Any]) -> np.ndarray:
    """Whether a row's frame and id are among the new ones."""
    if not len(new["frame"]):
        return np.zeros(len(tracks), bool)
    low = int(min(tracks.frame.min(), new["frame"].min()))
    span = int(max(tracks.frame.max(), new["frame"].max())) - low + 1
    return np.isin(tracks.id * span + tracks.frame - low, new["id"] * span + new["frame"] - low)
