"""Changing labels and skeleton."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dpk_annotator.answers import Json
from dpk_annotator.context import Context
from dpk_annotator.edits import edit_from_json
from dpk_annotator.outcome import Applied, Conflict
from dpk_annotator.routes_set import skeleton_json
from dpk_annotator.row_json import applied_json, conflict_json, steps_json
from dpk_annotator.schema import (
    CONFIRM_BODY,
    EDIT_BODY,
    PREVIEW_BODY,
    RESTORE_BODY,
    SAVE_BODY,
    SKELETON_BODY,
    STEP_BODY,
    Schema,
    operation,
)
from dpk_annotator.skeleton_edits import SkeletonChange
from dpk_core.errors import SkeletonError
from dpk_core.skeleton import Skeleton

BODIES: dict[str, tuple[str, Schema]] = {
    "edit": ("do edits", EDIT_BODY),
    "undo": ("take back a step", STEP_BODY),
    "redo": ("do a step again", STEP_BODY),
    "confirm": ("make labels of guesses", CONFIRM_BODY),
    "restore": ("go back to an earlier moment", RESTORE_BODY),
    "skeleton/preview": ("what a change of skeleton would do", PREVIEW_BODY),
    "skeleton": ("change the skeleton", SKELETON_BODY),
    "save": ("bring the HDF5 file up to date", SAVE_BODY),
}
OPERATIONS = {
    ("POST", f"/api/{name}"): operation(text, body=body) for name, (text, body) in BODIES.items()
}


class EditRoutes:
    """The endpoints; each gets the request and its checked body."""

    def __init__(self, context: Context) -> None:
        self._store = context.store

    def endpoints(self) -> dict[str, Callable[[Request, dict[str, Any]], Response]]:
        """By the name after ``api/``."""
        return {name: getattr(self, name.replace("skeleton/preview", "preview")) for name in BODIES}

    def _check_set(self, body: dict[str, Any]) -> None:
        """Numbers of images mean others when another set has taken the place of what was seen."""
        if not self._store.is_named(body.get("set", self._store.set_id)):
            raise HTTPException(404, "this is another set now; load the page again")

    def edit(self, request: Request, body: dict[str, Any]) -> Response:
        self._check_set(body)
        changes = [(change["row"], edit_from_json(change["edit"])) for change in body["changes"]]
        outcome = self._store.apply(changes, body["base"], body["client"], body["token"])
        return self._answer(outcome, body["client"])

    def undo(self, request: Request, body: dict[str, Any]) -> Response:
        self._check_set(body)
        outcome = self._store.undo(body["client"], body["base"], body["token"])
        return self._answer(outcome, body["client"])

    def redo(self, request: Request, body: dict[str, Any]) -> Response:
        self._check_set(body)
        outcome = self._store.redo(body["client"], body["base"], body["token"])
        return self._answer(outcome, body["client"])

    def confirm(self, request: Request, body: dict[str, Any]) -> Response:
        self._check_set(body)
        outcome = self._store.confirm(
            body["row"],
            body["base"],
            body["client"],
            body["token"],
            keypoints=body.get("keypoints"),
            threshold=float(body.get("threshold", 0.0)),
        )
        return self._answer(outcome, body["client"])

    def restore(self, request: Request, body: dict[str, Any]) -> Response:
        outcome = self._store.restore(body["seq"], body["client"], body.get("token"))
        return self._answer(outcome, body["client"])

    def preview(self, request: Request, body: dict[str, Any]) -> Response:
        found = self._store.preview_skeleton(_change(body))
        return Json(
            {
                "keeps": found.kept,
                "removes": list(found.removed),
                "adds": list(found.added),
                "labels_lost": sum(images for _, images in found.lost),
                "images_touched": self._store.touched_by(found.removed),
                "text": str(found).splitlines(),
            }
        )

    def skeleton(self, request: Request, body: dict[str, Any]) -> Response:
        outcome = self._store.change_skeleton(
            _change(body), body["base"], body["client"], body.get("token")
        )
        if isinstance(outcome, Conflict):
            return self._answer(outcome, body["client"])
        return Json(
            {
                "revision": outcome.revision,
                "skeleton": skeleton_json(self._store),
                **steps_json(self._store, body["client"]),
            }
        )

    def save(self, request: Request, body: dict[str, Any]) -> Response:
        return Json({"revision": self._store.save()})

    def _answer(self, outcome: Applied | Conflict | None, client: str) -> Response:
        if outcome is None:
            return Json({"nothing": True, **steps_json(self._store, client)})
        if isinstance(outcome, Conflict):
            conflict = conflict_json(self._store, outcome)
            return Json({"error": outcome.message, "conflict": conflict}, 409)
        return Json(applied_json(self._store, outcome, client))


def _change(body: dict[str, Any]) -> SkeletonChange:
    for name in body["names"]:
        if name != name.strip() or not name.isprintable():
            raise SkeletonError(
                f"{name!r}: expected a name of printable characters, without spaces at its ends"
            )
    skeleton = Skeleton(body["names"], body["parents"], body["swaps"])
    return SkeletonChange(skeleton, body.get("renamed", {}))
