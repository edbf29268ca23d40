"""What the page gets: the set, its rows and images, edits, conflicts, history, skeletons."""

from __future__ import annotations

import asyncio
import json

import cv2
import numpy as np
import pytest

from dpk_annotator.context import Context
from dpk_annotator.edits import MoveKeypoint
from dpk_annotator.events import Hub, _Listener
from dpk_annotator.images import ByteCache, png, thumbnail
from dpk_annotator.new_set import placeholder_skeleton
from dpk_annotator.page_files import PageFiles
from dpk_annotator.schema import check
from dpk_annotator.server import create_app
from dpk_annotator.store import Changed, Store
from dpk_core.annotations import Source
from dpk_core.errors import ValidationError
from dpk_core.services.storage import append_annotations, read_annotations


def move(row: int, x: float, *, base: int = 0, token: str = "t", client: str = "me", name="head"):
    edit = {"kind": "move", "keypoint": name, "x": x, "y": 4}
    return {
        "client": client, "base": base, "token": token, "changes": [{"row": row, "edit": edit}]
    }  # fmt: skip


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


# -- looking --------------------------------------------------------------------------------------


def test_the_set_in_a_few_words(client, served: Context) -> None:
    found = client.get("api/set").json
    assert found | {"features": 0, "version": 0} == {
        "name": "labels.h5", "set_id": served.store.set_id, "n": 6, "revision": 0, "saved": 0,
        "height": 24, "width": 32, "channels": 1, "read_only": False, "reason": None,
        "skeleton": {
            "names": ["head", "earL", "earR", "hip", "tail"], "parents": [-1, 0, 0, 0, 3],
            "swaps": [-1, 2, 1, -1, -1], "seq": 0, "placeholder": False,
        },
        "videos": [{"id": 0, "name": "day1.mp4", "present": False}],
        "warnings": [], "features": 0, "version": 0,
    }  # fmt: skip
    assert "labels" in found["features"]


def test_guesses_that_could_be_no_labels_are_not_shown(client, served: Context) -> None:
    keypoints = np.full((1, 5, 2), 7.0)
    keypoints[0, 1], keypoints[0, 2, 1], keypoints[0, 3] = np.nan, 1e9, -5000
    served.store.put_guesses([4], keypoints, np.full((1, 5), 0.25), "net")
    assert list(client.get("api/rows/4").json["guess"]["points"]) == ["head", "tail"]


def test_all_rows_in_columns(client, served: Context) -> None:
    served.store.put_guesses([4], np.ones((1, 5, 2)), np.full((1, 5), 0.25), "net")
    client.post("api/edit", move(2, 3))
    edits = [{"kind": "flag", "flag": True}, {"kind": "note", "note": "?"}]
    edits.append({"kind": "finished", "finished": True})
    changes = [{"row": 3, "edit": edit} for edit in edits]
    client.post("api/edit", {"client": "me", "base": 1, "token": "2", "changes": changes})
    assert client.get("api/rows").json == {
        "revision": 4,
        "status": [2, 2, 1, 2, 0, 0],
        "finished": [0, 0, 0, 1, 0, 0],
        "flag": [0, 0, 0, 1, 0, 0],
        "note": [0, 0, 0, 1, 0, 0],
        "confidence": [None, None, None, None, 0.25, None],
        "video": [0] * 6,
        "frame": [0, 10, 20, 30, 40, 50],
        "individual": [None] * 6,
        "label": [f"day1.mp4, frame {10 * i}" for i in range(6)],
    }


def test_one_row_with_its_guess(client, served: Context, annotations) -> None:
    points = np.full((1, 5, 2), 2.5)
    points[0, 3] = np.nan
    served.store.put_guesses([1], points, np.full((1, 5), 0.5), "net 7")
    row = client.get("api/rows/1").json
    x, y = annotations.keypoints[1, 4]
    assert row["points"]["tail"] == [x, y, 1, True]
    assert row["guess"]["model"] == "net 7"
    assert row["guess"]["points"]["head"] == [2.5, 2.5, 0.5]
    assert "hip" not in row["guess"]["points"]
    assert (row["row"], row["width"], row["height"]) == (1, 32, 24)
    blank = client.get("api/rows/5").json
    assert blank["points"]["head"] == [None, None, 0, False]
    assert (blank["guess"], blank["flag"], blank["note"], blank["finished"]) == (
        None, False, "", False,
    )  # fmt: skip


