"""New images for an open set: frames of a video that a person chose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpk_annotator.store import ReadOnlyError, Store
from dpk_core.errors import DpkError, ValidationError
from dpk_core.services.storage import read_poses
from dpk_core.services.video_paths import portable
from dpk_core.workflow.add_frames import add_frames

MOST_AT_ONCE = 1000


def grow(
    store: Store, video: Path, frames: Sequence[int], places: Sequence[Path] = ()
) -> list[int]:
    """Add frames of a video to a set that is open; the rows that they got.

    What a model found in them, when its poses lie beside the video or the set, or in one of the
    other places, becomes guesses.

    Raises
    ------
    ReadOnlyError, OutputError, VideoError
    ValidationError
        When a frame is not there or does not fit.
    """
    if store.read_only:
        raise ReadOnlyError(f"{store.path.name} was opened for looking only")
    if len(frames) > MOST_AT_ONCE:
        raise ValidationError(f"frames: expected at most {MOST_AT_ONCE} at once")
    with store.growing():
        added = set(add_frames(store.path, video, frames))
    if not added:
        return []
    # Another process may have added images meanwhile, so they are known by where they came from.
    name, sources = portable(video, store.path.parent), store.sources[: len(store)]
    rows = [i for i, one in enumerate(sources) if one.video == name and one.frame in added]
    if rows:
        _guess(store, video, rows, (video.parent, store.path.parent, *places))
    return rows


def _guess(store: Store, video: Path, rows: Sequence[int], folders: Sequence[Path]) -> None:
    for folder in folders:
        poses = folder / f"{video.stem}.poses.h5"
        if not poses.is_file():
            continue
        try:
            store.put_poses(read_poses(poses), str(video), poses.name, rows)
        except DpkError:  # guesses are a convenience; the frames are there without them
            continue
        return
