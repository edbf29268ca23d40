"""Models converted for another engine: made once, kept in the user's cache folder.

Converting takes seconds and needs the framework that trained the model; running the result needs
neither. The name of a converted file holds a hash of all that it was made of, so that it can
never be that of another model. A conversion that failed is remembered too, with its cause.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock

from dpk_core import __version__
from dpk_core.errors import DpkError, MissingDependencyError, OutputError
from dpk_core.services.storage import atomic_path
from dpk_core.services.storage.atomic import output_errors

CACHE_VARIABLE = "DPK_CACHE"
"""Names the environment variable with another folder for the cache."""

KEPT = 20
"""Converted models that stay; of more, those used longest ago are deleted."""


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
            Whatever ``make`` raises; it is remembered in `failure`.
        OutputError
            When nothing can be written to the cache.
        """
        with output_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            if self.path.is_file():
                os.utime(self.path)
                return self.path
            try:
                with atomic_path(self.path, overwrite=True) as temporary:
                    make(Path(temporary))
            except (OutputError, MissingDependencyError):
                raise  # the next attempt may go better
            except DpkError as error:
                self._failure.write_text(str(error), encoding="utf-8")
                raise
            self._failure.unlink(missing_ok=True)
        _delete_oldest(self.path.parent)
        return self.path


def _delete_oldest(folder: Path) -> None:
    """Keep the cache small; a file that another process deletes at the same time is fine."""
    for pattern in ("*.onnx", "*.failed", "*.lock"):
        files = sorted(folder.glob(pattern), key=_last_use, reverse=True)
        for path in files[KEPT:]:
            path.unlink(missing_ok=True)


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
