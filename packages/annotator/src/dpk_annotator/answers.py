"""Answers as JSON, and requests' bodies and errors turned into such."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dpk_annotator.opening import OtherSetError
from dpk_annotator.schema import Schema, check
from dpk_annotator.set_file import FileLockedError, SetChangedError
from dpk_annotator.store import ReadOnlyError
from dpk_core.errors import (
    DpkError,
    FileFormatError,
    FileMissingError,
    OutputError,
    ValidationError,
    VideoError,
)

LARGEST_BODY = 2**20
_LOG = logging.getLogger("dpk_annotator")

_STATUS: tuple[tuple[type[DpkError], int], ...] = (
    (ReadOnlyError, 423),
    (FileLockedError, 423),
    (OtherSetError, 423),
    (SetChangedError, 423),
    (VideoError, 400),
    (OutputError, 507),
    (FileMissingError, 507),
    (FileFormatError, 507),
    (ValidationError, 400),
)


class Json(Response):
    """JSON in pure ASCII, for names and notes may hold half characters."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


def failure(status: int, message: str) -> Json:
    """An error's answer."""
    return Json({"error": message}, status)


def status_of(error: DpkError) -> int:
    """The HTTP status that tells of an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 400)


async def body_of(request: Request, schema: Schema) -> dict[str, Any]:
    """The JSON of a request, checked.

    Raises
    ------
    ValidationError
        When it is none, or not as the schema says.
    HTTPException
        413 when it is too large, 415 when it does not say that it is JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "expected the content type application/json")
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > LARGEST_BODY:
            raise HTTPException(413, f"expected up to {LARGEST_BODY} bytes of JSON, found more")
    try:
        value = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValidationError("the request: expected JSON, found something else") from None
    return dict(check(value, schema))


def blocking(
    schema: Schema | None, work: Callable[[Request, dict[str, Any]], Response]
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint out of a function that may take its time, in a thread, with its body."""

    async def endpoint(request: Request) -> Response:
        body = {} if schema is None else await body_of(request, schema)
        return await run_in_threadpool(work, request, body)

    return endpoint


def number(request: Request, name: str, default: int | None = None) -> int | None:
    """A whole number of the query; ValidationError when it is none."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        raise ValidationError(f"{name}: expected a whole number from 0, found {text[:40]!r}")
    return int(text)


def row_of(request: Request) -> int:
    """The image's number in the path; 404 when it is none."""
    text = request.path_params["row"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        raise HTTPException(404, "there is no such image")
    return int(text)


async def on_dpk_error(request: Request, error: Exception) -> Response:
    """Errors that a user can do something about."""
    assert isinstance(error, DpkError)
    return failure(status_of(error), str(error))


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the frame itself refuses: no such address, another method."""
    assert isinstance(error, HTTPException)
    texts = {404: "there is nothing at this address", 405: "this cannot be done at this address"}
    plain = error.detail if error.detail.islower() or " " in error.detail else ""
    plain = "" if error.detail in ("Not Found", "Method Not Allowed") else plain
    answer = failure(error.status_code, plain or texts.get(error.status_code, "refused"))
    answer.headers.update(error.headers or {})
    return answer


async def on_disconnect(request: Request, error: Exception) -> Response:
    """Who asked has gone; nobody reads this."""
    return failure(400, "the request was not sent to its end")


async def on_bug(request: Request, error: Exception) -> Response:
    """Everything else is a bug of ours: its details belong into the log, not into the browser."""
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return failure(500, "an error in dpk annotate; its log has the details. Labels are safe")


HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    DpkError: on_dpk_error,
    HTTPException: on_http_error,
    ClientDisconnect: on_disconnect,
    Exception: on_bug,
}


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
