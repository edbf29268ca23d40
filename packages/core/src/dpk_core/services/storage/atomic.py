"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from filelock import FileLock

from dpk_core.errors import DpkError, FileMissingError, OutputError, OutputExistsError

_MARK = ".partial"
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "the disk quota is used up; free some space and run it again",
    errno.EFBIG: "the file would be larger than allowed here; choose another disk",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EIO: "the disk reports an input/output error; check it",
}


@contextmanager
def atomic_path(path: str | PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well.

    Whatever happens, ``path`` holds either what it held before or all of the new content. The
    temporary name keeps the suffix, for libraries that look at it.

    Raises
    ------
    OutputExistsError
        When ``path`` exists and ``overwrite`` is False.
    OutputError
        When the folder is missing or not writable, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("all of it")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    clean_leftovers(path)
    temporary = path.with_name(
        f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}{_MARK}{path.suffix}"
    )
    try:
        with output_errors(path):
            yield temporary
            _sync(temporary)
            if not overwrite:
                check_output(path, overwrite=False)  # somebody may have been quicker
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def require_space(path: Path, n_bytes: int) -> None:
    """OSError when a file of that size does not fit where ``path`` is.

    Asked before HDF5 writes much: it may crash on its way out when the disk is full.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        else:
            free = shutil.disk_usage(path.parent).free
            if free < n_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    path.unlink()


def check_output(path: Path, *, overwrite: bool) -> None:
    """OutputExistsError or OutputError when ``path`` may not or cannot be written."""
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path} exists already; choose another name, or overwrite it (--force, overwrite=True)"
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder; expected the name of a file to write")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: the folder {folder} is not there; make it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: {_REASONS[errno.EACCES]}")


def clean_leftovers(path: Path) -> None:
    """Remove temporary files for ``path`` whose writer is no longer alive."""
    for leftover in path.parent.glob(f".{path.stem}.*.*{_MARK}{path.suffix}"):
        writer = leftover.name[len(path.stem) + 2 :].split(".", 1)[0]
        if writer.isdigit() and not _is_alive(int(writer)):
            with suppress(OSError):
                leftover.unlink()


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal into an OutputError that says what to do."""
    try:
        yield
    except DpkError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # h5py tells of full disks in all three
        number = _errno_of(error)
        if number not in _REASONS:
            raise
        raise OutputError(f"cannot write {path}: {_REASONS[number]}") from error


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Only one process at a time changes ``path``; others wait. The lock dies with its owner."""
    if not path.exists():
        raise FileMissingError(f"no file at {path} to change")
    check_output(path, overwrite=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _errno_of(error: BaseException) -> int | None:
    """The system's error number; HDF5 reports it only within its message."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    texts = f"{error} {error.__context__ or ''}"
    return next((n for n in _REASONS if f"errno = {n}," in texts), None)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        # There is no harmless probe without more libraries; leave files of others alone.
        return pid != os.getpid()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
