"""Which job a half-finished output belongs to: fingerprints of files, and a lock for the writer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dpk_core.errors import FileMissingError, OutputError

_BLOCK = 2**20
_BLOCKS = 16


def file_hash(path: Path) -> str:
    """A hash of all that is in a file.

    Raises
    ------
    FileMissingError
    """
    if not path.is_file():
        raise FileMissingError(f"no file at {path}")
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(path: Path) -> str:
    """A hash of a file's size and of sixteen blocks spread over it.

    Quick for a video of any size, the same wherever the file lies and whatever its dates.

    Raises
    ------
    FileMissingError
    """
    if not path.is_file():
        raise FileMissingError(f"no file at {path}")
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    last = max(0, size - _BLOCK)
    with path.open("rb") as file:
        for i in range(_BLOCKS):
            file.seek(last * i // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


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
