"""The lock that makes a job the only writer of its output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dpk_core.errors import OutputError


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold ``path`` for writing; the hold ends with the process, however that ends.

    Raises
    ------
    OutputError
        When another process holds it.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"another process is writing {path} at this moment; wait for it, or choose another name"
        ) from None
    try:
        yield
    finally:
        lock.release()