def test_a_padded_picture_has_its_own_size(write_set, annotations, client_of) -> None:
    sources = (Source("a.png", size=(10, 12)), *annotations.sources[1:])
    with Store.open(write_set(sources=sources), background=False) as store:
        client = client_of(create_app(Context(store), "t"))
        row = client.get("api/rows/0", token="t").json
        assert (row["width"], row["height"]) == (12, 10)
        assert decoded(client.get("api/images/0", token="t").body).shape == (24, 32)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_arrive_pixel_by_pixel(write_set, client_of, channels: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (6, 24, 32, channels), np.uint8)
    with Store.open(write_set(images=images), background=False) as store:
        client = client_of(create_app(Context(store), "t"))
        answer = client.get(f"api/images/4?set={store.set_id}", token="t")
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
        seen = decoded(answer.body).reshape(24, 32, channels)
        np.testing.assert_array_equal(seen, images[4][..., order])
        small = client.get("api/thumbnails/4", token="t")
        assert small.headers["content-type"] == "image/jpeg"
        assert decoded(small.body).shape[:2] == (24, 32)
        assert client.get("api/images/4?set=other", token="t").status == 404


@pytest.mark.parametrize(("size", "expected"), [((480, 641), (120, 160)), ((1000, 3), (160, 1))])
def test_thumbnails_have_a_longest_side(size, expected) -> None:
    image = np.full((*size, 3), (10, 100, 200), np.uint8)
    small = decoded(thumbnail(image))
    assert small.shape[:2] == expected
    np.testing.assert_allclose(small[0, 0], (200, 100, 10), atol=4)


def test_channels_that_no_picture_has_are_shown_as_far_as_they_go() -> None:
    image = np.arange(4 * 5 * 2, dtype=np.uint8).reshape(4, 5, 2)
    np.testing.assert_array_equal(decoded(png(image)), image[..., 0])
    image = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    np.testing.assert_array_equal(decoded(png(image)), image[..., 2::-1])


def test_a_cache_holds_so_many_bytes_and_the_last_ones() -> None:
    cache, made = ByteCache(100), []

    for key in (1, 2, 3, 1, 4, 1, 3, 2):
        cache.get(key, lambda key=key: made.append(key) or bytes(30))
    assert made == [1, 2, 3, 4, 2]
    assert cache.held == 90
    assert cache.get(9, lambda: bytes(101)) == bytes(101)
    assert cache.held == 90
    cache.clear()
    assert cache.held == 0


# -- changing -------------------------------------------------------------------------------------


def test_an_edit_undone_and_done_again(client, served: Context) -> None:
    done = client.post("api/edit", move(2, 3)).json
    assert (done["revision"], done["rows"], done["merged"]) == (1, [2], False)
    assert (done["undo"], done["redo"]) == (1, 0)
    assert done["state"] == client.get("api/rows/2").json
    assert done["state"]["points"]["head"] == [3.0, 4.0, 2, True]
    again = client.post("api/edit", move(2, 3)).json
    assert again["revision"] == 1, "the same token"
    step = {"client": "me", "base": 1, "token": "u"}
    undone = client.post("api/undo", step).json
    assert undone["state"]["points"]["head"] == [None, None, 0, False]
    assert (undone["revision"], undone["undo"], undone["redo"]) == (2, 0, 1)
    nothing = client.post("api/undo", step | {"token": "u2", "base": 2}).json
    assert nothing == {"nothing": True, "undo": 0, "redo": 1}
    redone = client.post("api/redo", step | {"token": "r", "base": 2}).json
    assert redone["state"]["points"]["head"] == [3.0, 4.0, 2, True]


