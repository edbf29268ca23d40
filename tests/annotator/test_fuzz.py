"""Whatever is sent, the server never fails: requests made from its own description, and broken."""

from __future__ import annotations

import copy
import json
import random
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpk_annotator.context import Context
from dpk_annotator.edits import EDITS
from dpk_annotator.server import create_app
from dpk_annotator.store import Store
from dpk_core import Poses, VideoWriter
from dpk_core.services.storage import (
    read_annotations,
    read_poses,
    write_annotations,
    write_poses,
)

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
        if known.get("kind", {}).get("enum") == list(EDITS):
            return _edits(known)
        if known or schema.get("additionalProperties") is False:
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
        near = st.sampled_from([low, min(high, low + 1)])
        return near | st.integers(low, min(high, low + 8)) | st.integers(low, high)
    if name == "number":
        return st.integers(-9, 40) | st.floats(
            schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False
        )
    return {"boolean": st.booleans(), "null": st.none()}[name]


def _edits(known: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Of each kind of edit its own fields, for others are refused."""
    kinds = {name: list(attrs.fields_dict(of)) for name, of in EDITS.items()}
    return st.one_of(
        [
            st.fixed_dictionaries({"kind": st.just(kind)} | {f: fitting(known[f]) for f in fields})
            for kind, fields in kinds.items()
        ]
    )


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


def checked(answer: Any, described: dict[str, Any] | None = None) -> None:
    """A status that is described, no failure of ours, no details of it, and JSON or a picture."""
    assert answer.status < 500 or answer.status in (503, 507), answer.body
    assert described is None or str(answer.status) in described["responses"], answer
    assert b"Traceback" not in answer.body
    assert b'File "' not in answer.body
    assert "content-security-policy" in answer.headers
    if answer.headers["content-type"].startswith("application/json"):
        value = answer.json
        assert answer.status == 200 or isinstance(value["error"], str)


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    """The one that the images of the small set name."""
    path = tmp_path_factory.mktemp("video") / "day1.mp4"
    with VideoWriter(path, fps=10) as writer:
        for i in range(30):
            frame = np.full((24, 32, 3), 4 * i, np.uint8)
            frame[5:9, i % 20 : i % 20 + 4] = 255
            writer.write(frame)
    return path


@pytest.fixture
def full_folder(small_set, skeleton, annotations, video):
    """Makes a set with all that may lie beside one: video, poses, another set, a model."""
    rng = np.random.default_rng(2)
    n, k = 60, len(skeleton)
    found = Poses(
        rng.uniform(2, 20, (n, k, 2)).astype(np.float32),
        rng.uniform(0, 1, (n, k)).astype(np.float32),
        skeleton,
        frames=np.repeat(np.arange(30), 2),
        track_ids=np.tile([0, 1], 30),
        provenance={"video": "day1.mp4"},
    )

    def make() -> Path:
        path = small_set()
        shutil.copyfile(video, path.with_name("day1.mp4"))
        write_poses(path.with_name("day1.poses.h5"), found)
        write_annotations(path.with_name("ben.h5"), annotations.subset([0, 2, 5]))
        path.with_name("net.keras").write_bytes(b"opened by the command alone")
        return path

    return make


def known_values(store: Store) -> dict[str, Any]:
    """What a page knows of a set, by the names that fields have."""
    skeleton = store.skeleton
    return {
        "set": store.set_id, "base": store.revision, "client": "me", "names": list(skeleton.names),
        "parents": list(skeleton.parent), "swaps": list(skeleton.swap), "renamed": {},
        "row": 2, "keypoints": None, "seq": 0, "video": 0, "poses": 0, "id": 0, "job": 1,
        "frame": 3, "frames": [1, 3], "start": 0, "stop": 5, "first": 0, "second": 1,
    }  # fmt: skip


def described_requests(operations: Any, data: Any, rng: random.Random, store: Store):
    """(method, place, body, description) of every operation, most of them as it should be."""

    def chosen(name: str, schema: dict[str, Any]) -> Any:
        value, known = data.draw(fitting(schema)), known_values(store)
        return known[name] if name in known and rng.random() < 0.8 else value

    for method, place in data.draw(st.permutations(sorted(operations))):
        described, body, query = operations[method, place], b"", []
        for parameter in described.get("parameters", ()):
            value = chosen(parameter["name"], parameter["schema"])
            value = rng.choice(STRANGE) if rng.random() < 0.1 else value
            text = str(value).replace("?", "").replace("/", "")
            if parameter["in"] == "path":
                place = place.replace(f"{{{parameter['name']}}}", text)
            else:
                query.append(f"{parameter['name']}={text}")
        if "requestBody" in described:
            schema = described["requestBody"]["content"]["application/json"]["schema"]
            value = data.draw(fitting(schema))
            value |= {name: chosen(name, schema["properties"][name]) for name in value}
            body = json.dumps(broken(value, rng) if rng.random() < 0.2 else value).encode()
        address = f"{place}?{'&'.join(query)}" if query else place
        yield method.upper(), address, body, described


@settings(FUZZ, max_examples=8)
@given(data=st.data())
def test_requests_from_the_description_and_broken_ones(
    data, client, client_of, full_folder, monkeypatch
):
    """Every route that the server describes, in any order: a new one needs no word here."""
    paths = client.get("api/schema.json").json["paths"]
    operations = {(m, path): found for path, of in paths.items() for m, found in of.items()}
    # A job's command ends at once; whatever the job is told, it is begun, noted and watched.
    monkeypatch.setattr("dpk_annotator.jobs.sys.executable", shutil.which("true"))
    path, asked = full_folder(), []
    with Store.open(path, background=False) as store:
        n, k = 4, len(store.skeleton)
        rng = data.draw(st.randoms(use_true_random=False))
        store.put_guesses(range(2, 2 + n), np.full((n, k, 2), 7.5), np.full((n, k), 0.6), "net")
        context = Context(store)
        asking = client_of(create_app(context, "t"))
        for _ in range(2):  # once more, for jobs, labels and numbers that there are now
            for method, place, body, described in described_requests(operations, data, rng, store):
                asked.append((method, place, body[:300]))
                checked(asking.ask(method, place.removeprefix("/"), body, token="t"), described)
        context.partner.close()
        context.films.close()
        store.save()
        expected = store.labels()[1]
    with Store.open(path, background=False) as again:
        assert again.labels()[1].same_as(expected), asked
        assert len(read_annotations(path)) == len(again) >= 6
    assert len(read_poses(path.with_name("day1.poses.h5"))) == 60


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
            chosen = [name for name in attrs.fields_dict(EDITS[kind]) if name in fields]
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
