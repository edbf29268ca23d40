"""AnnotationSet: labelled images, in memory or read from a file row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs
import numpy as np

from dpk_core.checks import as_array, check_shape
from dpk_core.errors import ValidationError
from dpk_core.interfaces import Dataset, Sample
from dpk_core.skeleton import Skeleton

NOT_LABELLED, HIDDEN, VISIBLE = 0, 1, 2
"""Visibility of a keypoint, as in COCO."""


class ImageSource(Protocol):
    """Images as a NumPy array, or anything that reads them by row: an open file, a view."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: Any) -> np.ndarray: ...


@attrs.frozen
class Source:
    """Where one image came from.

    Parameters
    ----------
    video
        Path or name of the video (or the image file), "" when unknown.
    frame
        Number of the frame from 0, -1 when unknown.
    individual
        Name of the individual that was cropped out, "" for a whole frame.
    crop
        The six numbers of the 2x3 matrix, row by row, that maps video pixels to image pixels;
        None when the image is the whole frame.
    size
        (height, width) of the image before it was padded on the right and at the bottom to the
        size of the others; None when it was not.
    """

    video: str = ""
    frame: int = -1
    individual: str = ""
    crop: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None

    def __attrs_post_init__(self) -> None:
        if self.crop is not None and len(self.crop) != 6:
            raise ValidationError(f"crop: expected 6 numbers, found {len(self.crop)}")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValidationError(f"size: expected height and width, found {self.size}")


class ImageRows:
    """Chosen rows of an `ImageSource`, read when they are asked for."""

    def __init__(self, images: ImageSource, rows: np.ndarray) -> None:
        self._images = images
        self._rows = np.asarray(rows, dtype=np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._rows), *self._images.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self._images.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: Any) -> np.ndarray:
        chosen = self._rows[row]
        if np.ndim(chosen) == 0:
            return np.asarray(self._images[int(chosen)])
        if not len(chosen):
            return np.empty(self.shape[1:], self.dtype)[None][:0]
        return np.stack([np.asarray(self._images[int(i)]) for i in chosen])


@attrs.frozen(repr=False, eq=False)
class AnnotationSet(Dataset):
    """Images with keypoints, visibilities and where each came from.

    Parameters
    ----------
    images
        (n, h, w, c) uint8, an array or an `ImageSource` that reads rows from a file.
    keypoints
        (n, k, 2) float64 of x, y in pixels of the image; NaN is missing.
    skeleton
        The `Skeleton` with k keypoints.
    annotated
        (n, k) bool: a person has dealt with this keypoint. Default: wherever there is a coordinate.
    visibility
        (n, k) uint8: 0 not labelled, 1 labelled but hidden, 2 visible. Default: 2 wherever there
        is a coordinate.
    sources
        A `Source` for each image. Default: unknown.

    Raises
    ------
    ValidationError
        On shapes that disagree, images that are not uint8, or visibilities above 2.
    """

    images: ImageSource
    keypoints: np.ndarray
    skeleton: Skeleton
    annotated: np.ndarray = attrs.field(default=None)
    visibility: np.ndarray = attrs.field(default=None)
    sources: tuple[Source, ...] = attrs.field(default=None)

    def __attrs_post_init__(self) -> None:
        check_shape("images", tuple(self.images.shape), ("n", "h", "w", "c"))
        if self.images.dtype != np.uint8:
            raise ValidationError(
                f"images: expected uint8 in 0..255, found {self.images.dtype}; scale them to "
                "0..255 and convert, for instance (images * 255).round().astype('uint8') "
                "if they lie in 0..1"
            )
        n, k = self.images.shape[0], len(self.skeleton)
        keypoints = as_array("keypoints", self.keypoints, np.float64, (n, k, 2))
        missing = ~np.isfinite(keypoints).all(axis=2)
        keypoints = np.where(missing[..., None], np.nan, keypoints)
        annotated = ~missing if self.annotated is None else self.annotated
        visibility = VISIBLE * ~missing if self.visibility is None else self.visibility
        visibility = as_array("visibility", visibility, np.uint8, (n, k))
        if visibility.size and visibility.max() > VISIBLE:
            raise ValidationError(f"visibility: expected 0, 1 or 2, found {visibility.max()}")
        sources = (Source(),) * n if self.sources is None else tuple(self.sources)
        if len(sources) != n:
            raise ValidationError(f"sources: expected one for each of {n}, found {len(sources)}")
        for name, value in (
            ("keypoints", keypoints),
            ("annotated", as_array("annotated", annotated, np.bool_, (n, k))),
            ("visibility", np.where(missing, NOT_LABELLED, visibility).astype(np.uint8)),
            ("sources", sources),
        ):
            object.__setattr__(self, name, value)

    # -- the Dataset contract -------------------------------------------------------------------

    def __len__(self) -> int:
        return self.images.shape[0]

    def __getitem__(self, i: int) -> Sample:
        i = range(len(self))[i]
        return Sample(
            np.asarray(self.images[i]), self.keypoints[i].astype(np.float32), self.visibility[i]
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        height, width, channels = self.images.shape[1:]
        return int(height), int(width), int(channels)

    @property
    def groups(self) -> list[str] | None:
        """The video of each image, or None when no image knows its video."""
        videos = [source.video for source in self.sources]
        return videos if any(videos) else None

    @property
    def frames(self) -> np.ndarray | None:
        """(n,) number of each image's frame in its video, -1 unknown; None when none is known."""
        frames = np.array([source.frame for source in self.sources], dtype=np.int64)
        return frames if (frames >= 0).any() else None

    # -- choosing -------------------------------------------------------------------------------

    def subset(self, rows: Sequence[int] | np.ndarray) -> AnnotationSet:
        """The chosen rows in the given order; images are still read only when asked for."""
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        lazy = not isinstance(self.images, np.ndarray)
        return AnnotationSet(
            images=ImageRows(self.images, rows) if lazy else self.images[rows],
            keypoints=self.keypoints[rows],
            skeleton=self.skeleton,
            annotated=self.annotated[rows],
            visibility=self.visibility[rows],
            sources=tuple(self.sources[i] for i in rows),
        )

    def labelled(self) -> AnnotationSet:
        """Only images that a person labelled, with every keypoint nobody dealt with set missing."""
        chosen = self.subset(np.flatnonzero(self.annotated.any(axis=1)))
        keypoints = np.where(chosen.annotated[..., None], chosen.keypoints, np.nan)
        return attrs.evolve(chosen, keypoints=keypoints)

    @property
    def n_labelled(self) -> int:
        """Images with at least one keypoint that a person dealt with."""
        return int(self.annotated.any(axis=1).sum())

    def __repr__(self) -> str:
        n, (h, w, c), k = len(self), self.image_shape, len(self.skeleton)
        return f"AnnotationSet({n} images {h}x{w}x{c}, {k} keypoints, {self.n_labelled} labelled)"
