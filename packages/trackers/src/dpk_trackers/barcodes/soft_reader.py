"""Our own reader: candidate quadrilaterals, edges to a fraction of a pixel, the soft decoder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np

from dpk_core.errors import ValidationError
from dpk_trackers.barcodes.corners import refine_corners
from dpk_trackers.barcodes.decode import (
    Match,
    Templates,
    align,
    decode,
    homographies,
    project,
    read_gray,
    ring_score,
)
from dpk_trackers.barcodes.dictionary import TagDictionary
from dpk_trackers.barcodes.quads import Level, find_quads, pyramid, to_frame
from dpk_trackers.barcodes.readers import Readings, TagReader

CORNERS = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


@attrs.frozen(eq=False)
class _Found:
    """What one level gave: homographies from modules to its pixels, and what they show."""

    level: np.ndarray
    matrices: np.ndarray
    match: Match
    rings: np.ndarray


class SoftReader(TagReader):
    """Reads tags by their gray levels, never rounding a module to black or white.

    Parameters
    ----------
    dictionary
        What tags there are.
    smallest, largest
        Sides of the black square in pixels to look for; a small range is faster.
    score
        Least correlation of the gray levels with the code, rings included.
    margin
        Least part of what the next best code leaves unexplained that the best one explains.
    rings
        Least correlation of the rings alone.
    contrast
        Least gray levels between black and white, as they are seen.
    threads
        That look for outlines at the same time.

    Examples
    --------
    >>> from dpk_trackers.barcodes import TagDictionary
    >>> tags = TagDictionary.generate(4, distance=4, count=10, seed=1)
    >>> picture = np.kron(tags.picture(7, paper=1), np.full((6, 6), 255)).astype("uint8")
    >>> SoftReader(tags).read(picture).id
    array([7])
    """

    def __init__(
        self,
        dictionary: TagDictionary,
        *,
        smallest: float = 12.0,
        largest: float = np.inf,
        score: float = 0.8,
        margin: float = 0.35,
        rings: float = 0.5,
        contrast: float = 10.0,
        threads: int = 2,
    ) -> None:
        super().__init__(dictionary)
        if not 4 <= smallest < largest:
            raise ValidationError(
                f"expected 4 <= smallest < largest in pixels, found {smallest} and {largest}"
            )
        if threads < 1:
            raise ValidationError(f"threads: expected at least 1, found {threads}")
        self.smallest, self.largest = float(smallest), float(largest)
        self.score, self.margin, self.rings = score, margin, rings
        self.contrast = contrast
        self.templates = Templates(dictionary)
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def _read(self, gray: np.ndarray) -> Readings:
        levels = pyramid(gray, self.smallest, self.largest)
        found = [f for level in levels if (f := self._read_level(level)) is not None]
        if not found:
            return Readings.none()
        return self._readings(gray, found)

    def _read_level(self, level: Level) -> tuple[Level, np.ndarray, Match, np.ndarray] | None:
        templates = self.templates
        smallest = self.smallest / 2**level.number if level.number == 0 else self.smallest
        quads = find_quads(level, smallest * 0.6, pool=self._pool)
        double = self.dictionary.rings == "double"
        corners, white = quads.corners, quads.white
        if not double:  # there is no white square to be seen
            corners, white = corners[~white], white[~white]
        half = np.where(white, templates.half - 1, templates.half)
        keep = np.isfinite(corners).all(axis=(1, 2))
        corners, white, half = corners[keep], white[keep], half[keep]
        if not len(corners):
            return None
        module = _module(corners, half)
        fits = module * templates.half * 2 >= 0.6 * self.smallest
        corners, white, half, module = corners[fits], white[fits], half[fits], module[fits]
        reach = np.clip(0.8 * module, 1.0, 3.0)
        corners = refine_corners(level.image, corners, white, reach=reach)
        matrices = homographies(corners, half)
        gray = read_gray(level, matrices, templates)
        rings = ring_score(gray, templates)
        good = np.flatnonzero(rings > 0.6 * self.rings)
        if not len(good):
            return None
        match = decode(gray[good], module[good], templates)
        promising = np.flatnonzero(match.score > self.score - 0.2)
        good, match = good[promising], _rows(match, promising)
        matrices, module = matrices[good], module[good]
        best = _best_of_each(matrices[:, :2, 2] / matrices[:, 2:, 2], module, match.score)
        matrices, module, match = matrices[best], module[best], _rows(match, best)
        matrices = align(level, matrices, match, module, templates)
        gray = read_gray(level, matrices, templates)
        match, rings = decode(gray, module, templates), ring_score(gray, templates)
        good = np.flatnonzero(
            (match.score >= self.score)
            & (match.margin >= self.margin)
            & (rings >= self.rings)
            & (match.contrast >= self.contrast)
        )
        if not len(good):
            return None
        return level, matrices[good], _rows(match, good), rings[good]

    def _readings(
        self, gray: np.ndarray, found: list[tuple[Level, np.ndarray, Match, np.ndarray]]
    ) -> Readings:
        corners, codes, scores, margins = [], [], [], []
        for level, matrices, match, _ in found:
            places = self._outline(gray, level, matrices)
            # Turned clockwise by a quarter, a tag's top-left is the next corner on the screen.
            order = (np.arange(4) + match.turn[:, None]) % 4
            places = places[np.arange(len(places))[:, None], order]
            corners.append(places)
            codes.append(match.code)
            scores.append(match.score)
            margins.append(match.margin)
        readings = Readings(
            self.dictionary.ids[np.concatenate(codes)],
            np.concatenate(corners),
            np.clip(np.concatenate(scores), 0, 1),
            np.clip(np.concatenate(margins), 0, 1),
        )
        readings = readings[(readings.side >= 0.7 * self.smallest) & (readings.side <= 1.2 * self.largest)]
        best = _best_of_each(readings.centre, readings.side / 9, readings.score)
        return readings[np.sort(best)]


    def _outline(self, gray: np.ndarray, level: Level, matrices: np.ndarray) -> np.ndarray:
        """(n, 4, 2) corners of the black squares in pixels of the frame.

        Of tags that were read in a smaller picture, edges are fitted in the frame itself: of two
        rings that between them, which has ink and paper on its sides whatever surrounds the tag.
        """
        half = self.templates.half
        if level.number == 0:
            return project(matrices, CORNERS * half)
        double = self.dictionary.rings == "double"
        edge = half - 1 if double else half
        coarse = to_frame(project(matrices, CORNERS * edge), level.number)
        reach = np.clip(0.4 * _module(coarse, np.full(len(coarse), edge)), 1.5, 12.0)
        rising = np.full(len(coarse), double)
        for part in (1.0, 0.5):  # the second time nearer, undisturbed by what lies beyond
            coarse = refine_corners(
                gray, coarse, rising, reach=np.maximum(reach * part, 1.5), along=24, across=17
            )
        return project(homographies(coarse, np.full(len(coarse), edge)), CORNERS * half)


def _module(corners: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Mean side of a module in pixels."""
    sides = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=-1)
    return sides.mean(axis=1) / (2 * half)


def _rows(match: Match, rows: np.ndarray) -> Match:
    return Match(
        match.code[rows],
        match.turn[rows],
        match.score[rows],
        match.margin[rows],
        match.contrast[rows],
    )


def _best_of_each(centres: np.ndarray, module: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Rows that no better one lies within a few modules of."""
    if len(score) < 2:
        return np.arange(len(score))
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    near = apart < 2.5 * np.maximum(module[:, None], module[None])
    order = np.argsort(-score, kind="stable")
    rank = np.empty(len(score), int)
    rank[order] = np.arange(len(score))
    taken = np.zeros(len(score), bool)
    for row in order:  # of some hundred, most have no rival
        taken[row] = not (near[row] & taken & (rank < rank[row])).any()
    return np.flatnonzero(taken)
