"""The journal of a set: every edit on disk, in order, for good, before anybody is told it is saved.

An SQLite file. Entries are only ever added (the file itself refuses anything else) and carry a
checksum. Each says what was done and what takes it back, so that undo, redo and going back to an
earlier moment need nothing but the journal. With snapshots of all labels (the first is of the
labels as they were before any edit), the journal alone knows the labels at every moment.

Source of the durability: SQLite's write-ahead log with ``synchronous=FULL`` calls fsync on every
commit (https://www.sqlite.org/pragma.html#pragma_synchronous). Where the disk has no shared memory
for it (network disks), SQLite keeps its rollback journal, and ``synchronous=EXTRA`` does the same.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_annotator.labels import Labels
from dpk_core.errors import FileFormatError, OutputError
from dpk_core.skeleton import Skeleton

FORMAT_VERSION = 1
EDIT, SKELETON, GROW = "edit", "skeleton", "grow"
"""Kinds of entries: one image, the skeleton, images added to the set."""

_BUSY_SECONDS = 30.0
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
_CHECKED = ("seq", "time", "client", "kind", "row", "batch", "undoes", "redoes", "skeleton")
_COLUMNS = (
    "seq, time, client, kind, row, edit, inverse, parts, "
    "batch, undoes, redoes, skeleton, token, crc"
)


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


class Journal:
    """An open journal; every call is made with the caller's lock held.

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

    # -- opening and making -----------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path) -> Journal | None:
        """The journal at ``path``; None when there is none, or when one was only begun.

        Raises
        ------
        JournalDamagedError, OutputError
        """
        if not path.exists():
            return None
        with _errors(path):
            database = _connect(path)
        try:
            with _errors(path):
                return cls._opened(path, database)
        except BaseException:
            database.close()
            raise

    @classmethod
    def create(cls, path: Path, meta: dict[str, str], labels: Labels) -> Journal:
        """Begin one with the labels as they are; or open the one that another made meanwhile."""
        with _errors(path):
            database = _connect(path)
        try:
            with _errors(path):
                _make_durable(database)
                database.execute("BEGIN IMMEDIATE")
                if not _tables(database):
                    _begin(database, meta, labels)
                database.execute("COMMIT")
                journal = cls._opened(path, database)
        except BaseException:
            database.close()
            raise
        if journal is None:
            raise JournalDamagedError(f"{path} is not a journal of labels")
        return journal

    @classmethod
    def _opened(cls, path: Path, database: sqlite3.Connection) -> Journal | None:
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

    # -- writing ----------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block is on disk at its end, or none of it; other processes wait."""
        with _errors(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def append(self, entry: Entry) -> None:
        """Add an entry, the next one, within a transaction."""
        texts = [_dump(entry.edit), _dump(entry.inverse), _dump(entry.parts)]
        row = [*attrs.astuple(entry, recurse=False)]
        row[5:8] = texts
        self._database.execute(
            f"INSERT INTO entries ({_COLUMNS}) VALUES ({', '.join('?' * 14)})",
            (*row, _checksum(entry, texts)),
        )

    def add_skeleton(self, version: SkeletonVersion) -> None:
        """Note the skeleton that an entry made."""
        self._database.execute(
            "INSERT INTO skeletons VALUES (?, ?, ?)",
            (version.seq, _dump(version.skeleton.to_rows()), _dump(version.identities)),
        )

    def add_snapshot(self, seq: int, labels: Labels) -> None:
        """Keep all labels as they are after an entry, so that less has to be replayed."""
        self._database.execute(
            "INSERT OR IGNORE INTO snapshots VALUES (?, ?)", (seq, labels.to_bytes())
        )

    def set_meta(self, key: str, value: str) -> None:
        """Change one of the things known of the set."""
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        self.meta[key] = value

    def stored_meta(self, key: str) -> str | None:
        """One of the things known of the set, as another process may have changed it."""
        found = self._all("SELECT value FROM meta WHERE key = ?", [key])
        return str(found[0][0]) if found else None

    def note_written(self, base: int, fingerprint: str, seq: int) -> None:
        """Note that a file stamped ``base`` with these labels holds nothing new after ``seq``."""
        self._database.execute(
            "INSERT INTO written (base, fingerprint, seq, time) VALUES (?, ?, ?, ?)",
            (base, fingerprint, seq, time.time()),
        )

    def put_guesses(
        self, rows: Any, names: tuple[str, ...], keypoints: Any, scores: Any, model: str
    ) -> None:
        """Keep a model's keypoints, float32 (m, k, 2) and (m, k), over older ones."""
        text = _dump(names)
        self._database.executemany(
            "INSERT OR REPLACE INTO guesses VALUES (?, ?, ?, ?, ?)",
            (
                (int(row), text, points.tobytes(), score.tobytes(), model)
                for row, points, score in zip(rows, keypoints, scores, strict=True)
            ),
        )

    def drop_guesses(self) -> None:
        """Forget all guesses."""
        self._database.execute("DELETE FROM guesses")

    # -- reading ----------------------------------------------------------------------------------

    def data_version(self) -> int:
        """A number that changes when another process has written."""
        return int(self._one("PRAGMA data_version")[0])

    def last_seq(self) -> int:
        """Number of the last entry, 0 when there is none."""
        return int(self._one("SELECT COALESCE(MAX(seq), 0) FROM entries")[0])

    def last_time(self) -> float:
        """When the last entry was made."""
        return float(
            self._one("SELECT COALESCE((SELECT time FROM entries ORDER BY seq DESC LIMIT 1), 0)")[0]
        )

    def entries(
        self,
        after: int = 0,
        upto: int | None = None,
        *,
        row: int | None = None,
        batch: int | None = None,
        kind: str | None = None,
        last: int | None = None,
    ) -> list[Entry]:
        """Entries with numbers above ``after`` up to ``upto``, in order; ``last`` only so many."""
        conditions, values = ["seq > ?"], [after]
        for test, value in (
            ("seq <= ?", upto),
            ("row = ?", row),
            ("batch = ?", batch),
            ("kind = ?", kind),
        ):
            if value is not None:
                conditions.append(test)
                values.append(value)  # type: ignore[arg-type]
        where = " AND ".join(conditions)
        query = f"SELECT {_COLUMNS} FROM entries WHERE {where} ORDER BY seq"
        if last is not None:
            query += f" DESC LIMIT {int(last)}"
        found = [self._entry(stored) for stored in self._all(query, values)]
        return found if last is None else found[::-1]

    def each(self, after: int, upto: int | None = None, step: int = 2000) -> Iterator[Entry]:
        """The same in pieces, for many."""
        while found := self.entries(
            after, after + step if upto is None else min(upto, after + step)
        ):
            yield from found
            after = found[-1].seq

    def batches_of(self, client: str) -> list[tuple[int, int | None, int | None]]:
        """(batch, undoes, redoes) of what a client did, in order."""
        query = (
            "SELECT batch, undoes, redoes FROM entries WHERE client = ? AND seq = batch "
            "ORDER BY seq"
        )
        return self._all(query, [client])

    def clients(self) -> list[tuple[str, int, float]]:
        """(client, number of entries, time of the last one), the latest first."""
        query = (
            "SELECT client, COUNT(*), MAX(time) FROM entries GROUP BY client ORDER BY MAX(seq) DESC"
        )
        return self._all(query, [])

    def row_revisions(self) -> dict[int, int]:
        """For each image that was edited, the number of the last entry."""
        query = "SELECT row, MAX(seq) FROM entries WHERE row IS NOT NULL GROUP BY row"
        return dict(self._all(query, []))

    def by_token(self, client: str, token: str) -> int | None:
        """The batch that a client gave this token to, None when there is none."""
        found = self._all(
            "SELECT batch FROM entries WHERE client = ? AND token = ?", [client, token]
        )
        return int(found[0][0]) if found else None

    def pauses(self, seconds: float, last: int) -> list[tuple[int, float]]:
        """(seq, time) of the last entries before ``seconds`` without any, the latest first."""
        query = (
            "SELECT seq, time FROM (SELECT seq, time, LEAD(time) OVER (ORDER BY seq) AS next "
            "FROM entries) WHERE next - time > ? ORDER BY seq DESC LIMIT ?"
        )
        return self._all(query, [seconds, last])

    def seq_at(self, moment: float) -> int:
        """Number of the last entry that was made up to a moment (seconds since 1970)."""
        query = "SELECT COALESCE(MAX(seq), 0) FROM entries WHERE time <= ?"
        return int(self._all(query, [moment])[0][0])

    def skeleton_at(self, seq: int | None = None) -> SkeletonVersion:
        """The skeleton after an entry, by default the last."""
        found = self._all(
            "SELECT seq, rows, identities FROM skeletons WHERE seq <= ? ORDER BY seq DESC LIMIT 1",
            [2**62 if seq is None else seq],
        )
        with self._damage("its skeletons"):
            number, rows, identities = found[0]
            skeleton = Skeleton.from_rows([tuple(row) for row in json.loads(rows)])
            return SkeletonVersion(number, skeleton, tuple(json.loads(identities)))

    def next_identity(self) -> int:
        """A number that no keypoint has had."""
        found = self._all("SELECT identities FROM skeletons", [])
        with self._damage("its skeletons"):
            return 1 + max(max(json.loads(text)) for (text,) in found)

    def snapshot(self, upto: int) -> tuple[int, Labels]:
        """The latest snapshot that is not after an entry, and the number it was made at."""
        found = self._all(
            "SELECT seq, labels FROM snapshots WHERE seq <= ? ORDER BY seq DESC LIMIT 1", [upto]
        )
        with self._damage("its snapshots"):
            seq, content = found[0]
            return int(seq), Labels.from_bytes(content)

    def last_snapshot_seq(self) -> int:
        """Number of the entry after which the last snapshot was made."""
        return int(self._one("SELECT COALESCE(MAX(seq), 0) FROM snapshots")[0])

    def written_up_to(self, base: int, fingerprint: str) -> int | None:
        """The number noted with `note_written`, None when it was not."""
        query = "SELECT MAX(seq) FROM written WHERE base = ? AND fingerprint = ?"
        found = self._all(query, [base, fingerprint])[0][0]
        return None if found is None else int(found)

    def last_written(self) -> int:
        """Up to which entry the set's file was brought up to date last."""
        return int(self._one("SELECT COALESCE(MAX(base), 0) FROM written")[0])

    def base_of(self, fingerprint: str) -> int | None:
        """The last stamp under which these labels were written, for a file without a stamp."""
        query = "SELECT MAX(base) FROM written WHERE fingerprint = ?"
        found = self._all(query, [fingerprint])[0][0]
        return None if found is None else int(found)

    def guesses(self) -> Iterator[tuple[int, tuple[str, ...], np.ndarray, np.ndarray, str]]:
        """(row, names, keypoints (k, 2), scores (k,), model) of each image that has some."""
        for row, names, keypoints, scores, model in self._all("SELECT * FROM guesses", []):
            with self._damage("its guesses"):
                known = tuple(json.loads(names))
                points = np.frombuffer(keypoints, np.float32).reshape(len(known), 2)
                yield row, known, points, np.frombuffer(scores, np.float32), model

    # -- small parts ------------------------------------------------------------------------------

    def _one(self, query: str) -> Any:
        return self._all(query, [])[0]

    def _all(self, query: str, values: list[Any]) -> list[Any]:
        with _errors(self.path):
            return self._database.execute(query, values).fetchall()

    def _entry(self, stored: tuple[Any, ...]) -> Entry:
        with self._damage(f"its entry {stored[0]}"):
            texts = list(stored[5:8])
            edit, inverse, parts = (json.loads(text) for text in texts)
            values: list[Any] = [*stored[:5], edit, inverse, tuple(parts), *stored[8:13]]
            entry = Entry(*values)
            if _checksum(entry, texts) != stored[13]:
                raise ValueError("the checksum does not fit")
        return entry

    @contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, IndexError, TypeError, OSError, EOFError) as error:
            raise JournalDamagedError(f"{self.path}: {what} cannot be read ({error})") from error


