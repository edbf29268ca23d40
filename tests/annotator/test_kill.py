"""Killed at any moment, the store has lost no edit that it said was done."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpk_annotator.outcome import Applied
from dpk_annotator.row_state import Point
from dpk_annotator.store import Store
from dpk_core.services.storage import read_annotations

PROCESS = Path(__file__).with_name("editing_process.py")
KILLS = 200

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="many processes need fork")

# Starting Python and importing takes far longer than the edits: one process imports, and forks.
_STARTER = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import editing_process, h5py, dpk_annotator.set_file, dpk_core.services.storage
from pathlib import Path
for line in sys.stdin:
    set_path, first, output = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        descriptor = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(descriptor, 1)
        editing_process.main(Path(set_path), "me", "head", 10**6, int(first), True)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def acknowledged(output: Path) -> list[tuple[int, int]]:
    """(number, revision) of the edits that the process was told are done."""
    if not output.exists():
        return []
    lines = [line.split() for line in output.read_text().splitlines(keepends=True) if "\n" in line]
    return [(int(line[0]), int(line[1])) for line in lines if len(line) == 2]


def test_200_kills_lose_nothing_that_was_acknowledged(labels_file: Path, tmp_path: Path) -> None:
    rng = random.Random(7)
    output, seen, undone = tmp_path / "out.txt", 0, 0
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(PROCESS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert starter.stdin is not None
    assert starter.stdout is not None
    try:
        for kill in range(KILLS):
            output.unlink(missing_ok=True)
            starter.stdin.write(f"{labels_file}\t{1 + 1000 * kill}\t{output}\n")
            starter.stdin.flush()
            child = int(starter.stdout.readline())
            deadline = time.monotonic() + 300
            # Most are killed among their edits, some while they open the set.
            enough = 0 if kill % 8 == 1 else len("open\n") + 1
            while enough and (not output.exists() or output.stat().st_size < enough):
                assert time.monotonic() < deadline, "the process has not done an edit"
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            os.kill(child, 9)
            assert starter.stdout.readline() == "dead\n"
            done = acknowledged(output)
            seen += len(done)
            # To look only leaves the file behind the journal, as the kill left it.
            with Store.open(labels_file, read_only=kill % 4 != 0, background=False) as store:
                assert not store.notices
                _check_labels(store, done)
                if kill % 4 == 0 and done:
                    undone += _undo_last(store, done)
            assert len(read_annotations(labels_file)) == len(store)
    finally:
        starter.stdin.close()
        starter.wait(300)
        starter.stdout.close()
    assert seen >= KILLS * 7 // 8
    assert undone == KILLS // 4


def _check_labels(store: Store, done: list[tuple[int, int]]) -> None:
    """Every edit that was acknowledged is in the journal, and the last of each image is shown."""
    entries = {entry.seq: entry for entry in store.history(limit=500)}
    for number, revision in done[-400:]:
        assert entries[revision].edit["x"] == number
    last = {number % len(store): number for number, _ in done}
    for row, number in last.items():
        x = store.state(row).point("head").x
        # One edit more may be on disk that the process had no time to tell of.
        assert x in (number, number + len(store)), row


def _undo_last(store: Store, done: list[tuple[int, int]]) -> int:
    """Undo works after the restart: it takes back the last edit, acknowledged or not."""
    last = store.history(limit=1)[0]
    assert last.row is not None
    outcome = store.undo("me", store.revision)
    assert isinstance(outcome, Applied)
    x, y, visibility, annotated = last.inverse["points"]["head"]
    assert store.state(last.row).point("head") == Point(x, y, visibility, annotated)
    assert last.seq >= done[-1][1]
    return 1
