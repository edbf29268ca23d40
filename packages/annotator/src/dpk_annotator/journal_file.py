"""The journal's SQLite file: its tables, how it is opened and begun, and when it is on disk.

Source of the durability: SQLite's write-ahead log with ``synchronous=FULL`` calls fsync on every
commit (https://www.sqlite.org/pragma.html#pragma_synchronous). Where the disk has no shared memory
for it (network disks), SQLite keeps its rollback journal, and ``synchronous=EXTRA`` does the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpk_annotator.entries import JournalDamagedError
from dpk_annotator.journal_rescue import leave, moved_to, place_of, put_back
from dpk_annotator.raw_entries import LOG, log_is_broken
from dpk_core.errors import OutputError

if TYPE_CHECKING:
    from typing_extensions import Self

FORMAT_VERSION = 1
_BUSY_SECONDS = 30.0
_SIGNS_OF_DAMAGE = ("Could not decode to UTF-8", "no such", "malformed")
"""How errors begin that SQLite takes for the caller's, though the file is at fault."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, time REAL NOT NULL, client TEXT NOT NULL, kind TEXT NOT NULL,
    row INTEGER, edit TEXT NOT NULL, inverse TEXT NOT NULL, parts TEXT NOT NULL,
    batch INTEGER NOT NULL, undoes INTEGER, redoes INTEGER, skeleton INTEGER NOT NULL,
    token TEXT, crc INTEGER NOT NULL
);
CREATE INDEX entries_row ON entries (row, seq);
CREATE INDEX entries_client ON entries (client, seq);
CREATE INDEX entries_kind ON entries (kind, seq) WHERE kind != 'edit';
CREATE UNIQUE INDEX entries_token ON entries (client, token) WHERE token IS NOT NULL;
CREATE TRIGGER entries_stay BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries of a journal are never changed'); END;
CREATE TRIGGER entries_remain BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries of a journal are never deleted'); END;
CREATE TABLE skeletons (seq INTEGER PRIMARY KEY, rows TEXT NOT NULL, identities TEXT NOT NULL);
CREATE TABLE snapshots (seq INTEGER PRIMARY KEY, labels BLOB NOT NULL);
CREATE TABLE written (
    id INTEGER PRIMARY KEY, base INTEGER NOT NULL, fingerprint TEXT NOT NULL,
    seq INTEGER NOT NULL, time REAL NOT NULL
);
CREATE TABLE guesses (
    row INTEGER PRIMARY KEY, names TEXT NOT NULL, keypoints BLOB NOT NULL, scores BLOB NOT NULL,
    model TEXT NOT NULL
);
"""


class JournalFile:
    """An open file with the tables of a journal; every call is made with the caller's lock held.

    Raises
    ------
    JournalDamagedError
        When what is in it cannot be.
    OutputError
        When it cannot be written.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, meta: dict[str, str]) -> None:
        self.path = path
        self._database = database
        self.meta = meta
        self.was_put_back = False
        self._place = place_of(path)

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """The journal at ``path``; None when there is none, or when one was only begun.

        Raises
        ------
        JournalDamagedError, OutputError
        """
        if not path.exists():
            return None
        if log_is_broken(path):  # SQLite would drop what is behind that place, and say nothing
            raise JournalDamagedError(f"{path.name}{LOG} is damaged")
        with _errors(path):
            database = _connect(path)
        try:
            with _errors(path):
                return cls._opened(path, database)
        except BaseException:
            database.close()
            raise

    @classmethod
    def _begun(cls, path: Path, fill: Callable[[Self], None]) -> Self:
        """One with empty tables that ``fill`` fills; or the one that another made meanwhile."""
        with _errors(path):
            database = _connect(path)
        try:
            with _errors(path):
                _make_durable(database)
                database.execute("BEGIN IMMEDIATE")
                if not _tables(database):
                    for statement in _statements(_SCHEMA):
                        database.execute(statement)
                    fill(cls(path, database, {}))
                database.execute("COMMIT")
                journal = cls._opened(path, database)
        except BaseException:
            database.close()
            raise
        if journal is None:
            raise JournalDamagedError(f"{path} is not a journal of labels")
        return journal

    @classmethod
    def _opened(cls, path: Path, database: sqlite3.Connection) -> Self | None:
        tables = _tables(database)
        if not tables:
            return None
        if not {"meta", "entries", "written"} <= tables:
            raise JournalDamagedError(f"{path} is not a journal of labels")
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise JournalDamagedError(f"{path} is damaged ({found})")
        meta = dict(database.execute("SELECT key, value FROM meta"))
        version = meta.get("format", "")
        if not version.isdigit() or "set_id" not in meta:
            raise JournalDamagedError(f"{path} is not a journal of labels")
        if int(version) > FORMAT_VERSION:
            raise OutputError(
                f"{path} was written by a newer dpk-annotator; update with: "
                "python -m pip install -U dpk-annotator"
            )
        _make_durable(database)
        return cls(path, database, meta)

    def close(self) -> None:
        """Close it; the last to do so leaves one file."""
        with suppress(sqlite3.Error):
            self._database.close()

    @property
    def set_id(self) -> str:
        """Name of the set that it belongs to, unlike any other."""
        return self.meta["set_id"]

    @property
    def name(self) -> str:
        """What browsers know the set by; they knew it by that before there was a journal."""
        return self.meta.get("name", self.set_id)

    def data_version(self) -> int:
        """A number that changes when another process has written."""
        return int(self._one("PRAGMA data_version")[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block is on disk at its end, or none of it; other processes wait."""
        with _errors(self.path):
            self._stay_in_place()
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    # -- small parts ------------------------------------------------------------------------------

    def _stay_in_place(self) -> None:
        """Be where the path leads: SQLite goes on writing into a file that somebody has removed."""
        now = place_of(self.path)
        if now == self._place or (now[0] == self._place[0] and self._place[1] is None):
            self._place = now
            return
        if now[0] != self._place[0] and (moved := moved_to(self.path, self._place)) is not None:
            self.path, self._place = moved, place_of(moved)  # with a set that was renamed
            return
        if now[0] in (None, self._place[0]):
            put_back(self._database, self.path, instead=now[0])
        # Where several processes find it gone, the first puts it back, and the others open that.
        database = _connect(self.path)
        try:
            journal = type(self)._opened(self.path, database)
            if journal is None or journal.set_id != self.set_id or journal._is_behind(self):
                raise OutputError(
                    f"the journal {self.path} was replaced by another one; nothing is saved. Put "
                    "it back, or close this and open it anew"
                )
        except BaseException:
            database.close()
            raise
        leave(self._database)
        self._database, self._place, self.was_put_back = database, place_of(self.path), True

    def _is_behind(self, other: JournalFile) -> bool:
        query = "SELECT COALESCE(MAX(seq), 0) FROM entries"
        return int(self._one(query)[0]) < int(other._one(query)[0])

    def _one(self, query: str) -> Any:
        return self._all(query, [])[0]

    def _all(self, query: str, values: list[Any]) -> list[Any]:
        with _errors(self.path):
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, IndexError, TypeError, OSError, EOFError) as error:
            raise JournalDamagedError(f"{self.path}: {what} cannot be read ({error})") from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _make_durable(database: sqlite3.Connection) -> None:
    """Every commit is on the disk when it returns, and readers don't wait for writers."""
    mode = ""
    with suppress(sqlite3.OperationalError):
        mode = database.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    database.execute(f"PRAGMA synchronous={'FULL' if mode == 'wal' else 'EXTRA'}")


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master")}


def _statements(script: str) -> Iterator[str]:
    """The statements one by one, for `executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, which name the file and say what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if str(error).startswith(_SIGNS_OF_DAMAGE):
            raise JournalDamagedError(f"{path} is damaged ({error})") from error
        raise OutputError(
            f"cannot write the journal {path} ({error}); the edit is not saved. Is the disk full "
            "or read-only, or is another program holding the file?"
        ) from error
    except sqlite3.DatabaseError as error:
        raise JournalDamagedError(f"{path} is damaged ({error})") from error
