"""Labels of DeepPoseKit (Graving et al. 2019, eLife 8:e47994): one HDF5 file.

Source of the format: DeepPoseKit 0.3, ``deepposekit/annotate/gui/Annotator.py`` (``_init_data``)
and ``deepposekit/io/DataGenerator.py``:

==================  ==============  =================================================
``images``          (n, h, w, c)    uint8
``annotations``     (n, k, 2)       float64 x, y
``annotated``       (n, k)          bool; a frame trains a model when all of it is True
``skeleton``        (k, 2)          int32 parent and swap partner, -1 for none
``skeleton_names``  (k,)            bytes, not in every file
==================  ==============  =================================================

Coordinates: (0, 0) is the centre of the top-left pixel, for confidence maps are drawn on a grid of
whole numbers (``deepposekit/utils/keypoints.py``, ``draw_keypoints``); taken over as they are.
A missing keypoint is written as (-99999, -99999), far outside: DeepPoseKit draws no peak for it,
and its Annotator, which cannot draw NaN, shows nothing.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np

from dpk_core.annotations import HIDDEN, AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, OutputExistsError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.services.storage import read_annotations
from dpk_core.services.storage.annotations_file import LIBVER
from dpk_core.services.storage.atomic import require_space
from dpk_core.services.storage.hdf5 import write_skeleton
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.plain_hdf5 import child, dataset, opened

MISSING = -99999.0
_NEEDED = ("images", "annotations", "annotated", "skeleton")
_KNOWN = {*_NEEDED, "skeleton_names"}
_OURS = {
    "visibility",
    *(f"source_{key}" for key in ("video", "frame", "individual", "crop", "size")),
}
"""Ours, which may stand in a copy of our files without our mark."""
_BLOCK_BYTES = 64 * 2**20
_SLACK_BYTES = 2**16


class DeepPoseKitFormat(PoseFormat):
    """Reads and writes the HDF5 file."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        path = Path(path)
        try:
            if not path.is_file() or not h5py.is_hdf5(path):
                return False
            with opened(path) as file:
                ours = "dpk_kind" in file.attrs or "dpk_format_version" in file.attrs
                return not ours and all(
                    isinstance(child(file, key, path), h5py.Dataset) for key in _NEEDED
                )
        except (DpkError, OSError):
            return False

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        skeleton: str | PathLike[str] | None = None,
        **options: Any,
    ) -> AnnotationSet:
        """The labelled images; they are read when asked for.

        Parameters
        ----------
        skeleton
            A CSV of name, parent, swap, such as DeepPoseKit's Annotator is given: names for files
            without any.

        Raises
        ------
        FileMissingError, FileFormatError, SkeletonError, ValidationError
        """
        if kind != "annotations":
            raise ValidationError(f"the format deepposekit reads annotations, found {kind!r}")
        if options:
            raise ValidationError(f"the format deepposekit has no options {', '.join(options)}")
        path = Path(path)
        with opened(path) as file:
            keys = set(map(str, file))
            for key in keys & (_KNOWN | _OURS):
                dataset(file, key, path, "an annotation set")
        # Only now, for the images' handle stays open, and locks as h5py does by default.
        labels = read_annotations(path)
        if report is not None:
            report.add("datasets", len(keys - _KNOWN - _OURS), "they are no part of the labels")
        if skeleton is None:
            return labels
        named = Skeleton.from_csv(skeleton)
        if len(named) != len(labels.skeleton):
            raise FileFormatError(
                f"{skeleton} has {len(named)} keypoints, {path} has {len(labels.skeleton)}; they "
                "must agree"
            )
        return attrs.evolve(labels, skeleton=named)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> None:
        """A file that DeepPoseKit opens, laid out as its own: whole arrays, no compression.

        Raises
        ------
        OutputExistsError, OutputError, ValidationError
        """
        if options:
            raise ValidationError(f"the format deepposekit has no options {', '.join(options)}")
        if not isinstance(data, AnnotationSet):
            raise ValidationError("the format deepposekit writes annotations, no poses or tracks")
        path = Path(path)
        if path.exists():
            raise OutputExistsError(f"{path} exists already; choose another name")
        missing = ~np.isfinite(data.keypoints).all(axis=2)
        n, k = missing.shape
        require_space(path, n * (int(np.prod(data.image_shape)) + 17 * k) + _SLACK_BYTES)
        with h5py.File(path, "w", libver=LIBVER, locking=False) as file:
            images = file.create_dataset("images", (n, *data.image_shape), np.uint8)
            step = max(1, _BLOCK_BYTES // max(1, int(np.prod(data.image_shape))))
            for i in range(0, n, step):
                images[i : i + step] = data.images[i : i + step]
            file.create_dataset(
                "annotations", data=np.where(missing[..., None], MISSING, data.keypoints)
            )
            file.create_dataset("annotated", data=data.annotated)
            write_skeleton(file, data.skeleton)
        if report is not None:
            _report(data, missing, report)


def _report(data: AnnotationSet, missing: np.ndarray, report: LossReport) -> None:
    report.add("visibilities", int((data.visibility == HIDDEN).sum()), "DeepPoseKit knows none")
    report.add(
        "visibilities",
        int((~missing & (data.visibility == 0)).sum()),
        "a keypoint with coordinates is visible",
    )
    x, y = np.moveaxis(data.keypoints, 2, 0)
    alike = (x == y) & ((x == -1) | (x <= -999))
    report.add("keypoints", int(alike.sum()), "their coordinates are the sign for a missing one")
    names: dict[str, list[Any]] = {
        "videos and frame numbers": [s.video or s.frame >= 0 for s in data.sources],
        "identities": [s.individual for s in data.sources],
        "positions of crops": [s.crop for s in data.sources],
        "image sizes": [s.size for s in data.sources],
    }
    for what, values in names.items():
        report.add(what, sum(bool(value) for value in values), "DeepPoseKit has no place for them")
