"""A folder that may not be written to: every writer says so, and nothing appears in it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dpk_core import Poses, Tracks, VideoWriter, write_annotations, write_poses, write_tracks
from dpk_core.errors import DpkError
from dpk_core.services.storage import PosesWriter
from dpk_core.testing import dot_annotations

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")

ANNOTATIONS = dot_annotations(2)
POSES = Poses(np.zeros((2, 3, 2)), np.ones((2, 3)), ANNOTATIONS.skeleton)


def _write_video(path: Path) -> None:
    with VideoWriter(path, fps=10) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))


WRITERS = {
    "labels.h5": lambda path: write_annotations(path, ANNOTATIONS),
    "poses.h5": lambda path: write_poses(path, POSES),
    "growing.h5": lambda path: PosesWriter(path, POSES.skeleton, {}),
    "tracks.h5": lambda path: write_tracks(path, Tracks([0], [0], [1.0], [1.0])),
    "video.mp4": _write_video,
}
_NOBODY = 65534


@pytest.fixture
def locked():
    """A folder that everybody may look into and nobody may write to."""
    folder = Path(tempfile.mkdtemp(prefix="dpk-locked-"))
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def _attempt(name: str, path: Path, results) -> None:
    """In a process of its own, as a user without privileges: root may write anywhere."""
    if os.geteuid() == 0:
        os.setuid(_NOBODY)
    try:
        WRITERS[name](path)
        results.send("written")
    except DpkError as error:
        results.send(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("name", WRITERS)
def test_it_is_refused_with_a_reason(locked, name, tmp_path):
    WRITERS[name](tmp_path / name)  # works where it may; and what it imports is imported now
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_attempt, args=(name, locked / name, sender))
    process.start()
    assert receiver.poll(300), "the writing process died without a word"
    answer = receiver.recv()
    process.join()
    assert answer.startswith("OutputError"), answer
    assert name in answer or str(locked) in answer
    assert "no permission" in answer or "not allowed" in answer
    assert list(locked.iterdir()) == []
