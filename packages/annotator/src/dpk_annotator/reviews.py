"""Looking through a model's poses of a video: how sure, how fast, who is who."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_annotator.films import POSES_SUFFIX, Films
from dpk_annotator.store import ReadOnlyError, Store
from dpk_core.errors import DpkError, ValidationError
from dpk_core.poses import Poses
from dpk_core.services.storage import exchange_tracks, read_poses
from dpk_core.services.suggestions import speed

MOST_FRAMES, MOST_BINS = 500, 4000

Exchange = tuple[int, int, int]
"""The first frame of it, and the two individuals."""


@attrs.frozen
class Review:
    """A file of poses that the page may ask for, by its number."""

    number: int
    path: Path


@attrs.frozen(eq=False)
class _Loaded:
    stamp: tuple[int, int]
    poses: Poses
    speed: np.ndarray


class Reviews:
    """Files of poses of a set's videos; one at a time is held in memory. Thread-safe."""

    def __init__(self, store: Store, films: Films) -> None:
        self._store = store
        self._films = films
        self._lock = threading.Lock()
        self._numbers: dict[str, Review] = {}
        self._loaded: tuple[int, _Loaded] | None = None
        self._exchanging = threading.Lock()

    def all(self) -> list[Review]:
        """Every file of poses where videos are looked for; numbers stay while the server runs."""
        found = self._films.places.files((POSES_SUFFIX,))
        with self._lock:
            for path in found:
                self._numbers.setdefault(str(path), Review(len(self._numbers), path))
            return [one for one in self._numbers.values() if os.path.exists(one.path)]

    def get(self, number: int) -> Review:
        """A file by its number; ValidationError when there is none."""
        for one in self.all():
            if one.number == number:
                return one
        raise ValidationError(f"there are no poses {number}")

    def describe_all(self, video: int | None = None) -> list[dict[str, Any]]:
        """Each file by `describe`; with ``video`` those of that one alone, and broken ones.

        The others are then not read whole, which takes long where there are many.
        """
        described = (self.describe(one, video) for one in self.all())
        return [one for one in described if one is not None]

    def describe(self, review: Review, video: int | None = None) -> dict[str, Any] | None:
        """Name, video, frames, individuals; a text instead where the file cannot be read.

        None where ``video`` is given and the poses are of another one.
        """
        known: dict[str, Any] = {"id": review.number, "name": review.path.name}
        try:
            film = self._films.of_poses(review.path)
            if video is not None and (film is None or film.number != video):
                return None
            poses = self._load(review).poses
        except DpkError as error:
            return {**known, "error": str(error)}
        return {
            **known,
            "video": None if film is None else film.number,
            "n_frames": int(poses.frames.max() + 1) if len(poses) else 0,
            "individuals": [int(i) for i in np.unique(poses.track_ids)],
            "called": individual_names(poses),
            "names": list(poses.skeleton.names),
            "parents": list(poses.skeleton.parent),
            "swaps": list(poses.skeleton.swap),
            "exchanges": [list(one) for one in noted_exchanges(poses)],
            "error": None,
        }

    def columns(
        self, review: Review, bins: int, start: int = 0, stop: int | None = None
    ) -> dict[str, Any]:
        """For a timeline: in each bin of frames the lowest mean score and the highest speed.

        Of frames start <= i < stop, all by default. Speed is that of the fastest keypoint, in
        pixels a frame; None where nothing is known.
        """
        loaded = self._load(review)
        poses = loaded.poses
        last = int(poses.frames.max()) + 1 if len(poses) else 0
        stop = last if stop is None else min(stop, last)
        if stop <= start:
            empty: dict[str, Any] = {"confidence": [], "speed": []}
            return {"start": start, "bins": 0, "frames_per_bin": 1, **empty}
        width = -(-(stop - start) // max(1, min(bins, stop - start, MOST_BINS)))
        bins = -(-(stop - start) // width)
        rows = np.flatnonzero((poses.frames >= start) & (poses.frames < stop))
        place = (poses.frames[rows] - start) // width
        lowest = np.full(bins, np.inf)
        np.minimum.at(lowest, place, poses.scores[rows].mean(axis=1))
        fastest = np.full(bins, -np.inf)
        known = np.isfinite(loaded.speed[rows])
        np.maximum.at(fastest, place[known], loaded.speed[rows][known])
        return {
            "start": start,
            "bins": bins,
            "frames_per_bin": width,
            "confidence": _rounded(lowest, 3),
            "speed": _rounded(fastest, 2),
        }

    def frames(self, review: Review, start: int, stop: int) -> dict[str, Any]:
        """All individuals of frames start <= i < stop: ``[frame, track, [[x, y, score], ...]]``."""
        if not 0 <= start <= stop:
            raise ValidationError(
                f"start, stop: expected 0 <= start <= stop, found {start} and {stop}"
            )
        stop = min(stop, start + MOST_FRAMES)
        poses = self._load(review).poses
        rows = np.flatnonzero((poses.frames >= start) & (poses.frames < stop))
        found = []
        for row in rows[np.argsort(poses.frames[rows], kind="stable")]:
            points = np.column_stack([poses.keypoints[row], poses.scores[row]])
            found.append(
                [
                    int(poses.frames[row]),
                    int(poses.track_ids[row]),
                    [
                        [None if np.isnan(v) else round(float(v), 2) for v in point]
                        for point in points
                    ],
                ]
            )
        return {"start": start, "stop": stop, "rows": found}

    def exchange(
        self, review: Review, frame: int, first: int, second: int, *, back: bool = False
    ) -> int:
        """Exchange two individuals from a frame on, in the file; see `exchange_tracks`.

        With ``back`` it takes back an exchange, which must be the last one of `exchanges`: one
        before it cannot be undone without those that came after.
        """
        if self._store.read_only:
            raise ReadOnlyError(f"{review.path.name} is shown for looking only")
        with self._exchanging:
            if back:
                last = next(reversed(self.exchanges(review)), None)
                if last is None or not _same(last, (frame, first, second)):
                    raise ValidationError(
                        f"{review.path.name}: the last exchange there is {_named(last)}, not"
                        f" {_named((frame, first, second))}; another program may have changed it"
                    )
            return exchange_tracks(review.path, frame, first, second)

    def exchanges(self, review: Review) -> list[Exchange]:
        """As `noted_exchanges`, of the file as it is now."""
        return noted_exchanges(self._load(review).poses)

    # -- small parts ------------------------------------------------------------------------------

    def _load(self, review: Review) -> _Loaded:
        with self._lock:
            stamp = _stamp(review.path)
            if self._loaded is not None and self._loaded[0] == review.number:
                loaded = self._loaded[1]
                if loaded.stamp == stamp:
                    return loaded
            poses = read_poses(review.path)
            each = speed(poses.keypoints, poses.frames, poses.track_ids)
            known = np.isfinite(each)
            fastest = np.where(known, each, -np.inf).max(axis=1, initial=-np.inf)
            fastest[~known.any(axis=1)] = np.nan
            loaded = _Loaded(stamp, poses, fastest)
            self._loaded = (review.number, loaded)
            return loaded


def standing(done: Iterable[Exchange]) -> list[Exchange]:
    """What is left of exchanges when each one that repeats the one before it takes that back.

    >>> standing([(5, 0, 1), (9, 1, 2), (9, 2, 1)])
    [(5, 0, 1)]
    """
    left: list[Exchange] = []
    for one in done:
        if left and _same(left[-1], one):
            left.pop()
        else:
            left.append(one)
    return left


def _same(one: Exchange, other: Exchange) -> bool:
    return one[0] == other[0] and {one[1], one[2]} == {other[1], other[2]}


def individual_names(poses: Poses) -> dict[str, str]:
    """Names of individuals by their number, of those that have any."""
    names = poses.provenance.get("track_names")
    return {str(key): str(name) for key, name in names.items()} if isinstance(names, dict) else {}


def noted_exchanges(poses: Poses) -> list[Exchange]:
    """Exchanges that a file of poses notes and nobody has taken back, the latest last."""
    noted = poses.provenance.get("exchanges", [])
    sound = isinstance(noted, list) and all(
        isinstance(one, list) and len(one) == 3 and all(type(v) is int for v in one)
        for one in noted
    )
    return standing((one[0], one[1], one[2]) for one in noted) if sound else []


def _named(one: Exchange | None) -> str:
    return "none" if one is None else f"of {one[1]} and {one[2]} from frame {one[0]} on"


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


def _rounded(values: np.ndarray, digits: int) -> list[float | None]:
    return [round(float(v), digits) if np.isfinite(v) else None for v in values]
