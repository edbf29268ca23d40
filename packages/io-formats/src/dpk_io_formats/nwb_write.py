"""Writing NWB with ndx-pose: pynwb lays out the file, positions are filled in piece by piece."""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import h5py
import numpy as np

from dpk_core.annotations import HIDDEN, AnnotationSet
from dpk_core.errors import DpkError, OutputExistsError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK
from dpk_core.services.individuals import group_by_frame, keypoints_in_frames
from dpk_core.services.video_paths import file_name, locate
from dpk_core.skeleton import NONE, Skeleton
from dpk_core.streams import PoseStream
from dpk_io_formats.frame_folder import report_labels
from dpk_io_formats.image_paths import IMAGE_SUFFIXES
from dpk_io_formats.nwb import OURS
from dpk_io_formats.nwb_poses import TRACK, UNTRACKED, safe_name
from dpk_io_formats.sleap_analysis_write import Slots
from dpk_io_formats.sleap_poses_write import video_reference
from dpk_io_formats.tidy import track_names, without_infinite

if TYPE_CHECKING:
    import pynwb

REFERENCE_FRAME = (
    "(x, y) in pixels of the video frame, x to the right, y down; (0, 0) is the centre of the "
    "top-left pixel"
)
_CHUNK = 4096


def _keep_no_schema() -> None:
    """Have pynwb read its schema anew, to be called before it is imported; half a second.

    What it keeps of it in the user's cache is written in place: a process that imports it
    meanwhile, and every one after a write that was cut off, fails with "pickle data was truncated".
    """
    os.environ.setdefault("PYNWB_NO_CACHE_DIR", "1")


@attrs.frozen
class Session:
    """What NWB wants to know of a recording; see `NwbFormat.write`."""

    path: Path
    fps: float | None
    start: str | None
    description: str
    identifier: str | None

    def file(self, notes: dict[str, Any] | None) -> pynwb.NWBFile:
        """An empty file in memory.

        Raises
        ------
        OutputExistsError, ValidationError
        """
        _keep_no_schema()
        from pynwb import NWBFile

        if self.path.exists():
            raise OutputExistsError(f"{self.path} exists already; choose another name")
        start = datetime.now(timezone.utc)
        if self.start is not None:
            try:
                start = datetime.fromisoformat(self.start)
            except ValueError:
                raise ValidationError(
                    f"session_start: expected a time such as 2024-05-31T14:00:00+02:00, found "
                    f"{self.start!r}"
                ) from None
            start = start if start.tzinfo else start.replace(tzinfo=timezone.utc)
        return NWBFile(
            session_description=self.description,
            identifier=self.identifier or str(uuid.uuid4()),
            session_start_time=start,
            notes=None if notes is None else json.dumps({OURS: notes}),
        )


# -- poses ----------------------------------------------------------------------------------------


def write_poses(session: Session, stream: PoseStream, report: LossReport) -> None:
    """A container for each individual, a series for each keypoint."""
    slots = Slots(sorted(track_names(stream.provenance)))
    frames = _collect(stream, slots)
    rate = session.fps or _rate(stream.provenance) or 1.0
    names = track_names(stream.provenance)
    labels = _containers(slots, names)
    notes = {
        "fps": rate,
        "tracks": {name: [number, names.get(number, "")] for name, number in labels},
        "provenance": _plain(stream.provenance, report),
    }
    nwb = session.file(notes)
    skeleton = _add_skeleton(nwb, stream.skeleton, report)
    video, _ = video_reference(stream.provenance.get("video"), session.path.parent)
    stem = safe_name(Path(file_name(video)).stem) or "video"
    module = nwb.create_processing_module(f"SLEAP_VIDEO_000_{stem}", "poses of the animals in it")
    empty = [name for (name, _), f in zip(labels, frames, strict=True) if not len(f)]
    report.add("tracks", len(empty), "have no poses")
    for (name, _), numbers in zip(labels, frames, strict=True):
        if len(numbers):
            module.add(_estimation(name, np.sort(numbers) / rate, stream.skeleton, skeleton, video))
    if not len(frames) or len(empty) == len(frames):
        module.add(_estimation(TRACK + UNTRACKED, np.empty(0), stream.skeleton, skeleton, video))
    _save(session.path, nwb)
    _fill(session.path, module.name, stream, labels, frames, report)


def _collect(stream: PoseStream, slots: Slots) -> list[np.ndarray]:
    """Numbers of the frames of each slot, in the order in which they come."""
    parts: list[list[np.ndarray]] = []
    for piece in stream:
        if not len(piece):
            continue
        if piece.frames.min() < 0:
            raise ValidationError("NWB has times of frames, found a frame with a negative number")
        rows = slots.of(piece)
        parts += [[] for _ in range(slots.count - len(parts))]
        for slot in np.unique(rows):
            parts[slot].append(piece.frames[rows == slot])
    parts += [[] for _ in range(slots.count - len(parts))]
    frames = [np.concatenate([np.empty(0, np.int64), *part]) for part in parts]
    for slot, numbers in enumerate(frames):
        rising = np.sort(numbers)
        twice = np.flatnonzero(np.diff(rising) == 0)
        if len(twice):
            raise ValidationError(
                f"frame {rising[twice[0]]} has the track number {slot + 1} twice; a time stands "
                "once in NWB"
            )
    return frames


