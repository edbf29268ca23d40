"""COCO keypoints: a JSON file of images, annotations and categories; results for evaluation.

Source of the format: cocodataset.org, "Data format", sections 4 (keypoint detection) and "Results
format". A keypoint is x, y, v; v is 0 for not labelled (then x = y = 0), 1 for labelled but hidden,
2 for labelled and visible. A category's ``skeleton`` is a list of pairs of keypoints counted
from 1.

Coordinates: keypoints are 0-based numbers of pixels, so (0, 0) is the centre of the top-left one,
as here (Detectron2, ``detectron2/data/datasets/coco.py``: "keypoint coordinates are integers in
[0, H-1 or W-1] ... add 0.5 to convert to floating point coordinates"). They are taken over as they
are. Boxes are measured from that pixel's corner. Some programs write keypoints measured from the
corner too (CVAT's COCO export, whose canvas has its origin there): read these with
``origin="corner"``.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import VISIBLE, AnnotationSet, Source
from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.coco_categories import (
    CATEGORY,
    choose_categories,
    plain_id,
    read_categories,
    report_categories,
    skeleton_of,
    whole,
)
from dpk_io_formats.coco_writing import (
    ANNOTATIONS,
    IMAGES,
    OURS,
    write_labels,
    write_results,
)
from dpk_io_formats.frame_folder import box_of
from dpk_io_formats.gathered import CENTER, Animal, Picture, gather
from dpk_io_formats.image_paths import ImageFinder, plain_name
from dpk_io_formats.json_text import holds, number, read_json, sequence, shown, table, text

_KEYS = (b'"images"', b'"annotations"', b'"categories"', b'"keypoints"')
_IMAGE_KEYS = {"id", "file_name", "width", "height", OURS}
_TERNARY, _BINARY = "coco", "binary"
_CLOSE = 1e-6


class CocoFormat(PoseFormat):
    """Reads a JSON file, or a folder with one; writes a folder, and results as a file."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            found = _find(Path(path))
        except OSError:
            return False
        return found is not None and _is_coco(found)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        category: str | int | None = None,
        images: str | PathLike[str] | None = None,
        missing: str = "error",
        origin: str = CENTER,
        visibility: str = _TERNARY,
        guess_swaps: bool = True,
        channels: int = 3,
        **options: Any,
    ) -> AnnotationSet:
        """The labelled images, with a row for each animal; images are read when asked for.

        Parameters
        ----------
        path
            The JSON file, or a folder with ``annotations.json`` or a single COCO file.
        category
            Name or id of the category to read, where several have keypoints of their own.
        images
            The folder of the images. Default: beside the JSON file, or in ``images``, or, as in
            COCO's own sets, a folder that the file's name ends with.
        missing
            What to do about images that are not there: "error" names them, "skip" leaves them out.
        origin
            "center" or "corner": what the coordinates are measured from (see above).
        visibility
            "coco" (0, 1, 2), or "binary" for files that write 1 for visible keypoints.
        guess_swaps
            Take keypoints as partners under a mirror whose names differ only in left and right.
        channels
            3 for RGB, 1 for gray.

        Raises
        ------
        FileMissingError, FileFormatError, ValidationError
        """
        _refuse(options, kind, "annotations")
        if visibility not in (_TERNARY, _BINARY):
            raise ValidationError(f"visibility: expected 'coco' or 'binary', found {visibility!r}")
        losses = LossReport() if report is None else report
        file = _find(Path(path))
        if file is None:
            raise FileFormatError(f"{path} has no COCO file; expected {ANNOTATIONS} in it")
        content = table(read_json(file), str(file))
        categories = read_categories(content, file)
        chosen = choose_categories(categories, category, content, file)
        pictures = _pictures(content, file, images, losses)
        labels = _Labels(file, chosen, {c["id"] for c in categories}, visibility, losses)
        labels.add(sequence(content.get("annotations"), f"{file}, annotations"), pictures)
        report_categories(chosen, losses)
        skeleton = skeleton_of(chosen[0], file, guess_swaps, losses)
        return gather(
            list(pictures.values()),
            skeleton,
            str(file),
            missing=missing,
            origin=origin,
            channels=channels,
            report=losses,
        )

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        category: str = CATEGORY,
        category_id: int = 1,
        first_image_id: int = 0,
        **options: Any,
    ) -> None:
        """Labels as a folder with ``annotations.json`` and ``images``; poses as a results file.

        Keypoints stand in pixels of the images written, boxes tightly around them. What COCO has
        no place for, but ignores, is kept: the name of an individual in ``attributes``, the video
        and the frame's number under ``dpk`` beside the image.

        Parameters
        ----------
        category, category_id
            Of all animals.
        first_image_id
            In results: the ``image_id`` of frame 0; those of the others follow.

        Raises
        ------
        OutputExistsError, OutputError, ValidationError
        """
        _refuse(options)
        if isinstance(data, AnnotationSet):
            write_labels(Path(path), data, report, str(category), int(category_id))
        elif isinstance(data, PoseStream):
            write_results(Path(path), data, report, int(category_id), int(first_image_id))
        else:
            raise ValidationError("the format coco writes annotations and poses, no tracks")


