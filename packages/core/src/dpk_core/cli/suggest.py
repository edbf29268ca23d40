"""``dpk suggest``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpk_core.cli.console import note, say, table

if TYPE_CHECKING:
    from dpk_core.workflow.suggest import Suggestions


class By(str, Enum):
    """Ways to choose."""

    combined = "combined"
    confidence = "confidence"
    entropy = "entropy"
    speed = "speed"
    acceleration = "acceleration"
    autoregression = "autoregression"
    diversity = "diversity"


def command(
    source: Annotated[
        Path, typer.Argument(help="The video, labelled set or image folder that was predicted.")
    ],
    poses: Annotated[
        Path | None, typer.Option(help="What was predicted; default: where dpk predict puts it.")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", "-n", help="How many.")] = 20,
    by: Annotated[
        By,
        typer.Option(
            help="combined ranks by all that is known and then takes those that differ; entropy "
            "needs --model."
        ),
    ] = By.combined,
    add: Annotated[
        Path | None,
        typer.Option(
            help="Add them to this set, unlabelled, with the prediction as a first guess; frames "
            "in it are not suggested again."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A set whose frames are not suggested again.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="To look at confidence maps, which poses don't hold.")
    ] = None,
    min_distance: Annotated[
        int | None, typer.Option(help="Frames between two of them at least.")
    ] = None,
    use_images: Annotated[
        bool, typer.Option("--images/--no-images", help="Compare images, too, not poses alone.")
    ] = True,
) -> None:
    """Suggest the frames to label next, with reasons.

    [bold]Example:[/bold] dpk suggest mouse.mp4 --poses mouse.poses.h5 -n 20 --add labels.h5

    Label those, [bold]dpk train[/bold] again, [bold]dpk predict[/bold] again: each time where the
    model is weakest.
    """
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.suggest import suggest_frames
    from dpk_core.workflow.suggest_add import add_suggestions

    if add is not None and labels is not None:
        raise typer.BadParameter("--add leaves out what its set has already; give one of the two")
    with shown() as progress:
        result = suggest_frames(
            source,
            poses,
            frames,
            by=by.value,
            labels=add if add is not None else labels,
            model=model,
            min_distance=min_distance,
            use_images=use_images,
            progress=progress,
        )
        added = add_suggestions(add, result, source, poses, progress=progress) if add else 0
    _show(result)
    for text in result.notes:
        note(f"Note: {text}")
    if add is not None:
        say(f"{add}: {added} frames to label")


def _show(result: Suggestions) -> None:
    tracked = any(one.track >= 0 for one in result.chosen)
    columns = ["frame", *(["track"] if tracked else []), "rank", "why"]
    rows = [
        [one.frame, *([one.track] if tracked else []), f"{one.score:.2f}", "; ".join(one.reasons)]
        for one in result.chosen
    ]
    table(columns, rows, numbers=columns[:-1])
