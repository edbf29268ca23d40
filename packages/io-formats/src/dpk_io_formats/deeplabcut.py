"""Labelled frames of a DeepLabCut project (Mathis et al. 2018, Nature Neuroscience 21:1281).

A project is a folder with ``config.yaml`` and ``labeled-data/VIDEO/`` for each video, which holds
the labelled images and ``CollectedData_SCORER.csv`` and ``.h5``.

Coordinates: DeepLabCut labels in a matplotlib canvas that shows the image with ``imshow``
(``generate_training_dataset/labeling_toolbox.py`` of version 2; napari in version 3), where the
centre of the top-left pixel is (0, 0). They are taken over as they are. Half a pixel turns up only
inside of its networks, between score maps and images (``pose = locations * stride + stride / 2 +
offset``), where the offsets are learned from the same labels, so predictions are in the
coordinates of the labels. Images that ``extract_frames(crop=True)`` cut out have coordinates from
their own corner; ``video_sets`` of ``config.yaml`` says where that was ("x1, x2, y1, y2").

Animals of a multi-animal project have a row each, with their names in ``Source.individual``; the
unique body parts belong to an individual called "single", as in DeepLabCut.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from os import PathLike
from pathlib import Path, PureWindowsPath
from typing import Any

import attrs
import numpy as np
import yaml

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import (
    DpkError,
    DpkWarning,
    FileFormatError,
    FileMissingError,
    ValidationError,
)
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.skeleton import NONE, Skeleton
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.deeplabcut_hdf import PickledDataError, damage, open_frame
from dpk_io_formats.deeplabcut_table import (
    XY,
    LabelTable,
    image_parts,
    label_table,
    make_layout,
    read_table,
)
from dpk_io_formats.images import Images, find_missing

CONFIG = "config.yaml"
LABELS = "labeled-data"
_SIDES = (("left", "right"), ("Left", "Right"), ("_l", "_r"), ("_L", "_R"))
_CSV_ROUNDING = 1e-3
"""Spreadsheets round what they save; two tables that differ by less say the same."""
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


class DeepLabCutFormat(PoseFormat):
    """Reads and writes a project folder; reads it by its ``config.yaml``, too."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            folder = _folder(Path(path))
            if not (folder / CONFIG).is_file() or not (folder / LABELS).is_dir():
                return False
            return "bodyparts" in read_config(folder)
        except (DpkError, OSError, ValueError):
            return False

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        scorer: str | None = None,
        missing: str = "error",
        table: str = "auto",
        guess_swaps: bool = True,
        **options: Any,
    ) -> AnnotationSet:
        """The labelled frames of all videos as one set; images are read when asked for.

        Parameters
        ----------
        path
            The project's folder or its ``config.yaml``.
        scorer
            Whose labels, by default those of the scorer in ``config.yaml``.
        missing
            What to do about labelled images that are not there: "error" names them, "skip" leaves
            them out.
        table
            Where labels stand as CSV and as HDF5, "csv" or "h5" says which to take. "auto" takes
            the HDF5, whose numbers are exact and which DeepLabCut trains from, and warns when the
            CSV says something else (edited by hand, and not converted since). A table that
            stands in one of them alone is read from there.
        guess_swaps
            Take body parts as partners under a mirror whose names differ only in left and right
            (leftear, rightear) or a trailing _l and _r.

        Raises
        ------
        FileMissingError
            When there is no project, no labels of that scorer, or images are missing.
        FileFormatError
            When the configuration or a table is not what DeepLabCut writes.
        ValidationError
            On an option that there is not.
        """
        if options:
            raise ValidationError(f"deeplabcut: unknown options {sorted(options)}")
        if kind != "annotations":
            raise ValidationError(f"a DeepLabCut project holds annotations, not {kind}")
        if table not in ("auto", "csv", "h5"):
            raise ValidationError(f"table: expected 'auto', 'csv' or 'h5', found {table!r}")
        report = LossReport() if report is None else report
        folder = _folder(Path(path))
        config = read_config(folder)
        scorer = scorer or str(config.get("scorer") or "")
        tables = _read_tables(folder, scorer, table, report)
        labels = _join(folder, tables, report)
        paths = [folder / LABELS / f / name for f, name in labels.images]
        found = find_missing(paths, missing, str(folder))
        report.add("labelled images", len(paths) - len(found.kept), "their files are not there")
        labels = labels.subset(found.kept)
        skeleton = make_skeleton(
            labels.bodyparts, as_list(config.get("skeleton")), guess_swaps=guess_swaps
        )
        _report_config(config, labels, skeleton, report)
        return _annotations(folder, config, labels, skeleton)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> None:
        """Write a project that DeepLabCut opens; see `deeplabcut_write.write_project`."""
        from dpk_io_formats.deeplabcut_write import write_project

        if not isinstance(data, AnnotationSet):
            raise ValidationError(
                f"a DeepLabCut project holds annotations, found {type(data).__name__}; for "
                "predictions write deeplabcut-predictions"
            )
        write_project(Path(path), data, LossReport() if report is None else report, **options)


