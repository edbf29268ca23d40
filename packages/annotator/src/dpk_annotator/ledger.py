"""Labels and their journal together: apply, refuse, undo, redo, go back.

The ledger knows no HDF5. Several processes may have one on the same journal: each takes in what the
others wrote before it writes itself, within one transaction, so that no update is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from dpk_annotator.asked import FILE, Asked
from dpk_annotator.conflicts import edit_conflict, removal_conflict, skeleton_conflict
from dpk_annotator.draft import Draft, Planned, way_back
from dpk_annotator.edits import Edit, Patch, edit_from_json
from dpk_annotator.entries import EDIT, Entry, SkeletonVersion
from dpk_annotator.labels import Labels
from dpk_annotator.outcome import Applied, Conflict
from dpk_annotator.replay import Replay
from dpk_annotator.skeleton_edits import SkeletonChange
from dpk_core.errors import ValidationError

_SNAPSHOT_EVERY = 5000
"""Entries; a fraction of a second to replay."""

Change = tuple[int, Edit]
"""(row, edit)."""

_Refused = TypeVar("_Refused")


@attrs.frozen
class _Ready:
    """A draft that may be written.

    ``rows`` are the images that it is about, though nothing of them may change; ``undoes`` and
    ``redoes`` are as an `Entry` has them, ``merged`` as `Applied` has it.
    """

    rows: tuple[int, ...] = ()
    merged: bool = False
    undoes: int | None = None
    redoes: int | None = None


class Ledger(Replay):
    """Labels in memory with a journal beneath; see `Replay`."""

    def apply(
        self, changes: Sequence[Change], base: int, client: str, token: str | None = None
    ) -> Applied | Conflict:
        """Do edits at once: all of them, or none when one conflicts or cannot be done."""
        asked = Asked(client, base, token)

        def plan(draft: Draft) -> _Ready | Conflict:
            merged = False
            for row, edit in changes:
                refusal = skeleton_conflict(self, self.checked(row), asked)
                if refusal is not None:
                    return refusal
                parts = draft.edit(row, edit)
                others = self.changes_since(base, row, client)
                refusal = edit_conflict(self, row, edit, parts, others, base)
                if refusal is not None:
                    return refusal
                merged = merged or bool(others)
            return _Ready(tuple(dict.fromkeys(row for row, _ in changes)), merged)

        return self._do_once(asked, plan)

    def change_skeleton(
        self, change: SkeletonChange, base: int, client: str, token: str | None = None
    ) -> Applied | Conflict:
        """Take another skeleton; labels follow by name."""
        asked = Asked(client, base, token)

        def plan(draft: Draft) -> _Ready | Conflict:
            before = self.labels.skeleton
            origins = change.origins(before)
            gone = {f".{name}" for name in before.names if name not in origins}
            refusal = skeleton_conflict(self, None, asked) or removal_conflict(self, gone, asked)
            if refusal is not None:
                return refusal
            draft.change_skeleton(change)
            return _Ready()

        return self._do_once(asked, plan)

    def undo(
        self, client: str, base: int | None = None, token: str | None = None
    ) -> Applied | Conflict | None:
        """Take back the last thing a client did; None when there is nothing."""
        return self._take_back(Asked(client, 0 if base is None else base, token), redo=False)

    def redo(
        self, client: str, base: int | None = None, token: str | None = None
    ) -> Applied | Conflict | None:
        """Do again what a client took back last; None when there is nothing."""
        return self._take_back(Asked(client, 0 if base is None else base, token), redo=True)

    def restore(
        self, seq: int, client: str, labels: Labels | None = None, token: str | None = None
    ) -> Applied:
        """Make all labels what they were after an entry (or those given), as one step."""

        def plan(draft: Draft) -> _Ready:
            target = self.state_at(seq) if labels is None else labels
            if target.skeleton != self.labels.skeleton:
                then = self.skeleton_at(seq) if labels is None else None
                draft.change_skeleton(way_back(self.skeleton_version, target, then))
            draft.turn_into(target)
            return _Ready()

        done = self._do_once(Asked(client, seq, token), plan)
        assert isinstance(done, Applied)
        return done

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

    def _do_once(
        self, asked: Asked, plan: Callable[[Draft], _Ready | _Refused]
    ) -> Applied | _Refused:
        """Write what ``plan`` puts into a draft, unless it says why not.

        It is called within the transaction, when all that others wrote is known. A request that
        is repeated is not done again: the answer tells of what it did.
        """
        journal = self.journal_to_write()
        with journal.transaction():
            self._absorb_new()
            if (done := self._done(asked)) is not None:
                return done
            if asked.base > self.seq:
                raise ValidationError(
                    f"revision {asked.base} is not there yet, the last one is {self.seq}; load "
                    "the page again"
                )
            draft = self._draft()
            ready = plan(draft)
            if not isinstance(ready, _Ready):
                return ready
            entries = self._write(draft.planned, asked.client, asked.token, ready)
        self._absorb(entries)
        return self._applied(entries, ready)

    def _draft(self) -> Draft:
        next_identity = self.journal_to_write().next_identity
        return Draft(self.labels, self.skeleton_version, self.seq, next_identity)

    def _write(
        self,
        planned: Sequence[Planned],
        client: str,
        token: str | None = None,
        ready: _Ready | None = None,
    ) -> list[Entry]:
        """Add entries to the journal within the transaction; memory follows after the commit."""
        journal, ready = self.journal_to_write(), ready or _Ready()
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
                undoes=ready.undoes,
                redoes=ready.redoes,
                skeleton=plan.skeleton,
                token=token if seq == batch else None,
            )
            journal.append(entry)
            entries.append(entry)
            if plan.after is not None:
                journal.add_skeleton(plan.after)
        return entries

    def _done(self, asked: Asked) -> Applied | None:
        """What came of a request that is repeated; None when it is a new one."""
        if asked.token is None or self.journal is None:
            return None
        batch = self.journal.by_token(asked.client, asked.token)
        if batch is None:
            return None
        return self._applied(self.journal.entries(batch - 1, batch=batch), _Ready())

    def _applied(self, entries: Sequence[Entry], ready: _Ready) -> Applied:
        # Undoing goes backwards; the image where the step began is the one to show.
        order = reversed(entries) if entries and entries[0].undoes else entries
        changed = tuple(dict.fromkeys(entry.row for entry in order if entry.row is not None))
        rows = changed if entries else ready.rows
        state = self.state(rows[0]) if rows else None
        return Applied(entries[-1].seq if entries else self.seq, rows, state, ready.merged)

    # -- taking back ------------------------------------------------------------------------------

    def _take_back(self, asked: Asked, *, redo: bool) -> Applied | Conflict | None:
        if self.journal is None:
            return None
        journal = self.journal

        def plan(draft: Draft) -> _Ready | Conflict | None:
            steps = self._steps_of(asked.client)
            stack = steps.redo if redo else steps.undo
            if not stack:
                return None
            batch = stack[-1]
            done = journal.entries(batch - 1, batch=batch)
            seen = attrs.evolve(asked, base=max(done[-1].seq, asked.base))
            for entry in reversed(done):
                if entry.kind == EDIT:
                    refusal = self._plan_undo(draft, entry, seen)
                else:
                    refusal = self._plan_skeleton_undo(draft, entry, asked.client)
                if refusal is not None:
                    return refusal
            return _Ready(redoes=batch) if redo else _Ready(undoes=batch)

        return self._do_once(asked, plan)

    def _plan_undo(self, draft: Draft, entry: Entry, seen: Asked) -> Conflict | None:
        row = entry.row
        assert row is not None
        patch = edit_from_json(entry.inverse)
        assert isinstance(patch, Patch)
        patch = self._renamed(patch, entry, draft.version)
        others = self.changes_since(seen.base, row, seen.client)
        refusal = edit_conflict(self, row, patch, patch.parts, others, seen.base)
        if refusal is None:
            draft.edit(row, patch, even_if_nothing=True)
        return refusal

    def _plan_skeleton_undo(self, draft: Draft, entry: Entry, client: str) -> Conflict | None:
        change, since = SkeletonChange.from_json(entry.edit), Asked(client, entry.seq)
        new = {f".{name}" for name, _ in change.identities}
        refusal = skeleton_conflict(self, None, since) or removal_conflict(self, new, since)
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


def _to_json(value: Edit | SkeletonChange | int) -> dict:
    return {"n": value} if isinstance(value, int) else value.to_json()
