"""Lightning Pose (Biderman et al. 2024, Nature Methods 21:1316): labels and predictions as CSV.

The tables are those of DeepLabCut (header rows scorer, bodyparts, coords). Labels stand in a
folder of data, usually as ``CollectedData.csv``, with the path of each image relative to that
folder (``labeled-data/VIDEO/img00000005.png``). Predictions have x, y and likelihood for each
frame of a video, of the scorer ``heatmap_tracker``, ``regression_tracker`` or, smoothed by the
ensemble Kalman smoother, ``ensemble-kalman_tracker``, with further columns that are not read.
Predictions for labelled images (``predictions.csv``) have the images instead of frame numbers, and
a last column that tells training from test; they are read one video at a time.

Coordinates: Lightning Pose takes and gives pixels of the original image, in the convention of
whoever labelled: it scales them to the size of the network and back by the same factor
(``utils/predictions.py``, make_pred_arr_undo_resize), without moving them. Labels made with
DeepLabCut have (0, 0) at the centre of the top-left pixel. Lightning Pose's own app is built on
Label Studio, whose percentages times the width count from the pixel's corner, half a pixel more;
a table does not tell which tool wrote it, so coordinates are taken over as they are.
"""

from __future__ import annotations

import csv
from os import PathLike
from pathlib import Path
from typing import Any

import attrs

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.services.individuals import count_individuals
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.deeplabcut_images import (
    arrange_images,
    confirmed_keypoints,
    labelled_row,
    report_sources,
    write_image,
)
from dpk_io_formats.deeplabcut_prediction_table import csv_header, open_predictions, peek_layout
from dpk_io_formats.deeplabcut_predictions import stream_of
from dpk_io_formats.deeplabcut_project import image_sources, make_skeleton
from dpk_io_formats.deeplabcut_table import LEVELS, count_header_rows, image_parts, read_table
from dpk_io_formats.frame_folder import make_folder
from dpk_io_formats.images import Images, find_missing

LABELS_FILE = "CollectedData.csv"
_FOLDER = "labeled-data"


