"""A thread that brings the file up to date now and then: rarely, for it costs a copy of the set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_SHARE = 20
"""The thread rests at least so many times as long as the last update took."""

_RETRY = 30.0


class Updater:
    """Calls ``update`` some time after the last of many edits.

    Parameters
    ----------
    update
        Brings the file up to date; gives False when that failed, to be tried again later.
    after
        Seconds without an edit after which it is called.
    latest
        Seconds after the first edit when it is called though edits go on.
    """

    def __init__(self, update: Callable[[], bool], after: float, latest: float) -> None:
        self._update = update
        self._after, self._latest = after, latest
        self._wake = threading.Condition()
        self._first = self._last = 0.0
        self._pending = False
        self._closed = False
        self._not_before = 0.0
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        """There is an edit that the file has not."""
        with self._wake:
            if self._closed:
                return
            now = time.monotonic()
            self._last = now
            if not self._pending:
                self._first, self._pending = now, True
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="dpk-annotator-update", daemon=True
                )
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """Stop; an update that is running is waited for."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._closed and (rest := self._rest()) > 0:
                    self._wake.wait(None if rest == float("inf") else rest)
                if self._closed:
                    return
                self._pending = False
            start = time.monotonic()
            done = self._update()
            end = time.monotonic()
            with self._wake:
                self._not_before = end + _SHARE * (end - start)
                if not done:
                    self._not_before = max(self._not_before, end + _RETRY)
                    if not self._pending:
                        self._first = self._last = end
                        self._pending = True

    def _rest(self) -> float:
        """Seconds until the next update is due."""
        if not self._pending:
            return float("inf")
        due = min(self._last + self._after, self._first + self._latest)
        return max(due, self._not_before) - time.monotonic()