def test_a_conflict_shows_both_sides(client) -> None:
    client.post("api/edit", move(2, 3, client="anna"))
    answer = client.post("api/edit", move(2, 7, client="ben"))
    assert answer.status == 409
    conflict = answer.json["conflict"]
    assert answer.json["error"] == conflict["message"]
    assert (conflict["row"], conflict["client"], conflict["parts"]) == (2, "anna", [".head"])
    assert (conflict["base_revision"], conflict["revision"]) == (0, 1)
    assert conflict["yours"]["points"]["head"][0] == 7
    assert conflict["theirs"]["points"]["head"][0] == 3
    merged = client.post("api/edit", move(2, 9, client="ben", name="tail", token="t2")).json
    assert merged["merged"]
    assert merged["state"]["points"]["head"][0] == 3


def test_guesses_are_confirmed_above_a_threshold(client, served: Context) -> None:
    body = {"client": "me", "base": 0, "token": "c", "row": 4}
    assert client.post("api/confirm", body).status == 400
    served.store.put_guesses([4], np.full((1, 5, 2), 6), [[0.1, 0.3, 0.5, 0.7, 0.9]], "net")
    one = client.post("api/confirm", body | {"keypoints": ["head"]}).json
    assert one["state"]["points"]["head"] == [6.0, 6.0, 2, True]
    some = client.post("api/confirm", body | {"threshold": 0.6, "token": "c2", "base": 1}).json
    assert [name for name, p in some["state"]["points"].items() if p[3]] == ["head", "hip", "tail"]


def test_history_and_the_way_back(client) -> None:
    for i in range(3):
        client.post("api/edit", move(i + 2, i + 1, base=i, token=str(i)))
    client.post("api/undo", {"client": "me", "base": 3, "token": "u"})
    found = client.get("api/history?limit=3").json
    kinds = [(entry["seq"], entry["kind"], entry["row"]) for entry in found["entries"]]
    assert kinds == [(4, "undo", 4), (3, "move", 4), (2, "move", 3)]
    assert found["entries"][1]["text"] == "head at (3.0, 4.0)"
    assert found["moments"][-1] == {"seq": 0, "time": None, "text": "before the first edit"}
    assert [entry["seq"] for entry in client.get("api/history?before=2").json["entries"]] == [1]
    back = client.post("api/restore", {"client": "me", "token": "b", "seq": 1}).json
    assert back["rows"] == [3]
    assert client.get("api/rows").json["status"] == [2, 2, 1, 0, 0, 0]
    assert client.get("api/history?before=x").status == 400
    assert client.get("api/history?limit=99999999999999999999").status == 400


def test_a_skeleton_is_looked_at_and_changed(client) -> None:
    change = {
        "names": ["nose", "earL", "earR", "hip"], "parents": [-1, 0, 0, 0],
        "swaps": [-1, 2, 1, -1], "renamed": {"head": "nose"},
    }  # fmt: skip
    seen = client.post("api/skeleton/preview", change).json
    assert seen | {"text": 0} == {
        "keeps": 8, "removes": ["tail"], "adds": [], "labels_lost": 2, "images_touched": 2,
        "text": 0,
    }  # fmt: skip
    assert seen["text"][0] == "renamed: head -> nose"
    assert client.get("api/set").json["revision"] == 0, "nothing is done yet"
    done = client.post("api/skeleton", change | {"client": "me", "base": 0, "token": "s"}).json
    assert (done["revision"], done["undo"]) == (1, 1)
    assert done["skeleton"]["names"] == change["names"]
    assert done["skeleton"]["seq"] == 1
    assert client.get("api/history").json["entries"][0]["kind"] == "skeleton"
    late = client.post("api/skeleton", change | {"client": "ben", "base": 0, "renamed": {}})
    assert late.status == 409
    assert late.json["conflict"]["row"] is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"names": []}, "at least one keypoint"),
        ({"names": ["a", "a"]}, "stands twice"),
        ({"names": ["a", " b"]}, "without spaces"),
        ({"names": ["a", "b\x00"]}, "printable"),
        ({"names": ["a", "\ud800"]}, "printable"),
        ({"parents": [1, 0]}, "cycle"),
        ({"parents": [5, 0]}, "parent"),
        ({"swaps": [1]}, "swap"),
        ({"renamed": {"wing": "a"}}, "no keypoint 'wing'"),
        ({"renamed": {"head": "c"}}, "no keypoint 'c'"),
        ({"renamed": {"head": "a", "hip": "a"}}, "renamed twice"),
    ],
)
def test_bad_skeletons_are_refused(client, changes, expected) -> None:
    body = {"names": ["a", "b"], "parents": [-1, 0], "swaps": [-1, -1]} | changes
    for path in ("api/skeleton/preview", "api/skeleton"):
        more = {} if path.endswith("preview") else {"client": "me", "base": 0}
        answer = client.post(path, body | more)
        assert answer.status == 400
        assert expected in answer.json["error"]


