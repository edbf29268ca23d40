"""Nobody but whoever has the address gets in, and nothing that is sent does harm."""

from __future__ import annotations

import json
import urllib.parse

import pytest

from dpk_annotator.answers import LARGEST_BODY
from dpk_annotator.security import CONTENT_SECURITY_POLICY, Guard, names_of, new_token
from dpk_annotator.server import create_app

SENTENCE = b"This address is not complete: open the one that dpk annotate printed."
TOKEN = "a-token-that-nobody-guesses"
STEP = {"client": "me", "base": 0, "token": "t"}


# -- the token ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "/api/set", "/x/api/set", f"/{TOKEN}x/api/set", f"/{TOKEN[:-1]}/api/set",
     f"/{TOKEN.upper()}/api/set", f"//{TOKEN}/api/set", f"/./{TOKEN}/api/set", f"/x/../{TOKEN}/",
     f"{TOKEN}/api/set", "/ä/api/set", "/\ud800/", f"/{TOKEN}\x00/api/set", f"/static/{TOKEN}",
     "/favicon.ico", "/robots.txt", f"/%61{TOKEN[1:]}/"],
)  # fmt: skip
def test_without_the_token_there_is_one_sentence(client, path: str) -> None:
    for method in ("GET", "POST", "HEAD", "PUT", "OPTIONS"):
        answer = client.ask(method, path, token=None)
        assert answer.status == 403
        assert answer.body == (b"" if method == "HEAD" else SENTENCE)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_tokens_are_long_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50
    assert all(len(token) >= 32 and urllib.parse.quote(token) == token for token in tokens)


# -- where a request comes from -------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8710", "127.0.0.1.evil.example", "localhost.evil.example:8710",
     "evil.example#127.0.0.1", "127.0.0.1:8710@evil.example", "192.168.1.7:8710", "[::2]:8710",
     "127.0.0.1:port", "", " ", "127.0.0.1, evil.example", "0.0.0.0:8710", None],
)  # fmt: skip
def test_a_foreign_host_is_refused(client, host: str | None) -> None:
    """As after DNS rebinding: the browser takes us for the attacker's own server."""
    assert client.get("api/set", headers={"host": host}).status == 403
    assert client.post("api/undo", STEP, headers={"host": host, "origin": None}).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8710", "localhost:8710", "[::1]:9000", "LOCALHOST"])
def test_this_computer_is_let_in_at_any_port_for_tunnels(client, host: str) -> None:
    assert client.get("api/set", headers={"host": host}).status == 200
    own = {"host": host, "origin": f"http://{host}"}
    assert client.post("api/undo", STEP, headers=own).status == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "https://127.0.0.1:8710", "http://127.0.0.1",
     "http://127.0.0.1:8711", "http://localhost:8710", "http://127.0.0.1:8710.evil.example",
     "file://", "http://127.0.0.1:8710/"],
)  # fmt: skip
def test_a_foreign_origin_is_refused(client, origin: str) -> None:
    for ask in (client.get("api/set", headers={"origin": origin}),
                client.post("api/undo", STEP, headers={"origin": origin})):  # fmt: skip
        assert ask.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Same-Origin", "what"])
