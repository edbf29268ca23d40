"""``dpk convert``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import note, say
from dpk_core.cli.options import assignments, given


class Kind(str, Enum):
    """What a file may hold."""

    annotations = "annotations"
    poses = "poses"
    tracks = "tracks"


def command(
    source: Annotated[Path, typer.Argument(help="The file or folder to read.")],
    target: Annotated[Path, typer.Argument(help="The file or folder to write.")],
    source_format: Annotated[
        str | None, typer.Option("--from", help="Format of the source; default: its content says.")
    ] = None,
    target_format: Annotated[
        str | None, typer.Option("--to", help="Format to write; default: the target's suffix.")
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help="What to convert where a file holds several things.")
    ] = None,
    individuals: Annotated[
        str | None,
        typer.Option(
            help="Labelled animals that share a frame: crop cuts each one out (what a model "
            "learns from; the default for dpk's own labels), frames keeps whole frames, a name "
            "takes that animal only."
        ),
    ] = None,
    crop_size: Annotated[
        int | None, typer.Option(help="Side of the crops in pixels; default: the largest animal.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Around the crops, as a share of the largest animal; default: 0.25."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if anything would be lost.")
    ] = False,
    source_option: Annotated[
        list[str] | None,
        typer.Option("--source-set", help="NAME=VALUE, an option of the source's format."),
    ] = None,
    target_option: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, an option of the target's format."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the target.")] = False,
) -> None:
    """Convert labels, poses or tracks of one program to those of another.

    [bold]Examples:[/bold]

    dpk convert project/config.yaml labels.h5

    dpk convert labels.slp coco/ --to coco

    dpk convert walk.poses.h5 walk.csv

    What the target cannot hold is told at the end, item by item.
    """
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.convert import convert

    with shown() as progress:
        done = convert(
            source,
            target,
            source_format=source_format,
            target_format=target_format,
            kind=None if kind is None else kind.value,
            individuals=individuals,
            crop_size=crop_size,
            strict=strict,
            overwrite=force,
            source_options=assignments(source_option or []),
            target_options=assignments(target_option or []),
            progress=progress,
            **given(margin=margin),
        )
    say(f"{done.output}: {done.content}, {done.source_format} -> {done.target_format}")
    if not done.losses:
        say("Nothing was lost.")
        return
    note("Not carried over:")
    for loss in done.losses:
        note(f"  {loss}")
