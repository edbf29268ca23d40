"""``dpk swaps``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import note, say, table


def command(
    tracks: Annotated[Path, typer.Argument(help="A file of tracks.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A CSV table to write; tracks with --exchange."),
    ] = None,
    numbers: Annotated[
        list[int] | None,
        typer.Option(
            "--exchange",
            help="Exchange the names of this candidate (or undo it); may be repeated.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """List the meetings after which two animals may bear each other's name.

    [bold]Example:[/bold] dpk swaps flies.tracks.h5 -o swaps.csv

    The likeliest come first. Those that are "corrected" were exchanged by the tracker. Look at
    them (dpk render) and exchange, or undo, what is wrong: dpk swaps flies.tracks.h5 --exchange 2
    -o mended.tracks.h5
    """
    from dpk_core.workflow.swaps import COLUMNS, exchange_names, list_swaps

    if numbers:
        if output is None:
            raise typer.BadParameter("name the tracks to write, too", param_hint="--output")
        exchange_names(tracks, numbers, output, overwrite=force)
        say(f"{output}: names of {len(numbers)} exchanged")
        return
    found = list_swaps(tracks, output, overwrite=force)
    if output is not None:
        say(f"{output}: {len(found)} candidates")
        return
    if not found:
        note(f"{tracks}: the tracker noted no meeting that may be a swap")
        return
    rows = [
        (i, c.frame, c.stop, c.first, c.second, f"{c.evidence:.1f}", "yes" if c.corrected else "no")
        for i, c in enumerate(found)
    ]
    table(COLUMNS, rows, numbers=COLUMNS[:-1])
