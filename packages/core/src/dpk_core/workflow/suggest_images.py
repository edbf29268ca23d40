"""The images behind rows of poses: frames of a video, images of a set, or crops around tracks."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import FileMissingError, ValidationError
from dpk_core.interfaces import Dataset
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.cropper import Cropper
from dpk_core.services.storage import read_tracks
from dpk_core.services.video_paths import locate, portable
from dpk_core.workflow.frames import (
    DatasetFrames,
    FrameSource,
    ImageFolderFrames,
    VideoFrames,
    open_frames,
)


class RowImages:
    """Where poses were found, image by image; a context manager.

    Parameters
    ----------
    source
        A video, a labelled set or a folder of images; or a set in memory.
    poses
        Found in it.
    folder
        Of the file of poses, to which names in it are relative.

    Attributes
    ----------
    is_video : bool
        Rows follow each other in time.
    names : tuple of str
        (n,) name of each row's individual, "" for none.

    Raises
    ------
    FileMissingError, FileFormatError, VideoError
    ValidationError
        When the poses are not of this source.
    """

    def __init__(
        self, source: str | Path | AnnotationSet, poses: Poses, folder: Path = Path()
    ) -> None:
        self.poses = poses
        self._frames: FrameSource | None = None
        self._set: Dataset | None = None
        if isinstance(source, AnnotationSet):
            self._set, self.path = source, None
            facts: dict[str, Any] = {"n_frames": len(source)}
            facts["height"], facts["width"] = source.image_shape[:2]
            fingerprint = None
        else:
            self.path = Path(source)
            frames = self._frames = open_frames(self.path)
            if isinstance(frames, DatasetFrames):
                self._set = frames.dataset
            facts, fingerprint = frames.facts, frames.fingerprint
        self.is_video = isinstance(self._frames, VideoFrames)
        try:
            check_same_source(poses, facts, fingerprint if self.is_video else None, self.named)
            self._matrices = self._crop_matrices(folder)
        except BaseException:
            self.close()
            raise
        names = poses.provenance.get("track_names", {})
        self.names = tuple(
            "" if i == NO_TRACK else str(names.get(str(i), i)) for i in poses.track_ids.tolist()
        )

    @property
    def named(self) -> str:
        """The source in words."""
        return "the labelled set" if self.path is None else str(self.path)

    @property
    def annotations(self) -> AnnotationSet | None:
        """The set when the source is one."""
        return self._set if isinstance(self._set, AnnotationSet) else None

    @property
    def files(self) -> list[Path] | None:
        """The image files by number, when the source is a folder of them."""
        return self._frames.files if isinstance(self._frames, ImageFolderFrames) else None

    def image(self, row: int) -> np.ndarray:
        """(h, w, c) uint8 of a row of the poses."""
        frame = self._frame(int(self.poses.frames[row]))
        if self._matrices is None:
            return frame
        return self._cropper.crop(frame, self._matrices[row : row + 1])[0]

    def keypoints(self, row: int) -> np.ndarray:
        """(k, 2) float64 in pixels of `image`."""
        found = self.poses.keypoints[row : row + 1].astype(np.float64)
        return (found if self._matrices is None else Cropper.apply(self._matrices[[row]], found))[0]

    def source(self, row: int, folder: Path) -> Source:
        """Where the image of a row came from, for a set in that folder."""
        number = int(self.poses.frames[row])
        if isinstance(self._set, AnnotationSet):
            return self._set.sources[number]
        if self.files is not None:
            return Source(portable(self.files[number], folder), individual=self.names[row])
        video = "" if self.path is None else portable(self.path, folder)
        crop = None if self._matrices is None else tuple(self._matrices[row].ravel().tolist())
        return Source(video, number, self.names[row], crop)

    def close(self) -> None:
        """Close the source."""
        if self._frames is not None:
            self._frames.close()

    def __enter__(self) -> RowImages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _frame(self, number: int) -> np.ndarray:
        if isinstance(self._set, AnnotationSet):
            return np.asarray(self._set.images[number])
        if self._set is not None:
            return self._set[number].image
        if isinstance(self._frames, VideoFrames):
            return self._frames.reader[number]
        assert self._frames is not None
        return next(self._frames.frames(number))

    def _crop_matrices(self, folder: Path) -> np.ndarray | None:
        """(n, 2, 3) from pixels of the video to those of each row's crop; None for whole frames."""
        crop, name = self.poses.provenance.get("crop"), self.poses.provenance.get("tracks")
        if not crop or not name:
            return None
        path = locate(name, folder)
        if path is None:
            raise FileMissingError(
                f"no tracks at {name}, around which the poses were found; put them back there"
            )
        height, width, scale, rotate = crop
        self._cropper = Cropper((height, width), scale=scale, rotate=rotate)
        tracks = read_tracks(path)
        place = {key: i for i, key in enumerate(zip(tracks.frame, tracks.id, strict=True))}
        keys = zip(self.poses.frames, self.poses.track_ids, strict=True)
        rows = np.array([place.get(key, -1) for key in keys], np.int64)
        if (rows < 0).any() or not np.isfinite(tracks.x[rows] + tracks.y[rows]).all():
            raise ValidationError(
                f"{path} has changed since the poses were found in it: it lacks individuals that "
                "they have; predict again"
            )
        return self._cropper.matrices(tracks.x[rows], tracks.y[rows], tracks.angle[rows])


def check_same_source(
    poses: Poses, facts: dict[str, Any], fingerprint: str | None, named: str
) -> None:
    """ValidationError when poses were found in something else than this.

    A set may have got more images since, and its labels change, so only sizes are compared there.
    """
    if not len(poses):
        raise ValidationError(
            "poses: expected at least one row, found none; dpk predict finds keypoints in a video"
        )
    known = poses.provenance
    origin = known.get("video") or known.get("images") or "another source"
    differing = [key for key in ("height", "width") if known.get(key, facts[key]) != facts[key]]
    if fingerprint is not None:
        job = known.get("job")
        before = job.get("input") if isinstance(job, dict) and "tracks" not in known else None
        if known.get("n_frames", facts["n_frames"]) != facts["n_frames"]:
            differing.append("n_frames")
        elif before is not None and before != fingerprint:
            raise ValidationError(
                f"the poses are of {origin}, not of {named}: its content is another one "
                "(fingerprint); choose the video that was predicted, or predict this one"
            )
    if differing:
        details = ", ".join(
            f"{key.replace('n_', '')} {facts[key]}, not {known.get(key)}" for key in differing
        )
        raise ValidationError(
            f"the poses are of {origin}, not of {named}, which has {details}; choose what was "
            "predicted, or predict this one"
        )
    if poses.frames.min() < 0 or poses.frames.max() >= facts["n_frames"]:
        raise ValidationError(
            f"the poses are of the frames {poses.frames.min()} to {poses.frames.max()}; {named} "
            f"has only the frames 0 to {facts['n_frames'] - 1}"
        )
