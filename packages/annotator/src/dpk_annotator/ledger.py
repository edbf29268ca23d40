"""Labels and their journal together: apply, refuse, undo, redo, go back.

The ledger knows no HDF5. Several processes may have one on the same journal: each takes in what the
others wrote before it writes itself, within one transaction, so that no update is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import attrs

from dpk_annotator.draft import Draft, Planned, apply_entry, next_version, way_back
from dpk_annotator.edits import Edit, Patch, edit_from_json
from dpk_annotator.entries import EDIT, SKELETON, Entry, JournalDamagedError, SkeletonVersion
from dpk_annotator.journal import Journal
from dpk_annotator.labels import Labels
from dpk_annotator.outcome import Applied, Conflict
from dpk_annotator.row_state import RowState
from dpk_annotator.skeleton_edits import SkeletonChange
from dpk_core.errors import DpkError, ValidationError

_SNAPSHOT_EVERY = 5000
"""Entries; a fraction of a second to replay."""

FILE = "(the file)"
"""Who made the changes that were found in the HDF5 file."""

Change = tuple[int, Edit]
"""(row, edit)."""


class Ledger:
    """Labels in memory with a journal beneath; not thread-safe, its owner holds a lock.

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
        self._stacks: dict[str, tuple[list[int], list[int]]] = {}
        self._data_version = -1
        if journal is not None:
            self._attach(journal)

    # -- reading ----------------------------------------------------------------------------------

    def state(self, row: int) -> RowState:
        """The state of one image with its revision; ValidationError when there is no such row."""
        return self.labels.row(self._checked(row), self.revision(row))

    def revision(self, row: int) -> int:
        """Number of the last entry that touched an image."""
        return max(self._revisions.get(row, 0), self._version.seq)

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

    def state_at(self, seq: int) -> Labels:
        """All labels as they were after an entry."""
        if self.journal is None:
            return self.labels.copy()
        start, labels = self.journal.snapshot(seq)
        for entry in self.journal.each(start, seq):
            _do(labels, entry)
        return labels

    def skeleton_at(self, seq: int) -> SkeletonVersion:
        """The skeleton after an entry."""
        return self._version if self.journal is None else self.journal.skeleton_at(seq)

    @property
    def skeleton_version(self) -> SkeletonVersion:
        """The skeleton now."""
        return self._version

    def steps(self, client: str) -> tuple[int, int]:
        """How many steps a client can undo, and redo."""
        undo, redo = self._stack(client)
        return len(undo), len(redo)

    # -- writing ----------------------------------------------------------------------------------

    def apply(
        self, changes: Sequence[Change], base: int, client: str, token: str | None = None
    ) -> Applied | Conflict:
        """Do edits at once: all of them, or none when one conflicts or cannot be done."""
        _check_client(client)
        _check_revision(base)
        journal = self.journal_to_write()
        with journal.transaction():
            self._absorb_new()
            if (done := self._done(client, token)) is not None:
                return done
            self._check_base(base)
            draft, merged = self._draft(), False
            for row, edit in changes:
                refusal = self._skeleton_changed(self._checked(row), base, client)
                if refusal is not None:
                    return refusal
                parts = draft.edit(row, edit)
                others = self._others_since(row, base, client)
                touched = [entry for entry in others if parts & self._parts_now(entry)]
                if touched:
                    return self._conflict(row, edit, base, touched, parts)
                merged = merged or bool(others)
            entries = self._write(draft.planned, client, token=token)
        self._absorb(entries)
        if not entries:
            rows = tuple(dict.fromkeys(row for row, _ in changes))
            return Applied(self.seq, rows, self.state(rows[0]) if rows else None, merged)
        return self._applied(entries, merged)

    def change_skeleton(
        self, change: SkeletonChange, base: int, client: str, token: str | None = None
    ) -> Applied | Conflict:
        """Take another skeleton; labels follow by name."""
        _check_client(client)
        _check_revision(base)
        journal = self.journal_to_write()
        with journal.transaction():
            self._absorb_new()
            if (done := self._done(client, token)) is not None:
                return done
            self._check_base(base)
            refusal = self._skeleton_changed(None, base, client)
            if refusal is not None:
                return refusal
            origins = change.origins(self.labels.skeleton)
            gone = {f".{name}" for name in self.labels.skeleton.names if name not in origins}
            refusal = self._labels_changed(gone, base, client)
            if refusal is not None:
                return refusal
            draft = self._draft()
            draft.change_skeleton(change)
            entries = self._write(draft.planned, client, token=token)
        self._absorb(entries)
        return self._applied(entries)

    def undo(
        self, client: str, base: int | None = None, token: str | None = None
    ) -> Applied | Conflict | None:
        """Take back the last thing a client did; None when there is nothing."""
        return self._take_back(client, base, token, redo=False)

    def redo(
        self, client: str, base: int | None = None, token: str | None = None
    ) -> Applied | Conflict | None:
        """Do again what a client took back last; None when there is nothing."""
        return self._take_back(client, base, token, redo=True)

    def restore(
        self, seq: int, client: str, labels: Labels | None = None, token: str | None = None
    ) -> Applied:
        """Make all labels what they were after an entry (or those given), as one step."""
        _check_client(client)
        _check_revision(seq)
        journal = self.journal_to_write()
        with journal.transaction():
            self._absorb_new()
            if (done := self._done(client, token)) is not None:
                return done
            self._check_base(seq)
            target = self.state_at(seq) if labels is None else labels
            draft = self._draft()
            if target.skeleton != self.labels.skeleton:
                then = journal.skeleton_at(seq) if labels is None else None
                draft.change_skeleton(way_back(self._version, target, then))
            draft.turn_into(target)
            entries = self._write(draft.planned, client, token=token)
        self._absorb(entries)
        return self._applied(entries)

    def take_in(self, plan: Callable[[Draft], None], note: tuple[int, str]) -> int:
        """Note what came from a file; see `foreign`. Gives the number of entries.

        ``plan`` is called within the transaction, when all that others wrote is known; ``note``
        is the stamp and fingerprint of the file, of which nothing is new from then on.
        """
        journal = self.journal_to_write()
        with journal.transaction():
            self._absorb_new()
            draft = self._draft()
            plan(draft)
            entries = self._write(draft.planned, FILE)
            journal.note_written(*note, self.seq + len(entries))
        self._absorb(entries)
        return len(entries)

    def snapshot_if_due(self) -> None:
        """Keep a snapshot when many entries were made since the last."""
        journal = self.journal
        if journal is not None and self.seq - journal.last_snapshot_seq() >= _SNAPSHOT_EVERY:
            with journal.transaction():
                self._absorb_new()
                journal.add_snapshot(self.seq, self.labels)

    # -- writing entries --------------------------------------------------------------------------

    def _draft(self) -> Draft:
        return Draft(self.labels, self._version, self.seq, self.journal_to_write().next_identity)

    def _write(
        self,
        planned: Sequence[Planned],
        client: str,
        *,
        undoes: int | None = None,
        redoes: int | None = None,
        token: str | None = None,
    ) -> list[Entry]:
        """Add entries to the journal within the transaction; memory follows after the commit."""
        journal = self.journal_to_write()
        now = max(time.time(), journal.last_time())
        batch = self.seq + 1
        entries = []
        for seq, plan in enumerate(planned, start=batch):
            entry = Entry(
                seq=seq,
                time=now,
                client=client,
                kind=plan.kind,
                row=plan.row,
                edit=_to_json(plan.edit),
                inverse=_to_json(plan.inverse),
                parts=tuple(sorted(plan.parts)),
                batch=batch,
                undoes=undoes,
                redoes=redoes,
                skeleton=plan.skeleton,
                token=token if seq == batch else None,
            )
            journal.append(entry)
            entries.append(entry)
            if plan.after is not None:
                journal.add_skeleton(plan.after)
        return entries

    # -- taking back ------------------------------------------------------------------------------

    def _take_back(
        self, client: str, base: int | None, token: str | None, *, redo: bool
    ) -> Applied | Conflict | None:
        _check_client(client)
        if base is not None:
            _check_revision(base)
        if self.journal is None:
            return None
        with self.journal.transaction():
            self._absorb_new()
            if (repeated := self._done(client, token)) is not None:
                return repeated
            self._check_base(base or 0)
            stack = self._stack(client)[int(redo)]
            if not stack:
                return None
            batch, draft = stack[-1], self._draft()
            done = self.journal.entries(batch - 1, batch=batch)
            for entry in reversed(done):
                if entry.kind == EDIT:
                    refusal = self._plan_undo(draft, entry, max(done[-1].seq, base or 0), client)
                else:
                    refusal = self._plan_skeleton_undo(draft, entry, client)
                if refusal is not None:
                    return refusal
            undoes, redoes = (None, batch) if redo else (batch, None)
            entries = self._write(draft.planned, client, undoes=undoes, redoes=redoes, token=token)
        self._absorb(entries)
        return self._applied(entries)

    def _plan_undo(self, draft: Draft, entry: Entry, seen: int, client: str) -> Conflict | None:
        row = entry.row
        assert row is not None
        patch = edit_from_json(entry.inverse)
        assert isinstance(patch, Patch)
        patch = self._renamed(patch, entry, draft.version)
        others = self._others_since(row, seen, client)
        touched = [other for other in others if patch.parts & self._parts_now(other)]
        if touched:
            return self._conflict(row, patch, seen, touched, patch.parts)
        draft.edit(row, patch, even_if_nothing=True)
        return None

    def _plan_skeleton_undo(self, draft: Draft, entry: Entry, client: str) -> Conflict | None:
        change = SkeletonChange.from_json(entry.edit)
        refusal = self._skeleton_changed(None, entry.seq, client)
        if refusal is None:
            new = {f".{name}" for name, _ in change.identities}
            refusal = self._labels_changed(new, entry.seq, client)
        if refusal is None:
            draft.change_skeleton(SkeletonChange.from_json(entry.inverse))
        return refusal

    def _renamed(self, patch: Patch, entry: Entry, version: SkeletonVersion) -> Patch:
        """The patch with the names that keypoints have now; those that are gone fall out."""
        # The inverse of an edit has the names of the skeleton that the edit was made with.
        if entry.skeleton == version.seq:
            return patch
        then = self.skeleton_at(entry.skeleton)
        points = [
            (now, point)
            for name, point in patch.points
            if (now := version.name_of(then.identity_of(name))) is not None
        ]
        return attrs.evolve(patch, points=tuple(points))

    # -- conflicts --------------------------------------------------------------------------------

    def _others_since(self, row: int, base: int, client: str) -> list[Entry]:
        if self._revisions.get(row, 0) <= base or self.journal is None:
            return []
        return [e for e in self.journal.entries(base, row=row) if e.client != client]

    def _parts_now(self, entry: Entry) -> set[str]:
        """What an entry touched, by the names that keypoints have now."""
        if entry.skeleton == self._version.seq:
            return set(entry.parts)
        then = self.skeleton_at(entry.skeleton)
        parts = set()
        for part in entry.parts:
            if not part.startswith("."):
                parts.add(part)
            elif (now := self._version.name_of(then.identity_of(part[1:]))) is not None:
                parts.add(f".{now}")
        return parts

    def _conflict(
        self, row: int, edit: Edit, base: int, touched: list[Entry], parts: frozenset[str]
    ) -> Conflict:
        theirs, last = self.state(row), touched[-1]
        try:
            yours = edit.apply(self._row_at(row, base))
        except DpkError:  # it cannot be done on what was then, for the skeleton is another
            yours = edit.apply(theirs)
        common = sorted(parts & {part for entry in touched for part in self._parts_now(entry)})
        what = ", ".join(part.lstrip(".") for part in common)
        return Conflict(
            row=row,
            base_revision=base,
            revision=theirs.revision,
            client=last.client,
            time=last.time,
            parts=tuple(common),
            yours=yours,
            theirs=theirs,
            message=f"image {row}: {last.client} has changed {what} meanwhile; nothing was "
            "overwritten; look at both and decide",
        )

    def _row_at(self, row: int, seq: int) -> RowState:
        """One image as it was; ValidationError when the skeleton has changed since."""
        assert self.journal is not None
        if self._version.seq > seq:
            raise ValidationError("the skeleton has changed since")
        state = self.state(row)
        for entry in reversed(self.journal.entries(seq, row=row)):
            state = edit_from_json(entry.inverse).apply(state)
        return attrs.evolve(state, revision=seq)

    def _skeleton_changed(self, row: int | None, base: int, client: str) -> Conflict | None:
        """A conflict when somebody else has changed the skeleton."""
        if self._version.seq <= base or self.journal is None:
            return None
        for entry in self.journal.entries(base, kind=SKELETON):
            if entry.client != client:
                return self._refusal(entry, base, row)
        return None

    def _labels_changed(self, parts: set[str], base: int, client: str) -> Conflict | None:
        """A conflict when somebody else has labelled keypoints that would go."""
        if not parts or self.journal is None:
            return None
        for entry in self.journal.each(base):
            if entry.client != client and entry.kind == EDIT and parts & self._parts_now(entry):
                return self._refusal(entry, base, None)
        return None

    def _refusal(self, entry: Entry, base: int, row: int | None) -> Conflict:
        what = "the skeleton" if entry.kind == SKELETON else f"labels of image {entry.row}"
        return Conflict(
            row=row,
            base_revision=base,
            revision=self.seq,
            client=entry.client,
            time=entry.time,
            parts=entry.parts,
            yours=None,
            theirs=None if row is None else self.state(row),
            message=f"{entry.client} has changed {what} meanwhile; nothing was done; look at the "
            "set as it is now and do it again",
        )

    # -- memory -----------------------------------------------------------------------------------

    def journal_to_write(self) -> Journal:
        if self.journal is None:
            journal = self._begin(self.labels)
            # Another process may have begun it a moment before, from labels that had changed.
            self.seq, self.labels = journal.snapshot(0)
            self._attach(journal)
        assert self.journal is not None
        return self.journal

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
            if entry.seq == entry.batch and entry.client in self._stacks:
                _push(self._stacks[entry.client], entry.batch, entry.undoes, entry.redoes)

    def _stack(self, client: str) -> tuple[list[int], list[int]]:
        """Batches that a client can undo, and undoing batches that it can redo."""
        if client not in self._stacks:
            stacks: tuple[list[int], list[int]] = ([], [])
            for batch in self.journal.batches_of(client) if self.journal is not None else ():
                if batch[0] <= self.seq:
                    _push(stacks, *batch)
            self._stacks[client] = stacks
        return self._stacks[client]

    def _done(self, client: str, token: str | None) -> Applied | None:
        """What came of a request that is repeated; None when it is a new one."""
        _check_token(token)
        if token is None or self.journal is None:
            return None
        batch = self.journal.by_token(client, token)
        return (
            None if batch is None else self._applied(self.journal.entries(batch - 1, batch=batch))
        )

    def _applied(self, entries: Sequence[Entry], merged: bool = False) -> Applied:
        # Undoing goes backwards; the image where the step began is the one to show.
        order = reversed(entries) if entries and entries[0].undoes else entries
        rows = tuple(dict.fromkeys(entry.row for entry in order if entry.row is not None))
        state = self.state(rows[0]) if rows else None
        return Applied(entries[-1].seq if entries else self.seq, rows, state, merged)

    def _checked(self, row: int) -> int:
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(self.labels):
            raise ValidationError(
                f"image: expected a number from 0 to {len(self.labels) - 1}, found {row!r}"
            )
        return row

    def _check_base(self, base: int) -> None:
        if base > self.seq:
            raise ValidationError(
                f"revision {base} is not there yet, the last one is {self.seq}; load the page again"
            )


