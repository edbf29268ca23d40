"""The journal: on disk before anybody is told, never changed, and damage is found."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import attrs
import numpy as np
import pytest

from dpk_annotator.edits import MoveKeypoint, Patch
from dpk_annotator.entries import EDIT, Entry, JournalDamagedError
from dpk_annotator.journal import Journal
from dpk_annotator.labels import Labels
from dpk_core.annotations import AnnotationSet
from dpk_core.errors import OutputError


@pytest.fixture
def labels(annotations: AnnotationSet) -> Labels:
    return Labels.of(annotations)


@pytest.fixture
def journal(tmp_path: Path, labels: Labels):
    journal = Journal.create(tmp_path / "labels.h5.journal", {"set_id": "a set"}, labels)
    yield journal
    journal.close()


def entry(seq: int, **fields: object) -> Entry:
    edit = MoveKeypoint("head", float(seq), 2.5)
    values = {
        "seq": seq, "time": 100.0 + seq, "client": "me", "kind": EDIT, "row": seq % 3,
        "edit": edit.to_json(), "inverse": Patch().to_json(), "parts": (".head",), "batch": seq,
    }  # fmt: skip
    return Entry(**(values | fields))


def write(journal: Journal, *entries: Entry) -> None:
    with journal.transaction():
        for one in entries:
            journal.append(one)


def test_what_was_written_is_read_by_another_connection(journal: Journal) -> None:
    written = [entry(1), entry(2, token="t", undoes=1), entry(3, row=None, kind="grow")]
    write(journal, *written)
    other = Journal.open(journal.path)
    assert other is not None
    assert other.entries() == written
    assert other.entries(1, 2) == written[1:2]
    assert other.entries(row=1) == written[:1]
    assert other.entries(last=1) == written[2:]
    assert list(other.each(0, step=1)) == written
    assert (other.last_seq(), other.last_time(), other.set_id) == (3, 103.0, "a set")
    assert other.by_token("me", "t") == 2
    assert other.by_token("you", "t") is None
    other.close()


def test_a_transaction_is_whole_or_not_at_all(journal: Journal) -> None:
    def fail() -> None:
        with journal.transaction():
            journal.append(entry(1))
            raise RuntimeError("the power goes")

    with pytest.raises(RuntimeError):
        fail()
    assert journal.last_seq() == 0


def test_every_commit_reaches_the_disk_before_it_returns(journal: Journal) -> None:
    """SQLite's own settings for it: a write-ahead log that is synchronised on each commit."""
    mode = journal._database.execute("PRAGMA journal_mode").fetchone()[0]
    assert mode == "wal"
    assert journal._database.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_an_entry_is_there_without_closing(tmp_path: Path, journal: Journal) -> None:
    """As after a crash: the files as they lie on the disk, copied while the journal is open."""
    write(journal, entry(1))
    (tmp_path / "crashed").mkdir()
    for file in tmp_path.glob("labels.h5.journal*"):
        shutil.copy(file, tmp_path / "crashed" / file.name)
    other = Journal.open(tmp_path / "crashed" / "labels.h5.journal")
    assert other is not None
    assert other.entries() == [entry(1)]
    other.close()


@pytest.mark.parametrize("statement", ["UPDATE entries SET client = 'x'", "DELETE FROM entries"])
def test_the_file_itself_refuses_to_change_entries(journal: Journal, statement: str) -> None:
    write(journal, entry(1))
    with pytest.raises(sqlite3.DatabaseError, match="never"):
        journal._database.execute(statement)


@pytest.mark.parametrize(
    ("column", "value"),
    [("edit", '\'{"kind":"reset"}\''), ("client", "'you'"), ("row", "5"), ("crc", "1"),
     ("inverse", "'{}'"), ("time", "7.0"), ("edit", "'not JSON'")],
)  # fmt: skip
def test_a_changed_entry_is_found_by_its_checksum(
    journal: Journal, column: str, value: str
) -> None:
    write(journal, entry(1), entry(2))
    journal._database.execute("DROP TRIGGER entries_stay")
    journal._database.execute(f"UPDATE entries SET {column} = {value} WHERE seq = 2")
    with pytest.raises(JournalDamagedError, match="entry 2"):
        journal.entries()


