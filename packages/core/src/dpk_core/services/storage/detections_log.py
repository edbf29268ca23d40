"""Detections of a running job, kept frame by frame: what a kill must not lose.

SQLite in its write-ahead mode: whatever happens, the file holds all frames that were committed.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import FileFormatError, OutputError

_COLUMNS = ("x", "y", "width", "height", "angle", "score", "id")
_COMMIT_EVERY = 32
"""Frames; a kill loses at most so many."""


class DetectionsLog:
    """Detections by frame number; a context manager.

    Parameters
    ----------
    path
        Made when it is not there. One of another job, or damaged, is begun anew.
    job
        All that decides what is detected, as JSON values.

    Raises
    ------
    OutputError
        When the file cannot be written; one that is there stays as it is.
    FileFormatError
        When it turns out on the way that it is damaged.
    """

    def __init__(self, path: Path, job: dict[str, Any]) -> None:
        self.path = path
        self._job = json.dumps(job, sort_keys=True)
        self._waiting = 0
        try:
            self._open()
        except sqlite3.DatabaseError:  # no database, or a damaged one
            self.remove()
            self._open()
        if self._stored_job() != self._job:
            self.remove()
            self._open()

    def get(self, number: int) -> Detections | None:
        """What was found in a frame, None when it was not looked at yet."""
        with self._errors():
            row = self._database.execute(
                "SELECT rows, keypoints, k FROM frames WHERE number = ?", (number,)
            ).fetchone()
        if row is None:
            return None
        values = np.frombuffer(row[0], np.float64).reshape(-1, len(_COLUMNS))
        columns: dict[str, Any] = dict(zip(_COLUMNS, values.T, strict=True))
        columns["id"] = columns["id"].astype(np.int64)
        keypoints = (
            None
            if row[1] is None
            else np.frombuffer(row[1], np.float32).reshape(len(values), row[2], 2)
        )
        return Detections(**columns, keypoints=keypoints)

    def put(self, number: int, detections: Detections) -> None:
        """Keep what was found in a frame."""
        rows = np.stack([getattr(detections, name) for name in _COLUMNS], axis=1)
        keypoints = detections.keypoints
        with self._errors():
            self._database.execute(
                "INSERT OR REPLACE INTO frames VALUES (?, ?, ?, ?)",
                (
                    number,
                    rows.astype(np.float64).tobytes(),
                    None if keypoints is None else keypoints.astype(np.float32).tobytes(),
                    0 if keypoints is None else keypoints.shape[1],
                ),
            )
            self._waiting += 1
            if self._waiting >= _COMMIT_EVERY:
                self.commit()

    def commit(self) -> None:
        """From now on a kill cannot lose what was put."""
        with self._errors():
            self._database.commit()
        self._waiting = 0

    def __len__(self) -> int:
        with self._errors():
            return int(self._database.execute("SELECT COUNT(*) FROM frames").fetchone()[0])

    def remove(self) -> None:
        """Delete the file: the job is done."""
        self._database.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Commit and close; a log of nothing is removed."""
        self.commit()
        if len(self):
            self._database.close()
        else:
            self.remove()

    def __enter__(self) -> DetectionsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.path.exists():
            self.close()

    def _open(self) -> None:
        with self._errors(begin_anew=True):
            self._connect()

    def _connect(self) -> None:
        self._database = sqlite3.connect(self.path)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS job (text TEXT)")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS frames "
            "(number INTEGER PRIMARY KEY, rows BLOB, keypoints BLOB, k INTEGER)"
        )
        if self._stored_job() is None:
            self._database.execute("INSERT INTO job VALUES (?)", (self._job,))
        self._database.commit()

    def _stored_job(self) -> str | None:
        row = self._database.execute("SELECT text FROM job").fetchone()
        return None if row is None else str(row[0])

    def _errors(self, begin_anew: bool = False) -> _Faults:
        return _Faults(self.path, begin_anew)


class _Faults:
    """Turns SQLite's refusals, and damage unless the log begins anew, into errors of ours."""

    def __init__(self, path: Path, begin_anew: bool) -> None:
        self._path = path
        self._begin_anew = begin_anew

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, sqlite3.OperationalError):
            raise OutputError(
                f"cannot write {self._path} ({error}); is the disk full or read-only?"
            ) from error
        if isinstance(error, sqlite3.DatabaseError) and not self._begin_anew:
            raise FileFormatError(
                f"{self._path}, which keeps what was detected, is damaged ({error}); delete it, "
                "and the same command begins anew"
            ) from error
