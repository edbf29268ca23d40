"""Neurodata Without Borders (.nwb) with the extension ndx-pose (0.4): poses in and out, labels out.

``PoseEstimation`` has the positions of one individual: a ``PoseEstimationSeries`` for each keypoint
with ``data`` (time, xy), ``confidence`` and times. ``PoseTraining`` has labelled frames. Names and
types: ndx-pose 0.4, spec/ndx-pose.extensions.yaml; where sleap-io 0.9 looks for them
(io/nwb_predictions.py), they are put.

Coordinates: NWB leaves the origin to the text ``reference_frame``. dpk writes what sleap-io does,
(0, 0) at the centre of the top-left pixel, and takes files to mean that; where a file counts from
the corner of that pixel, say ``origin=corner``.

NWB knows seconds, no numbers of frames. A time is number / frames a second. dpk notes the frame
rate in the file; in others it is taken from ``rate``, else from the smallest step between two
times, and that is reported. ``fps`` says it.
"""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

import h5py

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import DpkError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.gathered import CENTER, CORNER
from dpk_io_formats.plain_hdf5 import child, dataset, is_own, opened, text_of

OURS = "dpk"
"""Key of what dpk writes as JSON into the notes of a file."""


class NwbFormat(PoseFormat):
    """Reads and writes poses, and writes labels, as NWB with ndx-pose."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        path = Path(path)
        try:
            if not path.is_file() or not h5py.is_hdf5(path):
                return False
            with opened(path) as file:
                return "nwb_version" in file.attrs
        except (DpkError, OSError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        with opened(Path(path)) as file:
            return ("poses",) if find_estimations(file, Path(path)) else ()

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "poses",
        *,
        report: LossReport | None = None,
        video: str | None = None,
        fps: float | str | None = None,
        origin: str = CENTER,
        **options: Any,
    ) -> PoseStream:
        """Poses in the order of frames, with the names of individuals.

        Parameters
        ----------
        video
            Name of the video, or of the module that the poses are in, where there are several.
        fps
            Frames a second, which numbers of frames follow from.
        origin
            Where (0, 0) is: the "center" of the top-left pixel, or its "corner".

        Raises
        ------
        FileMissingError, FileFormatError, SkeletonError, ValidationError
        """
        from dpk_io_formats.nwb_poses import read_poses

        if kind != "poses":
            raise ValidationError(f"the format nwb reads poses, found {kind!r}")
        _refuse(options)
        if origin not in (CENTER, CORNER):
            raise ValidationError(f"origin: expected {CENTER!r} or {CORNER!r}, found {origin!r}")
        shift = 0.5 if origin == CORNER else 0.0
        losses = LossReport() if report is None else report
        return read_poses(Path(path), losses, video, rate_of(fps), shift)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        fps: float | str | None = None,
        session_start: str | None = None,
        description: str = "poses of animals in a video",
        identifier: str | None = None,
        **options: Any,
    ) -> None:
        """Poses as ``PoseEstimation``, labels as ``PoseTraining`` that names their videos.

        A stream of poses is gone through twice: first for the times, then for the positions.

        Parameters
        ----------
        fps
            Frames a second. Default: as the poses or the video say, else 1.
        session_start
            When the recording began, as ISO 8601. Default: now, for NWB demands one.
        description, identifier
            Of the session. Default of the identifier: a random one.

        Raises
        ------
        OutputExistsError, ValidationError
        """
        from dpk_io_formats.nwb_write import Session, write_labels, write_poses

        _refuse(options)
        losses = LossReport() if report is None else report
        session = Session(Path(path), rate_of(fps), session_start, description, identifier)
        if isinstance(data, PoseStream):
            write_poses(session, data, losses)
        elif isinstance(data, AnnotationSet):
            write_labels(session, data, losses)
        else:
            raise ValidationError("the format nwb writes annotations and poses, no tracks")


def find_estimations(file: h5py.File, path: Path) -> list[tuple[str, str]]:
    """(module, name) of each group of poses."""
    found = []
    processing = child(file, "processing", path)
    for module_name in processing if isinstance(processing, h5py.Group) else ():
        module = child(processing, module_name, path)
        for name in module if isinstance(module, h5py.Group) else ():
            # Links to cameras and the like stand beside them; where they lead does not matter.
            if is_own(module, name):
                group = module[name]
                if isinstance(group, h5py.Group) and type_of(group) == "PoseEstimation":
                    found.append((module_name, name))
    return found


def type_of(group: h5py.Group) -> str:
    """The type of an object as NWB calls it."""
    return text_of(group.attrs.get("neurodata_type", ""))


def read_notes(file: h5py.File, path: Path) -> dict[str, Any]:
    """What dpk noted in the file; an empty dict when it did not write it."""
    general = child(file, "general", path)
    if not isinstance(general, h5py.Group) or child(general, "notes", path) is None:
        return {}
    value = dataset(general, "notes", path)[()]
    try:
        notes = json.loads(text_of(value))
    except (ValueError, RecursionError):  # somebody else's notes
        return {}
    found = notes.get(OURS) if isinstance(notes, dict) else None
    return found if isinstance(found, dict) else {}


def rate_of(fps: Any) -> float | None:
    """A frame rate as it was given, None for none."""
    if fps is None:
        return None
    try:
        rate = float(fps)
    except (TypeError, ValueError):
        rate = 0.0
    if not 0 < rate < 1e9:
        raise ValidationError(f"fps: expected frames a second, found {fps!r}")
    return rate


def _refuse(options: dict[str, Any]) -> None:
    if options:
        raise ValidationError(f"the format nwb has no options {', '.join(options)}")
