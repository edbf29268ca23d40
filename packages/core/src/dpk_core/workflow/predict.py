"""Predict a whole video: decode ahead, predict, write; stopped at any moment, it carries on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core import __version__
from dpk_core.errors import FileFormatError, OutputExistsError, ValidationError, VideoError
from dpk_core.interfaces import Model
from dpk_core.services.cropper import Cropper
from dpk_core.services.engines import (
    EnginePlan,
    load_model,
    open_model,
    other_plans,
    plan_engine,
    software_of,
)
from dpk_core.services.fingerprints import file_hash
from dpk_core.services.model_task import check_finds_poses, read_task
from dpk_core.services.storage import PosesWriter, is_complete, read_poses
from dpk_core.services.storage.atomic import check_output
from dpk_core.workflow.frames import FrameSource, calibration_frames, open_frames
from dpk_core.workflow.jobs import only_writer
from dpk_core.workflow.progress import Progress, ignore
from dpk_core.workflow.track_crops import TrackCrops

SUFFIX = ".poses.h5"
_STORE_EVERY_S = 1.0
_STORE_BATCHES = 16


@attrs.frozen
class Prediction:
    """What became of a prediction.

    Parameters
    ----------
    output
        The file of poses.
    n_frames
        Frames that the output holds now.
    n_before
        Frames that an earlier run had done.
    seconds
        That this run took, loading the model included.
    engine
        What computed it, in words; empty when there was nothing to do.
    """

    output: Path
    n_frames: int
    n_before: int
    seconds: float
    engine: str = ""

    @property
    def nothing_to_do(self) -> bool:
        """The output was complete already."""
        return self.n_before == self.n_frames


def predict_video(
    model_path: str | PathLike[str],
    video_path: str | PathLike[str],
    output_path: str | PathLike[str] | None = None,
    *,
    batch_size: int = 32,
    engine: str = "auto",
    precision: str = "float32",
    overwrite: bool = False,
    start: int = 0,
    stop: int | None = None,
    tracks: str | PathLike[str] | None = None,
    rotate: bool = False,
    progress: Progress = ignore,
) -> Prediction:
    """Find the keypoints in every frame of a video and write them to a file of poses.

    With ``tracks``, each tracked individual is cropped out of each frame, crops of several frames
    go through the model together, and the poses are in pixels of the video, with the track's id.

    Memory stays flat. Killed at any moment, the same call carries on where it was and gives the
    same numbers, bit for bit: batches always begin at multiples of ``batch_size``.

    Parameters
    ----------
    model_path
        A trained model that an installed plugin can open.
    video_path
        A video; or a labelled set or a folder of images, whose rows are then the frames.
    output_path
        Default: ``VIDEO.poses.h5`` beside the video.
    batch_size
        Frames to go through the model at once.
    engine, precision
        As for `dpk_core.services.engines.load_model`; int8 is calibrated on frames of the video.
    overwrite
        Begin anew, whatever is there.
    start, stop
        Predict the frames start <= i < stop only.
    tracks
        A file of tracks of this video. Crops have the size of the model's training images.
    rotate
        Turn the crops so that the body axis points to the right, for a model that was trained so.

    Raises
    ------
    FileMissingError, ModelFileError, FileFormatError
    ValidationError
        When the frames have another size than the model's images, or the model is a detector.
    OutputExistsError, OutputError
        When the output is of another job, or cannot be written, or another process writes it.
    VideoError
        When the video is damaged: every frame before the damage has been predicted and stored.
    """
    began = time.monotonic()
    if batch_size < 1:
        raise ValidationError(f"batch_size: expected at least 1, found {batch_size}")
    output = default_output(video_path) if output_path is None else Path(output_path)
    plan = plan_engine(model_path, engine, precision)
    if tracks is None and rotate:
        raise ValidationError("rotate: only crops around tracks can be turned; give tracks, too")
    with _open_source(plan.path, video_path, start, stop, tracks, rotate) as source:
        n = len(source.numbers)
        if not overwrite:
            plan = _as_begun(output, plan, source, batch_size)
        if not overwrite and _is_done(output, _job(plan, source, batch_size)):
            return Prediction(output, n, n, time.monotonic() - began)
        progress(0, None, "opening the model")
        model, plan = open_model(plan, lambda: calibration_frames(source))
        check_finds_poses(model.task, plan.path)
        check_frame_size(model, source)
        job = _job(plan, source, batch_size)
        if not overwrite and _is_done(output, job):
            return Prediction(output, n, n, time.monotonic() - began)
        provenance = {"job": job, **source.facts, "model": plan.path.as_posix()}
        check_output(output, overwrite=True)
        with only_writer(output), PosesWriter(
            output, model.skeleton, provenance,
            overwrite=overwrite, resume=not overwrite, capacity_hint=n,
        ) as writer:  # fmt: skip
            before = writer.n_rows
            _predict_into(writer, model, source, batch_size, progress)
            seconds = time.monotonic() - began
            return Prediction(output, writer.n_rows, before, seconds, model.engine)


def default_output(video_path: str | PathLike[str]) -> Path:
    """``VIDEO.poses.h5`` beside the video.

    Examples
    --------
    >>> default_output("films/mouse.mp4").as_posix()
    'films/mouse.poses.h5'
    """
    path = Path(video_path)
    return path.with_name((path.name if path.is_dir() else path.stem) + SUFFIX)


def predict_images(
    model: Model, images: Iterator[np.ndarray], batch_size: int
) -> Iterator[np.ndarray]:
    """(b, k, 3) predictions of every ``batch_size`` images, and of what is left at the end.

    When ``images`` ends in a VideoError, what came before it is predicted and given first.
    """
    for batch in _batches(images, batch_size):
        yield model.predict(batch, batch_size=batch_size)


def _open_source(
    model_path: Path,
    video_path: str | PathLike[str],
    start: int,
    stop: int | None,
    tracks: str | PathLike[str] | None,
    rotate: bool,
) -> FrameSource:
    if tracks is None:
        return open_frames(video_path, start, stop)
    task = read_task(model_path)
    if task is None:
        task = load_model(model_path).task
    height, width = (round(side / task.scale) for side in task.image_shape[:2])
    cropper = Cropper((height, width), rotate=rotate)
    return TrackCrops(Path(video_path), Path(tracks), cropper, start, stop)


def check_frame_size(model: Model, source: FrameSource) -> None:
    """ValidationError unless the frames have the size of the model's training images."""
    from dpk_core.services.imaging import scaled_size

    task = model.task
    if scaled_size(source.size, task.scale) != task.image_shape[:2]:
        height, width = (round(side / task.scale) for side in task.image_shape[:2])
        raise ValidationError(
            f"{source.path} has frames of {source.size[0]}x{source.size[1]} pixels (height x "
            f"width); the model was trained on images of {height}x{width}. Resize or crop the "
            "video to that size, or train a model on frames of this one"
        )


