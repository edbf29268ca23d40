"""Crops around tracked individuals as frames to predict, each with its way back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dpk_core.errors import FileFormatError, ValidationError
from dpk_core.poses import Poses
from dpk_core.services.cropper import Cropper
from dpk_core.services.storage import read_tracks
from dpk_core.skeleton import Skeleton
from dpk_core.tracks import Tracks
from dpk_core.workflow.frames import BaseFrames, VideoFrames


class TrackCrops(BaseFrames):
    """One crop for each row of the tracks that has a position, by frame and then by id.

    A `FrameSource` whose "frames" are crops: `poses` brings what was found in them back to the
    pixels of the video.

    Parameters
    ----------
    video
        The video that was tracked.
    tracks
        Its file of tracks.
    cropper
        How to cut.
    start, stop
        Frames of the video, start <= i < stop.

    Raises
    ------
    FileMissingError, FileFormatError, VideoError
    ValidationError
        When the tracks are of another video, or none lies in the range.
    """

    def __init__(
        self, video: Path, tracks: Path, cropper: Cropper, start: int = 0, stop: int | None = None
    ) -> None:
        found = read_tracks(tracks)
        self._video = VideoFrames(video, start, stop)
        try:
            check_same_video(found, tracks, self._video)
            self._rows = _rows(found, self._video.numbers, tracks)
        except (ValidationError, FileFormatError):
            self._video.close()
            raise
        self._cropper = cropper
        self._matrices = cropper.matrices(self._rows.x, self._rows.y, self._rows.angle)
        self.path = video
        self.numbers = range(len(self._rows))
        self.size = cropper.size
        self.fingerprint = self._digest()
        self.facts = {
            **self._video.facts,
            "video_fingerprint": self._video.fingerprint,
            "tracks": tracks.as_posix(),
            "crop": [*cropper.size, cropper.scale, cropper.rotate],
            "track_names": found.provenance.get("track_names", {}),
        }

    def frames(self, skip: int = 0) -> Iterator[np.ndarray]:
        """The crops of the rows ``skip`` and on; each frame of the video is decoded once."""
        rows = self._rows.frame
        if skip >= len(rows):
            return
        first = int(rows[skip])
        begin = self._video.numbers.start
        frames = self._video.frames(first - begin)
        try:
            for number, frame in enumerate(frames, start=first):
                low, high = np.searchsorted(rows, [number, number + 1])
                low = max(int(low), skip)
                if low < high:
                    yield from self._cropper.crop(frame, self._matrices[low:high])
                if high == len(rows):
                    return
        finally:
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    def poses(self, first: int, predictions: np.ndarray, skeleton: Skeleton) -> Poses:
        chosen = slice(first, first + len(predictions))
        points = Cropper.invert(self._matrices[chosen], predictions[..., :2].astype(np.float64))
        return Poses(
            points,
            predictions[..., 2],
            skeleton,
            self._rows.frame[chosen],
            self._rows.id[chosen],
        )

    def close(self) -> None:
        self._video.close()

    def _digest(self) -> str:
        digest = hashlib.blake2b(self._video.fingerprint.encode(), digest_size=16)
        for name in ("frame", "id", "x", "y", "angle"):
            digest.update(np.ascontiguousarray(getattr(self._rows, name)).tobytes())
        digest.update(
            repr((self._cropper.size, self._cropper.scale, self._cropper.rotate)).encode()
        )
        return digest.hexdigest()


def check_same_video(tracks: Tracks, path: Path, video: VideoFrames) -> None:
    """ValidationError when tracks were made from another video than this one."""
    job = tracks.provenance.get("job")
    known = {name: tracks.provenance.get(name) for name in ("n_frames", "height", "width")}
    known["fingerprint"] = job.get("input") if isinstance(job, dict) else None
    found = {**video.facts, "fingerprint": video.fingerprint}
    for name, value in known.items():
        if value is not None and value != found[name]:
            what = (
                "content (its fingerprint differs)"
                if name == "fingerprint"
                else (f"{name.replace('n_', '')} {found[name]}, not {value}")
            )
            raise ValidationError(
                f"{path} is of another video ({tracks.provenance.get('video', '?')}): {video.path} "
                f"has {what}; choose the video that was tracked, or track this one"
            )
    if len(tracks) and (tracks.frame.min() < 0 or tracks.frame.max() >= len(video.reader)):
        raise ValidationError(
            f"{path} has rows of the frames {tracks.frame.min()} to {tracks.frame.max()}; "
            f"{video.path} has only the frames 0 to {len(video.reader) - 1}"
        )


def _rows(tracks: Tracks, numbers: range, path: Path) -> Tracks:
    """Those with a position in the range, in the order in which the video has them."""
    here = (tracks.frame >= numbers.start) & (tracks.frame < numbers.stop)
    here &= np.isfinite(tracks.x) & np.isfinite(tracks.y)
    chosen = np.flatnonzero(here)
    if not len(chosen):
        raise ValidationError(
            f"{path} has no individual in the frames {numbers.start} to {numbers.stop - 1}"
        )
    order = np.lexsort((tracks.id[chosen], tracks.frame[chosen]))
    return tracks[chosen[order]]