# -- reading --------------------------------------------------------------------------------------


@attrs.define
class _Labels:
    """Puts the annotations to their images."""

    file: Path
    categories: list[dict[str, Any]]
    known: set[Any]
    visibility: str
    losses: LossReport

    def add(self, annotations: list[Any], pictures: dict[Any, Picture]) -> None:
        chosen = {category["id"] for category in self.categories}
        k = len(self.categories[0]["keypoints"])
        ids: set[Any] = set()
        for position, value in enumerate(annotations):
            where = f"{self.file}, annotation {position + 1}"
            annotation = table(value, where)
            identity = annotation.get("id")
            if isinstance(identity, (int, str)):
                where = f"{self.file}, annotation with id {shown(identity)}"
                if identity in ids:
                    raise FileFormatError(f"{where}: the id stands twice; remove one of them")
                ids.add(identity)
                self.losses.add("ids", int(identity != position + 1), "are numbered anew")
            picture = _look_up(pictures, annotation.get("image_id"), where, "image_id")
            if plain_id(annotation.get("category_id"), where, "category_id") not in self.known:
                raise FileFormatError(
                    f"{where}: no category has the id {shown(annotation.get('category_id'))}"
                )
            if annotation["category_id"] not in chosen:
                self.losses.add("animals", 1, "belong to another category; choose it to read them")
                continue
            animal = self._animal(annotation, k, where)
            if animal is not None:
                picture.animals.append(animal)

    def _animal(self, annotation: dict[str, Any], k: int, where: str) -> Animal | None:
        values = annotation.get("keypoints")
        if values is None or not any(_is_labelled(v) for v in sequence(values, where)[2::3]):
            self.losses.add("animals", 1, "have a box or an outline and no labelled keypoint")
            return None
        if len(values) != 3 * k:
            raise FileFormatError(
                f"{where}: expected {3 * k} numbers (x, y, v) for {k} keypoints, "
                f"found {len(values)}"
            )
        numbers = np.array([number(value, where) for value in values]).reshape(k, 3)
        flags = numbers[:, 2]
        if not np.isin(flags, (0, 1, 2)).all():
            strange = flags[~np.isin(flags, (0, 1, 2))][0]
            raise FileFormatError(f"{where}: expected a visibility of 0, 1 or 2, found {strange:g}")
        labelled = flags > 0
        if not np.isfinite(numbers[labelled]).all():
            raise FileFormatError(
                f"{where}: a labelled keypoint has coordinates that are not finite; set its "
                "visibility to 0 if it is missing"
            )
        visibility = np.where(labelled, flags, 0).astype(np.uint8)
        if self.visibility == _BINARY:
            visibility = np.where(labelled, VISIBLE, 0).astype(np.uint8)
        keypoints = np.where(labelled[:, None], numbers[:, :2], np.nan)
        attributes = annotation.get("attributes")
        attributes = attributes if isinstance(attributes, dict) else {}
        self._report_rest(annotation, attributes, keypoints)
        return Animal(keypoints, visibility, _individual(annotation, attributes))

    def _report_rest(
        self, annotation: dict[str, Any], attributes: dict[str, Any], keypoints: np.ndarray
    ) -> None:
        box = box_of(keypoints)
        stored = annotation.get("bbox")
        add = self.losses.add
        if stored and not _is_close(stored, box):
            add("boxes", 1, "labels here have none; a box is drawn around the keypoints instead")
        if annotation.get("segmentation"):
            add("outlines", 1, "labels here have none")
        if annotation.get("iscrowd"):
            add("crowd marks", 1, "labels here have none")
        area = annotation.get("area")
        if area and box and not _is_close([area], (box[2] * box[3],)):
            add("areas", 1, "labels here have none")
        names = ("individual", *_TRACK_KEYS)
        add("attributes", len(set(attributes) - set(names)), "labels here have none")
        if annotation.get("score") is not None:
            add("scores", 1, "labels here have none")


_TRACK_KEYS = ("object_id", "track_id", "instance_id")