def _job(plan: EnginePlan, source: FrameSource, batch_size: int) -> dict[str, Any]:
    """All that decides what is predicted, as JSON values."""
    return {
        "model": file_hash(plan.path),
        "input": source.fingerprint,
        "start": source.numbers.start,
        "stop": source.numbers.stop,
        "batch_size": batch_size,
        "engine": f"{plan.engine.name}, {plan.precision}",
        "software": [f"dpk-core {__version__}", *software_of(plan.engine, plan.engine.requires)],
    }


def _as_begun(output: Path, plan: EnginePlan, source: FrameSource, batch_size: int) -> EnginePlan:
    """The plan, or, where the engine was left to us, one with the engine that began the output.

    What is the fastest engine may change: one is installed, or a conversion works another time.
    """
    if not plan.is_choice or not output.exists():
        return plan
    stored = _stored_job(output)
    if stored == _job(plan, source, batch_size):
        return plan
    others = (p for p in other_plans(plan) if _job(p, source, batch_size) == stored)
    return next(others, plan)


def _is_done(output: Path, job: dict[str, Any]) -> bool:
    """Whether the output is this very job, finished; found out before the model is opened.

    Raises
    ------
    OutputExistsError
        When the file is of another job, or nothing that could be continued.
    """
    if not output.exists():
        return False
    stored = _stored_job(output)
    if stored != job:
        known = stored if isinstance(stored, dict) else {}
        differing = [name for name, value in job.items() if known.get(name) != value]
        raise OutputExistsError(
            f"{output} exists and is of another job (it differs in: {', '.join(differing)}); "
            "choose another name, or replace it (--force, overwrite=True)"
        )
    return is_complete(output)


def _stored_job(output: Path) -> Any:
    try:
        return read_poses(output, 0, 0).provenance.get("job")
    except FileFormatError as error:
        raise OutputExistsError(
            f"{output} exists and is not a file of poses that could be continued ({error}); "
            "choose another name, or replace it (--force, overwrite=True)"
        ) from None


def _predict_into(
    writer: PosesWriter, model: Model, source: FrameSource, batch_size: int, progress: Progress
) -> None:
    total, done = len(source.numbers), writer.n_rows
    message = "predicting"
    progress(done, total, message)
    store = _Store(writer, source)
    frames = source.frames(done)
    try:
        for predictions in predict_images(model, frames, batch_size):
            store.add(predictions)
            done += len(predictions)
            progress(done, total, message)
    except VideoError as error:
        store.flush()
        raise VideoError(
            f"{error}\n{writer.n_rows} of {total} frames, those before the damage, are predicted "
            f"and stored in {writer.path}"
        ) from error
    except KeyboardInterrupt:
        store.flush()
        raise
    finally:
        if hasattr(frames, "close"):
            frames.close()
    store.flush()
    if writer.n_rows < total:
        raise VideoError(
            f"{source.path} ended after {writer.n_rows} of {total} frames; those are predicted and "
            f"stored in {writer.path}"
        )


class _Store:
    """Collects predictions and writes them about once a second, always in whole batches."""

    def __init__(self, writer: PosesWriter, source: FrameSource) -> None:
        self._writer = writer
        self._source = source
        self._waiting: list[np.ndarray] = []
        self._written_at = time.monotonic()

    def add(self, predictions: np.ndarray) -> None:
        self._waiting.append(predictions)
        late = time.monotonic() - self._written_at > _STORE_EVERY_S
        if late or len(self._waiting) >= _STORE_BATCHES:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        predictions = np.concatenate(self._waiting)
        self._waiting = []
        first = self._writer.n_rows
        self._writer.append(self._source.poses(first, predictions, self._writer.skeleton))
        self._written_at = time.monotonic()


def _batches(images: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    batch: list[np.ndarray] = []
    try:
        for image in images:
            batch.append(image)
            if len(batch) == size:
                yield np.stack(batch)
                batch = []
    except VideoError:
        if batch:
            yield np.stack(batch)
        raise
    if batch:
        yield np.stack(batch)
