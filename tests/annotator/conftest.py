"""Small sets to label."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.services.storage import write_annotations
from dpk_core.skeleton import Skeleton


@pytest.fixture(autouse=True)
def _own_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals that cannot lie beside their file never reach the data of whoever runs the tests."""
    monkeypatch.setenv("DPK_JOURNALS", str(tmp_path / "journals at home"))


@pytest.fixture
def skeleton() -> Skeleton:
    """Five keypoints with a tree and one pair."""
    return Skeleton.from_rows(
        [
            ("head", None, None),
            ("earL", "head", "earR"),
            ("earR", "head", "earL"),
            ("hip", "head", None),
            ("tail", "hip", None),
        ]
    )


@pytest.fixture
def annotations(skeleton: Skeleton) -> AnnotationSet:
    """Six images of 24x32; the first two are labelled, of the second the tail is hidden."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (6, 24, 32, 1), np.uint8)
    keypoints = np.full((6, len(skeleton), 2), np.nan)
    keypoints[:2] = rng.uniform(1, 20, (2, len(skeleton), 2)).round(2)
    visibility = np.where(np.isnan(keypoints[..., 0]), 0, 2).astype(np.uint8)
    visibility[1, 4] = 1
    sources = tuple(Source("day1.mp4", 10 * i) for i in range(6))
    return AnnotationSet(images, keypoints, skeleton, visibility=visibility, sources=sources)


@pytest.fixture
def labels_file(tmp_path: Path, annotations: AnnotationSet) -> Path:
    """The same in a file."""
    path = tmp_path / "labels.h5"
    write_annotations(path, annotations)
    return path


@pytest.fixture
def write_set(tmp_path: Path, annotations: AnnotationSet) -> Callable[..., Path]:
    """Writes a changed copy of the small set: ``write_set("name.h5", keypoints=...)``."""

    def write(name: str = "labels.h5", **changes: object) -> Path:
        write_annotations(tmp_path / name, attrs.evolve(annotations, **changes), overwrite=True)
        return tmp_path / name

    return write


@pytest.fixture
def small_set(tmp_path_factory: pytest.TempPathFactory, annotations: AnnotationSet):
    """Makes a new small set in a folder of its own with every call."""

    def make() -> Path:
        path = tmp_path_factory.mktemp("set") / "labels.h5"
        write_annotations(path, annotations)
        return path

    return make


# -- the server -----------------------------------------------------------------------------------

TOKEN = "a-token-that-nobody-guesses"


@attrs.frozen
class Answer:
    """What the server sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks an ASGI application as a browser would, without a socket between."""

    def __init__(self, app: Any, host: str = "127.0.0.1:8710") -> None:
        self.app, self.host = app, host
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def get(self, path: str, **options: Any) -> Answer:
        return self.ask("GET", path, **options)

    def post(self, path: str, value: Any, **options: Any) -> Answer:
        return self.ask("POST", path, json.dumps(value).encode(), **options)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: dict[str, str | None] | None = None,
        token: str | None = TOKEN,
    ) -> Answer:
        """``path`` after the token; None in ``headers`` leaves one out."""
        known: dict[str, str | None] = {"host": self.host}
        if method == "POST":
            known |= {
                "content-type": "application/json",
                "origin": f"http://{self.host}",
                "sec-fetch-site": "same-origin",
            }
        known |= headers or {}
        path, _, query = path.partition("?")
        place = path if token is None else f"/{token}/{path}"
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
            "method": method, "path": place, "raw_path": place.encode("utf-8", "replace"),
            "query_string": query.encode("latin-1", "replace"), "root_path": "",
            "headers": [
                (name.encode(), value.encode("latin-1", "replace"))
                for name, value in known.items() if value is not None
            ],
            "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8710),
        }  # fmt: skip
        return self._loop.run_until_complete(self._ask(scope, body))

    async def _ask(self, scope: dict[str, Any], body: bytes) -> Answer:
        pieces = [body[i : i + 65536] for i in range(0, len(body), 65536)] or [b""]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not pieces:
                return {"type": "http.disconnect"}
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(sent[0]["status"], headers, content)


@pytest.fixture
def client_of() -> Iterator[Callable[[Any], Client]]:
    """Makes clients of applications."""
    clients = []

    def make(app: Any, **options: Any) -> Client:
        clients.append(Client(app, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def served(labels_file: Path) -> Iterator[Any]:
    """The `Context` of a server on the small set."""
    from dpk_annotator.context import Context
    from dpk_annotator.store import Store

    with Store.open(labels_file, background=False) as store:
        yield Context(store)


@pytest.fixture
def client(served: Any, client_of: Callable[[Any], Client]) -> Client:
    """A page's view of that server."""
    from dpk_annotator.server import create_app

    return client_of(create_app(served, TOKEN))
