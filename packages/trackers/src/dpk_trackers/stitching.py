"""Joins pieces of tracks that one individual left, over the gaps between them."""

from __future__ import annotations

import attrs
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dpk_core.tracks import Tracks
from dpk_trackers.assignment import assign
from dpk_trackers.similarity import log_sizes

_PAST = 5
"""Rows over which the velocity at an end is taken."""
_SAMPLES = 20_000
_FEWEST = 10
"""Pairs of rows from which an error is learned."""
_EXACT = 0.25
"""Variance in square pixels below which an error is no knowledge but the lack of noise."""
_TAILS = 4.0
"""Degrees of freedom of the distribution of errors: animals do turn round."""
_MEDIAN = 1.657
"""Median of the squared length of a 2-D Student vector of so many degrees and unit scale: twice
that of F(2, 4)."""


_NORMAL = 2.198
"""Variance of a normal variable over the median of its square."""
_EFFICIENCY = np.pi / 2
"""Variance of a median over that of a mean."""
_LEAST_DRIFT = 1e-4
"""Variance of the log of an animal's size from piece to piece, that of 1 %, at least."""
_SAID = (-6.0, 10.0)
"""The most that sizes may say for a pair and against it, in terms of -2 log likelihood."""


def stitch(tracks: Tracks, max_gap: int = 60) -> Tracks:
    """Give pieces that follow each other the id of the first one.

    One global assignment of ends to beginnings. How well an animal's place can be foretold across
    a gap, from how it moved before and after, is learned from the tracks themselves, for each
    length of the gap; so are differences in size. Two pieces are joined where that is likelier
    than a chance neighbour. Pieces that overlap in time never are.

    Parameters
    ----------
    tracks
        With ids that rather break than err. Rows without position are left out of account.
    max_gap
        Most frames missing between two pieces.

    Returns
    -------
    Tracks
        The same rows in the same order; ids changed.
    """
    ids = join_ids(tracks, max_gap)
    return attrs.evolve(tracks, id=ids)


def join_ids(tracks: Tracks, max_gap: int = 60) -> np.ndarray:
    """(n,) the id that each row gets."""
    placed = np.flatnonzero(np.isfinite(tracks.x) & np.isfinite(tracks.y))
    if not len(placed):
        return tracks.id.copy()
    pieces = Pieces(tracks[placed])
    if len(pieces.ids) < 2 or max_gap < 0:
        return tracks.id.copy()
    before, after = pieces.candidates(max_gap)
    if not len(before):
        return tracks.id.copy()
    cost = pieces.costs(before, after, max_gap)
    chosen = _best_pairs(before, after, cost, pieces.limit(max_gap))
    root = np.arange(len(pieces.ids))
    # In order of time, a piece's predecessor has its final id when its turn comes.
    for k in chosen[np.argsort(pieces.start[after[chosen]], kind="stable")]:
        root[after[k]] = root[before[k]]
    # Ids of which no row has a position are none of the pieces: they stay.
    at = np.searchsorted(pieces.ids, tracks.id).clip(max=len(pieces.ids) - 1)
    return np.where(pieces.ids[at] == tracks.id, pieces.ids[root][at], tracks.id)