def _rate(provenance: dict[str, Any]) -> float | None:
    fps = provenance.get("fps")
    return float(fps) if isinstance(fps, (int, float)) and 0 < fps < 1e9 else None


def _plain(provenance: dict[str, Any], report: LossReport) -> dict[str, Any]:
    kept = {k: v for k, v in provenance.items() if k not in ("track_names", "video")}
    try:
        return json.loads(json.dumps(kept))
    except (TypeError, ValueError):
        report.add("provenance entries", len(kept), "they are not JSON")
        return {}


def _containers(slots: Slots, names: dict[int, str]) -> list[tuple[str, int]]:
    """Name and track number of each slot's container; names are unique."""
    found: list[tuple[str, int]] = []
    taken: set[str] = set()
    for slot, number in enumerate(slots.numbers):
        label = names.get(number, f"track_{number}")
        if number == NO_TRACK:
            label = UNTRACKED if slots.numbers.count(NO_TRACK) == 1 else f"{UNTRACKED}_{slot}"
        name = unique = TRACK + safe_name(label)
        copy = 1
        while unique in taken:
            copy += 1
            unique = f"{name}_{copy}"
        taken.add(unique)
        found.append((unique, number))
    return found


def _estimation(name: str, seconds: np.ndarray, ours: Skeleton, skeleton: Any, video: str) -> Any:
    from hdmf.backends.hdf5 import H5DataIO
    from ndx_pose import PoseEstimation, PoseEstimationSeries

    series: list[Any] = []
    n = len(seconds)
    for label in _series_names(ours):
        options: dict[str, Any] = {
            "chunks": True, "compression": "gzip", "compression_opts": 1, "shuffle": True,
            "fillvalue": np.nan,
        } if n else {}  # fmt: skip
        series.append(
            PoseEstimationSeries(
                name=label,
                description=f"position of {label}",
                data=H5DataIO(shape=(n, 2), dtype=np.dtype("float32"), **options) if n
                else np.empty((0, 2), np.float32),
                confidence=H5DataIO(shape=(n,), dtype=np.dtype("float32"), **options) if n
                else np.empty(0, np.float32),
                confidence_definition="score of the keypoint, from 0 to 1",
                reference_frame=REFERENCE_FRAME,
                unit="pixels",
                timestamps=series[0] if series else seconds,
            )
        )  # fmt: skip
    with warnings.catch_warnings():
        # sleap-io looks for the name of the video there.
        warnings.simplefilter("ignore", DeprecationWarning)
        return PoseEstimation(
            name=name,
            pose_estimation_series=series,
            description="estimated positions of one individual",
            original_videos=[video],
            source_software="dpk",
            skeleton=skeleton,
        )


def _series_names(skeleton: Skeleton) -> list[str]:
    names = [safe_name(name) for name in skeleton.names]
    if len(set(names)) < len(names):
        raise ValidationError(
            f"NWB allows neither '/' nor ':' in names of keypoints; without them two of "
            f"{', '.join(skeleton.names)} are the same"
        )
    return names


def _fill(
    path: Path,
    module: str,
    stream: PoseStream,
    labels: Sequence[tuple[str, int]],
    frames: Sequence[np.ndarray],
    report: LossReport,
) -> None:
    """Positions and scores, in a second pass over the stream."""
    places = [_places(numbers) for numbers in frames]
    done = [0] * len(labels)
    slots = Slots(sorted(track_names(stream.provenance)))
    names = _series_names(stream.skeleton)
    with h5py.File(path, "r+") as file:
        groups = file[f"processing/{module}"]
        for given in stream:
            if not len(given):
                continue
            piece = without_infinite(given, report)
            rows = slots.of(piece)
            for slot in np.unique(rows):
                chosen = np.flatnonzero(rows == slot)
                at = places[slot][done[slot] : done[slot] + len(chosen)]
                done[slot] += len(chosen)
                order = np.argsort(at)
                at, chosen = at[order], chosen[order]
                where: Any = at
                if at[-1] - at[0] == len(at) - 1:
                    where = slice(int(at[0]), int(at[-1]) + 1)
                group = groups[labels[slot][0]]
                for j, name in enumerate(names):
                    group[name]["data"][where] = piece.keypoints[chosen, j]
                    group[name]["confidence"][where] = piece.scores[chosen, j]


def _places(numbers: np.ndarray) -> np.ndarray:
    """Where each goes when they are sorted."""
    places = np.empty(len(numbers), np.int64)
    places[np.argsort(numbers, kind="stable")] = np.arange(len(numbers))
    return places


# -- labels ---------------------------------------------------------------------------------------


