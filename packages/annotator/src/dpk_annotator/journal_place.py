"""Where the journal of a set lives, and how it is found again.

Beside the file, as ``labels.h5.journal``: visible, so that whoever moves or copies the set with
``labels.h5*`` takes it along. A set that was renamed in its folder is found by the name that the
store gave it and stamped into the file. Where the folder cannot be written, the journal lives in
the user's own data folder (``$DPK_JOURNALS`` names another).

Moving the file alone loses no label, for the store brings it up to date before it is closed; what
stays behind is undo and the history.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from dpk_annotator.journal import Journal
from dpk_core.errors import DpkError

SUFFIX = ".journal"
JOURNALS_VARIABLE = "DPK_JOURNALS"
_SIDES = ("", "-wal", "-shm")


def journal_beside(path: Path) -> Path:
    """The journal of a set whose folder can be written."""
    return path.with_name(path.name + SUFFIX)


def journal_at_home(path: Path) -> Path:
    """The journal of a set whose folder cannot."""
    folder = os.environ.get(JOURNALS_VARIABLE)
    if not folder:
        import platformdirs

        folder = os.path.join(platformdirs.user_data_dir("dpk", appauthor=False), "journals")
    digest = hashlib.blake2b(os.fsencode(os.path.abspath(path)), digest_size=8).hexdigest()
    return Path(folder) / f"{digest}-{path.name[:80]}{SUFFIX}"


def place_for(path: Path) -> Path:
    """Where the journal is, or would be begun."""
    beside, home = journal_beside(path), journal_at_home(path)
    for place in (beside, home):
        if place.exists():
            return place
    return beside if os.access(path.parent, os.W_OK) else home


def adopt(path: Path, set_id: str) -> Path | None:
    """Give the set back the journal that it had under another name in the same folder.

    Only when no file of that other name is there: else this file is a copy of it, and begins a
    journal of its own. None when there is nothing to adopt.
    """
    with suppress(OSError):
        for other in sorted(path.parent.glob(f"*{SUFFIX}")):
            if other.with_name(other.name[: -len(SUFFIX)]).exists():
                continue
            try:
                journal = Journal.open(other)
            except DpkError:
                continue
            if journal is None:
                continue
            found = journal.set_id
            journal.close()
            if found == set_id:
                place = journal_beside(path)
                _move(other, place)
                return place
    return None


def put_aside(place: Path, why: str) -> Path:
    """Move a journal out of the way, for good, under a name that says why and when."""
    moment = time.strftime("%Y%m%d-%H%M%S")
    for i in range(1000):
        aside = place.with_name(f"{place.name}.{why}-{moment}{f'-{i}' if i else ''}")
        if not aside.exists():
            break
    _move(place, aside)
    return aside


def _move(old: Path, new: Path) -> None:
    # What SQLite has not yet put into the journal itself goes first: without it, it is incomplete.
    for side in reversed(_SIDES):
        with suppress(FileNotFoundError):
            os.replace(old.with_name(old.name + side), new.with_name(new.name + side))
