"""A model's keypoints for the images of a set, kept apart from what people labelled."""

from __future__ import annotations

import attrs
import numpy as np

from dpk_annotator.edits import ConfirmGuesses
from dpk_annotator.entries import SkeletonVersion
from dpk_annotator.journal import Journal
from dpk_annotator.row_state import HIGHEST, LOWEST, Point, RowState
from dpk_core.annotations import VISIBLE
from dpk_core.checks import as_array
from dpk_core.errors import ValidationError


@attrs.frozen(eq=False, repr=False)
class Guess:
    """What a model says of one image.

    Parameters
    ----------
    keypoints
        (k, 2) float32 pixels in the order of the set's skeleton, NaN for none.
    scores
        (k,) float32 in [0, 1], 0 where there is none.
    model
        Which model it was, as a text for people.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    model: str = ""

    def __repr__(self) -> str:
        return f"Guess({len(self.scores)} keypoints, mean score {self.scores.mean():.2f})"

    def confirm(
        self, state: RowState, keypoints: list[str] | None = None, threshold: float = 0.0
    ) -> ConfirmGuesses:
        """The edit with which a person says that it is right, for keypoints not labelled yet.

        Parameters
        ----------
        state
            The image as it is.
        keypoints
            Only these; by default all.
        threshold
            Only those with at least this score.
        """
        points = {}
        for i, name in enumerate(state.skeleton.names):
            if keypoints is not None and name not in keypoints:
                continue
            x, y = self.keypoints[i].tolist()
            fits = LOWEST <= x <= HIGHEST and LOWEST <= y <= HIGHEST  # not when NaN
            if fits and self.scores[i] >= threshold and not state.annotated[i]:
                points[name] = Point(x, y, VISIBLE, True)
        return ConfirmGuesses(points)


class Guesses:
    """All guesses of a set, in memory; the journal's file keeps them.

    After a change of skeleton a guess follows its keypoint, as labels do: to another name or
    place. Those of removed keypoints are not given until the removal is undone.
    """

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, ...]] = {}
        self._versions: dict[tuple[str, ...], SkeletonVersion] = {}
        self._guesses: dict[int, Guess] = {}

    def __len__(self) -> int:
        return len(self._guesses)

    def load(self, journal: Journal | None) -> None:
        """Take what the journal's file has."""
        self._names.clear()
        self._guesses.clear()
        versions = journal.skeletons() if journal else ()
        self._versions = {version.skeleton.names: version for version in versions}
        for row, names, keypoints, scores, model in journal.guesses() if journal else ():
            self._names[row] = names
            self._guesses[row] = Guess(keypoints, scores, model)

    def get(self, row: int, now: SkeletonVersion) -> Guess | None:
        """The guess for an image in the order of a skeleton, None when there is none."""
        guess, skeleton = self._guesses.get(row), now.skeleton
        if guess is None or self._names[row] == skeleton.names:
            return guess
        then = self._versions.get(self._names[row])
        keypoints = np.full((len(skeleton), 2), np.nan, np.float32)
        scores = np.zeros(len(skeleton), np.float32)
        for i, known in enumerate(self._names[row]):
            name = known if then is None else now.name_of(then.identities[i])
            if name is not None and name in skeleton.names:
                j = skeleton.index(name)
                keypoints[j], scores[j] = guess.keypoints[i], guess.scores[i]
        return Guess(keypoints, scores, guess.model)

    def confidence(self, n: int) -> np.ndarray:
        """(n,) mean score of each image's guess, NaN where there is none."""
        values = np.full(n, np.nan)
        for row, guess in self._guesses.items():
            if row < n:
                values[row] = guess.scores.mean()
        return values


def checked_guesses(
    rows: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, n: int, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (m,) int64, keypoints (m, k, 2) and scores (m, k) float32, as they are kept.

    Raises
    ------
    ValidationError
        On other shapes, or rows that are not there.
    """
    rows = np.atleast_1d(np.asarray(rows))
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValidationError(f"rows: expected numbers of images, found {rows.dtype}")
    if rows.size and (rows.min() < 0 or rows.max() >= n):
        raise ValidationError(f"rows: expected numbers from 0 to {n - 1}, found others")
    m = len(rows)
    keypoints = as_array("keypoints", keypoints, np.float32, (m, k, 2)).copy()
    scores = as_array("scores", scores, np.float32, (m, k))
    missing = ~np.isfinite(keypoints).all(axis=2)
    keypoints[missing] = np.nan
    scores = np.where(missing | ~np.isfinite(scores), 0, scores.clip(0, 1)).astype(np.float32)
    return rows.astype(np.int64), keypoints, scores
