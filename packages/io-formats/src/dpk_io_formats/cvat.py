"""Skeletons and points from CVAT: "CVAT for images 1.1" and "CVAT for video 1.1" XML.

Source of the format: docs.cvat.ai, "XML annotation format", and CVAT's own writer,
``cvat/apps/dataset_manager/formats/cvat.py``. The one has an ``<image>`` for each image with the
shapes on it, the other a ``<track>`` for each object with its shape in each frame, numbered in the
video from 0; frames between ``keyframe="1"`` are interpolated. A ``<skeleton>`` holds ``<points>``
named by their label; ``outside="1"`` is not in the image, ``occluded="1"`` hidden. The lines of a
skeleton stand in the drawing (``svg``) of its label.

Without skeletons, ``<points>`` of one point each are keypoints named by their label, and
``group_id`` tells the animals apart; a ``<points>`` of several is an animal whose keypoints are
numbered.

Coordinates: measured "from the top left image corner" (the same page): CVAT's canvas shows an
image of width w from 0 to w, so that a pixel's centre, x here, is x + 0.5 there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import attrs
import numpy as np

from dpk_core.annotations import HIDDEN, VISIBLE, AnnotationSet, Source
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.skeleton import Skeleton
from dpk_io_formats.cvat_labels import CvatMeta, CvatSkeleton
from dpk_io_formats.gathered import CORNER, Animal, Picture, gather
from dpk_io_formats.image_paths import ImageFinder, plain_name
from dpk_io_formats.name_graph import forest, partners
from dpk_io_formats.plain_xml import children

ANNOTATIONS = "annotations.xml"
_ROOT = "annotations"
_SUFFIXES = (".png", ".PNG", ".jpg", ".jpeg", ".JPG")
_FRAME = re.compile(r"frame_(\d{1,18})(\.\w+)?$")
_HEAD = 2**16


class CvatFormat(PoseFormat):
    """Reads an exported XML file, or a folder with ``annotations.xml``."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        file = _file(Path(path))
        try:
            with file.open("rb") as opened:
                head = opened.read(_HEAD)
            if b"<annotations" not in head.replace(b"\0", b""):
                return False
            first = next(children(file, _ROOT), None)
            return first is not None and first.tag in ("version", "meta", "image", "track")
        except (DpkError, OSError):
            return False

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        images: str | PathLike[str] | None = None,
        video: str | PathLike[str] | None = None,
        missing: str = "error",
        label: str | None = None,
        interpolated: bool = False,
        guess_swaps: bool = True,
        channels: int = 3,
        **options: Any,
    ) -> AnnotationSet:
        """The labelled images or frames, with a row for each animal; read when asked for.

        Parameters
        ----------
        images
            The folder of the images. Default: the file's folder, or ``images`` in it.
        video
            The video that was labelled. Default: the one of the task's name beside the file.
        missing
            What to do about images that are not there: "error" names them, "skip" leaves them out.
        label
            The skeleton's label, where several were used.
        interpolated
            Read frames between key frames too, as not annotated.
        guess_swaps
            Take keypoints as partners under a mirror whose names differ only in left and right.
        channels
            3 for RGB, 1 for gray.

        Raises
        ------
        FileMissingError, FileFormatError, SkeletonError, ValidationError
        """
        if kind != "annotations":
            raise ValidationError(f"the format cvat reads annotations, found {kind!r}")
        if options:
            raise ValidationError(f"the format cvat has no options {', '.join(options)}")
        losses = LossReport() if report is None else report
        file = _file(Path(path))
        content = _Content(file, losses, interpolated)
        content.read()
        names, edges = content.choose(label)
        media = _Media(file, content.meta, images, video)
        index = {name: i for i, name in enumerate(names)}
        pictures = [view.picture(media, index, file) for view in content.views()]
        parent, dropped = forest(
            len(names), [(index[a], index[b]) for a, b in edges if a in index and b in index]
        )
        losses.add(
            "skeleton edges", dropped, "they close a circle, and a skeleton is made of trees"
        )
        return gather(
            pictures,
            Skeleton(names, parent, partners(names) if guess_swaps else ()),
            str(file),
            missing=missing,
            origin=CORNER,
            channels=channels,
            report=losses,
        )


@attrs.define
class _Shape:
    """One animal, or a part of one: {name: (x, y, visibility)}."""

    label: str
    points: dict[str, tuple[float, float, int]]
    individual: str = ""
    is_key: bool = True


@attrs.define
class _View:
    """One image or frame, and what is labelled in it."""

    name: str
    frame: int
    size: tuple[int, int] | None
    folder: str = ""
    shapes: list[_Shape] = attrs.field(factory=list)

    def picture(self, media: _Media, index: dict[str, int], file: Path) -> Picture:
        picture = media.picture(self)
        for shape in self.shapes:
            keypoints = np.full((len(index), 2), np.nan)
            visibility = np.zeros(len(index), np.uint8)
            for name, (x, y, flag) in shape.points.items():
                if name not in index:
                    raise FileFormatError(
                        f"{file}: the skeleton {shape.label!r} has no keypoint {name!r}; it has "
                        f"{', '.join(index)}"
                    )
                keypoints[index[name]], visibility[index[name]] = (x, y), flag
            if visibility.any():
                picture.animals.append(
                    Animal(keypoints, visibility, shape.individual, is_confirmed=shape.is_key)
                )
        return picture


