"""Progress for other programs: how far a command is, in a file that they can read at any moment.

``DPK_PROGRESS_FILE=job.json dpk train ...`` keeps ``job.json`` at one JSON object with ``message``,
``done``, ``total`` (null while it is not known), ``elapsed_s``, and, of a training, ``epoch``,
``epochs``, ``loss``, ``validation_loss``, ``validation_error_px`` and ``best_epoch`` (null for what
is not known). The file is replaced whole, at most twice a second. What cannot be written there is
no reason to end the work.
"""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from dpk_core.progress import TrainProgress

VARIABLE = "DPK_PROGRESS_FILE"
"""Names the environment variable with the file."""

_EVERY_S = 0.5


class ProgressFile:
    """Keeps a file at what was last told."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._began = time.monotonic()
        self._next = 0.0
        self._message = ""

    def tell(self, done: float, total: float | None, message: str) -> None:
        """Of any long work."""
        is_news = message != self._message or (total is not None and done >= total)
        self._message = message
        self._write({"message": message, "done": done, "total": total}, is_news)

    def tell_training(self, event: TrainProgress, fraction: float, message: str) -> None:
        """Of a training; ``fraction`` of it is done."""
        facts = {
            name: _known(getattr(event, name))
            for name in (
                "epoch", "epochs", "loss", "validation_loss", "validation_error_px", "best_epoch",
            )
        }  # fmt: skip
        self._write({"message": message, "done": fraction, "total": 1.0, **facts}, False)

    def _write(self, content: dict[str, Any], is_news: bool) -> None:
        now = time.monotonic()
        if now < self._next and not is_news:
            return
        self._next = now + _EVERY_S
        text = json.dumps({**content, "elapsed_s": round(now - self._began, 1)})
        with suppress(OSError):
            self._temporary.write_text(text, encoding="utf-8")
            os.replace(self._temporary, self._path)


def progress_file() -> ProgressFile | None:
    """The one that the environment asks for."""
    path = os.environ.get(VARIABLE)
    return ProgressFile(Path(path)) if path else None


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
