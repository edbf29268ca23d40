"""``dpk crop``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import INTERRUPTED, note, say


def command(
    video: Annotated[Path, typer.Argument(help="The video that was tracked.")],
    tracks: Annotated[Path, typer.Argument(help="Its file of tracks.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the videos.")],
    size: Annotated[int, typer.Option(help="Side of the crops in pixels; even.")],
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Turn the crops so that bodies point to the right.")
    ] = False,
    scale: Annotated[float, typer.Option(help="Pixels of the crop to one of the video.")] = 1.0,
    ids: Annotated[
        list[int] | None, typer.Option("--id", help="Only this individual; may be repeated.")
    ] = None,
    start: Annotated[
        int | None, typer.Option(help="The first frame, from 0. Default: as it was tracked.")
    ] = None,
    stop: Annotated[
        int | None, typer.Option(help="The frame before which to stop. Default: as tracked.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace videos that are there.")] = False,
) -> None:
    """Write one video for each tracked animal, always in its middle.

    [bold]Example:[/bold] dpk crop flies.mp4 flies.tracks.h5 --size 160 -o crops/

    To find keypoints it is not needed: dpk predict --tracks crops on the way.
    """
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.crop import crop_video

    try:
        with shown() as progress:
            done = crop_video(
                video,
                tracks,
                output,
                size=size,
                rotate=rotate,
                scale=scale,
                ids=ids,
                start=start,
                stop=stop,
                overwrite=force,
                progress=progress,
            )
    except KeyboardInterrupt:
        kept = any(output.glob("*.partial.mp4"))
        where = f" Frames that were done are in {output}, in files named .partial.mp4."
        note(f"Interrupted.{where if kept else ''}")
        raise typer.Exit(INTERRUPTED) from None
    for individual, path in done.videos.items():
        say(f"individual {individual}: {path}, {done.n_frames} frames from {done.start} on")
