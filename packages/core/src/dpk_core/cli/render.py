"""``dpk render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import INTERRUPTED, note, say


def command(
    poses: Annotated[Path, typer.Argument(help="A file of poses, or of tracks.")],
    video: Annotated[Path, typer.Argument(help="The video that they were found in.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Default: VIDEO.labelled.mp4 beside the poses."),
    ] = None,
    tracks: Annotated[
        Path | None, typer.Option("--tracks", help="Draw these tracks, too: boxes, ids, trails.")
    ] = None,
    trail: Annotated[
        int, typer.Option(help="Draw where each keypoint was in so many frames before.")
    ] = 0,
    min_score: Annotated[
        float | None, typer.Option(help="Draw keypoints with a lower score faintly.")
    ] = None,
    start: Annotated[int, typer.Option(help="The first frame, from 0.")] = 0,
    stop: Annotated[int | None, typer.Option(help="The frame after the last one.")] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second; default: as the video.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Size of the new video relative to the old one.")
    ] = None,
    legend: Annotated[bool, typer.Option("--legend", help="List the keypoints' names.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Draw the keypoints, or the tracks, that were found onto the video.

    [bold]Examples:[/bold]

    dpk render mouse.poses.h5 mouse.mp4 -o mouse.labelled.mp4 --trail 20

    dpk render flies.tracks.h5 flies.mp4 --trail 50
    """
    from dpk_core.cli.options import given
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.render import is_tracks, render_video

    only_tracks = tracks is None and is_tracks(poses)
    output = poses.with_name(f"{video.stem}.labelled.mp4") if output is None else output
    try:
        with shown() as progress:
            result = render_video(
                None if only_tracks else poses,
                video,
                output,
                tracks=poses if only_tracks else tracks,
                overwrite=force,
                trail=trail,
                start=start,
                legend=legend,
                progress=progress,
                **given(min_score=min_score, stop=stop, fps=fps, scale=scale),
            )
    except KeyboardInterrupt:
        partial = output.with_name(f"{output.stem}.partial{output.suffix}")
        where = f" Frames that were done are in {partial.name}."
        note(f"Interrupted.{where if partial.exists() else ''}")
        raise typer.Exit(INTERRUPTED) from None
    if result.of_another_file:
        note(
            f"{video} is not the file that was analysed, though it has as many frames of the same "
            "size (its fingerprint differs). Encoded anew, its frames are the same; otherwise what "
            "is drawn is of another film."
        )
    height, width = result.size
    what = "an individual" if only_tracks else "a pose"
    bare = f", {result.n_without_pose} of them without {what}" if result.n_without_pose else ""
    say(f"{result.output}: {result.n_frames} frames of {height}x{width}{bare}")
