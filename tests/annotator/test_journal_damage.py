"""A journal with a damaged byte: all that can be read comes back, and the rest is told of."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dpk_annotator.edits import MoveKeypoint, SetNote
from dpk_annotator.entries import JournalDamagedError
from dpk_annotator.journal import Journal
from dpk_annotator.journal_place import journal_beside
from dpk_annotator.labels import Labels, different_rows
from dpk_annotator.raw_entries import log_is_broken, raw_entries
from dpk_annotator.salvage import salvage
from dpk_annotator.skeleton_edits import add_keypoint, rename_keypoint
from dpk_annotator.store import Store
from dpk_core.services.storage import read_annotations

FLIPS = 100
"""Of the journal's file, and as many of its log."""

LOG = ".journal-wal"


@pytest.fixture
def edited(labels_file: Path, tmp_path: Path):
    """A set with 40 edits that only its journal has, and its labels; ``put_back`` makes it anew.

    ``edited(True)`` has them in the journal's log, as a killed server leaves it.
    """
    left = tmp_path / "left"

    def make(with_log: bool) -> tuple[Path, Labels]:
        store = Store.open(labels_file, background=False)
        names = store.skeleton.names
        for i in range(36):
            edit = MoveKeypoint(names[i % 5], float(i), 3.25)
            store.apply([(i % 6, edit)], store.revision, "me")
        store.undo("me")
        store.apply([(3, SetNote("look " * 2000))], store.revision, "you")
        store.apply([(0, MoveKeypoint("tail", 5, 5))], store.revision, "me")
        store.apply([(1, MoveKeypoint("tail", 5, 5))], store.revision, "me")
        if not with_log:
            store._ledger.journal.close()
        shutil.copytree(tmp_path, left, ignore=shutil.ignore_patterns("left", "*-shm"))
        store._ledger.journal.close()
        put_back(labels_file)
        return labels_file, store._ledger.labels

    return make


def put_back(path: Path) -> None:
    """The set and its journal as they were made."""
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink()
    shutil.copytree(path.parent / "left", path.parent, dirs_exist_ok=True)


@pytest.mark.parametrize("with_log", [False, True])
def test_whichever_byte_is_damaged_at_most_one_edit_is_lost_and_told_of(edited, with_log):
    path, expected = edited(with_log)
    suffix = LOG if with_log else ".journal"
    size = path.with_name(path.name + suffix).stat().st_size
    rng, told, back = random.Random(11), 0, 0
    for _ in range(FLIPS):
        place, bit = rng.randrange(size), 1 << rng.randrange(8)
        put_back(path)
        damaged = path.with_name(path.name + suffix)
        content = bytearray(damaged.read_bytes())
        content[place] ^= bit
        damaged.write_bytes(content)
        with Store.open(path, background=False) as store:
            found = store.labels()[1]
            rows, notices = different_rows(found, expected), "\n".join(store.notices)
            assert found.skeleton == expected.skeleton
            assert len(rows) <= 1, (place, bit, notices)
            end = size - 2 * 4200  # the last edit: cut off there, it was not done
            assert not rows or "damaged" in notices or (with_log and place > end), (place, bit)
            if "put aside" in notices:
                told += 1
                back += not rows
                (aside,) = path.parent.glob(f"*.damaged-*{'-wal' if with_log else '[0-9]'}")
                assert aside.read_bytes() == bytes(content)
            # What was recovered is as good as any: it is labelled further, and saved.
            outcome = store.apply([(5, MoveKeypoint("head", 1.5, 1.5))], store.revision, "me")
            assert outcome.revision == store.revision
            assert store.close()
        assert read_annotations(path).keypoints[5, 0].tolist() == [1.5, 1.5]
    assert told > FLIPS // 10
    assert back > 0


