"""Numbers of tracks: SLEAP counts its own from 0 and knows them by name, dpk's may be any.

A tag that reads 17 is track 17 here. What dpk writes notes the number of each name in its part of
the provenance; names that were given in SLEAP since get the next free numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK

OURS = "dpk"
"""Where dpk's provenance stands within SLEAP's."""

NOTED = "track_numbers"
_LIMITS = np.iinfo(np.int32)


def note_numbers(
    provenance: dict[str, Any], names: Sequence[str], numbers: Sequence[int], report: LossReport
) -> dict[str, Any]:
    """SLEAP's provenance with the numbers of tracks, where they are not their places anyway.

    Parameters
    ----------
    provenance
        As it is written to the file.
    names, numbers
        Of all tracks in the order of the file; `NO_TRACK` for what becomes a track there only.
    """
    if all(number in (place, NO_TRACK) for place, number in enumerate(numbers)):
        return provenance
    if len(set(names)) < len(names):
        moved = sum(number not in (i, NO_TRACK) for i, number in enumerate(numbers))
        report.add("track numbers", moved, "SLEAP knows tracks by name, and two have the same")
        return provenance
    noted = {
        name: int(number) for name, number in zip(names, numbers, strict=True) if number != NO_TRACK
    }
    ours = provenance.get(OURS)
    return {**provenance, OURS: {**(ours if isinstance(ours, dict) else {}), NOTED: noted}}


def numbers_of(names: Sequence[str], provenance: Mapping[str, Any]) -> np.ndarray:
    """(n + 1,) dpk's number of each track in a file's list; the last, at -1, is `NO_TRACK`.

    Parameters
    ----------
    provenance
        As it stands in the file.
    """
    ours = provenance.get(OURS)
    noted = ours.get(NOTED) if isinstance(ours, dict) else None
    if not isinstance(noted, dict) or len(set(names)) < len(names):
        return np.array([*range(len(names)), NO_TRACK], np.int64)
    found = {name: noted[name] for name in names if _is_number(noted.get(name))}
    if len(set(found.values())) < len(found):  # somebody else's, or damaged
        found = {}
    taken = set(found.values())
    free = (i for i in range(len(names) + len(taken)) if i not in taken)
    return np.array([*(found[n] if n in found else next(free) for n in names), NO_TRACK], np.int64)


def _is_number(value: Any) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and value != NO_TRACK and _LIMITS.min <= value <= _LIMITS.max
