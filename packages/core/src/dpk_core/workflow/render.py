"""Render: draw poses and tracks onto their video."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from dpk_core.errors import DpkError, OutputExistsError, ValidationError, VideoError
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.drawing import (
    MIN_SCORE,
    DrawStyle,
    draw_label,
    draw_legend,
    draw_pose,
    draw_trails,
)
from dpk_core.services.imaging import resize_image, scale_keypoints, scaled_size
from dpk_core.services.storage import describe, read_poses, read_tracks
from dpk_core.services.storage.atomic import check_output
from dpk_core.services.storage.video_links import video_fingerprint
from dpk_core.tracks import Tracks
from dpk_core.workflow.progress import Progress, ignore
from dpk_core.workflow.track_overlay import TrackOverlay

if TYPE_CHECKING:
    from dpk_core.services.video import VideoReader

_BLOCK = 4096
_SMALL, _COMFORTABLE = 320, 480
_FPS_OF_NOTHING = 30.0


@attrs.frozen
class Rendering:
    """What was rendered.

    Parameters
    ----------
    output
        The video.
    n_frames
        Its length.
    n_without_pose
        Frames that have no pose (no track, when only tracks are drawn).
    size
        (height, width) of its frames.
    of_another_file
        Whether the poses or tracks are of another file than the one that was drawn on: the same
        film encoded anew, or another film with as many frames of the same size.
    """

    output: Path
    n_frames: int
    n_without_pose: int
    size: tuple[int, int]
    of_another_file: bool = False


def render_video(
    poses: str | PathLike[str] | Poses | None,
    video: str | PathLike[str],
    output: str | PathLike[str],
    *,
    tracks: str | PathLike[str] | Tracks | None = None,
    overwrite: bool = False,
    trail: int = 0,
    min_score: float = MIN_SCORE,
    start: int = 0,
    stop: int | None = None,
    fps: float | None = None,
    scale: float | None = None,
    legend: bool = False,
    style: DrawStyle | None = None,
    progress: Progress = ignore,
) -> Rendering:
    """Draw poses, tracks or both onto the frames of their video and write them to a new one.

    Poses belong to frames by their frame number, wherever they stand in the file, and a frame may
    have several. Memory stays flat however long the video is.

    Parameters
    ----------
    poses
        A file of poses, or `Poses`; None to draw tracks only.
    video
        The video that they were found in.
    output
        The new video; its ending says which kind.
    tracks
        A file of tracks, or `Tracks`: each individual's box, id and trail in a colour of its own.
    trail
        Draw where each keypoint was in so many frames before.
    min_score
        Keypoints below are drawn hollow and faint and have no trail.
    start, stop
        Only the frames start <= i < stop.
    fps
        Frames a second of the new video. Default: as the old one.
    scale
        Size of the new frames relative to the old ones. Default: 1, and a whole number that makes
        frames large enough to see the drawing where they are smaller than 320 pixels.
    legend
        List the names of the keypoints.

    Raises
    ------
    FileMissingError, FileFormatError, VideoError
        When the video is damaged, the frames before the damage are rendered first, to a video
        named ``NAME.partial.SUFFIX``. So they are on Ctrl-C.
    ValidationError
        When poses and video don't belong together: another number of frames or another size.
    OutputExistsError, OutputError
    """
    from dpk_core.services.video import VideoReader, VideoWriter

    output = Path(output)
    _check_places(video, output, overwrite=overwrite)
    if trail < 0:
        raise ValidationError(f"trail: expected 0 frames or more, found {trail}")
    if poses is None and tracks is None:
        raise ValidationError("expected poses, tracks or both to draw, found neither")
    rows = None if poses is None else _PosesByFrame.of(poses)
    with VideoReader(video) as reader:
        known = []
        if rows is not None:
            _check_fit(rows, reader)
            known.append(rows.provenance)
        numbers = _numbers(reader, start, stop)
        size = scaled_size(reader.shape[:2], comfortable_scale(reader.shape[:2], scale))
        overlay = None
        if tracks is not None:
            found = _read_tracks(tracks, reader)
            known.append(found.provenance)
            overlay = TrackOverlay(found, reader.shape[:2], size, trail, style)
        prints = {video_fingerprint(provenance) for provenance in known} - {None}
        of_another_file = bool(prints) and prints != {reader.fingerprint()}
        painter = _Painter(rows, overlay, reader.shape[:2], size, min_score, trail, legend, style)
        painter.look_back(numbers.start)
        rate = fps or reader.fps or _FPS_OF_NOTHING
        writer = VideoWriter(output, fps=rate, overwrite=overwrite)
        try:
            with writer:
                frames = reader.frames(numbers.start, numbers.stop)
                for number, frame in zip(numbers, frames, strict=True):
                    writer.write(painter.paint(frame, number))
                    progress(writer.n_frames, len(numbers), f"drawing {output.name}")
        except VideoError as error:
            if writer.saved_path is None:
                raise
            raise VideoError(
                f"{error}\nThe {writer.n_frames} frames before it are in {writer.saved_path}"
            ) from error
    return Rendering(output, writer.n_frames, painter.n_without_pose, painter.size, of_another_file)


def is_tracks(path: str | PathLike[str]) -> bool:
    """Whether a file holds tracks and no poses; False for what is not ours."""
    try:
        return describe(path)["kind"] == "tracks"
    except DpkError:
        return False


def _check_places(video: str | PathLike[str], output: Path, *, overwrite: bool) -> None:
    if output.exists() and Path(video).exists() and output.samefile(video):
        raise OutputExistsError(
            f"{output} is the video itself; choose another name for the rendered one"
        )
    check_output(output, overwrite=overwrite)


def _numbers(reader: VideoReader, start: int, stop: int | None) -> range:
    n = len(reader)
    stop = n if stop is None else min(stop, n)
    if not 0 <= start < stop:
        raise ValidationError(
            f"{reader.path} has the frames 0 to {n - 1}; expected a start among them and a stop "
            f"after it, found start {start}, stop {stop}"
        )
    return range(start, stop)


def _read_tracks(tracks: str | PathLike[str] | Tracks, reader: VideoReader) -> Tracks:
    """The tracks, once it is sure that they are of this video."""
    found = tracks if isinstance(tracks, Tracks) else read_tracks(tracks)
    name = "the tracks" if isinstance(tracks, Tracks) else str(tracks)
    known = [found.provenance.get(key) for key in ("n_frames", "height", "width")]
    here = [len(reader), *reader.shape[:2]]
    if any(a is not None and a != b for a, b in zip(known, here, strict=True)):
        raise ValidationError(
            f"{name} is of a video with {known[0]} frames of {known[1]}x{known[2]} pixels (height "
            f"x width); {reader.path} has {here[0]} of {here[1]}x{here[2]}; choose the video that "
            "was tracked, or track this one"
        )
    if len(found) and not 0 <= found.frame.min() <= found.frame.max() < len(reader):
        raise ValidationError(
            f"{name} has rows of the frames {found.frame.min()} to {found.frame.max()}; "
            f"{reader.path} has only the frames 0 to {len(reader) - 1}"
        )
    return found


def _check_fit(rows: _PosesByFrame, reader: VideoReader) -> None:
    """Poses drawn onto a video that they don't belong to would look right and be wrong."""
    n, (height, width) = len(reader), reader.shape[:2]
    known = {name: rows.provenance.get(name) for name in ("n_frames", "height", "width", "video")}
    of = f" ({known['video']})" if known["video"] else ""
    if known["n_frames"] is not None and known["n_frames"] != n:
        raise ValidationError(
            f"{rows.name} is of a video with {known['n_frames']} frames{of}; {reader.path} has "
            f"{n}; choose the video that was predicted, or predict this one"
        )
    if None not in (known["height"], known["width"]) and (
        (known["height"], known["width"]) != (height, width)
    ):
        raise ValidationError(
            f"{rows.name} is of a video with frames of {known['height']}x{known['width']} pixels "
            f"(height x width){of}; {reader.path} has {height}x{width}; choose the video that was "
            "predicted, or predict this one"
        )
    if rows.first < 0 or rows.last >= n:
        raise ValidationError(
            f"{rows.name} has poses of the frames {rows.first} to {rows.last}; {reader.path} has "
            f"only the frames 0 to {n - 1}; choose the video that was predicted"
        )


