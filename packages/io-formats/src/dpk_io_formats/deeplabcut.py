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

import warnings
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import (
    DpkError,
    DpkWarning,
    FileFormatError,
    ValidationError,
)
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.skeleton import NONE, Skeleton
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.deeplabcut_labels import read_tables
from dpk_io_formats.deeplabcut_project import (
    CONFIG,
    LABELS,
    as_list,
    find_crops,
    image_name,
    image_sources,
    make_skeleton,
    read_config,
)
from dpk_io_formats.deeplabcut_table import LabelTable
from dpk_io_formats.images import Images, find_missing


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
        tables = read_tables(folder, scorer, table, report)
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
        scorer: str = "dpk",
        task: str = "labels",
        date: str | None = None,
        index_levels: int = 3,
        individuals: Sequence[str] = (),
        unique: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Write a project that DeepLabCut opens; see `deeplabcut_write.write_project`."""
        from dpk_io_formats.deeplabcut_write import write_project

        if not isinstance(data, AnnotationSet):
            raise ValidationError(
                f"a DeepLabCut project holds annotations, found {type(data).__name__}; for "
                "predictions write deeplabcut-predictions"
            )
        write_project(
            Path(path), data, LossReport() if report is None else report, scorer=scorer, task=task,
            date=date, index_levels=index_levels, individuals=individuals, unique=unique, **options,
        )  # fmt: skip


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
    crops = find_crops(config)
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


def _folder(path: Path) -> Path:
    return path.parent if path.name == CONFIG else path
