"""Merging sets from the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from dpk_annotator.answers import Json
from dpk_annotator.merges import MOST_CONFLICTS, Merges
from dpk_annotator.routes_partner import job_json
from dpk_annotator.schema import Schema, object_schema, operation
from dpk_core.services.merging import Conflict
from dpk_core.workflow.merge import PREFER, SetMerge

Endpoint = Callable[[Request, dict[str, Any]], Response]

MERGE_BODY = object_schema(
    {
        "id": {"type": "integer", "minimum": 0, "maximum": 2**31},
        "prefer": {"type": "string", "enum": list(PREFER)},
    }
)

OPERATIONS = {
    ("GET", "/api/merge"): operation("sets that the open one can be merged with"),
    ("POST", "/api/merge"): operation("write both into a new set", body=MERGE_BODY),
    ("POST", "/api/merge/preview"): operation("what would become of it", body=MERGE_BODY),
}


class MergeRoutes:
    """The endpoints; each gets the request and its checked body."""

    def __init__(self, merges: Merges) -> None:
        self._merges = merges

    def endpoints(self) -> dict[tuple[str, str], tuple[Schema | None, Endpoint]]:
        """By method and path: the schema of the body, and what answers."""
        return {
            ("GET", "/api/merge"): (None, self.sets),
            ("POST", "/api/merge"): (MERGE_BODY, self.begin),
            ("POST", "/api/merge/preview"): (MERGE_BODY, self.preview),
        }

    def sets(self, request: Request, _: dict[str, Any]) -> Response:
        found = [self._merges.describe(one) for one in self._merges.all()]
        return Json({"sets": [one for one in found if one is not None]})

    def preview(self, request: Request, body: dict[str, Any]) -> Response:
        return Json(_merge_json(self._merges.preview(body["id"], body["prefer"])))

    def begin(self, request: Request, body: dict[str, Any]) -> Response:
        return Json(job_json(self._merges.begin(body["id"], body["prefer"])))


def _merge_json(merge: SetMerge) -> dict[str, Any]:
    return {
        "output": merge.output.name,
        "n": merge.n_images,
        "new": merge.new[1],
        "filled": merge.filled,
        "n_conflicts": len(merge.conflicts),
        "conflicts": [_conflict_json(one) for one in merge.conflicts[:MOST_CONFLICTS]],
        "notes": [note.replace(f"{merge.output.parent}/", "") for note in merge.notes],
    }


def _conflict_json(conflict: Conflict) -> dict[str, Any]:
    """``row``, ``other_row``: in the open set (None when both places are in the other), there."""
    first, second = conflict.first, conflict.second
    return {
        "row": first[1] if first[0] == 0 else None,
        "other_row": second[1],
        "keypoint": conflict.keypoint,
        "difference": conflict.difference,
        "kept": "other" if conflict.kept == second else "this",
    }
