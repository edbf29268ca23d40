"""Images and labels of a set in the folders of a DeepLabCut project, ``labeled-data/VIDEO/``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PureWindowsPath
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import VISIBLE, AnnotationSet, Source
from dpk_core.errors import ValidationError
from dpk_core.losses import LossReport
from dpk_io_formats.deeplabcut_project import image_name, image_sources, is_image_file
from dpk_io_formats.images import unpadded, write_png

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".mpg", ".mpeg", ".m4v", ".wmv", ".webm")


@attrs.define
class Frame:
    """An image of the project, and the rows that are animals on it."""

    folder: str
    name: str
    rows: list[int]
    crop: tuple[float, ...] | None


def confirmed_keypoints(annotations: AnnotationSet, report: LossReport) -> np.ndarray:
    """Labels, without what nobody has confirmed."""
    there = np.isfinite(annotations.keypoints).all(axis=2)
    suggested = there & ~annotations.annotated
    why = "DeepLabCut takes every coordinate for a label; they are left out"
    report.add("unconfirmed keypoints", int(suggested.sum()), why)
    absent = annotations.annotated & ~there
    report.add(
        "keypoints marked absent",
        int(absent.sum()),
        "DeepLabCut knows only labelled and not labelled",
    )
    other = there & annotations.annotated & (annotations.visibility != VISIBLE)
    report.add("visibilities", int(other.sum()), "DeepLabCut does not tell hidden from visible")
    return np.where(suggested[..., None], np.nan, annotations.keypoints)


def labelled_row(frame: Frame, keypoints: np.ndarray) -> int:
    """The row of a frame that has labels, or the first."""
    return next((i for i in frame.rows if np.isfinite(keypoints[i]).any()), frame.rows[0])


def write_image(path: Path, annotations: AnnotationSet, frame: Frame) -> None:
    """Write the image of a frame without its padding."""
    if annotations.image_shape[2] not in (1, 3):
        raise ValidationError(f"images: expected 1 or 3 channels, {annotations.image_shape[2]}")
    image = np.asarray(annotations.images[frame.rows[0]])
    write_png(path, unpadded(image, annotations.sources[frame.rows[0]].size))


def arrange_images(annotations: AnnotationSet) -> tuple[list[Frame], dict[str, str]]:
    """A folder and a name for each image, and the path of the video of each folder."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, source in enumerate(annotations.sources):
        known = bool(source.video) and source.frame >= 0
        shown = (source.video, source.frame, source.crop, source.size)
        groups.setdefault(shown if known else (*shown, i), []).append(i)
    views: dict[tuple[str, int], int] = {}
    for key in groups:
        views[key[:2]] = views.get(key[:2], 0) + 1
    folders = _Names()
    names: dict[str, set[str]] = {}
    paths: dict[str, str] = {}
    frames = []
    for key, rows in groups.items():
        source = annotations.sources[rows[0]]
        folder = folders.folder(source)
        is_video = source.video.lower().endswith(_VIDEO_SUFFIXES)
        path = source.video.replace("\\", "/")
        same = is_video and PureWindowsPath(path).stem == folder
        paths.setdefault(folder, path if same else f"{folder}.mp4")
        taken = names.setdefault(folder, set())
        one = views[key[:2]] == 1 or is_image_file(source)
        frames.append(Frame(folder, _image_name(source, one, taken), rows, source.crop))
    return frames, paths


class _Names:
    """A folder for each video, whatever its path; no two the same, on any disk."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._taken: set[str] = set()

    def folder(self, source: Source) -> str:
        path = PureWindowsPath(source.video)
        if is_image_file(source):
            key, wanted = str(path.parent), path.parent.name
        elif path.suffix.lower() in _VIDEO_SUFFIXES:
            key, wanted = source.video, path.stem
        else:
            key, wanted = source.video, path.name
        if key not in self._of:
            self._of[key] = unique_name(file_name(wanted) or "images", self._taken)
        return self._of[key]


def file_name(text: str) -> str:
    """Text without what a file name cannot hold; "" when nothing is left."""
    name = _FORBIDDEN.sub("_", text).strip(" .")
    if len(name.encode("utf-8", "replace")) > 150:
        name = f"{name[:30]}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    return name


def unique_name(name: str, taken: set[str], suffix: str = "") -> str:
    """The name with its suffix, or with a number between that makes it a new one."""
    found, i = name + suffix, 1
    while found.casefold() in taken:
        i += 1
        found = f"{name}-{i}{suffix}"
    taken.add(found.casefold())
    return found


def _image_name(source: Source, one: bool, taken: set[str]) -> str:
    if is_image_file(source):
        stem = file_name(PureWindowsPath(source.video).stem) or "image"
    elif source.frame < 0:
        stem = f"frame_{len(taken):04d}_unknown"
    elif one:
        stem = Path(image_name(source)).stem
    else:  # several crops of a frame
        stem = f"img{source.frame:04d}_{file_name(source.individual) or 'crop'}_"
    return unique_name(stem, taken, ".png")


def one_crop(frames: list[Frame], annotations: AnnotationSet) -> dict[str, tuple[float, ...]]:
    """The crop of each folder whose images are all the same rectangle of whole pixels."""
    found: dict[str, tuple[float, ...]] = {}
    by_folder: dict[str, list[Frame]] = {}
    for frame in frames:
        by_folder.setdefault(frame.folder, []).append(frame)
    for folder, shown in by_folder.items():
        crop = shown[0].crop
        same = {(f.crop, annotations.sources[f.rows[0]].size) for f in shown}
        if crop is None or len(same) > 1:
            continue
        shift = np.array([crop[2], crop[5]])
        whole = (shift <= 0).all() and (shift == np.round(shift)).all() and shift.any()
        if whole and crop[:2] == (1, 0) and crop[3:5] == (0, 1):
            found[folder] = crop
    return found


def report_sources(
    annotations: AnnotationSet,
    frames: list[Frame],
    crops: dict[str, tuple[float, ...]],
    report: LossReport,
) -> None:
    """Count what folders and names of images do not say about where they came from."""
    read_as = image_sources([(frame.folder, frame.name) for frame in frames])
    changed = lost_crops = 0
    for frame in frames:
        source, again = annotations.sources[frame.rows[0]], read_as[frame.folder, frame.name]
        changed += (source.video, source.frame) != (again.video, again.frame)
        lost_crops += frame.crop is not None and frame.folder not in crops
    report.add(
        "paths of images", changed, "DeepLabCut knows the name of a video's folder and of an image"
    )
    report.add("crops", lost_crops, "DeepLabCut knows one rectangle of whole pixels a video")


def crop_text(
    annotations: AnnotationSet,
    frames: list[Frame],
    video: str,
    crops: dict[str, tuple[float, ...]],
) -> str:
    shown = [frame for frame in frames if frame.folder == video]
    sizes = [annotations.sources[f.rows[0]].size or annotations.image_shape[:2] for f in shown]
    height, width = np.max(sizes, axis=0).tolist()
    crop = crops.get(video, (1, 0, 0, 0, 1, 0))
    left, top = int(-crop[2]), int(-crop[5])
    return f"{left}, {left + width}, {top}, {top + height}"
