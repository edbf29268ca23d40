"""Progress: bars with the time left on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)

from dpk_core.cli.console import err, note
from dpk_core.cli.progress_file import progress_file
from dpk_core.progress import TrainProgress
from dpk_core.workflow.progress import Progress

_PLAIN_FIRST_S, _PLAIN_EVERY_S = 5.0, 30.0
"""Lines for a log: when something takes so long, and then so often."""


@contextmanager
def shown() -> Iterator[Progress]:
    """A progress callback for the workflow's functions."""
    file = progress_file()
    with _visible() as show:
        if file is None:
            yield show
            return

        def both(done: int, total: int | None, message: str) -> None:
            show(done, total, message)
            file.tell(done, total, message)

        yield both


@contextmanager
def training_shown() -> Iterator[Callable[[TrainProgress], None]]:
    """A progress callback for a training."""
    file = progress_file()
    with _training_visible() as show:
        if file is None:
            yield show
            return

        def both(event: TrainProgress) -> None:
            show(event)
            file.tell_training(event, _fraction(event), _words(event))

        yield both


@contextmanager
def _visible() -> Iterator[Progress]:
    if err().is_terminal:
        with _bars() as bars:
            yield _OnTerminal(bars)
    else:
        yield _Plain()


@contextmanager
def _training_visible() -> Iterator[Callable[[TrainProgress], None]]:
    if err().is_terminal:
        with _bars() as bars:
            task = bars.add_task("starting", total=1.0)

            def update(event: TrainProgress) -> None:
                bars.update(task, completed=_fraction(event), description=_words(event))

            yield update
    else:
        yield _PlainTraining()


def duration(seconds: float) -> str:
    """In words, as short as is useful.

    Examples
    --------
    >>> duration(4.21), duration(75), duration(7300)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


class _OnTerminal:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._message = ""
        self._task: TaskID | None = None

    def __call__(self, done: int, total: int | None, message: str) -> None:
        if message != self._message or self._task is None:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(message, total=total, completed=done)
            self._message = message
        self._bars.update(self._task, completed=done, total=total)


class _Plain:
    """Few lines, so that a log stays short and still shows that work goes on."""

    def __init__(self) -> None:
        self._message = ""
        self._began = 0.0
        self._first = 0
        self._lines = _Seldom()

    def __call__(self, done: int, total: int | None, message: str) -> None:
        if message != self._message:
            self._message, self._began, self._first = message, time.monotonic(), done
            self._lines = _Seldom()
        if self._lines.is_due():
            note(self._line(done, total))

    def _line(self, done: int, total: int | None) -> str:
        if not total:
            return self._message
        speed = (done - self._first) / (time.monotonic() - self._began)
        left = f", {duration((total - done) / speed)} left" if speed > 0 else ""
        return f"{self._message}: {done} of {total}{left}"


class _PlainTraining:
    def __init__(self) -> None:
        self._lines = _Seldom()

    def __call__(self, event: TrainProgress) -> None:
        if self._lines.is_due():
            note(f"{_words(event)}, {duration(event.elapsed_s)} so far")


class _Seldom:
    """When a line is due: after five seconds, then every half minute."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PLAIN_FIRST_S

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _PLAIN_EVERY_S
        return True


def _fraction(event: TrainProgress) -> float:
    """How much is done at least: training may end earlier when it no longer improves."""
    done = event.epoch - 1 + event.step / max(1, event.steps)
    steps = 0.0 if event.epochs is None else done / max(1, event.epochs)
    if event.time_limit_s is None:
        return min(1.0, steps)
    return min(1.0, max(steps, event.elapsed_s / event.time_limit_s))


def _words(event: TrainProgress) -> str:
    of = "" if event.epochs is None else f"/{event.epochs}"
    text = f"epoch {event.epoch}{of}, loss {event.loss:.4g}"
    if not math.isnan(event.validation_error_px):
        text += f", validation error {event.validation_error_px:.2f} px"
    if event.best_epoch:
        text += f" (best epoch {event.best_epoch})"
    return text


def _bars() -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    )
