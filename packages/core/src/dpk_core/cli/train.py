"""``dpk train``."""

from __future__ import annotations

import math
import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from dpk_core.cli.console import INTERRUPTED, note, say
from dpk_core.cli.models import TrainCommand

COMMAND_CLASS = TrainCommand


class Schedule(str, Enum):
    """How the learning rate falls."""

    plateau = "plateau"
    cosine = "cosine"


class TrainingPrecision(str, Enum):
    """What a network computes in while it trains."""

    auto = "auto"
    float32 = "float32"
    mixed_float16 = "mixed_float16"
    mixed_bfloat16 = "mixed_bfloat16"


class Target(str, Enum):
    """What a model learns to find."""

    keypoints = "keypoints"
    centroids = "centroids"


class GroupBy(str, Enum):
    """How validation images are chosen."""

    auto = "auto"
    video = "video"
    block = "block"
    random = "random"


def command(
    labels: Annotated[
        Path, typer.Argument(help="Labelled images: a .h5 set, or another program's project.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model to write.")] = Path(
        "model.keras"
    ),
    model: Annotated[
        str, typer.Option(help="Name of the model; dpk plugins lists them.")
    ] = "StackedDenseNet",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter; may be repeated."),
    ] = None,
    target: Annotated[
        Target,
        typer.Option(
            help="keypoints of one animal, or centroids: a point for each animal in whole frames, "
            "for dpk track --detector centroids."
        ),
    ] = Target.keypoints,
    anchor: Annotated[
        str | None,
        typer.Option(
            help="For centroids: the keypoint to find. Default: the middle of each animal."
        ),
    ] = None,
    max_animals: Annotated[
        int | None,
        typer.Option(
            help="For centroids: in a frame at most. Default: twice as many as are labelled."
        ),
    ] = None,
    partly_labelled: Annotated[
        bool | None,
        typer.Option(
            "--partly-labelled/--fully-labelled",
            help="For centroids: whether frames show animals that nobody labelled. Default: as "
            "the labels say.",
        ),
    ] = None,
    downsample_factor: Annotated[
        int | None,
        typer.Option(
            help="Confidence maps are 2^this times smaller than the images. Default: what the "
            "model is made for, mostly 2."
        ),
    ] = None,
    scale: Annotated[
        float, typer.Option(help="Resize images by this; 0.5 trains four times as fast.")
    ] = 1.0,
    sigma: Annotated[
        float, typer.Option(help="Width of a confidence peak, in pixels of the resized images.")
    ] = 5.0,
    grayscale: Annotated[bool, typer.Option("--grayscale", help="Train without colour.")] = False,
    graph: Annotated[
        bool | None,
        typer.Option(
            "--graph/--no-graph",
            help="Learn the posture graph as well. Default: where the skeleton has edges. "
            "Trainings of a few minutes are better without.",
        ),
    ] = None,
    augmenter: Annotated[
        str, typer.Option(help="default, none, or the name of a plugin's.")
    ] = "default",
    validation_split: Annotated[
        float, typer.Option(help="Fraction of the images held out for validation.")
    ] = 0.1,
    group_by: Annotated[
        GroupBy, typer.Option(help="Hold out whole videos, blocks of frames, or single images.")
    ] = GroupBy.auto,
    all_labels: Annotated[
        bool,
        typer.Option("--all-labels", help="Also train on positions not marked as annotated."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of split, weights, order and augmentation.")] = 0,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="At most so many passes over the images. Default: the time limit decides, or "
            "without one the recipe, about 4,000 steps and at least 30 passes."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Where the options below come from that are not given: paper is the published "
            "routine, cosine the default."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    workers: Annotated[int, typer.Option(help="Threads that prepare images.")] = 1,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam, to begin with.")] = None,
    schedule: Annotated[
        Schedule | None,
        typer.Option(help="plateau: fall when it stalls; cosine: fall to the end of the time."),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(help="Keep a running average of the weights: 0.99, say; 0 for none."),
    ] = None,
    precision: Annotated[
        TrainingPrecision | None,
        typer.Option(help="What training computes in. auto: 16 bits on GPUs made for it."),
    ] = None,
    devices: Annotated[
        str, typer.Option(metavar="N", help="GPUs to train on; auto takes all.")
    ] = "auto",
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after this, such as 20m or 1h30m.")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for log, split, checkpoints. Default: the output with .run."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the training that was interrupted.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a model and a run that are there.")
    ] = False,
) -> None:
    """Train a model on labelled images.

    [bold]Example:[/bold] dpk train labels.h5 -o model.keras --set growth_rate=32 --scale 0.5

    It ends by itself and keeps the best weights: after about 4,000 steps and at least 30 passes
    over the images, or after --epochs or --time-limit. [bold]--recipe paper[/bold] is the published
    routine, which ends when the validation error no longer improves. Ctrl-C ends it sooner and
    keeps the best weights so far; the same command with [bold]--resume[/bold] then carries on.
    """
    import warnings

    from dpk_core.cli.options import assignments, given, seconds
    from dpk_core.cli.progress import training_shown
    from dpk_core.errors import DpkWarning
    from dpk_core.workflow.train import train_model

    fit_options = given(
        recipe=recipe,
        batch_size=batch_size,
        n_workers=workers,
        epochs=epochs,
        learning_rate=learning_rate,
        schedule=None if schedule is None else schedule.value,
        ema=ema,
        precision=None if precision is None else precision.value,
        devices=_count_devices(devices),
        time_limit=None if time_limit is None else seconds(time_limit),
    )
    with training_shown() as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", DpkWarning)  # they are told below
        result = train_model(
            labels,
            model,
            output,
            hyperparameters=assignments(settings or ()),
            generator_options={
                **given(downsample_factor=downsample_factor),
                "scale": scale,
                "sigma": sigma,
                "grayscale": grayscale,
                "use_graph": graph,
                "augmenter": None if augmenter.lower() == "none" else augmenter,
                "validation_split": validation_split,
                "group_by": group_by.value,
                "only_annotated": not all_labels,
                "centroids": _centroids(target, anchor, max_animals, partly_labelled),
                "seed": seed,
            },
            fit_options=fit_options,
            run_dir=run_dir,
            resume=resume,
            overwrite=force,
            progress=progress,
            on_start=note,
        )
    say(_summary(result))
    for remark in result.notes:
        note(remark)
    if result.was_interrupted:
        note(f"Interrupted. Carry on with: {_resume_command()}")
        raise typer.Exit(INTERRUPTED)


