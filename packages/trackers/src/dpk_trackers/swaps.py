"""Swaps: where two individuals met and may have changed names, as size, shape and tags tell."""

from __future__ import annotations

from itertools import pairwise

import attrs
import numpy as np
from scipy.spatial import cKDTree

from dpk_core.detections import NO_ID, Detections
from dpk_core.swaps import SwapCandidate, with_candidates
from dpk_core.tracks import Tracks
from dpk_trackers.growing_columns import GrowingColumns
from dpk_trackers.similarity import log_sizes

_WINDOW = 60
"""Rows before and after a meeting that are compared."""
_FEWEST = 5
_CHANGE, _PRESUMED = 0.05, 5
"""How much the median of an extent changes in one animal from window to window, as long as nothing
is known, and how many windows that counts for."""
_TAG = 4.0
"""What one reading of a tag adds to the log of the likelihood ratio."""


class Evidence:
    """What detections tell of who somebody is, collected row by row while tracking.

    Shape from keypoints, as distances from the centre of the pose, and tags.
    """

    def __init__(self) -> None:
        self._rows = GrowingColumns()
        self._shapes = GrowingColumns()
        """Of fewer rows, where some have no keypoints; ``row`` says of which."""

    def see(self, number: int, ids: np.ndarray, found: Detections) -> None:
        """Take in what was found of those ids in a frame, in the same order."""
        if found.keypoints is None and (found.id == NO_ID).all():
            return
        shape = _shape(found)
        if shape is not None:
            self._shapes.append(row=len(self._rows) + np.arange(len(ids)), shape=shape)
        self._rows.append(frame=np.full(len(ids), number), id=np.asarray(ids), tag=found.id)

    def of(self, tracks: Tracks) -> tuple[np.ndarray, np.ndarray]:
        """(n, k) logs of distances, NaN where unknown, and (n,) tags, for the rows of tracks."""
        shapes = self._shapes.joined()
        k = shapes["shape"].shape[1] if shapes else 0
        features, tags = np.full((len(tracks), k), np.nan), np.full(len(tracks), NO_ID)
        if not len(self._rows) or not len(tracks):
            return features, tags
        rows = self._rows.joined()
        frame, ids, read = rows["frame"], rows["id"], rows["tag"]
        shape = np.full((len(ids), k), np.nan)
        if shapes:
            shape[shapes["row"]] = shapes["shape"]
        span = int(max(tracks.id.max(), ids.max())) + 1
        key, wanted = frame * span + ids, tracks.frame * span + tracks.id
        order = np.argsort(key)
        at = order[np.searchsorted(key[order], wanted).clip(max=len(key) - 1)]
        same = key[at] == wanted
        features[same], tags[same] = shape[at[same]], read[at[same]]
        return features, tags


