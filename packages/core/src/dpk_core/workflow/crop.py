"""Crop: one video for each tracked individual (Graving et al. 2019, Appendix 3)."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path

import attrs
import numpy as np

from dpk_core.errors import OutputError, ValidationError
from dpk_core.services.cropper import Cropper
from dpk_core.services.storage import read_tracks
from dpk_core.services.storage.atomic import atomic_path, check_output, output_errors
from dpk_core.tracks import Tracks
from dpk_core.workflow.frames import VideoFrames
from dpk_core.workflow.progress import Progress, ignore
from dpk_core.workflow.track_crops import check_same_video

MOST = 64
"""Videos that are written at once; each takes some memory and a thread."""

_FPS_OF_NOTHING = 30.0


@attrs.frozen
class Cropping:
    """What was written.

    Parameters
    ----------
    videos
        By track id.
    n_frames
        Of each of them: as many as the video has in the range.
    start
        Number of the first of them in the original.
    """

    videos: dict[int, Path]
    n_frames: int
    start: int = 0


def crop_video(
    video: str | PathLike[str],
    tracks: str | PathLike[str],
    output: str | PathLike[str],
    *,
    size: int | tuple[int, int],
    rotate: bool = False,
    scale: float = 1.0,
    ids: Sequence[int] | None = None,
    start: int | None = None,
    stop: int | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> Cropping:
    """Write a video for each individual, always in its middle, and a table with the way back.

    All videos have a frame for each frame of the original, black where the individual has no
    position, so that frame numbers agree (less ``start``). Beside each lies ``NAME.csv`` with one
    row for each crop: the number of its frame in the original and the six numbers of the 2x3
    matrix that maps pixels of the original to those of the crop.

    Parameters
    ----------
    video, tracks
        The video that was tracked, and its file of tracks.
    output
        A folder; made when it is not there. Videos are named VIDEO.ID.mp4.
    size
        Side, or (height, width), of the crops in pixels; even, as video codecs want it.
    rotate, scale
        See `dpk_core.services.cropper.Cropper`.
    ids
        Only these individuals.
    start, stop
        Only the frames start <= i < stop. Default: those that were tracked.

    Raises
    ------
    FileMissingError, FileFormatError, VideoError
        When the video is damaged, the frames before the damage are in files named ``.partial``.
    ValidationError
        When the tracks are of another video, an id is not among them, or the size is odd.
    OutputExistsError, OutputError
    """
    from dpk_core.services.video import VideoWriter

    video, tracks, output = Path(video), Path(tracks), Path(output)
    height, width = (size, size) if isinstance(size, int) else size
    if height % 2 or width % 2:
        raise ValidationError(
            f"size: expected even numbers of pixels, for a video; found {height}x{width}"
        )
    cropper = Cropper((height, width), scale=scale, rotate=rotate)
    found = read_tracks(tracks)
    begin, end = _tracked(found)
    start, stop = begin if start is None else start, end if stop is None else stop
    with VideoFrames(video, start, stop) as source, ExitStack() as stack:
        check_same_video(found, tracks, source)
        rows = _chosen(found, ids, source.numbers, tracks)
        individuals = np.unique(rows.id).tolist()
        _make_folder(output)
        videos = {i: output / f"{_safe(video.stem)}.{i}.mp4" for i in individuals}
        for path in videos.values():
            check_output(path, overwrite=overwrite)
            check_output(path.with_suffix(".csv"), overwrite=overwrite)
        matrices = cropper.matrices(rows.x, rows.y, rows.angle)
        rate = source.reader.fps or _FPS_OF_NOTHING
        writers = {
            i: stack.enter_context(VideoWriter(path, fps=rate, overwrite=overwrite))
            for i, path in videos.items()
        }
        black = np.zeros((height, width, source.reader.shape[2]), np.uint8)
        for number, frame in zip(source.numbers, source.frames(), strict=True):
            low, high = np.searchsorted(rows.frame, [number, number + 1])
            crops = cropper.crop(frame, matrices[low:high])
            here = dict(zip(rows.id[low:high].tolist(), crops, strict=True))
            for i, writer in writers.items():
                writer.write(here.get(i, black))
            progress(number - source.numbers.start + 1, len(source.numbers), "cropping")
    for i, path in videos.items():
        _write_table(path.with_suffix(".csv"), rows, matrices, i)
    return Cropping(videos, len(source.numbers), source.numbers.start)


def _tracked(tracks: Tracks) -> tuple[int, int | None]:
    """First frame that was tracked, and the one after the last; all where that is not known."""
    job = tracks.provenance.get("job")
    known = [job.get(name) for name in ("start", "stop")] if isinstance(job, dict) else []
    if len(known) != 2 or not all(isinstance(number, int) for number in known):
        return 0, None
    # Without a stop, the reader also tells of a file that was cut short behind its last frame.
    return known[0], None if known[1] == tracks.provenance.get("n_frames") else known[1]


def _make_folder(folder: Path) -> None:
    try:
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise OutputError(
            f"cannot write into {folder}: {file} is a file; expected a folder for the videos"
        ) from None


def _chosen(tracks: Tracks, ids: Sequence[int] | None, numbers: range, path: Path) -> Tracks:
    """Rows with a position, of those individuals in those frames, by frame."""
    known = set(tracks.id.tolist())
    absent = sorted(set(ids or ()) - known)
    if absent:
        raise ValidationError(
            f"{path} has no individual {absent[0]}; it has {', '.join(map(str, sorted(known)))}"
        )
    chosen = np.isfinite(tracks.x) & np.isfinite(tracks.y)
    chosen &= (tracks.frame >= numbers.start) & (tracks.frame < numbers.stop)
    if ids is not None:
        chosen &= np.isin(tracks.id, ids)
    rows = tracks[np.flatnonzero(chosen)]
    if not len(rows):
        raise ValidationError(
            f"{path} has no individual in the frames {numbers.start} to {numbers.stop - 1}"
        )
    n = len(np.unique(rows.id))
    if n > MOST:
        raise ValidationError(
            f"{path} has {n} individuals; at most {MOST} videos are written at once: choose some "
            "(--id), a few at a time"
        )
    return rows[np.argsort(rows.frame, kind="stable")]


def _write_table(path: Path, rows: Tracks, matrices: np.ndarray, individual: int) -> None:
    with atomic_path(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["frame", "xx", "xy", "x0", "yx", "yy", "y0"])
        for i in np.flatnonzero(rows.id == individual):
            table.writerow([int(rows.frame[i]), *map(repr, matrices[i].ravel().tolist())])


def _safe(stem: str) -> str:
    return re.sub(r"[^\w.-]+", "_", stem)
