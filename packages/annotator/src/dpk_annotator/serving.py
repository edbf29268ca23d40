"""Running the server: a socket, the set, a look at the disk now and then, a clean end."""

from __future__ import annotations

import errno
import getpass
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import attrs
import uvicorn

from dpk_annotator.context import Context
from dpk_annotator.films import Films
from dpk_annotator.large_blocks import give_large_blocks_back
from dpk_annotator.security import new_token
from dpk_annotator.server import create_app
from dpk_annotator.store import Store
from dpk_core.errors import OutputError

FIRST_PORT, PORTS = 8710, 20
"""Ports that are tried when none is asked for, so that an SSH tunnel can be kept."""

_POLL_SECONDS = 1.0
_LAST_ANSWERS_SECONDS = 5
_ANYWHERE = ("", "0.0.0.0", "::")


@attrs.frozen
class Address:
    """Where the page is.

    Parameters
    ----------
    host, port
        Where the server listens.
    token
        First part of the path, which lets its owner in.
    """

    host: str
    port: int
    token: str

    @property
    def url(self) -> str:
        """What to open in a browser on this computer."""
        host = "127.0.0.1" if self.host in _ANYWHERE else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/{self.token}/"

    @property
    def network_url(self) -> str | None:
        """What to open on another computer; None when only this one is served."""
        if self.host not in _ANYWHERE:
            return None
        return f"http://{socket.gethostname()}:{self.port}/{self.token}/"

    @property
    def tunnel(self) -> str:
        """What to type on another computer, which then opens the same address."""
        try:
            user = getpass.getuser()
        except (OSError, KeyError, ImportError):  # no name is known for the number of the user
            user = "USER"
        host = socket.gethostname()
        return f"ssh -N -L {self.port}:127.0.0.1:{self.port} {user}@{host}"


def listen(host: str, port: int | None) -> socket.socket:
    """A socket to serve on; without a port, one of the usual ones that is free.

    Raises
    ------
    OutputError
        When the port is taken, or the host is no address of this computer.
    """
    ports = [*range(FIRST_PORT, FIRST_PORT + PORTS), 0] if port is None else [port]
    for number in ports:
        try:
            return _bound(host, number)
        except OSError as error:
            taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
            if not taken or number == ports[-1]:
                reason = error.strerror or str(error)
                raise OutputError(
                    f"cannot listen on {host}, port {number} ({reason}); choose another --port, "
                    "or leave it out"
                ) from None
    raise AssertionError("there is always a last port")


def serve(
    store: Store,
    sock: socket.socket,
    token: str | None = None,
    videos: Sequence[Path] = (),
    ready: Callable[[Address], None] = lambda address: None,
) -> None:
    """Serve a set until Ctrl-C or SIGTERM; the caller closes the store.

    Parameters
    ----------
    store
        The open set.
    sock
        From `listen`.
    token
        By default a new one.
    videos
        Folders in which videos and poses are looked for, besides the usual ones.
    ready
        Called when the page can be opened.
    """
    give_large_blocks_back()
    host, port = sock.getsockname()[:2]
    address = Address(host, port, new_token() if token is None else token)
    context = Context(store, films=Films(store, videos))
    server = _Server(
        uvicorn.Config(
            create_app(context, address.token, host),
            lifespan="off",
            ws="none",
            access_log=False,  # it would tell the token
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
        ),
        context,
        lambda: ready(address),
    )
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    watcher = _Watcher(store)
    watcher.start()
    context.partner.start()
    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has stopped
            server.run(sockets=[sock])
    finally:
        context.partner.close()
        context.films.close()
        watcher.stop()
        context.hub.close()


class _Server(uvicorn.Server):
    """Ends the streams of events when it is told to stop: otherwise it would wait for them."""

    def __init__(self, config: uvicorn.Config, context: Context, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._context, self._ready = context, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._context.hub.close()
        super().handle_exit(sig, frame)


class _Watcher(threading.Thread):
    """Looks now and then whether other programs have changed journal or file."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="dpk-annotator-watch", daemon=True)
        self._store = store
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(_POLL_SECONDS):
            try:
                self._store.poll()
            except Exception:  # the next look may go well; nothing of the labels depends on it
                logging.getLogger("dpk_annotator").exception("looking at the set failed")

    def stop(self) -> None:
        """End it, and wait until it has."""
        self._end.set()
        self.join()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where the socket names its protocol;
    # else each waits 40 ms for the other side.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name != "nt":  # there, it would share a port that another program has
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock
