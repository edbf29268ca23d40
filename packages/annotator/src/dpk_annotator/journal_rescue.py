"""A journal whose file was removed while it was open: put back, as long as somebody has it open.

On systems that let an open file be removed, SQLite notices nothing: every edit would be written,
and gone with the process. What it has open holds all entries, and can be copied.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from dpk_annotator.raw_entries import LOG
from dpk_core.errors import OutputExistsError
from dpk_core.services.storage.atomic import atomic_path

Place = tuple[int | None, int | None]
"""Numbers of a journal's file and of its log, None for one that is not there."""

_left: list[sqlite3.Connection] = []


def place_of(path: Path) -> Place:
    """Which files a journal's path leads to now."""
    name = os.fspath(path)  # asked for with every edit, for which paths take long
    return _number(name), _number(name + LOG)


def moved_to(path: Path, place: Place) -> Path | None:
    """Where a journal is now that was moved within its folder; None when it is not there."""
    for other in path.parent.glob("*.journal*"):
        if place[0] is not None and _number(other) == place[0]:
            return other
    return None


def put_back(database: sqlite3.Connection, path: Path, *, instead: int | None) -> None:
    """Write all that a connection knows to where its file was, whole or not at all.

    ``instead`` is the number of the file that may be replaced, None when there is none: nothing is
    done when another process was quicker.

    Raises
    ------
    OutputError
    """
    with suppress(OutputExistsError), atomic_path(path, overwrite=instead is not None) as temporary:
        copy = sqlite3.connect(temporary)
        try:
            database.backup(copy)
        finally:
            copy.close()
        if _number(path) != instead:
            raise OutputExistsError(f"{path} was put back")
        # What is left of the one that was removed would be taken for the log of the new one.
        for side in (LOG, "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + side).unlink()


def leave(database: sqlite3.Connection) -> None:
    """Use a connection no more, without closing it: that would remove the log of the new file.

    Source: sqlite3WalClose deletes the log by its name, which another file has now.
    """
    _left.append(database)


def _number(path: Path | str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
