"""Which frames of which videos a set has already."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from dpk_core.annotations import AnnotationSet
from dpk_core.services.video_paths import locate


def frames_by_video(present: AnnotationSet | None, folder: Path) -> dict[str, list[int]]:
    """Frames that a set has already, by plain name and by where the video is: a set may name it
    relative to itself."""
    frames: dict[str, list[int]] = {}
    for source in () if present is None else present.sources or ():
        if source.video and source.frame >= 0:
            for name in names_of(source.video, folder):
                frames.setdefault(name, []).append(source.frame)
    return frames


def taken_frames(frames: dict[str, list[int]], name: str) -> list[int]:
    """Of the video of that plain name."""
    return sorted({*frames.get(name, []), *frames.get(_place(name, Path()), [])})


def plain_name(video: str | PathLike[str]) -> str:
    """The path as it was given, with forward slashes and no leading ``./``."""
    return Path(video).as_posix()


def names_of(video: str, folder: Path = Path()) -> set[str]:
    """What a video, named in a file of that folder, is known by: its plain name, and its place;
    nothing where the file does not know it."""
    return {plain_name(video), _place(video, folder)} - {""} if video else set()


def _place(video: str, folder: Path) -> str:
    """Where a video is, "" when it is not there."""
    found = locate(video, folder)
    return "" if found is None else found.resolve().as_posix()
