"""A server that runs for days gives back what images took."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from dpk_annotator import trimming
from dpk_annotator.trimming import give_memory_back

CODE = """
import resource
import sys
from pathlib import Path
from dpk_annotator.trimming import give_memory_back

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20

del (first := [b"x" * 2**20])[:]  # with its end, the library begins to keep what is freed
blocks = [b"x" * 2**20 for _ in range(200)]
before = resident()
del blocks[::2]  # what is left lies between them
kept = before - resident()
assert give_memory_back()
print(kept, before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_what_was_let_go_is_given_back_though_other_things_lie_around_it() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    kept, given = map(float, done.stdout.split())
    assert kept < 50, "else nobody needs to ask for it"
    assert given > 90


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trimming._trim.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not give_memory_back()
    trimming._trim.cache_clear()
