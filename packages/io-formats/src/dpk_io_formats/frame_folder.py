"""Writing labelled frames as a folder of PNG files, and what such folders cannot hold."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import OutputExistsError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.services.individuals import group_by_frame
from dpk_io_formats.image_paths import IMAGE_SUFFIXES
from dpk_io_formats.images import unpadded, write_png

_LONGEST = 120
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")


@attrs.frozen
class Frame:
    """A frame to write: its file name below the folder, and the rows of its animals."""

    name: str
    rows: tuple[int, ...]
    source: Source

    @property
    def is_image_file(self) -> bool:
        """Whether it came from an image file rather than a video."""
        return _is_image(self.source)


def frames_of(annotations: AnnotationSet) -> list[Frame]:
    """The frames of a set, in the order in which they first appear; each is written once.

    Animals that share a frame share its image, except where each was cropped out of it.
    """
    frames: list[Frame] = []
    taken: set[str] = set()
    for _, _, rows in group_by_frame(annotations):
        groups: dict[object, list[int]] = {}
        for i in rows:
            source = annotations.sources[i]
            groups.setdefault(source.crop or "whole", []).append(i)
        for group in groups.values():
            source = annotations.sources[group[0]]
            frames.append(Frame(_free(_name(source, len(frames)), taken), tuple(group), source))
    return frames


def write_frames(
    folder: Path, annotations: AnnotationSet, frames: list[Frame]
) -> Iterator[tuple[Frame, tuple[int, int]]]:
    """Write each frame without the padding; gives it with its (height, width).

    Raises
    ------
    ValidationError
        When images have neither one nor three channels.
    """
    if annotations.image_shape[2] not in (1, 3):
        raise ValidationError(
            f"images: expected 1 or 3 channels, found {annotations.image_shape[2]}"
        )
    for frame in frames:
        image = unpadded(np.asarray(annotations.images[frame.rows[0]]), frame.source.size)
        path = folder / frame.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, image)
        yield frame, (image.shape[0], image.shape[1])


def make_folder(path: Path) -> None:
    """The folder to write into; OutputExistsError when something is there."""
    try:
        path.mkdir(exist_ok=path.is_dir() and not any(path.iterdir()))
    except FileExistsError:
        raise OutputExistsError(f"{path} exists already; choose another name") from None


def report_labels(annotations: AnnotationSet, report: LossReport | None) -> None:
    """Count what a file of plain labels cannot say about keypoints."""
    if report is None:
        return
    placed = np.isfinite(annotations.keypoints).all(axis=2)
    report.add(
        "unconfirmed keypoints",
        int((placed & ~annotations.annotated).sum()),
        "the target takes every coordinate for a person's",
    )
    report.add(
        "visibilities",
        int((placed & (annotations.visibility == 0)).sum()),
        "a labelled keypoint is hidden or visible; they become visible",
    )
    report.add(
        "keypoints marked absent",
        int((~placed & annotations.annotated).sum()),
        "the target knows only labelled and not labelled",
    )


def report_names(frames: list[Frame], report: LossReport | None) -> None:
    """Count image files that get another name."""
    if report is not None:
        renamed = sum(f.is_image_file and f.name != f.source.video for f in frames)
        report.add("file names", renamed, "images are written as PNG under names that fit")


def box_of(keypoints: np.ndarray) -> tuple[float, float, float, float] | None:
    """x, y, width, height of the pixels that labelled keypoints lie on; None without any.

    Measured, as boxes are in COCO and YOLO, from the corner of the top-left pixel: a keypoint at
    the centre of a pixel, (x, y) here, is the square from (x, y) to (x + 1, y + 1) there.
    """
    placed = keypoints[np.isfinite(keypoints).all(axis=1)]
    if not len(placed):
        return None
    low, high = placed.min(axis=0), placed.max(axis=0) + 1
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def _is_image(source: Source) -> bool:
    suffix = Path(source.video.replace("\\", "/")).suffix.lower()
    return suffix in IMAGE_SUFFIXES and source.frame <= 0 and source.crop is None


def _name(source: Source, number: int) -> str:
    parts = [part for part in re.split(r"[\\/]+", source.video) if part]
    outside = not parts or source.video[:1] in "\\/" or re.match(r"[A-Za-z]:", parts[0])
    if not parts:
        return f"image_{number + 1:06d}.png"
    if outside or ".." in parts or not _is_image(source):
        parts = parts[-1:]
    parts = [_safe(part) for part in parts if part != "."] or ["image"]
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", parts[-1]) or "image"
    if not _is_image(source):
        if source.frame >= 0:
            stem += f"_{source.frame:06d}"
        if source.individual and source.crop is not None:
            stem += f"_{_safe(source.individual)}"
    return "/".join([*parts[:-1], f"{_short(stem)}.png"])


def _safe(part: str) -> str:
    """A name that any file system takes."""
    part = part.encode("utf-8", "replace").decode()
    part = re.sub(r'[<>:"|?*/\\\x00-\x1f]', "_", part).rstrip(" .") or "_"
    return _short(f"_{part}" if _RESERVED.match(part) else part)


def _short(part: str) -> str:
    encoded = part.encode()
    if len(encoded) <= _LONGEST:
        return part
    digest = hashlib.blake2b(encoded, digest_size=6).hexdigest()
    return f"{encoded[: _LONGEST - 13].decode('utf-8', 'ignore')}_{digest}"


def _free(name: str, taken: set[str]) -> str:
    """The name, numbered when another frame has it; upper and lower case count as one."""
    stem, number = name.removesuffix(".png"), 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}_{number}.png"
    taken.add(name.casefold())
    return name
