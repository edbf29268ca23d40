"""SLEAP's analysis files (.h5): arrays with a place for each track in each frame.

Source of the layout: SLEAP 1.3, sleap/info/write_tracking_h5.py, and sleap-io 0.9,
io/analysis_h5.py. ``tracks`` is (track, xy, node, frame) as SLEAP writes it for MATLAB, (frame,
track, node, xy) as sleap-io's "standard", (frame, node, xy, track) without SLEAP's transposition,
or whatever its attribute ``dims`` says; ``point_scores`` likewise. Coordinates are those of .slp
files: (0, 0) is the centre of the top-left pixel.

SLEAP can leave out the frames before the first label, and does not say how many: such a file is
read with ``first_frame``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, SkeletonError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PIECE, PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.plain_hdf5 import array, child, dataset, json_of, opened, text_of, texts
from dpk_io_formats.sleap_poses import instance_scores, ours_of_provenance
from dpk_io_formats.sleap_tables import FARTHEST
from dpk_io_formats.sleap_track_numbers import numbers_of
from dpk_io_formats.tidy import with_track_names

MATLAB = ("track", "xy", "node", "frame")
STANDARD = ("frame", "track", "node", "xy")
UNTRANSPOSED = ("frame", "node", "xy", "track")
_CLOSE = 1e-5


class SleapAnalysisFormat(PoseFormat):
    """Reads and writes predictions as SLEAP's analysis HDF5."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        path = Path(path)
        try:
            if not path.is_file() or not h5py.is_hdf5(path):
                return False
            with opened(path) as file:
                keys = ("tracks", "track_names", "node_names", "track_occupancy")
                return all(isinstance(child(file, key, path), h5py.Dataset) for key in keys)
        except (DpkError, OSError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        return ("poses",)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "poses",
        *,
        report: LossReport | None = None,
        first_frame: int | str = 0,
        **options: Any,
    ) -> PoseStream:
        """Poses in the order of frames, with the tracks' identities.

        Parameters
        ----------
        first_frame
            Number of the first frame in the file, where SLEAP left out the empty ones before it.

        Raises
        ------
        FileMissingError, FileFormatError, SkeletonError, ValidationError
        """
        if kind != "poses":
            raise ValidationError(f"the format sleap-analysis reads poses, found {kind!r}")
        _refuse(options)
        if not str(first_frame).isdigit():
            raise ValidationError(f"first_frame: expected a number from 0, found {first_frame!r}")
        return _read(Path(path), int(first_frame), LossReport() if report is None else report)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        preset: str = "matlab",
        **options: Any,
    ) -> None:
        """Poses with a place for each track in each frame from 0 to the last.

        Parameters
        ----------
        preset
            "matlab", the order of axes that SLEAP writes, or "standard", sleap-io's.

        Raises
        ------
        OutputExistsError
        ValidationError
            Also when a track is twice in a frame, or frames are so far apart that nobody could
            open the file.
        """
        from dpk_io_formats.sleap_analysis_write import write_analysis

        _refuse(options)
        if not isinstance(data, PoseStream):
            raise ValidationError("the format sleap-analysis writes poses only")
        presets = {"matlab": MATLAB, "standard": STANDARD}
        if preset not in presets:
            raise ValidationError(f"preset: expected matlab or standard, found {preset!r}")
        losses = LossReport() if report is None else report
        write_analysis(Path(path), data, losses, preset, presets[preset])


@attrs.frozen
class _Layout:
    """Axes of the arrays, and what else a file says."""

    path: Path
    skeleton: Skeleton
    tracks: tuple[str, ...]
    n_tracks: int
    n_frames: int
    axes: dict[str, tuple[str, ...]]
    provenance: dict[str, Any]
    numbers: np.ndarray


