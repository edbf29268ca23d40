"""Rows, outcomes and columns as the page gets them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dpk_annotator.guesses import Guess
from dpk_annotator.outcome import Applied, Conflict
from dpk_annotator.row_state import HIGHEST, LOWEST, RowState
from dpk_annotator.store import Store
from dpk_core.annotations import Source
from dpk_core.services.video_paths import file_name

UNTOUCHED, BEGUN, DEALT_WITH = 0, 1, 2


def row_json(store: Store, row: int, state: RowState | None = None) -> dict[str, Any]:
    """One image: labels, marks, a model's guess, size and source."""
    state = store.state(row) if state is None else state
    height, width, _ = store.image_shape
    source = store.sources[row] if row < len(store.sources) else Source()
    if source.size is not None:
        height, width = source.size
    guess = store.guess(row) if row < len(store) else None
    return {
        "row": row,
        **state.to_json(),
        "guess": None if guess is None else _guess_json(guess, state.skeleton.names),
        "width": width,
        "height": height,
        "source": label_of(row, source),
    }


def applied_json(store: Store, outcome: Applied, client: str) -> dict[str, Any]:
    """What an edit, undo or redo has done."""
    rows = list(outcome.rows)
    return {
        "revision": outcome.revision,
        "rows": rows,
        "state": row_json(store, rows[0], outcome.state) if rows else None,
        "merged": outcome.merged,
        **steps_json(store, client),
    }


def steps_json(store: Store, client: str) -> dict[str, int]:
    """How many steps a client can undo and redo."""
    undo, redo = store.steps(client)
    return {"undo": undo, "redo": redo}


def conflict_json(store: Store, conflict: Conflict) -> dict[str, Any]:
    """Why nothing was done, with both versions."""

    def shown(state: RowState | None) -> dict[str, Any] | None:
        if state is None or conflict.row is None:
            return None
        return row_json(store, conflict.row, state)

    return {
        "row": conflict.row,
        "base_revision": conflict.base_revision,
        "revision": conflict.revision,
        "client": conflict.client,
        "time": conflict.time,
        "parts": list(conflict.parts),
        "yours": shown(conflict.yours),
        "theirs": shown(conflict.theirs),
        "message": conflict.message,
    }


def columns_json(store: Store) -> dict[str, Any]:
    """All rows, column by column."""
    revision, labels, confidence = store.labels()
    n = min(len(store), len(labels))
    dealt = labels.annotated[:n]
    status = np.where(dealt.all(axis=1), DEALT_WITH, np.where(dealt.any(axis=1), BEGUN, UNTOUCHED))
    status[labels.finished[:n]] = DEALT_WITH
    sources = store.sources[:n]
    numbers = {name: i for i, name in enumerate(video_names(store))}
    return {
        "revision": revision,
        "status": status.tolist(),
        "finished": labels.finished[:n].astype(int).tolist(),
        "flag": labels.flag[:n].astype(int).tolist(),
        "note": [int(row in labels.notes) for row in range(n)],
        "confidence": [None if math.isnan(c) else round(c, 4) for c in confidence[:n].tolist()],
        "video": [numbers.get(s.video, -1) if s.frame >= 0 else -1 for s in sources],
        "frame": [int(source.frame) for source in sources],
        "individual": [source.individual or None for source in sources],
        "label": [label_of(row, source) for row, source in enumerate(sources)],
    }


def video_names(store: Store) -> list[str]:
    """The videos that the images are from; their place in the list is their number.

    An image that was a file of its own is of no video: it has no frame.
    """
    videos = (source.video for source in store.sources if source.frame >= 0)
    return list(dict.fromkeys(video for video in videos if video))


def label_of(row: int, source: Source) -> str:
    """A short text for an image."""
    parts = [file_name(source.video)] if source.video else [f"image {row}"]
    if source.frame >= 0:
        parts.append(f"frame {source.frame}")
    if source.individual:
        parts.append(source.individual)
    return ", ".join(parts)


def _guess_json(guess: Guess, names: tuple[str, ...]) -> dict[str, Any]:
    points = {
        name: [float(x), float(y), float(score)]
        for name, (x, y), score in zip(names, guess.keypoints, guess.scores, strict=True)
        if LOWEST <= x <= HIGHEST and LOWEST <= y <= HIGHEST  # what a label could be; never NaN
    }
    return {"points": points, "model": guess.model}
