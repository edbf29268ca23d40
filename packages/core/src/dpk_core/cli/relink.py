"""``dpk relink``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import note, say


def command(
    files: Annotated[list[Path], typer.Argument(help="Labels, poses or tracks.")],
    search: Annotated[
        list[Path] | None,
        typer.Option("--search", "-s", help="Where to look: folders (and all below), or videos."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look; change nothing.")] = False,
) -> None:
    """Find videos that were moved, check that they are the same, and write down where they are.

    [bold]Example:[/bold] dpk relink labels.h5 walk.poses.h5 --search /archive/videos

    The same means: as many frames, of the same size, with the same content. Exit code 1 when a
    video was not found.
    """
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.relink import relink

    lost = 0
    for file in files:
        with shown() as progress:
            links = relink(file, search or (), write=not dry_run, progress=progress)
        if not links:
            say(f"{file}: names no video")
        for link in links:
            where = f" at {link.path}" if link.path is not None else ""
            say(f"{file}: {link.video}: {link.state}{where}")
            for reason in link.reasons:
                note(f"  {reason}")
            lost += link.path is None
    if lost:
        note(f"{lost} not found; name more folders with --search")
        raise typer.Exit(1)