def _read(path: Path, first: int, report: LossReport) -> PoseStream:
    with opened(path) as file:
        layout = _layout(file, path, report)
    numbers = layout.numbers
    names = dict(zip(numbers.tolist(), layout.tracks, strict=False))
    provenance = layout.provenance | with_track_names({i: n for i, n in names.items() if n})
    has_names = bool(layout.tracks) or layout.n_tracks > 1
    counted = False

    def pieces() -> Iterator[Poses]:
        nonlocal counted
        losses = LossReport() if counted else report
        counted = True
        step = max(1, PIECE // max(1, layout.n_tracks))
        for start in range(0, layout.n_frames, step):
            with opened(path) as file:
                block = _block(file, layout, start, min(start + step, layout.n_frames))
            frame, track = np.nonzero(block["present"])
            if not len(frame):
                continue
            keypoints, scores = _checked(block, frame, track, layout, first + start, losses)
            yield Poses(
                keypoints,
                scores,
                layout.skeleton,
                first + start + frame,
                numbers[track] if has_names else np.full(len(track), NO_TRACK),
                provenance,
            )

    return PoseStream(layout.skeleton, pieces, None, provenance)


# -- header ---------------------------------------------------------------------------------------


def _layout(file: h5py.File, path: Path, report: LossReport) -> _Layout:
    nodes = _texts(file, "node_names", path)
    tracks = _texts(file, "track_names", path)
    stored = _numbers(file, "tracks", path, 4)
    axes = _axes(file, stored, len(nodes), len(tracks), path)
    sizes = dict(zip(axes, stored.shape, strict=True))
    if tracks and len(tracks) != sizes["track"]:
        raise FileFormatError(
            f"{path} is damaged: it has {len(tracks)} names of tracks for {sizes['track']} tracks"
        )
    transposed = axes != UNTRANSPOSED
    orders = {"tracks": axes}
    lacking = {
        "point_scores": tuple(a for a in axes if a != "xy"),
        "instance_scores": tuple(a for a in axes if a in ("frame", "track")),
        "tracking_scores": tuple(a for a in axes if a in ("frame", "track")),
        "track_occupancy": ("frame", "track") if transposed else ("track", "frame"),
    }
    for key, default in lacking.items():
        if child(file, key, path) is None:
            continue
        found = _numbers(file, key, path, len(default))
        order = _dims(found, default, path, key)
        if tuple(sizes[a] for a in order) != found.shape:
            raise FileFormatError(
                f"{path} is damaged: {key!r} has the shape {found.shape}, expected "
                f"{tuple(sizes[a] for a in order)} ({', '.join(order)})"
            )
        orders[key] = order
    skeleton = _skeleton(file, nodes, path, report)
    known = {
        *lacking, "tracks", "track_names", "node_names", "edge_names", "edge_inds", "provenance",
        "video_path", "video_ind", "labels_path",
    }  # fmt: skip
    report.add("unknown entries", len(set(map(str, file)) - known), "they are no part of poses")
    return _Layout(
        path, skeleton, tuple(tracks), sizes["track"], sizes["frame"], orders,
        *_provenance(file, path, tracks or [str(i) for i in range(sizes["track"])]),
    )  # fmt: skip


def _texts(file: h5py.File, key: str, path: Path) -> list[str]:
    return [] if dataset(file, key, path).size == 0 else texts(file, key, path)


def _numbers(file: h5py.File, key: str, path: Path, ndim: int) -> h5py.Dataset:
    found = dataset(file, key, path)
    if found.ndim != ndim or found.dtype.kind not in "fiub":
        raise FileFormatError(
            f"{path}: expected {ndim} axes of numbers in {key!r}, found {found.shape} of "
            f"{found.dtype}"
        )
    if found.size * found.dtype.itemsize > max(2**32, 2000 * found.id.get_storage_size()):
        raise FileFormatError(
            f"{path} is damaged: {key!r} should hold {found.shape} numbers, and has "
            f"{found.id.get_storage_size()} bytes"
        )
    return found


def _dims(
    found: h5py.Dataset, default: tuple[str, ...] | None, path: Path, key: str
) -> tuple[str, ...]:
    """Names of the axes as the file says, else the default."""
    if "dims" not in found.attrs:
        return default or ()
    try:
        names = tuple(json.loads(text_of(found.attrs["dims"])))
    except (ValueError, TypeError, RecursionError):
        names = ()
    expected = set(default or MATLAB)
    if len(names) != found.ndim or set(map(str, names)) != expected:
        raise FileFormatError(
            f"{path}: the axes of {key!r} are named {str(names)[:80]}; expected "
            f"{', '.join(sorted(expected))} in any order"
        )
    return names


def _axes(
    file: h5py.File, stored: h5py.Dataset, nodes: int, tracks: int, path: Path
) -> tuple[str, ...]:
    if "dims" in stored.attrs:
        named = _dims(stored, None, path, "tracks")
        candidates = [named]
    else:
        plain = UNTRANSPOSED if not file.attrs.get("transpose", True) else MATLAB
        candidates = [plain, MATLAB, UNTRANSPOSED, STANDARD]
    for axes in candidates:
        sizes = dict(zip(axes, stored.shape, strict=True))
        if (
            sizes["xy"] == 2
            and sizes["node"] == nodes
            and sizes["track"] == (tracks or sizes["track"])
        ):
            return axes
    raise FileFormatError(
        f"{path} is damaged: 'tracks' has the shape {stored.shape}, in which two coordinates of "
        f"{nodes} nodes and {tracks} tracks cannot be found"
    )


def _skeleton(file: h5py.File, nodes: list[str], path: Path, report: LossReport) -> Skeleton:
    """Through sleap-io's class, so that edges and symmetries mean what they do in .slp files."""
    from sleap_io import Skeleton as SleapSkeleton

    from dpk_io_formats.sleap_adapter import from_sleap_skeleton

    if len(set(nodes)) < len(nodes):
        twice = next(name for name in nodes if nodes.count(name) > 1)
        raise SkeletonError(f"{path}: the node {twice!r} stands twice; names must be unique")
    edges: list[Any] = []
    if child(file, "edge_inds", path) is not None and dataset(file, "edge_inds", path).size:
        edges = array(file, "edge_inds", path).tolist()
    symmetries = file.attrs.get("skeleton_symmetries")
    pairs: Any = []
    if symmetries is not None:
        try:
            pairs = json.loads(text_of(symmetries))
        except (ValueError, RecursionError):
            raise FileFormatError(f"{path}: its symmetries are no JSON") from None
    for edge in edges:
        right = isinstance(edge, list) and len(edge) == 2
        if not right or not all(isinstance(i, int) and 0 <= i < len(nodes) for i in edge):
            raise FileFormatError(f"{path}: the edge {edge!s:.80} is not between two nodes")
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and set(map(str, pair)) <= set(nodes)
        for pair in pairs
    ):
        raise FileFormatError(f"{path}: its symmetries are not pairs of its nodes")
    name = text_of(file.attrs.get("skeleton_name", ""))
    found = SleapSkeleton(nodes=list(nodes), edges=edges, symmetries=pairs, name=name)
    return from_sleap_skeleton(found, path, report)


