"""Writes a DeepLabCut project: ``config.yaml``, the images, and tables as CSV and HDF5.

Coordinates are written as they are, see `dpk_io_formats.deeplabcut`. The tables have what
``pandas.read_hdf(path, "df_with_missing")`` of DeepLabCut expects: float64, columns with the
levels scorer, (individuals,) bodyparts, coords, and rows with the three parts of the image's path
(since version 2.2; ``index_levels=1`` for older ones).

Source: DeepLabCut 3.0, ``create_project/new.py``, ``utils/auxiliaryfunctions.py``
(create_config_template), ``generate_training_dataset/trainingsetmanipulation.py``.
"""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import ValidationError
from dpk_core.losses import LossReport
from dpk_core.skeleton import Skeleton
from dpk_io_formats.deeplabcut_hdf_write import write_frame
from dpk_io_formats.deeplabcut_images import (
    Frame,
    arrange_images,
    confirmed_keypoints,
    crop_text,
    labelled_row,
    one_crop,
    report_sources,
    write_image,
)
from dpk_io_formats.deeplabcut_project import CONFIG, LABELS, make_skeleton
from dpk_io_formats.deeplabcut_table import LEVELS, LEVELS_MULTI, SINGLE
from dpk_io_formats.frame_folder import make_folder

DEFAULTS: dict[str, Any] = {
    "identity": False,
    "engine": "pytorch",
    "start": 0,
    "stop": 1,
    "numframes2pick": 20,
    "skeleton_color": "black",
    "pcutoff": 0.6,
    "dotsize": 12,
    "alphavalue": 0.7,
    "colormap": "rainbow",
    "TrainingFraction": [0.95],
    "iteration": 0,
    "default_net_type": "resnet_50",
    "default_augmenter": "default",
    "default_track_method": "ellipse",
    "snapshotindex": -1,
    "detector_snapshotindex": -1,
    "batch_size": 8,
    "detector_batch_size": 1,
    "cropping": False,
    "x1": 0,
    "x2": 640,
    "y1": 277,
    "y2": 624,
    "corner2move2": [50, 50],
    "move2corner": True,
}
"""Settings of a new project, as DeepLabCut 3.0 writes them."""


def write_project(
    folder: Path,
    annotations: AnnotationSet,
    report: LossReport,
    *,
    scorer: str = "dpk",
    task: str = "labels",
    date: str | None = None,
    index_levels: int = 3,
    individuals: Sequence[str] = (),
    unique: Sequence[str] = (),
    **options: Any,
) -> None:
    """Write a project folder that is not there yet.

    Parameters
    ----------
    scorer, task, date
        As DeepLabCut calls them; the date as in Oct30, by default today's.
    index_levels
        3 as DeepLabCut 2.2 and later, 1 as earlier versions.
    individuals
        Names of a multi-animal project in the order wanted, those without any label too. Default:
        in the order of the rows. Animals are told apart when a row has an individual or several
        rows share a frame.
    unique
        Body parts that are there once a frame. Default: those that only the individual called
        "single" has.

    Raises
    ------
    ValidationError
        On unknown options, or an individual that is twice in a frame.
    """
    if options:
        raise ValidationError(f"deeplabcut: unknown options {sorted(options)}")
    if index_levels not in (1, 3):
        raise ValidationError(f"index_levels: expected 1 or 3, found {index_levels}")
    if not re.fullmatch(r"[^<>:\"/\\|?*\x00-\x1f]{1,100}", scorer) or scorer.startswith("."):
        raise ValidationError(f"scorer: expected a name that can be part of a file's, {scorer!r}")
    if not len(annotations):
        raise ValidationError("nothing to write: the set has no image")
    keypoints = confirmed_keypoints(annotations, report)
    frames, videos = arrange_images(annotations)
    crops = one_crop(frames, annotations)
    report_sources(annotations, frames, crops, report)
    names, table = _individuals(annotations, keypoints, frames, individuals, report)
    parts, n_unique, order = _body_parts(annotations.skeleton, keypoints, names, table, unique)
    if order != list(range(len(order))):
        report.add("places of body parts", len(order), "unique body parts come last in DeepLabCut")
    make_folder(folder)
    for sub in ("videos", "training-datasets", "dlc-models"):
        (folder / sub).mkdir()
    columns, cells = _columns(scorer, parts, n_unique, names)
    for video in videos:
        chosen = [frame for frame in frames if frame.folder == video]
        (folder / LABELS / video).mkdir(parents=True)
        values = np.full((len(chosen), len(names) * len(parts) * 2), np.nan)
        for i, frame in enumerate(chosen):
            row = values[i].reshape(len(names), len(parts), 2)
            for j, place in table[frame.folder, frame.name].items():
                row[place] = keypoints[j][order]
            write_image(folder / LABELS / video / frame.name, annotations, frame)
        index = [(LABELS, video, frame.name) for frame in chosen]
        if index_levels == 1:
            index = [("/".join(parts_),) for parts_ in index]  # type: ignore[misc]
        stem = folder / LABELS / video / f"CollectedData_{scorer}"
        _write_tables(stem, columns, index, values[:, cells])
    _report_skeleton(annotations.skeleton, report)
    config = _config(annotations, parts, n_unique, names, scorer, task, date)
    config["video_sets"] = {
        videos[video]: {"crop": crop_text(annotations, frames, video, crops)} for video in videos
    }
    text = yaml.safe_dump(config, sort_keys=False, width=1_000_000)
    (folder / CONFIG).write_text(text, encoding="ascii")  # DeepLabCut reads it in the locale's code


