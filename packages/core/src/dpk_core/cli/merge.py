"""``dpk merge``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import note, say, table


class Prefer(str, Enum):
    """Whose label is kept where two differ."""

    first = "first"
    second = "second"
    newest = "newest"


def command(
    sets: Annotated[list[Path], typer.Argument(help="Two labelled sets or more.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The set to write.")],
    prefer: Annotated[
        Prefer | None,
        typer.Option(
            help="Whose label is kept where two differ: of the set that comes first (the default), "
            "of the second, or of the file changed last."
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Where labels differ, write nothing, unless --prefer says."),
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="Pixels up to which two labels are the same.")
    ] = 0.5,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the output, labels and all.")
    ] = False,
) -> None:
    """Merge labelled sets: keypoints by name, images by content.

    [bold]Example:[/bold] dpk merge anna.h5 ben.h5 -o labels.h5

    Prints a line for each label that two sets place differently: which was kept, and how far apart
    they are.
    """
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.merge import merge_sets

    with shown() as progress:
        result = merge_sets(
            sets,
            output,
            prefer=None if prefer is None else prefer.value,
            strict=strict,
            tolerance=tolerance,
            overwrite=force,
            progress=progress,
        )
    if result.conflicts:
        columns = ["file", "row", "keypoint", "difference", "kept"]
        table(
            columns,
            [
                [
                    result.inputs[number],
                    row,
                    c.keypoint,
                    c.difference,
                    "kept" if c.kept == place else "",
                ]
                for c in result.conflicts
                for place in (c.first, c.second)
                for number, row in [place]
            ],
            numbers=["row"],
        )
        note(f"{len(result.conflicts)} labels differ, two lines each above")
    for text in result.notes:
        note(f"Note: {text}")
    say(str(result))
