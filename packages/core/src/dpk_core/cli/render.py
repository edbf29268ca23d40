"""``dpk render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import say


def command(
    poses: Annotated[Path, typer.Argument(help="A file of poses that dpk predict wrote.")],
    video: Annotated[Path, typer.Argument(help="The video that they were found in.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Default: VIDEO.labelled.mp4 beside the poses."),
    ] = None,
    start: Annotated[int, typer.Option(help="The first frame, from 0.")] = 0,
    stop: Annotated[int | None, typer.Option(help="The frame after the last one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Draw the keypoints that were found onto the video.

    [bold]Example:[/bold] dpk render mouse.poses.h5 mouse.mp4 -o mouse.labelled.mp4
    """
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.render import render_video

    output = poses.with_name(f"{video.stem}.labelled.mp4") if output is None else output
    with shown() as progress:
        render_video(
            poses, video, output, start=start, stop=stop, overwrite=force, progress=progress
        )
    say(str(output))