class LightningPoseFormat(PoseFormat):
    """Reads tables of labels, their folders of data, and tables of predictions; writes folders."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            return bool(_kind(Path(path)))
        except (DpkError, OSError, ValueError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        return (_kind(Path(path)) or "annotations",)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        missing: str = "error",
        guess_swaps: bool = True,
        video: str = "",
        **options: Any,
    ) -> AnnotationSet | PoseStream:
        """Labels as annotations, predictions as poses.

        Parameters
        ----------
        path
            A table, or the folder that holds ``CollectedData.csv``.
        missing, guess_swaps
            For labels: "skip" leaves out images that are not there; whether body parts whose
            names differ in left and right are partners under a mirror.
        video
            For predictions of labelled images: whose, when they are of several videos.

        Raises
        ------
        FileMissingError, FileFormatError, ValidationError
        """
        path = _labels_file(Path(path)) if Path(path).is_dir() else Path(path)
        if kind == "poses":
            _refuse(options | _given(missing=missing != "error", guess_swaps=not guess_swaps), kind)
            return _read_poses(path, report, video)
        if kind != "annotations":
            raise ValidationError(f"Lightning Pose has annotations and poses, not {kind}")
        _refuse(options | _given(video=bool(video)), kind)
        losses = LossReport() if report is None else report
        return _read_labels(path, losses, missing, guess_swaps)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        scorer: str = "dpk",
        **options: Any,
    ) -> None:
        """Write a folder of data: ``CollectedData.csv`` and ``labeled-data/VIDEO/imgNNNN.png``.

        Raises
        ------
        ValidationError
            When several animals share a frame, of which Lightning Pose knows one.
        """
        if options:
            raise ValidationError(f"lightning-pose: unknown options {sorted(options)}")
        if not isinstance(data, AnnotationSet):
            raise ValidationError(f"lightning-pose writes labels, found {type(data).__name__}")
        _write_labels(Path(path), data, LossReport() if report is None else report, scorer)


# -- what a file is -----------------------------------------------------------------------------


def _kind(path: Path) -> str:
    """What is in a file or folder, "" for what Lightning Pose does not write."""
    if path.is_dir():
        if (path / "config.yaml").is_file() and (path / _FOLDER).is_dir():
            from dpk_io_formats.deeplabcut import DeepLabCutFormat

            if DeepLabCutFormat().sniff(path):
                return ""
        path = path / LABELS_FILE
    if not path.is_file() or path.parent.parent.name == _FOLDER:
        return ""
    header, start = csv_header(path)
    n_header = count_header_rows(header, path)
    if n_header != len(LEVELS):
        return ""
    if "likelihood" in header[-1]:
        return "poses" if peek_layout(path, extra=True).scorer.endswith("_tracker") else ""
    with path.open("rb") as file:
        file.seek(start)
        first = file.readline(1 << 16).decode("utf-8", "replace").split(",")[0]
    return "annotations" if not first.strip().isdecimal() else ""


def _labels_file(folder: Path) -> Path:
    path = folder / LABELS_FILE
    if not path.is_file():
        raise FileFormatError(f"{folder} has no {LABELS_FILE}; name the table of labels itself")
    return path


def _read_poses(path: Path, report: LossReport | None, video: str) -> PoseStream:
    return stream_of(open_predictions(path, video=video, extra=True), path, report)


def _given(**options: bool) -> dict[str, bool]:
    """Those that somebody set."""
    return {name: is_set for name, is_set in options.items() if is_set}


def _refuse(options: dict[str, Any], kind: str) -> None:
    if options:
        raise ValidationError(f"lightning-pose: unknown options {sorted(options)} for {kind}")


# -- labels -------------------------------------------------------------------------------------


def _read_labels(path: Path, report: LossReport, missing: str, guess_swaps: bool) -> AnnotationSet:
    table = read_table(path, n_parts=0)
    if table.layout.is_multi:
        raise FileFormatError(
            f"{path} has individuals; Lightning Pose knows one animal: read the project of "
            "DeepLabCut that it comes from"
        )
    report.add("scorers", len(table.layout.other_scorers), "their columns are left out")
    paths = [path.parent.joinpath(*image_parts(image, str(path), 1)) for image in table.images]
    found = find_missing(paths, missing, str(path))
    report.add("labelled images", len(paths) - len(found.kept), "their files are not there")
    places = [_place(image) for image in table.images]
    sources = image_sources(places)
    images = Images([(paths[i], None) for i in found.kept])
    kept = [attrs.evolve(sources[places[i]], size=images.padding(row))
            for row, i in enumerate(found.kept)]  # fmt: skip
    result = AnnotationSet(
        images,
        table.keypoints[found.kept, 0],
        make_skeleton(table.layout.bodyparts, [], guess_swaps=guess_swaps),
        sources=tuple(kept),
    )
    written = [(_FOLDER, frame.folder, frame.name) for frame in arrange_images(result)[0]]
    read = [table.images[i] for i in found.kept]
    renamed = sum(a != b for a, b in zip(written, read, strict=True))
    report.add("names of images", renamed, "images are named after their video and frame number")
    report.add("scorers' names", int(table.layout.scorer != "dpk"), "no part of the labels")
    return result


def _place(image: tuple[str, ...]) -> tuple[str, str]:
    """(folder of the video, file) of an image."""
    folders = image[1:-1] if image[0] == _FOLDER else image[:-1]
    return "/".join(folders), image[-1]


def _write_labels(
    folder: Path, annotations: AnnotationSet, report: LossReport, scorer: str
) -> None:
    if not len(annotations):
        raise ValidationError("nothing to write: the set has no image")
    if count_individuals(annotations) > 1:
        raise ValidationError(
            "several animals share a frame, and Lightning Pose knows one: crop them out "
            "(individuals='crop'), or write deeplabcut"
        )
    keypoints = confirmed_keypoints(annotations, report)
    frames, _ = arrange_images(annotations)
    report_sources(annotations, frames, {}, report)
    named = sum(bool(source.individual) for source in annotations.sources)
    report.add("names of individuals", named, "Lightning Pose knows one animal, without a name")
    skeleton = annotations.skeleton
    again = make_skeleton(skeleton.names, [])
    report.add("skeleton edges", len(skeleton.edges), "the table has no skeleton")
    swaps = sum(a != b for a, b in zip(skeleton.swap, again.swap, strict=True))
    report.add("swap partners", swaps, "the table has none; they are guessed from left and right")
    columns = [(scorer, name, coord) for name in skeleton.names for coord in "xy"]
    make_folder(folder)
    with (folder / LABELS_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for level, name in enumerate(LEVELS):
            writer.writerow([name, *(column[level] for column in columns)])
        for frame in frames:
            (folder / _FOLDER / frame.folder).mkdir(parents=True, exist_ok=True)
            write_image(folder / _FOLDER / frame.folder / frame.name, annotations, frame)
            row = keypoints[labelled_row(frame, keypoints)].ravel().tolist()
            name = f"{_FOLDER}/{frame.folder}/{frame.name}"
            writer.writerow([name, *("" if x != x else repr(x) for x in row)])
