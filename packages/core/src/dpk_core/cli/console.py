"""Where the command writes: results to stdout, everything about the work to stderr."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def out() -> Console:
    """The console for results. Made anew each time, as tests exchange the streams."""
    return Console(highlight=False)


def err() -> Console:
    """The console for progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """A plain line of the result."""
    typer.echo(text)


def note(text: str) -> None:
    """A line about the work."""
    typer.echo(text, err=True)


def complain(text: str) -> None:
    """An error's message."""
    typer.secho(f"Error: {text}", err=True, fg="red")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str] = ()
) -> None:
    """A table on a terminal, tab-separated lines elsewhere, so that other programs can read it."""
    console = out()
    if not console.is_terminal:
        for row in (columns, *rows):
            say("\t".join(_flat(cell) for cell in row))
        return
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, justify="right" if column in numbers else "left")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    console.print(drawn)


def _flat(cell: Any) -> str:
    return " ".join(str(cell).split())
