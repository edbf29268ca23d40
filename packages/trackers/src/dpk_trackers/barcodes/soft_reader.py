"""Our own reader: candidate quadrilaterals, edges to a fraction of a pixel, the soft decoder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np

from dpk_core.errors import ValidationError
from dpk_trackers.assignment import check_setting
from dpk_trackers.barcodes.corners import refine_corners
from dpk_trackers.barcodes.decode import (
    Match,
    align,
    contradiction,
    decode,
    fitting_blur,
    homographies,
    project,
    quick_ring_score,
    read_gray,
    ring_score,
)
from dpk_trackers.barcodes.dictionary import TagDictionary
from dpk_trackers.barcodes.quads import Level, Quads, find_quads, pyramid, to_frame
from dpk_trackers.barcodes.readers import Readings, TagReader
from dpk_trackers.barcodes.templates import BLURS, Templates

LOOSE = {"score": 0.75, "margin": 0.3, "rings": 0.6, "contradiction": 1.5}
"""Of what is asked of a reading, how much a doubtful one needs (or may have, of contradiction)."""
DOUBT = 0.5
"""Of the least score, what doubtful readings have at most."""
FITTED = 3.0
"""Pixels of a module from which edges are fitted in the frame."""
DISTINCT = 2.0
"""How many times as much as a different place a different size matters when telling outlines
apart: half a tag's side is as far out as its rings, which must come to lie on each other."""
CORNERS = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


