"""Writing SLEAP's analysis files, whose arrays are filled as the poses come."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dpk_core.errors import OutputExistsError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.streams import PoseStream
from dpk_io_formats.sleap_adapter import to_sleap_skeleton
from dpk_io_formats.sleap_poses import instance_scores
from dpk_io_formats.sleap_poses_write import sleap_provenance, video_reference
from dpk_io_formats.sleap_track_numbers import note_numbers
from dpk_io_formats.tidy import track_names, without_infinite

_WINDOW = 2048
"""Frames in a chunk, of one track."""

_BUFFER_BYTES = 64 * 2**20
_MOST_EMPTY = 1000
"""Places that may be empty for each one that is filled; beyond that, frames are far apart."""


def write_analysis(
    path: Path, stream: PoseStream, report: LossReport, preset: str, axes: tuple[str, ...]
) -> None:
    """See `SleapAnalysisFormat.write`."""
    if path.exists():
        raise OutputExistsError(f"{path} exists already; choose another name")
    names = track_names(stream.provenance)
    slots = Slots(sorted(names))
    skeleton = to_sleap_skeleton(stream.skeleton, report)
    with h5py.File(path, "w") as file:
        arrays = _Arrays(file, axes, len(stream.skeleton))
        n_rows = n_frames = 0
        for given in stream:
            piece = without_infinite(given, report)
            if not len(piece):
                continue
            if piece.frames.min() < 0:
                raise ValidationError("SLEAP counts frames from 0, found a negative number")
            n_rows += len(piece)
            n_frames = max(n_frames, int(piece.frames.max()) + 1)
            _check_density(n_frames, n_rows)
            arrays.add(piece, slots.of(piece))
        stated = stream.provenance.get("n_frames")
        if isinstance(stated, int) and n_frames < stated:
            n_frames = stated if stated <= max(10**7, _MOST_EMPTY * n_rows) else n_frames
        arrays.finish(n_frames, slots.count)
        report.add(
            "rows without a track",
            slots.untracked if slots.count > 1 else 0,
            "are given one by their order in the frame",
        )
        tracks = slots.names(names)
        _write_texts(file, "track_names", tracks)
        _write_texts(file, "node_names", list(stream.skeleton.names))
        edges = [(e.source.name, e.destination.name) for e in skeleton.edges]
        flat = [name for edge in edges for name in edge]
        data = np.array([name.encode() for name in flat], dtype=_fixed(flat)).reshape(-1, 2)
        file.create_dataset("edge_names", data=data)
        file.create_dataset("edge_inds", data=np.array(skeleton.edge_inds, int).reshape(-1, 2))
        video = stream.provenance.get("video")
        file["labels_path"] = ""
        file["video_path"] = video_reference(video, path.parent)[0] if video else ""
        file["video_ind"] = 0
        provenance = sleap_provenance(stream.provenance, report)
        if tracks:
            provenance = note_numbers(provenance, tracks, slots.numbers, report)
        file["provenance"] = json.dumps(provenance)
        file.attrs.update(
            preset=preset, format="analysis", skeleton_name=skeleton.name,
            skeleton_symmetries=json.dumps(skeleton.symmetry_names), video_backend_metadata="{}",
        )  # fmt: skip


def _check_density(n_frames: int, n_rows: int) -> None:
    if n_frames > max(10**7, _MOST_EMPTY * n_rows):
        raise ValidationError(
            f"SLEAP's analysis files have a place for each frame; of {n_frames} frames, {n_rows} "
            "have poses; write another format"
        )


def _fixed(names: list[str]) -> str:
    return f"S{max([1, *(len(name.encode()) for name in names)])}"


def _write_texts(file: h5py.File, key: str, names: list[str]) -> None:
    data = np.array([name.encode() for name in names], dtype=_fixed(names))
    file.create_dataset(key, data=data)


class Slots:
    """Which place along the axis of tracks a row gets: tracks first, those without one after."""

    def __init__(self, ids: list[int]) -> None:
        self._slot = {number: i for i, number in enumerate(ids)}
        self._counts = np.zeros(0, np.int16)
        self._free: list[int] = []  # slots for rows without a track, first to last in a frame
        self.untracked = 0

    @property
    def count(self) -> int:
        return len(self._slot) + len(self._free)

    @property
    def numbers(self) -> list[int]:
        """The id of each slot's track."""
        found = [NO_TRACK] * self.count
        for number, slot in self._slot.items():
            found[slot] = number
        return found

    def of(self, piece: Poses) -> np.ndarray:
        """(n,) slots of the rows; every piece of a stream is asked for once, in order."""
        for number in np.unique(piece.track_ids):
            if number != NO_TRACK:
                self._slot.setdefault(int(number), self.count)
        lone = piece.track_ids == NO_TRACK
        slots = np.array([self._slot.get(int(i), -1) for i in piece.track_ids], np.int64)
        if lone.any():
            self.untracked += int(lone.sum())
            places = self._places(piece.frames[lone])
            while len(self._free) <= places.max():
                self._free.append(self.count)
            slots[lone] = np.array(self._free)[places]
        return slots

    def _places(self, frames: np.ndarray) -> np.ndarray:
        """How many rows without a track came before in the same frame."""
        if frames.max() >= len(self._counts):
            grown = np.zeros(int(frames.max()) + 1 + len(self._counts) // 2, np.int16)
            grown[: len(self._counts)] = self._counts
            self._counts = grown
        order = np.argsort(frames, kind="stable")
        unique, starts, counts = np.unique(frames[order], return_index=True, return_counts=True)
        places = np.empty(len(frames), np.int64)
        places[order] = np.arange(len(frames)) - np.repeat(starts, counts)
        places += self._counts[frames]
        self._counts[unique] += counts.astype(np.int16)
        return places

    def names(self, given: dict[int, str]) -> list[str]:
        """Of all slots; none when there is one animal without a track."""
        if not self._slot and len(self._free) <= 1:
            return []
        found = [""] * self.count
        for number, slot in self._slot.items():
            found[slot] = given.get(number, f"track_{number}")
        for i, slot in enumerate(self._free):
            found[slot] = f"untracked_{i}" if self._slot else f"track_{i}"
        return found


class _Arrays:
    """The arrays of a file, which grow in frames and tracks; windows of frames wait in memory."""

    def __init__(self, file: h5py.File, axes: tuple[str, ...], k: int) -> None:
        self._k = k
        pair = tuple(axis for axis in axes if axis in ("frame", "track"))
        layouts: dict[str, tuple[tuple[str, ...], Any, float]] = {
            "tracks": (axes, np.float64, np.nan),
            "point_scores": (tuple(a for a in axes if a != "xy"), np.float64, np.nan),
            "instance_scores": (pair, np.float64, np.nan),
            "tracking_scores": (pair, np.float64, np.nan),
            # In SLEAP's own order this one has the frames first, unlike all others.
            "track_occupancy": (("frame", "track"), np.uint8, 0),
        }
        size = {"frame": 0, "track": 0, "node": k, "xy": 2}
        most = {"frame": None, "track": None, "node": k, "xy": 2}
        chunk = {"frame": _WINDOW, "track": 1, "node": k, "xy": 2}
        self._stored, self._axes = {}, {}
        for key, (order, kind, fill) in layouts.items():
            self._axes[key] = order
            self._stored[key] = file.create_dataset(
                key, [size[a] for a in order], kind, maxshape=[most[a] for a in order],
                chunks=tuple(chunk[a] for a in order), fillvalue=fill, compression="gzip",
                compression_opts=1, shuffle=True,
            )  # fmt: skip
            self._stored[key].attrs["dims"] = json.dumps(order)
        self._waiting: OrderedDict[tuple[int, int], dict[str, np.ndarray]] = OrderedDict()
        self._written: set[tuple[int, int]] = set()
        self._most = max(8, _BUFFER_BYTES // (_WINDOW * (24 * k + 24)))

    def add(self, piece: Poses, slots: np.ndarray) -> None:
        seen = np.isfinite(piece.keypoints).all(axis=2)
        mean = instance_scores(piece.scores, seen)
        scores = np.where(seen, piece.scores, np.nan)
        window = piece.frames // _WINDOW
        order = np.lexsort((piece.frames, window, slots))
        keys = np.stack([slots[order], window[order]], axis=1)
        breaks = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
        for rows in np.split(order, breaks):
            slot, number = int(slots[rows[0]]), int(window[rows[0]])
            buffer = self._buffer(slot, number)
            at = piece.frames[rows] - number * _WINDOW
            repeated = (np.diff(at) == 0).any() or buffer["track_occupancy"][at].any()
            if repeated:
                sorted_at = np.sort(at)
                twice = at[buffer["track_occupancy"][at] > 0]
                first = (
                    twice[0]
                    if len(twice)
                    else sorted_at[np.flatnonzero(np.diff(sorted_at) == 0)[0]]
                )
                raise ValidationError(
                    f"frame {first + number * _WINDOW} has the track {piece.track_ids[rows[0]]} "
                    "twice; SLEAP's analysis files have one place for it"
                )
            buffer["tracks"][at] = piece.keypoints[rows]
            buffer["point_scores"][at] = scores[rows]
            buffer["instance_scores"][at] = mean[rows]
            buffer["tracking_scores"][at] = 0
            buffer["track_occupancy"][at] = 1

    def finish(self, n_frames: int, n_tracks: int) -> None:
        """Write what waits, and give all arrays their size."""
        while self._waiting:
            self._flush()
        for key, stored in self._stored.items():
            sizes = {"frame": n_frames, "track": n_tracks, "node": self._k, "xy": 2}
            stored.resize([sizes[a] for a in self._axes[key]])

    def _buffer(self, slot: int, window: int) -> dict[str, np.ndarray]:
        key = (slot, window)
        if key in self._waiting:
            self._waiting.move_to_end(key)
            return self._waiting[key]
        while len(self._waiting) >= self._most:
            self._flush()
        n, k = _WINDOW, self._k
        buffer = {
            "tracks": np.full((n, k, 2), np.nan),
            "point_scores": np.full((n, k), np.nan),
            "instance_scores": np.full(n, np.nan),
            "tracking_scores": np.full(n, np.nan),
            "track_occupancy": np.zeros(n, np.uint8),
        }
        if key in self._written:
            for name, block in buffer.items():
                select, order = self._place(name, slot, window)
                block[:] = self._stored[name][select].transpose(np.argsort(order))
        self._waiting[key] = buffer
        return buffer

    def _flush(self) -> None:
        (slot, window), buffer = self._waiting.popitem(last=False)
        self._written.add((slot, window))
        for name, block in buffer.items():
            stored, axes = self._stored[name], self._axes[name]
            need = {"frame": (window + 1) * _WINDOW, "track": slot + 1, "node": self._k, "xy": 2}
            stored.resize([max(n, need[a]) for n, a in zip(stored.shape, axes, strict=True)])
            select, order = self._place(name, slot, window)
            stored[select] = block.transpose(order)

    def _place(self, name: str, slot: int, window: int) -> tuple[tuple[Any, ...], list[int]]:
        """Where a block (frame, node, xy) lies, and how its axes are to be ordered there."""
        axes = self._axes[name]
        frames = slice(window * _WINDOW, (window + 1) * _WINDOW)
        select = tuple(
            frames if a == "frame" else slot if a == "track" else slice(None) for a in axes
        )
        kept = [a for a in axes if a != "track"]
        return select, [("frame", "node", "xy").index(a) for a in kept]
