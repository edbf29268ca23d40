"""Labelled images from a path, whichever program wrote them, or from a part of a dataset."""

from __future__ import annotations

import warnings
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import FileFormatError, FileMissingError, PluginError, ValidationError
from dpk_core.interfaces import Dataset, Sample
from dpk_core.specs import FormatSpec


def open_source(source: str | PathLike[str] | Dataset) -> Dataset:
    """A dataset from a path or a dataset.

    A ``.h5`` or ``.hdf5`` file is read as DeepPoseKit's or dpk's annotations; what that cannot
    read, and everything else, goes to the first format plugin that recognises it.

    Raises
    ------
    FileMissingError
        When there is nothing at the path.
    FileFormatError
        When nothing recognises the file.
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
            other = _read_with_plugin(path)
            if other is None:
                raise
            return other
    other = _read_with_plugin(path)
    if other is None:
        raise FileFormatError(
            f"{path} is not a set of annotations that dpk knows; expected a .h5 file of labelled "
            "images or a format that an installed plugin reads (`dpk plugins` lists them all)"
        )
    return other


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


def _read_with_plugin(path: Path) -> Dataset | None:
    from dpk_core.services.plugins import registry

    for spec in registry().specs("formats"):
        if not isinstance(spec, FormatSpec) or "annotations" not in spec.reads:
            continue
        try:
            pose_format = spec.load()()
        except PluginError as error:  # one broken plugin does not keep the others from reading
            warnings.warn(str(error), stacklevel=2)
            continue
        if pose_format.sniff(path):
            found = pose_format.read(path)
            if isinstance(found, Dataset):
                return found
    return None
