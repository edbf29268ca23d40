"""Reading poses of an NWB file: times become frames, individuals are merged frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np

from dpk_core.errors import FileFormatError, SkeletonError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.video_paths import file_name, locate
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PIECE, PoseStream
from dpk_io_formats.nwb import find_estimations, read_notes, type_of
from dpk_io_formats.plain_hdf5 import (
    array,
    child,
    dataset,
    is_own,
    link_of,
    opened,
    text_of,
    texts,
)
from dpk_io_formats.sleap_poses import UNNAMED
from dpk_io_formats.sleap_tables import FARTHEST
from dpk_io_formats.tidy import with_track_names

SERIES = "PoseEstimationSeries"
TRACK, UNTRACKED = "track=", "untracked"
_PIXELS = ("pixels", "pixel", "px", "")
_CLOSE = 0.1
"""Of a frame: how far a time may be from a multiple of the step."""


@attrs.frozen(eq=False)
class _Series:
    """One keypoint of one individual."""

    key: str
    frames: np.ndarray
    scale: float
    offset: float


@attrs.frozen(eq=False)
class _Individual:
    """Keypoints of one individual in the order of the skeleton; None where one is not there."""

    frames: np.ndarray
    series: tuple[_Series | None, ...]
    track: int


def read_poses(
    path: Path, report: LossReport, video: str | None, fps: float | None, shift: float
) -> PoseStream:
    """See `NwbFormat.read`; ``shift`` is taken off all coordinates."""
    with opened(path) as file:
        notes = read_notes(file, path)
        groups = _groups(file, path)
    chosen, name = _choose(groups, path, video)
    with opened(path) as file:
        skeleton = _skeleton(file, chosen, path, report)
        noted = notes.get("fps")
        if fps is None and isinstance(noted, (int, float)) and 0 < noted < 1e9:
            fps = float(noted)
        times = {key: _times(file, key, skeleton, path) for key in chosen}
        clock = _Clock(times, fps, path, report)
        tracks = _tracks(chosen, notes)
        individuals = [
            _individual(file, key, skeleton, times[key], clock, tracks[key][0], path, report)
            for key in chosen
        ]
    names = {number: label for number, label in tracks.values() if number != NO_TRACK}
    stored = notes.get("provenance")
    provenance = dict(stored) if isinstance(stored, dict) else {}
    if name not in ("", UNNAMED):
        found = None if "://" in name else locate(name, path.parent)
        provenance["video"] = name if found is None else found.as_posix()
    provenance |= with_track_names(names)
    length = sum(len(individual.frames) for individual in individuals)
    counted = False

    def pieces() -> Iterator[Poses]:
        nonlocal counted
        losses = LossReport() if counted else report
        counted = True
        numbers = np.unique(np.concatenate([i.frames for i in individuals]))
        step = max(1, PIECE // len(individuals))
        for start in range(0, len(numbers), step):
            part = numbers[start : start + step]
            with opened(path) as file:
                yield _piece(
                    file, path, individuals, int(part[0]), int(part[-1]) + 1, skeleton, shift,
                    provenance, losses,
                )  # fmt: skip

    return PoseStream(skeleton, pieces, length, provenance)


# -- what is there --------------------------------------------------------------------------------


def _groups(file: h5py.File, path: Path) -> dict[tuple[str, str], list[str]]:
    """Keys of the individuals, by name of the video and module."""
    groups: dict[tuple[str, str], list[str]] = {}
    for module, name in find_estimations(file, path):
        key = f"processing/{module}/{name}"
        stored = _optional_texts(file[key], "original_videos", path)
        groups.setdefault((stored[0] if stored else "", module), []).append(key)
    return groups


def _choose(
    groups: dict[tuple[str, str], list[str]], path: Path, video: str | None
) -> tuple[list[str], str]:
    """Keys of the individuals of one video, and its name."""
    if not groups:
        raise FileFormatError(f"{path} has no poses; expected a PoseEstimation of ndx-pose")
    labels = [name or module for name, module in groups]
    for (name, module), keys in groups.items():
        if video and video in (name, module, file_name(name)):
            return keys, name
    if video is not None:
        raise ValidationError(f"{path} has no video {video!r}; it has {', '.join(labels)}")
    if len(groups) > 1:
        raise FileFormatError(
            f"{path} has poses in {len(groups)} videos: {', '.join(labels)}; say which to read "
            "with the option video=NAME"
        )
    (name, _), keys = next(iter(groups.items()))
    return keys, name


def _optional_texts(group: h5py.Group, name: str, path: Path) -> list[str]:
    if child(group, name, path) is None or dataset(group, name, path).size == 0:
        return []
    return texts(group, name, path)


def _skeleton(file: h5py.File, keys: Sequence[str], path: Path, report: LossReport) -> Skeleton:
    found = []
    for key in keys:
        group = file[key]
        target = _linked_skeleton(file, group, path)
        names = _optional_texts(target, "nodes", path)
        edges: list[Any] = []
        if child(target, "edges", path) is not None and dataset(target, "edges", path).size:
            edges = array(target, "edges", path).tolist()
        if not names:
            names = [n for n in group if is_own(group, n) and type_of(group[n]) == SERIES]
        found.append((names, edges))
    if any(names != found[0][0] for names, _ in found):
        raise FileFormatError(
            f"{path} has individuals with different keypoints; split the file by skeleton"
        )
    names, edges = found[0]
    for edge in edges:
        right = isinstance(edge, list) and len(edge) == 2
        if not right or not all(isinstance(i, int) and 0 <= i < len(names) for i in edge):
            raise FileFormatError(f"{path}: the edge {edge!s:.80} is not between two keypoints")
    if len(set(names)) < len(names) or not all(names):
        raise SkeletonError(f"{path}: names of keypoints must be unique and not empty: {names}")
    from sleap_io import Skeleton as SleapSkeleton

    from dpk_io_formats.sleap_adapter import from_sleap_skeleton

    return from_sleap_skeleton(SleapSkeleton(nodes=list(names), edges=edges), path, report)


def _linked_skeleton(file: h5py.File, group: h5py.Group, path: Path) -> h5py.Group:
    """The skeleton of an individual; the link to it has the skeleton's own name.

    Before ndx-pose 0.2 nodes and edges stood in the group itself.
    """
    for name in group:
        link = link_of(group, name)
        target = None
        if isinstance(link, h5py.SoftLink):
            target = inside(file, link.path, path)
        elif isinstance(link, h5py.HardLink):
            target = group[name]
        if isinstance(target, h5py.Group) and type_of(target) == "Skeleton":
            return target
    return group


def inside(file: h5py.File, key: str, path: Path) -> Any:
    """What a path in the file leads to without another link; None when nothing."""
    found: Any = file
    for part in filter(None, key.split("/")):
        if not isinstance(found, h5py.Group) or part == "..":
            return None
        found = child(found, part, path)
    return found


def safe_name(name: str) -> str:
    """A name that an object of NWB may have."""
    return name.replace("/", "_").replace(":", "_")


def _tracks(keys: Sequence[str], notes: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Number and name of each individual's track."""
    noted = notes.get("tracks")
    noted = noted if isinstance(noted, dict) else {}
    found: dict[str, tuple[int, str]] = {}
    taken: set[int] = set()
    for key in keys:
        value: Any = noted.get(key.rsplit("/", 1)[1])
        right = isinstance(value, list) and len(value) == 2 and isinstance(value[0], int)
        if right and -1 <= value[0] < 2**31 and value[0] not in taken - {NO_TRACK}:
            found[key] = (value[0], str(value[1]))
            taken.add(value[0])
    for key in keys:
        if key in found:
            continue
        name = key.rsplit("/", 1)[1]
        label = name.removeprefix(TRACK)
        if label == UNTRACKED or (len(keys) == 1 and label == name):
            found[key] = (NO_TRACK, "")
            continue
        number = next(i for i in range(len(keys) + len(taken) + 1) if i not in taken)
        taken.add(number)
        found[key] = (number, label)
    return found


