"""``dpk track``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpk_core.cli.console import INTERRUPTED, note, say
from dpk_core.cli.options import assignments
from dpk_core.cli.progress import duration

if TYPE_CHECKING:
    from dpk_core.workflow.track import Tracking


def command(
    video: Annotated[Path, typer.Argument(help="A video, or a folder of images.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: VIDEO.tracks.h5.")
    ] = None,
    tracker: Annotated[
        str, typer.Option(help="How individuals are followed (`dpk plugins` lists them).")
    ] = "kalman",
    detector: Annotated[
        str | None,
        typer.Option(help="How they are found. Default: what suits the tracker, or background."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the tracker.")
    ] = None,
    detector_settings: Annotated[
        list[str] | None, typer.Option("--detector-set", help="NAME=VALUE of the detector.")
    ] = None,
    poses: Annotated[
        Path | None,
        typer.Option(help="Follow the poses in this file, by their keypoints; no detector."),
    ] = None,
    start: Annotated[int, typer.Option(help="The first frame, from 0.")] = 0,
    stop: Annotated[int | None, typer.Option(help="The frame before which to stop.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Find every animal in a video and follow it.

    [bold]Example:[/bold] dpk track flies.mp4 --tracker fixed_count --set count=2

    Interrupted, the same command carries on. What comes next: dpk predict model.keras flies.mp4
    --tracks flies.tracks.h5
    """
    from dpk_core.cli.progress import shown
    from dpk_core.swaps import swap_candidates
    from dpk_core.workflow.track import track_video

    try:
        with shown() as progress:
            done = track_video(
                video,
                output,
                tracker=tracker,
                detector=detector,
                tracker_settings=assignments(settings or []),
                detector_settings=assignments(detector_settings or []),
                poses=poses,
                start=start,
                stop=stop,
                overwrite=force,
                progress=progress,
            )
    except KeyboardInterrupt:
        note("Interrupted. What was found is stored; the same command carries on from there.")
        raise typer.Exit(INTERRUPTED) from None
    if done.nothing_to_do:
        say(f"{done.output}: all {done.n_frames} frames were tracked already")
        return
    looked_at = done.n_frames - done.n_before
    before = f", {done.n_before} of {done.n_frames} frames looked at before" * bool(done.n_before)
    say(
        f"{done.output}: {done.tracks!r}, by {done.tracker} on {done.detector} in "
        f"{duration(done.seconds)} ({looked_at / done.seconds:.1f} frames/s){before}"
    )
    if not len(done.tracks):
        note(_nobody(done))
    elif done.n_detections > 2 * int((~done.tracks.interpolated).sum()):
        note(
            f"{done.tracker} left more than half of the {done.n_detections} detections to nobody; "
            "if these are animals, and not mistakes, it asks for higher scores than they have "
            f"(the best is {done.best_score:.2f})."
        )
    candidates = swap_candidates(done.tracks)
    if candidates:
        corrected = sum(c.corrected for c in candidates)
        say(
            f"{len(candidates)} meetings after which names may be exchanged, {corrected} of them "
            f"corrected: dpk swaps {done.output}"
        )


def _nobody(done: Tracking) -> str:
    """Why there is not a single track, as far as one can tell."""
    if not done.n_detections:
        return (
            f"Nobody was followed: {done.detector} found nothing in {done.n_frames} frames. Other "
            "settings (--detector-set) or another detector may; dpk plugins lists them."
        )
    return (
        f"Nobody was followed: {done.detector} found {done.n_detections} times something, with "
        f"scores of at most {done.best_score:.2f}, and {done.tracker} took none of it for an "
        "animal. Train the model for longer, or ask for lower scores (--set)."
    )
