"""Swaps: meetings after which two individuals may bear each other's name."""

from __future__ import annotations

from typing import Any

import attrs

from dpk_core.errors import ValidationError
from dpk_core.tracks import Tracks

KEY = "swap_candidates"
"""Where trackers put them in the provenance of tracks: a list of dicts with these fields."""


@attrs.frozen
class SwapCandidate:
    """A meeting after which two individuals may bear each other's name.

    Parameters
    ----------
    frame, stop
        First and last frame of the meeting.
    first, second
        The two ids, as they are in the tracks.
    evidence
        Log of how much likelier a swap is than none, from what is seen before and after.
    corrected
        Whether the names were exchanged from the middle of the meeting on.
    """

    frame: int
    stop: int
    first: int
    second: int
    evidence: float
    corrected: bool

    @property
    def middle(self) -> int:
        """The last frame before names are exchanged."""
        return (self.frame + self.stop) // 2


def swap_candidates(tracks: Tracks) -> list[SwapCandidate]:
    """Those that the tracker noted, the likeliest first; none from a tracker that notes none.

    Raises
    ------
    ValidationError
        When the provenance has something else there.
    """
    noted = tracks.provenance.get(KEY, [])
    try:
        return [SwapCandidate(**one) for one in noted]
    except TypeError:
        raise ValidationError(
            f"provenance: expected a list of swap candidates at {KEY!r}, found {noted!r}"
        ) from None


def with_candidates(tracks: Tracks, candidates: list[SwapCandidate]) -> Tracks:
    """The same tracks with those candidates noted, the likeliest first."""
    ordered = sorted(candidates, key=lambda c: (-c.evidence, c.frame, c.first, c.second))
    provenance: dict[str, Any] = {**tracks.provenance, KEY: [attrs.asdict(c) for c in ordered]}
    return attrs.evolve(tracks, provenance=provenance)


def exchange(tracks: Tracks, number: int) -> Tracks:
    """Exchange the names of a candidate's two from the middle of their meeting on.

    One that was exchanged before is so undone: twice is as never.

    Parameters
    ----------
    number
        Of the candidate, from 0, as `swap_candidates` lists them.

    Raises
    ------
    ValidationError
        When there is no such candidate.

    Examples
    --------
    >>> noted = {"swap_candidates": [dict(frame=1, stop=1, first=0, second=1, evidence=3.0,
    ...                                   corrected=False)]}
    >>> tracks = Tracks([0, 0, 2, 2], [0, 1, 0, 1], [5, 9, 9, 5], [0, 0, 0, 0], provenance=noted)
    >>> exchange(tracks, 0).id.tolist()
    [0, 1, 1, 0]
    """
    candidates = swap_candidates(tracks)
    if not 0 <= number < len(candidates):
        there = f"0 to {len(candidates) - 1}" if candidates else "none: no meeting was noted"
        raise ValidationError(f"expected the number of a swap candidate, {there}; found {number}")
    chosen = candidates[number]
    pair = {chosen.first: chosen.second, chosen.second: chosen.first}
    ids = tracks.id.copy()
    later = tracks.frame > chosen.middle
    ids[later & (tracks.id == chosen.first)] = chosen.second
    ids[later & (tracks.id == chosen.second)] = chosen.first
    changed = []
    for i, other in enumerate(candidates):
        if i == number:
            other = attrs.evolve(other, corrected=not other.corrected)
        elif other.middle > chosen.middle:  # those who meet later bear the new names
            first, second = (pair.get(name, name) for name in (other.first, other.second))
            other = attrs.evolve(other, first=first, second=second)
        changed.append(other)
    return with_candidates(attrs.evolve(tracks, id=ids), changed)
