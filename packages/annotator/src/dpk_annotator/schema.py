"""What the server is asked and answers: one description, for checking and for `api/schema.json`.

Bodies are checked against the same JSON Schema that the server gives out, with the few keywords
that are used here, so that description and behaviour cannot differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from dpk_annotator.edits import EDITS
from dpk_core.errors import ValidationError
from dpk_core.services.storage.marks import LONGEST_NOTE

MOST_CHANGES, MOST_KEYPOINTS = 1000, 1000
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_LARGEST = 2**53

Schema = dict[str, Any]


def object_schema(
    required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> Schema:
    """A JSON object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": _LARGEST}
_INDEX: Schema = {"type": "integer", "minimum": -1, "maximum": MOST_KEYPOINTS}
_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 1000}
_NAMES: Schema = {"type": "array", "items": _NAME, "maxItems": MOST_KEYPOINTS}
_INDICES: Schema = {"type": "array", "items": _INDEX, "maxItems": MOST_KEYPOINTS}
_PIXELS: Schema = {"type": ["number", "null"]}
_POINT: Schema = {"type": "array", "maxItems": 4, "items": {"type": ["number", "null", "boolean"]}}
_POINTS: Schema = {"type": "object", "additionalProperties": _POINT}
_BOOL: Schema = {"type": "boolean"}
_EDIT: Schema = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": list(EDITS)},
        "keypoint": _NAME,
        "x": _PIXELS,
        "y": _PIXELS,
        "visibility": {"type": "integer", "minimum": 0, "maximum": 2},
        "flag": {"type": ["boolean", "null"]},
        "note": {"type": ["string", "null"], "maxLength": LONGEST_NOTE},
        "finished": {"type": ["boolean", "null"]},
        "source": _COUNT,
        "points": _POINTS,
        "overwrite": _BOOL,
    },
    "required": ["kind"],
    "additionalProperties": False,
}
_STEP = {"client": _TEXT, "base": _COUNT, "token": _TEXT}
_OF_SET = {"set": _TEXT}
_SKELETON = {"names": _NAMES, "parents": _INDICES, "swaps": _INDICES}
_RENAMED: Schema = {"type": "object", "additionalProperties": _NAME}

EDIT_BODY = object_schema(
    {
        **_STEP,
        "changes": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_CHANGES,
            "items": object_schema({"row": _COUNT, "edit": _EDIT}),
        },
    },
    _OF_SET,
)
STEP_BODY = object_schema(_STEP, _OF_SET)
CONFIRM_BODY = object_schema(
    {**_STEP, "row": _COUNT},
    {
        "keypoints": {"type": ["array", "null"], "items": _NAME, "maxItems": MOST_KEYPOINTS},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        **_OF_SET,
    },
)
RESTORE_BODY = object_schema({"client": _TEXT, "seq": _COUNT}, {"token": _TEXT})
PREVIEW_BODY = object_schema(_SKELETON, {"renamed": _RENAMED})
SKELETON_BODY = object_schema(
    {"client": _TEXT, "base": _COUNT, **_SKELETON}, {"renamed": _RENAMED, "token": _TEXT}
)
SAVE_BODY = object_schema({})


def check(value: Any, schema: Schema, where: str = "the request") -> Any:
    """``value`` when it is as the schema says.

    Raises
    ------
    ValidationError
        Says where it is not, what was expected and what was found.
    """
    types = schema.get("type", list(_TYPES))
    types = [types] if isinstance(types, str) else types
    if not any(_is(value, name) for name in types):
        raise ValidationError(f"{where}: expected {' or '.join(types)}, found {_shown(value)}")
    if "enum" in schema and value not in schema["enum"]:
        expected = ", ".join(map(str, schema["enum"]))
        raise ValidationError(f"{where}: expected one of {expected}; found {_shown(value)}")
    if isinstance(value, dict):
        _check_object(value, schema, where)
    elif isinstance(value, list):
        _check_size(len(value), schema, "Items", f"{where}: expected {{}} items, found {{}}")
        for i, item in enumerate(value):
            check(item, schema.get("items", {}), f"{where}[{i}]")
    elif isinstance(value, str):
        text = f"{where}: expected {{}} characters, found {{}}"
        _check_size(len(value), schema, "Length", text)
    elif _is(value, "number"):
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        if not low <= value <= high:
            raise ValidationError(
                f"{where}: expected a number from {low} to {high}, found {_shown(value)}"
            )
    return value


def _check_object(value: dict[str, Any], schema: Schema, where: str) -> None:
    known = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        raise ValidationError(f"{where}: {', '.join(missing)} missing")
    other = schema.get("additionalProperties", {})
    for name, item in value.items():
        if name not in known and other is False:
            raise ValidationError(
                f"{where}: unknown field {_shown(name)}; expected {', '.join(known) or 'none'}"
            )
        check(item, known.get(name, other), f"{where}: {_shown(name)}")


def _check_size(size: int, schema: Schema, kind: str, text: str) -> None:
    low, high = schema.get(f"min{kind}", 0), schema.get(f"max{kind}")
    if size < low:
        raise ValidationError(text.format(f"at least {low}", size))
    if high is not None and size > high:
        raise ValidationError(text.format(f"up to {high}", size))


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


# -- the whole of it, as OpenAPI -------------------------------------------------------------------

_ERROR = object_schema({"error": {"type": "string"}})
_ERROR["additionalProperties"] = True


_REFUSED = {
    400: "the request cannot be",
    403: "asked without the token, or from another page",
    404: "there is no such thing, or the set is another one now",
    423: "nothing can be written: for looking only, or open in another program",
    503: "too many pages are open",
    507: "the disk is full, or a file cannot be read or written",
}
_REFUSED_BODY = {
    409: "somebody else was quicker; `conflict` has both versions",
    413: "the body is too large",
    415: "the body is no application/json",
}


def _answer(text: str, media: str = "application/json") -> Schema:
    return {"description": text, "content": {media: {}}}


def _refusals(*, of_body: bool) -> dict[str, Schema]:
    """Every other status, with a sentence of what is wrong; 500 would be a bug."""
    known = _REFUSED | (_REFUSED_BODY if of_body else {})
    return {
        str(status): {
            "description": text,
            "content": {"application/json": {"schema": _ERROR}},
        }
        for status, text in sorted(known.items())
    }


def operation(
    summary: str,
    *,
    body: Schema | None = None,
    query: Mapping[str, Schema] | None = None,
    path: Mapping[str, Schema] | None = None,
    media: str = "application/json",
) -> Schema:
    """One request that can be made, as OpenAPI describes it."""
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in (query or {}).items()
    ]
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in (path or {}).items()
    ]
    found: Schema = {
        "summary": summary,
        "responses": {
            "200": _answer("done", media),
            **_refusals(of_body=body is not None),
        },
    }
    if parameters:
        found["parameters"] = parameters
    if body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return found


def document(operations: Mapping[tuple[str, str], Schema], version: str) -> Schema:
    """An OpenAPI document of (method, path) -> operation."""
    paths: dict[str, Schema] = {}
    for (method, path), described in operations.items():
        paths.setdefault(path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "dpk annotate", "version": version},
        "paths": paths,
    }


ROW = dict(_COUNT)
"""Number of an image in a path."""
