"""How long work tells of itself: one callback for all of the workflow."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then with what is done, of how much, and what is being done.

    ``done`` counts up to ``total`` within one ``message``; another message begins a new count.
    ``total`` is None while it is not known.
    """

    def __call__(self, done: int, total: int | None, message: str) -> None: ...


def ignore(done: int, total: int | None, message: str) -> None:
    """Tell nobody."""
