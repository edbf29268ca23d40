"""Labels as they are collected from a file, made into an `AnnotationSet`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import FileFormatError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.skeleton import Skeleton
from dpk_io_formats.frame_folder import box_of
from dpk_io_formats.images import Images, find_missing

CENTER, CORNER = "center", "corner"
"""Where a file has its origin: the centre of the top-left pixel, or that pixel's corner."""

_CLOSE_PX = 0.01


@attrs.define(eq=False)
class Animal:
    """One labelled animal.

    keypoints (k, 2) as they stand in the file; visibility (k,); box x, y, width, height measured
    from the corner of the image, where the file has one; is_confirmed whether a person set it.
    """

    keypoints: np.ndarray
    visibility: np.ndarray
    individual: str = ""
    box: tuple[float, float, float, float] | None = None
    is_confirmed: bool = True


@attrs.define(eq=False)
class Picture:
    """One image with its animals.

    Parameters
    ----------
    path, frame
        The image file (frame None), or the video and the number of its frame.
    source
        What the rows of the set get, apart from individual and size.
    size
        (height, width) as the file says, where it does.
    """

    path: Path
    source: Source
    frame: int | None = None
    size: tuple[int, int] | None = None
    animals: list[Animal] = attrs.field(factory=list)


def gather(
    pictures: Sequence[Picture],
    skeleton: Skeleton,
    what: str,
    *,
    missing: str = "error",
    origin: str = CENTER,
    relative: bool = False,
    channels: int = 3,
    report: LossReport | None = None,
) -> AnnotationSet:
    """A row for each animal, and one for each image without any; images are read when asked for.

    Parameters
    ----------
    pictures
        In the order of the rows.
    what
        The file that they come from, for messages.
    missing
        What to do about images that are not there: "error" or "skip".
    origin
        `CENTER` or `CORNER`.
    relative
        Whether coordinates are shares of the image's width and height.

    Raises
    ------
    FileMissingError, FileFormatError, ValidationError
    """
    if origin not in (CENTER, CORNER):
        raise ValidationError(f"origin: expected {CENTER!r} or {CORNER!r}, found {origin!r}")
    if not pictures:
        raise FileFormatError(f"{what} lists no image; expected at least one")
    found = find_missing([picture.path for picture in pictures], missing, what)
    if report is not None:
        report.add("images", len(found.absent), "the files are not there")
    kept = [pictures[i] for i in found.kept]
    images = _Once([(picture.path, picture.frame) for picture in kept], channels)
    keypoints, visibility, sources, rows, confirmed = [], [], [], [], []
    none = Animal(np.full((len(skeleton), 2), np.nan), np.zeros(len(skeleton), np.uint8))
    for i, picture in enumerate(kept):
        size = (int(images.sizes[i][0]), int(images.sizes[i][1]))
        _check_size(picture, size, what)
        names = _told_apart(picture.animals)
        for animal, name in zip(picture.animals or [none], names or [""], strict=True):
            scale = np.array([size[1], size[0]]) if relative else np.ones(2)
            keypoints.append(animal.keypoints * scale - (0.5 if origin == CORNER else 0.0))
            if report is not None and animal.box is not None:
                stored = np.array(animal.box) * np.tile(scale, 2)
                other = not _is_ours(stored, keypoints[-1], size)
                report.add("boxes", int(other), "labels here have none; new ones fit tightly")
            visibility.append(animal.visibility)
            sources.append(attrs.evolve(picture.source, individual=name, size=images.padding(i)))
            rows.append(i)
            confirmed.append(animal.is_confirmed)
    return AnnotationSet(
        images.repeated(rows),
        np.array(keypoints),
        skeleton,
        annotated=np.isfinite(keypoints).all(axis=2) & np.array(confirmed)[:, None],
        visibility=np.array(visibility),
        sources=tuple(sources),
    )


def is_numbering(individuals: Sequence[str]) -> bool:
    """Whether the names of a frame's animals are only those that `gather` gives the nameless."""
    if len(individuals) == 1:
        return individuals[0] == ""
    return list(individuals) == [str(i + 1) for i in range(len(individuals))]


def _is_ours(stored: np.ndarray, keypoints: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a box is the one that would be drawn around these keypoints."""
    x, y, width, height = box_of(keypoints) or (0.0,) * 4
    low = np.clip([x, y], 0, [size[1], size[0]])
    high = np.clip([x + width, y + height], 0, [size[1], size[0]])
    return bool(np.abs(stored - [*low, *(high - low)]).max() < _CLOSE_PX)


class _Once(Images):
    """Images, each opened and measured once however many animals are in it."""

    def repeated(self, rows: Sequence[int]) -> Any:
        from dpk_core.annotations import ImageRows

        return self if len(rows) == len(self) else ImageRows(self, np.asarray(rows))


def _told_apart(animals: Sequence[Animal]) -> list[str]:
    """Their names; where one of several has none, or two share one, all are numbered."""
    names = [animal.individual for animal in animals]
    if len(names) > 1 and ("" in names or len(set(names)) < len(names)):
        return [str(i + 1) for i in range(len(names))]
    return names


def _check_size(picture: Picture, size: tuple[int, int], what: str) -> None:
    if picture.size is not None and picture.size != size:
        raise FileFormatError(
            f"{picture.path} is {size[1]}x{size[0]} pixels; {what} was made for "
            f"{picture.size[1]}x{picture.size[0]}: the labels belong to another version of the "
            "image (a resized one, or one that was turned as its EXIF orientation says)"
        )
