"""A kill -9 at a random moment, a full disk, two writers at once: nothing is lost or half-written.

Each test starts real processes and kills them; what counts is what a new process then reads.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import attrs
import numpy as np
import pytest

from dpk_core import Poses, Skeleton, read_annotations, read_poses, write_annotations
from dpk_core.services.storage import PosesWriter, append_annotations, update_annotations
from dpk_core.testing import dot_annotations

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def start(code, *arguments):
    """A Python process that prints a line when it is under way."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "ready", process.stderr.read()
    return process


def kill_after(seconds, action, *arguments):
    """Run an action in a forked process and kill it after a while; whether it was still running."""
    process = multiprocessing.get_context("fork").Process(target=action, args=arguments)
    process.start()
    process.join(seconds)
    alive = process.is_alive()
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def update_for_ever(path, first):
    for i in itertools.count(first):
        update_annotations(path, np.arange(40), keypoints=np.full((40, 3, 2), float(i)))


def test_updates_survive_kills(tmp_path):
    """Every keypoint is set to one number at a time: a mixture would be a half-written state."""
    path = tmp_path / "labels.h5"
    truth = dot_annotations(40)
    write_annotations(path, truth)
    update_annotations(path, np.arange(40), keypoints=np.zeros((40, 3, 2)))
    rng = np.random.default_rng(0)
    last, longest = 0.0, 0.08
    for round_ in range(1, 41):
        assert kill_after(rng.uniform(0.01, longest), update_for_ever, path, 1000 * round_)
        found = read_annotations(path)
        values = np.unique(found.keypoints)
        assert len(values) == 1
        assert values[0] >= last
        last = values[0]
        if not last:  # a machine so slow, or so busy, that nothing was done yet
            longest = min(10.0, 1.5 * longest)
        assert np.array_equal(found.images[39], truth.images[39])
    assert last >= 1000
    append_annotations(path, dot_annotations(1))
    assert [p.name for p in tmp_path.iterdir() if ".partial" in p.name] == []


def append_for_ever(path, one):
    while True:
        n = len(read_annotations(path))
        numbered = attrs.evolve(one, keypoints=np.full((1, 3, 2), float(n)))
        append_annotations(path, numbered)


def test_appended_images_survive_kills(tmp_path):
    """Every image's keypoints hold its number: each row is whole, and none is lost or twice."""
    path = tmp_path / "labels.h5"
    one = dot_annotations(1)
    write_annotations(path, attrs.evolve(one, keypoints=np.zeros((1, 3, 2))))
    rng = np.random.default_rng(2)
    before, longest = 1, 0.08
    for _ in range(30):
        assert kill_after(rng.uniform(0.01, longest), append_for_ever, path, one)
        found = read_annotations(path)
        assert len(found) >= before
        before = len(found)
        if before == 1:
            longest = min(10.0, 1.5 * longest)
        expected = np.broadcast_to(np.arange(before)[:, None, None], (before, 3, 2))
        assert np.array_equal(found.keypoints, expected)
        assert (found.images[:] == one.images).all()
    assert before > 1
    append_annotations(path, one)
    assert [p.name for p in tmp_path.iterdir() if ".partial" in p.name] == []


def append_poses(path, target):
    skeleton = Skeleton(("a", "b"))
    with PosesWriter(path, skeleton, {"job": 1}, resume=True, capacity_hint=8) as writer:
        while writer.n_rows < target:
            rows = np.arange(writer.n_rows, writer.n_rows + 7)
            values = np.repeat(rows, 4).reshape(-1, 2, 2).astype(np.float32)
            writer.append(Poses(values, np.full((7, 2), 0.5), skeleton, frames=rows))


def test_growing_poses_survive_kills(tmp_path):
    path = tmp_path / "poses.h5"
    rng = np.random.default_rng(1)
    done, kills, target = 0, 0, 7 * 3000
    while done < target:
        kills += kill_after(rng.uniform(0, 0.06) if kills < 40 else 60, append_poses, path, target)
        found = read_poses(path) if path.exists() else []
        assert len(found) >= done
        done = len(found)
        if not done:
            continue
        assert done % 7 == 0
        assert np.array_equal(found.frames, np.arange(done))
        assert np.array_equal(found.keypoints[:, 1, 1], np.arange(done, dtype=np.float32))
    assert kills >= 5
    assert done == target


APPEND_SETS = """
    import sys
    from dpk_core.services.storage import append_annotations
    from dpk_core.testing import dot_annotations
    print("ready", flush=True)
    for i in range(6):
        append_annotations(sys.argv[1], dot_annotations(1, seed=100 * (1 + int(sys.argv[2])) + i))
"""


def test_two_writers_lose_no_update(tmp_path):
    path = tmp_path / "labels.h5"
    write_annotations(path, dot_annotations(1))
    processes = [start(APPEND_SETS, path, i) for i in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    found = read_annotations(path)
    assert len(found) == 1 + 3 * 6
    assert len({found.images[i].tobytes() for i in range(19)}) == 19


READ_ON = """
    import sys
    import numpy as np
    from dpk_core import read_annotations
    first = read_annotations(sys.argv[1])
    image = first.images[3].copy()
    print("ready", flush=True)
    seen = set()
    while 20.0 not in seen:
        found = read_annotations(sys.argv[1])
        values = np.unique(found.keypoints)
        assert len(values) == 1, values
        assert np.array_equal(found.images[3], image)
        assert np.array_equal(first.images[3], image)
        seen.add(float(values[0]))
    print(len(seen))
"""


def test_reading_and_writing_are_not_in_each_others_way(tmp_path):
    """A process that keeps the file open and reads on sees whole states only."""
    path = tmp_path / "labels.h5"
    write_annotations(path, dot_annotations(40))
    update_annotations(path, np.arange(40), keypoints=np.zeros((40, 3, 2)))
    reader = start(READ_ON, path)
    for i in range(1, 21):
        update_annotations(path, np.arange(40), keypoints=np.full((40, 3, 2), float(i)))
    output, errors = reader.stdout.read(), reader.stderr.read()
    assert reader.wait() == 0, errors
    assert int(output) >= 1


WITH_FULL_DISK = """
    import resource, signal, sys
    from dpk_core import AnnotationSet
    from dpk_core.errors import OutputError
    from dpk_core.testing import dot_annotations
    from dpk_core.services import storage
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    big = dot_annotations(200)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    print("ready", flush=True)
    try:
        if sys.argv[2] == "write":
            storage.write_annotations(sys.argv[1], big, overwrite=True)
        elif sys.argv[2] == "append":
            storage.append_annotations(sys.argv[1], big)
        else:
            storage.PosesWriter(sys.argv[1], big.skeleton, {}, overwrite=True, capacity_hint=10**6)
    except OutputError as error:
        print("refused:", error)
"""


@pytest.mark.parametrize("action", ["write", "append", "poses"])
def test_a_full_disk_is_reported_and_harms_nothing(tmp_path, action):
    """A limit on the size of files stands for the full disk: the same failing write."""
    path = tmp_path / "labels.h5"
    write_annotations(path, dot_annotations(4))
    before = path.read_bytes()
    process = start(WITH_FULL_DISK, path, action)
    # Not communicate(): readline() above may have buffered what follows.
    output, errors = process.stdout.read(), process.stderr.read()
    assert process.wait() == 0, errors  # HDF5 may crash on its way out
    assert "refused: cannot write" in output, errors
    assert "labels.h5" in output
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if ".partial" in p.name] == []
