"""What a DeepLabCut project says besides its labels: settings, skeleton, where images come from."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PureWindowsPath
from typing import Any

from dpk_core.annotations import Source
from dpk_core.errors import FileMissingError
from dpk_core.skeleton import NONE, Skeleton
from dpk_io_formats.plain_yaml import read_settings

CONFIG = "config.yaml"
LABELS = "labeled-data"
_SIDES = (("left", "right"), ("Left", "Right"), ("_l", "_r"), ("_L", "_R"))
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


# -- files --------------------------------------------------------------------------------------


def read_config(folder: Path) -> dict[str, Any]:
    """The settings in a project's ``config.yaml``.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileMissingError(f"no DeepLabCut project at {folder}: expected {path}")
    return read_settings(path)


def as_list(value: Any) -> list[Any]:
    """A list of the configuration; empty for anything else ('MULTI!', nothing)."""
    return list(value) if isinstance(value, (list, tuple)) else []


# -- images, frames, crops ----------------------------------------------------------------------


def image_sources(images: list[tuple[str, str]]) -> dict[tuple[str, str], Source]:
    """Where each (folder, file) came from: the folder is named after the video.

    A file whose name gives no number, or the same as another one's, is a `Source` of its own: its
    path below ``labeled-data``, frame 0.
    """
    numbers = {image: frame_number(image[1]) for image in images}
    times = Counter((f, numbers[f, name]) for f, name in numbers)
    return {
        (f, name): Source(f, number)
        if number >= 0 and times[f, number] == 1
        else Source(f"{f}/{name}", 0)
        for (f, name), number in numbers.items()
    }


def image_name(source: Source) -> str:
    """The name of the file that is written for a frame."""
    if is_image_file(source):
        return f"{PureWindowsPath(source.video).stem}.png"
    return f"img{source.frame:04d}.png"


def is_image_file(source: Source) -> bool:
    """Whether a source is an image rather than a frame of a video."""
    return source.video.lower().endswith(_IMAGE_SUFFIXES) and source.frame <= 0


def frame_number(name: str) -> int:
    """DeepLabCut names extracted frames imgNNNN.png after their number in the video; or -1."""
    found = re.fullmatch(r"\D*(\d{1,12})", Path(name).stem, re.ASCII)
    return int(found.group(1)) if found else -1


def find_crops(config: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    """x1, x2, y1, y2 by the name of the video."""
    videos = config.get("video_sets")
    found = {}
    for video, settings in videos.items() if isinstance(videos, dict) else ():
        text = settings.get("crop") if isinstance(settings, dict) else None
        numbers = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", str(text))
        if numbers and len(str(text)) < 60:
            x1, x2, y1, y2 = map(int, numbers.groups())
            found[PureWindowsPath(str(video)).stem] = (x1, x2, y1, y2)
    return found


# -- the skeleton -------------------------------------------------------------------------------


def make_skeleton(
    bodyparts: tuple[str, ...], pairs: list[Any], *, guess_swaps: bool = True
) -> Skeleton:
    """A skeleton from DeepLabCut's list of linked body parts.

    DeepLabCut draws lines between any two body parts; a `Skeleton` is made of trees. A link is
    taken, in the order of the list, unless it closes a circle or names an unknown part; each tree
    hangs on its first body part.
    """
    index = {name: i for i, name in enumerate(bodyparts)}
    neighbours: list[list[int]] = [[] for _ in bodyparts]
    group = list(range(len(bodyparts)))
    for pair in pairs:
        ends = list(pair) if isinstance(pair, (list, tuple)) else []
        a, b = (index.get(str(name), NONE) for name in [*ends, "", ""][:2])
        if NONE in (a, b) or group[a] == group[b]:
            continue
        group = [group[a] if g == group[b] else g for g in group]
        neighbours[a].append(b)
        neighbours[b].append(a)
    parent = [NONE] * len(bodyparts)
    visited: set[int] = set()
    for root in range(len(bodyparts)):
        waiting = [] if root in visited else [root]
        while waiting:
            i = waiting.pop()
            visited.add(i)
            for j in neighbours[i]:
                if j not in visited:
                    parent[j] = i
                    waiting.append(j)
    swap = _guess_swaps(bodyparts) if guess_swaps else [NONE] * len(bodyparts)
    return Skeleton(bodyparts, parent, swap)


def _guess_swaps(bodyparts: tuple[str, ...]) -> list[int]:
    index = {name: i for i, name in enumerate(bodyparts)}
    swap = [NONE] * len(bodyparts)
    for name, i in index.items():
        for left, right in _SIDES:
            if left.startswith("_"):
                partner = name[: -len(left)] + right if name.endswith(left) else ""
            else:
                partner = name.replace(left, right) if name.count(left) == 1 else ""
            j = index.get(partner, NONE)
            if j not in (NONE, i):
                swap[i], swap[j] = j, i
    return swap