@attrs.frozen(eq=False)
class _Labels:
    """The tables of all videos as one: a row for each animal of each frame."""

    images: tuple[tuple[str, str], ...]
    sources: tuple[Source, ...]
    bodyparts: tuple[str, ...]
    keypoints: np.ndarray

    def subset(self, rows: np.ndarray) -> _Labels:
        return attrs.evolve(
            self,
            images=tuple(self.images[i] for i in rows),
            sources=tuple(self.sources[i] for i in rows),
            keypoints=self.keypoints[rows],
        )


def _join(folder: Path, tables: list[tuple[Path, LabelTable]], report: LossReport) -> _Labels:
    bodyparts = tables[0][1].layout.bodyparts
    images, sources, keypoints = [], [], []
    used: set[str] = set()
    named: dict[str, None] = {}
    for path, table in tables:
        layout = table.layout
        if layout.bodyparts != bodyparts:
            raise FileFormatError(
                f"{path} has the body parts {', '.join(layout.bodyparts)}; the other "
                f"videos have {', '.join(bodyparts)}; they must agree"
            )
        named.update(dict.fromkeys(layout.individuals))
        places = [image[-2:] for image in table.images]
        frames = image_sources([(f, name) for f, name in places])
        for i, (f, name) in enumerate(places):
            there = np.flatnonzero(np.isfinite(table.keypoints[i]).any(axis=(1, 2)))
            for j in there if len(there) else [NONE]:
                individual = "" if j == NONE else layout.individuals[j]
                used.add(individual)
                images.append((f, name))
                sources.append(attrs.evolve(frames[f, name], individual=individual))
                keypoints.append(table.keypoints[i, max(j, 0)])
    _report_tables(tables, np.array(keypoints), [n for n in named if n not in used], report)
    twice = [image for image, n in Counter(zip(images, (s.individual for s in sources),
                                               strict=True)).items() if n > 1]  # fmt: skip
    if twice:
        raise FileFormatError(
            f"{folder}: the frame {'/'.join(twice[0][0])} is labelled twice, in two tables"
        )
    return _Labels(tuple(images), tuple(sources), bodyparts, np.array(keypoints))


def _annotations(
    folder: Path, config: dict[str, Any], labels: _Labels, skeleton: Skeleton
) -> AnnotationSet:
    images = Images([(folder / LABELS / f / name, None) for f, name in labels.images])
    crops = _crops(config)
    for f, (x1, x2, y1, y2) in list(crops.items()):
        rows = [i for i, image in enumerate(labels.images) if image[0] == f]
        size = np.array([y2 - y1, x2 - x1])
        if not (x1 or y1) or not (images.sizes[rows] == size).all():
            del crops[f]  # the whole frame, or a rectangle that is not what these images show
    sources = []
    for i, source in enumerate(labels.sources):
        x1, _, y1, _ = crops.get(labels.images[i][0], (0, 0, 0, 0))
        crop = (1.0, 0.0, float(-x1), 0.0, 1.0, float(-y1)) if x1 or y1 else None
        sources.append(attrs.evolve(source, size=images.padding(i), crop=crop))
    _warn_of_outliers(labels, images.sizes)
    return AnnotationSet(images, labels.keypoints, skeleton, sources=tuple(sources))


