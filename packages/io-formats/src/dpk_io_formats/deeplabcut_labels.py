"""The labels of a DeepLabCut project, which stand in CSV and HDF5 side by side."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from dpk_core.errors import DpkWarning, FileFormatError, FileMissingError
from dpk_core.losses import LossReport
from dpk_io_formats.deeplabcut_hdf import PickledDataError, damage, open_frame
from dpk_io_formats.deeplabcut_project import LABELS
from dpk_io_formats.deeplabcut_table import (
    XY,
    LabelTable,
    image_parts,
    label_table,
    make_layout,
    read_table,
)

_CSV_ROUNDING = 1e-3
"""Spreadsheets round what they save; two tables that differ by less say the same."""


def read_tables(
    folder: Path, scorer: str, table: str, report: LossReport
) -> list[tuple[Path, LabelTable]]:
    stems: dict[Path, set[str]] = {}
    for path in sorted((folder / LABELS).glob("*/CollectedData_*")):
        if path.suffix in (".csv", ".h5"):
            stems.setdefault(path.with_suffix(""), set()).add(path.suffix)
    chosen = [s for s in stems if not scorer or s.name == f"CollectedData_{scorer}"]
    others = sorted({s.name for s in stems if s not in chosen})
    if not chosen:
        raise FileMissingError(
            f"no labels in {folder / LABELS}: expected VIDEO/CollectedData_{scorer or '*'}.csv or "
            f".h5; found {', '.join(others) or 'no table at all'}"
        )
    n_others = sum(s not in chosen for s in stems)
    report.add("tables of other scorers", n_others, f"{', '.join(others)}: choose with scorer=NAME")
    return [_read_either(stem, stems[stem], table, scorer) for stem in chosen]


def _read_either(
    stem: Path, suffixes: set[str], table: str, scorer: str
) -> tuple[Path, LabelTable]:
    csv, h5 = (stem.with_name(f"{stem.name}{suffix}") for suffix in (".csv", ".h5"))
    if ".h5" not in suffixes or (table == "csv" and ".csv" in suffixes):
        return csv, read_table(csv, scorer=scorer)
    if ".csv" not in suffixes or table == "h5":
        return h5, read_label_hdf(h5, scorer=scorer)
    text = read_table(csv, scorer=scorer)
    try:
        exact = read_label_hdf(h5, scorer=scorer)
    except PickledDataError as error:
        warnings.warn(DpkWarning(f"{error}; {csv.name} is taken"), stacklevel=5)
        return csv, text
    difference = _difference(text, exact)
    if difference:
        warnings.warn(
            DpkWarning(
                f"{csv} and {h5.name} differ: {difference}; the .h5 is taken, as DeepLabCut does. "
                "Take the other with table='csv', or convert it with deeplabcut.convertcsv2h5"
            ),
            stacklevel=5,
        )
    return h5, exact


def read_label_hdf(path: Path, *, scorer: str = "") -> LabelTable:
    """Read one table of labels from HDF5.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    with open_frame(path) as frame, damage(path):
        layout = make_layout(frame.columns, XY, path, scorer=scorer)
        if frame.index.ndim != 2:
            raise FileFormatError(f"{path}: expected images as index, found numbers")
        if not len(frame):
            raise FileFormatError(f"{path} has no labelled frame; label some first")
        images = [image_parts(row, f"{path}, row {i}") for i, row in enumerate(frame.index)]
        return label_table(images, layout, frame.read(0, len(frame)), path)


def _difference(text: LabelTable, exact: LabelTable) -> str:
    """What two tables do not agree about, "" when they do."""
    for what in ("bodyparts", "individuals"):
        a, b = getattr(text.layout, what), getattr(exact.layout, what)
        if a != b:
            return f"{what} {', '.join(a)} and {', '.join(b)}"
    rows = {image[-2:]: i for i, image in enumerate(exact.images)}
    ours = {image[-2:] for image in text.images}
    if ours != set(rows):
        return f"the frame {'/'.join(sorted(ours ^ set(rows))[0])} stands in one of them alone"
    for i, image in enumerate(text.images):
        a, b = text.keypoints[i], exact.keypoints[rows[image[-2:]]]
        if not np.allclose(a, b, rtol=1e-9, atol=_CSV_ROUNDING, equal_nan=True):
            return f"the labels of {'/'.join(image[-2:])}"
    return ""
