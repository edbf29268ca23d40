"""Training, predicting and suggesting from the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dpk_annotator.answers import Json
from dpk_annotator.jobs import Job
from dpk_annotator.partner import Partner
from dpk_annotator.schema import Schema, object_schema, operation
from dpk_core.errors import ValidationError

Endpoint = Callable[[Request, dict[str, Any]], Response]

MOST_SUGGESTED = 1000
BY = (
    "combined", "confidence", "entropy", "speed", "acceleration", "autoregression", "diversity",
)  # fmt: skip
"""Ways of suggesting for images of a set; those of motion need a video."""

_NUMBER: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31}
_MODEL: Schema = {"type": ["string", "null"], "maxLength": 300}
JOB_BODY = object_schema(
    {"kind": {"type": "string", "enum": ["train", "predict"]}},
    {
        "settings": object_schema(
            {},
            {
                "model": _MODEL,
                "minutes": {"type": ["number", "null"], "minimum": 0, "maximum": 10080},
                "scale": {"type": ["number", "null"], "minimum": 0, "maximum": 4},
                "graph": {"type": ["boolean", "null"]},
            },
        )
    },
)
SUGGEST_BODY = object_schema(
    {
        "by": {"type": "string", "enum": list(BY)},
        "n": {"type": "integer", "minimum": 1, "maximum": MOST_SUGGESTED},
    }
)
EMPTY_BODY = object_schema({})

OPERATIONS = {
    ("GET", "/api/jobs"): operation("trainings and predictions, the latest first"),
    ("POST", "/api/jobs"): operation("begin a training or a prediction", body=JOB_BODY),
    ("GET", "/api/jobs/{job}"): operation(
        "one of them, with its log and its learning curve", path={"job": _NUMBER}
    ),
    ("POST", "/api/jobs/{job}/stop"): operation(
        "end it and keep what it has; asked again, at once", path={"job": _NUMBER}, body=EMPTY_BODY
    ),
    ("GET", "/api/models"): operation("networks to train, trained models to predict with"),
    ("POST", "/api/suggest"): operation("images to label next", body=SUGGEST_BODY),
}


class PartnerRoutes:
    """The endpoints; each gets the request and its checked body."""

    def __init__(self, partner: Partner) -> None:
        self._partner = partner

    def endpoints(self) -> dict[tuple[str, str], tuple[Schema | None, Endpoint]]:
        """By method and path: the schema of the body, and what answers."""
        return {
            ("GET", "/api/jobs"): (None, self.jobs),
            ("POST", "/api/jobs"): (JOB_BODY, self.begin),
            ("GET", "/api/jobs/{job}"): (None, self.job),
            ("POST", "/api/jobs/{job}/stop"): (EMPTY_BODY, self.stop),
            ("GET", "/api/models"): (None, self.models),
            ("POST", "/api/suggest"): (SUGGEST_BODY, self.suggest),
        }

    def jobs(self, request: Request, _: dict[str, Any]) -> Response:
        return Json({"jobs": [job_json(job) for job in self._partner.jobs.all()]})

    def begin(self, request: Request, body: dict[str, Any]) -> Response:
        settings: Mapping[str, Any] = body.get("settings", {})
        begin = self._partner.train if body["kind"] == "train" else self._partner.predict
        return Json(job_json(begin(settings)))

    def job(self, request: Request, _: dict[str, Any]) -> Response:
        job = self._job(request)
        return Json({**job_json(job), "log": job.log(), "curve": job.curve()})

    def stop(self, request: Request, _: dict[str, Any]) -> Response:
        return Json(job_json(self._partner.jobs.stop(self._job(request).number)))

    def models(self, request: Request, _: dict[str, Any]) -> Response:
        return Json(
            {
                "architectures": self._partner.architectures(),
                "trained": [model.name for model in self._partner.models()],
                "by": list(BY),
            }
        )

    def suggest(self, request: Request, body: dict[str, Any]) -> Response:
        found = self._partner.suggest(body["by"], body["n"])
        items = [
            {"row": one.row, "score": one.score, "reasons": list(one.reasons)} for one in found
        ]
        return Json({"items": items})

    def _job(self, request: Request) -> Job:
        text = request.path_params["job"]
        if not (text.isascii() and text.isdecimal() and len(text) <= 9):
            raise HTTPException(404, "there is no such job")
        try:
            return self._partner.jobs.get(int(text))
        except ValidationError as error:
            raise HTTPException(404, str(error)) from None


def job_json(job: Job) -> dict[str, Any]:
    """A job without log and curve."""
    progress = dict(job.progress)
    return {
        "id": job.number,
        "kind": job.kind,
        "state": job.state,
        "progress": progress.get("done"),
        "total": progress.get("total"),
        "text": progress.get("message", ""),
        "details": progress,
        "began": job.began,
        "ended": job.ended,
        "settings": dict(job.settings),
        "has_result": job.result is not None,
    }
