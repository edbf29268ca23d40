"""Chains: which pieces of tracks are a known number of animals, and which follow each other."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from dpk_core.detections import NO_ID
from dpk_core.tracks import Tracks
from dpk_trackers.stitching import Pieces

_ROW = 1.0
"""What each row of a piece that is left out costs, in terms of -2 log likelihoods, times its score:
false detections seldom stay."""
_ANYWHERE = 30.0
"""The most that a place costs: after all, an animal may be anywhere."""
_FORM, _UNLIKE, _FLOOR = 0.5, 20.0, 0.03
"""Weight of squared differences in extent, the most that such a difference costs, and the least
standard deviation of the logarithm of an extent."""
_AGREED = 6.0
"""What a link costs less that was made when the frames came in, with all that was known then."""
_LEAP, _SOON = 0.3, 3
"""What share of its cost is left where it was made at once, over so many frames: a leap is only
taken for one when there was nobody else."""
_NEVER = 1e5
"""Cost of a link between different tags."""
_LATE = 0.01
"""What each frame costs that passes before an animal's first piece."""
_MOST_LINKS = 3_000_000


def chain(
    pieces: Tracks, count: int, forms: np.ndarray, tags: np.ndarray, online: np.ndarray
) -> np.ndarray:
    """Who each row is, when there are so many animals: the best of all ways to say so.

    An animal is a chain of pieces that follow each other in time. The sum of the costs of links
    and of pieces that are left out as no animal's is the smallest that there is. A link costs what
    `dpk_trackers.stitching` has learned of how well places can be foretold across gaps, or that
    the animal is anywhere, and the difference in extent. A piece that is left out costs what its
    being false does, by how often there is more than there are animals. Solved as one sparse linear
    assignment of ends to beginnings, in which a piece that is left out is assigned to itself (as
    in Zhang, Li & Nevatia 2008, Global data association for multi-object tracking using network
    flows, with a given amount of flow).

    Parameters
    ----------
    pieces
        With an id for each piece, every row with a position.
    count
        Number of animals.
    forms
        (n, 2) logs of length and width of each row, NaN where they say nothing.
    tags
        (n,) what was read in each row, `NO_ID` for nothing.
    online
        (n,) who each row was when the frames came in, -1 for nobody.

    Returns
    -------
    (n,) integers from 0 to count - 1, -1 for rows that are nobody's
    """
    if not len(pieces):
        return np.empty(0, np.int64)
    known = Pieces(pieces)
    of = np.searchsorted(known.ids, pieces.id)
    before, after = _links(known, count)
    cost = np.minimum(_motion_costs(known, before, after), _ANYWHERE)
    cost = cost + _form_costs(of, forms, before, after)
    agreed = _agreed(of, online, before, after)
    soon = known.start[after] - known.stop[before] <= _SOON
    cost = np.where(agreed & soon, _LEAP * cost, np.maximum(0, cost - _AGREED * agreed))
    tag = _most(of, len(known.ids), tags)
    differ = (tag[before] != tag[after]) & (tag[before] != NO_ID) & (tag[after] != NO_ID)
    cost = np.where(differ, _NEVER, cost)
    worth = -2 * np.log(_false(pieces.frame, count)) + _ROW * np.bincount(
        of, pieces.score.astype(np.float64), len(known.ids)
    )
    late = _LATE * (known.start - known.start.min())
    return _chains(count, np.maximum(worth, 0.1), late, before, after, cost)[of]


def _false(frame: np.ndarray, count: int) -> float:
    """How many more than there are animals are found in a frame, on the mean."""
    number = np.unique(frame, return_counts=True)[1]
    return float((np.maximum(number - count, 0).sum() + 0.05) / (np.ptp(frame) + 1))


