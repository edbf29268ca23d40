"""A server that runs for days gives back what images took."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from dpk_annotator.large_blocks import give_large_blocks_back

CODE = """
import resource
import sys
from pathlib import Path
from dpk_annotator.large_blocks import give_large_blocks_back

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20

if sys.argv[1] == "back":
    assert give_large_blocks_back()
del (first := [b"x" * 2**20])[:]  # with its end, the library begins to keep what is freed
blocks = [b"x" * 2**20 for _ in range(200)]
before = resident()
del blocks[::2]  # what is left lies between them
print(before - resident())
"""


def freed(how: str) -> float:
    """MiB that a process is smaller after half of 200 MiB were let go."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_what_was_let_go_is_given_back_though_other_things_lie_around_it() -> None:
    assert freed("back") > 90
    assert freed("as usual") < 50, "else nobody needs to ask for it"


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not give_large_blocks_back()
