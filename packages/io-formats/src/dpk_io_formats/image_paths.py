"""Where the images are that a file of labels names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dpk_core.errors import FileFormatError

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".jp2")
)


class ImageFinder:
    """Finds images by the names that stand in a file, in several folders.

    Parameters
    ----------
    folders
        Where to look, the likeliest first; those that are not there count for nothing.
    what
        The file that names them, for messages.
    """

    def __init__(self, folders: Iterable[Path], what: str) -> None:
        folders = list(dict.fromkeys(folders))
        self._folders = [folder for folder in folders if folder.is_dir()] or folders[:1]
        self._what = what

    def find(self, name: str, *others: str) -> Path:
        """The file of that name, or under one of its other names; where it should be if absent.

        Raises
        ------
        FileFormatError
            When a name leads out of the folder.
        """
        names = [plain_name(each, self._what) for each in (name, *others)]
        for each in names:
            for position, folder in enumerate(self._folders):
                path = folder / each
                if _is_file(path):
                    # Images of one set lie in one folder: look there first from now on.
                    self._folders.insert(0, self._folders.pop(position))
                    return path
        return self._folders[0] / _nameable(names[0])


def plain_name(name: str, what: str) -> str:
    """A relative path with slashes; of an absolute one, which is another computer's, the name.

    Raises
    ------
    FileFormatError
        When it leads out of its folder, or is no name of a file.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if ".." in path.parts:
        raise FileFormatError(
            f"{what}: the image {_short(name)!r} leads out of its folder; correct its name"
        )
    if "\0" in name or not path.name:
        raise FileFormatError(f"{what}: {_short(name)!r} is no name of an image")
    if path.is_absolute() or re.match(r"[A-Za-z]:", path.parts[0]):
        return path.name
    return str(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or none at all here
        return False


def _nameable(name: str) -> str:
    """A name that one may at least ask for: longer ones are an error of the file system."""
    return "/".join(_short(part) for part in name.split("/")[-8:])


def _short(name: str) -> str:
    return name if len(name.encode("utf-8", "replace")) <= 200 else f"{name[:60]}..."
