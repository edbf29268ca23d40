"""Looking at a set: what it is, its rows, its images, its past."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dpk_annotator import __version__
from dpk_annotator.answers import Json, number, row_of
from dpk_annotator.context import Context
from dpk_annotator.edits import edit_from_json
from dpk_annotator.entries import EDIT, GROW, Entry
from dpk_annotator.images import png, thumbnail
from dpk_annotator.new_set import is_placeholder
from dpk_annotator.row_json import columns_json, row_json, video_names
from dpk_annotator.schema import ROW, operation
from dpk_annotator.skeleton_edits import SkeletonChange
from dpk_core.services.video_paths import file_name

MOST_HISTORY = 1000
_FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
_SET_ID = {"type": "string", "maxLength": 100}

OPERATIONS = {
    ("GET", "/api/set"): operation("the set: size, skeleton, videos, warnings"),
    ("GET", "/api/rows"): operation("all rows, column by column"),
    ("GET", "/api/rows/{row}"): operation("one row", path={"row": ROW}),
    ("GET", "/api/images/{row}"): operation(
        "an image, lossless", path={"row": ROW}, query={"set": _SET_ID}, media="image/png"
    ),
    ("GET", "/api/thumbnails/{row}"): operation(
        "a small image", path={"row": ROW}, query={"set": _SET_ID}, media="image/jpeg"
    ),
    ("GET", "/api/history"): operation(
        "what was done, the latest first",
        query={"before": ROW, "limit": {"type": "integer", "minimum": 1, "maximum": MOST_HISTORY}},
    ),
}


class SetRoutes:
    """The endpoints; each gets the request and an empty body."""

    def __init__(self, context: Context, features: list[str]) -> None:
        self._context = context
        self._store = context.store
        self._features = features

    def set(self, request: Request, _: dict[str, Any]) -> Response:
        store = self._store
        height, width, channels = store.image_shape
        return Json(
            {
                "name": store.path.name,
                "set_id": store.set_id,
                "n": len(store),
                "revision": store.revision,
                "saved": store.saved_revision,
                "height": height,
                "width": width,
                "channels": channels,
                "read_only": store.read_only,
                "reason": "opened for looking only (--read-only)" if store.read_only else None,
                "skeleton": skeleton_json(store),
                "videos": self._videos(),
                "warnings": store.notices,
                "version": __version__,
                "features": self._features,
            }
        )

    def rows(self, request: Request, _: dict[str, Any]) -> Response:
        return Json(columns_json(self._store))

    def row(self, request: Request, _: dict[str, Any]) -> Response:
        return Json(row_json(self._store, self._row(request)))

    def image(self, request: Request, _: dict[str, Any]) -> Response:
        row = self._row(request)
        self._check_set(request)
        key = (self._store.set_id, row)
        content = self._context.images.get(key, lambda: png(self._store.image(row)))
        return Response(content, media_type="image/png", headers=_FOREVER)

    def thumbnail(self, request: Request, _: dict[str, Any]) -> Response:
        row = self._row(request)
        self._check_set(request)
        key = (self._store.set_id, row)
        content = self._context.thumbnails.get(key, lambda: thumbnail(self._store.image(row)))
        return Response(content, media_type="image/jpeg", headers=_FOREVER)

    def history(self, request: Request, _: dict[str, Any]) -> Response:
        limit, before = number(request, "limit", 100) or 1, number(request, "before")
        entries = self._store.history(before, min(limit, MOST_HISTORY))
        found = [_entry_json(entry) for entry in entries]
        return Json({"entries": found, "moments": self._moments()})

    def _moments(self) -> list[dict[str, Any]]:
        pauses = self._store.pauses()
        moments = [{"seq": seq, "time": time, "text": "before a pause"} for seq, time in pauses]
        return [*moments, {"seq": 0, "time": None, "text": "before the first edit"}]

    def _row(self, request: Request) -> int:
        row = row_of(request)
        if row >= len(self._store):
            raise HTTPException(404, f"there is no image {row}; the last is {len(self._store) - 1}")
        return row

    def _check_set(self, request: Request) -> None:
        """An image is kept by browsers for good, so it must not be asked for of another set."""
        if not self._store.is_named(request.query_params.get("set", self._store.set_id)):
            raise HTTPException(404, "this is another set now; load the page again")

    def _videos(self) -> list[dict[str, Any]]:
        names = video_names(self._store)
        present = self._context.films.places.present(names)
        return [
            {"id": i, "name": file_name(video), "present": here}
            for i, (video, here) in enumerate(zip(names, present, strict=True))
        ]


def skeleton_json(store: Any) -> dict[str, Any]:
    """Names, parents, swap partners, and the number of the edit that made it so."""
    skeleton = store.skeleton
    return {
        "names": list(skeleton.names),
        "parents": list(skeleton.parent),
        "swaps": list(skeleton.swap),
        "seq": store.skeleton_seq,
        "placeholder": is_placeholder(skeleton),
    }


def _entry_json(entry: Entry) -> dict[str, Any]:
    if entry.undoes is not None:
        kind, text = "undo", f"took back edit {entry.undoes}"
    elif entry.redoes is not None:
        kind, text = "redo", f"did again what edit {entry.redoes} took back"
    elif entry.kind == EDIT:
        edit = edit_from_json(entry.edit)
        kind, text = edit.kind, str(edit)
    elif entry.kind == GROW:
        kind, text = GROW, f"images added: {entry.edit['n']} in all"
    else:
        kind, text = entry.kind, str(SkeletonChange.from_json(entry.edit))
    return {
        "seq": entry.seq,
        "batch": entry.batch,
        "time": entry.time,
        "client": entry.client,
        "row": entry.row,
        "text": text,
        "kind": kind,
    }
