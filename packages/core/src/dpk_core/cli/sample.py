"""``dpk sample``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import note, say


class Method(str, Enum):
    """Ways to choose frames."""

    kmeans = "kmeans"
    uniform = "uniform"
    random = "random"


def command(
    videos: Annotated[list[Path], typer.Argument(help="Videos, all of one frame size.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The annotation set to write.")],
    skeleton: Annotated[
        Path | None,
        typer.Option("--skeleton", "-s", help="CSV with the columns name, parent, swap."),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", "-n", help="Frames from each video.")] = 50,
    method: Annotated[
        Method,
        typer.Option(help="kmeans chooses frames that differ; uniform, at equal distances."),
    ] = Method.kmeans,
    seed: Annotated[int, typer.Option(help="The same seed chooses the same frames.")] = 0,
    grayscale: Annotated[bool, typer.Option("--grayscale", help="Store gray images.")] = False,
    append: Annotated[
        bool, typer.Option("--append", help="Add to the set; frames in it are not chosen again.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the output, labels and all.")
    ] = False,
) -> None:
    """Choose frames of videos to annotate.

    [bold]Example:[/bold] dpk sample mouse1.mp4 mouse2.mp4 -s skeleton.csv -o labels.h5 -n 100

    Writes an annotation set without labels; annotate it, then [bold]dpk train[/bold]. Add frames
    of another video later: dpk sample mouse3.mp4 -o labels.h5 --append
    """
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.sample import sample_videos

    with shown() as progress:
        result = sample_videos(
            videos,
            output,
            skeleton,
            n_frames=frames,
            method=method.value,
            seed=seed,
            grayscale=grayscale,
            append=append,
            overwrite=force,
            progress=progress,
        )
    for text in result.notes:
        note(f"Note: {text}")
    for video, count in result.added.items():
        there = f" ({result.skipped[video]} were there already)" if result.skipped[video] else ""
        say(f"{video}: {count} frames{there}")
    say(f"{result.output}: {result.n_images} images")
