"""Writing whole or not at all: links, leftovers, races, and what the system refuses."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import suppress

import pytest

from dpk_core.errors import OutputError, OutputExistsError
from dpk_core.services.storage import atomic, atomic_path

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


def write(path, text, **options):
    with atomic_path(path, **options) as temporary:
        temporary.write_text(text)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leftover(folder, stem, pid, host=atomic._HOST):
    path = folder / f".{stem}.{host}-{pid}-0123abcd.partial.txt"
    path.touch()
    return path


@posix
def test_a_link_stays_a_link_and_the_file_keeps_its_permissions(tmp_path):
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far" / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o664)
    link.symlink_to(real)
    write(link, "new", overwrite=True)
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o664
    assert names(tmp_path / "far") == ["real.txt"]


def test_an_error_in_the_block_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with suppress(KeyboardInterrupt), atomic_path(path, overwrite=True) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@posix
def test_leftovers_of_the_dead_go_and_those_of_others_stay(tmp_path, dead_pid):
    dead = leftover(tmp_path, "a[1]", dead_pid)
    alive = leftover(tmp_path, "a[1]", os.getpid())
    other_file = leftover(tmp_path, f"a[1].{dead_pid}", os.getpid())
    elsewhere = leftover(tmp_path, "a[1]", dead_pid, host="ffffff")
    long_ago = leftover(tmp_path, "a[1]", 7, host="eeeeee")
    os.utime(long_ago, (time.time() - 2 * 86400,) * 2)
    write(tmp_path / "a[1].txt", "x")
    assert not dead.exists()
    assert not long_ago.exists()
    assert alive.exists()
    assert other_file.exists()
    assert elsewhere.exists()


@pytest.mark.parametrize("hard_links", [True, False])
def test_who_is_second_does_not_overwrite(tmp_path, monkeypatch, hard_links):
    if not hard_links:
        monkeypatch.delattr(os, "link")
    path = tmp_path / "a.txt"
    write(path, "first")
    path.unlink()
    second = atomic_path(path)
    second.__enter__().write_text("second")
    path.write_text("quicker")
    with pytest.raises(OutputExistsError):
        second.__exit__(None, None, None)
    assert path.read_text() == "quicker"
    assert names(tmp_path) == ["a.txt"]


def test_names_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("ü" * 120 + ".txt")
    write(path, "x")
    write(path, "y", overwrite=True)
    assert names(tmp_path) == [path.name]
    with pytest.raises(OutputError, match="name is too long"):
        write(tmp_path / ("n" * 300 + ".txt"), "x")


@posix
def test_only_regular_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="not a regular file"):
        write(tmp_path / "pipe", "x", overwrite=True)


def test_a_refusal_about_the_output_is_explained_and_one_about_an_input_is_not(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OutputError, match=r"a\.txt: the disk is full"), atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError, match="input"), atomic_path(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "in" / "input.txt"))
    assert names(tmp_path) == []


@posix
@pytest.mark.parametrize("free", [10, 10**6])
def test_room_is_asked_for_where_it_cannot_be_allocated(tmp_path, monkeypatch, free):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(atomic.os, "posix_fallocate", refuse, raising=False)
    usage = namedtuple("usage", "total used free")(1, 1, free)
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: usage)
    path = tmp_path / "a.h5"
    if free > 1000:
        atomic.require_space(path, 1000)
        assert not path.exists()
    else:
        with pytest.raises(OSError, match="No space") as caught:
            atomic.require_space(path, 1000)
        assert caught.value.errno == errno.ENOSPC


def test_on_windows_a_reader_is_waited_for(tmp_path, monkeypatch):
    """Simulated: there, a file cannot be replaced while anybody reads it."""
    calls, replace = [], os.replace

    def busy_twice(*arguments):
        calls.append(arguments)
        if len(calls) < 3:
            raise PermissionError(errno.EACCES, "in use")
        replace(*arguments)

    monkeypatch.setattr(atomic, "_WINDOWS", True)
    monkeypatch.setattr(atomic.os, "replace", busy_twice)
    write(tmp_path / "a.txt", "x", overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "x"
    assert len(calls) == 3


def test_a_lock_that_nobody_gives_back_is_reported(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.touch()
    monkeypatch.setattr(atomic, "_LONGEST_WAIT", 0.05)
    held = atomic.exclusive(path)
    with held, pytest.raises(OutputError, match="another program"), atomic.exclusive(path):
        pass
