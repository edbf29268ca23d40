"""Track a video: detect, associate, mend; stopped at any moment, it carries on."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core import __version__
from dpk_core.detections import Detections
from dpk_core.errors import (
    DpkError,
    OutputExistsError,
    PluginError,
    ValidationError,
    VideoError,
)
from dpk_core.interfaces import Detector, Tracker
from dpk_core.services.plugins import registry
from dpk_core.services.settings import make_with
from dpk_core.services.storage import read_tracks, write_tracks
from dpk_core.services.storage.atomic import check_output
from dpk_core.services.storage.detections_log import DetectionsLog
from dpk_core.specs import DetectorSpec, Spec, TrackerSpec
from dpk_core.tracks import COLUMNS, Tracks
from dpk_core.workflow.frames import FrameSource, VideoFrames, open_frames
from dpk_core.workflow.jobs import only_writer
from dpk_core.workflow.progress import Progress, ignore
from dpk_core.workflow.track_job import differing_in, file_content
from dpk_core.workflow.track_poses import PoseRows, describe_poses

SUFFIX = ".tracks.h5"
TRACKER, DETECTOR = "kalman", "background"
_BLOCK = 1024
"""Frames of which rows are joined at once."""


@attrs.frozen
class Tracking:
    """What became of a tracking.

    Parameters
    ----------
    output
        The file of tracks.
    tracks
        What it holds.
    n_frames
        That were looked at.
    n_before
        Frames whose detections an earlier run had found; all of them when nothing was to do.
    seconds
        That this run took.
    tracker, detector
        Their names.
    nothing_to_do
        Whether the output was there already.
    n_detections, best_score
        What the tracker was given, in all frames, and the highest score of it; 0 and NaN when the
        output was there already.
    """

    output: Path
    tracks: Tracks
    n_frames: int
    n_before: int
    seconds: float
    tracker: str
    detector: str
    nothing_to_do: bool = False
    n_detections: int = 0
    best_score: float = float("nan")


def track_video(
    video: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    tracker: str = TRACKER,
    detector: str | None = None,
    tracker_settings: Mapping[str, Any] | None = None,
    detector_settings: Mapping[str, Any] | None = None,
    poses: str | PathLike[str] | None = None,
    start: int = 0,
    stop: int | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> Tracking:
    """Find the individuals in every frame of a video and follow them.

    Detections are kept on disk beside the output while it runs: killed at any moment, the same
    call carries on where it was. Memory grows with the rows of the tracks only.

    Parameters
    ----------
    video
        A video; or an image folder.
    output
        Default: ``VIDEO.tracks.h5`` beside the video.
    tracker, detector
        Registered names. The default detector is what the tracker asks for, else "background".
    tracker_settings, detector_settings
        What they are made with. What a tracker shares (`TrackerSpec.shares`), such as the number
        of animals, need not be told to the detector again.
    poses
        A file of poses of this video, to follow these instead of what a detector finds. Settings
        of a detector are then those of `dpk_core.workflow.track_poses.PoseRows`.
    start, stop
        Track the frames start <= i < stop only.
    overwrite
        Begin anew, whatever is there.

    Raises
    ------
    FileMissingError, FileFormatError
    ValidationError
        About settings, or when a detector gives what it must not; naming the frame.
    PluginError
        For an unknown name.
    OutputExistsError, OutputError
    VideoError
        When the video is damaged: the frames before the damage have been tracked and stored. The
        same again, as long as the video is the same.
    """
    began = time.monotonic()
    if poses is not None and detector is not None:
        raise ValidationError("expected a detector or poses to follow, found both; give one")
    tracker_spec, detector_spec = _specs(tracker, detector)
    if poses is None:
        detector_settings = _shared(
            tracker_spec, tracker_settings, detector_spec, detector_settings
        )
    name = "poses" if poses is not None else detector_spec.name
    output = default_output(video) if output is None else Path(output)
    with open_frames(video, start, stop) as source:
        wanted = {
            "detector": _description(detector_spec, detector_settings)
            if poses is None
            else describe_poses(Path(poses), dict(detector_settings or {})),
            "input": source.fingerprint,
            "start": source.numbers.start,
            "stop": source.numbers.stop,
        }
        job = {**wanted, "tracker": _description(tracker_spec, tracker_settings)}
        n = len(source.numbers)
        if not overwrite and (found := _done(output, job)) is not None:
            if damage_then := found.provenance.get("damage"):
                raise VideoError(_stored_before(str(damage_then), output))
            seconds = time.monotonic() - began
            return Tracking(output, found, n, n, seconds, tracker_spec.name, name, True)
        check_output(output, overwrite=overwrite)
        following: Tracker = _make(tracker_spec, tracker_settings, Tracker)
        finding: Detector | None = None
        stack = ExitStack()
        with stack, only_writer(output):
            log: DetectionsLog | PoseRows
            if poses is None:
                finding = _make(detector_spec, detector_settings, Detector)
                log_path = output.with_name(f".{output.name}.detections")
                log = stack.enter_context(DetectionsLog(log_path, wanted))
            else:
                log = _pose_rows(Path(poses), source, detector_settings)
            before = 0 if poses is not None else len(log)
            names = name, tracker_spec.name
            given = _Given()
            tracks, damage = _follow(source, finding, following, log, names, given, progress)
            noted = {k: v for k, v in tracks.provenance.items() if k != "job"}
            provenance = {**noted, "job": job, **source.facts}
            if poses is not None:
                provenance["poses"] = Path(poses).as_posix()
            if damage is not None:
                provenance["damage"] = str(damage)
            tracks = attrs.evolve(tracks, provenance=provenance)
            write_tracks(output, tracks, overwrite=overwrite)
            log.remove()
        if damage is not None:
            raise VideoError(_stored_before(str(damage), output)) from damage
        seconds = time.monotonic() - began
        return Tracking(
            output, tracks, n, before, seconds, tracker_spec.name, name, False, given.n, given.best
        )


def _stored_before(damage: str, output: Path) -> str:
    return f"{damage}\nThe frames before the damage are tracked and stored in {output}"


def default_output(video: str | PathLike[str]) -> Path:
    """``VIDEO.tracks.h5`` beside the video.

    Examples
    --------
    >>> default_output("films/herd.mp4").as_posix()
    'films/herd.tracks.h5'
    """
    path = Path(video)
    return path.with_name((path.name if path.is_dir() else path.stem) + SUFFIX)


def _specs(tracker: str, detector: str | None) -> tuple[TrackerSpec, DetectorSpec]:
    tracker_spec = registry().get("trackers", tracker)
    assert isinstance(tracker_spec, TrackerSpec)
    name = detector or tracker_spec.detector or DETECTOR
    detector_spec = registry().get("detectors", name)
    assert isinstance(detector_spec, DetectorSpec)
    return tracker_spec, detector_spec


def _shared(
    tracker: TrackerSpec,
    tracker_settings: Mapping[str, Any] | None,
    detector: DetectorSpec,
    detector_settings: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The detector's settings, and those of the tracker that it shares and the detector takes."""
    told = {k: v for k, v in (tracker_settings or {}).items() if k in tracker.shares}
    if told:
        takes: Mapping[str, Any]
        try:
            takes = inspect.signature(detector.load()).parameters
        except (TypeError, ValueError):  # a callable that does not say what it takes
            takes = {}
        told = {k: v for k, v in told.items() if k in takes}
    return {**told, **(detector_settings or {})}


