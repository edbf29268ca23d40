"""The journal of a set: every edit on disk, in order, for good, before anybody is told it is saved.

An SQLite file. Entries are only ever added (the file itself refuses anything else) and carry a
checksum. Each says what was done and what takes it back, so that undo, redo and going back to an
earlier moment need nothing but the journal. With snapshots of all labels (the first is of the
labels as they were before any edit), the journal alone knows the labels at every moment.

The file is `journal_file`'s subject, an entry `entries`', what is read back `journal_reading`'s;
what is written is here. Of a damaged one, `salvage` reads what can be read.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpk_annotator.entries import COLUMNS, Entry, SkeletonVersion, dump, stored_entry
from dpk_annotator.journal_file import FORMAT_VERSION
from dpk_annotator.journal_reading import JournalReading
from dpk_annotator.labels import Labels

if TYPE_CHECKING:
    from typing_extensions import Self


class Journal(JournalReading):
    """An open journal; what is written stands within a `transaction`."""

    @classmethod
    def create(cls, path: Path, meta: dict[str, str], labels: Labels) -> Self:
        """Begin one with the labels as they are; or open the one that another made meanwhile.

        Raises
        ------
        JournalDamagedError, OutputError
        """

        def fill(journal: Self) -> None:
            known = {"format": str(FORMAT_VERSION), "created": str(time.time())} | meta
            for key, value in known.items():
                journal.set_meta(key, value)
            numbers = tuple(range(len(labels.skeleton)))
            journal.add_skeleton(SkeletonVersion(0, labels.skeleton, numbers))
            journal.add_snapshot(0, labels)
            journal.note_written(0, labels.fingerprint(), 0)

        return cls._begun(path, fill)

    def append(self, entry: Entry) -> None:
        """Add an entry, the next one."""
        row = stored_entry(entry)
        marks = ", ".join("?" * len(row))
        self._database.execute(f"INSERT INTO entries ({COLUMNS}) VALUES ({marks})", row)

    def add_skeleton(self, version: SkeletonVersion) -> None:
        """Note the skeleton that an entry made."""
        self._database.execute(
            "INSERT INTO skeletons VALUES (?, ?, ?)",
            (version.seq, dump(version.skeleton.to_rows()), dump(version.identities)),
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
        text = dump(names)
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