def salvage(path: Path, after: int, keep: Callable[[Entry], None]) -> None:
    """Hand on the entries of a damaged journal after a number, as far as they can be read."""
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return
    journal = Journal(path, database, {})
    try:
        for stored in database.execute(
            f"SELECT {_COLUMNS} FROM entries WHERE seq > ? ORDER BY seq", (after,)
        ):
            entry = journal._entry(stored)
            if entry.seq != after + 1:
                return
            keep(entry)
            after = entry.seq
    except (sqlite3.Error, JournalDamagedError):
        return  # the rest is beyond reading; the file is kept
    finally:
        database.close()


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


def _begin(database: sqlite3.Connection, meta: dict[str, str], labels: Labels) -> None:
    for statement in _statements(_SCHEMA):
        database.execute(statement)
    known = {"format": str(FORMAT_VERSION), "created": str(time.time())} | meta
    database.executemany("INSERT INTO meta VALUES (?, ?)", known.items())
    database.execute(
        "INSERT INTO skeletons VALUES (0, ?, ?)",
        (_dump(labels.skeleton.to_rows()), _dump(list(range(len(labels.skeleton))))),
    )
    database.execute("INSERT INTO snapshots VALUES (0, ?)", (labels.to_bytes(),))
    database.execute(
        "INSERT INTO written (base, fingerprint, seq, time) VALUES (0, ?, 0, ?)",
        (labels.fingerprint(), time.time()),
    )


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
        raise OutputError(
            f"cannot write the journal {path} ({error}); the edit is not saved. Is the disk full "
            "or read-only, or is another program holding the file?"
        ) from error
    except sqlite3.DatabaseError as error:
        raise JournalDamagedError(f"{path} is damaged ({error})") from error


def _checksum(entry: Entry, texts: list[str]) -> int:
    known = [getattr(entry, name) for name in _CHECKED]
    return zlib.crc32("\n".join([repr(known), *texts]).encode())


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
