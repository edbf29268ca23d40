"""What a crowd, a full disk, a second server and a careless hand do to a set: nothing is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import numpy as np
import pytest

from dpk_annotator.context import Context
from dpk_annotator.edits import MoveKeypoint, SetNote
from dpk_annotator.journal import Journal
from dpk_annotator.journal_place import journal_beside
from dpk_annotator.labels import Labels
from dpk_annotator.outcome import Applied, Conflict
from dpk_annotator.replay import Replay
from dpk_annotator.server import create_app
from dpk_annotator.store import Store
from dpk_core.errors import OutputError
from dpk_core.services.storage import read_annotations, write_annotations

EDITORS, UNDOERS, EACH = 20, 5, 12


def replayed(path: Path) -> Labels:
    """The labels that the journal alone tells of, from its beginning."""
    journal = Journal.open(journal_beside(path))
    assert journal is not None
    seq, labels = journal.snapshot(0)
    assert seq == 0
    replay = Replay(labels, journal, 0, lambda _: pytest.fail("there is a journal"))
    found = replay.labels.copy()
    journal.close()
    return found


def sound(path: Path, store_labels: Labels) -> None:
    """File, journal and what was shown are one and the same."""
    told = replayed(path)
    assert told.same_as(store_labels)
    stored = read_annotations(path)
    np.testing.assert_array_equal(stored.keypoints, told.keypoints)
    np.testing.assert_array_equal(stored.visibility, told.visibility)
    np.testing.assert_array_equal(stored.annotated, told.annotated)


# -- many at once ---------------------------------------------------------------------------------


def test_twenty_that_edit_and_five_that_undo_leave_file_and_journal_alike(small_set, client_of):
    path = small_set()
    failures: list[BaseException] = []
    undone: list[tuple[str, str]] = []
    with Store.open(path, background=False) as store:
        app, together = create_app(Context(store), "t"), threading.Barrier(EDITORS + UNDOERS + 1)

        def asks(work):
            def run() -> None:
                try:
                    together.wait(60)
                    work()
                except BaseException as error:
                    failures.append(error)

            return threading.Thread(target=run)

        def edit(number: int) -> None:
            rng, asking, name = random.Random(number), client_of(app), f"editor {number}"
            for i in range(EACH):
                edits = [
                    {"kind": "move", "keypoint": rng.choice(["head", "tail", "earL"]),
                     "x": number, "y": i},
                    {"kind": "note", "note": f"{number} {i}"},
                    {"kind": "swap"}, {"kind": "finished", "finished": bool(i % 2)},
                    {"kind": "reset"}, {"kind": "visibility", "keypoint": "hip", "visibility": 0},
                ]  # fmt: skip
                base = max(0, store.revision - rng.randrange(4))
                body = {"client": name, "base": base, "token": f"e{i}", "changes": [
                    {"row": rng.randrange(6), "edit": rng.choice(edits)}
                    for _ in range(rng.choice([1, 1, 3]))
                ]}  # fmt: skip
                answer = asking.post("api/edit", body, token="t")
                again = asking.post("api/edit", body, token="t")
                assert answer.status in (200, 409), answer.body
                if answer.status == 200 != again.status:
                    undone.append((name, f"e{i}"))
                if rng.random() < 0.3:
                    step = {"client": name, "base": store.revision, "token": f"u{i}"}
                    assert asking.post("api/undo", step, token="t").status in (200, 409)

        def undo(number: int) -> None:
            asking, rng = client_of(app), random.Random(100 + number)
            for i in range(EACH):
                name = f"editor {rng.randrange(EDITORS)}"
                step = {"client": name, "base": store.revision, "token": f"x{number} {i}"}
                what = "redo" if rng.random() < 0.3 else "undo"
                assert asking.post(f"api/{what}", step, token="t").status in (200, 409)
                if i % 4 == 3:
                    assert asking.post("api/save", {}, token="t").status == 200
                assert asking.get("api/rows", token="t").status == 200

        threads = [asks(lambda n=n: edit(n)) for n in range(EDITORS)]
        threads += [asks(lambda n=n: undo(n)) for n in range(UNDOERS)]
        for thread in threads:
            thread.start()
        together.wait(60)
        for thread in threads:
            thread.join(300)
        assert not failures, failures[:3]
        store.save()
        assert store.revision > EDITORS
        sound(path, store.labels()[1])
        tokens = [(e.client, e.token) for e in store.history(limit=10_000) if e.token]
        assert len(tokens) == len(set(tokens)), "a repeated request is done once"
        assert not set(undone) & set(tokens), "only what changed nothing may be refused later"


# -- two servers ----------------------------------------------------------------------------------


def test_two_servers_on_one_file_are_as_one(small_set) -> None:
    path = small_set()
    rng = random.Random(4)
    with Store.open(path, background=False) as one, Store.open(path, background=False) as two:
        for i in range(60):
            mine, other = (one, two) if rng.random() < 0.5 else (two, one)
            mine.poll()
            edit = MoveKeypoint(rng.choice(["head", "tail"]), float(i), 2.0)
            done = mine.apply([(rng.randrange(6), edit)], mine.revision, f"tab {id(mine)}")
            assert isinstance(done, Applied)
            if rng.random() < 0.3:
                mine.undo(f"tab {id(mine)}", mine.revision)
            if rng.random() < 0.3:
                other.save()
            if rng.random() < 0.2:
                mine.save()
        one.poll()
        two.poll()
        assert one.labels()[1].same_as(two.labels()[1])
        assert not one.notices
        assert not two.notices
        one.save()
        sound(path, two.labels()[1])


# -- a file that is moved or replaced -------------------------------------------------------------


def test_a_file_that_was_renamed_while_open_is_told_of_and_its_edits_are_there(small_set) -> None:
    path = small_set()
    store = Store.open(path, background=False)
    store.apply([(2, MoveKeypoint("head", 1, 2))], 0, "me")
    os.rename(path, path.with_name("better.h5"))
    store.apply([(3, MoveKeypoint("head", 3, 4))], store.revision, "me")
    assert not store.close()
    assert any("gone" in notice for notice in store.notices)
    assert not path.exists(), "nothing is made in its place"
    os.rename(path.with_name("better.h5"), path)
    with Store.open(path, background=False) as again:
        assert again.state(2).point("head").x == 1
        assert again.state(3).point("head").x == 3
        assert again.steps("me") == (2, 0)


def test_another_set_in_its_place_is_left_alone_and_no_edit_is_lost(small_set, annotations):
    path, other = small_set(), small_set()
    images = 255 - np.asarray(annotations.images)
    write_annotations(other, attrs.evolve(annotations, images=images), overwrite=True)
    with Store.open(other, background=False) as strange:
        strange.apply([(0, SetNote("of the other set"))], 0, "you")
    store = Store.open(path, background=False)
    store.apply([(2, MoveKeypoint("head", 1, 2))], 0, "me")
    store.save()
    kept = path.with_name("kept.h5")
    os.rename(path, kept)
    shutil.copyfile(other, path)
    content = path.read_bytes()
    store.apply([(3, MoveKeypoint("head", 3, 4))], store.revision, "me")
    assert not store.close()
    assert path.read_bytes() == content
    with Store.open(path, background=False) as strange:
        assert strange.state(0).note == "of the other set"
        assert any("put aside" in notice for notice in strange.notices)
    (aside,) = path.parent.glob("labels.h5.journal.other-*[0-9]")
    os.remove(path)
    os.rename(kept, path)
    journal_beside(path).unlink(missing_ok=True)
    os.rename(aside, journal_beside(path))
    with Store.open(path, background=False) as again:
        assert again.state(3).point("head").x == 3


# -- a journal that is tidied away ----------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be removed there")
@pytest.mark.parametrize("removed", ["journal", "journal-wal", "journal*"])
def test_a_journal_that_was_removed_while_open_is_put_back(small_set, tmp_path, removed) -> None:
    path = small_set()
    store, other = Store.open(path, background=False), Store.open(path, background=False)
    store.apply([(0, MoveKeypoint("head", 1, 1))], 0, "me")
    other.poll()
    store.save()
    for file in path.parent.glob(f"labels.h5.{removed}"):
        file.unlink()
    revision = store.apply([(1, MoveKeypoint("head", 2, 2))], store.revision, "me").revision
    assert revision == 2
    assert any("removed" in notice for notice in store.notices)
    # Killed now: what was said to be done is there, and can be undone.
    shutil.copytree(path.parent, tmp_path / "killed")
    with Store.open(tmp_path / "killed" / path.name, background=False) as again:
        assert again.state(1).point("head").x == 2
        assert again.steps("me") == (2, 0)
    assert other.apply([(2, MoveKeypoint("head", 3, 3))], 1, "you").revision == 3
    assert store.undo("me", 3).revision == 4
    other.poll()
    assert other.labels()[1].same_as(store.labels()[1])
    assert other.close()
    store.apply([(4, MoveKeypoint("head", 5, 5))], store.revision, "me")
    assert store.close()
    with Store.open(path, background=False) as again:
        assert again.steps("me") == (2, 0)
        sound(path, again.labels()[1])


def test_a_journal_that_goes_with_a_renamed_set_is_followed(small_set) -> None:
    path = small_set()
    one = Store.open(path, background=False)
    one.apply([(0, MoveKeypoint("head", 1, 1))], 0, "me")
    one.save()
    better = path.with_name("better.h5")
    os.rename(path, better)
    with Store.open(better, background=False) as two:
        assert two.steps("me") == (1, 0)
        one.apply([(1, MoveKeypoint("head", 2, 2))], 1, "me")
        two.poll()
        assert two.state(1).point("head").x == 2
        assert not journal_beside(path).exists(), "there is one journal, not two"
        two.apply([(2, MoveKeypoint("head", 3, 3))], 2, "you")
    one.close()
    with Store.open(better, background=False) as again:
        assert again.revision == 3
        sound(better, again.labels()[1])


def test_a_journal_in_whose_place_another_is_written_is_not_mixed_with_it(small_set) -> None:
    path, strange = small_set(), small_set()
    for place in (path, strange):
        with Store.open(place, background=False) as store:
            store.apply([(0, MoveKeypoint("head", 1, 1))], 0, "me")
    store = Store.open(path, background=False)
    store.apply([(1, MoveKeypoint("head", 2, 2))], 1, "me")
    kept = journal_beside(path).with_name("kept")
    for side in ("", "-wal", "-shm"):
        os.rename(f"{journal_beside(path)}{side}", f"{kept}{side}")
    shutil.copyfile(journal_beside(strange), journal_beside(path))
    content = journal_beside(path).read_bytes()
    with pytest.raises(OutputError, match="replaced by another one"):
        store.apply([(2, MoveKeypoint("head", 3, 3))], 2, "me")
    assert journal_beside(path).read_bytes() == content
    os.remove(journal_beside(path))
    store.apply([(2, MoveKeypoint("head", 3, 3))], 2, "me")
    assert store.close()
    with Store.open(path, background=False) as again:
        assert again.state(2).point("head").x == 3


# -- a full disk ----------------------------------------------------------------------------------

_LIMITED = """
import json, resource, signal, sys
from pathlib import Path
import h5py
import dpk_annotator.set_file
from dpk_annotator.edits import SetNote, MoveKeypoint
from dpk_annotator.store import Store
from dpk_core.errors import DpkError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, limit = Path(sys.argv[1]), int(sys.argv[2])
store = Store.open(path, background=False)
store.apply([(0, MoveKeypoint("head", 1, 1))], 0, "me")
store.save()
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
done, refused = [], 0
for i in range(40):
    try:
        store.apply([(i % 6, SetNote(str(i) * 400))], store.revision, "me")
        done.append(i)
    except DpkError:
        refused += 1
    if i % 7 == 3:
        try:
            store.save()
        except DpkError:
            refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
