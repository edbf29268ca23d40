"""Running an iterator ahead in a thread, by a bounded number of items."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Iterates over ``make()`` in a thread that stays at most ``depth`` items ahead.

    Items come in order and errors come after the items before them. The thread ends when the
    items do, on `close`, and when the prefetcher is forgotten.

    Examples
    --------
    >>> def letters():
    ...     yield from "dpk"
    >>> "".join(Prefetcher(letters, depth=2))
    'dpk'
    """

    def __init__(self, make: Callable[[], Generator[T, None, None]], depth: int) -> None:
        self._shared: _Shared[T] = _Shared(depth)
        self._thread = threading.Thread(
            target=_fill, args=(make, self._shared), name="dpk-prefetch", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self._shared.take()

    def close(self) -> None:
        """End the thread and wait for it."""
        self._shared.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __del__(self) -> None:
        self._shared.stop()


class _Shared(Generic[T]):
    """What the two threads share; it knows neither of them, so that both can be forgotten."""

    def __init__(self, depth: int) -> None:
        self._depth = max(1, depth)
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._finished = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Hand over an item, waiting for room; False when nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < self._depth)
            if self._stopped:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def finish(self, error: BaseException | None) -> None:
        with self._changed:
            self._finished = True
            self._error = error
            self._changed.notify_all()

    def take(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._finished or self._stopped)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._stopped:
                raise ValueError("the iteration was closed")
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()


def _fill(make: Callable[[], Generator[T, None, None]], shared: _Shared[T]) -> None:
    error: BaseException | None = None
    try:
        with closing(make()) as items:
            for item in items:
                if not shared.put(item):
                    break
    except BaseException as caught:
        error = caught
    shared.finish(error)
