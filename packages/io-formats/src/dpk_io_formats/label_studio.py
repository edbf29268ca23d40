"""Keypoints from Label Studio: the JSON and the JSON-MIN export.

Source of the format: labelstud.io, "Label Studio JSON format of annotated tasks" and the tag
"KeyPointLabels". An export is a list of tasks: an image (``data``), and for each annotator the
regions that he made (``annotations``, formerly ``completions``, each with ``result``). A
keypoint's region has ``value.x`` and ``value.y`` in percent of the image's width and height, and
its name in ``value.keypointlabels``. JSON-MIN has the regions of one annotator directly under the
name of the control.

Coordinates: percentages of the image's extent, so 0 is the left edge of the leftmost pixel and 100
the right edge of the last: a pixel's centre, x here, is at 100 * (x + 0.5) / width there. The size
is that of the image itself, so that images which were scaled since keep right labels.

Animals: keypoints belong to the region (a rectangle, say) that they were put under (``parentID``)
or related to; keypoints without such a bond to the only rectangle that they lie in. All others of a
task are one animal. A rectangle's label becomes the name of the individual when no two in a task
share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import numpy as np

from dpk_core.annotations import VISIBLE, AnnotationSet, Source
from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.skeleton import Skeleton
from dpk_io_formats.gathered import CORNER, Animal, Picture, gather
from dpk_io_formats.image_paths import IMAGE_SUFFIXES, ImageFinder, plain_name
from dpk_io_formats.json_text import holds, number, read_json, sequence, shown, table
from dpk_io_formats.name_graph import partners

_KEYPOINT = "keypointlabels"
_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""


class LabelStudioFormat(PoseFormat):
    """Reads the exported JSON file."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        return holds(Path(path), b"[", b'"keypointlabels"')

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        images: str | PathLike[str] | None = None,
        missing: str = "error",
        names: str | Sequence[str] | None = None,
        guess_swaps: bool = True,
        channels: int = 3,
        **options: Any,
    ) -> AnnotationSet:
        """The labelled images, with a row for each animal; images are read when asked for.

        Parameters
        ----------
        images
            The folder of the images. Default: the folder of the file, or ``images`` or ``upload``
            in it.
        missing
            What to do about images that are not there: "error" names them, "skip" leaves them out.
        names
            The keypoints to read, in their order; a list, or one text with commas. Default: all,
            in the order in which they first appear.
        guess_swaps
            Take keypoints as partners under a mirror whose names differ only in left and right.
        channels
            3 for RGB, 1 for gray.

        Raises
        ------
        FileMissingError, FileFormatError, SkeletonError, ValidationError
        """
        if kind != "annotations":
            raise ValidationError(f"the format label-studio reads annotations, found {kind!r}")
        if options:
            raise ValidationError(f"the format label-studio has no options {', '.join(options)}")
        losses = LossReport() if report is None else report
        file = Path(path)
        tasks = [
            _Task.of(value, f"{file}, task {i + 1}", losses)
            for i, value in enumerate(sequence(read_json(file), str(file)))
        ]
        keypoints = _names(tasks, names, file)
        finder = ImageFinder(_folders(file, images), str(file))
        pictures = _pictures(tasks, keypoints, finder, losses)
        return gather(
            pictures,
            Skeleton(keypoints, swap=partners(keypoints) if guess_swaps else ()),
            str(file),
            missing=missing,
            origin=CORNER,
            relative=True,
            channels=channels,
            report=losses,
        )


@attrs.frozen
class _Region:
    """One region: its type, its labels, and the values that place it."""

    identity: str
    kind: str
    labels: tuple[str, ...]
    value: dict[str, Any]
    parent: str


