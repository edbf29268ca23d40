"""Reading the labels of a SLEAP file: users' instances with the images that they are on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import attrs
import h5py
import numpy as np

from dpk_core.annotations import AnnotationSet, ImageSource, Source
from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.services.video_paths import file_name, locate
from dpk_io_formats.gathered import is_numbering
from dpk_io_formats.image_paths import IMAGE_SUFFIXES
from dpk_io_formats.images import Images
from dpk_io_formats.name_graph import partners
from dpk_io_formats.plain_hdf5 import opened
from dpk_io_formats.sleap_adapter import (
    MISSING,
    PointLabels,
    from_sleap_skeleton,
    labels_of_points,
)
from dpk_io_formats.sleap_header import Header, VideoEntry, choose_skeleton, read_header
from dpk_io_formats.sleap_images import JoinedImages, StoredFrame, StoredFrames, stored_rows
from dpk_io_formats.sleap_tables import (
    PREDICTED,
    USER,
    FrameTable,
    Instances,
    read_frames,
    read_instances,
    read_points,
    windows,
)

_WINDOW = 2**16


@attrs.frozen
class _Row:
    """A row to be: its video and frame, the user's instance (None for none), its name."""

    video: int
    frame: int
    instance: int | None = None
    negative: bool = False


@attrs.frozen
class _Found:
    """Where the image of a row is: in a file, as a frame of a video, or stored in HDF5."""

    source: Source
    item: tuple[Path, int | None] | StoredFrame


def read_labels(
    path: Path,
    report: LossReport,
    *,
    skeleton: str | int | None = None,
    videos: str | Path | None = None,
    missing: str = "error",
    invisible: str = MISSING,
    waiting: bool = True,
    guess_swaps: bool = True,
) -> AnnotationSet:
    """A row for each user's instance; for the options see `SleapFormat.read`.

    Raises
    ------
    FileMissingError, FileFormatError, SkeletonError, ValidationError
    """
    if missing not in ("error", "skip"):
        raise ValidationError(f"missing: expected 'error' or 'skip', found {missing!r}")
    with opened(path) as file:
        header = read_header(file, path)
        frames = read_frames(file, header)
        instances = _users(file, header, frames, report)
    if header.cropped:
        raise FileFormatError(
            f"{path} has labels in cropped views of videos, which are not known here; save it "
            "without the crops (sleap-io's transform_labels)"
        )
    chosen = choose_skeleton(header, np.unique(instances.skeleton), skeleton)
    others = instances.skeleton != chosen
    report.add("instances", int(others.sum()), "have another skeleton than the one chosen")
    instances = instances[np.flatnonzero(~others)]
    with opened(path) as file:
        points = read_points(file, header, frames, instances, USER)
    ours = from_sleap_skeleton(header.skeletons[chosen], path, report)
    if guess_swaps and not header.skeletons[chosen].symmetries:
        ours = attrs.evolve(ours, swap=partners(ours.names))
    labels = labels_of_points(points.xy, points.visible, points.complete, invisible, report)
    rows = _rows(header, frames, instances, waiting, report)
    finder = _Finder(header, None if videos is None else Path(videos))
    rows, found = _with_images(rows, finder, missing, waiting, report)
    names = _individuals(rows, instances, header, report)
    _report_instances(instances, report)
    _report_empty(rows, labels, report)
    report_header(header, report)
    images, sizes = _images([f.item for f in found], _channels(header, rows))
    k = len(ours)
    keypoints, visibility = np.full((len(rows), k, 2), np.nan), np.zeros((len(rows), k), np.uint8)
    annotated = np.zeros((len(rows), k), bool)
    for i, row in enumerate(rows):
        if row.instance is not None:
            keypoints[i] = labels.keypoints[row.instance]
            visibility[i] = labels.visibility[row.instance]
            annotated[i] = labels.annotated[row.instance]
        annotated[i] |= row.negative
    height, width = images.shape[1:3]
    sources = tuple(
        attrs.evolve(f.source, individual=name, size=None if s == (height, width) else s)
        for f, name, s in zip(found, names, sizes, strict=True)
    )
    return AnnotationSet(images, keypoints, ours, annotated, visibility, sources)


