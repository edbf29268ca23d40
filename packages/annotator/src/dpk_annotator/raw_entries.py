"""Entries read from the bytes of a journal, page by page, where SQLite gives up.

SQLite finds a row by its way down the tree, and takes its log (``-wal``) to end at the first page
with a wrong checksum: one damaged byte may hide all that was written later. Entries carry a
checksum of their own, so that each can be told from garbage wherever it stands.

Source: "Database File Format", https://www.sqlite.org/fileformat2.html: 1.6 (pages of a tree), 2.1
(records), 4.1 (the log) and 4.2 (its checksum).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpk_annotator.entries import COLUMNS, Entry, entry_of

LOG = "-wal"
_LEAF = 0x0D
_FILE_HEADER, _LOG_HEADER, _FRAME_HEADER = 100, 32, 24
_PAGE_SIZE = 4096
_PAGE_SIZES = [2**i for i in range(9, 17)]
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
_N_COLUMNS = len(COLUMNS.split(","))
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_TIME = 1  # SQLite keeps a real number without a fraction as an integer


def raw_entries(path: Path) -> dict[int, Entry]:
    """Every entry that stands whole in a journal or its log, by number."""
    pages = list(_pages(path))
    latest = dict(pages)
    found: dict[int, Entry] = {}
    for number, page in pages:
        for row in _rows(page, _FILE_HEADER if number == 1 else 0, latest):
            try:
                entry = entry_of(row)
            except (ValueError, TypeError):
                continue
            found.setdefault(entry.seq, entry)
    return found


def log_is_broken(path: Path) -> bool:
    """Whether a journal's log has a damaged place with more behind it, which SQLite would drop.

    What was being written when the power went off is no such thing as a rule: nothing is behind it.
    A disk that kept the end of a commit and not its beginning leaves what looks like damage in a
    commit that was confirmed, and is taken for that: edits are then read from what is put aside. To
    be asked before SQLite opens the journal, for it makes the log shorter.
    """
    log = path.with_name(path.name + LOG)
    before: tuple[bytes, int] | None = None
    while True:
        try:
            content = log.read_bytes()
        except OSError:
            return False
        place = _break(content)
        if place is None:
            return False
        found = (content[:_LOG_HEADER], place)
        if found == before:
            return True
        before = found  # another process may have been writing: damage is there when looked again


# -- the log --------------------------------------------------------------------------------------


def _break(log: bytes) -> int | None:
    """Where the log stops to be readable though there is more of it."""
    if len(log) < _LOG_HEADER + _FRAME_HEADER:
        return None
    magic, _, size, _ = struct.unpack(">4I", log[:16])
    salts, order = log[16:24], _MAGIC.get(magic)
    if order is None or size not in _PAGE_SIZES:
        return 0
    sums = _checksum(log[:24], (0, 0), order)
    if struct.pack(">2I", *sums) != log[24:_LOG_HEADER]:
        return 0
    broken = None
    for start in range(_LOG_HEADER, len(log) - size - _FRAME_HEADER + 1, size + _FRAME_HEADER):
        page = start + _FRAME_HEADER
        if broken is None:
            sums = _checksum(log[start : start + 8] + log[page : page + size], sums, order)
            is_ours = log[start + 8 : start + 16] == salts
            if not is_ours or struct.pack(">2I", *sums) != log[start + 16 : page]:
                broken = start
        elif log[start + 8 : start + 16] == salts and any(log[start + 4 : start + 8]):
            return broken  # a commit behind it
    return None


def _checksum(content: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for i in range(0, len(words), 2):
        first = (first + words[i] + second) & 0xFFFFFFFF
        second = (second + words[i + 1] + first) & 0xFFFFFFFF
    return first, second


# -- pages and rows -------------------------------------------------------------------------------


def _pages(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, content) of the file's pages, then of those in its log."""
    size = _PAGE_SIZE
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if len(content) >= _FILE_HEADER:
        stored = int.from_bytes(content[16:18], "big")
        stored = 2**16 if stored == 1 else stored
        size = stored if stored in _PAGE_SIZES else _PAGE_SIZE
    for start in range(0, len(content) - size + 1, size):
        yield start // size + 1, content[start : start + size]
    try:
        log = path.with_name(path.name + LOG).read_bytes()
    except OSError:
        return
    for start in range(_LOG_HEADER, len(log) - size - _FRAME_HEADER + 1, size + _FRAME_HEADER):
        page = start + _FRAME_HEADER
        yield int.from_bytes(log[start : start + 4], "big"), log[page : page + size]


def _rows(page: bytes, start: int, pages: dict[int, bytes]) -> Iterator[tuple[Any, ...]]:
    """What may be rows of the table of entries."""
    if page[start] != _LEAF:
        return
    n = int.from_bytes(page[start + 3 : start + 5], "big")
    for i in range(start + 8, min(start + 8 + 2 * n, len(page) - 1), 2):
        try:
            row = _row(page, int.from_bytes(page[i : i + 2], "big"), pages)
        except (IndexError, KeyError, ValueError, struct.error):
            continue
        if row is not None:
            yield row


def _row(page: bytes, at: int, pages: dict[int, bytes]) -> tuple[Any, ...] | None:
    n_bytes, at = _varint(page, at)
    number, at = _varint(page, at)
    record = _payload(page, at, n_bytes, pages)
    header, at = _varint(record, 0)
    kinds = []
    while at < header:
        kind, at = _varint(record, at)
        kinds.append(kind)
    if len(kinds) != _N_COLUMNS:
        return None
    values: list[Any] = []
    for kind in kinds:
        value, at = _value(record, at, kind)
        values.append(value)
    return (number, float(values[_TIME]), *values[_TIME + 1 :])


def _payload(page: bytes, at: int, n_bytes: int, pages: dict[int, bytes]) -> bytes:
    """A record, of which a long one goes on in other pages."""
    usable = len(page)
    if n_bytes <= usable - 35:
        return page[at : at + n_bytes]
    if n_bytes > len(pages) * usable:  # damaged: it would be read round and round
        raise ValueError("the record is longer than all there is")
    least = (usable - 12) * 32 // 255 - 23
    here = least + (n_bytes - least) % (usable - 4)
    here = here if here <= usable - 35 else least
    parts, following = [page[at : at + here]], page[at + here : at + here + 4]
    for _ in range(-(-(n_bytes - here) // (usable - 4))):
        more = pages.get(int.from_bytes(following, "big"))
        if more is None:
            raise ValueError("the rest of the record is not there")
        parts.append(more[4:])
        following = more[:4]
    return b"".join(parts)[:n_bytes]


def _value(record: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    if kind == 7:
        return struct.unpack(">d", record[at : at + 8])[0], at + 8
    if kind in _INTEGERS:
        n = _INTEGERS[kind]
        return int.from_bytes(record[at : at + n], "big", signed=True), at + n
    n = (kind - 12) // 2
    content = record[at : at + n]
    if kind < 12 or len(content) != n:
        raise ValueError("no such value")
    return content.decode() if kind % 2 else content, at + n


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        byte = content[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | content[at + 8], at + 9