def correct_swaps(
    tracks: Tracks,
    shapes: np.ndarray | None = None,
    tags: np.ndarray | None = None,
    *,
    threshold: float = 8.0,
    report_from: float = 1.0,
    distance: float | None = None,
) -> Tracks:
    """Exchange names after meetings where what is seen before and after contradicts them.

    For every meeting the medians of extent and shape before and after are compared, both ways of
    naming against each other. How much those medians vary in one animal is learned from the
    tracks. The log of the likelihood ratio, with that of tags that were read, is the evidence.

    Parameters
    ----------
    tracks
        In any order; extents are compared where they are known.
    shapes, tags
        (n, k) more features and (n,) tags of the rows, as `Evidence.of` gives them.
    threshold
        Evidence from which names are exchanged.
    report_from
        Evidence from which a meeting is reported.
    distance
        How near is a meeting, in pixels. Default: a body's length, the usual one.

    Returns
    -------
    Tracks
        The same rows; ``provenance["swap_candidates"]`` has a list of dicts with the fields of
        `SwapCandidate`, the likeliest first.
    """
    features = _features(tracks, shapes)
    tags = np.full(len(tracks), NO_ID) if tags is None else tags
    if not np.isfinite(features).any() and (tags == NO_ID).all():
        return tracks
    met = meetings(tracks, _usual_length(tracks) if distance is None else distance)
    lines = _Lines(tracks, features, tags, met)
    found: list[SwapCandidate] = []
    renamed: dict[int, int] = {}
    for begin, end, a, b in met:
        first, second = renamed.get(a, a), renamed.get(b, b)
        evidence = lines.evidence(first, second, begin, end)
        if evidence < report_from:
            continue
        corrected = evidence >= threshold
        found.append(SwapCandidate(begin, end, first, second, round(evidence, 3), corrected))
        if corrected:
            lines.exchange(first, second, (begin + end) // 2)
            renamed[a], renamed[b] = second, first
    return with_candidates(attrs.evolve(tracks, id=lines.ids()), found)


def meetings(tracks: Tracks, distance: float) -> list[tuple[int, int, int, int]]:
    """(first frame, last frame, id, id) of each stretch in which two are that near, by time.

    Stretches less than `_FEWEST` frames apart are one.
    """
    placed = np.flatnonzero(np.isfinite(tracks.x) & np.isfinite(tracks.y))
    order = placed[np.lexsort((tracks.id[placed], tracks.frame[placed]))]
    frames, starts = np.unique(tracks.frame[order], return_index=True)
    rows = []
    for frame, part in zip(frames, np.split(order, starts[1:]), strict=True):
        if len(part) < 2:
            continue
        tree = cKDTree(np.stack([tracks.x[part], tracks.y[part]], axis=1))
        pairs = tree.query_pairs(distance, output_type="ndarray")
        if len(pairs):
            who = np.sort(tracks.id[part[pairs]], axis=1)
            rows.append(np.c_[np.full(len(who), frame), who])
    if not rows:
        return []
    near = np.concatenate(rows)
    near = near[np.lexsort((near[:, 0], near[:, 2], near[:, 1]))]
    cut = (np.diff(near[:, 1:], axis=0) != 0).any(axis=1) | (np.diff(near[:, 0]) > _FEWEST)
    begins = np.r_[0, np.flatnonzero(cut) + 1]
    ends = np.r_[begins[1:] - 1, len(near) - 1]
    found = np.c_[near[begins, 0], near[ends, 0], near[begins, 1:]]
    ordered = found[np.lexsort(found.T[::-1])].tolist()
    return [(begin, end, a, b) for begin, end, a, b in ordered]


class _Lines:
    """For each id its rows in order of time; two can exchange what comes after a frame."""

    def __init__(
        self,
        tracks: Tracks,
        features: np.ndarray,
        tags: np.ndarray,
        met: list[tuple[int, int, int, int]],
    ) -> None:
        self._tracks, self._features, self._tags = tracks, features, tags
        order = np.lexsort((tracks.frame, tracks.id))
        ids, starts = np.unique(tracks.id[order], return_index=True)
        self._rows = dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True))
        self._precision = self._learn(met)

    def ids(self) -> np.ndarray:
        ids = self._tracks.id.copy()
        for name, rows in self._rows.items():
            ids[rows] = name
        return ids

    def exchange(self, first: int, second: int, after: int) -> None:
        a, b = self._rows[first], self._rows[second]
        at_a = np.searchsorted(self._tracks.frame[a], after, side="right")
        at_b = np.searchsorted(self._tracks.frame[b], after, side="right")
        self._rows[first] = np.concatenate([a[:at_a], b[at_b:]])
        self._rows[second] = np.concatenate([b[:at_b], a[at_a:]])

    def evidence(self, first: int, second: int, begin: int, end: int) -> float:
        """Log likelihood ratio of a swap between those frames; 0 where nothing is known."""
        sides = [self._sides(name, begin, end) for name in (first, second)]
        if min(len(rows) for pair in sides for rows in pair) < _FEWEST:
            return 0.0
        (a0, a1), (b0, b1) = sides
        from_tags = self._tag_votes(a0, b1) + self._tag_votes(b0, a1)
        from_tags -= self._tag_votes(a0, a1) + self._tag_votes(b0, b1)
        p0, p1, q0, q1 = (_medians(self._features[rows]) for rows in (a0, a1, b0, b1))
        kept = self._squared(p1 - p0) + self._squared(q1 - q0)
        swapped = self._squared(q1 - p0) + self._squared(p1 - q0)
        # Where one is unknown to both sides nothing is said: NaN is left out in _squared.
        known = np.isfinite(p0 + p1 + q0 + q1).any()
        return _TAG * from_tags + (float(kept - swapped) / 2 if known else 0.0)

    def _sides(self, name: int, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._rows[name]
        seen = rows[~self._tracks.interpolated[rows]]
        frames = self._tracks.frame[seen]
        low, high = np.searchsorted(frames, begin), np.searchsorted(frames, end, side="right")
        return seen[max(0, low - _WINDOW) : low], seen[high : high + _WINDOW]

    def _tag_votes(self, before: np.ndarray, after: np.ndarray) -> int:
        """How many of the fewer readings agree on the tag that each side has most."""
        a, b = (self._tags[rows] for rows in (before, after))
        a, b = a[a != NO_ID], b[b != NO_ID]
        if not len(a) or not len(b):
            return 0
        usual = np.bincount(a).argmax()
        return int(min((a == usual).sum(), (b == usual).sum()))

    def _squared(self, difference: np.ndarray) -> float:
        d = np.nan_to_num(difference)
        return float(d @ self._precision @ d)

    def _learn(self, met: list[tuple[int, int, int, int]]) -> np.ndarray:
        """(k, k) inverse covariance of how medians change from window to window in one animal."""
        k = self._features.shape[1]
        cuts: dict[int, list[int]] = {}
        for begin, end, *who in met:
            for name in who:
                cuts.setdefault(name, []).append((begin + end) // 2)
        changes: list[np.ndarray] = []
        for name, rows in self._rows.items():
            seen = rows[~self._tracks.interpolated[rows]]
            # Who met may be somebody else from there on.
            at = np.searchsorted(self._tracks.frame[seen], sorted(cuts.get(name, [])), side="right")
            for piece in np.split(seen, at):
                size = min(_WINDOW, len(piece) // 2)
                if size < _WINDOW // 4:
                    continue
                starts = range(0, len(piece) - size + 1, size)
                medians = [_medians(self._features[piece[i : i + size]]) for i in starts[:200]]
                changes += [b - a for a, b in pairwise(medians)]
        known = np.array([c for c in changes if np.isfinite(c).any()]).reshape(-1, k)
        known = np.nan_to_num(known)
        # What is presumed also keeps this invertible.
        presumed = _PRESUMED * _CHANGE**2 * np.eye(k)
        return np.linalg.inv((known.T @ known + presumed) / (len(known) + _PRESUMED))


def _features(tracks: Tracks, shapes: np.ndarray | None) -> np.ndarray:
    """(n, f) logs: length and width, or size alone where the boxes are upright; and shapes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        extent = np.log(np.stack([tracks.width, tracks.height], axis=1))
    extent[~np.isfinite(extent)] = np.nan
    upright = np.isnan(tracks.angle)
    # The sides of an upright box change as an animal turns: what is known is its size, only.
    sizes = log_sizes(tracks.width, tracks.height, tracks.angle)
    extent[upright] = np.stack([sizes, np.full(len(tracks), np.nan)], axis=1)[upright]
    if shapes is None or not shapes.shape[1]:
        return extent
    return np.concatenate([extent, shapes], axis=1)


def _shape(found: Detections) -> np.ndarray | None:
    if found.keypoints is None:
        return None
    points = found.keypoints.astype(np.float64)
    known = np.asarray(np.isfinite(points).all(axis=2))
    count = known.sum(axis=1)[:, None]
    points = np.where(known[..., None], points, 0)
    center = points.sum(axis=1) / np.maximum(count, 1)
    radius = np.hypot(*np.moveaxis(points - center[:, None], 2, 0))
    # A pose with a part missing has another centre: only whole ones are compared.
    whole: np.ndarray = known & (count == known.shape[1]) & (radius > 0)
    return np.log(np.where(whole, radius, np.nan))


def _medians(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    enough = known.sum(axis=0) >= _FEWEST
    found = np.full(values.shape[1], np.nan)
    if enough.any():
        found[enough] = np.nanmedian(values[:, enough], axis=0)
    return found


def _usual_length(tracks: Tracks) -> float:
    sizes = np.fmax(tracks.width, tracks.height)
    return float(np.nanmedian(sizes)) if np.isfinite(sizes).any() else 25.0
