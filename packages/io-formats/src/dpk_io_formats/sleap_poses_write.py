"""Writing predictions as a SLEAP file, a piece at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import OutputExistsError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK
from dpk_core.services.video_paths import locate
from dpk_core.streams import PoseStream
from dpk_io_formats.sleap_adapter import closed_video, to_sleap_skeleton
from dpk_io_formats.sleap_poses import THEIRS, UNNAMED, instance_scores
from dpk_io_formats.sleap_tables import PREDICTED
from dpk_io_formats.sleap_track_numbers import OURS, note_numbers
from dpk_io_formats.tidy import track_names, without_infinite

_FRAMES = np.dtype(
    [("frame_id", "u8"), ("video", "u4"), ("frame_idx", "u8"), ("instance_id_start", "u8"),
     ("instance_id_end", "u8")]
)  # fmt: skip
_INSTANCES = np.dtype(
    [("instance_id", "i8"), ("instance_type", "u1"), ("frame_id", "u8"), ("skeleton", "u4"),
     ("track", "i4"), ("from_predicted", "i8"), ("score", "f4"), ("point_id_start", "u8"),
     ("point_id_end", "u8"), ("tracking_score", "f4")]
)  # fmt: skip
_POINTS = np.dtype([("x", "f8"), ("y", "f8"), ("visible", "?"), ("complete", "?")])
_PREDICTED = np.dtype([*_POINTS.descr, ("score", "f8")])
_CHUNK = 2**14


def write_poses(path: Path, stream: PoseStream, report: LossReport) -> None:
    """A .slp file of predicted instances, points written as they come.

    Tables of frames and instances must be in the order of frames, so a few numbers of each row are
    kept until the end.

    Raises
    ------
    OutputExistsError, ValidationError
    """
    from sleap_io import Labels, Track
    from sleap_io.io import slp

    if path.exists():
        raise OutputExistsError(f"{path} exists already; choose another name")
    k, names = len(stream.skeleton), track_names(stream.provenance)
    rows = []
    with h5py.File(path, "w") as file:
        file.create_dataset("points", (0,), _POINTS)
        points = file.create_dataset(
            "pred_points", (0,), _PREDICTED, maxshape=(None,), chunks=(_CHUNK,)
        )
        for given in stream:
            piece = without_infinite(given, report)
            if len(piece) and piece.frames.min() < 0:
                raise ValidationError("SLEAP counts frames from 0, found a negative number")
            seen = np.isfinite(piece.keypoints).all(axis=2)
            block = np.zeros(len(piece) * k, _PREDICTED)
            block["x"], block["y"] = piece.keypoints.reshape(-1, 2).T
            block["visible"], block["score"] = seen.ravel(), piece.scores.ravel()
            points.resize(len(points) + len(block), axis=0)
            points[len(points) - len(block) :] = block
            rows.append((piece.frames, piece.track_ids, instance_scores(piece.scores, seen)))
        frame, track, score = (
            np.concatenate([np.empty(0, kind), *column])
            for column, kind in zip(
                zip(*rows, strict=True) if rows else ([], [], []),
                (np.int64, np.int32, np.float32),
                strict=True,
            )
        )
        ids = np.union1d(track[track != NO_TRACK], sorted(names)).astype(np.int64)
        _write_tables(file, frame, np.where(track == NO_TRACK, -1, np.searchsorted(ids, track)),
                      score, k)  # fmt: skip
    tracks = [names.get(int(i), f"track_{i}") for i in ids]
    provenance = sleap_provenance(stream.provenance, report)
    labels = Labels(
        skeletons=[to_sleap_skeleton(stream.skeleton, report)],
        videos=[closed_video(*video_reference(stream.provenance.get("video"), path.parent))],
        tracks=[Track(name) for name in tracks],
        provenance=note_numbers(provenance, tracks, ids.tolist(), report),
    )
    slp.write_videos(str(path), labels.videos, verbose=False)
    slp.write_tracks(str(path), labels.tracks)
    slp.write_suggestions(str(path), [], labels.videos)
    slp.write_metadata(str(path), labels)


def _write_tables(
    file: h5py.File, frame: np.ndarray, track: np.ndarray, score: np.ndarray, k: int
) -> None:
    """Frames and instances, sorted by frame; points stay where they are."""
    order = np.argsort(frame, kind="stable")
    numbers, starts = np.unique(frame[order], return_index=True)
    frames = np.zeros(len(numbers), _FRAMES)
    frames["frame_id"], frames["frame_idx"] = np.arange(len(numbers)), numbers
    frames["instance_id_start"], frames["instance_id_end"] = (
        starts,
        [*starts[1:], len(frame)][: len(numbers)],
    )
    file.create_dataset("frames", data=frames)
    instances = file.create_dataset("instances", (len(frame),), _INSTANCES)
    for i in range(0, len(frame), _CHUNK):
        rows = order[i : i + _CHUNK]
        block = np.zeros(len(rows), _INSTANCES)
        block["instance_id"] = np.arange(i, i + len(rows))
        block["instance_type"], block["from_predicted"] = PREDICTED, -1
        block["frame_id"] = np.searchsorted(numbers, frame[rows])
        block["track"], block["score"] = track[rows], score[rows]
        block["point_id_start"], block["point_id_end"] = rows * k, rows * k + k
        instances[i : i + len(rows)] = block


def video_reference(name: Any, folder: Path) -> tuple[str, dict[str, Any]]:
    """How a file in ``folder`` names a video: relative where it lies in or below that folder.

    Always with forward slashes; a video that is not found keeps its name.
    """
    name = name if isinstance(name, str) and name else UNNAMED
    found = locate(name, folder)
    if found is not None:
        whole, here = found.resolve(), folder.resolve()
        below = whole.is_relative_to(here)
        name = (whole.relative_to(here) if below else whole).as_posix()
    backend = {
        "type": "MediaVideo", "filename": name, "grayscale": None, "bgr": True, "dataset": "",
        "input_format": "",
    }  # fmt: skip
    return name, backend


def sleap_provenance(provenance: dict[str, Any], report: LossReport) -> dict[str, Any]:
    """The inverse of `ours_of_provenance`; track names and the video have their own places."""
    theirs = provenance.get(THEIRS)
    ours = {k: v for k, v in provenance.items() if k not in (THEIRS, "track_names", "video")}
    found = dict(theirs) if isinstance(theirs, dict) else {}
    if not isinstance(theirs, dict) and THEIRS in provenance:
        ours[THEIRS] = theirs
    if ours:
        found[OURS] = ours
    try:
        return json.loads(json.dumps(found))
    except (TypeError, ValueError):
        report.add("provenance entries", len(provenance), "they are not JSON")
        return {}