# -- times ----------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class _Times:
    """Seconds of the samples of a series, or its rate and start."""

    seconds: np.ndarray | None
    rate: float
    start: float
    n: int


def _times(
    file: h5py.File, key: str, skeleton: Skeleton, path: Path
) -> dict[str, tuple[str, _Times]]:
    """For each keypoint the key of its series, and its times; shared ones are read once."""
    group = file[key]
    shared: dict[str, _Times] = {}
    found = {}
    series = {name: name for name in group if is_own(group, name)}
    for name in skeleton.names:
        stored = series.get(name, series.get(safe_name(name)))
        if stored is None:
            continue
        item = group[stored]
        if not isinstance(item, h5py.Group) or type_of(item) != SERIES:
            continue
        n = len(dataset(item, "data", path))
        link = link_of(item, "timestamps")
        if link is None:
            start = dataset(item, "starting_time", path)
            rate, first = float(start.attrs.get("rate", 0)), float(start[()])
            if not (0 < rate < 1e9 and np.isfinite(first)):
                raise FileFormatError(f"{path}: {name!r} has a rate of {rate} from {first}")
            found[name] = (f"{key}/{stored}", _Times(None, rate, first, n))
            continue
        place = _target(link, f"{key}/{stored}/timestamps")
        if place not in shared:
            owner, last = place.rsplit("/", 1)
            where = inside(file, owner, path)
            if not isinstance(where, h5py.Group):
                raise FileFormatError(f"{path}: the times of {name!r} are not in the file")
            seconds = array(where, last, path).astype(np.float64)
            if seconds.ndim != 1 or not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
                raise FileFormatError(f"{path}: the times of {name!r} do not rise")
            shared[place] = _Times(seconds, 0.0, 0.0, len(seconds))
        if shared[place].n != n:
            raise FileFormatError(
                f"{path}: {name!r} has {n} positions and {shared[place].n} times; they must agree"
            )
        found[name] = (f"{key}/{stored}", shared[place])
    return found


