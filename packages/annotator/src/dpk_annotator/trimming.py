"""Giving memory back: images come and go all day in several threads.

The GNU C library keeps what freed blocks left behind for its next ones, in a store for each thread.
What is kept of encoded images lies in between, so that these stores grow to several times of what
is used in them, and stay so. Asked to, the library gives the unused pages back to the system; that
takes some milliseconds, and no time of those who ask for images.

Source: malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_memory_back() -> bool:
    """Give unused pages back to the system; False where the C library has no such function."""
    trim = _trim()
    if trim is None:
        return False
    trim(0)
    return True


@cache
def _trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