def test_bytes_that_were_overwritten_are_found_on_opening(journal: Journal) -> None:
    write(journal, *(entry(seq) for seq in range(1, 300)))
    journal.close()
    content = bytearray(journal.path.read_bytes())
    content[4096 : len(content) // 2] = b"\xa5" * (len(content) // 2 - 4096)
    journal.path.write_bytes(content)
    with pytest.raises(JournalDamagedError, match=r"labels\.h5\.journal"):
        Journal.open(journal.path)


@pytest.mark.parametrize("content", [b"not a journal at all, but a longer text" * 200, b"PK\x03"])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.journal"
    path.write_bytes(content)
    with pytest.raises(JournalDamagedError):
        Journal.open(path)


def test_another_database_is_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "x.journal")
    database.execute("CREATE TABLE entries (x)")
    database.commit()
    database.close()
    with pytest.raises(JournalDamagedError, match="not a journal"):
        Journal.open(tmp_path / "x.journal")


def test_none_and_one_that_was_only_begun_are_none(tmp_path: Path) -> None:
    assert Journal.open(tmp_path / "x.journal") is None
    (tmp_path / "x.journal").touch()
    assert Journal.open(tmp_path / "x.journal") is None


def test_a_newer_one_is_left_alone(journal: Journal) -> None:
    with journal.transaction():
        journal.set_meta("format", "2")
    with pytest.raises(OutputError, match="newer dpk-annotator"):
        Journal.open(journal.path)


def test_two_that_begin_it_at_once_share_one(tmp_path: Path, journal: Journal, labels: Labels):
    write(journal, entry(1))
    second = Journal.create(journal.path, {"set_id": "another"}, labels)
    assert second.set_id == "a set"
    assert second.last_seq() == 1
    second.close()


def test_a_full_disk_is_an_error_and_loses_nothing(journal: Journal) -> None:
    write(journal, entry(1))
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count = {pages}")
    big = entry(2, edit={"kind": "note", "note": "x" * 100_000})
    with pytest.raises(OutputError, match="not saved"):
        write(journal, big)
    assert journal.entries() == [entry(1)]
    journal._database.execute(f"PRAGMA max_page_count = {pages + 1000}")
    write(journal, big)
    assert journal.last_seq() == 2


def test_snapshots_and_guesses_come_back(journal: Journal, labels: Labels) -> None:
    labels.notes[2] = "näher ansehen"
    points = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    points[1, 1] = np.nan
    scores = np.linspace(0, 1, 10, dtype=np.float32).reshape(2, 5)
    with journal.transaction():
        journal.add_snapshot(7, labels)
        journal.put_guesses([1, 4], labels.skeleton.names, points, scores, "net")
    seq, found = journal.snapshot(9)
    assert seq == 7
    assert found.same_as(labels)
    assert journal.snapshot(6)[0] == 0
    rows = list(journal.guesses())
    assert [row[0] for row in rows] == [1, 4]
    np.testing.assert_array_equal(rows[1][2], points[1])
    np.testing.assert_array_equal(rows[0][3], scores[0])


def test_which_state_a_file_holds_is_known_by_stamp_or_content(journal: Journal, labels: Labels):
    assert journal.base_of(labels.fingerprint()) == 0
    with journal.transaction():
        journal.note_written(5, "content", 8)
    assert journal.written_up_to(5, "content") == 8
    assert journal.written_up_to(4, "content") is None
    assert (journal.base_of("content"), journal.last_written()) == (5, 5)


def test_pauses_are_the_moments_to_go_back_to(journal: Journal) -> None:
    times = [100.0, 101.0, 5000.0, 5001.0, 9000.0]
    write(journal, *(attrs.evolve(entry(i + 1), time=t) for i, t in enumerate(times)))
    assert journal.pauses(1800, 10) == [(4, 5001.0), (2, 101.0)]
    assert journal.pauses(1800, 1) == [(4, 5001.0)]
