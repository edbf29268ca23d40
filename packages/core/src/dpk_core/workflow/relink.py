"""Relink: find videos that were moved, and make sure that they are the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.services.storage import describe, read_annotations
from dpk_core.services.storage.video_links import read_video_facts, rename_videos
from dpk_core.services.video_paths import file_name, locate, portable
from dpk_core.workflow.progress import Progress, ignore

ALIKE = 8.0
"""Grey levels that a block of 16x16 pixels may differ on average between a stored image and the
frame that it was taken from: decoders round differently; another moment moves an animal."""

_BLOCK = 16
_COMPARED = 5
"""Frames of a video that are compared with stored images."""


@attrs.frozen
class Link:
    """One video that a file names.

    Parameters
    ----------
    video
        Its name in the file.
    state
        "there" (where the file says), "found" (elsewhere, and the same), "different" (files of
        that name are other videos) or "missing".
    path
        Where it is; None when it is missing or different.
    reasons
        Why candidates were refused, and what could not be checked.
    """

    video: str
    state: str
    path: Path | None = None
    reasons: tuple[str, ...] = ()


def relink(
    path: str | PathLike[str],
    search: Sequence[str | PathLike[str]] = (),
    *,
    write: bool = True,
    progress: Progress = ignore,
) -> tuple[Link, ...]:
    """Find the videos of a file of labels, poses or tracks, and write down where they are now.

    A video is looked for where the file says, then by name in the folders and all below them. It
    must be the same: for poses and tracks by number of frames, size and fingerprint, for labels by
    the pixels of up to five of their images. Names are written relative to the file where the two
    are near each other. Videos that are not found keep their names.

    Parameters
    ----------
    path
        The file; replaced whole or not at all.
    search
        Folders, or videos themselves (which may have another name).
    write
        False only looks.

    Raises
    ------
    FileMissingError
        When the file or a folder is not there.
    FileFormatError
        When the file holds neither labels nor poses nor tracks.
    OutputError
    """
    path = Path(path)
    places = _places(search)
    kind = describe(path)["kind"]
    if kind == "annotations":
        labels = read_annotations(path)
        checks = {
            video: _ImageCheck(labels, rows) for video, rows in _rows_by_video(labels).items()
        }
    elif kind in ("poses", "tracks"):
        facts = read_video_facts(path)
        checks = {facts["video"]: _FactsCheck(facts)} if facts else {}
    else:
        raise FileFormatError(f"{path}: expected labels, poses or tracks of dpk, found {kind}")
    links = []
    for i, (video, check) in enumerate(checks.items()):
        progress(i, len(checks), "looking for videos")
        links.append(_find(video, check, path.parent, places))
    names = {
        link.video: portable(link.path, path.parent)
        for link in links
        if link.state == "found" and link.path is not None
    }
    if write and names:
        rename_videos(path, names)
    return tuple(links)


def why_other_video(
    labels: AnnotationSet, rows: Sequence[int], video: str | PathLike[str]
) -> str | None:
    """Why a video is not the one that images of a set were taken from.

    Up to five of the images are compared with the video's frames of their numbers.

    Parameters
    ----------
    labels
        The set.
    rows
        Numbers of the images.
    video
        The file.

    Returns
    -------
    str or None
        None when it is the one, as far as that shows.

    Raises
    ------
    FileMissingError, VideoError
    """
    return _ImageCheck(labels, list(rows)).refuses(Path(video))


def _places(search: Sequence[str | PathLike[str]]) -> list[Path]:
    places = [Path(place) for place in search]
    for place in places:
        if not place.exists():
            raise FileMissingError(f"nothing is at {place}; expected a folder or a video")
    return places


def _rows_by_video(labels: AnnotationSet) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for i, source in enumerate(labels.sources):
        if source.video:
            rows.setdefault(source.video, []).append(i)
    return rows


def _find(video: str, check: _ImageCheck | _FactsCheck, folder: Path, places: list[Path]) -> Link:
    reasons = []
    there = locate(video, folder)
    for candidate in _candidates(video, there, places):
        try:
            refused = check.refuses(candidate)
        except DpkError as error:  # cut short, or no video at all
            refused = str(error)
        if refused is None:
            unchecked = (check.unchecked,) if check.unchecked else ()
            return Link(video, "there" if candidate is there else "found", candidate, unchecked)
        reasons.append(f"{candidate}: {refused}")
    return Link(video, "different" if reasons else "missing", None, tuple(reasons))


def _candidates(video: str, there: Path | None, places: Iterable[Path]) -> Iterator[Path]:
    """Where a video may be, the likeliest place first."""
    if there is not None:
        yield there
    name = file_name(video)
    for place in places:
        if place.is_file():
            yield place
            continue
        for found in sorted(place.rglob("*")):
            if found.name == name and found.is_file():
                yield found


class _FactsCheck:
    """Compares a video with what poses or tracks were told of it."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        known = facts.get("fingerprint") or facts.get("n_frames")
        self.unchecked = "" if known else "the file knows only the video's name"

    def refuses(self, path: Path) -> str | None:
        from dpk_core.services.video import VideoReader

        with VideoReader(path) as reader:
            found = {"n_frames": len(reader), "height": reader.shape[0], "width": reader.shape[1]}
            for name, value in found.items():
                expected = self._facts.get(name)
                if expected is not None and expected != value:
                    return f"{name.replace('n_', '')}: expected {expected}, found {value}"
            expected = self._facts.get("fingerprint")
            if expected and expected != reader.fingerprint():
                return "its content is another one (fingerprint)"
        return None