class _PosesByFrame:
    """The poses of one frame after the other; a file is read block by block."""

    def __init__(self, poses: Poses | Path, frames: np.ndarray, about: Poses, name: str) -> None:
        if not len(frames):
            raise ValidationError(f"{name}: expected at least one pose, found none")
        self._poses = poses
        self._frames = frames
        self._block: tuple[int, Poses] | None = None
        self.skeleton = about.skeleton
        self.provenance = about.provenance
        self.name = name
        self.first, self.last = int(frames[0]), int(frames[-1])

    @classmethod
    def of(cls, poses: str | PathLike[str] | Poses) -> _PosesByFrame:
        if isinstance(poses, Poses):
            ordered = poses[np.argsort(poses.frames, kind="stable")]
            return cls(ordered, ordered.frames, ordered, "poses")
        path = Path(poses)
        about = read_poses(path, 0, 1)
        frames = np.concatenate([block.frames for block in _blocks(path)] or [about.frames])
        if np.any(np.diff(frames) < 0):  # nothing of ours writes such a file
            whole = read_poses(path)
            ordered = whole[np.argsort(frames, kind="stable")]
            return cls(ordered, ordered.frames, about, str(path))
        return cls(path, frames, about, str(path))

    def __getitem__(self, frame: int) -> Poses:
        first, last = np.searchsorted(self._frames, [frame, frame + 1])
        if isinstance(self._poses, Poses):
            return self._poses[first:last]
        if self._block is None or not self._holds(first, last):
            stop = max(last, first + _BLOCK)
            self._block = (int(first), read_poses(self._poses, int(first), int(stop)))
        begin, block = self._block
        return block[first - begin : last - begin]

    def _holds(self, first: int, last: int) -> bool:
        assert self._block is not None
        begin, block = self._block
        return begin <= first and last <= begin + len(block)


