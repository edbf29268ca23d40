"""Rotating backups of labels: ``labels.h5.backups/20250131-174502-r812.npz``.

NumPy's own format, readable without us: keypoints (n, k, 2), visibility, annotated, flag, finished,
notes and skeleton (JSON as bytes). Images, which no edit changes, are not in them.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import attrs

from dpk_annotator.labels import Labels
from dpk_core.errors import FileFormatError, FileMissingError
from dpk_core.services.storage.atomic import atomic_path

LATEST, DAYS = 10, 30
"""How many of the latest are kept, and for how many days the last of each."""

_NAME = re.compile(r"(\d{8})-(\d{6})-r(\d+)\.npz")


@attrs.frozen
class Backup:
    """One backup: its file, when it was made (seconds since 1970), the revision it holds."""

    path: Path
    time: float
    revision: int


def backup_folder(path: Path) -> Path:
    """Where a set's backups are."""
    return path.with_name(path.name + ".backups")


def list_backups(path: Path) -> list[Backup]:
    """The backups of a set, the latest first."""
    folder = backup_folder(path)
    found = []
    for file in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(file.name)
        if match:
            try:
                moment = time.mktime(time.strptime(match[1] + match[2], "%Y%m%d%H%M%S"))
            except (ValueError, OverflowError):
                continue
            found.append(Backup(file, moment, int(match[3])))
    return sorted(found, key=lambda backup: (backup.time, backup.revision), reverse=True)


def write_backup(path: Path, labels: Labels, revision: int, now: float | None = None) -> Path:
    """Keep the labels, and remove backups that have become too many.

    Raises
    ------
    OutputError, OSError
    """
    now = time.time() if now is None else now
    folder = backup_folder(path)
    folder.mkdir(exist_ok=True)
    name = time.strftime("%Y%m%d-%H%M%S", time.localtime(now)) + f"-r{revision}.npz"
    with atomic_path(folder / name, overwrite=True) as temporary:
        temporary.write_bytes(labels.to_bytes())
    for backup in superfluous(list_backups(path), now):
        backup.path.unlink(missing_ok=True)
    return folder / name


def superfluous(backups: list[Backup], now: float) -> list[Backup]:
    """Those to remove: all but the latest, and the last of each day for a while."""
    days: set[str] = set()
    remove = []
    for i, backup in enumerate(backups):
        day = time.strftime("%Y%m%d", time.localtime(backup.time))
        last_of_day = day not in days and now - backup.time < DAYS * 86400
        days.add(day)
        if i >= LATEST and not last_of_day:
            remove.append(backup)
    return remove


def read_backup(path: Path) -> Labels:
    """The labels of a backup.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    try:
        return Labels.from_bytes(path.read_bytes())
    except FileNotFoundError:
        raise FileMissingError(f"no backup at {path}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            f"{path} is not a backup of labels, or damaged ({error}); take another one"
        ) from None
