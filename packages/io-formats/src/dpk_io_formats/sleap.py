"""SLEAP files (Pereira et al. 2022, Nature Methods 19:486): .slp, and .pkg.slp with the images.

HDF5, as SLEAP 1.x and sleap-io 0.9 write it (io/slp.py, formats 1.0 to 2.8). Users' instances are
labels, predicted ones are poses, and those with a track are tracks.

Coordinates: (x, y) with (0, 0) at the centre of the top-left pixel, as here: format 1.1 has "points
with midpixel coordinates, top left corner at (-0.5, -0.5)" (SLEAP 1.3, sleap/io/format/hdf5.py,
LabelsV1Adaptor). Format 1.0 had that corner at (0, 0) for users' points, and for these alone; they
are shifted. (sleap-io 0.9 shifts predictions of that format as well, SLEAP does not.)

Frames count from 0 in the video. Scores and flags: see `sleap_adapter`. Scores of instances and of
tracking, links from labels to predictions, recording sessions, global identities, boxes, masks,
and whatever else a file holds are reported. Edges and symmetries are sets: their order counts for
nothing.
"""

from __future__ import annotations

import inspect
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
from dpk_io_formats.plain_hdf5 import child, opened

_NAME = "sleap"


class SleapFormat(PoseFormat):
    """Reads and writes SLEAP's labels and predictions, and reads its tracks."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        path = Path(path)
        try:
            if not path.is_file() or not h5py.is_hdf5(path):
                return False
            from dpk_io_formats.sleap_header import is_sleap

            with opened(path) as file:
                return is_sleap(file)
        except (DpkError, OSError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        """What instances there are; a file without any has frames to label."""
        from dpk_io_formats.sleap_tables import instance_types

        path = Path(path)
        with opened(path) as file:
            users, predicted, tracked = instance_types(file, path)
            negative = child(file, "negative_frames", path) is not None
        found = {
            "annotations": users or negative or not predicted,
            "poses": predicted,
            "tracks": tracked,
        }
        return tuple(kind for kind, is_there in found.items() if is_there)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        skeleton: str | int | None = None,
        videos: str | PathLike[str] | None = None,
        missing: str = "error",
        invisible: str = "missing",
        waiting: bool = True,
        guess_swaps: bool = True,
        video: str | int | None = None,
        center: str = "box",
        **options: Any,
    ) -> AnnotationSet | PoseStream | Tracks:
        """Labels with their images, predictions in pieces, or tracks.

        Parameters
        ----------
        path
            A .slp or .pkg.slp file.
        kind
            "annotations": a row for each user's instance, a row for each negative frame (everything
            annotated, nothing there), and a row for each frame that waits for labels.
            "poses": the predicted instances of one video. "tracks": where the instances with a
            track were.
        skeleton
            Name or number of the skeleton, where there are several.
        videos
            For labels: a folder to look for the videos, besides where the file says.
        missing
            For labels: "error", or "skip" to leave out those whose videos are not there.
        invisible
            For labels: what points are that are not visible, "missing" (as to SLEAP) or "hidden".
        waiting
            For labels: whether frames without labels are rows too: those that SLEAP suggests, and
            those without any instance. Default True.
        guess_swaps
            For labels: where the file has no symmetries at all, take nodes as partners under a
            mirror whose names differ only in left and right. Without partners, training on mirrored
            images could not tell left from right.
        video
            For poses and tracks: name or number of the video, where several have any.
        center
            For tracks: "box", the middle of the box around the keypoints, or "mean", their mean.

        Raises
        ------
        FileMissingError
            Also when videos with labels are not there; it names them.
        FileFormatError
            When the file is damaged, or holds what cannot be read; it names the instance.
        SkeletonError, ValidationError
        """
        path = Path(path)
        losses = LossReport() if report is None else report
        known: dict[str, tuple[str, ...]] = {
            "annotations": (
                "skeleton",
                "videos",
                "missing",
                "invisible",
                "waiting",
                "guess_swaps",
            ),
            "poses": ("skeleton", "video"),
            "tracks": ("skeleton", "video", "center"),
        }
        if kind not in known:
            raise ValidationError(f"the format {_NAME} has {', '.join(known)}; found {kind!r}")
        given = {
            "skeleton": skeleton, "videos": videos, "missing": missing, "invisible": invisible,
            "waiting": _yes(waiting, "waiting"), "video": video, "center": center,
            "guess_swaps": _yes(guess_swaps, "guess_swaps"),
        }  # fmt: skip
        parameters = inspect.signature(self.read).parameters
        options |= {n: value for n, value in given.items() if value != parameters[n].default}
        _check_options(options, known[kind], f"to read {kind}")
        if kind == "poses":
            from dpk_io_formats.sleap_poses import read_poses

            return read_poses(path, losses, **options)
        if kind == "tracks":
            from dpk_io_formats.sleap_tracks import read_tracks

            return read_tracks(path, losses, **options)
        from dpk_io_formats.sleap_labels import read_labels

        return read_labels(path, losses, **options)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        embed: bool | None = None,
        **options: Any,
    ) -> None:
        """Labels as users' instances, poses as predicted ones.

        Crops go back to where they were cut out, as far as their videos are there. Videos are named
        relative to the file's folder when they lie in or below it.

        Parameters
        ----------
        embed
            For labels: True puts the images into the file, False names their videos. Default:
            by the name, ``.pkg.slp`` or ``.slp``; images whose videos are not there are always
            put in.

        Raises
        ------
        OutputExistsError, ValidationError
        FileMissingError
            With ``embed=False``, when videos are not there.
        """
        path = Path(path)
        losses = LossReport() if report is None else report
        if isinstance(data, AnnotationSet):
            from dpk_io_formats.sleap_labels_write import write_labels

            _check_options(options, ("embed",), "to write labels")
            write_labels(path, data, losses, None if embed is None else _yes(embed, "embed"))
        elif isinstance(data, PoseStream):
            from dpk_io_formats.sleap_poses_write import write_poses

            given = options if embed is None else {"embed": embed, **options}
            _check_options(given, (), "to write poses")
            write_poses(path, data, losses)
        else:
            raise ValidationError(f"the format {_NAME} writes annotations and poses, no tracks")


def _check_options(options: dict[str, Any], known: tuple[str, ...], what: str) -> None:
    for option in options:
        if option not in known:
            raise ValidationError(
                f"the format {_NAME} has no option {option!r} {what}; it has "
                f"{', '.join(known) or 'none'}"
            )


def _yes(value: Any, option: str) -> bool:
    """A choice, from the command line as text."""
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("yes", "true", "1", "no", "false", "0"):
        return text in ("yes", "true", "1")
    raise ValidationError(f"{option}: expected yes or no, found {value!r}")
