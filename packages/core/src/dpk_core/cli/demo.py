"""``dpk demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import INTERRUPTED, note, say


def command(
    folder: Annotated[Path, typer.Argument(help="Where the results go.")] = Path("dpk-demo"),
    time_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long to train, such as 90s or 5m.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another one makes another animal.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Begin anew.")] = False,
) -> None:
    """Do the whole job on a made-up animal, in a few minutes.

    [bold]Example:[/bold] dpk demo

    Makes a video of an animal whose keypoints are known, samples frames, trains a model, predicts
    the video, prints the error in pixels, and draws what it found. Interrupted, the same command
    carries on.
    """
    from dpk_core.cli.options import given, seconds
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.demo import run_demo

    options = given(time_budget=None if time_budget is None else seconds(time_budget))
    try:
        with shown() as progress:
            result = run_demo(folder, seed=seed, overwrite=force, progress=progress, **options)
    except KeyboardInterrupt:
        note("Interrupted. The same command carries on.")
        raise typer.Exit(INTERRUPTED) from None
    say(str(result))
