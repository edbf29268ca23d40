"""Models converted for another engine: made once, kept in the user's cache folder.

Converting takes seconds and needs the framework that trained the model; running the result needs
neither. The name of a converted file holds a hash of all that it was made of, so that it can
never be that of another model, and beside it lies a hash of its content: a file that was damaged
is made again. A conversion that the model itself does not allow is remembered too, with its cause.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from dpk_core import __version__
from dpk_core.errors import DpkError, OutputError
from dpk_core.services.fingerprints import file_hash
from dpk_core.services.storage import atomic_path
from dpk_core.services.storage.atomic import check_output, output_errors

CACHE_VARIABLE = "DPK_CACHE"
"""Names the environment variable with another folder for the cache."""

KEPT = 20
"""Converted models that stay; of more, those used longest ago are deleted."""

_NOTES = (".hash", ".failed", ".lock")
"""Suffixes of what lies beside a converted model, under its name."""

_OF_CONVERSION = re.compile(r"[0-9a-f]{32}\.[a-z0-9]+")
_OF_MAKING = re.compile(r"\.[0-9a-f]{32}\.[0-9a-f]{6}-\d+-[0-9a-f]{8}\.partial\.[a-z0-9]+")
"""Names of a conversion's files, and of one that is being written."""

_OUT_OF_MEMORY = ("ResourceExhaustedError", "OutOfMemoryError")
"""What TensorFlow and PyTorch call it; neither is a MemoryError."""

_LONGEST_WAIT = 600.0
_DAY = 86400.0


def cache_folder() -> Path:
    """Where converted models are kept."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("dpk")) / "models"


class Conversion:
    """One model in another form.

    Parameters
    ----------
    source_hash
        Of the model file.
    suffix
        Of the form that is wanted, such as ".onnx".
    settings
        All else that the result depends on; JSON values.
    """

    def __init__(self, source_hash: str, suffix: str, **settings: object) -> None:
        facts = json.dumps([source_hash, suffix, settings, __version__], sort_keys=True)
        key = hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()
        self.path = cache_folder() / f"{key}{suffix}"
        self._failure = self.path.with_suffix(".failed")
        self._hash = self.path.with_suffix(".hash")

    @property
    def is_made(self) -> bool:
        """Whether the converted file is there and as it was written."""
        try:
            return self._hash.read_text(encoding="utf-8") == file_hash(self.path)
        except (OSError, ValueError):  # not there, or not to be read
            return False

    @property
    def failure(self) -> str | None:
        """Why an earlier attempt failed; None when none did."""
        try:
            return self._failure.read_text(encoding="utf-8")
        except OSError:
            return None

    def get(self, make: Callable[[Path], None]) -> Path:
        """The converted file, made by ``make(path)`` unless it is there.

        Of several processes that ask at once, one makes it and the others wait.

        Raises
        ------
        DpkError
            Whatever ``make`` raises; it is remembered in `failure` unless it `may_pass`.
        OutputError
            When nothing can be written to the cache.
        """
        if self.is_made:  # a cache that may only be read is good enough for that
            with suppress(OSError):
                os.utime(self.path)
            return self.path
        _make_folder(self.path.parent)
        check_output(self.path, overwrite=True)
        with self._only_maker():
            if not self.is_made:
                self._make(make)
        _delete_oldest(self.path.parent)
        return self.path

    def _make(self, make: Callable[[Path], None]) -> None:
        self._hash.unlink(missing_ok=True)
        try:
            with atomic_path(self.path, overwrite=True) as temporary:
                make(Path(temporary))
            with atomic_path(self._hash, overwrite=True) as temporary:
                temporary.write_text(file_hash(self.path), encoding="utf-8")
        except DpkError as error:
            if not may_pass(error):
                with suppress(OSError):  # then it is tried again
                    self._failure.write_text(str(error), encoding="utf-8")
            raise
        self._failure.unlink(missing_ok=True)

    @contextmanager
    def _only_maker(self) -> Iterator[None]:
        lock = FileLock(self.path.with_suffix(".lock"))
        try:
            with output_errors(self.path):
                lock.acquire(timeout=_LONGEST_WAIT)
        except Timeout:
            raise OutputError(
                f"another process has been converting the model to {self.path} for "
                f"{_LONGEST_WAIT / 60:.0f} minutes; see whether it hangs"
            ) from None
        try:
            yield
        finally:
            lock.release()


def may_pass(error: BaseException) -> bool:
    """Whether the next attempt may go better: it was the machine that failed, not the model.

    So it is when the error, or one that it was raised from, tells of files, of processes that
    were killed, of memory, or of something that is not installed.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (OSError, MemoryError, ImportError, subprocess.SubprocessError)):
            return True
        if type(seen).__name__ in _OUT_OF_MEMORY:
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cause = error.strerror or type(error).__name__
        if isinstance(error, PermissionError):
            cause = "no permission to write there"
        raise OutputError(
            f"cannot make the folder for converted models, {folder} ({cause}); name another one "
            f"in the environment variable {CACHE_VARIABLE}"
        ) from error


def _delete_oldest(folder: Path) -> None:
    """Keep the cache small; a file that another process uses or deletes meanwhile is fine.

    The folder may be one that the user named and that holds other things: only what bears a name
    that is made here is touched.
    """
    conversions: dict[str, list[Path]] = defaultdict(list)
    for path in folder.iterdir():
        if _OF_CONVERSION.fullmatch(path.name):
            conversions[path.stem].append(path)
        elif _OF_MAKING.fullmatch(path.name) and time.time() - _last_use(path) > _DAY:
            _delete(path)  # of a process that was killed
    made = [files for files in conversions.values() if any(p.suffix in _NOTES for p in files)]
    for files in sorted(made, key=lambda files: max(map(_last_use, files)))[:-KEPT]:
        for path in files:
            _delete(path)


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
