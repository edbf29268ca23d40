"""Writing labels as a SLEAP file that names its videos, or as a package with the images in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import h5py
import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import FileMissingError, OutputExistsError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.services.individuals import group_by_frame, keypoints_in_frames
from dpk_core.services.video_paths import locate
from dpk_io_formats.gathered import is_numbering
from dpk_io_formats.image_paths import IMAGE_SUFFIXES
from dpk_io_formats.images import Images, unpadded
from dpk_io_formats.sleap_adapter import FrameRows, closed_video, to_sleap_labels
from dpk_io_formats.sleap_images import write_stored
from dpk_io_formats.sleap_poses_write import video_reference

if TYPE_CHECKING:
    import sleap_io

_LABELLED, _NEGATIVE, _WAITING = "labelled", "negative", "waiting"


@attrs.frozen
class _Frame:
    """A frame to write.

    Parameters
    ----------
    rows
        Of its animals.
    found
        The video or image file, None when it is not there.
    cut
        Whether only a crop of it is there, which becomes a frame of its own.
    """

    rows: tuple[int, ...]
    found: Path | None
    cut: bool = False


@attrs.define
class _Video:
    """A video to write with the frames of it: number, rows, image file if it is a sequence's."""

    name: str
    found: Path | None = None
    size: tuple[int, int] | None = None
    numbers: list[int] = attrs.field(factory=list)
    frames: list[_Frame] = attrs.field(factory=list)


def write_labels(
    path: Path, annotations: AnnotationSet, report: LossReport, embed: bool | None = None
) -> None:
    """Labels with references to their videos, or with their images; see `SleapFormat.write`.

    Raises
    ------
    OutputExistsError, FileMissingError, ValidationError
    """
    if path.exists():
        raise OutputExistsError(f"{path} exists already; choose another name")
    if annotations.image_shape[2] not in (1, 3):
        raise ValidationError(
            f"images: expected 1 or 3 channels, found {annotations.image_shape[2]}"
        )
    frames = _frames(annotations, path.parent)
    absent = sorted(
        {annotations.sources[f.rows[0]].video or "unnamed" for f in frames if f.found is None}
    )
    if embed is False and absent:
        raise FileMissingError(
            f"the videos of these labels are not there: {', '.join(absent[:5])}; embed the images "
            "(embed=yes, or a name that ends with .pkg.slp)"
        )
    # Not only at the end: whoever writes under a temporary name puts something in between.
    wants = ".pkg." in path.name.lower() if embed is None else embed
    embedded = bool(wants or absent)
    videos = _videos(annotations, frames, embedded)
    keypoints = _keypoints(annotations, frames)
    individuals = _individuals(annotations, frames, report)
    _report(annotations, frames, report)
    gray = annotations.image_shape[2] == 1
    written = [
        _embedded(i) if embedded else _reference(video, path.parent, gray)
        for i, video in enumerate(videos)
    ]
    rows = [
        FrameRows(i, number, frame.rows, _state(annotations, frame, report))
        for i, video in enumerate(videos)
        for number, frame in zip(video.numbers, video.frames, strict=True)
    ]
    rows.sort(key=lambda frame: frame.rows[0])
    labels = to_sleap_labels(annotations, keypoints, rows, written, individuals, report)
    _save(path, labels)
    if embedded:
        _embed(path, annotations, videos, gray)


def _save(path: Path, labels: sleap_io.Labels) -> None:
    from sleap_io.io import slp

    slp.write_labels(str(path), labels, embed=False, restore_original_videos=False, verbose=False)


# -- which frames ---------------------------------------------------------------------------------


def _frames(annotations: AnnotationSet, folder: Path) -> list[_Frame]:
    """Animals of a frame together; where only crops of it are there, each of them alone."""
    known: dict[str, Path | None] = {}
    frames = []
    for video, number, rows in group_by_frame(annotations):
        if video not in known:
            known[video] = locate(video, folder)
        found = known[video]
        if found is not None and number < 0 and not _is_image(found):
            found = None
        if found is not None:
            frames.append(_Frame(tuple(rows), found))
            continue
        crops: dict[Any, list[int]] = {}
        for i in rows:
            crops.setdefault(annotations.sources[i].crop, []).append(i)
        frames += [_Frame(tuple(g), None, crop is not None) for crop, g in crops.items()]
    return frames


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _videos(annotations: AnnotationSet, frames: Sequence[_Frame], embedded: bool) -> list[_Video]:
    """The frames by video; embedded ones also by size, and crops apart from whole frames."""
    videos: dict[Any, _Video] = {}
    height, width, _ = annotations.image_shape
    for frame in frames:
        source = annotations.sources[frame.rows[0]]
        sequence = frame.found is not None and _is_image(frame.found)
        size = source.size or (height, width) if frame.found is None or sequence else None
        name = source.video if not sequence else str(frame.found and frame.found.parent)
        if sequence and not embedded:
            # SLEAP takes all images of a sequence to be of one size.
            name = f"{name}, {size}"
        key = (name, frame.found is None, sequence, frame.cut, size)
        video = videos.setdefault(key, _Video(source.video, frame.found, size))
        counted = frame.cut or sequence or source.frame < 0 or not source.video
        number = len(video.numbers) if counted else source.frame
        video.numbers.append(number)
        video.frames.append(frame)
    return list(videos.values())


