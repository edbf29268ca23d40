"""Labelled images from a path, whichever program wrote them, or from a part of a dataset."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import FileFormatError, FileMissingError, PluginError, ValidationError
from dpk_core.interfaces import Dataset, Sample
from dpk_core.services.formats import OURS, FoundFormat, identify
from dpk_core.services.individuals import count_individuals, crop_individuals


def open_source(source: str | PathLike[str] | Dataset, *, whole_frames: bool = False) -> Dataset:
    """A dataset from a path or a dataset.

    A ``.h5`` or ``.hdf5`` file is read as DeepPoseKit's or dpk's annotations; what that cannot
    read, and everything else, goes to the format plugin that recognises it. Where several animals
    share a frame, each is cropped out, unless ``whole_frames`` are asked for.

    Raises
    ------
    FileMissingError
        When there is nothing at the path.
    FileFormatError
        When nothing recognises the file, or it holds no labels.
    ValidationError
        When the source is neither a path nor a `Dataset`.
    """
    if isinstance(source, Dataset):
        return source
    if not isinstance(source, str | PathLike):
        raise ValidationError(
            f"source: expected a path or a dpk_core.Dataset, found {type(source).__name__}"
        )
    path = Path(fspath(source))
    if not path.exists():
        raise FileMissingError(
            f"no annotations at {path}: expected a .h5 file of labelled images, or a project of "
            "another program"
        )
    if path.suffix.lower() in (".h5", ".hdf5") and path.is_file():
        from dpk_core.services.storage import read_annotations

        try:
            return read_annotations(path)
        except FileFormatError:
            # another program's .h5: ask the plugins, and if none knows it, tell what we found
            try:
                found = identify(path)
            except FileFormatError:
                found = None
            if found is None or found.spec.name == OURS:
                raise
            return _labels(found, path, whole_frames)
    try:
        found = identify(path)
    except FileFormatError as error:
        raise FileFormatError(f"no annotations that dpk can learn from: {error}") from None
    return _labels(found, path, whole_frames)


def _labels(found: FoundFormat, path: Path, whole_frames: bool) -> Dataset:
    if "annotations" not in found.kinds:
        raise FileFormatError(
            f"{path} holds {' and '.join(found.kinds)} ({found.spec.name}), and no labelled "
            "images; a model learns from images that a person has labelled"
        )
    labels = found.format.read(path, "annotations")
    if not isinstance(labels, AnnotationSet):
        raise PluginError(
            f"the format {found.spec.name} gave {type(labels).__name__} for the labels in {path}; "
            "expected an AnnotationSet (a fault of its author's)"
        )
    crowded = not whole_frames and count_individuals(labels) > 1
    return crop_individuals(labels) if crowded else labels


def subset(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Chosen rows of a dataset, images still read only when asked for."""
    if isinstance(dataset, AnnotationSet):
        return dataset.subset(rows)
    return DatasetSubset(dataset, rows)


def spread_images(dataset: Dataset, n: int = 32) -> np.ndarray:
    """At most n images from all over a dataset, (n, h, w, c) uint8."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(n, len(dataset))).astype(int))
    return np.stack([dataset[int(i)].image for i in rows])


class DatasetSubset(Dataset):
    """Chosen rows of a dataset, in the given order."""

    def __init__(self, dataset: Dataset, rows: np.ndarray) -> None:
        self.skeleton = dataset.skeleton
        self._dataset = dataset
        self._rows = np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Sample:
        return self._dataset[int(self._rows[range(len(self))[i]])]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._dataset.image_shape

    @property
    def groups(self) -> list[str] | None:
        groups = self._dataset.groups
        return None if groups is None else [groups[i] for i in self._rows]

    @property
    def frames(self) -> np.ndarray | None:
        frames = self._dataset.frames
        return None if frames is None else np.asarray(frames)[self._rows]
