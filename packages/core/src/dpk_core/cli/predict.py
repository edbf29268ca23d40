"""``dpk predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import INTERRUPTED, note, say
from dpk_core.cli.options import Precision


def command(
    model: Annotated[Path, typer.Argument(help="A trained model.")],
    video: Annotated[
        Path, typer.Argument(help="A video; or a labelled set (.h5), or a folder of images.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Default: VIDEO.poses.h5 beside the video."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Frames at once.")] = 32,
    start: Annotated[int, typer.Option(help="The first frame, from 0.")] = 0,
    stop: Annotated[int | None, typer.Option(help="The frame after the last one.")] = None,
    engine: Annotated[
        str, typer.Option(help="What runs the model; auto takes the fastest that is installed.")
    ] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="int8 and bfloat16 are faster and less exact.")
    ] = Precision.float32,
    tracks: Annotated[
        Path | None,
        typer.Option("--tracks", help="Tracks of this video: each individual is cropped out."),
    ] = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Turn the crops so that bodies point to the right.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew and replace the output.")
    ] = False,
) -> None:
    """Find the keypoints in every frame of a video.

    [bold]Examples:[/bold]

    dpk predict model.keras mouse.mp4

    dpk predict model.keras flies.mp4 --tracks flies.tracks.h5

    Results are stored while it runs. Interrupted or killed, the same command carries on at the
    next frame; when all is done already, it says so and does nothing.
    """
    from dpk_core.cli.progress import duration, shown
    from dpk_core.workflow.predict import predict_video

    try:
        with shown() as progress:
            result = predict_video(
                model,
                video,
                output,
                batch_size=batch_size,
                engine=engine,
                precision=precision.value,
                overwrite=force,
                start=start,
                stop=stop,
                tracks=tracks,
                rotate=rotate,
                progress=progress,
            )
    except KeyboardInterrupt:
        note("Interrupted. What was done is stored; the same command carries on from there.")
        raise typer.Exit(INTERRUPTED) from None
    frames = "frames" if tracks is None else "crops"  # of each individual in each frame
    if result.nothing_to_do:
        say(f"{result.output}: all {result.n_frames} {frames} were done already")
        return
    done = result.n_frames - result.n_before
    before = f", {result.n_before} of them before" if result.n_before else ""
    took = f"in {duration(result.seconds)} ({done / max(result.seconds, 1e-9):.1f} {frames}/s)"
    say(f"{result.output}: {result.n_frames} {frames}{before}, {took}, by {result.engine}")