def _blocks(path: Path) -> Iterator[Poses]:
    begin = 0
    while len(block := read_poses(path, begin, begin + _BLOCK)):
        yield block
        begin += len(block)


class _Painter:
    """Paints one frame after the other, remembering what trails need."""

    def __init__(
        self,
        rows: _PosesByFrame | None,
        overlay: TrackOverlay | None,
        source_size: tuple[int, int],
        size: tuple[int, int],
        min_score: float,
        trail: int,
        legend: bool,
        style: DrawStyle | None,
    ) -> None:
        self.source_size = source_size
        self.size = size
        self._overlay = overlay
        self.n_without_pose = 0
        self._rows = rows
        self._min_score = min_score
        self._trail = trail
        self._legend = legend
        self._style = style
        self._past: deque[dict[int, np.ndarray]] = deque(maxlen=trail + 1)

    def look_back(self, start: int) -> None:
        """Fill the trails with what was before the first frame."""
        if self._overlay is not None:
            self._overlay.look_back(start)
        for number in range(max(0, start - self._trail), start) if self._rows else ():
            self._remember(self._rows[number])

    def paint(self, frame: np.ndarray, number: int) -> np.ndarray:
        canvas = resize_image(frame, self.size)
        if self._overlay is not None:
            canvas = self._overlay.paint(canvas, number)
        if self._rows is None:
            self.n_without_pose += not (self._overlay and self._overlay.count(number))
            return canvas
        return self._paint_poses(canvas, self._rows, number)

    def _paint_poses(self, canvas: np.ndarray, rows: _PosesByFrame, number: int) -> np.ndarray:
        poses = rows[number]
        self._remember(poses)
        self.n_without_pose += not len(poses)
        skeleton = rows.skeleton
        for track in poses.track_ids.tolist() if self._trail else []:
            canvas = draw_trails(canvas, self._history(track), skeleton, style=self._style)
        keypoints = self._on_canvas(poses.keypoints)
        canvas = draw_pose(
            canvas, keypoints, poses.scores, skeleton, min_score=self._min_score, style=self._style
        )
        for track, points in zip(poses.track_ids.tolist(), keypoints, strict=True):
            labelled = self._overlay is None and track != NO_TRACK
            if labelled and np.isfinite(points).any():
                corner = np.nanmax(points[:, 0]), np.nanmin(points[:, 1])
                canvas = draw_label(canvas, str(track), corner, style=self._style)
        return draw_legend(canvas, skeleton, style=self._style) if self._legend else canvas

    def _remember(self, poses: Poses) -> None:
        sure = (poses.scores >= self._min_score)[..., None]
        keypoints = self._on_canvas(np.where(sure, poses.keypoints, np.nan))
        self._past.append(dict(zip(poses.track_ids.tolist(), keypoints, strict=True)))

    def _history(self, track: int) -> np.ndarray:
        assert self._rows is not None
        nowhere = np.full((len(self._rows.skeleton), 2), np.nan)
        return np.stack([past.get(track, nowhere) for past in self._past])

    def _on_canvas(self, keypoints: np.ndarray) -> np.ndarray:
        return scale_keypoints(keypoints, self.source_size, self.size)


def comfortable_scale(size: tuple[int, int], scale: float | None = None) -> float:
    """The scale that was asked for; otherwise 1, or a whole number for tiny frames.

    Examples
    --------
    >>> comfortable_scale((480, 640)), comfortable_scale((160, 160)), comfortable_scale((9, 9), 2)
    (1.0, 3.0, 2)
    """
    if scale is not None:
        return scale
    longest = max(size)
    return 1.0 if longest >= _SMALL else float(-(-_COMFORTABLE // longest))