# -- rows -----------------------------------------------------------------------------------------


def _users(file: h5py.File, header: Header, frames: FrameTable, report: LossReport) -> Instances:
    """All users' instances, in the order of the frames."""
    parts, predicted = [], 0
    for window in windows(frames, _WINDOW):
        part = read_instances(file, header, frames, window)
        parts.append(part[np.flatnonzero(part.type == USER)])
        predicted += int((part.type == PREDICTED).sum())
    report.add("predicted instances", predicted, "are no labels; read them as poses")
    parts = parts or [read_instances(file, header, frames, slice(0, 0))]
    columns = zip(*(attrs.astuple(part, recurse=False) for part in parts), strict=True)
    return Instances(*(np.concatenate(column) for column in columns))


def _rows(
    header: Header, frames: FrameTable, instances: Instances, waiting: bool, report: LossReport
) -> list[_Row]:
    """Users' instances frame by frame; negative frames; frames that wait for labels."""
    by_frame: dict[int, list[int]] = {}
    for position, frame in enumerate(instances.frame.tolist()):
        by_frame.setdefault(frame, []).append(position)
    grouped: dict[tuple[int, int], list[int]] = {}
    first: dict[tuple[int, int], int] = {}
    for i in range(len(frames)):
        key = (int(frames.video[i]), int(frames.number[i]))
        grouped.setdefault(key, []).extend(by_frame.get(i, []))
        first.setdefault(key, i)
    report.add("frames", len(frames) - len(grouped), "stand twice, and are joined")
    stored = {(int(v), int(n)) for v, n in zip(frames.stored_video, frames.number, strict=True)}
    negative = header.negative & stored
    report.add("negative frames", len(header.negative - stored), "are not among the frames")
    rows, empty = [], []
    for (video, number), positions in grouped.items():
        i = first[video, number]
        is_negative = (int(frames.stored_video[i]), number) in negative
        if positions:
            rows += [_Row(video, number, position) for position in positions]
            report.add("negative frames", int(is_negative), "have instances")
        elif is_negative:
            rows.append(_Row(video, number, negative=True))
        elif frames.first[i] == frames.end[i]:
            empty.append(_Row(video, number))
    suggested = [
        _Row(s.video, s.frame) for s in header.suggestions if (s.video, s.frame) not in grouped
    ]
    labelled = {(row.video, row.frame) for row in rows}
    done = sum((s.video, s.frame) in labelled for s in header.suggestions)
    predicted = len(header.suggestions) - len(suggested) - done
    report.add("suggestions", done, "their frames are labelled already")
    report.add("suggestions", predicted, "their frames have predictions only")
    report.add(
        "groups of suggestions", sum(bool(s.group) for s in header.suggestions), "frames have none"
    )
    if not waiting:
        report.add("frames without labels", len(empty), "are left out, as was asked for")
        report.add("suggestions", len(suggested), "are left out, as was asked for")
        return rows
    report.add("frames without instances", len(empty), "are frames to label, like suggestions")
    waiting_rows = list(dict.fromkeys(empty + suggested))
    report.add("suggestions", len(empty + suggested) - len(waiting_rows), "stand twice")
    return rows + waiting_rows