def _individual(annotation: dict[str, Any], attributes: dict[str, Any]) -> str:
    candidates = [attributes.get("individual")]
    candidates += [source.get(key) for key in _TRACK_KEYS for source in (attributes, annotation)]
    for value in candidates:
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value)
    return ""


def _is_labelled(flag: Any) -> bool:
    return not isinstance(flag, (int, float)) or flag != 0


def _is_close(stored: Any, ours: tuple[float, ...] | None) -> bool:
    if ours is None or not isinstance(stored, list) or len(stored) != len(ours):
        return False
    return all(
        isinstance(a, (int, float)) and abs(float(min(max(a, -1e300), 1e300)) - b) <= _CLOSE
        for a, b in zip(stored, ours, strict=True)
    )


def _pictures(
    content: dict[str, Any], file: Path, images: str | PathLike[str] | None, losses: LossReport
) -> dict[Any, Picture]:
    """The images by id, in their order."""
    finder = ImageFinder(_folders(file, images), str(file))
    found: dict[Any, Picture] = {}
    names: set[str] = set()
    details = 0
    for position, value in enumerate(sequence(content.get("images"), f"{file}, images")):
        where = f"{file}, image {position + 1}"
        image = table(value, where)
        identity = plain_id(image.get("id"), where, "id")
        name = text(image.get("file_name"), f"{where}, file_name")
        if identity in found or name in names:
            raise FileFormatError(
                f"{where}: the image {shown(name)} (id {shown(identity)}) is listed twice; keep "
                "one entry and give its id to all annotations of that image"
            )
        names.add(name)
        losses.add("ids", int(identity != position + 1), "are numbered anew")
        details += bool(set(image) - _IMAGE_KEYS)
        found[identity] = Picture(
            finder.find(name), _source(image, name, file, where), size=_size(image, where)
        )
    losses.add("image details", details, "licence, date and address have no place here")
    return found


def _source(image: dict[str, Any], name: str, file: Path, where: str) -> Source:
    ours = image.get(OURS)
    if ours is None:
        return Source(plain_name(name, str(file)), 0)
    ours = table(ours, f"{where}, {OURS}")
    crop = ours.get("crop")
    if crop is not None:
        crop = tuple(number(value, where) for value in sequence(crop, where))
        if len(crop) != 6 or not np.isfinite(crop).all():
            raise FileFormatError(f"{where}: expected a crop of 6 finite numbers, found {crop}")
    video, frame = ours.get("video", ""), whole(ours.get("frame", -1), where)
    if not isinstance(video, str) or not -1 <= frame < 2**62:
        raise FileFormatError(f"{where}: expected a video's name and a frame, found {shown(ours)}")
    return Source(video, frame, crop=crop)


def _size(image: dict[str, Any], where: str) -> tuple[int, int] | None:
    height, width = (image.get(key) or 0 for key in ("height", "width"))
    height, width = number(height, where), number(width, where)
    if not (0 < height < 2**31 and 0 < width < 2**31):
        return None  # some programs write 0 for what they don't know
    return int(height), int(width)


def _folders(file: Path, images: str | PathLike[str] | None) -> list[Path]:
    if images is not None:
        folder = Path(images)
        if not folder.is_dir():
            raise FileMissingError(f"images: no folder at {folder}")
        return [folder]
    here = file.resolve().parent
    split = file.stem.rsplit("_", 1)[-1]  # person_keypoints_val2017.json, beside it ../val2017
    near = [here, here / IMAGES, here / split, here.parent / IMAGES]
    return [*near, here.parent / split, here.parent / IMAGES / split, here.parent]


def _find(path: Path) -> Path | None:
    """The COCO file that a path means; None when a folder has none, or several."""
    if not path.is_dir():
        return path
    if (path / ANNOTATIONS).is_file():
        return path / ANNOTATIONS
    files = sorted(path.glob("*.json")) or sorted(path.glob("annotations/*.json"))
    found = [file for file in files if _is_coco(file)]
    return found[0] if len(found) == 1 else None


def _is_coco(path: Path) -> bool:
    return holds(path, b"{", *_KEYS)


def _look_up(pictures: dict[Any, Picture], identity: Any, where: str, key: str) -> Picture:
    if plain_id(identity, where, key) not in pictures:
        raise FileFormatError(f"{where}: no image has the id {shown(identity)}")
    return pictures[identity]


def _refuse(options: dict[str, Any], kind: str = "", expected: str = "") -> None:
    if kind != expected:
        raise ValidationError(f"the format coco reads {expected}, found {kind!r}")
    if options:
        raise ValidationError(f"the format coco has no options {', '.join(map(str, options))}")