def _description(spec: Spec, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    software = f"dpk-core {__version__}"
    origin = [p.origin for p in registry().plugins for _, s in p.specs if s == spec]
    about: dict[str, Any] = {
        "name": spec.name,
        "settings": dict(settings or {}),
        "by": [software, *origin],
    }
    files = {name: file_content(value) for name, value in about["settings"].items()}
    files = {name: content for name, content in files.items() if content is not None}
    # A model that was trained again under the same name finds something else.
    return {**about, "files": files} if files else about


def _make(spec: Spec, settings: Mapping[str, Any] | None, kind: type) -> Any:
    thing = make_with(spec.name, spec.load(), settings or {})
    if not isinstance(thing, kind):
        raise PluginError(
            f"{spec.name} gave {type(thing).__name__}; expected a dpk_core.{kind.__name__}"
        )
    return thing


def _pose_rows(poses: Path, source: FrameSource, settings: Mapping[str, Any] | None) -> PoseRows:
    return make_with("poses", partial(PoseRows, poses, source), settings or {})


def _done(output: Path, job: dict[str, Any]) -> Tracks | None:
    """The tracks of an output that is this very job; OutputExistsError for another one."""
    if not output.exists():
        return None
    try:
        stored = read_tracks(output)
    except DpkError:
        return None  # whatever it is, check_output refuses to replace it
    if differing := differing_in(stored.provenance.get("job"), job):
        raise OutputExistsError(
            f"{output} exists and is of another job (it differs in: {', '.join(differing)}); "
            "choose another name, or replace it (--force, overwrite=True)"
        )
    return stored


def _follow(
    source: FrameSource,
    detector: Detector | None,
    tracker: Tracker,
    log: DetectionsLog | PoseRows,
    names: tuple[str, str],
    given: _Given,
    progress: Progress,
) -> tuple[Tracks, VideoError | None]:
    """All rows, and the damage that ended the video early, if any."""
    numbers = source.numbers
    known = len(log)
    of_detector, of_tracker = names
    # Frames that are in the log need not be decoded, unless the tracker wants to see them.
    skip = 0 if tracker.uses_frames else known
    if detector is not None and known < len(numbers):
        progress(0, None, "looking at the video")
        detector.prepare(_by_number(source))
    rows, damage = _Rows(), None
    for i in range(skip):
        found = given.see(log.get(numbers[i]))
        rows.append(_update(tracker, of_tracker, numbers[i], found, None))
        progress(i + 1, len(numbers), "tracking")
    frames = source.frames(skip)
    try:
        for i, frame in enumerate(frames, start=skip):
            found = log.get(numbers[i])
            if found is None and detector is not None:
                found = _detect(detector, of_detector, frame, numbers[i])
                log.put(numbers[i], found)
            shown = frame if tracker.uses_frames else None
            rows.append(_update(tracker, of_tracker, numbers[i], given.see(found), shown))
            progress(i + 1, len(numbers), "tracking")
    except VideoError as error:
        damage = error
    finally:
        if hasattr(frames, "close"):
            frames.close()
        log.commit()
    with _faults_of(of_tracker, "at the end"):
        return _expect_tracks(tracker.finish(rows.joined()), of_tracker, "at the end"), damage


def _by_number(source: FrameSource) -> Any:
    if isinstance(source, VideoFrames):
        return source.reader
    return _Sequence(source)


class _Sequence:
    """Frames of an image folder by number."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source.numbers)

    def __getitem__(self, number: int) -> np.ndarray:
        return next(self._source.frames(range(len(self))[number]))


def _detect(detector: Detector, name: str, frame: np.ndarray, number: int) -> Detections:
    try:
        found = detector.detect(frame)
    except DpkError as error:
        raise type(error)(f"frame {number}: {error}") from error
    except Exception as error:
        raise PluginError(
            f"the detector {name} failed at frame {number}: {type(error).__name__}: {error}; what "
            "was found before is kept, and the same command carries on"
        ) from error
    if not isinstance(found, Detections):
        raise PluginError(
            f"the detector {name} gave {type(found).__name__} for frame {number}; expected "
            "dpk_core.Detections"
        )
    height, width = frame.shape[:2]
    outside = (found.x < -0.5) | (found.x > width - 0.5)
    outside |= (found.y < -0.5) | (found.y > height - 0.5)
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        raise PluginError(
            f"the detector {name} found something at ({found.x[i]:.1f}, {found.y[i]:.1f}) in frame "
            f"{number}, which is {width}x{height} pixels (width x height); expected it inside"
        )
    return found


def _update(
    tracker: Tracker, name: str, number: int, found: Detections, frame: np.ndarray | None
) -> Tracks:
    with _faults_of(name, f"at frame {number}"):
        rows = tracker.update(number, found, frame)
    return _expect_tracks(rows, name, f"for frame {number}")


@contextmanager
def _faults_of(tracker: str, when: str) -> Iterator[None]:
    try:
        yield
    except DpkError:
        raise
    except Exception as error:
        raise PluginError(
            f"the tracker {tracker} failed {when}: {type(error).__name__}: {error}; what was "
            "detected before is kept, and the same command carries on"
        ) from error


def _expect_tracks(given: Any, tracker: str, when: str) -> Tracks:
    if not isinstance(given, Tracks):
        raise PluginError(
            f"the tracker {tracker} gave {type(given).__name__} {when}; expected dpk_core.Tracks"
        )
    return given


class _Given:
    """Counts what a tracker is given."""

    def __init__(self) -> None:
        self.n, self.best = 0, float("nan")

    def see(self, found: Detections | None) -> Detections:
        found = Detections.none() if found is None else found
        self.n += len(found)
        if len(found):
            self.best = float(np.fmax(self.best, found.score.max()))
        return found


class _Rows:
    """Rows of frame after frame; of a day's video, little arrays by the million need gigabytes."""

    def __init__(self) -> None:
        self._blocks: list[Tracks] = []
        self._rows: list[Tracks] = []

    def append(self, rows: Tracks) -> None:
        self._rows.append(rows)
        if len(self._rows) >= _BLOCK:
            self._blocks.append(_joined(self._rows))
            self._rows = []

    def joined(self) -> Tracks:
        return _joined([*self._blocks, *self._rows])


def _joined(rows: list[Tracks]) -> Tracks:
    columns: dict[str, Any] = {
        name: np.concatenate([np.empty(0, kind), *(r.columns()[name] for r in rows)])
        for name, kind in COLUMNS.items()
    }
    return Tracks(**columns)
