"""A process that edits a set until it ends or is killed; run by the tests.

Usage: python editing_process.py SET CLIENT KEYPOINT EDITS

Edit number i (from 1) moves the keypoint of image i % n to (i, 1). It prints each edit's number and
revision when the store says that it is done.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dpk_annotator.edits import MoveKeypoint
from dpk_annotator.outcome import Applied
from dpk_annotator.store import Store


def main(
    path: Path, client: str, keypoint: str, n: int, first: int = 1, update: bool = False
) -> None:
    """Do ``n`` edits; with ``update``, the file follows now and then, as in the background."""
    store = Store.open(path, background=False)
    print("open", flush=True)
    for i in range(first, first + n):
        edit = MoveKeypoint(keypoint, float(i), 1.0)
        outcome = store.apply([(i % len(store), edit)], store.revision, client)
        assert isinstance(outcome, Applied)
        # One write of the system, so that a line is there whole or not at all.
        os.write(1, f"{i} {outcome.revision}\n".encode())
        if update and i % 3 == 0:
            store.save()
    assert store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
