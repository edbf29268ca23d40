"""The labels of all images of a set, in memory."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from dpk_annotator.row_state import RowState
from dpk_annotator.skeleton_edits import Column, SkeletonChange
from dpk_core.annotations import AnnotationSet
from dpk_core.skeleton import Skeleton


class Labels:
    """Keypoints, visibilities, flags, finished marks and notes of n images; can be changed.

    Parameters
    ----------
    skeleton
        Names the k keypoints.
    keypoints, visibility, annotated
        (n, k, 2) float64, (n, k) uint8, (n, k) bool.
    flag, finished
        (n,) bool.
    notes
        By row; images without one are not in it.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        keypoints: np.ndarray,
        visibility: np.ndarray,
        annotated: np.ndarray,
        flag: np.ndarray | None = None,
        finished: np.ndarray | None = None,
        notes: dict[int, str] | None = None,
    ) -> None:
        n = len(keypoints)
        self.skeleton = skeleton
        self.keypoints, self.visibility, self.annotated = keypoints, visibility, annotated
        self.flag = np.zeros(n, bool) if flag is None else flag
        self.finished = np.zeros(n, bool) if finished is None else finished
        self.notes = {} if notes is None else notes

    @classmethod
    def of(cls, annotations: AnnotationSet) -> Labels:
        """A copy of the labels of a set."""
        return cls(
            annotations.skeleton,
            annotations.keypoints.copy(),
            annotations.visibility.copy(),
            annotations.annotated.copy(),
        )

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        done = int(self.annotated.any(axis=1).sum())
        return f"Labels({len(self)} images, {len(self.skeleton)} keypoints, {done} labelled)"

    def copy(self) -> Labels:
        """One that can be changed without changing this."""
        return Labels(
            self.skeleton,
            self.keypoints.copy(),
            self.visibility.copy(),
            self.annotated.copy(),
            self.flag.copy(),
            self.finished.copy(),
            dict(self.notes),
        )

    def row(self, row: int, revision: int = 0) -> RowState:
        """The state of one image, a copy."""
        return RowState(
            self.skeleton,
            self.keypoints[row].copy(),
            self.visibility[row].copy(),
            self.annotated[row].copy(),
            bool(self.flag[row]),
            self.notes.get(row, ""),
            bool(self.finished[row]),
            revision,
        )

    def set_row(self, row: int, state: RowState) -> None:
        """Replace what is known of one image."""
        self.keypoints[row] = state.keypoints
        self.visibility[row], self.annotated[row] = state.visibility, state.annotated
        self.flag[row], self.finished[row] = state.flag, state.finished
        if state.note:
            self.notes[row] = state.note
        else:
            self.notes.pop(row, None)

    def grow(self, n: int) -> None:
        """Add blank images up to ``n``."""
        more, k = n - len(self), len(self.skeleton)
        if more <= 0:
            return
        self.keypoints = np.concatenate([self.keypoints, np.full((more, k, 2), np.nan)])
        self.visibility = np.concatenate([self.visibility, np.zeros((more, k), np.uint8)])
        self.annotated = np.concatenate([self.annotated, np.zeros((more, k), bool)])
        self.flag = np.concatenate([self.flag, np.zeros(more, bool)])
        self.finished = np.concatenate([self.finished, np.zeros(more, bool)])

    def migrate(self, change: SkeletonChange) -> SkeletonChange:
        """Take another skeleton; the change that takes it back, with the labels it took away."""
        before, origins = self.skeleton, change.origins(self.skeleton)
        gone = [name for name in before.names if name not in origins]
        lost = {name: self._column(before.index(name)) for name in gone}
        renamed = [
            (new, old)
            for new, old in zip(change.skeleton.names, origins, strict=True)
            if old is not None and old != new
        ]
        self.reindex(
            change.skeleton,
            lambda name: origins[change.skeleton.index(name)],
        )
        for name, column in change.restored:
            j = self.skeleton.index(name)
            for row, point in column:
                if row < len(self):
                    self.keypoints[row, j] = point.x, point.y
                    self.visibility[row, j] = point.visibility
                    self.annotated[row, j] = point.annotated
        return SkeletonChange(before, renamed, lost)

    def reindex(self, skeleton: Skeleton, origin: Callable[[str], str | None]) -> None:
        """Take another skeleton; ``origin`` names where each keypoint was, None for nowhere."""
        n, k = len(self), len(skeleton)
        keypoints = np.full((n, k, 2), np.nan)
        visibility, annotated = np.zeros((n, k), np.uint8), np.zeros((n, k), bool)
        for j, name in enumerate(skeleton.names):
            old = origin(name)
            if old is not None and old in self.skeleton.names:
                i = self.skeleton.index(old)
                keypoints[:, j] = self.keypoints[:, i]
                visibility[:, j] = self.visibility[:, i]
                annotated[:, j] = self.annotated[:, i]
        self.skeleton = skeleton
        self.keypoints, self.visibility, self.annotated = keypoints, visibility, annotated

    def labelled_in(self) -> dict[str, int]:
        """For each keypoint the number of images in which it is labelled."""
        counts = (self.annotated | ~np.isnan(self.keypoints[..., 0])).sum(axis=0)
        return dict(zip(self.skeleton.names, map(int, counts), strict=True))

    def fingerprint(self) -> str:
        """A hash of what HDF5 keeps for every program: keypoints, visibility, skeleton."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([self.keypoints.shape, self.skeleton.to_rows()]).encode())
        digest.update(np.ascontiguousarray(self.keypoints, "<f8").data)
        digest.update(np.ascontiguousarray(self.visibility, np.uint8).data)
        digest.update(np.ascontiguousarray(self.annotated, np.uint8).data)
        return digest.hexdigest()

    def same_as(self, other: Labels) -> bool:
        """Whether all is equal, marks and notes included."""
        return (
            self.fingerprint() == other.fingerprint()
            and np.array_equal(self.flag, other.flag)
            and np.array_equal(self.finished, other.finished)
            and self.notes == other.notes
        )

    def to_bytes(self) -> bytes:
        """All of it as an ``.npz`` file, that `from_bytes` and NumPy read."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            keypoints=self.keypoints,
            visibility=self.visibility,
            annotated=self.annotated,
            flag=self.flag,
            finished=self.finished,
            notes=_text(json.dumps({str(row): note for row, note in self.notes.items()})),
            skeleton=_text(json.dumps(self.skeleton.to_rows())),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Labels:
        """The inverse of `to_bytes`; ValueError, KeyError or OSError when it is damaged."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                names = ("keypoints", "visibility", "annotated", "flag", "finished")
                arrays: list[Any] = [stored[name] for name in names]
                rows = json.loads(stored["skeleton"].tobytes())
                notes = json.loads(stored["notes"].tobytes())
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ValueError(f"not an .npz file, or cut short: {error}") from None
        skeleton = Skeleton.from_rows([tuple(row) for row in rows])
        n, k = arrays[0].shape[:2]
        shapes = ((n, k, 2), (n, k), (n, k), (n,), (n,))
        if k != len(skeleton) or any(a.shape != s for a, s in zip(arrays, shapes, strict=True)):
            raise ValueError("its arrays do not fit each other")
        by_row = {int(row): str(note) for row, note in notes.items()}
        return cls(skeleton, *arrays, by_row)

    def _column(self, i: int) -> Column:
        """What is known of one keypoint, wherever something is."""
        known = self.annotated[:, i] | ~np.isnan(self.keypoints[:, i, 0])
        return tuple((int(row), self.row(int(row)).point(i)) for row in np.flatnonzero(known))


def _text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def different_rows(a: Labels, b: Labels) -> list[int]:
    """The images that differ, among those that both have; both have the same keypoints."""
    n = min(len(a), len(b))
    same = (a.keypoints[:n] == b.keypoints[:n]) | (
        np.isnan(a.keypoints[:n]) & np.isnan(b.keypoints[:n])
    )
    rows = ~same.all(axis=(1, 2))
    rows |= (a.visibility[:n] != b.visibility[:n]).any(axis=1)
    rows |= (a.annotated[:n] != b.annotated[:n]).any(axis=1)
    rows |= (a.flag[:n] != b.flag[:n]) | (a.finished[:n] != b.finished[:n])
    for row in a.notes.keys() | b.notes.keys():
        if row < n and a.notes.get(row) != b.notes.get(row):
            rows[row] = True
    return [int(row) for row in np.flatnonzero(rows)]
