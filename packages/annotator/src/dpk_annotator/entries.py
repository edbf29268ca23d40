"""Entries of the journal: what was done, by whom, what takes it back, and how a row keeps it."""

from __future__ import annotations

import json
import zlib
from typing import Any

import attrs

from dpk_core.errors import FileFormatError
from dpk_core.skeleton import Skeleton

EDIT, SKELETON, GROW = "edit", "skeleton", "grow"
"""Kinds of entries: one image, the skeleton, images added to the set."""

COLUMNS = (
    "seq, time, client, kind, row, edit, inverse, parts, "
    "batch, undoes, redoes, skeleton, token, crc"
)
"""Of the table of entries, in the order of `stored_entry`."""

_CHECKED = ("seq", "time", "client", "kind", "row", "batch", "undoes", "redoes", "skeleton")
_TEXTS = slice(5, 8)
_TOKEN, _CRC = 12, 13


class JournalDamagedError(FileFormatError):
    """A journal that is no journal, or whose content is not what was written."""


@attrs.frozen
class Entry:
    """One thing that was done.

    Parameters
    ----------
    seq
        Its number from 1; the revision of the set after it.
    time
        Seconds since 1970; never before the entry in front of it.
    client
        Who did it.
    kind
        ``edit``, ``skeleton`` or ``grow``.
    row
        The image; None for the other kinds.
    edit, inverse
        What was done and what takes it back, as JSON values.
    parts
        What it touched: see `Patch.parts`.
    batch
        Number of the first entry of those that were done at once.
    undoes, redoes
        The batch that it took back, the undoing batch that it took back.
    skeleton
        Number of the entry that made the skeleton whose names it uses, 0 for the first.
    token
        Name that the client gave it, so that a repeated request is recognised.
    """

    seq: int
    time: float
    client: str
    kind: str
    row: int | None
    edit: dict[str, Any]
    inverse: dict[str, Any]
    parts: tuple[str, ...]
    batch: int
    undoes: int | None = None
    redoes: int | None = None
    skeleton: int = 0
    token: str | None = None


@attrs.frozen
class SkeletonVersion:
    """A skeleton as it was from one entry on, with numbers that outlive names."""

    seq: int
    skeleton: Skeleton
    identities: tuple[int, ...]

    def name_of(self, identity: int) -> str | None:
        """The keypoint's name in this version, None when it is not in it."""
        if identity in self.identities:
            return self.skeleton.names[self.identities.index(identity)]
        return None

    def identity_of(self, name: str) -> int:
        """The number of a keypoint; SkeletonError when there is none of that name."""
        return self.identities[self.skeleton.index(name)]


def stored_entry(entry: Entry) -> tuple[Any, ...]:
    """An entry as a row of the table: `COLUMNS`, with JSON as text, and a checksum."""
    row = list(attrs.astuple(entry, recurse=False))
    texts = [dump(value) for value in row[_TEXTS]]
    row[_TEXTS] = texts
    return (*row, _checksum(entry, texts))


def entry_of(stored: tuple[Any, ...]) -> Entry:
    """The inverse of `stored_entry`; ValueError, TypeError when it is not what was written."""
    texts = list(stored[_TEXTS])
    edit, inverse, parts = (json.loads(text) for text in texts)
    values: list[Any] = [*stored[:5], edit, inverse, tuple(parts), *stored[8 : _TOKEN + 1]]
    entry = Entry(*values)
    if _checksum(entry, texts) != stored[_CRC]:
        raise ValueError("the checksum does not fit")
    return entry


def dump(value: Any) -> str:
    """JSON without spaces; ValueError on what JSON has no word for."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _checksum(entry: Entry, texts: list[str]) -> int:
    known = [getattr(entry, name) for name in _CHECKED]
    return zlib.crc32("\n".join([repr(known), *texts]).encode())
