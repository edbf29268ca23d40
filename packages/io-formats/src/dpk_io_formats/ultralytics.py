"""Pose datasets of Ultralytics YOLO: a folder with ``data.yaml``, images and a text file for each.

Source of the format: docs.ultralytics.com, "Pose Estimation Datasets Overview", and the loader,
``ultralytics/data/utils.py`` (``verify_image_label``, ``img2label_paths``). A line is one animal::

    class x_center y_center width height  x1 y1 [v1]  x2 y2 [v2] ...

as shares of the image's width and height. ``kpt_shape: [k, 3]`` has visibilities as COCO has them,
``[k, 2]`` has none. ``flip_idx`` is the order of keypoints after a mirror. ``kpt_names`` (class to
names) is in newer files; ``node_names`` and ``skeleton``, pairs counted from 0, are additions of
sleap-io.

Coordinates: shares are measured from the corner of the top-left pixel, for the loader mirrors x to
``width - x`` (``ultralytics/utils/instance.py``, ``fliplr``): a pixel's centre, (x, y) here, is
((x + 0.5) / width, (y + 0.5) / height) there. The converter ``convert_coco`` divides COCO's
numbers of pixels without adding the half: read what it made with ``origin="center"``.

Missing keypoints are 0 0 0. Of two values, 0 0 and negative ones count as missing.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.annotations import HIDDEN, VISIBLE, AnnotationSet, Source
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.frame_folder import (
    box_of,
    frames_of,
    make_folder,
    report_labels,
    report_names,
    write_frames,
)
from dpk_io_formats.gathered import CORNER, Animal, Picture, gather, is_numbering
from dpk_io_formats.image_paths import IMAGE_SUFFIXES, plain_name
from dpk_io_formats.plain_yaml import read_settings
from dpk_io_formats.ultralytics_config import (
    CATEGORY,
    CONFIG,
    SPLITS,
    Config,
    find_config,
    write_config,
)


class UltralyticsFormat(PoseFormat):
    """Reads a dataset's folder or its yaml file; writes a folder."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            file = find_config(Path(path))
            return file is not None and "kpt_shape" in read_settings(file)
        except (DpkError, OSError):
            return False

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        split: str = "all",
        missing: str = "error",
        origin: str = CORNER,
        channels: int = 3,
        **options: Any,
    ) -> AnnotationSet:
        """The labelled images, with a row for each animal; images are read when asked for.

        Parameters
        ----------
        path
            The folder, or its ``data.yaml``.
        split
            "train", "val", "test", or "all" of them.
        missing
            What to do about labels whose image is not there: "error" names them, "skip" leaves
            them out.
        origin
            "corner" or "center": what the coordinates are measured from (see above).
        channels
            3 for RGB, 1 for gray.

        Raises
        ------
        FileMissingError, FileFormatError, SkeletonError, ValidationError
        """
        _refuse(options, kind, "annotations")
        if split not in ("all", *SPLITS):
            raise ValidationError(f"split: expected 'all' or one of {SPLITS}, found {split!r}")
        losses = LossReport() if report is None else report
        file = find_config(Path(path))
        if file is None:
            raise FileMissingError(f"no Ultralytics dataset at {path}: expected {CONFIG} in it")
        config = Config.of(read_settings(file), file, losses)
        wanted = SPLITS if split == "all" else (split,)
        pictures: dict[Path, Picture] = {}
        names: set[str] = set()
        n_splits = 0
        for name in wanted:
            before = len(pictures)
            for folder, image in _images(config, name):
                if image not in pictures:
                    label = image.relative_to(folder).as_posix()
                    label = f"{name}/{label}" if label in names else label
                    names.add(label)
                    pictures[image] = _picture(image, Source(label, 0), config, losses)
            n_splits += len(pictures) > before
        losses.add("splits", n_splits if n_splits > 1 else 0, "a set here has no parts")
        if not pictures:
            raise FileMissingError(f"{file}: no image and no label in {', '.join(wanted)}")
        return gather(
            list(pictures.values()),
            config.skeleton,
            str(file),
            missing=missing,
            origin=origin,
            relative=True,
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
        values: int = 3,
        **options: Any,
    ) -> None:
        """A folder that Ultralytics trains on: ``data.yaml``, ``train/images``, ``train/labels``.

        All images are for training and stand for validation too, until you divide them. Keypoints
        outside the image become missing, for the loader refuses a whole image because of one.

        Parameters
        ----------
        category
            Name of the only class.
        values
            Numbers for each keypoint: 3 with visibility, 2 without.

        Raises
        ------
        OutputExistsError, OutputError, ValidationError
        """
        _refuse(options)
        if not isinstance(data, AnnotationSet):
            raise ValidationError("the format ultralytics writes annotations, no poses or tracks")
        if values not in (2, 3):
            raise ValidationError(f"values: expected 2 or 3 for each keypoint, found {values!r}")
        folder = Path(path)
        losses = LossReport() if report is None else report
        frames = frames_of(data)
        make_folder(folder)
        images, labels = (folder / "train" / name for name in ("images", "labels"))
        for frame, size in write_frames(images, data, frames):
            lines = [_line(data, i, size, values, losses) for i in frame.rows]
            target = (labels / frame.name).with_suffix(".txt")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(line for line in lines if line), encoding="ascii")
            individuals = [data.sources[i].individual for i in frame.rows]
            if not is_numbering(individuals):
                losses.add("identities", sum(map(bool, individuals)), "YOLO has none")
            empty = sum(not line for line in lines) if len(lines) > 1 else 0
            losses.add("animals", empty, "nothing of them is labelled in that frame")
            inferred = frame.is_image_file or not frame.source.video
            losses.add("videos and frame numbers", int(not inferred), "only file names tell them")
            losses.add("positions of crops", int(frame.source.crop is not None), "YOLO has none")
        write_config(folder / CONFIG, data.skeleton, str(category), values)
        report_labels(data, report)
        report_names(frames, report)
        swaps = len(data.skeleton.one_sided_swaps)
        losses.add("swap partners", swaps, "they are not mutual, and a mirror swaps pairs")


