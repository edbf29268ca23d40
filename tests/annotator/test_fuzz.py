"""Whatever is sent, the server never fails: requests made from its own description, and broken."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpk_annotator.context import Context
from dpk_annotator.edits import EDITS
from dpk_annotator.server import create_app
from dpk_annotator.store import Store

LAUNCHING = ("/api/jobs", "/api/suggest")
"""What begins other programs has tests of its own."""

FUZZ = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    # Fixtures here are factories: each example makes what it needs.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, "", "x",
    "head", "\x00", "\ud800", "../../etc/passwd", "' OR 1=1 --", "x" * 5000, [], [[]], {},
    {"kind": "move"}, [None], {"": None}, "٣",
]  # fmt: skip


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values as a JSON Schema has them, with the few keywords that the server uses."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    types = schema.get("type", "null")
    types = [types] if isinstance(types, str) else types
    return st.one_of([_of_type(name, schema) for name in types])


def _of_type(name: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if name == "object":
        known, required = schema.get("properties", {}), set(schema.get("required", ()))
        fields = {key: fitting(value) for key, value in known.items() if key in required}
        others = {key: fitting(value) for key, value in known.items() if key not in required}
        if known:
            return st.fixed_dictionaries(fields, optional=others)
        values = fitting(schema.get("additionalProperties") or {})
        return st.dictionaries(st.sampled_from(["head", "tail", "wing", "ü"]), values, max_size=3)
    if name == "array":
        low = schema.get("minItems", 0)
        most = min(schema.get("maxItems", 4), 4)
        return st.lists(fitting(schema.get("items", {})), min_size=low, max_size=most)
    if name == "string":
        low, high = schema.get("minLength", 0), min(schema.get("maxLength", 20), 20)
        return st.sampled_from(["head", "tail", "earL", "me"]) | st.text(
            min_size=low, max_size=high
        )
    if name == "integer":
        low, high = schema.get("minimum", -9), schema.get("maximum", 9)
        return st.integers(low, min(high, low + 8)) | st.integers(low, high)
    if name == "number":
        return st.integers(-9, 40) | st.floats(
            schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False
        )
    return {"boolean": st.booleans(), "null": st.none()}[name]


def broken(value: Any, rng: random.Random) -> Any:
    """The same with something strange somewhere in it."""
    value = copy.deepcopy(value)
    place, holder, key = value, None, None
    while isinstance(place, (dict, list)) and place and rng.random() < 0.8:
        holder = place
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        place = place[key]
    strange = rng.choice(STRANGE)
    if holder is None:
        return strange
    kind = rng.randrange(4)
    if kind == 0 and isinstance(holder, dict):
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(strange)] = place
    else:
        holder[key] = strange
    return value


def checked(answer: Any) -> None:
    """No failure of ours, no details of it, and JSON or a picture in any case."""
    assert answer.status < 500 or answer.status in (503, 507), answer.body
    assert b"Traceback" not in answer.body
    assert b'File "' not in answer.body
    assert "content-security-policy" in answer.headers
    if answer.headers["content-type"].startswith("application/json"):
        value = answer.json
        assert answer.status == 200 or isinstance(value["error"], str)


@pytest.fixture
def operations(client) -> dict[tuple[str, str], dict[str, Any]]:
    """All that can be asked, from the server's description."""
    paths = client.get("api/schema.json").json["paths"]
    return {
        (method, path): described
        for path, methods in paths.items()
        for method, described in methods.items()
        if not path.startswith(LAUNCHING) and path != "/api/events"
    }


@FUZZ
@given(data=st.data())
def test_requests_from_the_description_and_broken_ones(data, client_of, small_set, operations):
    path, asked = small_set(), []
    with Store.open(path, background=False) as store:
        client = client_of(create_app(Context(store), "t"))
        rng = data.draw(st.randoms(use_true_random=False))
        for _ in range(12):
            method, place = data.draw(st.sampled_from(sorted(operations)))
            described = operations[method, place]
            for parameter in described.get("parameters", ()):
                value = data.draw(fitting(parameter["schema"]))
                value = rng.choice([value, *STRANGE]) if rng.random() < 0.3 else value
                text = str(value).replace("?", "").replace("/", "")
                if parameter["in"] == "path":
                    place = place.replace(f"{{{parameter['name']}}}", text)
                else:
                    place += ("&" if "?" in place else "?") + f"{parameter['name']}={text}"
            body = b""
            if "requestBody" in described:
                schema = described["requestBody"]["content"]["application/json"]["schema"]
                value = data.draw(fitting(schema))
                if isinstance(value, dict) and "base" in value and rng.random() < 0.8:
                    value["base"] = store.revision
                value = broken(value, rng) if rng.random() < 0.4 else value
                body = json.dumps(value).encode()
            asked.append((method, place, body[:300]))
            checked(client.ask(method.upper(), place.removeprefix("/"), body, token="t"))
        store.save()
    with Store.open(path, background=False) as again:
        assert again.labels()[1].same_as(store._ledger.labels), asked


@FUZZ
@given(data=st.data())
def test_edits_of_every_kind_are_done_or_refused_and_can_be_undone(data, client_of, small_set):
    with Store.open(small_set(), background=False) as store:
        client = client_of(create_app(Context(store), "t"))
        before = store.labels()[1]
        names = st.sampled_from([*store.skeleton.names, "wing"])
        point = st.tuples(
            st.none() | st.floats(-2000, 2000), st.none() | st.integers(-5, 30),
            st.integers(-1, 3), st.booleans(),
        ).map(list)  # fmt: skip
        fields = {
            "keypoint": names, "x": st.floats(-2000, 2e6), "y": st.integers(-5, 40),
            "visibility": st.integers(-1, 3), "flag": st.booleans(), "note": st.text(max_size=9),
            "finished": st.booleans(), "source": st.integers(-1, 9), "overwrite": st.booleans(),
            "points": st.dictionaries(names, point, max_size=3),
        }  # fmt: skip
        done = 0
        for i in range(10):
            kind = data.draw(st.sampled_from(sorted(EDITS)))
            chosen = [name for name in EDITS[kind].__annotations__ if name in fields]
            edit = {name: data.draw(fields[name]) for name in chosen} | {"kind": kind}
            row = data.draw(st.integers(0, 6))
            body = {"client": "me", "base": store.revision, "token": str(i)}
            body["changes"] = [{"row": row, "edit": edit}]
            answer = client.post("api/edit", body, token="t")
            checked(answer)
            assert answer.status in (200, 400)
            done += answer.status == 200
        for i in range(done):
            step = {"client": "me", "base": store.revision, "token": f"undo {i}"}
            answer = client.post("api/undo", step, token="t")
            assert answer.status == 200, answer.body
        assert store.labels()[1].same_as(before)


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "X"]),
    path=st.text(max_size=30) | st.sampled_from(["api", "api/", "api/set/", "/", "api/rows/0/0"]),
    query=st.text("=&;%x[]1\x00é", max_size=10),
    body=st.binary(max_size=50),
    headers=st.dictionaries(
        st.sampled_from(["content-type", "origin", "sec-fetch-site", "cookie", "range", "x"]),
        st.text(max_size=20), max_size=3,
    ),
)  # fmt: skip
def test_any_request_at_all_gets_an_answer(client, method, path, query, body, headers) -> None:
    answer = client.ask(method, f"{path.replace('?', '')}?{query}", body, headers=headers)
    assert answer.status in (200, 307, 400, 403, 404, 405, 413, 415)
    assert "content-security-policy" in answer.headers
    assert b"Traceback" not in answer.body
