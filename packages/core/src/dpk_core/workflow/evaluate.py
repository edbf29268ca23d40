"""Measure a trained model against labels."""

from __future__ import annotations

import csv
import json
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import Source
from dpk_core.errors import ValidationError
from dpk_core.interfaces import Dataset, Model
from dpk_core.services.engines import load_model
from dpk_core.services.generator import TrainingGenerator
from dpk_core.services.metrics import ErrorSummary, keypoint_errors, summarize_errors
from dpk_core.services.model_task import check_finds_poses
from dpk_core.services.sources import spread_images
from dpk_core.services.splits import Split
from dpk_core.services.storage import atomic_path
from dpk_core.skeleton import Skeleton
from dpk_core.workflow.predict import predict_images
from dpk_core.workflow.progress import Progress, ignore

ONLY = ("validation", "all")


@attrs.frozen(eq=False, repr=False)
class Evaluation:
    """Errors of a model on labelled images.

    Parameters
    ----------
    summary
        Errors in pixels of the original images, summed up.
    errors
        (n, k) error of each keypoint in each image; NaN where there is no label.
    predictions
        (n, k, 3) x, y, score.
    rows
        (n,) which of the labelled images these are.
    sources
        Where each image came from, as far as known.
    images_used
        In words: which images were evaluated, and why these.
    """

    summary: ErrorSummary
    errors: np.ndarray
    predictions: np.ndarray
    rows: np.ndarray
    sources: tuple[Source, ...]
    images_used: str

    def write_csv(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """A line an image: its row, video and frame, its mean error, the error of each keypoint.

        Raises
        ------
        OutputExistsError, OutputError
        """
        with (
            atomic_path(path, overwrite=overwrite) as temporary,
            Path(temporary).open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["row", "video", "frame", "mean_error_px", *self.summary.names])
            for row, source, errors in zip(self.rows, self.sources, self.errors, strict=True):
                known = errors[np.isfinite(errors)]
                mean = known.mean() if len(known) else np.nan
                frame = source.frame if source.frame >= 0 else ""
                numbers = [_number(value) for value in (mean, *errors)]
                writer.writerow([int(row), source.video, frame, *numbers])

    def __repr__(self) -> str:
        return f"Evaluation({len(self.rows)} images: {self.summary!r})"


def evaluate_model(
    model_path: str | PathLike[str],
    source: str | PathLike[str],
    *,
    only: str | None = None,
    batch_size: int = 32,
    engine: str = "auto",
    precision: str = "float32",
    progress: Progress = ignore,
) -> Evaluation:
    """Compare a model's predictions with labels.

    Parameters
    ----------
    source
        Labelled images, as for `TrainingGenerator`.
    only
        "validation": the images that the model's training held out; "all": every labelled image.
        Default: the validation images when these are the data that the model was trained on,
        otherwise all.
    engine, precision
        As for `dpk_core.services.engines.load_model`; int8 is calibrated on images of the source.

    Raises
    ------
    ValidationError
        When "validation" is asked for and these are not the model's training data, or the
        skeletons have no keypoint in common.
    FileMissingError, FileFormatError, ModelFileError
    """
    check_only(only)
    dataset = TrainingGenerator(source, augmenter=None, validation_split=0, cache_bytes=0).dataset
    progress(0, None, "opening the model")
    model = load_model(model_path, engine, precision, calibration=lambda: spread_images(dataset))
    check_finds_poses(model.task, Path(model_path))
    rows, images_used = choose_rows(model, dataset, Path(source), only)
    columns = _matching_keypoints(model.skeleton, dataset.skeleton)
    keypoints, predictions = predict_rows(model, dataset, rows, batch_size, progress)
    labels = np.full((len(rows), len(model.skeleton), 2), np.nan)
    for j, column in columns.items():
        labels[:, j] = keypoints[:, column]
    errors = keypoint_errors(labels, predictions)
    summary = summarize_errors(
        errors, model.skeleton.names, labelled=np.isfinite(labels).all(axis=2)
    )
    sources = getattr(dataset, "sources", None) or (Source(),) * len(dataset)
    return Evaluation(
        summary, errors, predictions, rows, tuple(sources[i] for i in rows), images_used
    )


def check_only(only: str | None) -> None:
    """ValidationError unless it is one of `ONLY`, or None."""
    if only is not None and only not in ONLY:
        raise ValidationError(f"only: expected one of {ONLY}, found {only!r}")


def training_split(model: Model) -> tuple[str, Split] | None:
    """The source and the split of a model's training; None when the model does not know them."""
    record = getattr(model, "record", None)
    split = getattr(record, "split", None)
    if not split:
        return None
    return str(getattr(record, "source", "")), Split.from_json(json.dumps(split))


def choose_rows(
    model: Model, dataset: Dataset, source: Path, only: str | None
) -> tuple[np.ndarray, str]:
    """Rows of the dataset to evaluate, and the reason in words."""
    n = len(dataset)
    everything = np.arange(n)
    if only == "all":
        return everything, f"all {n} labelled images, those that trained the model included"
    trained = training_split(model)
    if trained is None:
        why_not = "the model does not tell what it was trained on"
    elif not _is_same_source(trained[0], source):
        why_not = f"the model was trained on {trained[0] or 'data without a file'}, not on these"
    elif trained[1].n_images != n:
        why_not = (
            f"{source} has changed since the training ({trained[1].n_images} labelled images "
            f"then, {n} now), so its split no longer fits"
        )
    elif not len(trained[1].validation):
        why_not = "the training held out no images"
    else:
        rows = trained[1].validation
        return rows, f"the {len(rows)} validation images that the training held out"
    if only == "validation":
        raise ValidationError(f"no validation images: {why_not}; evaluate all with only='all'")
    return everything, f"all {n} labelled images: {why_not}"


def _is_same_source(stored: str, source: Path) -> bool:
    """The same path, or, for a project that moved, the same name."""
    return bool(stored) and (
        Path(stored).resolve() == source.resolve() or Path(stored).name == source.resolve().name
    )


def _matching_keypoints(model: Skeleton, labels: Skeleton) -> dict[int, int]:
    """Keypoint of the model -> keypoint of the labels, by name."""
    common = {
        j: labels.names.index(name) for j, name in enumerate(model.names) if name in labels.names
    }
    if not common:
        raise ValidationError(
            f"model and labels have no keypoint in common: the model knows "
            f"{', '.join(model.names)}; the labels have {', '.join(labels.names)}"
        )
    return common


def predict_rows(
    model: Model, dataset: Dataset, rows: np.ndarray, batch_size: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n, l, 2) and predictions (n, k, 3) of the rows; one batch in memory at a time."""
    labels: list[np.ndarray] = []

    def images() -> Any:
        for row in rows:
            sample = dataset[int(row)]
            labels.append(sample.keypoints)
            yield sample.image

    predictions: list[np.ndarray] = []
    progress(0, len(rows), "evaluating")
    for batch in predict_images(model, images(), batch_size):
        predictions.append(batch)
        progress(sum(map(len, predictions)), len(rows), "evaluating")
    return np.stack(labels), np.concatenate(predictions)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"