def _individuals(
    rows: list[_Row], instances: Instances, header: Header, report: LossReport
) -> list[str]:
    """Names of the tracks; animals of a frame that have none are numbered."""
    tracks = instances.track
    stored = [
        "" if row.instance is None or tracks[row.instance] < 0
        else header.tracks[tracks[row.instance]]
        for row in rows
    ]  # fmt: skip
    groups: dict[tuple[int, int], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((row.video, row.frame), []).append(i)
    names = list(stored)
    most = max((len(members) for members in groups.values()), default=0)
    # No number is the name of a track, or else its animal would be taken for another one.
    candidates = range(1, most + len(header.tracks) + 1)
    free = [number for number in candidates if str(number) not in set(stored)]
    for members in groups.values():
        found = [stored[i] for i in members]
        if len(members) == 1 or ("" not in found and len(set(found)) == len(found)):
            continue
        for i, number in zip(members, free, strict=False):
            names[i] = str(number)
        lost = sum(bool(name) for name in found)
        if any(stored):
            unnamed = len(found) - lost
            report.add("identities", unnamed, "have no track, and are numbered in their frame")
        why = "two of a frame share one" if "" not in found else "others in the frame have none"
        report.add("identities", lost, f"{why}; the animals of that frame are numbered")
    if any(stored) and all(is_numbering([names[i] for i in m]) for m in groups.values()):
        kept = sum(a == b != "" for a, b in zip(stored, names, strict=True))
        report.add("identities", kept, "names that only number the animals of a frame name nobody")
    labelled = [row.instance for row in rows if row.instance is not None]
    used = {int(tracks[i]) for i in labelled if tracks[i] >= 0}
    report.add("tracks", len(header.tracks) - len(used), "have no labelled instance")
    shared = sum(n - 1 for n in Counter(header.tracks[i] for i in used).values())
    report.add("tracks", shared, "have the name of another one")
    return names


def _report_empty(rows: list[_Row], labels: PointLabels, report: LossReport) -> None:
    """Instances that say no more than that a frame is negative, or waits for labels."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        if row.instance is not None:
            groups.setdefault((row.video, row.frame), []).append(row.instance)
    for members in groups.values():
        annotated = labels.annotated[members]
        if not np.isfinite(labels.keypoints[members]).any() and annotated.all() == annotated.any():
            report.add(
                "instances without points",
                len(members),
                "their frame is a negative one if all was looked for, else a frame to label",
            )


def _report_instances(instances: Instances, report: LossReport) -> None:
    report.add(
        "tracking scores",
        int((np.nan_to_num(instances.tracking_score) != 0).sum()),
        "labels have none",
    )
    report.add(
        "links to predictions",
        int((instances.from_predicted >= 0).sum()),
        "labels do not know what they were made from",
    )


def report_header(header: Header, report: LossReport) -> None:
    """Count what is in the file beside labels, predictions and suggestions."""
    for what, count in header.others.items():
        report.add(what, count, "they are no part of labels or poses")
    known = {"filename"}
    report.add("provenance entries", len(set(header.provenance) - known), "labels have none")


# -- images ---------------------------------------------------------------------------------------


class _Finder:
    """Finds the image of a frame, asking the file system once for each video."""

    def __init__(self, header: Header, videos: Path | None) -> None:
        if videos is not None and not videos.is_dir():
            raise FileMissingError(f"videos: no folder at {videos}")
        self._header = header
        self._folders = [folder for folder in (videos, header.path.parent) if folder is not None]
        self._paths: dict[str, Path | None] = {}
        self._stored: dict[tuple[Path, str], dict[int, int]] = {}

    def find(self, row: _Row) -> _Found | None:
        """None when the image is not there."""
        video = self._header.videos[row.video]
        if video.dataset:
            return self._find_stored(row, video)
        if video.files:
            if row.frame >= len(video.files):
                raise FileFormatError(
                    f"{self._header.path}: frame {row.frame} of a sequence of {len(video.files)} "
                    "images cannot be"
                )
            path = self._path(video.files[row.frame])
            return None if path is None else _Found(Source(path.as_posix(), 0), (path, None))
        path = self._path(video.name)
        if path is None:
            return None
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if video.kind == "TiffVideo" or row.frame > 0:
                raise FileFormatError(f"{path}: stacks of images cannot be read; save single ones")
            return _Found(Source(path.as_posix(), 0), (path, None))
        return _Found(Source(path.as_posix(), row.frame), (path, row.frame))

    def _find_stored(self, row: _Row, video: VideoEntry) -> _Found | None:
        path = self._path(video.container) if video.container else self._header.path
        if path is None:
            return None
        rows = self._stored.get((path, video.dataset))
        if rows is None:
            rows = self._stored[path, video.dataset] = stored_rows(path, video.dataset)
        if row.frame not in rows:
            return None
        named = video.name if not video.container else ""
        name = named or f"{path.name}/{video.dataset.removesuffix('/video')}"
        item = StoredFrame(path, video.dataset, rows[row.frame], video.channels_first)
        return _Found(Source(name, row.frame), item)

    def _path(self, name: str) -> Path | None:
        if name not in self._paths:
            self._paths[name] = find_video(name, self._folders)
        return self._paths[name]

    def name(self, row: _Row) -> str:
        """What is missing, for a message."""
        video = self._header.videos[row.video]
        if video.dataset:
            where = video.container or self._header.path.name
            return f"frame {row.frame} of {video.dataset} in {where}"
        return video.files[row.frame] if video.files else video.name


def find_video(name: str, folders: list[Path]) -> Path | None:
    """The file that a path from any computer names: where it says, then beside the labels.

    Addresses on the web are not fetched.
    """
    if "://" in name:
        return None
    for candidate in (name, file_name(name)):
        for folder in folders:
            path = locate(candidate, folder)
            if path is not None:
                return path
    return None


def _with_images(
    rows: list[_Row], finder: _Finder, missing: str, waiting: bool, report: LossReport
) -> tuple[list[_Row], list[_Found]]:
    """The rows whose images are there, and where these are."""
    kept, found, absent, unlabelled = [], [], [], 0
    for row in rows:
        image = finder.find(row)
        if image is not None:
            kept.append(row)
            found.append(image)
        elif row.instance is None and not row.negative:
            unlabelled += 1
        else:
            absent.append(row)
    path = finder._header.path
    names = list(dict.fromkeys(finder.name(row) for row in absent))
    if absent and (missing == "error" or not kept):
        shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        rest = ", or read the rest with the option missing=skip" if kept else ""
        raise FileMissingError(
            f"{path}: {len(names)} of the videos with labels are not there: {shown}; put them "
            f"beside it, or say where they are (dpk convert --source-set videos=FOLDER){rest}"
        )
    if not kept:
        raise FileFormatError(
            f"{path} has no labels and no frames to label whose images are there; read its "
            "predictions as poses"
        )
    report.add("labelled instances", len(absent), "their images are not there")
    report.add("frames to label", unlabelled, "their images are not there")
    used = {row.video for row in kept}
    report.add("videos", len(finder._header.videos) - len(used), "have no labels")
    sequence = sum(bool(finder._header.videos[row.video].files) for row in kept)
    report.add("frame numbers", sequence, "images of a sequence are known by their names")
    return kept, found


def _channels(header: Header, rows: list[_Row]) -> int:
    return 1 if all(header.videos[row.video].grayscale for row in rows) else 3


def _images(
    items: list[tuple[Path, int | None] | StoredFrame], channels: int
) -> tuple[ImageSource, list[tuple[int, int]]]:
    """Images of all rows, and their (height, width) before they were padded."""
    stored = [item for item in items if isinstance(item, StoredFrame)]
    files = [item for item in items if not isinstance(item, StoredFrame)]
    if not stored:
        images = Images(files, channels)
        return images, _pairs(images.sizes)
    if not files:
        embedded = StoredFrames(stored, channels)
        return embedded, _pairs(embedded.sizes)
    sizes = np.concatenate([Images(files, channels).sizes, StoredFrames(stored, channels).sizes])
    size = (int(sizes[:, 0].max()), int(sizes[:, 1].max()))
    places: list[tuple[bool, int]] = []
    counts = [0, 0]
    for item in items:
        second = isinstance(item, StoredFrame)
        places.append((second, counts[second]))
        counts[second] += 1
    joined = JoinedImages(
        Images(files, channels, size=size), StoredFrames(stored, channels, size=size), places
    )
    offset = [(counts[0] if second else 0) + i for second, i in places]
    return joined, _pairs(sizes[offset])


def _pairs(sizes: np.ndarray) -> list[tuple[int, int]]:
    return [(int(height), int(width)) for height, width in sizes]
