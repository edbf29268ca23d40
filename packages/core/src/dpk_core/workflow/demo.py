"""The demo: the whole job, from a video to a plot, on an animal whose keypoints are known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core import __version__
from dpk_core.annotations import HIDDEN, VISIBLE
from dpk_core.errors import DpkError, OutputError, OutputExistsError
from dpk_core.poses import Poses
from dpk_core.progress import TrainProgress
from dpk_core.services.metrics import keypoint_errors, summarize_errors
from dpk_core.services.plugins import registry
from dpk_core.services.storage import (
    atomic_path,
    is_complete,
    read_annotations,
    read_poses,
    update_annotations,
    write_poses,
)
from dpk_core.services.synthetic import SyntheticAnimal
from dpk_core.workflow.demo_picture import draw_picture
from dpk_core.workflow.demo_result import (
    ERRORS,
    LABELLED,
    LABELS,
    MODEL,
    NUMBERS,
    PICTURE,
    POSES,
    REPORT,
    RUN,
    TRAINED,
    TRAINING_PLOT,
    TRAJECTORIES,
    TRUTH,
    VIDEO,
    DemoResult,
    DemoSettings,
)
from dpk_core.workflow.plots import plot_errors, plot_training, plot_trajectories
from dpk_core.workflow.predict import predict_video
from dpk_core.workflow.progress import Progress, ignore
from dpk_core.workflow.render import render_video
from dpk_core.workflow.sample import sample_videos
from dpk_core.workflow.train import train_model

FPS = 25.0
_MARKER = "demo.json"
_PARTIAL = ("demo.partial.mp4", "labelled.partial.mp4")
_KIND = "dpk demo"

# Chosen so that the whole demo takes less than four minutes on two cores and its error stays well
# below 1.5 pixels: small steps, many of them, at a high rate that falls to nothing, and no posture
# graph, which takes longer to learn. With more time the defaults are the better choice.
HYPERPARAMETERS: dict[str, Any] = {"growth_rate": 24}
GENERATOR_OPTIONS: dict[str, Any] = {"use_graph": False, "validation_split": 0.1}
FIT_OPTIONS: dict[str, Any] = {
    "batch_size": 4, "n_workers": 1, "learning_rate": 3e-3, "schedule": "cosine", "epochs": 100,
    "validation_batch_size": 15,
}  # fmt: skip


def run_demo(
    folder: str | PathLike[str] = "dpk-demo",
    *,
    size: tuple[int, int] = DemoSettings().size,
    n_frames: int = DemoSettings().n_frames,
    n_labels: int = DemoSettings().n_labels,
    seed: int = 0,
    time_budget: float = DemoSettings().time_budget,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> DemoResult:
    """Do the whole job in a folder of its own: video, labels, model, poses, errors, plots.

    Interrupted and called again with the same settings it goes on where it was; the result says
    what it found.

    Parameters
    ----------
    folder
        Made if it is not there. One that holds something else is refused.
    size, n_frames, n_labels, seed, time_budget
        See `DemoSettings`.
    overwrite
        Begin anew, and write into the folder whatever it holds; only files of the demo's own
        names are replaced.

    Raises
    ------
    OutputExistsError
        When the folder holds something else, or a demo with other settings.
    PluginError
        When no plugin brings the model.
    OutputError, ValidationError
    KeyboardInterrupt
        On Ctrl-C, also during training; calling again goes on.
    """
    settings = DemoSettings(size, n_frames, n_labels, seed, time_budget)
    registry().get("models", MODEL)
    animal = SyntheticAnimal(seed=seed, size=settings.size, n_frames=n_frames)
    folder = Path(folder)
    continues = _open_folder(folder, settings, overwrite=overwrite)
    progress(0, None, f"{'continuing' if continues else 'beginning'} the demo in {folder}")
    return _Demo(folder, settings, animal, fresh=not continues, progress=progress).run()


class _Demo:
    """The steps, each done only when its result is not there or something before it was redone."""

    def __init__(
        self,
        folder: Path,
        settings: DemoSettings,
        animal: SyntheticAnimal,
        *,
        fresh: bool,
        progress: Progress,
    ) -> None:
        self.folder, self.settings, self.animal = folder, settings, animal
        self.fresh, self.progress = fresh, progress
        self.seconds: dict[str, float] = {}
        self.found: list[str] = []

    def run(self) -> DemoResult:
        self._step("video", self._at(VIDEO).exists() and self._at(TRUTH).exists(), self._film)
        self._step("labels", self._is_labelled(), self._label)
        self._step("training", self._is_trained(), self._train)
        self._step("prediction", self._is_predicted(), self._predict)
        self._step("rendering", self._at(LABELLED).exists(), self._render)
        errors, visibility, result = self._measure()
        plots = (TRAINING_PLOT, TRAJECTORIES, ERRORS, PICTURE)
        self._step(
            "plots",
            all(self._at(p).exists() for p in plots),
            lambda: self._plot(errors, visibility),
        )
        result = attrs.evolve(result, seconds=self.seconds, found=tuple(self.found))
        if self.seconds or not self._at(NUMBERS).exists():
            _write_text(self._at(NUMBERS), json.dumps(result.to_dict(), indent=1))
            _write_text(self._at(REPORT), f"{result}\n")
        return result

    def _step(self, name: str, is_done: bool, do: Callable[[], None]) -> None:
        if is_done and not self.fresh:
            self.found.append(name)
            return
        began = time.monotonic()
        do()
        for name_of_partial in _PARTIAL:  # what an interrupted call left of a video
            self._at(name_of_partial).unlink(missing_ok=True)
        self.seconds[name] = round(time.monotonic() - began, 2)
        self.fresh = True

    # -- the steps ------------------------------------------------------------------------------

    def _film(self) -> None:
        from dpk_core.services.video import VideoWriter

        with VideoWriter(self._at(VIDEO), FPS, quality=10, overwrite=True) as writer:
            for i, frame in enumerate(self.animal.frames(), start=1):
                writer.write(frame)
                self.progress(i, len(self.animal), "making the video")
        scores = np.where(self.animal.visibility == VISIBLE, 1.0, 0.0)
        truth = Poses(self.animal.keypoints, scores, self.animal.skeleton)
        write_poses(self._at(TRUTH), truth, overwrite=True)

    def _label(self) -> None:
        """Sample frames, then do what a person would do by hand: mark where the keypoints are."""
        labels, s = self._at(LABELS), self.settings
        sample_videos(
            [self._at(VIDEO)], labels, self.animal.skeleton,
            n_frames=s.n_labels, seed=s.seed, overwrite=True, progress=self.progress,
        )  # fmt: skip
        frames = read_annotations(labels).frames
        assert frames is not None
        update_annotations(
            labels,
            np.arange(len(frames)),
            keypoints=self.animal.keypoints[frames],
            visibility=self.animal.visibility[frames],
            annotated=np.ones((len(frames), len(self.animal.skeleton)), bool),
        )

    def _train(self) -> None:
        run = self._at(RUN)
        training = train_model(
            self._at(LABELS), MODEL, self._at(TRAINED),
            hyperparameters=HYPERPARAMETERS,
            generator_options={"seed": self.settings.seed, **GENERATOR_OPTIONS},
            fit_options={"time_limit": self.settings.time_budget, **FIT_OPTIONS},
            run_dir=run, resume=not self.fresh and (run / "run.json").exists(), overwrite=True,
            progress=self._show_training,
        )  # fmt: skip
        if training.was_interrupted:
            raise KeyboardInterrupt

    def _show_training(self, event: TrainProgress) -> None:
        limit = event.time_limit_s or self.settings.time_budget
        self.progress(int(min(event.elapsed_s, limit)), int(np.ceil(limit)), "training")

    def _predict(self) -> None:
        predict_video(
            self._at(TRAINED), self._at(VIDEO), self._at(POSES),
            overwrite=self.fresh, progress=self.progress,
        )  # fmt: skip

    def _render(self) -> None:
        render_video(
            self._at(POSES), self._at(VIDEO), self._at(LABELLED),
            trail=8, overwrite=True, progress=self.progress,
        )  # fmt: skip

    def _measure(self) -> tuple[np.ndarray, np.ndarray, DemoResult]:
        """Errors and visibilities on the frames without labels, and their summary."""
        labelled = read_annotations(self._at(LABELS)).frames
        assert labelled is not None
        unseen = np.setdiff1d(np.arange(len(self.animal)), labelled)
        poses = read_poses(self._at(POSES))
        errors = keypoint_errors(self.animal.keypoints[unseen], poses.keypoints[unseen])
        visibility = self.animal.visibility[unseen]
        names = self.animal.skeleton.names
        of = {
            flag: summarize_errors(np.where(visibility == flag, errors, np.nan), names)
            for flag in (VISIBLE, HIDDEN)
        }
        result = DemoResult(
            self.folder, self.settings, summarize_errors(errors, names), of[VISIBLE], of[HIDDEN],
            len(unseen), self._training_facts(), {}, (),
        )  # fmt: skip
        return errors, visibility, result

    def _plot(self, errors: np.ndarray, visibility: np.ndarray) -> None:
        self.progress(0, None, "plotting")
        poses = read_poses(self._at(POSES))
        plot_training(self._at(RUN), self._at(TRAINING_PLOT), overwrite=True)
        plot_trajectories(poses, self._at(TRAJECTORIES), overwrite=True)
        plot_errors(
            errors, self.animal.skeleton, self._at(ERRORS), visibility=visibility,
            title=f"{len(errors)} frames without labels", overwrite=True,
        )  # fmt: skip
        draw_picture(self._at(VIDEO), poses, self._at(PICTURE), overwrite=True)

    # -- what is there --------------------------------------------------------------------------

    def _at(self, name: str) -> Path:
        return self.folder / name

    def _is_labelled(self) -> bool:
        """Sampled frames without labels are no result: the two are written one after the other."""
        try:
            return read_annotations(self._at(LABELS)).n_labelled > 0
        except DpkError:
            return False

    def _is_trained(self) -> bool:
        return self._at(TRAINED).exists() and self._record().get("stopped") not in (
            None,
            "interrupted",
        )

    def _is_predicted(self) -> bool:
        try:
            return is_complete(self._at(POSES))
        except DpkError:
            return False

    def _record(self) -> dict[str, Any]:
        path = self._at(RUN) / "record.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _training_facts(self) -> dict[str, Any]:
        record = self._record()
        best = record["history"][record["best_epoch"] - 1] if record.get("best_epoch") else {}
        return {
            "epochs": len(record.get("history", [])),
            "best_epoch": record.get("best_epoch", 0),
            "seconds": float(record.get("seconds", 0)),
            "val_error_px": best.get("val_error_px"),
            "stopped": record.get("stopped", ""),
        }


def _open_folder(folder: Path, settings: DemoSettings, *, overwrite: bool) -> bool:
    """Make the folder ours; True when an earlier demo in it is to be continued."""
    marker = folder / _MARKER
    wanted = {"kind": _KIND, "version": __version__, **attrs.asdict(settings)}
    wanted = json.loads(json.dumps(wanted))
    if not overwrite and marker.is_file():
        differing = _differences(marker, wanted)
        if differing:
            raise OutputExistsError(
                f"{folder} holds a demo with other settings: {differing}; choose another folder, "
                "or begin anew in this one (--force, overwrite=True)"
            )
        return True
    if not overwrite and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExistsError(
            f"{folder} is there already and holds something else; choose another folder for the "
            "demo, or let it replace files of its own names in this one (--force, overwrite=True)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {folder}: {error.strerror}; choose another one"
        ) from error
    _write_text(marker, json.dumps(wanted, indent=1))
    return False


def _differences(marker: Path, wanted: dict[str, Any]) -> str:
    try:
        stored = json.loads(marker.read_text(encoding="utf-8"))
        keys = sorted(set(stored) | set(wanted))
        pairs = [(k, stored.get(k), wanted.get(k)) for k in keys]
    except (ValueError, TypeError):
        return f"{_MARKER} cannot be read"
    return ", ".join(f"{k} {there!r}, now {now!r}" for k, there, now in pairs if there != now)


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
