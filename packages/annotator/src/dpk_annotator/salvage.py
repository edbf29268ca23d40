"""What a damaged journal still tells."""

from __future__ import annotations

from pathlib import Path

import attrs

from dpk_annotator.draft import apply_entry
from dpk_annotator.entries import SKELETON, Entry
from dpk_annotator.labels import Labels
from dpk_annotator.raw_entries import raw_entries
from dpk_core.errors import DpkError


@attrs.frozen
class Salvaged:
    """Labels with what was read from a damaged journal.

    Parameters
    ----------
    labels
        As they are after the last entry that could be read.
    lost
        Numbers of entries before that one of which nothing is known, or which cannot be done
        without one of those.
    """

    labels: Labels
    lost: tuple[int, ...]


def salvage(path: Path, after: int, labels: Labels) -> Salvaged:
    """Do to labels what a damaged journal says of the time after an entry.

    Entries that cannot be read are left out: most of what comes later says all that it needs. What
    was done with a skeleton of which nothing is known is left out, too.
    """
    labels = labels.copy()
    found = {seq: entry for seq, entry in raw_entries(path).items() if seq > after}
    lost: list[int] = []
    skeleton = max((e.skeleton for e in found.values() if e.skeleton <= after), default=0)
    for seq in range(after + 1, max(found, default=after) + 1):
        entry = found.get(seq)
        if entry is None or entry.skeleton != skeleton or not _done(labels, entry):
            lost.append(seq)
        elif entry.kind == SKELETON:
            skeleton = seq
    return Salvaged(labels, tuple(lost))


def _done(labels: Labels, entry: Entry) -> bool:
    try:
        apply_entry(labels, entry)
    except (DpkError, KeyError, TypeError, ValueError, IndexError):
        return False
    return True
