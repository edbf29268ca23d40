"""``dpk demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import say


def command(
    folder: Annotated[Path, typer.Argument(help="Where the results go.")] = Path("dpk-demo"),
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo.")] = False,
) -> None:
    """Do the whole job on a made-up animal, in a few minutes.

    [bold]Example:[/bold] dpk demo

    Makes a video of an animal whose keypoints are known, samples frames, trains a model, predicts
    the video, prints the error in pixels, and draws what it found.
    """
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.demo import run_demo

    with shown() as progress:
        result = run_demo(folder, overwrite=force, progress=progress)
    say(str(result))