@attrs.frozen(eq=False)
class _Found:
    """What one level gave: homographies from modules to its pixels, and what they show."""

    level: Level
    matrices: np.ndarray
    match: Match
    blur: np.ndarray


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
    contradiction
        How far at most the worst module of the code may be from what it should be, as a part of
        the contrast.
    contrast
        Least gray levels between black and white, as they are seen.
    doubtful
        Give readings, too, that fall somewhat short of these limits. Their scores, below half of
        ``score``, say how little: nobody is to believe them who does not expect that tag there.
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
        margin: float = 0.5,
        rings: float = 0.5,
        contradiction: float = 0.8,
        contrast: float = 10.0,
        doubtful: bool = False,
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
        self.score = check_setting("score", score, 0, 1)
        self.margin = check_setting("margin", margin, 0)
        self.rings = check_setting("rings", rings, 0, 1)
        self.contradiction = check_setting("contradiction", contradiction, 0)
        self.contrast = check_setting("contrast", contrast, 0, 255)
        self.doubtful = bool(doubtful)
        self.templates = Templates(dictionary)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def _read(self, gray: np.ndarray) -> Readings:
        if min(gray.shape) < 8:  # no tag fits, and OpenCV takes a single pixel for a number
            return Readings.none()
        levels = pyramid(gray, self.smallest, self.largest)
        quads = find_quads(levels, 0.6 * self.smallest, self._pool)
        go_through = map if self._pool is None else self._pool.map
        parts = list(go_through(self._read_level, levels, quads))
        found = [part for part in parts if part is not None]
        if not found:
            return Readings.none()
        return self._readings(gray, found)

    def _read_level(self, level: Level, quads: Quads) -> _Found | None:
        templates = self.templates
        double = self.dictionary.rings == "double"
        corners, white = quads.corners, quads.white
        half = np.where(white, templates.half - 1, templates.half)
        module = _module(corners, half)
        keep = np.isfinite(corners).all(axis=(1, 2))
        keep &= module * 2 * templates.half >= 0.6 * self.smallest
        if not double:  # there is no white square to be seen
            keep &= ~white
        rows = np.flatnonzero(keep)
        matrices = homographies(corners[rows], half[rows])
        quick = quick_ring_score(level, matrices, templates)
        good = np.flatnonzero(quick > 0.4 * self.rings)
        rows, quick = rows[good], quick[good]
        # A tag has up to four outlines, both squares in both masks: of those that say the same
        # about its place and size, one will do.
        size = module[rows] * templates.half * DISTINCT
        places = np.column_stack([corners[rows].mean(axis=1), size])
        rows = rows[_best_of_each(places, 0.8 * module[rows], quick)]
        if not len(rows):
            return None
        half, module = half[rows], module[rows]
        reach = np.clip(0.8 * module, 1.0, 3.0)
        corners = refine_corners(level.image, corners[rows], white[rows], reach=reach)
        matrices = homographies(corners, half)
        gray = read_gray(level, matrices, templates)
        rings = ring_score(gray, templates)
        good = np.flatnonzero(rings > 0.6 * self.rings)
        if not len(good):
            return None
        match = decode(gray[good], templates.usual_blur(module[good]), templates)
        promising = np.flatnonzero(match.score > self.score - (0.3 if self.doubtful else 0.2))
        good, match = good[promising], _rows(match, promising)
        matrices, module = matrices[good], module[good]
        best = _best_of_each(matrices[:, :2, 2] / matrices[:, 2:, 2], 2.5 * module, match.score)
        matrices, match, gray = matrices[best], _rows(match, best), gray[good][best]
        blur = fitting_blur(gray, match, templates)
        matrices = align(level, matrices, match, blur, templates)
        gray = read_gray(level, matrices, templates)
        match, rings = decode(gray, blur, templates), ring_score(gray, templates)
        against = contradiction(gray, match, blur, templates)
        score = self._believed(match, rings, against)
        good = np.flatnonzero((score > 0) & (match.contrast >= self.contrast))
        if not len(good):
            return None
        match = attrs.evolve(match, score=score)
        return _Found(level, matrices[good], _rows(match, good), blur[good])

    def _believed(self, match: Match, rings: np.ndarray, against: np.ndarray) -> np.ndarray:
        """(n,) the score of each reading; that of a doubtful one says how near it comes to what is
        asked; 0 for no reading."""
        seen = {
            "score": match.score,
            "margin": match.margin,
            "rings": rings,
            "contradiction": against,
        }
        near = np.ones(len(rings))
        for name, value in seen.items():
            asked = getattr(self, name)
            loose = LOOSE[name] * asked
            if asked != loose:
                near = np.minimum(near, (value - loose) / (asked - loose))
            else:  # a limit of 0
                near = np.where(value < asked, 0, near)
        doubted = DOUBT * self.score * np.maximum(near, 0) if self.doubtful else 0.0
        return np.where(near >= 1, match.score, doubted)

    def _readings(self, gray: np.ndarray, found: list[_Found]) -> Readings:
        corners = []
        for part in found:
            places = self._outline(gray, part)
            # Turned clockwise by a quarter, a tag's top-left is the next corner on the screen.
            order = (np.arange(4) + part.match.turn[:, None]) % 4
            corners.append(places[np.arange(len(places))[:, None], order])
        readings = Readings(
            self.dictionary.ids[np.concatenate([part.match.code for part in found])],
            np.concatenate(corners),
            np.clip(np.concatenate([part.match.score for part in found]), 0, 1),
            np.clip(np.concatenate([part.match.margin for part in found]), 0, 1),
        )
        # A tag may be read in several levels; its place is known best in the finest.
        worse = np.concatenate([np.full(len(p.blur), 0.03 * p.level.number) for p in found])
        fits = np.flatnonzero(
            (readings.side >= 0.7 * self.smallest) & (readings.side <= 1.2 * self.largest)
        )
        readings, worse = readings[fits], worse[fits]
        best = _best_of_each(readings.centre, 0.3 * readings.side, readings.score - worse)
        return readings[best]

    def _outline(self, gray: np.ndarray, part: _Found) -> np.ndarray:
        """(n, 4, 2) corners of the black squares in pixels of the frame.

        Where modules are some pixels wide, edges are fitted in the frame itself: of two rings that
        between them, which has ink and paper on its sides whatever surrounds the tag, and then
        the black square's own. Where the lens blurred so much that rings run into each other, the
        code's place stays.
        """
        half, number = self.templates.half, part.level.number
        aligned = to_frame(project(part.matrices, CORNERS * half), number)
        module = _module(aligned, np.full(len(aligned), half))
        rows = np.flatnonzero((module >= FITTED) & (np.array(BLURS)[part.blur] < 0.3))
        double = self.dictionary.rings == "double"
        edge = np.full(len(rows), half - 1 if double else half)
        square = CORNERS * (half - 1 if double else half)
        corners = to_frame(project(part.matrices[rows], square), number)
        reach = np.clip(0.4 * module[rows], 1.5, 12.0)
        rising = np.full(len(rows), double)
        for share in (1.0, 0.5):  # the second time nearer, undisturbed by what lies beyond
            near = np.maximum(reach * share, 1.5)
            corners = refine_corners(gray, corners, rising, reach=near, along=24, across=17)
        corners = project(homographies(corners, edge), CORNERS * half)
        if double:  # the farther edge says more, if there is one: not on black
            reach = np.clip(0.3 * module[rows], 1.2, 6.0)
            outer = refine_corners(gray, corners, ~rising, reach=reach, along=24, across=17)
            agree = np.linalg.norm(outer - corners, axis=-1).max(axis=1) < 0.1 * module[rows]
            corners = np.where(agree[:, None, None], (corners + outer) / 2, corners)
        aligned[rows] = corners
        return aligned


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


def _best_of_each(places: np.ndarray, radius: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Rows of (n, d) places that no better one lies within its own or their radius of."""
    if len(score) < 2:
        return np.arange(len(score))
    order = np.argsort(-score, kind="stable")
    reach = radius[order].astype(np.float32)
    apart = sum((v[:, None] - v) ** 2 for v in places[order].T.astype(np.float32))
    near = apart < np.maximum(reach[:, None], reach) ** 2
    better = np.tril(near, -1)
    taken = np.ones(len(order), bool)
    for row in np.flatnonzero(better.any(axis=1)).tolist():
        taken[row] = not (better[row] & taken).any()
    return np.sort(order[taken])