class Pieces:
    """One piece for each id, and what its two ends look like."""

    def __init__(self, tracks: Tracks) -> None:
        order = np.lexsort((tracks.frame, tracks.id))
        self.frame, self.row_id = tracks.frame[order], tracks.id[order]
        self.place = np.stack([tracks.x[order], tracks.y[order]], axis=1)
        extent = tracks.width[order], tracks.height[order], tracks.angle[order]
        self.size = log_sizes(*extent)
        self.ids, self.first = np.unique(self.row_id, return_index=True)
        self.last = np.append(self.first[1:], len(order)) - 1
        self.piece = np.repeat(np.arange(len(self.ids)), self.last - self.first + 1)
        self.start, self.stop = self.frame[self.first], self.frame[self.last]
        self.arriving = self._velocity(np.arange(len(order)), -_PAST)
        self.leaving = self._velocity(np.arange(len(order)), _PAST)

    def candidates(self, max_gap: int) -> tuple[np.ndarray, np.ndarray]:
        """Pieces, and pieces that begin after them and soon enough."""
        by_start = np.argsort(self.start, kind="stable")
        starts = self.start[by_start]
        low = np.searchsorted(starts, self.stop, side="right")
        high = np.searchsorted(starts, self.stop + max_gap + 1, side="right")
        count = high - low
        before = np.repeat(np.arange(len(self.ids)), count)
        step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return before, by_start[low[before] + step]

    def costs(self, before: np.ndarray, after: np.ndarray, max_gap: int) -> np.ndarray:
        """-2 log likelihood of each candidate's displacement, less what size says for it."""
        far, variance = self.motion(before, after, max_gap)
        return far + 2 * np.log(2 * np.pi * variance) + self._size_costs(before, after)

    def motion(
        self, before: np.ndarray, after: np.ndarray, max_gap: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """-2 log of how much less likely each candidate's displacement is than the one that was
        to be expected, and the variance of what is to be expected."""
        end, begin = self.last[before], self.first[after]
        spans = self.frame[begin] - self.frame[end]
        grid, gains, variances = self._learn(max_gap + 1)
        at = np.log(spans)
        gain = np.interp(at, np.log(grid), gains)
        variance = np.exp(np.interp(at, np.log(grid), np.log(variances)))
        error = self._errors(end, begin, gain)
        squared = (error**2).sum(axis=1)
        return (_TAILS + 2) * np.log1p(squared / (_TAILS * variance)), variance

    def least_variance(self) -> float:
        """Of the displacement from a frame to the next one."""
        return float(self._learn(1)[2][0])

    def area(self) -> float:
        """Square pixels of the place in which all of them move."""
        return max(float(np.ptp(self.place, axis=0).max()) ** 2, 100 * self._fallback())

    def limit(self, max_gap: int) -> float:
        """What a chance neighbour would cost: by how often pieces begin, and where."""
        area = self.area()
        frames = float(np.ptp(self.frame)) + 1
        return 2 * np.log(max(1.0, area * frames / (len(self.ids) * min(max_gap + 1, frames))))

    def _velocity(self, rows: np.ndarray, step: int) -> np.ndarray:
        """Pixels per frame between a row and the one ``step`` rows on, within the piece."""
        piece = self.piece[rows]
        other = np.clip(rows + step, self.first[piece], self.last[piece])
        frames = self.frame[other] - self.frame[rows]
        way = self.place[other] - self.place[rows]
        # Noise makes a velocity over few rows worthless: half the weight over two frames.
        weight = np.abs(frames) / (np.abs(frames) + 2.0)
        return np.where(frames == 0, 0, weight / np.where(frames == 0, 1, frames))[:, None] * way

    def _errors(self, end: np.ndarray, begin: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """(p, 2) displacement beyond what both velocities explain."""
        way = self.place[begin] - self.place[end]
        return way - gain[:, None] * (self.arriving[end] + self.leaving[begin])

    def _learn(self, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For gaps on a grid: frames that each velocity counts for, and the variance left over."""
        span = int(self.frame.max() - self.frame.min()) + longest + 2
        key = self.piece * span + self.frame - self.frame.min()
        grid, gains, variances = [], [], []
        length = 1
        while length <= longest:
            found = np.searchsorted(key, key + length).clip(max=len(key) - 1)
            rows = np.flatnonzero(key[found] == key + length)
            if len(rows) >= _FEWEST:
                rows = rows[:: 1 + len(rows) // _SAMPLES]
                gain, variance = self._fit(rows, found[rows])
                grid.append(length)
                gains.append(gain)
                variances.append(variance)
            length = max(length + 1, int(1.6 * length))
        if not grid:
            return np.array([1.0]), np.array([0.5]), np.array([self._fallback()])
        if grid[-1] < longest:
            _carry_on(grid, gains, variances, longest)
        return np.array(grid, float), np.array(gains), np.array(variances)

    def _fit(self, end: np.ndarray, begin: np.ndarray) -> tuple[float, float]:
        way = self.place[begin] - self.place[end]
        both = self.arriving[end] + self.leaving[begin]
        # Next to the ends of a piece velocities are but half known.
        inner = np.minimum(end - self.first[self.piece[end]], self.last[self.piece[begin]] - begin)
        least = np.sort(inner)[max(0, len(inner) - _FEWEST)]
        used = inner >= min(_PAST, least)
        total = (both[used] ** 2).sum()
        gain = float((way * both)[used].sum() / total) if total > 0 else 0.0
        squared = ((way - gain * both) ** 2).sum(axis=1)
        return gain, max(float(np.median(squared)) / _MEDIAN, _EXACT)

    def _fallback(self) -> float:
        """Variance where pieces are too short to learn from: about a body size, else 25 px."""
        size = np.nanmedian(self.size) if np.isfinite(self.size).any() else np.log(25.0)
        return float(np.exp(2 * size))

    def _size_costs(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """-2 log of how much likelier the difference in size is in one animal than in two.

        The mean size of a long piece is known well, that of a short one is not: what is noise from
        row to row averages out, the drift that is left in halves of pieces does not.
        """
        parts = np.split(self.size, self.first[1:])
        usual, count = _medians(parts)
        noise = _median(np.abs(self.size - usual[self.piece])) ** 2 * _NORMAL * _EFFICIENCY
        halves = [half for part in parts if len(part) > 9 for half in np.array_split(part, 2)]
        middle, rows = _medians(halves)
        changed = middle[::2] - middle[1::2]
        known = np.isfinite(changed)
        spread = float(np.nanvar(usual)) if np.isfinite(usual).any() else 0.0
        if known.sum() < 10 or spread <= 0:
            return np.zeros(len(before))
        by_noise = (noise / np.maximum(rows, 1)).reshape(-1, 2).sum(axis=1)[known]
        drift = max(_median(changed**2) * _NORMAL - _median(by_noise), _LEAST_DRIFT)
        each = noise / np.maximum(count, 1)
        same = each[before] + each[after] + drift
        other = np.maximum(2 * spread, same)
        squared = (usual[after] - usual[before]) ** 2
        said = squared / same + np.log(same) - squared / other - np.log(other)
        return np.where(np.isnan(said), 0, np.clip(said, *_SAID))


def _carry_on(grid: list[int], gains: list[float], variances: list[float], longest: int) -> None:
    """Beyond the longest gap that pieces tell of, by the power laws that they end with.

    A velocity counts for no more frames than pass, and errors grow as of one who wanders about at
    least, as of one who walks on at a speed of its own at most.
    """
    last, gain, variance = grid[-1], gains[-1], variances[-1]
    rise, spread = 1.0, 2.0
    if len(grid) > 1:
        step = np.log(last / grid[-2])
        if min(gains[-2:]) > 0:
            rise = float(np.clip(np.log(gain / gains[-2]) / step, 0, 1))
        spread = float(np.clip(np.log(variance / variances[-2]) / step, 1, 2))
    length = last
    while length < longest:
        length = min(longest, max(length + 1, int(1.6 * length)))
        grid.append(length)
        gains.append(gain * (length / last) ** rise)
        variances.append(variance * (length / last) ** spread)


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


def _medians(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the median of each, and how many values it is of."""
    count = np.array([np.isfinite(part).sum() for part in parts], np.int64)
    return np.array([_median(part) for part in parts], float), count


def _best_pairs(
    before: np.ndarray, after: np.ndarray, cost: np.ndarray, limit: float
) -> np.ndarray:
    """Numbers of the pairs in the best assignment; each group that hangs together by itself."""
    good = np.flatnonzero(cost < limit)
    if not len(good):
        return good
    ends, i = np.unique(before[good], return_inverse=True)
    begins, j = np.unique(after[good], return_inverse=True)
    n = len(ends) + len(begins)
    links = coo_matrix((np.ones(len(good)), (i, len(ends) + j)), shape=(n, n))
    _, group = connected_components(links, directed=False)
    chosen = []
    order = np.argsort(group[i], kind="stable")
    cuts = np.flatnonzero(np.diff(group[i][order])) + 1
    for part in np.split(order, cuts):
        rows, r = np.unique(i[part], return_inverse=True)
        columns, c = np.unique(j[part], return_inverse=True)
        matrix = np.full((len(rows), len(columns)), np.inf)
        number = np.zeros(matrix.shape, int)
        matrix[r, c], number[r, c] = cost[good[part]], good[part]
        chosen.append(number[assign(matrix, limit)])
    return np.concatenate(chosen)
