"""What makes one tracking job another: files that settings name, and in what two jobs differ."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from dpk_core.services.fingerprints import file_hash
from dpk_core.services.storage.hdf5 import to_json


def file_content(value: Any) -> str | None:
    """A hash of the file that a setting names (also file.py:function); None when it names none."""
    if not isinstance(value, (str, PathLike)):
        return None
    for path in (value, str(value).rpartition(":")[0]):
        try:
            if path and Path(path).is_file():
                return file_hash(Path(path))
        except (OSError, ValueError):  # a text that can be no path
            continue
    return None


def differing_in(stored: Any, job: dict[str, Any]) -> list[str]:
    """What of a job is not as in the one that was stored, in words of the user.

    Examples
    --------
    >>> stored = {"stop": 9, "tracker": {"name": "kalman", "settings": {}}}
    >>> differing_in(stored, {"stop": 9, "tracker": {"name": "kalman", "settings": {"wait": 3}}})
    ['tracker (settings)']
    """
    known = stored if isinstance(stored, dict) else {}
    words = {"input": "video", "by": "version"}
    found = []
    for name, value in job.items():
        old = known.get(name)
        if to_json(old) == to_json(value):
            continue
        parts: list[str] = []
        if isinstance(old, dict) and isinstance(value, dict):
            keys = [key for key in {**value, **old} if old.get(key) != value.get(key)]
            parts = ["name"] if "name" in keys else [words.get(key, key) for key in keys]
        found.append(words.get(name, name) + (f" ({', '.join(parts)})" if parts else ""))
    return found
