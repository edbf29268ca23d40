"""The store of a set: labels, journal and file as one thing that several threads may use.

    with Store.open("labels.h5") as store:
        store.apply([(0, MoveKeypoint("head", 12.5, 30.0))], store.revision, "me")
        store.undo("me")

An edit is on disk, in the journal, when `Store.apply` returns; the file follows: see `HeldSet`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from dpk_annotator.entries import Entry
from dpk_annotator.guess_sources import guesses_from_poses
from dpk_annotator.guesses import Guess, checked_guesses
from dpk_annotator.held_set import Changed, HeldSet, ReadOnlyError
from dpk_annotator.labels import Labels
from dpk_annotator.ledger import Change
from dpk_annotator.outcome import Applied, Conflict
from dpk_annotator.row_state import RowState
from dpk_annotator.skeleton_edits import SkeletonChange, SkeletonPreview, preview
from dpk_core.annotations import Source
from dpk_core.errors import ValidationError
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton

__all__ = ["Changed", "ReadOnlyError", "Store"]


class Store(HeldSet):
    """An open set; see `HeldSet.open`. Every method may be called from any thread."""

    # -- what there is ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return min(len(self._disk.labels), len(self._ledger.labels))

    def __repr__(self) -> str:
        return f"Store({self.path.name}, {len(self)} images, revision {self.revision})"

    @property
    def set_id(self) -> str:
        """Name of the set, unlike any other, the same whenever it is opened.

        Once there is a journal, it stays when the file is renamed.
        """
        journal = self._ledger.journal
        return self._name if journal is None else journal.name

    def is_named(self, set_id: str) -> bool:
        """Whether a name that somebody was given before stands for these images.

        A set whose journal another process has begun takes that journal's name.
        """
        return set_id == self.set_id or set_id in self._known_ids

    @property
    def revision(self) -> int:
        """Number of the last edit."""
        return self._ledger.seq

    @property
    def saved_revision(self) -> int:
        """Number of the last edit that is in the HDF5 file; -1 when the file must be written."""
        return self._file_seq

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton now."""
        return self._ledger.labels.skeleton

    @property
    def skeleton_seq(self) -> int:
        """Number of the edit that made the skeleton."""
        return self._ledger.skeleton_version.seq

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where each image came from."""
        return self._disk.annotations.sources

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        return self._disk.annotations.image_shape

    def image(self, row: int) -> np.ndarray:
        """(h, w, c) uint8 pixels, read from the file."""
        self._check_row(row)
        return np.asarray(self._disk.annotations.images[row])

    def state(self, row: int) -> RowState:
        """The labels of one image, as they are now."""
        with self._lock:
            self._catch_up()
            return self._ledger.state(row)

    def guess(self, row: int) -> Guess | None:
        """What a model says of an image, in the order of the skeleton; None when nothing."""
        with self._lock:
            self._check_row(row)
            return self._guesses.get(row, self._ledger.skeleton_version)

    def labels(self) -> tuple[int, Labels, np.ndarray]:
        """The revision, a copy of all labels, and (n,) mean scores of guesses with NaN."""
        with self._lock:
            self._catch_up()
            labels = self._ledger.labels
            return self._ledger.seq, labels.copy(), self._guesses.confidence(len(labels))

    def labels_at(self, seq: int) -> Labels:
        """All labels as they were after an edit."""
        with self._lock:
            return self._ledger.state_at(seq)

    def steps(self, client: str) -> tuple[int, int]:
        """How many steps a client can undo, and redo."""
        with self._lock:
            return self._ledger.steps(client)

    def history(self, before: int | None = None, limit: int = 100) -> list[Entry]:
        """The last edits with numbers below ``before``, the latest first."""
        with self._lock:
            journal = self._ledger.journal
            if journal is None:
                return []
            upto = None if before is None else before - 1
            return journal.entries(upto=upto, last=limit)[::-1]

    def pauses(self, seconds: float = 1800.0, last: int = 50) -> list[tuple[int, float]]:
        """(number, time) of edits after which nothing was done for a while, the latest first."""
        with self._lock:
            journal = self._ledger.journal
            return [] if journal is None else journal.pauses(seconds, last)

    # -- changing ---------------------------------------------------------------------------------

    def apply(
        self, changes: Sequence[Change], base: int, client: str, token: str | None = None
    ) -> Applied | Conflict:
        """Do edits at once; they are on disk when this returns.

        Parameters
        ----------
        changes
            (row, edit); all are done, or none.
        base
            The revision that whoever makes them has seen. What others changed since in other
            parts of the images is kept; the same part is a `Conflict`.
        client
            Who makes them; undo goes by it.
        token
            A text of the client's for this request: repeated, it is done once.

        Raises
        ------
        ValidationError
            When an edit cannot be done.
        ReadOnlyError, OutputError
            When nothing can be written; nothing has changed then.
        """
        with self._writing():
            return self._ledger.apply(changes, base, client, token)

    def undo(
        self, client: str, base: int | None = None, token: str | None = None
    ) -> Applied | Conflict | None:
        """Take back the last thing that a client did; None when there is nothing."""
        with self._writing():
            return self._ledger.undo(client, base, token)

    def redo(
        self, client: str, base: int | None = None, token: str | None = None
    ) -> Applied | Conflict | None:
        """Do again what a client took back last; None when there is nothing."""
        with self._writing():
            return self._ledger.redo(client, base, token)

    def restore(self, seq: int, client: str, token: str | None = None) -> Applied:
        """Make all labels what they were after an edit, as one step that can be undone."""
        with self._writing():
            return self._ledger.restore(seq, client, None, token)

    def restore_labels(self, labels: Labels, client: str) -> Applied:
        """Make all labels those given (of a backup, say), as one step that can be undone."""
        with self._writing():
            return self._ledger.restore(self._ledger.seq, client, labels)

    def confirm(
        self,
        row: int,
        base: int,
        client: str,
        token: str | None = None,
        *,
        keypoints: list[str] | None = None,
        threshold: float = 0.0,
    ) -> Applied | Conflict:
        """Make labels of a model's guesses for an image, where there are none yet."""
        with self._writing():
            self._ledger.catch_up()
            guess = self._guesses.get(row, self._ledger.skeleton_version)
            if guess is None:
                raise ValidationError(f"there are no guesses for image {row} to confirm")
            for name in keypoints or ():
                self.skeleton.index(name)
            edit = guess.confirm(self._ledger.state(row), keypoints, threshold)
            return self._ledger.apply([(row, edit)], base, client, token)

    def preview_skeleton(self, change: SkeletonChange) -> SkeletonPreview:
        """What a change of skeleton would do."""
        with self._lock:
            return preview(change, self.skeleton, self._ledger.labels.labelled_in())

    def touched_by(self, names: Sequence[str]) -> int:
        """The number of images in which any of these keypoints is labelled."""
        with self._lock:
            labels = self._ledger.labels
            columns = [labels.skeleton.index(name) for name in names]
            known = labels.annotated | ~np.isnan(labels.keypoints[..., 0])
            return int(known[:, columns].any(axis=1).sum())

    def change_skeleton(
        self, change: SkeletonChange, base: int, client: str, token: str | None = None
    ) -> Applied | Conflict:
        """Take another skeleton; labels follow by name, those of removed keypoints go."""
        with self._writing():
            return self._ledger.change_skeleton(change, base, client, token)

    def put_guesses(self, rows: Any, keypoints: Any, scores: Any, model: str = "") -> int:
        """Keep a model's keypoints for images, over its older ones and never over labels.

        Parameters
        ----------
        rows
            (m,) numbers of images.
        keypoints, scores
            (m, k, 2) pixels of the images with NaN, (m, k) in [0, 1], in the skeleton's order.
        model
            Which model it was, for people.

        Returns
        -------
        int
            The number of images.
        """
        with self._writing():
            k = len(self.skeleton)
            found = checked_guesses(rows, keypoints, scores, len(self), k)
            journal = self._ledger.journal_to_write()
            with journal.transaction():
                journal.put_guesses(found[0], self.skeleton.names, *found[1:], model)
                journal.set_meta("guesses", f"{time.time_ns()}")
            self._load_guesses()
            touched = tuple(map(int, found[0]))
        self.on_change(Changed(self.revision, touched or None, model))
        return len(touched)

    def put_poses(
        self, poses: Poses, video: str, model: str = "", only: Sequence[int] | None = None
    ) -> int:
        """Keep what was predicted for a video as guesses for the images that came from it.

        Of ``only`` these images, if given: others may have guesses of a better model.
        """
        rows, keypoints, scores = guesses_from_poses(
            poses, video, self.sources, self.image_shape[:2], self.skeleton, self.path.parent
        )
        if only is not None:
            wanted = np.isin(rows, np.asarray(only, np.int64))
            rows, keypoints, scores = rows[wanted], keypoints[wanted], scores[wanted]
        return self.put_guesses(rows, keypoints, scores, model) if len(rows) else 0

    def _check_row(self, row: int) -> None:
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(self):
            raise ValidationError(
                f"image: expected a number from 0 to {len(self) - 1}, found {row!r}"
            )