def write_labels(session: Session, annotations: AnnotationSet, report: LossReport) -> None:
    """Labelled frames with the names of their videos, coordinates in pixels of these."""
    nwb = session.file(None)  # first, for what follows imports pynwb, too
    from ndx_pose import (
        PoseTraining,
        SkeletonInstance,
        SkeletonInstances,
        SourceVideos,
        TrainingFrame,
        TrainingFrames,
    )

    skeleton = _add_skeleton(nwb, annotations.skeleton, report)
    keypoints = keypoints_in_frames(annotations)
    individuals = [source.individual for source in annotations.sources]
    ids = {name: i for i, name in enumerate(dict.fromkeys(filter(None, individuals)))}
    _report_labels(annotations, report)
    visible = np.isfinite(keypoints).all(axis=2) & (annotations.visibility != HIDDEN)
    videos: dict[str, Any] = {}
    training: list[Any] = []
    for video, number, rows in group_by_frame(annotations):
        labelled = [i for i in rows if np.isfinite(keypoints[i]).any()]
        if not labelled:
            report.add("frames without labels", 1, "NWB has labelled frames only")
            continue
        report.add(
            "animals", len(rows) - len(labelled), "nothing of them is labelled in that frame"
        )
        names = _instance_names([individuals[i] for i in labelled])
        instances = [
            SkeletonInstance(
                name=name,
                id=np.uint64(ids.get(individuals[i], place)),
                node_locations=keypoints[i],
                node_visibility=visible[i],
                skeleton=skeleton,
            )
            for place, (i, name) in enumerate(zip(labelled, names, strict=True))
        ]
        options: dict[str, Any] = {}
        if video:
            if video not in videos:
                videos[video] = _image_series(session, video, len(videos), report)
            options["source_video"] = videos[video]
            options["source_video_frame_index"] = np.uint64(max(number, 0))
        training.append(
            TrainingFrame(
                name=f"frame_{len(training)}",
                skeleton_instances=SkeletonInstances(skeleton_instances=instances),
                **options,
            )
        )
    if not training:
        raise ValidationError("nothing is labelled in this set; NWB has labelled frames only")
    nwb.processing["behavior"].add(
        PoseTraining(
            training_frames=TrainingFrames(training_frames=training),
            source_videos=SourceVideos(image_series=list(videos.values())),
        )
    )
    _save(session.path, nwb)


def _report_labels(annotations: AnnotationSet, report: LossReport) -> None:
    report_labels(annotations, report)
    report.add("images", len(annotations), "NWB names the videos that labels belong to")
    crops = sum(source.crop is not None for source in annotations.sources)
    report.add("crops", crops, "labels stand in whole frames again")
    unknown = sum(not source.video for source in annotations.sources)
    numbers = sum(bool(source.video) and source.frame < 0 for source in annotations.sources)
    report.add("images without a number", numbers, "they become frame 0 of their video")
    report.add("images without a video", unknown, "nothing says where they are")


def _instance_names(individuals: list[str]) -> list[str]:
    """Unique in a frame, and of the individual where it has a name."""
    names = [safe_name(name) or f"instance_{i}" for i, name in enumerate(individuals)]
    return names if len(set(names)) == len(names) else [f"instance_{i}" for i in range(len(names))]


def _image_series(session: Session, video: str, number: int, report: LossReport) -> Any:
    """A video that is only named, with its rate and size when it is there."""
    from pynwb.image import ImageSeries

    from dpk_core.services.video import VideoReader

    name, _ = video_reference(video, session.path.parent)
    found = locate(video, session.path.parent)
    rate, frames, size = session.fps or 1.0, 1, (0, 0)
    if found is not None and found.suffix.lower() not in IMAGE_SUFFIXES:
        try:
            with VideoReader(found) as reader:
                frames, size = len(reader), (reader.shape[1], reader.shape[0])
                rate = session.fps or float(reader.fps or 1.0)
        except DpkError:
            found = None
    if found is None and session.fps is None:
        report.add("frame rates", 1, "videos are not there; 1 frame a second is written")
    return ImageSeries(
        name=f"video_{number}",
        description=f"the video {name}",
        unit="NA",
        format="external",
        external_file=[name],
        dimension=list(size),
        rate=rate,
        starting_frame=[0],
        num_samples=frames,
    )


# -- both -----------------------------------------------------------------------------------------


def _add_skeleton(nwb: Any, skeleton: Skeleton, report: LossReport) -> Any:
    """In the module ``behavior``, where ndx-pose wants it. Edges lead from parent to child."""
    from ndx_pose import Skeleton as NwbSkeleton
    from ndx_pose import Skeletons

    pairs = sum(s != NONE for s in skeleton.swap)
    report.add("swap partners", pairs, "skeletons of NWB have none")
    edges = np.array([(parent, child) for child, parent in skeleton.edges], int).reshape(-1, 2)
    kind = np.uint8 if len(skeleton) < 256 else np.uint32
    found = NwbSkeleton(name="skeleton", nodes=list(skeleton.names), edges=edges.astype(kind))
    module = nwb.create_processing_module("behavior", "skeletons and labels")
    module.add(Skeletons(skeletons=[found]))
    return found


def _save(path: Path, nwb: Any) -> None:
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about a suffix that is not .nwb
        with NWBHDF5IO(str(path), "w") as io:
            io.write(nwb)