@attrs.frozen
class _Task:
    """One image, the regions that count, and the bonds between them."""

    where: str
    image: str
    regions: list[_Region]
    relations: list[tuple[str, str]]

    @classmethod
    def of(cls, value: Any, where: str, losses: LossReport) -> _Task:
        task = table(value, where)
        identity = task.get("id")
        if isinstance(identity, (int, str)):
            where = f"{where} (id {shown(identity)})"
        image = _image(task, where)
        results = _results(task, where, losses)
        regions = [_region(result, where, i) for i, result in enumerate(results)]
        relations = [
            (str(result.get("from_id")), str(result.get("to_id")))
            for result in results
            if result.get("type") == "relation"
        ]
        others = sum(r.kind not in (_KEYPOINT, "relation", "rectanglelabels") for r in regions)
        losses.add("regions", others, "neither keypoints nor rectangles")
        return cls(where, image, regions, relations)

    def keypoints(self) -> list[_Region]:
        return [region for region in self.regions if region.kind == _KEYPOINT]

    def animals(self) -> Iterator[tuple[str, list[_Region]]]:
        """(label of the rectangle, keypoints) of each animal."""
        bonds = _Bonds()
        known = {region.identity for region in self.regions}
        for region in self.regions:
            if region.parent in known:
                bonds.tie(region.identity, region.parent)
        for a, b in self.relations:
            if a in known and b in known:
                bonds.tie(a, b)
        boxes = [region for region in self.regions if region.kind == "rectanglelabels"]
        tied = {bonds.end(box.identity) for box in boxes}
        tied |= {bonds.end(i) for i in bonds.names()}
        for point in self.keypoints():
            inside = [box for box in boxes if _contains(box, point, self.where)]
            if bonds.end(point.identity) not in tied and len(inside) == 1:
                bonds.tie(point.identity, inside[0].identity)
        groups: dict[str, list[_Region]] = {}
        tied |= {bonds.end(box.identity) for box in boxes}
        for point in self.keypoints():
            end = bonds.end(point.identity)
            groups.setdefault(end if end in tied else "", []).append(point)
        named = {bonds.end(box.identity): box.labels[0] for box in boxes if box.labels}
        for end, points in groups.items():
            yield named.get(end, ""), points


class _Bonds:
    """Which regions belong together."""

    def __init__(self) -> None:
        self._next: dict[str, str] = {}

    def end(self, name: str) -> str:
        while name in self._next:
            name = self._next[name]
        return name

    def tie(self, a: str, b: str) -> None:
        a, b = self.end(a), self.end(b)
        if a != b:
            self._next[a] = b

    def names(self) -> list[str]:
        return list(self._next)


def _image(task: dict[str, Any], where: str) -> str:
    """What stands where the task keeps its image: the text that looks most like one."""
    data = task.get("data")
    values = data if isinstance(data, dict) else task
    texts = {key: value for key, value in values.items() if isinstance(value, str) and value}
    likely = [v for v in texts.values() if Path(_tail(v)).suffix.lower() in IMAGE_SUFFIXES]
    for key in ("image", "img", "file_upload"):
        if key in texts and (texts[key] in likely or not likely):
            return texts[key]
    if not likely:
        raise FileFormatError(f"{where}: expected an image in its data, found none")
    return likely[0]


def _results(task: dict[str, Any], where: str, losses: LossReport) -> list[dict[str, Any]]:
    """The regions of the annotation that counts."""
    losses.add("predictions", len(_lists(task.get("predictions"))), "nobody confirmed them")
    annotations = task.get("annotations", task.get("completions"))
    if annotations is None:  # JSON-MIN: lists of regions under the names of controls
        regions = [r for value in task.values() for r in _lists(value) if isinstance(r, dict)]
        return [{"value": r, "type": _KEYPOINT, **r} for r in regions if _KEYPOINT in r]
    found = []
    for value in sequence(annotations, f"{where}, annotations"):
        annotation = table(value, f"{where}, annotations")
        if annotation.get("was_cancelled"):
            losses.add("annotations", 1, "were skipped by their annotator")
        else:
            found.append(annotation)
    if not found:
        return []
    best = next((a for a in found if a.get("ground_truth")), found[0])
    losses.add("annotations", len(found) - 1, "another annotator's of the same image counts")
    results = sequence(best.get("result"), f"{where}, result")
    return [table(result, f"{where}, result") for result in results]


