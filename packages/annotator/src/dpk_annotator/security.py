"""Who may talk to the server: the token in the path, Host, Origin, and the headers of answers.

The labels must be safe from other users of the computer (they lack the token), from web pages that
the same browser shows (their Origin is another, and what they may send is refused), and from names
that were made to lead here (DNS rebinding: their Host is not ours).
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_NO_STORE = (b"cache-control", b"no-store")

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::(?P<port>\d{1,5}))?")
_ANY = ("", "0.0.0.0", "::")

_REFUSED = "This address is not complete: open the one that dpk annotate printed."


def new_token() -> str:
    """A random text that nobody guesses (192 bits)."""
    return secrets.token_urlsafe(24)


def names_of(host: str) -> frozenset[str]:
    """The names under which a server that listens on ``host`` may be asked for."""
    names = {*LOOPBACK, host.lower()}
    if host in _ANY:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names - set(_ANY))


class Guard:
    """ASGI middleware: answers 403 to whoever may not ask, and puts the headers on every answer.

    Parameters
    ----------
    app
        Gets the path without the token.
    token
        The first part of every path.
    names
        Host names that are answered; see `names_of`. The port is not looked at: at the other end
        of an SSH tunnel it may be another one, and a page can't choose a Host name of ours.
    any_address
        Whether every number of a computer will do, too: it listens on all of them, and rebinding
        needs a name.
    """

    def __init__(
        self, app: ASGIApp, token: str, names: Iterable[str] = LOOPBACK, any_address: bool = False
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._names = frozenset(names)
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a web socket, which nobody here asks for
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                names = {name.lower() for name, _ in headers}
                headers += _HEADERS
                if b"cache-control" not in names:
                    headers.append(_NO_STORE)
                message = {**message, "headers": headers}
            await send(message)

        place = self._place(scope)
        if place is None:
            await _answer(scope, send_safely, 403, _REFUSED)
        elif place == "":
            location = (b"location", b"/" + self._token + b"/")
            await _answer(scope, send_safely, 307, "", location)
        else:
            await self._app(
                {**scope, "path": place, "raw_path": place.encode()}, receive, send_safely
            )

    def _place(self, scope: Scope) -> str | None:
        """The path after the token; None for whoever is not let in."""
        _, first, *rest = [*scope["path"].split("/", 2), "", ""][:3]
        given = first.encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._token) or not self._is_ours(scope):
            return None
        has_slash = scope["path"].count("/") > 1
        return "/" + rest[0].encode("utf-8", "replace").decode() if has_slash else ""

    def _is_ours(self, scope: Scope) -> bool:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        host = _single(headers, b"host")
        if host is None or not self._is_our_name(host):
            return False
        origin = headers.get(b"origin")
        if origin is not None and origin != [b"http://" + host.encode()]:
            return False
        site = headers.get(b"sec-fetch-site", [b"same-origin"])
        if site == [b"same-origin"]:
            return True
        # The page itself may be opened from anywhere: its address has the token. Not the rest.
        is_page = scope["method"] == "GET" and scope["path"].count("/") == 2
        is_page = is_page and scope["path"].endswith("/")
        typed = site == [b"none"] and scope["method"] in ("GET", "HEAD")
        opened = headers.get(b"sec-fetch-mode") == [b"navigate"]
        opened = opened and headers.get(b"sec-fetch-dest") == [b"document"]
        return typed or (is_page and opened)

    def _is_our_name(self, host: str) -> bool:
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = found["name"].strip("[]")
        if name in self._names:
            return True
        if not self._any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _single(headers: dict[bytes, list[bytes]], name: bytes) -> str | None:
    values = headers.get(name, [])
    return values[0].decode("latin-1") if len(values) == 1 else None


async def _answer(
    scope: Scope, send: Send, status: int, text: str, *more: tuple[bytes, bytes]
) -> None:
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