def _warn_of_outliers(labels: _Labels, sizes: np.ndarray) -> None:
    """Labels an image's length or more away from it are slips; they are kept, and told of."""
    limit = sizes[:, None, ::-1].astype(float)
    with np.errstate(invalid="ignore"):
        far = ((labels.keypoints < -limit) | (labels.keypoints > 2 * limit)).any(axis=2)
    if far.any():
        i, k = np.argwhere(far)[0]
        x, y = labels.keypoints[i, k]
        warnings.warn(
            DpkWarning(
                f"{int(far.sum())} labels lie far outside their images: "
                f"{'/'.join(labels.images[i])} has {labels.bodyparts[k]} at ({x:g}, {y:g}); they "
                "are kept as they are"
            ),
            stacklevel=4,
        )


# -- what is left behind ------------------------------------------------------------------------


def _report_tables(
    tables: list[tuple[Path, LabelTable]],
    keypoints: np.ndarray,
    unused: list[str],
    report: LossReport,
) -> None:
    layouts = [table.layout for _, table in tables]
    others = sum(len(layout.other_scorers) for layout in layouts)
    report.add("scorers", others, "their columns are left out; choose others with scorer=NAME")
    unused = [name for name in unused if name]
    report.add("individuals", len(unused), f"{', '.join(unused)}: never labelled")
    labelled = np.isfinite(keypoints).any(axis=(0, 2))
    if any(layout.unique for layout in layouts):
        n_unique = max(layout.unique for layout in layouts)
        report.add(
            "unique body parts",
            int((~labelled[-n_unique:]).sum()),
            "never labelled, so that nothing tells them from those of every animal",
        )
    names = [image[-2:] for _, table in tables for image in table.images]
    sources = image_sources([(f, name) for f, name in names])
    renamed = sum(image_name(sources[f, name]) != name for f, name in names)
    report.add("names of images", renamed, "images are named after their frame number")


def _report_config(
    config: dict[str, Any], labels: _Labels, skeleton: Skeleton, report: LossReport
) -> None:
    from dpk_io_formats.deeplabcut_write import DEFAULTS

    kept = {"bodyparts", "skeleton", "individuals", "multianimalbodyparts", "uniquebodyparts",
            "multianimalproject"}  # fmt: skip
    lost = [
        str(key)
        for key, value in config.items()
        if key not in kept and value is not None and DEFAULTS.get(key) != value
    ]
    report.add("settings of the project", len(lost), f"{', '.join(lost)}: no part of the labels")
    pairs = [frozenset(map(str, p)) for p in as_list(config.get("skeleton"))
             if isinstance(p, (list, tuple))]  # fmt: skip
    edges = {frozenset(skeleton.names[i] for i in edge) for edge in skeleton.edges}
    report.add(
        "skeleton edges",
        len(as_list(config.get("skeleton"))) - sum(edge in pairs for edge in edges),
        "they close a circle, and a skeleton is made of trees, or name no labelled body part",
    )
    parts = {str(p) for key in ("bodyparts", "multianimalbodyparts", "uniquebodyparts")
             for p in as_list(config.get(key))}  # fmt: skip
    report.add("body parts", len(parts - set(labels.bodyparts)), "no table has a column for them")
    names = {str(name) for name in as_list(config.get("individuals"))}
    unused = names - {source.individual for source in labels.sources}
    if config.get("multianimalproject") and any(s.individual for s in labels.sources):
        listed = {loss.why.split(":")[0] for loss in report if loss.what == "individuals"}
        unused -= {name for text in listed for name in text.split(", ")}
        report.add("individuals", len(unused), f"{', '.join(sorted(unused))}: in no table")


# -- images, frames, crops ----------------------------------------------------------------------


def image_sources(images: list[tuple[str, str]]) -> dict[tuple[str, str], Source]:
    """Where each (folder, file) came from: the folder is named after the video.

    A file whose name gives no number, or the same as another one's, is a `Source` of its own: its
    path below ``labeled-data``, frame 0.
    """
    numbers = {image: frame_number(image[1]) for image in images}
    times = Counter((f, numbers[f, name]) for f, name in numbers)
    return {
        (f, name): Source(f, number)
        if number >= 0 and times[f, number] == 1
        else Source(f"{f}/{name}", 0)
        for (f, name), number in numbers.items()
    }


