"""Giving memory back: images come and go all day in several threads.

The GNU C library keeps what large blocks left behind for its next ones, in a store for each thread,
and from the first large block that is freed on cuts even larger ones out of it. Encoded images that
are kept lie in between, so that these stores grow. Blocks from a fixed size on go straight back to
the system instead, which costs some tenths of a millisecond for an image. Asking for all unused
memory now and then (``malloc_trim``) was tried, and the stores went on growing.

Source: mallopt(3), M_MMAP_THRESHOLD.
"""

from __future__ import annotations

import ctypes
import sys

_MMAP_THRESHOLD = -3
_LARGE = 128 * 1024  # what the library itself begins with


def give_large_blocks_back() -> bool:
    """From now on, free large blocks of this process at once; whether the C library can."""
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    return set_option is not None and bool(set_option(_MMAP_THRESHOLD, _LARGE))