def _check_revision(base: object) -> None:
    if isinstance(base, bool) or not isinstance(base, int) or base < 0:
        raise ValidationError(f"revision: expected a number from 0, found {base!r}")


def _check_client(client: object) -> None:
    if not isinstance(client, str) or not 0 < len(client) <= 200 or not client.isprintable():
        raise ValidationError(
            f"client: expected a name of 1 to 200 printable characters, found {client!r}"
        )
    if client == FILE:
        raise ValidationError(f"client: {FILE!r} stands for changes made in the file itself")


def _check_token(token: object) -> None:
    if token is not None and not (
        isinstance(token, str) and 0 < len(token) <= 200 and token.isprintable()
    ):
        raise ValidationError(
            f"token: expected a text of 1 to 200 printable characters, found {token!r}"
        )


def _push(
    stacks: tuple[list[int], list[int]], batch: int, undoes: int | None, redoes: int | None
) -> None:
    undo, redo = stacks
    if undoes is not None:
        undo.pop()
        redo.append(batch)
    elif redoes is not None:
        redo.pop()
        undo.append(batch)
    else:
        undo.append(batch)
        redo.clear()


def _do(labels: Labels, entry: Entry) -> None:
    try:
        apply_entry(labels, entry)
    except (DpkError, KeyError, TypeError, ValueError, IndexError) as error:
        raise JournalDamagedError(
            f"entry {entry.seq} of the journal cannot be applied ({error})"
        ) from error


def _to_json(value: Edit | SkeletonChange | int) -> dict:
    return {"n": value} if isinstance(value, int) else value.to_json()