def _target(link: Any, own: str) -> str:
    """Where data are that may be another series'; a link out of the file is no such place."""
    if isinstance(link, h5py.SoftLink):
        return link.path if link.path.startswith("/") else f"{own.rsplit('/', 1)[0]}/{link.path}"
    return own


class _Clock:
    """Turns seconds into numbers of frames."""

    def __init__(
        self,
        times: dict[str, dict[str, tuple[str, _Times]]],
        fps: float | None,
        path: Path,
        report: LossReport,
    ) -> None:
        self._path = path
        self._known: dict[int, np.ndarray] = {}
        self._ranks: np.ndarray | None = None
        every = list({id(t): t for part in times.values() for _, t in part.values()}.values())
        rates = {t.rate for t in every if t.seconds is None}
        if fps is None and len(rates) > 1:
            raise FileFormatError(
                f"{path} has keypoints of several frame rates: {sorted(rates)}; say which with the "
                "option fps=NUMBER"
            )
        self.fps = fps if fps is not None else next(iter(rates), None)
        if self.fps is None:
            self._guess(every, report)

    def _guess(self, every: Sequence[_Times], report: LossReport) -> None:
        seconds = [t.seconds for t in every if t.seconds is not None]
        moments = np.unique(np.concatenate([np.empty(0), *seconds]))
        report.add(
            "frame numbers", len(moments), "are guessed from the times; say the rate with fps"
        )
        steps = np.diff(moments)
        step = float(steps.min()) if len(steps) else 1.0
        numbers = moments / step
        if np.abs(numbers - np.rint(numbers)).max(initial=0) <= _CLOSE and numbers.min() > -0.5:
            self.fps = 1 / step
        else:
            self._ranks = moments

    def frames(self, times: _Times, what: str) -> np.ndarray:
        """(n,) rising numbers of frames."""
        if id(times) in self._known:
            return self._known[id(times)]
        if times.seconds is None:
            assert self.fps is not None
            moments = times.start + np.arange(times.n) / times.rate
            numbers = np.rint(moments * self.fps)
        elif self._ranks is not None:
            numbers = np.searchsorted(self._ranks, times.seconds).astype(np.float64)
        else:
            assert self.fps is not None
            numbers = np.rint(times.seconds * self.fps)
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= 2**62):
            raise FileFormatError(f"{self._path}: {what} has times before the video began")
        frames = numbers.astype(np.int64)
        if (np.diff(frames) <= 0).any():
            i = int(np.flatnonzero(np.diff(frames) <= 0)[0])
            raise FileFormatError(
                f"{self._path}: {what} has two positions in frame {frames[i]} at {self.fps:g} "
                "frames a second; say the right rate with the option fps=NUMBER"
            )
        self._known[id(times)] = frames
        return frames


