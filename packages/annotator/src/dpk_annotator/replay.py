"""Labels in memory that follow their journal, entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dpk_annotator.draft import apply_entry, next_version
from dpk_annotator.entries import SKELETON, Entry, JournalDamagedError, SkeletonVersion
from dpk_annotator.journal import Journal
from dpk_annotator.labels import Labels
from dpk_annotator.row_state import RowState
from dpk_annotator.skeleton_edits import SkeletonChange
from dpk_annotator.steps import Steps
from dpk_core.errors import DpkError, ValidationError


class Replay:
    """What the journal's entries make of labels; not thread-safe, its owner holds a lock.

    Parameters
    ----------
    labels
        As they are after the entry ``seq``.
    journal
        None until there is something to write.
    begin
        Makes the journal when it is needed; called with the labels.
    """

    def __init__(
        self, labels: Labels, journal: Journal | None, seq: int, begin: Callable[[Labels], Journal]
    ) -> None:
        self.labels = labels
        self.journal = journal
        self.seq = seq
        self._begin = begin
        self._revisions: dict[int, int] = {}
        self._version = SkeletonVersion(0, labels.skeleton, tuple(range(len(labels.skeleton))))
        self._steps: dict[str, Steps] = {}
        self._data_version = -1
        if journal is not None:
            self._attach(journal)

    def state(self, row: int) -> RowState:
        """The state of one image with its revision; ValidationError when there is no such row."""
        return self.labels.row(self.checked(row), self.revision(row))

    def revision(self, row: int) -> int:
        """Number of the last entry that touched an image."""
        return max(self._revisions.get(row, 0), self._version.seq)

    def checked(self, row: int) -> int:
        """The number of an image; ValidationError when there is none."""
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(self.labels):
            raise ValidationError(
                f"image: expected a number from 0 to {len(self.labels) - 1}, found {row!r}"
            )
        return row

    def state_at(self, seq: int) -> Labels:
        """All labels as they were after an entry."""
        if self.journal is None:
            return self.labels.copy()
        start, labels = self.journal.snapshot(seq)
        for entry in self.journal.each(start, seq):
            _do(labels, entry)
        return labels

    @property
    def skeleton_version(self) -> SkeletonVersion:
        """The skeleton now."""
        return self._version

    def skeleton_at(self, seq: int) -> SkeletonVersion:
        """The skeleton after an entry."""
        return self._version if self.journal is None else self.journal.skeleton_at(seq)

    def steps(self, client: str) -> tuple[int, int]:
        """How many steps a client can undo, and redo."""
        steps = self._steps_of(client)
        return len(steps.undo), len(steps.redo)

    def changes_since(self, base: int, row: int, client: str) -> list[Entry]:
        """What others have done to an image."""
        if self._revisions.get(row, 0) <= base or self.journal is None:
            return []
        return [e for e in self.journal.entries(base, row=row) if e.client != client]

    def catch_up(self) -> int:
        """Take in what other processes have written; how many entries that were."""
        if self.journal is None:
            return 0
        version = self.journal.data_version()
        if version == self._data_version:
            return 0
        before = self.seq
        self._absorb_new()
        self._data_version = version
        return self.seq - before

    def journal_to_write(self) -> Journal:
        """The journal, begun when there is none yet."""
        if self.journal is None:
            journal = self._begin(self.labels)
            # Another process may have begun it a moment before, from labels that had changed.
            self.seq, self.labels = journal.snapshot(0)
            self._attach(journal)
        assert self.journal is not None
        return self.journal

    # -- small parts ------------------------------------------------------------------------------

    def _attach(self, journal: Journal) -> None:
        self.journal = journal
        self._version = journal.skeleton_at(self.seq)
        self._data_version = journal.data_version()
        self._revisions = journal.row_revisions()
        self._absorb_new()

    def _absorb_new(self) -> None:
        assert self.journal is not None
        self._absorb(self.journal.each(self.seq))

    def _absorb(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.seq != self.seq + 1:
                raise JournalDamagedError(f"the journal jumps from entry {self.seq} to {entry.seq}")
            _do(self.labels, entry)
            self.seq = entry.seq
            if entry.row is not None:
                self._revisions[entry.row] = entry.seq
            if entry.kind == SKELETON:
                change = SkeletonChange.from_json(entry.edit)
                self._version = next_version(self._version, entry.seq, change)
            if entry.client in self._steps:
                self._steps[entry.client].follow(entry)

    def _steps_of(self, client: str) -> Steps:
        if client not in self._steps:
            steps = Steps()
            for batch in self.journal.batches_of(client) if self.journal is not None else ():
                if batch[0] <= self.seq:
                    steps.push(*batch)
            self._steps[client] = steps
        return self._steps[client]


def _do(labels: Labels, entry: Entry) -> None:
    try:
        apply_entry(labels, entry)
    except (DpkError, KeyError, TypeError, ValueError, IndexError) as error:
        raise JournalDamagedError(
            f"entry {entry.seq} of the journal cannot be applied ({error})"
        ) from error