def _centroids(target: Target, anchor: Any, max_animals: Any, partly_labelled: Any) -> Any:
    """What a detector shall find; None for poses."""
    from dpk_core.centroids import Centroids

    if target is Target.centroids:
        return Centroids(anchor, max_animals, partly_labelled)
    if (anchor, max_animals, partly_labelled) != (None, None, None):
        raise typer.BadParameter(
            "--anchor, --max-animals and --partly-labelled are for --target centroids"
        )
    return None


def _count_devices(text: str) -> int | None:
    """None for "auto", which is what models do anyway."""
    if text.lower() == "auto":
        return None
    if not text.isdigit() or not int(text):
        raise typer.BadParameter(f"expected auto or a number above 0, found {text!r}")
    return int(text)


def _summary(result: Any) -> str:
    text = f"{result.output}: {result.stopped}"
    if result.best:
        text += f", best epoch {result.best['epoch']:.0f}"
    else:
        text += " before the first epoch was done"
    if not math.isnan(result.validation_error_px):
        text += f", validation error {result.validation_error_px:.2f} px"
    return f"{text}; log in {result.run_dir}"


def _resume_command() -> str:
    arguments = [a for a in sys.argv[1:] if a not in ("--resume", "--force")]
    return shlex.join(["dpk", *arguments, "--resume"])
