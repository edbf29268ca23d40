"""Writing movement's netCDF files; `dpk_io_formats.movement` says how they look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np

from dpk_core.errors import MissingDependencyError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK
from dpk_core.services.storage.hdf5 import to_json
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats import tidy
from dpk_io_formats.mot import upright_boxes, with_position

DIMS = {
    "poses": ("time", "space", "keypoints", "individuals"),
    "bboxes": ("time", "space", "individuals"),
}
"""Of ``position`` by ``ds_type``; the other variables have some of them in the same order."""

_CHUNK = 2**18
_SPARSE, _SHORT = 50, 2_000_000


@attrs.define
class _Extent:
    """Which frames and individuals there are."""

    rows: int = 0
    first: int | None = None
    last: int = -1
    ids: set[int] = attrs.field(factory=set)
    untracked: int = 0
    _last_counts: dict[int, int] = attrs.field(factory=dict)

    def add(self, frames: np.ndarray, ids: np.ndarray) -> None:
        if not len(frames):
            return
        self.rows += len(frames)
        low, high = int(frames.min()), int(frames.max())
        self.first = low if self.first is None else min(self.first, low)
        self.last = max(self.last, high)
        self.ids.update(np.unique(ids[ids != NO_TRACK]).tolist())
        numbers, counts = np.unique(frames[ids == NO_TRACK], return_counts=True)
        found = {
            int(f): int(c) + self._last_counts.get(int(f), 0)
            for f, c in zip(numbers, counts, strict=True)
        }
        self.untracked = max([self.untracked, *found.values()])
        if len(numbers):
            self._last_counts = {int(numbers[-1]): found[int(numbers[-1])]}


def write_poses(
    path: Path, stream: PoseStream, rate: float | None, report: LossReport | None
) -> None:
    """A dataset of poses; the stream is read twice, first for its frames and individuals."""
    extent = _Extent()
    for piece in stream:
        there = np.isfinite(piece.keypoints).all(axis=2).any(axis=1)
        extent.add(piece.frames[there], piece.track_ids[there])
    plan = _plan(extent, stream.provenance, report)
    k = len(stream.skeleton)
    with _create(path, "poses", plan, rate, stream.provenance, stream.skeleton) as file:
        variables = [file["position"], file["confidence"]]
        writer = _BlockWriter(variables, [(2, k, plan.width), (k, plan.width)], plan)
        for piece in stream:
            piece = tidy.without_infinite(piece, report)
            there = ~np.isnan(piece.keypoints).any(axis=2).all(axis=1)
            if report is not None:
                why = "movement has no rows, and one without coordinates is as if it were not there"
                report.add("rows", int((~there).sum()), why)
            found = piece[there]
            confidence = np.where(np.isnan(found.keypoints[..., 0]), np.nan, found.scores)
            values = [found.keypoints.transpose(0, 2, 1), confidence]
            writer.add(found.frames, found.track_ids, values)


def write_tracks(path: Path, data: Tracks, rate: float | None, report: LossReport | None) -> None:
    """A dataset of the upright boxes around the animals."""
    tracks = with_position(data, report)
    width, height = upright_boxes(tracks, report)
    if report is not None:
        report.add("interpolations", int(tracks.interpolated.sum()), "movement does not say")
    extent = _Extent()
    extent.add(tracks.frame, tracks.id)
    plan = _plan(extent, tracks.provenance, report)
    with _create(path, "bboxes", plan, rate, tracks.provenance, None) as file:
        variables = [file["position"], file["shape"], file["confidence"]]
        writer = _BlockWriter(variables, [(2, plan.width), (2, plan.width), (plan.width,)], plan)
        values = [
            np.stack([tracks.x, tracks.y], axis=1),
            np.stack([width, height], axis=1),
            tracks.score,
        ]
        writer.add(tracks.frame, tracks.id, values)


@attrs.frozen
class _Plan:
    """The axes of a file: frames from ``first`` on, and a place for each individual."""

    first: int
    length: int
    ids: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.ids)


def _plan(extent: _Extent, provenance: dict[str, Any], report: LossReport | None) -> _Plan:
    stored = provenance.get("frame_range")
    first, last = (0, -1) if extent.first is None else (extent.first, extent.last)
    if (
        isinstance(stored, (list, tuple))
        and len(stored) == 2
        and all(isinstance(edge, int) for edge in stored)
    ):
        first, last = (min(first, stored[0]), max(last, stored[1])) if extent.rows else stored
    length = max(0, last - first + 1)
    if length > _SPARSE * extent.rows + _SHORT:
        raise ValidationError(
            f"movement needs an entry for every frame; {extent.rows} rows from frame {first} to "
            f"{last} would leave nearly all of them empty; see whether a frame number is wrong"
        )
    names = tidy.track_names(provenance)
    ids = sorted(extent.ids | set(names))
    texts: list[str] = []
    for i in ids:
        name = names.get(i, f"id_{i}")
        texts.append(name if name not in texts else f"{name} ({i})")
    for slot in range(extent.untracked or (0 if ids else 1)):
        texts.append(f"individual_{slot}")
    if len(set(texts)) < len(texts):
        texts = [f"{text} ({n})" if texts.count(text) > 1 else text for n, text in enumerate(texts)]
    if report is not None and extent.untracked > 1:
        why = "several in a frame have no identity, and become individuals by their order in it"
        report.add("identities", extent.untracked, why)
    slots = [NO_TRACK] * (len(texts) - len(ids))
    return _Plan(first, length, (*ids, *slots), tuple(texts))


def _create(
    path: Path,
    ds_type: str,
    plan: _Plan,
    rate: float | None,
    provenance: dict[str, Any],
    skeleton: Skeleton | None,
) -> Any:
    try:
        import h5netcdf
    except ImportError:
        raise MissingDependencyError(
            "movement's files need h5netcdf; install it with: python -m pip install "
            "'dpk-io-formats[movement]'"
        ) from None
    dims = DIMS[ds_type]
    dtype = np.dtype(np.float32 if skeleton is not None else np.float64)
    sizes = {"time": plan.length, "space": 2, "individuals": plan.width}
    texts = {"space": ("x", "y"), "individuals": plan.names}
    stored: dict[str, Any] = {"version": 1, "ids": list(plan.ids), "provenance": provenance}
    if skeleton is not None:
        sizes["keypoints"] = len(skeleton)
        texts["keypoints"] = skeleton.names
        stored["skeleton"] = skeleton.to_array().tolist()
    text = to_json(stored)
    file = h5netcdf.File(path, "w")
    try:
        file.dimensions = {dim: sizes[dim] for dim in dims}
        time = np.arange(plan.first, plan.first + plan.length, dtype=np.int64)
        file.create_variable("time", ("time",), data=time if rate is None else time / rate)
        for name, values in texts.items():
            variable = file.create_variable(name, (name,), h5py.string_dtype())
            variable[...] = np.array(values, object)
        for name, own in _variables(dims).items():
            shape = tuple(sizes[dim] for dim in own)
            rest = max(1, int(np.prod(shape[1:])))
            chunks = (max(1, min(max(1, shape[0]), _CHUNK // rest)), *shape[1:])
            options = {"chunks": chunks, "fletcher32": True} if shape[0] else {}
            file.create_variable(name, own, dtype, fillvalue=dtype.type(np.nan), **options)
        file.attrs["source_software"] = str(provenance.get("source_software", "dpk"))
        file.attrs["ds_type"] = ds_type
        file.attrs["time_unit"] = "frames" if rate is None else "seconds"
        if rate is not None:
            file.attrs["fps"] = rate
        file.attrs["dpk"] = text
    except BaseException:
        file.close()
        raise
    return file


def _variables(dims: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    found = {"position": dims, "confidence": (dims[0], *dims[2:])}
    return found if "keypoints" in dims else {**found, "shape": dims}


class _BlockWriter:
    """Puts rows at their places, some frames at a time."""

    def __init__(self, variables: list[Any], shapes: list[tuple[int, ...]], plan: _Plan) -> None:
        self._variables = variables
        self._shapes = shapes
        self._plan = plan
        self._step = max(1, _CHUNK // max(1, int(np.prod(shapes[0]))))
        self._done = plan.first
        self._slots = {track: slot for slot, track in enumerate(plan.ids) if track != NO_TRACK}
        self._free = [slot for slot, track in enumerate(plan.ids) if track == NO_TRACK]

    def add(self, frames: np.ndarray, ids: np.ndarray, values: list[np.ndarray]) -> None:
        order = np.argsort(frames, kind="stable")
        frames, ids, values = frames[order], ids[order], [v[order] for v in values]
        at = 0
        while at < len(frames):
            start = int(frames[at])
            stop = int(np.searchsorted(frames, start + self._step))
            rows = slice(at, stop)
            self._put(start, frames[rows], ids[rows], [v[rows] for v in values])
            at = stop

    def _put(
        self, start: int, frames: np.ndarray, ids: np.ndarray, values: list[np.ndarray]
    ) -> None:
        length = int(frames[-1]) - start + 1
        begin = start - self._plan.first
        whole = slice(begin, begin + length)
        before = start < self._done
        blocks = [
            np.asarray(variable[whole]) if before else np.full((length, *shape), np.nan)
            for variable, shape in zip(self._variables, self._shapes, strict=True)
        ]
        taken = ~np.isnan(blocks[0]).reshape(length, -1, self._plan.width).all(axis=1)
        t = frames - start
        slots = self._places(t, ids, taken)
        twice = taken[t, slots]
        pairs = t * self._plan.width + slots
        repeated = np.ones(len(pairs), bool)
        repeated[np.unique(pairs, return_index=True)[1]] = False
        if (twice | repeated).any():
            i = int(np.argmax(twice | repeated))
            raise ValidationError(
                f"movement: the track {ids[i]} stands twice in frame {frames[i]}; an individual "
                "has one pose in a frame; keep one of them"
            )
        for variable, block, value in zip(self._variables, blocks, values, strict=True):
            block[t, ..., slots] = value
            variable[whole] = block.astype(variable.dtype)
        self._done = max(self._done, start + length)

    def _places(self, t: np.ndarray, ids: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """The slot of each row; those of no track take the next free one in their frame."""
        slots = np.empty(len(ids), np.int64)
        for track in np.unique(ids):
            if track != NO_TRACK:
                slots[ids == track] = self._slots[int(track)]
        loose = np.flatnonzero(ids == NO_TRACK)
        if len(loose):
            own = t[loose]
            rank = np.arange(len(own)) - np.searchsorted(own, own)
            rank += taken[:, self._free].sum(axis=1)[own]
            if rank.max() >= len(self._free):
                raise ValidationError(
                    "movement: rows without a track must be in the order of their frames"
                )
            slots[loose] = np.array(self._free)[rank]
        return slots