def image_name(source: Source) -> str:
    """The name of the file that is written for a frame."""
    if is_image_file(source):
        return f"{PureWindowsPath(source.video).stem}.png"
    return f"img{source.frame:04d}.png"


def is_image_file(source: Source) -> bool:
    """Whether a source is an image rather than a frame of a video."""
    return source.video.lower().endswith(_IMAGE_SUFFIXES) and source.frame <= 0


def frame_number(name: str) -> int:
    """DeepLabCut names extracted frames imgNNNN.png after their number in the video; or -1."""
    found = re.fullmatch(r"\D*(\d{1,12})", Path(name).stem, re.ASCII)
    return int(found.group(1)) if found else -1


def _crops(config: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    """x1, x2, y1, y2 by the name of the video."""
    videos = config.get("video_sets")
    found = {}
    for video, settings in videos.items() if isinstance(videos, dict) else ():
        text = settings.get("crop") if isinstance(settings, dict) else None
        numbers = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", str(text))
        if numbers and len(str(text)) < 60:
            x1, x2, y1, y2 = map(int, numbers.groups())
            found[PureWindowsPath(str(video)).stem] = (x1, x2, y1, y2)
    return found


# -- the skeleton -------------------------------------------------------------------------------


def make_skeleton(
    bodyparts: tuple[str, ...], pairs: list[Any], *, guess_swaps: bool = True
) -> Skeleton:
    """A skeleton from DeepLabCut's list of linked body parts.

    DeepLabCut draws lines between any two body parts; a `Skeleton` is made of trees. A link is
    taken, in the order of the list, unless it closes a circle or names an unknown part; each tree
    hangs on its first body part.
    """
    index = {name: i for i, name in enumerate(bodyparts)}
    neighbours: list[list[int]] = [[] for _ in bodyparts]
    group = list(range(len(bodyparts)))
    for pair in pairs:
        ends = list(pair) if isinstance(pair, (list, tuple)) else []
        a, b = (index.get(str(name), NONE) for name in [*ends, "", ""][:2])
        if NONE in (a, b) or group[a] == group[b]:
            continue
        group = [group[a] if g == group[b] else g for g in group]
        neighbours[a].append(b)
        neighbours[b].append(a)
    parent = [NONE] * len(bodyparts)
    visited: set[int] = set()
    for root in range(len(bodyparts)):
        waiting = [] if root in visited else [root]
        while waiting:
            i = waiting.pop()
            visited.add(i)
            for j in neighbours[i]:
                if j not in visited:
                    parent[j] = i
                    waiting.append(j)
    swap = _guess_swaps(bodyparts) if guess_swaps else [NONE] * len(bodyparts)
    return Skeleton(bodyparts, parent, swap)


def _guess_swaps(bodyparts: tuple[str, ...]) -> list[int]:
    index = {name: i for i, name in enumerate(bodyparts)}
    swap = [NONE] * len(bodyparts)
    for name, i in index.items():
        for left, right in _SIDES:
            if left.startswith("_"):
                partner = name[: -len(left)] + right if name.endswith(left) else ""
            else:
                partner = name.replace(left, right) if name.count(left) == 1 else ""
            j = index.get(partner, NONE)
            if j not in (NONE, i):
                swap[i], swap[j] = j, i
    return swap


# -- files --------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Plain data alone, and the tuples that early versions of DeepLabCut wrote."""


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node)
)


def read_config(folder: Path) -> dict[str, Any]:
    """The settings in a project's ``config.yaml``.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileMissingError(f"no DeepLabCut project at {folder}: expected {path}")
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (
        yaml.YAMLError, UnicodeDecodeError, ValueError, OverflowError, RecursionError, TypeError,
    ) as error:  # fmt: skip
        raise FileFormatError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(config, dict):
        raise FileFormatError(f"{path}: expected a DeepLabCut configuration, found no settings")
    return config


def as_list(value: Any) -> list[Any]:
    """A list of the configuration; empty for anything else ('MULTI!', nothing)."""
    return list(value) if isinstance(value, (list, tuple)) else []


def _folder(path: Path) -> Path:
    return path.parent if path.name == CONFIG else path


def _read_tables(
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