def test_a_set_without_a_skeleton_gets_one(write_set, client_of) -> None:
    blank = np.full((6, 1, 2), np.nan)
    path = write_set(
        skeleton=placeholder_skeleton(), keypoints=blank, visibility=None, annotated=None
    )
    with Store.open(path, background=False) as store:
        client = client_of(create_app(Context(store), "t"))
        assert client.get("api/set", token="t").json["skeleton"]["placeholder"]
        body = {"names": ["head", "tail"], "parents": [-1, 0], "swaps": [-1, -1]}
        body |= {"client": "me", "base": 0}
        done = client.post("api/skeleton", body, token="t").json
        assert not done["skeleton"]["placeholder"]
        client.post("api/edit", move(0, 3, base=1), token="t")
    found = read_annotations(path)
    assert found.skeleton.names == ("head", "tail")
    assert found.keypoints[0, 0].tolist() == [3, 4]


def test_saving_brings_the_file_up_to_date(client, labels_file) -> None:
    client.post("api/edit", move(2, 3))
    assert client.get("api/set").json["saved"] == 0
    assert client.post("api/save", {}).json == {"revision": 1}
    assert read_annotations(labels_file).keypoints[2, 0].tolist() == [3, 4]
    assert client.get("api/set").json["saved"] == 1


def test_trouble_has_a_status_and_a_sentence(client, served: Context, labels_file) -> None:
    client.post("api/edit", move(2, 3))
    labels_file.chmod(0o444)
    answer = client.post("api/save", {})
    assert (answer.status, "read-only" in answer.json["error"]) == (423, True)
    labels_file.unlink()
    answer = client.post("api/save", {})
    assert (answer.status, "put it back" in answer.json["error"]) == (507, True)
    database = served.store._ledger.journal._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    note = {"row": 2, "edit": {"kind": "note", "note": "x" * 10_000}}
    body = {"client": "me", "base": 1, "token": "n", "changes": [note]}
    answer = client.post("api/edit", body)
    assert (answer.status, "not saved" in answer.json["error"]) == (507, True)


def test_read_only_is_told_and_kept(labels_file, client_of) -> None:
    with Store.open(labels_file, read_only=True) as store:
        client = client_of(create_app(Context(store), "t"))
        found = client.get("api/set", token="t").json
        assert found["read_only"]
        assert "--read-only" in found["reason"]
        for path, body in (
            ("edit", move(2, 3)),
            ("undo", {"client": "me", "base": 0, "token": "u"}),
            ("restore", {"client": "me", "seq": 0}),
            ("save", {}),
        ):
            answer = client.post(f"api/{path}", body, token="t")
            assert (answer.status, "looking only" in answer.json["error"]) == (423, True)


def test_images_that_were_added_are_there_and_alarm_nobody(
    client, served, labels_file, annotations
) -> None:
    client.post("api/edit", move(2, 3))
    append_annotations(labels_file, annotations.subset([0]))
    served.store.poll()
    assert client.get("api/set").json["n"] == 7
    assert len(client.get("api/rows").json["status"]) == 7
    assert client.get("api/images/6").status == 200
    assert client.get("api/set").json["warnings"] == []
    assert "grow" in [entry["kind"] for entry in client.get("api/history").json["entries"]]