class _ImageCheck:
    """Compares frames of a video with the images that were taken from it."""

    def __init__(self, labels: AnnotationSet, rows: list[int]) -> None:
        self._labels = labels
        numbered = [i for i in rows if labels.sources[i].frame >= 0]
        self._last = max((labels.sources[i].frame for i in numbered), default=-1)
        chosen = np.unique(np.linspace(0, len(numbered) - 1, _COMPARED).astype(int))
        self._rows = [numbered[i] for i in chosen] if numbered else []
        self.unchecked = "" if numbered else "its frames have no numbers to compare by"

    def refuses(self, path: Path) -> str | None:
        from dpk_core.services.video import VideoReader

        if not self._rows:
            return None if path.stat().st_size else "it is empty"
        gray = self._labels.image_shape[2] == 1
        with VideoReader(path, grayscale=gray) as reader:
            if self._last >= len(reader):
                return f"it has {len(reader)} frames, the labels go to frame {self._last}"
            for i in self._rows:
                source = self._labels.sources[i]
                image = np.asarray(self._labels.images[i])
                frame = _as_stored(reader[source.frame], source.crop, image.shape[:2])
                if source.size is not None:
                    frame[source.size[0] :], frame[:, source.size[1] :] = 0, 0
                if _difference(frame, image) > ALIKE:
                    return f"its frame {source.frame} is not the labelled image"
        return None


def _as_stored(
    frame: np.ndarray, crop: tuple[float, ...] | None, size: tuple[int, int]
) -> np.ndarray:
    """A frame cropped, padded or scaled as the stored image was."""
    import cv2

    height, width = size
    if crop is not None:
        matrix = np.array(crop).reshape(2, 3)
    elif frame.shape[0] <= height and frame.shape[1] <= width:
        matrix = np.eye(2, 3)  # padded on the right and at the bottom, or as it is
    else:
        found = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        return found.reshape(height, width, -1)
    found = cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return found.reshape(height, width, -1)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest mean difference of a block of pixels, in grey levels."""
    import cv2

    if a.shape != b.shape:
        raise ValidationError(f"expected images of one shape, found {a.shape} and {b.shape}")
    apart = np.abs(a.astype(np.float32) - b).mean(axis=2)
    return float(cv2.blur(apart, (_BLOCK, _BLOCK)).max())