after = store.apply([(5, MoveKeypoint("tail", 9, 9))], store.revision, "me").revision
print(json.dumps({"done": done, "refused": refused, "closed": store.close(), "after": after}))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="the system has no limit of file sizes")
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_disk_that_is_full_refuses_and_loses_nothing(small_set, share) -> None:
    path = small_set()
    limit = int(path.stat().st_size * share) + 40_000
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path), str(limit)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["closed"]
    last = {i % 6: str(i) * 400 for i in told["done"]}
    with Store.open(path, background=False) as store:
        assert not store.notices
        assert store.revision == told["after"]
        for row, note in last.items():
            assert store.state(row).note == note
        assert store.state(5).point("tail").x == 9
        sound(path, store.labels()[1])
    hidden = [p.name for p in path.parent.iterdir() if p.name.startswith(".")]
    assert hidden in ([], [f".{path.name}.lock"]), "nothing half-written is left"
    if share < 0.5:
        assert told["refused"]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 1.5 MB, where whoever runs the tests may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(place)],
        capture_output=True, check=False,
    ) if shutil.which("mount") else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_file_system_that_runs_full_in_the_middle_of_an_update(small_disk, labels_file) -> None:
    path = small_disk / "labels.h5"
    shutil.copyfile(labels_file, path)
    with Store.open(path, background=False) as store:
        store.apply([(0, MoveKeypoint("head", 1, 1))], 0, "me")
        store.save()
        before = path.read_bytes()
        room = shutil.disk_usage(small_disk).free
        ballast = small_disk / "film.mp4"
        ballast.write_bytes(b"x" * max(0, room - len(before) // 2))
        done = 0

        def label_on() -> None:
            nonlocal done
            for i in range(2000):
                store.apply([(i % 6, SetNote(f"{i} " * 300))], store.revision, "me")
                done = i

        with pytest.raises(OutputError, match="not saved"):
            label_on()
        assert done
        with pytest.raises(OutputError, match="disk is full"):
            store.save()
        assert path.read_bytes() == before, "the file is as it was, to the last byte"
        assert store.state(done % 6).note == f"{done} " * 300
        ballast.unlink()
        store.apply([(0, SetNote("after"))], store.revision, "me")
        assert store.save() == store.revision
        sound(path, store.labels()[1])


def test_a_conflict_is_none_that_writes(small_set) -> None:
    path = small_set()
    with Store.open(path, background=False) as store:
        store.apply([(0, MoveKeypoint("head", 1, 1))], 0, "me")
        two = [(1, SetNote("x")), (0, MoveKeypoint("head", 2, 2))]
        assert isinstance(store.apply(two, 0, "you"), Conflict)
        assert (store.revision, store.state(1).note) == (1, "")
