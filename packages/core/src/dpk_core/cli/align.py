"""``dpk align``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import note, say


def command(
    labels: Annotated[
        Path, typer.Argument(help="Labelled images: a .h5 set, or another program's project.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The set to write.")],
    tail: Annotated[str, typer.Option(help="Keypoint at the rear end of the body axis.")],
    head: Annotated[str, typer.Option(help="Keypoint at its front end; comes to the right.")],
    size: Annotated[
        int | None,
        typer.Option(help="Side of the images in pixels. Default: as the largest animal needs."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a set that is there.")] = False,
) -> None:
    """Turn labelled animals so that all of them point to the right.

    [bold]Example:[/bold] dpk align labels.h5 --tail abdomen --head head -o aligned.h5

    A model that is trained on them is used with dpk predict --tracks --rotate.
    """
    from dpk_core.workflow.align import align_set

    done = align_set(labels, output, tail, head, size=size, overwrite=force)
    say(f"{done.output}: {done.n_images} images of {done.size[0]}x{done.size[1]} pixels")
    if done.left_out:
        note(f"{done.left_out} left out: {tail} or {head} is not labelled there")
