"""What a damaged journal still tells."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from dpk_annotator.entries import COLUMNS, Entry, JournalDamagedError, entry_of


def salvage(path: Path, after: int, keep: Callable[[Entry], None]) -> None:
    """Hand on the entries of a damaged journal after a number, as far as they can be read."""
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return
    try:
        for stored in database.execute(
            f"SELECT {COLUMNS} FROM entries WHERE seq > ? ORDER BY seq", (after,)
        ):
            entry = entry_of(stored)
            if entry.seq != after + 1:
                return
            keep(entry)
            after = entry.seq
    except (sqlite3.Error, JournalDamagedError, ValueError, TypeError):
        return  # the rest is beyond reading; the file is kept
    finally:
        database.close()