# -- animals and body parts ---------------------------------------------------------------------


def _individuals(
    annotations: AnnotationSet,
    keypoints: np.ndarray,
    frames: list[Frame],
    wanted: Sequence[str],
    report: LossReport,
) -> tuple[list[str], dict[tuple[str, str], dict[int, int]]]:
    """Names in order, and for each image which row is which of them; [""] for one animal."""
    labelled = np.isfinite(keypoints).any(axis=(1, 2))
    named = [source.individual for source in annotations.sources]
    several = any(labelled[frame.rows].sum() > 1 for frame in frames)
    if not wanted and not several and not any(named[i] for i in range(len(named))):
        table = {(f.folder, f.name): {labelled_row(f, keypoints): 0} for f in frames}
        return [""], table
    names = dict.fromkeys([*map(str, wanted), *(n for i, n in enumerate(named) if n)])
    unnamed = lost = 0
    chosen: dict[tuple[str, str], dict[int, str]] = {}
    for frame in frames:
        of: dict[int, str] = {}
        for i in frame.rows:
            if not labelled[i]:
                lost += bool(named[i])
                continue
            if named[i] and named[i] in of.values():
                raise ValidationError(
                    f"{frame.folder}/{frame.name}: the individual {named[i]!r} is there twice"
                )
            of[i] = named[i]
        for i in [i for i in of if not of[i]]:
            unnamed += 1
            taken = {*of.values(), *(n for n in named if n)}
            number = next(n for n in range(1, len(taken) + 2) if f"individual{n}" not in taken)
            of[i] = f"individual{number}"
            names.setdefault(of[i])
        chosen[frame.folder, frame.name] = of
    used = {name for of in chosen.values() for name in of.values()} | set(map(str, wanted))
    order = [name for name in names if name in used] or ["individual1"]
    order.sort(key=lambda name: name == SINGLE)  # DeepLabCut has it last
    report.add("names of individuals", unnamed, "DeepLabCut names every animal; they are numbered")
    report.add("rows without a label", lost, "a table has no place for an animal without a label")
    place = {name: i for i, name in enumerate(order)}
    return order, {
        image: {i: place[name] for i, name in of.items()} for image, of in chosen.items()
    }


def _body_parts(
    skeleton: Skeleton,
    keypoints: np.ndarray,
    names: list[str],
    table: dict[tuple[str, str], dict[int, int]],
    unique: Sequence[str],
) -> tuple[list[str], int, list[int]]:
    """Names, how many of the last are unique, and which keypoint each is."""
    there = np.zeros((len(names), len(skeleton)), bool)
    for rows in table.values():
        for i, place in rows.items():
            there[place] |= np.isfinite(keypoints[i]).any(axis=1)
    last = split_unique(there, names, [skeleton.index(name) for name in unique])
    order = [k for k in range(len(skeleton)) if k not in last] + last
    return [skeleton.names[k] for k in order], len(last), order


