"""Where the command writes: results to stdout, everything about the work to stderr."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def out() -> Console:
    """The console for results. Made anew each time, as tests exchange the streams."""
    return _console(stderr=False)


def err() -> Console:
    """The console for progress, notes and errors."""
    return _console(stderr=True)


def say(text: str) -> None:
    """A plain line of the result."""
    out().print(text, markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A line about the work."""
    err().print(text, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """An error's message."""
    err().print(f"Error: {text}", markup=False, highlight=False, soft_wrap=True, style="red")


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
    from rich.text import Text

    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    console.print(drawn)


def _flat(cell: Any) -> str:
    return " ".join(str(cell).split())


def _console(*, stderr: bool) -> Console:
    return Console(stderr=stderr, highlight=False)