class _Content:
    """All that the file says, shape by shape."""

    def __init__(self, file: Path, losses: LossReport, interpolated: bool) -> None:
        self.meta = CvatMeta()
        self._file = file
        self._losses = losses
        self._interpolated = interpolated
        self._images: dict[str, _View] = {}
        self._frames: dict[int, _View] = {}
        self._skeletons: list[tuple[_View, _Shape]] = []
        self._points: list[tuple[_View, _Shape, str]] = []

    def read(self) -> None:
        for element in children(self._file, _ROOT):
            if element.tag == "meta":
                self.meta = CvatMeta.of(element, self._file)
            elif element.tag == "image":
                self._image(element)
            elif element.tag == "track":
                self._track(element)

    def views(self) -> list[_View]:
        """In the order of the file, or of the video."""
        return [*self._images.values(), *(self._frames[i] for i in sorted(self._frames))]

    def choose(self, wanted: str | None) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """Put the shapes of the chosen label to their views; names and edges of its keypoints."""
        if not self._skeletons:
            return self._choose_points(wanted), ()
        self._losses.add("points", len(self._points), "they belong to no skeleton")
        labels = list(dict.fromkeys(shape.label for _, shape in self._skeletons))
        if wanted is None and len(labels) > 1:
            raise FileFormatError(
                f"{self._file} has skeletons of the labels {', '.join(labels)}; say which one to "
                "read with the option label=NAME"
            )
        chosen = labels[0] if wanted is None else wanted
        if chosen not in labels:
            raise ValidationError(
                f"{self._file} has no skeleton of the label {wanted!r}; it has {', '.join(labels)}"
            )
        used: dict[str, None] = {}
        for view, shape in self._skeletons:
            if shape.label == chosen:
                view.shapes.append(shape)
                used.update(dict.fromkeys(shape.points))
            else:
                self._losses.add("animals", 1, "have another label; choose it to read them")
        self._losses.add("labels", 1, "the name of the skeleton has no place here")
        known = self.meta.skeletons.get(chosen, CvatSkeleton((), ()))
        return tuple(dict.fromkeys([*known.names, *used])), known.edges

    def _choose_points(self, wanted: str | None) -> tuple[str, ...]:
        found = [point for point in self._points if wanted in (None, point[1].label)]
        if not found:
            raise FileFormatError(f"{self._file} has no skeleton and no points; label some first")
        if max(len(shape.points) for _, shape, _ in found) > 1:
            return self._choose_rows(found)
        animals: dict[tuple[int, str, bool], _Shape] = {}
        for view, shape, group in found:
            key = (id(view), group, shape.is_key)
            if key not in animals:
                individual = group if group != "0" else ""
                animals[key] = _Shape("", {}, individual, shape.is_key)
                view.shapes.append(animals[key])
            if shape.label in animals[key].points:
                raise FileFormatError(
                    f"{self._file}, {view.name or f'frame {view.frame}'}: the point "
                    f"{shape.label!r} stands twice in one animal; group the points of each animal "
                    "in CVAT"
                )
            animals[key].points[shape.label] = next(iter(shape.points.values()))
        return tuple(dict.fromkeys(shape.label for _, shape, _ in found))

    def _choose_rows(self, found: list[tuple[_View, _Shape, str]]) -> tuple[str, ...]:
        """Each shape with several points is an animal."""
        counts = sorted({(shape.label, len(shape.points)) for _, shape, _ in found})
        if len(counts) > 1:
            listed = ", ".join(f"{label} with {n}" for label, n in counts[:6])
            raise FileFormatError(
                f"{self._file} has points of different number ({listed}); choose a label whose "
                "points always are as many with the option label=NAME"
            )
        for view, shape, group in found:
            shape.individual = group if group != "0" else ""
            view.shapes.append(shape)
        return tuple(found[0][1].points)

    def _image(self, element: Element) -> None:
        name, where = element.get("name", ""), f"{self._file}, image {element.get('name')!r:.90}"
        if not name:
            raise FileFormatError(f"{self._file}: an image has no name")
        folder = element.get("subset", "")
        view = _View(name, 0, _size(element), folder)
        if f"{folder}/{name}" in self._images:
            raise FileFormatError(f"{where} is listed twice; keep one of its entries")
        self._images[f"{folder}/{name}"] = view
        for shape in element:
            self._shape(view, shape, shape.get("label", ""), where, "", shape.get("group_id", "0"))

    def _track(self, element: Element) -> None:
        identity, label = element.get("id", ""), element.get("label", "")
        where = f"{self._file}, track {identity:.40}"
        seen: set[int] = set()
        for shape in element:
            if shape.tag == "attribute":
                self._losses.add("attributes", 1, "labels here have none")
                continue
            text = shape.get("frame", "")
            if not text.isdecimal() or len(text) > 15:
                raise FileFormatError(
                    f"{where}: expected the number of a frame, found {text!r:.60}"
                )
            frame = int(text)
            if frame in seen:
                raise FileFormatError(f"{where}: the frame {frame} stands twice; remove one")
            seen.add(frame)
            here = f"{where}, frame {frame}"
            if shape.get("keyframe") == "0" and not self._interpolated:
                self._losses.add("interpolated shapes", 1, "interpolated=true reads them")
            elif shape.get("outside") != "1":
                if frame not in self._frames:
                    self._frames[frame] = _View("", frame, self.meta.size)
                view = self._frames[frame]
                self._shape(view, shape, label, here, identity, element.get("group_id", "0"))

    def _shape(
        self, view: _View, shape: Element, label: str, where: str, individual: str, group: str
    ) -> None:
        attributes = sum(part.tag == "attribute" for part in shape.iter())
        self._losses.add("attributes", attributes, "labels here have none")
        is_key = shape.get("keyframe") != "0"
        if shape.tag == "skeleton":
            points: dict[str, tuple[float, float, int]] = {}
            for part in shape.iter("points"):
                name = part.get("label", "")
                if not name or name in points:
                    raise FileFormatError(f"{where}: the keypoint {name!r} stands twice")
                if part.get("outside") == "1":
                    continue
                found = _points(part, f"{where}, keypoint {name!r:.90}")
                if len(found) != 1:
                    raise FileFormatError(
                        f"{where}, keypoint {name!r:.90}: expected one point, found {len(found)}"
                    )
                points[name] = (*found[0], _visibility(part, shape))
            self._skeletons.append((view, _Shape(label, points, individual, is_key)))
        elif shape.tag == "points":
            found = _points(shape, where)
            flag = _visibility(shape)
            named = {f"{label}_{i + 1}": (x, y, flag) for i, (x, y) in enumerate(found)}
            self._points.append((view, _Shape(label, named, "", is_key), group))
        elif shape.tag != "attribute":
            self._losses.add("shapes", 1, "neither skeletons nor points")


