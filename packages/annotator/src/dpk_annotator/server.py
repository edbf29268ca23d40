"""The application: routes, guard and error answers put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from dpk_annotator import (
    __version__,
    routes_edit,
    routes_media,
    routes_merge,
    routes_partner,
    routes_set,
)
from dpk_annotator.answers import HANDLERS, Json, blocking
from dpk_annotator.context import Context
from dpk_annotator.events import MOST_LISTENERS
from dpk_annotator.merges import Merges
from dpk_annotator.page_files import INDEX, PageFiles
from dpk_annotator.routes_edit import EditRoutes
from dpk_annotator.routes_media import MediaRoutes
from dpk_annotator.routes_merge import MergeRoutes
from dpk_annotator.routes_partner import PartnerRoutes, job_json
from dpk_annotator.routes_set import SetRoutes
from dpk_annotator.schema import document, operation
from dpk_annotator.security import Guard, names_of

FEATURES = ("labels", "partner", "videos", "merge")
_EVENTS = operation("changes as they happen (server-sent events)", media="text/event-stream")
_SCHEMA = operation("this description")
OPERATIONS = {
    **routes_set.OPERATIONS,
    **routes_edit.OPERATIONS,
    **routes_partner.OPERATIONS,
    **routes_media.OPERATIONS,
    **routes_merge.OPERATIONS,
    ("GET", "/api/events"): _EVENTS,
    ("GET", "/api/schema.json"): _SCHEMA,
}


def create_app(
    context: Context, token: str, host: str = "127.0.0.1", page: PageFiles | None = None
) -> ASGIApp:
    """The ASGI application for one set.

    Parameters
    ----------
    context
        The set and what requests share.
    token
        First part of every path; see `security.new_token`.
    host
        Where it will listen: only names that lead there are answered.
    page
        By default the page that comes with the package.
    """
    context.store.on_change = context.hub.changed
    context.store.on_saved = context.hub.saved
    context.store.on_notices = context.hub.warned
    context.partner.tell = lambda job: context.hub.publish("job", **job_json(job))
    looking = SetRoutes(context, list(FEATURES))
    pages = PageFiles() if page is None else page
    routes = [
        _get("/api/set", looking.set),
        _get("/api/rows", looking.rows),
        _get("/api/rows/{row}", looking.row),
        _get("/api/images/{row}", looking.image),
        _get("/api/thumbnails/{row}", looking.thumbnail),
        _get("/api/history", looking.history),
        _get("/api/schema.json", lambda request, _: Json(document(OPERATIONS, __version__))),
        Route("/api/events", _events(context)),
    ]
    for name, work in EditRoutes(context).endpoints().items():
        body = routes_edit.BODIES[name][1]
        routes.append(Route(f"/api/{name}", blocking(body, work), methods=["POST"]))
    media = MediaRoutes(context.store, context.films, context.reviews, context.partner)
    merging = MergeRoutes(Merges(context.store, context.partner.jobs))
    more = {
        **PartnerRoutes(context.partner).endpoints(),
        **media.endpoints(),
        **merging.endpoints(),
    }
    for (method, path), (schema, work) in more.items():
        routes.append(Route(path, blocking(schema, work), methods=[method]))
    routes += [
        _get("/", lambda request, _: _page(pages, INDEX)),
        _get("/static/{name:path}", lambda r, _: _page(pages, r.path_params["name"])),
    ]
    answering = ExceptionMiddleware(Router(routes, redirect_slashes=False), handlers=HANDLERS)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # With it, the router raises what it refuses, and the handlers put it into words.
        await answering({**scope, "app": app}, receive, send)

    return Guard(app, token, names_of(host), any_address=host in ("", "0.0.0.0", "::"))


def _get(path: str, work: Callable[[Request, dict[str, Any]], Response]) -> Route:
    return Route(path, blocking(None, work), methods=["GET"])


def _page(pages: PageFiles, name: str) -> Response:
    found = pages.get(name)
    if found is None:
        raise HTTPException(404, f"the page has no such file: {name[:80]}")
    return Response(found[0], headers={"content-type": found[1]})


def _events(context: Context) -> Callable[[Request], Any]:
    async def events(request: Request) -> Response:
        if len(context.hub) >= MOST_LISTENERS:
            raise HTTPException(503, "too many pages are open; close some")
        stream = context.hub.listen(lambda: context.store.revision)
        return StreamingResponse(stream, media_type="text/event-stream")

    return events