def test_what_is_behind_a_damaged_place_of_the_log_is_not_dropped(edited) -> None:
    path, expected = edited(True)
    log = path.with_name(path.name + LOG)
    content = bytearray(log.read_bytes())
    content[len(content) // 4] ^= 4
    log.write_bytes(content)
    assert log_is_broken(journal_beside(path))
    with pytest.raises(JournalDamagedError, match="journal-wal is damaged"):
        Journal.open(journal_beside(path))
    with Store.open(path, background=False) as store:
        assert store.labels()[1].same_as(expected)
        assert any("recovered" in notice for notice in store.notices)


def test_a_log_that_was_cut_off_while_it_was_written_is_none_that_is_damaged(edited) -> None:
    path, _ = edited(True)
    log, journal = path.with_name(path.name + LOG), journal_beside(path)
    content = log.read_bytes()
    assert not log_is_broken(journal)
    for cut in (0, 31, 40, len(content) - 5, len(content) - 4120, len(content) // 2):
        log.write_bytes(content[:cut])
        assert not log_is_broken(journal), cut
    log.unlink()
    assert not log_is_broken(journal)


def test_a_log_that_was_begun_anew_is_whole(tmp_path: Path) -> None:
    """Behind what is new stands what an earlier turn left, with other numbers."""
    database = sqlite3.connect(tmp_path / "x.journal", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (x)")
    for _ in range(20):
        database.execute("INSERT INTO t VALUES (zeroblob(3000))")
    database.execute("PRAGMA wal_checkpoint(RESTART)")
    database.execute("INSERT INTO t VALUES (1)")
    log = (tmp_path / "x.journal-wal").read_bytes()
    assert len(log) > 20 * 3000
    assert not log_is_broken(tmp_path / "x.journal")
    changed = bytearray(log)
    changed[len(log) - 100] ^= 1  # of the earlier turn, which is in the file itself
    (tmp_path / "x.journal-wal").write_bytes(changed)
    assert not log_is_broken(tmp_path / "x.journal")
    database.close()


@pytest.mark.parametrize("with_log", [False, True])
def test_entries_read_from_bytes_are_those_that_sqlite_reads(edited, with_log) -> None:
    path, _ = edited(with_log)
    found = raw_entries(journal_beside(path))
    journal = Journal.open(journal_beside(path))
    assert [found[seq] for seq in sorted(found)] == journal.entries()
    journal.close()


def _varint(value: int) -> bytes:
    """As SQLite writes a length of less than 2**56."""
    groups = [value >> 7 * i & 0x7F for i in reversed(range(8))]
    first = next((i for i, group in enumerate(groups) if group), 7)
    return bytes([*(group | 0x80 for group in groups[first:-1]), groups[-1]])


@pytest.mark.parametrize("length", [5_000, 50_000, 2**24])
def test_a_long_record_that_goes_on_in_its_own_page_has_an_end(tmp_path: Path, length) -> None:
    """Damage may make a record as long as it likes, and lead from a page to itself."""
    size, second = 4096, (2).to_bytes(4, "big")
    head, leaf = bytearray(size), bytearray(size)
    head[16:18] = size.to_bytes(2, "big")
    leaf[0], leaf[3:5], leaf[8:10] = 0x0D, (1).to_bytes(2, "big"), (100).to_bytes(2, "big")
    begin = _varint(length) + _varint(1)
    leaf[100 : 100 + len(begin)] = begin
    # How much of it stands in the first page: 1.6 of the description of the format.
    least = (size - 12) * 32 // 255 - 23
    here = least + (length - least) % (size - 4)
    link = 100 + len(begin) + (here if here <= size - 35 else least)
    assert link + 4 <= size
    leaf[link : link + 4] = second
    after = second + bytes(size - 4)
    path = tmp_path / "x.journal"
    path.write_bytes(bytes(head) + after + bytes(leaf))
    tracemalloc.start()
    assert raw_entries(path) == {}
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10 * 2**20


def test_what_was_done_with_an_unknown_skeleton_is_left_out(labels_file: Path) -> None:
    store = Store.open(labels_file, background=False)
    store.apply([(2, MoveKeypoint("head", 1, 1))], 0, "me")
    store.change_skeleton(rename_keypoint(store.skeleton, "tail", "end"), 1, "me")
    store.apply([(2, MoveKeypoint("end", 2, 2))], 2, "me")
    store.change_skeleton(add_keypoint(store.skeleton, "paw"), 3, "me")
    store.apply([(2, MoveKeypoint("paw", 3, 3))], 4, "me")
    store._ledger.journal.close()
    path = journal_beside(labels_file)
    before = read_annotations(labels_file)
    whole = salvage(path, 0, Labels.of(before))
    assert whole.lost == ()
    assert whole.labels.same_as(store._ledger.labels)
    content = path.read_bytes()
    place = content.rindex(b'"renamed":{"tail":"end"}')
    path.write_bytes(content.replace(b'"renamed":{"tail":"end"}', b'"renamed":{"tail":"enD"}'))
    assert content[place:] != path.read_bytes()[place:]
    found = salvage(path, 0, Labels.of(before))
    assert found.lost == (2, 3, 4, 5)
    np.testing.assert_array_equal(found.labels.keypoints[2, 0], (1, 1))
    assert found.labels.skeleton == before.skeleton


def test_what_is_said_of_the_set_may_be_damaged(edited) -> None:
    path, expected = edited(False)
    journal = journal_beside(path)
    database = sqlite3.connect(journal)
    database.execute("UPDATE meta SET value = replace(value, 'a', 'b') WHERE key = 'digests'")
    database.commit()
    database.close()
    with Store.open(path, background=False) as store:
        assert "set is damaged" in store.notices[0]
        assert store.labels()[1].same_as(expected)


def test_text_that_is_none_is_damage_and_no_full_disk(edited) -> None:
    path, _ = edited(False)
    journal = journal_beside(path)
    content = bytearray(journal.read_bytes())
    at = content.rindex(b'"kind":"move"')
    content[at + 1] |= 0x80  # the start of a longer character, which is not there
    journal.write_bytes(content)
    with Store.open(path, background=False) as store:
        assert "damaged" in store.notices[0]
