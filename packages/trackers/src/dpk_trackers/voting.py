"""Identity by votes: who a track is, from the tags that were read on it now and then."""

from __future__ import annotations

import attrs
import numpy as np
from scipy.optimize import linear_sum_assignment

from dpk_core.detections import NO_ID
from dpk_core.swaps import swap_candidates, with_candidates
from dpk_core.tracks import Tracks


def vote(tracks: Tracks, tags: np.ndarray, min_share: float = 0.6) -> Tracks:
    """Join pieces that bear the same tag, and name the tracks by their tags.

    Each row with a tag is a vote. A piece bears the tag that has at least ``min_share`` of its
    votes. Of pieces with one tag that overlap in time, only those are joined that together have
    the most votes, taken greedily; the others keep their ids and get no name.

    Parameters
    ----------
    tracks
        In any order.
    tags
        (n,) what was read in each row, `NO_ID` for nothing.

    Returns
    -------
    Tracks
        Ids of joined pieces are the lowest of theirs; ``provenance["track_names"]`` has the tags.
    """
    table, ids, names = _votes(tracks.id, tags)
    if not len(names):
        return tracks
    total = table.sum(axis=1)
    winner, most = table.argmax(axis=1), table.max(axis=1)
    sure = (total > 0) & (most >= min_share * np.maximum(total, 1))
    new, labels = ids.copy(), {}
    order = np.lexsort((tracks.frame, tracks.id))
    frames, starts = tracks.frame[order], np.searchsorted(tracks.id[order], ids)
    first, last = frames[starts], frames[np.append(starts[1:], len(order)) - 1]
    for column, name in enumerate(names):
        bearers = np.flatnonzero(sure & (winner == column))
        members: list[int] = []
        for k in bearers[np.argsort(-most[bearers], kind="stable")]:
            if all(last[k] < first[m] or first[k] > last[m] for m in members):
                members.append(int(k))
        if members:
            target = ids[members].min()
            new[members] = target
            labels[str(int(target))] = f"tag {int(name)}"
    provenance = {**tracks.provenance}
    provenance["track_names"] = {**provenance.get("track_names", {}), **labels}
    renamed = new[np.searchsorted(ids, tracks.id)]
    named = attrs.evolve(tracks, id=renamed, provenance=provenance)
    candidates = swap_candidates(tracks)
    if not candidates:
        return named
    of = dict(zip(ids.tolist(), new.tolist(), strict=True))
    changed = [
        attrs.evolve(c, first=of.get(c.first, c.first), second=of.get(c.second, c.second))
        for c in candidates
    ]
    return with_candidates(named, changed)


def vote_unique(ids: np.ndarray, tags: np.ndarray) -> dict[int, int]:
    """Each id's tag such that no tag is given twice and the most votes are heeded.

    One global assignment over whole tracks that all exist at once; ids without votes are left out.

    Examples
    --------
    >>> vote_unique(np.array([0, 0, 0, 1]), np.array([5, 5, 6, 5]))
    {0: 5}
    >>> vote_unique(np.array([0, 0, 1, 1]), np.array([5, 6, 5, -1]))
    {0: 6, 1: 5}
    """
    table, known, names = _votes(ids, tags)
    if not len(names):
        return {}
    i, j = linear_sum_assignment(table, maximize=True)
    chosen = table[i, j] > 0
    pairs = zip(known[i[chosen]], names[j[chosen]], strict=True)
    return {int(who): int(tag) for who, tag in pairs}


def _votes(ids: np.ndarray, tags: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often each tag (columns) was read on each id (rows), and both their names."""
    known = np.unique(ids)
    read = np.flatnonzero(tags != NO_ID)
    names, column = np.unique(tags[read], return_inverse=True)
    table = np.zeros((len(known), len(names)), np.int64)
    np.add.at(table, (np.searchsorted(known, ids[read]), column), 1)
    return table, known, names
