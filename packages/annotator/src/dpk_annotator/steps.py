"""What a client can undo and redo."""

from __future__ import annotations

import attrs

from dpk_annotator.entries import Entry


@attrs.define
class Steps:
    """The steps of one client, the last one at the end.

    Parameters
    ----------
    undo
        Batches that can be taken back.
    redo
        Undoing batches that can be taken back in turn.
    """

    undo: list[int] = attrs.Factory(list)
    redo: list[int] = attrs.Factory(list)

    def push(self, batch: int, undoes: int | None, redoes: int | None) -> None:
        """Take note of a batch, as an `Entry` tells of it."""
        if undoes is not None:
            self.undo.pop()
            self.redo.append(batch)
        elif redoes is not None:
            self.redo.pop()
            self.undo.append(batch)
        else:
            self.undo.append(batch)
            self.redo.clear()

    def follow(self, entry: Entry) -> None:
        """Take note of an entry; of those that were done at once, the first counts."""
        if entry.seq == entry.batch:
            self.push(entry.batch, entry.undoes, entry.redoes)