def _links(known: Pieces, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of pieces of which the second begins after the first, the soonest ones."""
    n = len(known.ids)
    by_start = np.argsort(known.start, kind="stable")
    low = np.searchsorted(known.start[by_start], known.stop, side="right")
    most = int(np.clip(_MOST_LINKS // n, 8, 8 * count + 64))
    number = np.minimum(n - low, most)
    before = np.repeat(np.arange(n), number)
    step = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    return before, by_start[low[before] + step]


def _motion_costs(known: Pieces, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    if not len(before):
        return np.empty(0)
    longest = int((known.start[after] - known.stop[before]).max())
    far, variance = known.motion(before, after, longest)
    return far + 2 * np.maximum(0, np.log(variance / known.least_variance()))


def _form_costs(
    of: np.ndarray, forms: np.ndarray, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """Of the differences between the usual extents of pieces; the longer, the surer."""
    n = int(of.max()) + 1
    usual, sure, apart = np.full((n, 2), np.nan), np.zeros(n), []
    rows = np.flatnonzero(np.isfinite(forms).all(axis=1))
    rows = rows[np.argsort(of[rows], kind="stable")]
    for part in np.split(rows, np.flatnonzero(np.diff(of[rows])) + 1):
        if len(part):
            k = of[part[0]]
            usual[k], sure[k] = np.median(forms[part], axis=0), len(part)
            apart.append(np.abs(forms[part] - usual[k]))
    if not apart:
        return np.zeros(len(before))
    spread = np.maximum(1.4826 * np.median(np.concatenate(apart), axis=0), _FLOOR)
    squared = np.nan_to_num(((usual[before] - usual[after]) / spread) ** 2).sum(axis=1)
    shorter = np.minimum(sure[before], sure[after])
    return np.minimum(_FORM * squared * shorter / (shorter + 5), _UNLIKE)


def _agreed(
    of: np.ndarray, online: np.ndarray, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """(links,) whether both pieces were the same animal's when the frames came in."""
    who = _most(of, int(of.max()) + 1, online)
    return (who[before] == who[after]) & (who[before] >= 0)


def _most(of: np.ndarray, n: int, values: np.ndarray) -> np.ndarray:
    """(n,) the value from 0 on that each piece has most, -1 for none (which is `NO_ID`)."""
    rows = np.flatnonzero(values >= 0)
    found = np.full(n, NO_ID)
    if len(rows):
        names, column = np.unique(values[rows], return_inverse=True)
        pairs, votes = np.unique(of[rows] * len(names) + column, return_counts=True)
        order = np.argsort(votes, kind="stable")  # the last one stays
        found[pairs[order] // len(names)] = names[pairs[order] % len(names)]
    return found


def _chains(
    count: int,
    worth: np.ndarray,
    late: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    cost: np.ndarray,
) -> np.ndarray:
    """(pieces,) number of each one's chain, -1 for none.

    Rows of the assignment are ends of pieces, then beginnings of the video, one for each animal;
    columns are beginnings of pieces, then ends of the video.
    """
    n, each = len(worth), np.arange(len(worth))
    animals = n + np.arange(count)
    # Of many pieces, only the first ones and the longest can be an animal's first.
    first = each
    if n * count > _MOST_LINKS:
        some = max(20, _MOST_LINKS // count // 2)
        first = np.union1d(np.argsort(late)[:some], np.argsort(-worth)[:some])
    parts = [
        (before, after, cost),
        (each, each, worth),
        (np.repeat(animals, len(first)), np.tile(first, count), np.tile(late[first], count)),
        (np.repeat(each, count), np.tile(animals, n), np.zeros(n * count)),
        (animals, animals, np.zeros(count)),
    ]
    rows, columns, costs = (np.concatenate(column) for column in zip(*parts, strict=True))
    # All have the same number of links, so that one more for each changes nothing; 0 is no link.
    matrix = coo_matrix((costs + 1.0, (rows, columns)), shape=(n + count, n + count)).tocsr()
    r, c = min_weight_full_bipartite_matching(matrix)
    following = np.empty(n + count, np.int64)
    following[r] = c
    found = np.full(n, -1)
    for k, begin in enumerate(following[n:]):
        while begin < n:
            found[begin] = k
            begin = following[begin]
    return found
