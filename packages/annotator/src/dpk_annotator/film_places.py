"""Where videos of a set, and poses of them, are looked for.

In this order: the folder of the set, those that a user named, ``videos`` in the set's folder,
``videos`` beside it, and ``videos`` in a folder that is named as the set is (``day1/videos`` for
``day1.labels.h5``, as of a DeepLabCut project that the set was made of). Folders in these are not
looked into.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dpk_annotator.set_source import SET_SUFFIX
from dpk_core.errors import FileMissingError
from dpk_core.services.video_paths import file_name, locate

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg", ".h264", ".ts")
FOLDER = "videos"


class FilmPlaces:
    """The folders around a set, looked at anew each time: they may come and go.

    What may not be looked at is passed over as if it were not there. (``os.path`` says so itself;
    methods of `Path` raise an error up to Python 3.13.)

    Parameters
    ----------
    set_path
        The set's file.
    more
        Folders that a user named.

    Raises
    ------
    FileMissingError
        When one of these is no folder.
    """

    def __init__(self, set_path: Path, more: Sequence[Path] = ()) -> None:
        for folder in more:
            if not os.path.isdir(folder):
                raise FileMissingError(f"{folder}: expected a folder with videos, found none")
        self._home = set_path.parent
        home = set_path.absolute().parent
        name = set_path.name.removesuffix(SET_SUFFIX).removesuffix(set_path.suffix)
        ours = [home / FOLDER, home.parent / FOLDER, home / name / FOLDER]
        self._all = [self._home, *more, *ours]

    @property
    def folders(self) -> list[Path]:
        """Those that are there, each once, the set's own first."""
        found: dict[Path, Path] = {}
        for folder in self._all:
            if os.path.isdir(folder):
                found.setdefault(folder.resolve(), folder)
        return list(found.values())

    def files(self, suffixes: Sequence[str]) -> list[Path]:
        """Files whose names end so, in any case; by folder, then by name."""
        found: dict[Path, Path] = {}
        for folder in self.folders:
            try:
                entries = sorted(folder.iterdir())
            except OSError:
                continue
            for path in entries:
                is_such = path.name.lower().endswith(tuple(suffixes))
                if is_such and not path.name.startswith(".") and os.path.isfile(path):
                    found.setdefault(path.resolve(), path)
        return list(found.values())

    def where_named(self, video: str, folder: Path | None = None) -> Path | None:
        """The video that a file in a folder names; None when it is not there."""
        return locate(video, self._home if folder is None else folder)

    def present(self, videos: Sequence[str]) -> list[bool]:
        """Of videos that the set names, which are here: where it says, or elsewhere by name."""
        files = self.files(VIDEO_SUFFIXES)
        return [
            bool(video) and (self.where_named(video) is not None or bool(alike(video, files)))
            for video in videos
        ]


def alike(video: str, files: Sequence[Path]) -> list[Path]:
    """Files with the name of a video, which may be other videos.

    Of a name without a suffix, as DeepLabCut's labels have it, those with any.
    """
    name = file_name(video)
    has_suffix = name.lower().endswith(VIDEO_SUFFIXES)
    return [p for p in files if p.name == name or (p.stem == name and not has_suffix)]