def _lists(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _region(result: dict[str, Any], where: str, position: int) -> _Region:
    kind = result.get("type")
    kind = kind if isinstance(kind, str) else ""
    value = result.get("value")
    value = value if isinstance(value, dict) else {}
    labels = _lists(value.get(kind))
    if kind == _KEYPOINT:
        rotation = result.get("image_rotation")
        if rotation not in (None, 0):
            raise FileFormatError(
                f"{where}: the image was turned by {shown(rotation)} degrees while it was "
                "labelled; turn it back in Label Studio and export again"
            )
        if len(labels) != 1 or not isinstance(labels[0], str) or not labels[0]:
            raise FileFormatError(
                f"{where}: expected a keypoint with one label, found {labels!r:.60}"
            )
    parent = result.get("parentID", value.get("parentID"))
    return _Region(
        str(result.get("id") or f"#{position}"),
        kind,
        tuple(str(label) for label in labels if isinstance(label, (str, int))),
        value,
        parent if isinstance(parent, str) else "",
    )


def _point(region: _Region, where: str) -> tuple[float, float]:
    """As shares of the image."""
    here = f"{where}, keypoint {shown(region.labels[0])}"
    x, y = (number(region.value.get(key), here) / 100 for key in ("x", "y"))
    if not np.isfinite([x, y]).all():
        raise FileFormatError(f"{here}: expected finite coordinates, found {100 * x}, {100 * y}")
    return x, y


def _contains(box: _Region, point: _Region, where: str) -> bool:
    x, y = _point(point, where)
    values = [box.value.get(key) for key in ("x", "y", "width", "height")]
    left, top, width, height = (number(value, f"{where}, rectangle") / 100 for value in values)
    return left <= x <= left + width and top <= y <= top + height


def _names(tasks: list[_Task], names: str | Sequence[str] | None, file: Path) -> tuple[str, ...]:
    if names is not None:
        chosen = names.split(",") if isinstance(names, str) else list(names)
        return tuple(str(name).strip() for name in chosen)
    found = dict.fromkeys(r.labels[0] for task in tasks for r in task.keypoints())
    if not found:
        raise FileFormatError(f"{file} has no keypoint; expected regions with {_KEYPOINT!r}")
    return tuple(found)


def _pictures(
    tasks: list[_Task], names: tuple[str, ...], finder: ImageFinder, losses: LossReport
) -> list[Picture]:
    index = {name: i for i, name in enumerate(names)}
    use_labels = all(_are_distinct([label for label, _ in task.animals()]) for task in tasks)
    pictures: dict[Path, Picture] = {}
    for task in tasks:
        candidates = _candidates(task.image, task.where)
        path = finder.find(*candidates)
        if path in pictures:
            raise FileFormatError(
                f"{task.where}: the image {shown(task.image)} has a task already; remove one of "
                "them in Label Studio"
            )
        picture = pictures[path] = Picture(path, Source(candidates[0], 0))
        for label, points in task.animals():
            animal = _animal(task, points, index, losses)
            if animal is not None:
                animal.individual = label if use_labels else ""
                picture.animals.append(animal)
        boxes = sum(region.kind == "rectanglelabels" for region in task.regions)
        losses.add("boxes", boxes, "labels here have none")
    return list(pictures.values())


def _are_distinct(labels: list[str]) -> bool:
    return len(labels) < 2 or ("" not in labels and len(set(labels)) == len(labels))


def _animal(
    task: _Task, points: list[_Region], index: dict[str, int], losses: LossReport
) -> Animal | None:
    keypoints = np.full((len(index), 2), np.nan)
    for point in points:
        name = point.labels[0]
        if name not in index:
            losses.add("keypoints", 1, "are not among the names to read")
            continue
        if np.isfinite(keypoints[index[name]]).all():
            raise FileFormatError(
                f"{task.where}: the keypoint {shown(name)} stands twice in one animal; draw a "
                "rectangle around each animal, or put its keypoints under a region of its own"
            )
        keypoints[index[name]] = _point(point, task.where)
    placed = np.isfinite(keypoints).all(axis=1)
    return Animal(keypoints, (VISIBLE * placed).astype(np.uint8)) if placed.any() else None


def _tail(address: str) -> str:
    """The path within an address: /data/upload/1/x.png, s3://bucket/x.png, ?d=folder/x.png."""
    try:
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d")
    except ValueError:  # brackets that are no address
        return address
    if local:
        return local[0]
    return unquote(parts.path) if parts.scheme or parts.query else unquote(address)


def _candidates(address: str, where: str) -> list[str]:
    """Names under which the image may lie in a folder, with less and less before its own."""
    path = plain_name(_tail(address).lstrip("/\\"), where)
    parts = path.split("/")
    longer = ["/".join(parts[i:]) for i in range(len(parts))][-8:]
    return [*longer, _PREFIX.sub("", parts[-1])]


def _folders(file: Path, images: str | PathLike[str] | None) -> list[Path]:
    if images is not None:
        folder = Path(images)
        if not folder.is_dir():
            raise FileMissingError(f"images: no folder at {folder}")
        return [folder]
    here = file.resolve().parent
    return [here, here / "images", here / "upload"]
