"""The model as a partner: train it on the labels, let it guess, let it say what to label next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_annotator.guess_sources import shared_keypoints
from dpk_annotator.jobs import DONE, LOG, MODEL, POSES, Job, Jobs
from dpk_annotator.store import ReadOnlyError, Store
from dpk_core.errors import DpkError, ValidationError
from dpk_core.poses import Poses
from dpk_core.services.storage import read_poses

MODEL_SUFFIXES = (".keras", ".onnx")
LONGEST_MINUTES = 7 * 24 * 60
_TAKEN = "taken"


@attrs.frozen
class TrainedModel:
    """A model that the page may choose.

    Parameters
    ----------
    name
        What it is called, unlike any other: of a job "job 3", else the file's name.
    path
        Its file.
    """

    name: str
    path: Path


@attrs.frozen
class Wanted:
    """An image that should be labelled next.

    Parameters
    ----------
    row
        Its number.
    score
        In [0, 1]; the highest is the most wanted.
    reasons
        In words, the strongest first.
    """

    row: int
    score: float
    reasons: tuple[str, ...]


class Partner:
    """Trains, guesses and suggests for one set. Every method may be called from any thread.

    Parameters
    ----------
    store
        The open set.

    Attributes
    ----------
    tell
        Called with every job of which there is news.
    """

    def __init__(self, store: Store) -> None:
        self.tell: Callable[[Job], None] = lambda job: None
        self._store = store
        self._taking = threading.Lock()
        self.jobs = Jobs(store.path.with_name(store.path.name + ".jobs"), self._on_change)

    def start(self) -> None:
        """Take in what jobs have found since the last server looked."""
        for job in self.jobs.all():
            self._take_in(job)

    def close(self) -> None:
        """Ask running jobs to end, keeping what they have, and wait for them."""
        self.jobs.close()

    # -- training and predicting ------------------------------------------------------------------

    def train(self, settings: Mapping[str, Any]) -> Job:
        """Begin ``dpk train`` on the labels as they are now.

        Parameters
        ----------
        settings
            ``model`` (a name of `architectures`), ``minutes`` (a time limit; without it, the
            recipe decides), ``scale`` (of the images), ``graph`` (learn the posture graph).

        Raises
        ------
        ValidationError
            When nothing is labelled, a setting cannot be, or a training is running.
        """
        chosen = self._checked(settings)
        self._store.save()
        _, labels, _ = self._store.labels()
        if not labels.annotated.any():
            raise ValidationError("no image has a label yet; label some, then train")
        arguments = [
            "train", str(self._store.path.absolute()), "-o", f"{{folder}}/{MODEL}",
            "--run-dir", "{folder}/model.run", "--model", chosen["model"],
            "--scale", str(chosen["scale"]), "--graph" if chosen["graph"] else "--no-graph",
        ]  # fmt: skip
        if chosen["minutes"] is not None:
            arguments += ["--time-limit", f"{max(1, round(chosen['minutes'] * 60))}s"]
        return self.jobs.start("train", arguments, chosen)

    def predict(self, settings: Mapping[str, Any]) -> Job:
        """Begin ``dpk predict`` on all images; what it finds becomes guesses when it is done.

        Parameters
        ----------
        settings
            ``model``: the name of one of `models`; by default the latest.

        Raises
        ------
        ValidationError
            When there is no such model, or a prediction is running.
        """
        models = {model.name: model for model in self.models()}
        if not models:
            raise ValidationError("there is no trained model yet; train one first")
        name = settings.get("model") or next(iter(models))
        if name not in models:
            raise ValidationError(f"there is no model {name!r}; there are {', '.join(models)}")
        self._store.save()
        arguments = [
            "predict", str(models[name].path.absolute()), str(self._store.path.absolute()),
            "-o", f"{{folder}}/{POSES}",
        ]  # fmt: skip
        return self.jobs.start("predict", arguments, {"model": name})

    def sample(self, video: Path, n: int) -> Job:
        """Begin ``dpk sample``: n frames that differ much come to the set.

        Raises
        ------
        ValidationError
            When frames are being chosen already.
        """
        if self._store.read_only:
            raise ReadOnlyError(f"{self._store.path.name} was opened for looking only")
        self._store.save()
        arguments = [
            "sample", str(video.absolute()), "-o", str(self._store.path.absolute()), "--append",
            "-n", str(n),
        ]  # fmt: skip
        return self.jobs.start("sample", arguments, {"video": video.name, "n": n})

    def models(self) -> list[TrainedModel]:
        """Trained models: of jobs, the latest first, then those that lie beside the set."""
        found = [
            TrainedModel(f"job {job.number}", job.result)
            for job in self.jobs.all()
            if job.kind == "train" and job.result is not None
        ]
        try:
            beside = sorted(self._store.path.parent.iterdir())
        except OSError:
            beside = []
        found += [
            TrainedModel(p.name, p)
            for p in beside
            if p.suffix.lower() in MODEL_SUFFIXES and not p.name.startswith(".") and p.is_file()
        ]
        return found

    def architectures(self) -> list[dict[str, str]]:
        """Names and summaries of networks that can be trained here."""
        from dpk_core.services.plugins import registry

        return [{"name": spec.name, "summary": spec.summary} for spec in registry().specs("models")]

    # -- suggesting -------------------------------------------------------------------------------

    def suggest(self, by: str, n: int) -> list[Wanted]:
        """Images to label next, the most wanted first.

        Parameters
        ----------
        by
            One of `dpk_core.workflow.suggest.BY`.
        n
            How many at most.

        Raises
        ------
        ValidationError
            When there are no guesses yet and ``by`` needs them, or all images are labelled.
        """
        from dpk_core.services.storage import read_annotations
        from dpk_core.workflow.suggest import suggest_frames

        self._store.save()
        found = suggest_frames(read_annotations(self._store.path), self._guesses(by), n, by=by)
        return [Wanted(one.frame, float(one.score), one.reasons) for one in found.chosen]

    def _guesses(self, by: str) -> Poses:
        """The guesses as poses: a row for each image that has one; all images for "diversity"."""
        skeleton, n = self._store.skeleton, len(self._store)
        guesses = {row: g for row in range(n) if (g := self._store.guess(row)) is not None}
        if not guesses and by != "diversity":
            raise ValidationError(
                "there are no guesses yet to choose by; predict first, or suggest by diversity"
            )
        rows = list(guesses) if by != "diversity" else list(range(n))
        keypoints = np.full((len(rows), len(skeleton), 2), np.nan, np.float32)
        scores = np.zeros((len(rows), len(skeleton)), np.float32)
        for place, row in enumerate(rows):
            if row in guesses:
                keypoints[place], scores[place] = guesses[row].keypoints, guesses[row].scores
        return Poses(keypoints, scores, skeleton, frames=np.array(rows, np.int64))

    # -- small parts ------------------------------------------------------------------------------

    def _checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        names = [one["name"] for one in self.architectures()]
        if not names:
            raise ValidationError(
                "no network is installed; install dpk-models (python -m pip install dpk-models)"
            )
        default = "StackedDenseNet" if "StackedDenseNet" in names else names[0]
        model = settings.get("model") or default
        if model not in names:
            raise ValidationError(f"model: expected one of {', '.join(names)}; found {model!r}")
        minutes = settings.get("minutes")
        if minutes is not None and not 0 < minutes <= LONGEST_MINUTES:
            raise ValidationError(
                f"minutes: expected a number above 0, up to a week, found {minutes!r}"
            )
        scale = float(settings.get("scale") or 1.0)
        if not 0.05 <= scale <= 4:
            raise ValidationError(f"scale: expected a number from 0.05 to 4, found {scale!r}")
        edges = bool(self._store.skeleton.edges)
        graph = bool(settings.get("graph", False))
        if graph and not edges:
            raise ValidationError("graph: the skeleton has no edges; connect its keypoints first")
        return {"model": model, "minutes": minutes, "scale": scale, "graph": graph}

    def _on_change(self, job: Job) -> None:
        self._take_in(job)
        if job.kind == "sample" and job.state == DONE:
            self._store.poll()
        self.tell(job)

    def _take_in(self, job: Job) -> None:
        """Make guesses of what a prediction has found, once."""
        if job.kind != "predict" or job.state != DONE or job.result is None:
            return
        with self._taking:
            mark = job.folder / _TAKEN
            if mark.exists() or self._store.read_only:
                return
            try:
                text = f"{self._put(read_poses(job.result), job)} images"
            except DpkError as error:
                text = f"{error}"
                with suppress(OSError), (job.folder / LOG).open("a", encoding="utf-8") as log:
                    log.write(f"\nThe guesses cannot be shown: {error}\n")
            with suppress(OSError):  # a full disk: they are taken in once more by the next server
                mark.write_text(text, encoding="utf-8")

    def _put(self, poses: Poses, job: Job) -> int:
        skeleton, n = self._store.skeleton, len(self._store)
        ours, theirs = shared_keypoints(skeleton, poses.skeleton)
        fits = np.flatnonzero((poses.frames >= 0) & (poses.frames < n))
        keypoints = np.full((len(fits), len(skeleton), 2), np.nan, np.float32)
        scores = np.zeros((len(fits), len(skeleton)), np.float32)
        keypoints[:, ours] = poses.keypoints[fits][:, theirs]
        scores[:, ours] = poses.scores[fits][:, theirs]
        model = str(job.settings.get("model", ""))
        return self._store.put_guesses(poses.frames[fits], keypoints, scores, model)