def split_unique(there: np.ndarray, names: Sequence[str], wanted: Sequence[int] = ()) -> list[int]:
    """Which keypoints belong to `SINGLE` alone.

    Parameters
    ----------
    there
        (individuals, keypoints) bool: whether it is anywhere.
    wanted
        Keypoints to take for unique, though nobody has them.

    Raises
    ------
    ValidationError
        When another individual has a wanted one.
    """
    others = np.array([name != SINGLE for name in names])
    if SINGLE not in names or not others.any():
        return []
    elsewhere = there[others].any(axis=0)
    if any(elsewhere[k] for k in wanted):
        raise ValidationError("unique: expected body parts that only 'single' has")
    single = there[~others].any(axis=0)
    if (single & elsewhere).any():
        return []  # an animal like the others, that somebody called so
    return [k for k in range(there.shape[1]) if single[k] or k in wanted]


def _columns(
    scorer: str, parts: Sequence[str], n_unique: int, names: Sequence[str]
) -> tuple[list[tuple[str, ...]], list[int]]:
    """The columns of a table, and where each number stands in (individuals, parts, 2)."""
    columns, cells = [], []
    for place, individual, k, part in animal_parts(parts, n_unique, names):
        for c, coord in enumerate("xy"):
            who = (individual,) if individual else ()
            columns.append((scorer, *who, part, coord))
            cells.append((place * len(parts) + k) * 2 + c)
    return columns, cells


def animal_parts(
    parts: Sequence[str], n_unique: int, names: Sequence[str]
) -> list[tuple[int, str, int, str]]:
    """(individual's number, name, body part's number, name) of all that a table has columns for."""
    first_unique = len(parts) - n_unique
    return [
        (i, name, k, part)
        for i, name in enumerate(names)
        for k, part in enumerate(parts)
        if not n_unique or (name == SINGLE) == (k >= first_unique)
    ]


def _report_skeleton(skeleton: Skeleton, report: LossReport) -> None:
    again = make_skeleton(skeleton.names, _links(skeleton))
    turned = sum(a != b for a, b in zip(skeleton.parent, again.parent, strict=True))
    report.add("parents", turned, "DeepLabCut's links have no direction; trees hang on the first")
    swaps = sum(a != b for a, b in zip(skeleton.swap, again.swap, strict=True))
    report.add("swap partners", swaps, "DeepLabCut has none; they are guessed from left and right")


def _links(skeleton: Skeleton) -> list[list[str]]:
    return [[skeleton.names[p], skeleton.names[i]] for i, p in skeleton.edges]


# -- files --------------------------------------------------------------------------------------


def _write_tables(
    stem: Path,
    columns: list[tuple[str, ...]],
    index: Sequence[tuple[str, ...]],
    values: np.ndarray,
) -> None:
    levels = LEVELS if len(columns[0]) == 3 else LEVELS_MULTI
    with stem.with_name(f"{stem.name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for level, name in enumerate(levels):
            empty = [""] * (len(index[0]) - 1)
            writer.writerow([name, *empty, *(column[level] for column in columns)])
        for row, numbers in zip(index, values.tolist(), strict=True):
            writer.writerow([*row, *("" if x != x else repr(x) for x in numbers)])
    write_frame(stem.with_name(f"{stem.name}.h5"), columns, levels, index, [values])


def _config(
    annotations: AnnotationSet,
    parts: list[str],
    n_unique: int,
    names: list[str],
    scorer: str,
    task: str,
    date: str | None,
) -> dict[str, Any]:
    today = datetime.date.today()
    multi = names != [""]
    settings = {key: value for key, value in DEFAULTS.items() if multi or "track" not in key}
    head: dict[str, Any] = {
        "Task": task,
        "scorer": scorer,
        "date": date or f"{today:%b}{today.day}",
        "multianimalproject": multi,
        "identity": settings.pop("identity"),
        "project_path": ".",  # DeepLabCut puts the folder here in which it finds the file
        "engine": settings.pop("engine"),
        "video_sets": {},
    }
    if multi:
        head["individuals"] = [name for name in names if name != SINGLE or not n_unique]
        head["uniquebodyparts"] = parts[len(parts) - n_unique :]
        head["multianimalbodyparts"] = parts[: len(parts) - n_unique]
        head["bodyparts"] = "MULTI!"
    else:
        head["bodyparts"] = parts
    return {**head, "skeleton": _links(annotations.skeleton), **settings}