def _individual(
    file: h5py.File,
    key: str,
    skeleton: Skeleton,
    times: dict[str, tuple[str, _Times]],
    clock: _Clock,
    track: int,
    path: Path,
    report: LossReport,
) -> _Individual:
    series: list[_Series | None] = []
    for name in skeleton.names:
        if name not in times:
            series.append(None)
            continue
        place, when = times[name]
        data = dataset(file[place], "data", path)
        if data.ndim != 2 or data.shape[1] != 2 or data.dtype.kind not in "fiu":
            raise FileFormatError(
                f"{path}: expected x and y in {place!r}, found {data.shape} of {data.dtype}"
            )
        if data.size * data.dtype.itemsize > max(2**30, 2000 * data.id.get_storage_size()):
            raise FileFormatError(f"{path} is damaged: {place!r} has no data")
        unit = text_of(data.attrs.get("unit", ""))
        if unit.lower() not in _PIXELS:
            raise FileFormatError(f"{path}: {place!r} is in {unit[:40]!r}, not in pixels")
        scale, offset = (float(data.attrs.get(a, d)) for a, d in (("conversion", 1), ("offset", 0)))
        series.append(_Series(place, clock.frames(when, f"{key}, {name!r}"), scale, offset))
    report.add("keypoints", series.count(None), "the file has no positions of them")
    own = {id(s.frames): s.frames for s in series if s is not None}
    frames = next(iter(own.values())) if len(own) == 1 else np.unique(
        np.concatenate([np.empty(0, np.int64), *own.values()])
    )  # fmt: skip
    return _Individual(frames, tuple(series), track)


# -- pieces ---------------------------------------------------------------------------------------


def _piece(
    file: h5py.File,
    path: Path,
    individuals: Sequence[_Individual],
    first: int,
    stop: int,
    skeleton: Skeleton,
    shift: float,
    provenance: dict[str, Any],
    losses: LossReport,
) -> Poses:
    """All individuals in some frames, in the order of the frames."""
    keypoints, scores, frames, tracks = [], [], [], []
    for individual in individuals:
        low, high = np.searchsorted(individual.frames, [first, stop])
        own = individual.frames[low:high]
        xy, score = (
            np.full((len(own), len(skeleton), 2), np.nan),
            np.zeros((len(own), len(skeleton))),
        )
        for j, series in enumerate(individual.series):
            if series is None:
                continue
            a, b = np.searchsorted(series.frames, [first, stop])
            at = np.searchsorted(own, series.frames[a:b])
            group = file[series.key]
            xy[at, j] = dataset(group, "data", path)[a:b] * series.scale + series.offset
            score[at, j] = _confidence(group, path, int(a), int(b), losses)
        keypoints.append(xy)
        scores.append(score)
        frames.append(own)
        tracks.append(np.full(len(own), individual.track))
    merged = np.concatenate(frames)
    order = np.argsort(merged, kind="stable")
    xy = np.concatenate(keypoints)[order]
    infinite = (np.abs(xy) > FARTHEST).any(axis=2)
    if infinite.any():
        i, j = np.argwhere(infinite)[0]
        raise FileFormatError(
            f"{path}: keypoint {skeleton.names[j]!r} in frame {merged[order][i]} is infinitely far "
            "away"
        )
    score = np.where(np.isnan(xy).any(axis=2), 0, np.concatenate(scores)[order])
    unknown = np.isnan(score)
    losses.add("scores", int(unknown.sum()), "are not there; 1 is")
    outside = (score < 0) | (score > 1)
    losses.add("scores", int(outside.sum()), "are outside of 0 to 1, and are put to the nearer end")
    score = np.clip(np.where(unknown, 1, score), 0, 1)
    return Poses(
        (xy - shift).astype(np.float32), score.astype(np.float32), skeleton, merged[order],
        np.concatenate(tracks)[order], provenance,
    )  # fmt: skip


def _confidence(group: h5py.Group, path: Path, a: int, b: int, losses: LossReport) -> np.ndarray:
    if child(group, "confidence", path) is None:
        return np.full(b - a, np.nan)
    stored = dataset(group, "confidence", path)
    if stored.ndim != 1 or stored.dtype.kind not in "fiu" or len(stored) < b:
        raise FileFormatError(f"{path} is damaged: confidences of {group.name!r} do not fit")
    return stored[a:b].astype(np.float64)
