"""Videos and a model's poses of them, for the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dpk_annotator.answers import Json, number
from dpk_annotator.films import Film, Films
from dpk_annotator.growing import MOST_AT_ONCE, grow
from dpk_annotator.partner import Partner
from dpk_annotator.reviews import MOST_BINS, Review, Reviews
from dpk_annotator.routes_partner import job_json
from dpk_annotator.schema import Schema, object_schema, operation
from dpk_annotator.store import Store
from dpk_core.errors import ValidationError

Endpoint = Callable[[Request, dict[str, Any]], Response]

_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31}
_TRACK: Schema = {"type": "integer", "minimum": -1, "maximum": 2**31 - 1}
_VIDEO = {"video": _COUNT}
_POSES = {"poses": _COUNT}
ADD_BODY = object_schema(
    {"frames": {"type": "array", "items": _COUNT, "minItems": 1, "maxItems": MOST_AT_ONCE}}
)
SAMPLE_BODY = object_schema({"n": {"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE}})
SWAP_BODY = object_schema(
    {"frame": _COUNT, "first": _TRACK, "second": _TRACK}, {"back": {"type": "boolean"}}
)

OPERATIONS = {
    ("GET", "/api/videos"): operation("videos of the set, and those beside it"),
    ("GET", "/api/videos/{video}"): operation("a video's length and size", path=_VIDEO),
    ("GET", "/api/videos/{video}/frames/{frame}"): operation(
        "exactly that frame", path={**_VIDEO, "frame": _COUNT}, media="image/jpeg"
    ),
    ("POST", "/api/videos/{video}/add"): operation(
        "add frames to the set", path=_VIDEO, body=ADD_BODY
    ),
    ("POST", "/api/videos/{video}/sample"): operation(
        "add frames that differ much", path=_VIDEO, body=SAMPLE_BODY
    ),
    ("GET", "/api/poses"): operation(
        "what models found in videos, or in one of them", query=_VIDEO
    ),
    ("GET", "/api/poses/{poses}/columns"): operation(
        "confidence and speed along the video",
        path=_POSES,
        query={
            "bins": {"type": "integer", "minimum": 1, "maximum": MOST_BINS},
            "start": _COUNT,
            "stop": _COUNT,
        },
    ),
    ("GET", "/api/poses/{poses}/frames"): operation(
        "keypoints of some frames", path=_POSES, query={"start": _COUNT, "stop": _COUNT}
    ),
    ("POST", "/api/poses/{poses}/swap"): operation(
        "exchange two individuals from a frame on, or take the last exchange back",
        path=_POSES,
        body=SWAP_BODY,
    ),
}


class MediaRoutes:
    """The endpoints; each gets the request and its checked body."""

    def __init__(self, store: Store, films: Films, reviews: Reviews, partner: Partner) -> None:
        self._store, self._films, self._reviews = store, films, reviews
        self._partner = partner

    def endpoints(self) -> dict[tuple[str, str], tuple[Schema | None, Endpoint]]:
        """By method and path: the schema of the body, and what answers."""
        return {
            ("GET", "/api/videos"): (None, self.videos),
            ("GET", "/api/videos/{video}"): (None, self.video),
            ("GET", "/api/videos/{video}/frames/{frame}"): (None, self.frame),
            ("POST", "/api/videos/{video}/add"): (ADD_BODY, self.add),
            ("POST", "/api/videos/{video}/sample"): (SAMPLE_BODY, self.sample),
            ("GET", "/api/poses"): (None, self.poses),
            ("GET", "/api/poses/{poses}/columns"): (None, self.columns),
            ("GET", "/api/poses/{poses}/frames"): (None, self.frames),
            ("POST", "/api/poses/{poses}/swap"): (SWAP_BODY, self.swap),
        }

    def videos(self, request: Request, _: dict[str, Any]) -> Response:
        found = [
            {"id": film.number, "name": film.name, "present": film.path is not None}
            for film in self._films.all()
        ]
        return Json({"videos": found})

    def video(self, request: Request, _: dict[str, Any]) -> Response:
        film = self._film(request)
        facts = self._films.facts(film.number)
        film = self._films.get(film.number)  # whether it is here is known now
        in_set = [list(pair) for pair in self._films.in_set(film)]
        return Json(
            {
                "id": film.number,
                "name": film.name,
                "n_frames": facts.n_frames,
                "fps": facts.fps,
                "height": facts.height,
                "width": facts.width,
                "in_set": in_set,
            }
        )

    def frame(self, request: Request, _: dict[str, Any]) -> Response:
        film, frame = self._film(request), _whole(request, "frame")
        version = f'"{self._films.version(film.number)}"'
        # A file may be replaced at any time, so browsers ask whether it was.
        headers = {"cache-control": "private, no-cache", "etag": version}
        if request.headers.get("if-none-match") == version:
            return Response(status_code=304, headers=headers)
        content = self._films.frame(film.number, frame)
        return Response(content, media_type="image/jpeg", headers=headers)

    def add(self, request: Request, body: dict[str, Any]) -> Response:
        film = self._film(request)
        path = self._films.path_of(film.number)
        known = {frame for _, frame in self._films.in_set(film)}  # by whatever name
        new = [frame for frame in body["frames"] if frame not in known]
        return Json({"rows": grow(self._store, path, new, self._films.places.folders)})

    def sample(self, request: Request, body: dict[str, Any]) -> Response:
        film = self._film(request)
        return Json(job_json(self._partner.sample(self._films.path_of(film.number), body["n"])))

    def poses(self, request: Request, _: dict[str, Any]) -> Response:
        return Json({"poses": self._reviews.describe_all(number(request, "video"))})

    def columns(self, request: Request, _: dict[str, Any]) -> Response:
        bins = number(request, "bins", 1000) or 1
        start, stop = number(request, "start", 0) or 0, number(request, "stop")
        return Json(self._reviews.columns(self._review(request), bins, start, stop))

    def frames(self, request: Request, _: dict[str, Any]) -> Response:
        start = number(request, "start", 0) or 0
        stop = number(request, "stop", start + 1) or 0
        return Json(self._reviews.frames(self._review(request), start, stop))

    def swap(self, request: Request, body: dict[str, Any]) -> Response:
        review, back = self._review(request), body.get("back", False)
        changed = self._reviews.exchange(
            review, body["frame"], body["first"], body["second"], back=back
        )
        return Json({"rows": changed, "exchanges": self._reviews.exchanges(review)})

    def _film(self, request: Request) -> Film:
        try:
            return self._films.get(_whole(request, "video"))
        except ValidationError as error:
            raise HTTPException(404, str(error)) from None

    def _review(self, request: Request) -> Review:
        try:
            return self._reviews.get(_whole(request, "poses"))
        except ValidationError as error:
            raise HTTPException(404, str(error)) from None


def _whole(request: Request, name: str) -> int:
    text = request.path_params[name]
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise HTTPException(404, "there is nothing at this address")
    return int(text)