# -- reading --------------------------------------------------------------------------------------


def _images(config: Config, split: str) -> list[tuple[Path, Path]]:
    """(folder, image) of each image of a split, also where only its labels are there."""
    found: list[tuple[Path, Path]] = []
    for place in config.splits[split]:
        path = config.root / place
        if path.is_dir():
            found += [(path, image) for image in _in_folder(path)]
        elif path.is_file():
            found += [(config.root, image) for image in _listed(path, config.root)]
        elif split != "test":
            raise FileMissingError(f"{config.file}, {split}: no folder at {path}")
    return found


def _in_folder(folder: Path) -> list[Path]:
    images = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
    labels = _label_path(folder / "x").parent
    if labels == folder:
        return images
    stems = {image.relative_to(folder).with_suffix("") for image in images}
    alone = [p.relative_to(labels).with_suffix("") for p in sorted(labels.rglob("*.txt"))]
    return images + [folder / f"{stem}.png" for stem in alone if stem not in stems]


def _listed(path: Path, root: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError):
        raise FileFormatError(f"{path} is no list of images") from None
    names = [line.strip() for line in lines if line.strip()]
    return [root / plain_name(name, str(path)) for name in names]


def _label_path(image: Path) -> Path:
    """As Ultralytics has it: the last folder named images becomes labels."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _picture(image: Path, source: Source, config: Config, losses: LossReport) -> Picture:
    picture = Picture(image, source)
    path = _label_path(image)
    if not path.is_file():
        return picture
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise FileFormatError(f"{path} is not readable text ({error})") from None
    seen: set[tuple[float, ...]] = set()
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        numbers = _numbers(line, config, f"{path}, line {i + 1}")
        if numbers in seen:  # Ultralytics drops them too
            losses.add("animals", 1, "their line stands twice")
            continue
        seen.add(numbers)
        animal = _animal(np.array(numbers), config, losses)
        if animal is not None:
            picture.animals.append(animal)
    return picture


def _numbers(line: str, config: Config, where: str) -> tuple[float, ...]:
    cells = line.split()
    expected = 5 + len(config.skeleton) * config.values
    if len(cells) != expected:
        raise FileFormatError(
            f"{where}: expected {expected} numbers (class, box, {len(config.skeleton)} keypoints "
            f"of {config.values}), found {len(cells)}"
        )
    try:
        numbers = tuple(float(cell) for cell in cells)
    except ValueError as error:
        raise FileFormatError(f"{where}: {str(error)[:100]}") from None
    if not np.isfinite(numbers).all():
        raise FileFormatError(f"{where}: expected finite numbers, found {line.strip()[:60]}")
    classes = config.n_classes
    if numbers[0] < 0 or numbers[0] % 1 or (classes is not None and numbers[0] >= classes):
        raise FileFormatError(
            f"{where}: expected a class from 0 to {(classes or 1) - 1}, found {cells[0]}"
        )
    return numbers


def _animal(numbers: np.ndarray, config: Config, losses: LossReport) -> Animal | None:
    points = numbers[5:].reshape(len(config.skeleton), config.values)
    if config.values == 3:
        flags = points[:, 2]
        labelled = flags > 0
        # Ultralytics asks only whether it is 0: predictions that serve as labels have scores here.
        odd = labelled & ~np.isin(flags, (HIDDEN, VISIBLE))
        losses.add("visibilities", int(odd.sum()), "neither 0, 1 nor 2; they become visible")
        visibility = np.where(odd, VISIBLE, np.where(labelled, flags, 0)).astype(np.uint8)
    else:
        labelled = (points >= 0).all(axis=1) & (points != 0).any(axis=1)
        visibility = np.where(labelled, VISIBLE, 0).astype(np.uint8)
    if not labelled.any():
        losses.add("animals", 1, "have a box and no labelled keypoint")
        return None
    x, y, width, height = numbers[1:5]
    box = (x - width / 2, y - height / 2, width, height)
    return Animal(np.where(labelled[:, None], points[:, :2], np.nan), visibility, box=box)


# -- writing --------------------------------------------------------------------------------------


def _line(
    data: AnnotationSet, i: int, size: tuple[int, int], values: int, losses: LossReport
) -> str:
    """One animal; empty when nothing of it is labelled."""
    height, width = size
    shares = (data.keypoints[i] + 0.5) / (width, height)
    placed = np.isfinite(shares).all(axis=1)
    with np.errstate(invalid="ignore"):
        inside = placed & ((shares >= 0) & (shares <= 1)).all(axis=1)
    losses.add("keypoints", int((placed & ~inside).sum()), "they lie outside the image")
    box = box_of(np.where(inside[:, None], data.keypoints[i], np.nan))
    if box is None:
        return ""
    low = np.clip(np.array(box[:2]) / (width, height), 0, 1)
    high = np.clip((np.array(box[:2]) + box[2:]) / (width, height), 0, 1)
    visibility = data.visibility[i]
    if values == 2:
        losses.add("visibilities", int((inside & (visibility == HIDDEN)).sum()), "not of 2 values")
        losses.add(
            "missing keypoints",
            int((~inside).sum()),
            "they are written as 0 0, which Ultralytics takes for the corner of the image",
        )
    numbers = [*((low + high) / 2).tolist(), *(high - low).tolist()]
    for (x, y), here, flag in zip(shares.tolist(), inside, visibility.tolist(), strict=True):
        numbers += [x, y] if here else [0, 0]
        if values == 3:
            numbers.append((flag or VISIBLE) if here else 0)
    return f"0 {' '.join(map(_shortest, numbers))}\n"


def _shortest(number: float) -> str:
    """As many digits as it takes to read the same number again."""
    return repr(int(number)) if number == int(number) else f"{number:.17g}"


def _refuse(options: dict[str, Any], kind: str = "", expected: str = "") -> None:
    if kind != expected:
        raise ValidationError(f"the format ultralytics reads {expected}, found {kind!r}")
    if options:
        raise ValidationError(f"the format ultralytics has no options {', '.join(options)}")