def test_images_keep_their_address_when_another_server_begins_the_journal(
    client, served: Context, labels_file
) -> None:
    given = client.get("api/set").json["set_id"]
    with Store.open(labels_file, background=False) as other:
        other.apply([(2, MoveKeypoint("head", 3, 4))], 0, "anna")
        assert client.get("api/rows/2").json["points"]["head"][0] == 3
        assert client.get("api/set").json["set_id"] == other.set_id == given
        assert client.get(f"api/images/2?set={given}").status == 200


def test_images_of_another_set_get_another_address(
    client, served: Context, write_set, annotations
) -> None:
    given = client.get("api/set").json["set_id"]
    client.get(f"api/images/2?set={given}")
    write_set(keypoints=annotations.keypoints + 1)
    served.store.poll()
    assert client.get(f"api/images/2?set={given}").status == 200, "other labels, the same images"
    write_set(images=np.full((6, 24, 32, 1), 9, np.uint8))
    served.store.poll()
    assert client.get(f"api/images/2?set={given}").status == 404
    now = client.get("api/set").json["set_id"]
    assert (decoded(client.get(f"api/images/2?set={now}").body) == 9).all()


def test_edits_made_on_another_set_are_not_done(client, served: Context, write_set) -> None:
    given = client.get("api/set").json["set_id"]
    write_set(images=np.full((6, 24, 32, 1), 9, np.uint8))
    served.store.poll()
    step = {"client": "me", "base": 0, "set": given}
    for name, body in (
        ("edit", move(2, 3)),
        ("undo", {"token": "u"}),
        ("redo", {"token": "r"}),
        ("confirm", {"token": "c", "row": 2}),
    ):
        answer = client.post(f"api/{name}", body | step)
        assert (answer.status, answer.json["error"][:24]) == (404, "this is another set now;")
    assert served.store.revision == 0
    now = client.get("api/set").json["set_id"]
    assert client.post("api/edit", move(2, 3) | {"set": now}).status == 200


# -- events ---------------------------------------------------------------------------------------


def test_pages_are_told_of_edits_and_updates(client, served: Context) -> None:
    async def work() -> list[bytes]:
        stream = served.hub.listen(lambda: served.store.revision)
        heard = [await anext(stream), await anext(stream)]
        await asyncio.to_thread(served.store.apply, [(2, MoveKeypoint("head", 3, 4))], 0, "me")
        heard.append(await anext(stream))
        await asyncio.to_thread(served.store.save)
        heard.append(await anext(stream))
        assert len(served.hub) == 1
        served.hub.close()
        heard += [event async for event in stream]
        assert len(served.hub) == 0
        return heard

    assert asyncio.run(work()) == [
        b"retry: 1000\n\n",
        b'event: ping\ndata: {"revision":0}\n\n',
        b'event: changed\ndata: {"revision":1,"rows":[2],"client":"me"}\n\n',
        b'event: saved\ndata: {"revision":1}\n\n',
    ]


def test_pages_are_told_what_keeps_the_file_back_and_when_it_is_over(
    client, served: Context, labels_file
) -> None:
    async def work() -> list[dict]:
        stream = served.hub.listen(lambda: 0)
        await anext(stream)
        await anext(stream)
        await asyncio.to_thread(served.store.apply, [(2, MoveKeypoint("head", 3, 4))], 0, "me")
        labels_file.chmod(0o444)
        await asyncio.to_thread(served.store._update_quietly)
        await asyncio.to_thread(served.store._update_quietly)
        labels_file.chmod(0o644)
        await asyncio.to_thread(served.store._update_quietly)
        served.hub.close()
        heard = [event.decode() async for event in stream]
        return [json.loads(text.split("data: ")[1]) for text in heard if "warnings" in text]

    first, second = asyncio.run(work())
    assert "it is read-only" in first["warnings"][0]
    assert second == {"warnings": []}


def test_pings_come_now_and_then(monkeypatch) -> None:
    monkeypatch.setattr("dpk_annotator.events.PING_SECONDS", 0.01)

    async def work() -> bytes:
        stream = Hub().listen(lambda: 8)
        for _ in range(4):
            event = await anext(stream)
        await stream.aclose()
        return event

    assert asyncio.run(work()) == b'event: ping\ndata: {"revision":8}\n\n'


