"""Paths of videos that stand in files: written so that they survive a move, read on any system."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

NEAR = 2
"""Folders up that a relative path may lead: further away, nobody moves both together."""


def portable(video: Path, folder: Path) -> str:
    """How a file in ``folder`` names a video: relative where they are near each other.

    Always with forward slashes.

    Examples
    --------
    >>> portable(Path("/lab/videos/a.mp4"), Path("/lab/labels"))
    '../videos/a.mp4'
    >>> portable(Path("/archive/2019/a.mp4"), Path("/home/me/lab/labels"))
    '/archive/2019/a.mp4'
    """
    video, folder = Path(os.path.abspath(video)), Path(os.path.abspath(folder))
    try:
        relative = Path(os.path.relpath(video, folder))
    except ValueError:  # another drive
        return video.as_posix()
    if relative.parts[: NEAR + 1] == ("..",) * (NEAR + 1):
        return video.as_posix()
    return relative.as_posix()


def locate(video: str, folder: Path) -> Path | None:
    """The video that a file in ``folder`` names, None when it is not there.

    Looked for where the name says, relative to the folder, then to the working directory.
    A path written on Windows works elsewhere if it is relative.

    Examples
    --------
    >>> locate("no\\\\such\\\\video.mp4", Path(".")) is None
    True
    """
    if not video:
        return None
    for name in dict.fromkeys((video, video.replace("\\", "/"))):
        for candidate in (folder / name, Path(name)):
            try:
                if candidate.is_file():
                    return candidate
            except (OSError, ValueError):  # too long for a path, or with a null character
                continue
    return None


def file_name(video: str) -> str:
    """The last part of a path from any system.

    Examples
    --------
    >>> file_name("C:\\\\films\\\\a.mp4"), file_name("/films/b.mp4")
    ('a.mp4', 'b.mp4')
    """
    name = PurePosixPath(video).name
    return PureWindowsPath(name).name if "\\" in name else name
