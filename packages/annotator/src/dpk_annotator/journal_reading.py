"""What a journal tells: entries, skeletons, snapshots, what stands in the file, guesses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from dpk_annotator.entries import COLUMNS, Entry, SkeletonVersion, entry_of
from dpk_annotator.journal_file import JournalFile
from dpk_annotator.labels import Labels
from dpk_core.skeleton import Skeleton


class JournalReading(JournalFile):
    """The questions that a journal answers; nothing is changed by them."""

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
        query = f"SELECT {COLUMNS} FROM entries WHERE {where} ORDER BY seq"
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
            return _version_of(found[0])

    def skeletons(self) -> list[SkeletonVersion]:
        """Every skeleton that the set has had, the first one first."""
        found = self._all("SELECT seq, rows, identities FROM skeletons ORDER BY seq", [])
        with self._damage("its skeletons"):
            return [_version_of(stored) for stored in found]

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

    def _entry(self, stored: tuple[Any, ...]) -> Entry:
        with self._damage(f"its entry {stored[0]}"):
            return entry_of(stored)


def _version_of(stored: tuple[Any, ...]) -> SkeletonVersion:
    number, rows, identities = stored
    skeleton = Skeleton.from_rows([tuple(row) for row in json.loads(rows)])
    return SkeletonVersion(number, skeleton, tuple(json.loads(identities)))