class _Media:
    """Where images and frames are."""

    def __init__(
        self,
        file: Path,
        meta: CvatMeta,
        images: str | PathLike[str] | None,
        video: str | PathLike[str] | None,
    ) -> None:
        here = file.resolve().parent
        folders = [here, here / "images"]
        if images is not None:
            folders = [Path(images)]
            if not folders[0].is_dir():
                raise FileMissingError(f"images: no folder at {folders[0]}")
        folders += [
            p for folder in folders[-1:] if folder.is_dir() for p in sorted(folder.iterdir())
        ]
        self._finder = ImageFinder(folders, str(file))
        self._what = str(file)
        self._video: Path | None = None
        if video is not None:
            self._video = Path(video)
            if not self._video.is_file():
                raise FileMissingError(f"video: no file at {video}")
        elif meta.source:
            beside = here / Path(plain_name(meta.source, str(file))).name
            self._video = beside if _is_file(beside) else None

    def picture(self, view: _View) -> Picture:
        if not view.name:
            return self._frame(view, view.frame)
        own = f"{view.folder}/{view.name}" if view.folder else view.name
        path = self._finder.find(own, view.name, *(view.name + suffix for suffix in _SUFFIXES))
        found = _FRAME.fullmatch(view.name)
        if found and self._video is not None and not _is_file(path):
            return self._frame(view, int(found[1]))
        return Picture(path, Source(plain_name(own, self._what), 0), size=view.size)

    def _frame(self, view: _View, frame: int) -> Picture:
        if self._video is not None:
            return Picture(self._video, Source(self._video.name, frame), frame, view.size)
        name = f"frame_{frame:06d}"
        path = self._finder.find(*(name + suffix for suffix in _SUFFIXES))
        return Picture(path, Source(path.name, 0), size=view.size)


def _file(path: Path) -> Path:
    return path / ANNOTATIONS if path.is_dir() else path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _size(element: Element) -> tuple[int, int] | None:
    height, width = (element.get(key, "") for key in ("height", "width"))
    if not (height.isdecimal() and width.isdecimal()) or max(len(height), len(width)) > 9:
        return None
    return (int(height), int(width)) if int(height) and int(width) else None


def _points(element: Element, where: str) -> list[tuple[float, float]]:
    """x, y of ``x,y;x,y;...``."""
    return list(_pairs(element.get("points", ""), where))


def _pairs(text: str, where: str) -> Iterator[tuple[float, float]]:
    for pair in text.split(";"):
        try:
            x, y = (float(value) for value in pair.split(","))
        except ValueError:
            raise FileFormatError(
                f"{where}: expected points as x,y;x,y, found {text!r:.60}"
            ) from None
        if not np.isfinite([x, y]).all():
            raise FileFormatError(f"{where}: expected finite coordinates, found {pair:.60}")
        yield x, y


def _visibility(*elements: Element) -> int:
    """A keypoint is hidden when it is marked so, or the whole skeleton is."""
    return HIDDEN if any(e.get("occluded") == "1" for e in elements) else VISIBLE