def test_a_fetch_from_another_site_is_refused(client, site: str) -> None:
    headers = {"sec-fetch-site": site}
    assert client.get("api/set", headers=headers).status == 403
    assert client.get("api/images/0", headers=headers).status == 403
    assert client.post("api/undo", STEP, headers=headers).status == 403
    navigated = headers | {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("", headers=navigated).status != 403, "the page itself, from a link"
    assert client.get("api/set", headers=navigated).status == 403
    framed = headers | {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert client.get("", headers=framed).status == 403
    assert client.ask("POST", "", headers=navigated).status == 403


def test_typing_the_address_looks_but_does_not_act(client) -> None:
    typed = {"sec-fetch-site": "none"}
    assert client.get("api/set", headers=typed).status == 200
    assert client.post("api/undo", STEP, headers=typed).status == 403


def test_a_host_that_was_asked_for_and_any_address(served, client_of) -> None:
    one = client_of(create_app(served, TOKEN, "192.168.1.7"), host="192.168.1.7:8710")
    assert one.get("api/set").status == 200
    assert one.get("api/set", headers={"host": "192.168.1.8:8710"}).status == 403
    anywhere = client_of(create_app(served, TOKEN, "0.0.0.0"), host="10.0.0.3:8710")
    assert anywhere.get("api/set").status == 200
    assert anywhere.get("api/set", headers={"host": "evil.example:8710"}).status == 403
    assert "0.0.0.0" not in names_of("0.0.0.0")


def test_every_answer_has_the_headers(client) -> None:
    paths = [
        "api/set",
        "api/images/0",
        "api/nothing",
        "",
        "static/x.js",
        "api/rows/999",
        "api/edit",
    ]
    for path in paths:
        headers = client.get(path).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in ("no-store", "private, max-age=31536000, immutable")
        assert "set-cookie" not in headers
        assert "access-control-allow-origin" not in headers
    assert client.get("api/images/0").headers["cache-control"].startswith("private")
    assert client.get("api/images/999").headers["cache-control"] == "no-store"
    assert client.ask("OPTIONS", "api/edit").status == 405


def test_web_sockets_are_refused(served) -> None:
    import asyncio

    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    guard = Guard(create_app(served, TOKEN), TOKEN)
    asyncio.run(guard({"type": "websocket", "path": f"/{TOKEN}/"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


# -- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"null", 400), (b"[]", 400), (b'"x"', 400), (b"1e999", 400),
        (b'{"client": NaN}', 400), (b"\xff\xfe", 400), (b"[" * 200_000, 400),
        (b'{"a":' * 100_000, 400), (b"1" * 5000, 400),
        (b" " * (LARGEST_BODY + 1), 413), (json.dumps({"a": "x" * LARGEST_BODY}).encode(), 413),
    ],
)  # fmt: skip
def test_what_is_no_small_json_object_is_refused(client, body: bytes, status: int) -> None:
    answer = client.ask("POST", "api/edit", body)
    assert answer.status == status
    assert "error" in answer.json


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None,
     "application/jsonp", "text/json"],
)  # fmt: skip
def test_what_a_form_could_send_is_refused(client, kind: str | None) -> None:
    answer = client.post("api/undo", STEP, headers={"content-type": kind})
    assert answer.status == 415
    assert client.get("api/history").json["entries"] == []


def test_a_content_type_may_say_more(client) -> None:
    kind = "Application/JSON; charset=utf-8"
    assert client.post("api/undo", STEP, headers={"content-type": kind}).status == 200


HUGE = 10**400


@pytest.mark.parametrize(
    "change",
    [
        {"base": -1}, {"base": 1.0}, {"base": True}, {"base": None}, {"base": 2**63},
        {"base": HUGE}, {"base": 7}, {"client": ""}, {"client": 5}, {"client": "x" * 201},
        {"client": "a\u0000b"}, {"client": "\ud800"}, {"client": "(the file)"}, {"token": ""},
        {"token": "\n"}, {"token": None}, {"token": {}}, {"extra": 1}, {"changes": []},
        {"changes": {}}, {"changes": [1]}, {"changes": [{"row": 0}]},
        {"changes": [{"row": -1, "edit": {"kind": "reset"}}]},
        {"changes": [{"row": 6, "edit": {"kind": "reset"}}]},
        {"changes": [{"row": HUGE, "edit": {"kind": "reset"}}]},
        {"changes": [{"row": "0", "edit": {"kind": "reset"}}]},
        {"changes": [{"row": 0, "edit": {"kind": "reset", "x": 1}}]},
        {"changes": [{"row": 0, "edit": {"kind": "reset"}, "more": 1}]},
        {"changes": [{"row": 0, "edit": {"kind": "move", "keypoint": "head", "x": HUGE, "y": 0}}]},
        {"changes": [{"row": 0, "edit": {"kind": "move", "keypoint": "\ud800", "x": 0, "y": 0}}]},
        {"changes": [{"row": 0, "edit": {"kind": "note", "note": "\udfff"}}]},
        {"changes": [{"row": 0, "edit": {"kind": "copy", "source": 0, "points": {"head": [1]}}}]},
        {"changes": [{"row": 0, "edit": {"kind": "copy", "source": HUGE, "points": {}}}]},
        {"changes": [{"row": 0, "edit": {"kind": "reset"}}] * 1001},
    ],
)  # fmt: skip
def test_wrong_values_are_refused_and_nothing_is_done(client, change: dict) -> None:
    good = STEP | {"changes": [{"row": 0, "edit": {"kind": "flag", "flag": True}}]}
    answer = client.post("api/edit", good | change)
    assert answer.status == 400, answer.body
    assert isinstance(answer.json["error"], str)
    assert client.get("api/set").json["revision"] == 0


@pytest.mark.parametrize("row", ["-1", "6", "1.0", "x", "%00", "999999999999999999999", "٣", "0x1"])
def test_rows_that_are_none_are_not_there(client, row: str) -> None:
    for path in ("rows", "images", "thumbnails"):
        assert client.get(f"api/{path}/{row}").status == 404


@pytest.mark.parametrize("seq", [-1, 5, HUGE, 1.5, "0", None, True])
def test_moments_that_never_were_are_refused(client, seq: object) -> None:
    assert client.post("api/restore", {"client": "me", "seq": seq}).status == 400


def test_a_bug_is_told_of_without_its_details(client, served, monkeypatch, caplog) -> None:
    def broken(row: int) -> None:
        raise RuntimeError("the secret of /home/anna")

    monkeypatch.setattr(served.store, "state", broken)
    answer = client.get("api/rows/0")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert "the secret of /home/anna" in caplog.text
    assert TOKEN not in caplog.text
