"""Server-sent events: what tells open pages that labels have changed.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from dpk_annotator.store import Changed

PING_SECONDS = 15.0
MOST_LISTENERS = 100
_LONGEST_QUEUE = 200

Event = tuple[str, dict[str, Any]]


class _Listener:
    """The events that one page has not been sent yet."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None

    def ping(self, revision: Callable[[], int]) -> None:
        """Put a ping now, and then every few seconds."""
        self.put(("ping", {"revision": revision()}))
        self._timer = self.loop.call_later(PING_SECONDS, self.ping, revision)

    def end(self) -> None:
        """No more pings."""
        if self._timer is not None:
            self._timer.cancel()

    def put(self, event: Event | None) -> None:
        """Called in the loop's thread. A page that reads too slowly is told to load all anew."""
        if event is not None and self.queue.qsize() >= _LONGEST_QUEUE:
            while not self.queue.empty():
                self.queue.get_nowait()
            event = ("changed", {"revision": event[1].get("revision"), "rows": None, "client": ""})
        self.queue.put_nowait(event)


class Hub:
    """Takes events from any thread and hands them to all pages that listen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: set[_Listener] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def publish(self, name: str, **data: Any) -> None:
        """Tell all pages; returns at once."""
        self._put((name, data))

    def changed(self, changed: Changed) -> None:
        """Tell of labels that have changed; for `Store.on_change`."""
        rows = None if changed.rows is None else list(dict.fromkeys(changed.rows))
        self.publish("changed", revision=changed.revision, rows=rows, client=changed.client)

    def saved(self, revision: int) -> None:
        """Tell that the HDF5 file is up to date; for `Store.on_saved`."""
        self.publish("saved", revision=revision)

    def warned(self, texts: list[str]) -> None:
        """Tell what is to be known now; for `Store.on_notices`."""
        self.publish("warnings", warnings=texts)

    def close(self) -> None:
        """End all streams, for a server does not stop before its answers have ended."""
        self._closed = True
        self._put(None)

    async def listen(self, revision: Callable[[], int]) -> AsyncIterator[bytes]:
        """The stream for one page: a ping at once, then events as they come.

        ``revision`` is called for each ping: a page that was away sees whether it missed any.
        """
        listener = _Listener()
        with self._lock:
            if self._closed or len(self._listeners) >= MOST_LISTENERS:
                return
            self._listeners.add(listener)
        try:
            yield b"retry: 1000\n\n"
            listener.ping(revision)
            while (event := await listener.queue.get()) is not None:
                yield _encode(event)
        finally:
            listener.end()
            with self._lock:
                self._listeners.discard(listener)

    def _put(self, event: Event | None) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener.loop.call_soon_threadsafe(listener.put, event)
            except RuntimeError:  # its loop has ended meanwhile
                with self._lock:
                    self._listeners.discard(listener)


def _encode(event: Event) -> bytes:
    name, data = event
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
