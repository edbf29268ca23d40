"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from filelock import FileLock, Timeout

from dpk_core.errors import DpkError, FileMissingError, OutputError, OutputExistsError

_MARK = ".partial"
_HOST = hashlib.blake2b(platform.node().encode(), digest_size=3).hexdigest()
_LONGEST_STEM = 160
_LONGEST_WAIT = 600.0
_DAY = 86400.0
_WINDOWS = os.name == "nt"
_NO_PERMISSION = "no permission to write there; choose another folder" + (
    ", or close the programs that have the file open" if _WINDOWS else ""
)
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "the disk quota is used up; free some space and run it again",
    errno.EFBIG: "the file would be larger than allowed here; choose another disk",
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EIO: "the disk reports an input/output error; check it",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOLCK: "this disk has no file locks; choose another one",
}


@contextmanager
def atomic_path(path: str | PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well.

    Whatever happens, ``path`` holds either what it held before or all of the new content. The
    temporary name keeps the suffix, for libraries that look at it. A symbolic link stays one: the
    file that it leads to is replaced, and keeps its permissions.

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
    path = behind_links(path)
    clean_leftovers(path)
    temporary = _temporary(path)
    try:
        with output_errors(path):
            yield temporary
            if path.exists():
                with suppress(OSError):
                    shutil.copymode(path, temporary)
            _sync(temporary)
            _put_in_place(temporary, path, overwrite=overwrite)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def atomic_target(path: str | PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Like `atomic_path` for who may write a file or make a folder, under the temporary name.

    A folder that is replaced stays until the new one is whole, and is only replaced when it holds
    nothing else than the new one does. Nothing happens to ``path`` when the block writes nothing.

    Raises
    ------
    OutputExistsError
        When ``path`` exists, is not an empty folder, and ``overwrite`` is False; or when it is a
        folder with files that the new one has not.
    OutputError
        As `atomic_path`, when a folder would replace a file or the other way round, and for the
        working folder.
    """
    path = Path(path)
    if path.is_dir() and path.resolve() == Path.cwd():
        raise OutputError(f"{path} is the working folder; expected the name of a new one in it")
    if not path.is_dir():
        check_output(path, overwrite=overwrite)
    elif any(path.iterdir()) and not overwrite:
        raise OutputExistsError(
            f"{path} exists already and is not empty; choose another name, or overwrite it "
            "(--force, overwrite=True)"
        )
    path = behind_links(path)
    clean_leftovers(path)
    temporary = _temporary(path)
    try:
        with output_errors(path):
            yield temporary
            if temporary.is_dir():
                _put_folder_in_place(temporary, path)
            elif temporary.exists():
                if path.is_dir():
                    raise OutputError(f"{path} is a folder; expected the name of a file to write")
                _sync(temporary)
                _put_in_place(temporary, path, overwrite=overwrite)
    finally:
        _remove(temporary)


def require_space(path: Path, n_bytes: int) -> None:
    """OSError when a file of that size does not fit where ``path`` is, which is not there yet.

    Asked before HDF5 writes much: when the disk is full it may crash on its way out.
    """
    with path.open("wb") as file:
        _allocate(file.fileno(), path, 0, n_bytes)
    path.unlink()


def reserve_space(path: Path, n_bytes: int) -> None:
    """Allocate room behind the end of a file, which HDF5 uses and then gives back; or OSError."""
    with path.open("rb+") as file:
        _allocate(file.fileno(), path, path.stat().st_size, n_bytes)


def check_output(path: Path, *, overwrite: bool) -> None:
    """OutputExistsError or OutputError when ``path`` may not or cannot be written."""
    with output_errors(path):
        if path.is_dir():
            raise OutputError(f"{path} is a folder; expected the name of a file to write")
        if path.exists():
            if not path.is_file():
                raise OutputError(
                    f"{path} is not a regular file; expected the name of a file to write"
                )
            if not overwrite:
                raise OutputExistsError(
                    f"{path} exists already; choose another name, or overwrite it (--force, "
                    "overwrite=True)"
                )
        folder = behind_links(path).parent
        if not folder.is_dir():
            raise OutputError(
                f"cannot write {path}: the folder {folder} is not there; make it first"
            )
        if not os.access(folder, os.W_OK):
            raise OutputError(f"cannot write {path}: {_REASONS[errno.EACCES]}")


def clean_leftovers(path: Path) -> None:
    """Remove temporary files for ``path`` whose writer is no longer alive."""
    pattern = re.compile(
        re.escape(f".{_short(path.stem)}.")
        + r"(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-[0-9a-f]{8}"
        + re.escape(f"{_MARK}{path.suffix}")
    )
    with suppress(OSError):  # a folder that may be written to, but not listed
        for leftover in path.parent.iterdir():
            found = pattern.fullmatch(leftover.name)
            if found and _is_abandoned(leftover, found["host"], int(found["pid"])):
                _remove(leftover)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal into an OutputError that says what to do."""
    try:
        yield
    except DpkError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # h5py tells of full disks in all three
        reason = _REASONS.get(_errno_of(error) or 0)
        if reason is None or _is_about_another_folder(error, path):
            raise
        raise OutputError(f"cannot write {path}: {reason}") from error


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Only one process at a time changes ``path``; others wait. The lock dies with its owner.

    Raises
    ------
    FileMissingError
    OutputError
        Also when another process has been changing the file for ten minutes.
    """
    path = behind_links(path)
    if not path.exists():
        raise FileMissingError(f"no file at {path} to change")
    check_output(path, overwrite=True)
    lock = FileLock(path.with_name(f".{_short(path.name)}.lock"))
    try:
        with output_errors(path):
            lock.acquire(timeout=_LONGEST_WAIT)
    except Timeout:
        raise OutputError(
            f"cannot change {path}: another program has been changing it for "
            f"{_LONGEST_WAIT / 60:.0f} minutes; see whether it hangs"
        ) from None
    try:
        yield
    finally:
        lock.release()


def behind_links(path: Path) -> Path:
    """The file itself where ``path`` is a symbolic link, for links must not be replaced."""
    return path.resolve() if path.is_symlink() else path


# -- small parts ------------------------------------------------------------------------------


def _temporary(path: Path) -> Path:
    return path.with_name(
        f".{_short(path.stem)}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}{_MARK}{path.suffix}"
    )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _put_folder_in_place(temporary: Path, path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; expected the name of a folder to write")
    if path.exists():
        _check_nothing_else(temporary, path)
    old = _temporary(path) if path.exists() else None
    if old is not None:
        os.rename(path, old)
    try:
        os.rename(temporary, path)
    except OSError:
        if old is not None:
            os.rename(old, path)
        raise
    if old is not None:
        _remove(old)
    _sync_folder(path.parent)


def _check_nothing_else(new: Path, old: Path) -> None:
    """OutputExistsError when a folder holds files or links that would be gone."""
    gone = sorted(_contents(old) - _contents(new))
    if gone:
        shown = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
        raise OutputExistsError(
            f"{old} holds {len(gone)} file{'s' * (len(gone) > 1)} that would be gone: {shown}; "
            "move them or delete the folder, or choose another name"
        )


def _contents(folder: Path) -> set[str]:
    """Files, and links whatever they lead to, by their paths in a folder."""
    found = set()
    for place, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found |= {os.path.relpath(os.path.join(place, name), folder) for name in (*files, *links)}
    return found


def _raise(error: OSError) -> None:
    raise error


def _put_in_place(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(temporary, path)  # unlike a rename, it refuses when somebody was quicker
        except FileExistsError:
            check_output(path, overwrite=False)
        except (OSError, NotImplementedError, AttributeError):
            check_output(path, overwrite=False)  # a disk without hard links
            _replace(temporary, path)
        else:
            temporary.unlink()
    else:
        _replace(temporary, path)
    _sync_folder(path.parent)


def _replace(temporary: Path, path: Path) -> None:
    # Windows refuses while anybody reads the file, a virus scanner for instance; that is short.
    for delay in (0.02, 0.1, 0.4, 1.5) if _WINDOWS else ():
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            time.sleep(delay)
    os.replace(temporary, path)


def _allocate(descriptor: int, path: Path, start: int, n_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, start, n_bytes)
            return
        except OSError as error:  # not every disk and C library can
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
    if shutil.disk_usage(path.parent).free < n_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _errno_of(error: BaseException) -> int | None:
    """The system's error number; HDF5 reports it only within its message."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    texts = f"{error} {error.__context__ or ''}"
    return next((n for n in _REASONS if f"errno = {n}," in texts), None)


def _is_about_another_folder(error: BaseException, path: Path) -> bool:
    """Whether it names a file elsewhere: an input that could not be read, not our output."""
    name = getattr(error, "filename", None)
    return isinstance(name, (str, PathLike)) and Path(name).parent != path.parent


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where folders can be synchronized."""
    if _WINDOWS:
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _short(name: str) -> str:
    """The name, or a digest of it when there would be no room for what is put around it."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_STEM:
        return name
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def _is_abandoned(leftover: Path, host: str, pid: int) -> bool:
    """Whether its writer is dead, as far as can be told from here.

    Nothing is known of processes of another computer that shares the disk, and Windows has no
    harmless probe: there, a file that nobody has written to for a day counts as abandoned.
    """
    if host != _HOST or _WINDOWS:
        try:
            return time.time() - leftover.stat().st_mtime > _DAY
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False