def _provenance(
    file: h5py.File, path: Path, tracks: list[str]
) -> tuple[dict[str, Any], np.ndarray]:
    """Where the poses come from, and the numbers of their tracks."""
    stored: dict[str, Any] = {}
    if child(file, "provenance", path) is not None:
        value = np.ravel(array(file, "provenance", path))
        stored = json_of(text_of(value[0]), "its provenance", path) if value.size == 1 else {}
    video = ""
    if child(file, "video_path", path) is not None:
        names = np.ravel(array(file, "video_path", path))
        video = text_of(names[0]) if names.size else ""
    ours = ours_of_provenance(stored, video.replace("\0", ""), path.parent)
    return ours, numbers_of(tracks, stored)


# -- pieces ---------------------------------------------------------------------------------------


def _block(file: h5py.File, layout: _Layout, start: int, stop: int) -> dict[str, np.ndarray]:
    """Arrays of some frames, in the order of sleap-io's standard."""
    found = {}
    for key, axes in layout.axes.items():
        select = tuple(slice(start, stop) if axis == "frame" else slice(None) for axis in axes)
        order = [axes.index(axis) for axis in STANDARD if axis in axes]
        found[key] = np.transpose(dataset(file, key, layout.path)[select], order)
    xy = found["tracks"] = found["tracks"].astype(np.float64)
    present = ~np.isnan(xy).all(axis=(2, 3))
    if "track_occupancy" in found:
        present |= found["track_occupancy"].astype(bool)
    found["present"] = present
    return found


def _checked(
    block: dict[str, np.ndarray], frame: np.ndarray, track: np.ndarray, layout: _Layout,
    first: int, losses: LossReport,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(n, k, 2) keypoints and (n, k) scores of the rows that are there."""
    xy = block["tracks"][frame, track]
    strange = np.argwhere((np.abs(xy) > FARTHEST).any(axis=2))
    if len(strange):
        i, j = strange[0]
        raise FileFormatError(
            f"{layout.path}: keypoint {layout.skeleton.names[j]!r} of track {track[i]} in frame "
            f"{first + frame[i]} is infinitely far away"
        )
    seen = np.isfinite(xy).all(axis=2)
    scores = np.full(seen.shape, np.nan)
    if "point_scores" in block:
        scores = block["point_scores"][frame, track].astype(np.float64)
    unknown = seen & np.isnan(scores)
    losses.add(
        "labels without a score", int(unknown.sum()), "a person's, or scores are not there; 1 is"
    )
    scores = np.where(seen, np.where(unknown, 1.0, scores), 0.0)
    outside = (scores < 0) | (scores > 1)
    losses.add("scores", int(outside.sum()), "are outside of 0 to 1, and are put to the nearer end")
    scores = np.clip(scores, 0, 1)
    if "instance_scores" in block:
        stored = block["instance_scores"][frame, track].astype(np.float64)
        mean = instance_scores(scores, seen)
        differs = ~(np.abs(stored - mean) <= _CLOSE) & ~np.isnan(stored)
        losses.add(
            "instance scores",
            int(differs.sum()),
            "poses have scores of keypoints; their mean is written instead",
        )
    if "tracking_scores" in block:
        tracking = np.nan_to_num(block["tracking_scores"][frame, track])
        losses.add("tracking scores", int((tracking != 0).sum()), "poses have none")
    return xy.astype(np.float32), scores.astype(np.float32)


def _refuse(options: dict[str, Any]) -> None:
    if options:
        raise ValidationError(f"the format sleap-analysis has no options {', '.join(options)}")