def _keypoints(annotations: AnnotationSet, frames: Sequence[_Frame]) -> np.ndarray:
    """In pixels of what is written: of whole frames wherever these are there."""
    keypoints = np.array(annotations.keypoints, np.float64)
    whole = keypoints_in_frames(annotations)
    rows = [i for frame in frames if frame.found is not None for i in frame.rows]
    keypoints[rows] = whole[rows]
    return keypoints


def _individuals(
    annotations: AnnotationSet, frames: Sequence[_Frame], report: LossReport
) -> list[str]:
    """Names of tracks; names that only number the animals of each frame are none."""
    names = [source.individual for source in annotations.sources]
    groups = [[names[i] for i in rows] for _, _, rows in group_by_frame(annotations)]
    if all(is_numbering(group) for group in groups):
        return [""] * len(names)
    return names


def _state(annotations: AnnotationSet, frame: _Frame, report: LossReport) -> str:
    rows = list(frame.rows)
    annotated = annotations.annotated[rows]
    placed = np.isfinite(annotations.keypoints[rows]).any()
    if placed or (annotated.any() and not annotated.all()):
        return _LABELLED
    named = sum(bool(annotations.sources[i].individual) for i in rows)
    report.add("identities", named, "of animals without a keypoint")
    report.add("rows", len(rows) - 1, "animals of a frame without a keypoint are joined")
    return _NEGATIVE if annotated.all() else _WAITING


def _report(annotations: AnnotationSet, frames: Sequence[_Frame], report: LossReport) -> None:
    cut = sum(len(f.rows) for f in frames if f.cut)
    report.add("positions of crops", cut, "their videos are not there; the crops are embedded")
    numbers = [annotations.sources[f.rows[0]].frame for f in frames if f.cut]
    report.add("frame numbers", sum(n >= 0 for n in numbers), "crops are counted one by one")
    back = [i for f in frames if f.found is not None for i in f.rows]
    mapped = sum(annotations.sources[i].crop is not None for i in back)
    report.add("crops", mapped, "labels stand in whole frames again")
    grouped: dict[tuple[int, ...], int] = {}
    for frame in frames:
        empty = ~np.isfinite(annotations.keypoints[list(frame.rows)]).any(axis=(1, 2))
        unlabelled = empty & ~annotations.annotated[list(frame.rows)].any(axis=1)
        if not empty.all():
            grouped[frame.rows] = int(unlabelled.sum())
    report.add("rows", sum(grouped.values()), "an animal to label is an empty instance")


# -- videos ---------------------------------------------------------------------------------------


def _reference(video: _Video, folder: Path, gray: bool) -> sleap_io.Video:
    if video.found is not None and _is_image(video.found):
        names = [video_reference(str(f.found), folder)[0] for f in video.frames]
        backend: dict[str, Any] = {
            "type": "ImageVideo", "filename": names[0], "filenames": names, "grayscale": gray,
        }  # fmt: skip
        if video.size is not None:
            height, width = video.size
            backend |= {"height_": height, "width_": width, "channels_": 1 if gray else 3}
            backend["shape"] = [len(names), height, width, 1 if gray else 3]
        found = closed_video(names[0], backend)
        found.filename = names
        return found
    name, backend = video_reference(video.name, folder)
    return closed_video(name, backend | {"grayscale": gray})


def _embedded(index: int) -> sleap_io.Video:
    backend = {
        "type": "HDF5Video", "filename": ".", "dataset": f"video{index}/video",
        "input_format": "", "convert_range": False, "has_embedded_images": True,
    }  # fmt: skip
    return closed_video(".", backend)


def _embed(path: Path, annotations: AnnotationSet, videos: Sequence[_Video], gray: bool) -> None:
    """Add the images, and their shapes to what the file says of its videos."""
    entries = []
    with h5py.File(path, "a") as file:
        for i, video in enumerate(videos):
            source = None
            if video.name:
                name, backend = video_reference(video.name, path.parent)
                if video.found is not None and _is_image(video.found):
                    names = [video_reference(str(f.found), path.parent)[0] for f in video.frames]
                    backend = {"type": "ImageVideo", "filename": names[0], "filenames": names}
                source = {"filename": name, "backend": backend | {"grayscale": gray}}
            images = _images(annotations, video)
            height, width, channels = write_stored(file, i, images, video.numbers, source)
            backend = dict(_embedded(i).backend_metadata)
            backend |= {"shape": [len(video.numbers), height, width, channels], "grayscale": gray}
            entries.append(json.dumps({"filename": ".", "backend": backend}))
        del file["videos_json"]
        file.create_dataset("videos_json", data=entries, dtype=h5py.string_dtype())


def _images(annotations: AnnotationSet, video: _Video) -> Iterator[np.ndarray]:
    """Whole frames, read from the video where the set has only crops of them."""
    channels = annotations.image_shape[2]
    whole = None
    for number, frame in zip(video.numbers, video.frames, strict=True):
        source = annotations.sources[frame.rows[0]]
        if source.crop is None or frame.found is None:
            yield unpadded(np.asarray(annotations.images[frame.rows[0]]), source.size)
        elif _is_image(frame.found):
            yield Images([(frame.found, None)], channels)[0]
        else:
            if whole is None:
                found = [(frame.found, n) for n in video.numbers]
                whole = Images(found, channels)
            yield whole[video.numbers.index(number)]