def test_a_page_that_reads_too_slowly_is_told_to_load_all() -> None:
    async def work() -> list[object]:
        listener = _Listener()
        for i in range(500):
            listener.put(("changed", {"revision": i, "rows": [i], "client": "x"}))
        return [listener.queue.get_nowait() for _ in range(listener.queue.qsize())]

    left = asyncio.run(work())
    assert len(left) <= 200
    assert any(event[1]["rows"] is None for event in left)
    assert left[-1][1]["revision"] == 499


def test_events_of_the_hub_are_json() -> None:
    async def work() -> bytes:
        hub = Hub()
        stream = hub.listen(lambda: 0)
        await anext(stream)
        await anext(stream)
        hub.changed(Changed(3, (5, 5, 6), 'a "name"\n'))
        return await anext(stream)

    name, data = asyncio.run(work()).decode().strip().split("\n")
    assert name == "event: changed"
    assert json.loads(data.removeprefix("data: ")) == {
        "revision": 3, "rows": [5, 6], "client": 'a "name"\n',
    }  # fmt: skip


# -- the page's own files -------------------------------------------------------------------------


def test_files_of_the_page_are_looked_up_and_never_opened(tmp_path, served, client_of) -> None:
    folder = tmp_path / "page"
    (folder / "parts").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>dpk</h1>")
    (folder / "parts" / "a.js").write_text("1")
    (folder / "secret.txt").write_text("no")
    (tmp_path / "outside.js").write_text("no")
    client = client_of(create_app(served, "t", page=PageFiles(folder)))
    page = client.get("", token="t")
    assert (page.status, page.body) == (200, b"<h1>dpk</h1>")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    script = client.get("static/parts/a.js", token="t")
    assert (script.body, script.headers["content-type"]) == (b"1", "text/javascript; charset=utf-8")
    for path in (
        "secret.txt", "../outside.js", "parts/../../outside.js", "/etc/passwd", "parts", "",
        "..%2foutside.js", "parts/a.js/", "parts//a.js", "a.js\x00", str(tmp_path / "outside.js"),
    ):  # fmt: skip
        assert client.get(f"static/{path}", token="t").status == 404, path


def test_the_address_without_its_last_slash_leads_to_the_page(client) -> None:
    answer = client.ask("GET", "/a-token-that-nobody-guesses", token=None)
    assert (answer.status, answer.headers["location"]) == (307, "/a-token-that-nobody-guesses/")


# -- the description ------------------------------------------------------------------------------


def test_every_address_is_described(client, served: Context) -> None:
    described = client.get("api/schema.json").json
    assert described["openapi"].startswith("3.1")
    for path, operations in described["paths"].items():
        for method in ("get", "post"):
            place = path.replace("{", "").replace("}", "").removeprefix("/")
            answer = client.ask(method.upper(), place, b"{}") if "events" not in path else None
            if answer is not None:
                missing = b"this cannot be done at this address" in answer.body
                assert missing == (method not in operations), (method, path)


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        (True, {"type": "integer"}, "expected integer, found true"),
        (1.5, {"type": "integer"}, "found 1.5"),
        ("x", {"type": ["number", "null"]}, "expected number or null"),
        (-1, {"type": "integer", "minimum": 0}, "from 0 to inf, found -1"),
        ([1, "a"], {"type": "array", "items": {"type": "integer"}}, r"it\[1\]: expected integer"),
        ([1, 2], {"type": "array", "maxItems": 1}, "up to 1 items, found 2"),
        ("abc", {"type": "string", "maxLength": 2}, "up to 2 characters, found 3"),
        ("", {"type": "string", "minLength": 1}, "at least 1"),
        ("c", {"enum": ["a", "b"]}, "one of a, b"),
        ({}, {"type": "object", "required": ["a"]}, "a missing"),
        ({"b": 1}, {"type": "object", "properties": {}, "additionalProperties": False}, "unknown"),
        ({"b": 1}, {"type": "object", "additionalProperties": {"type": "string"}}, '"b": expected'),
    ],
)
def test_the_schema_says_what_is_wrong_where(value, schema, expected) -> None:
    with pytest.raises(ValidationError, match=expected):
        check(value, schema, "it")
