"""Whether somebody else was quicker: what a change touches, and what others did to it since.

Parts are compared by the names that keypoints have now: an entry that was made before a keypoint
was renamed touches it all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from dpk_annotator.asked import Asked
from dpk_annotator.edits import Edit, edit_from_json
from dpk_annotator.entries import EDIT, SKELETON, Entry
from dpk_annotator.outcome import Conflict
from dpk_annotator.replay import Replay
from dpk_annotator.row_state import RowState
from dpk_core.errors import DpkError, ValidationError


def edit_conflict(
    now: Replay, row: int, edit: Edit, parts: frozenset[str], others: Sequence[Entry], base: int
) -> Conflict | None:
    """A conflict when ``others`` have touched one of ``parts`` of an image since ``base``."""
    touched = [entry for entry in others if parts & _parts_now(now, entry)]
    if not touched:
        return None
    theirs, last = now.state(row), touched[-1]
    try:
        yours = edit.apply(_row_at(now, row, base))
    except DpkError:  # it cannot be done on what was then, for the skeleton is another
        yours = edit.apply(theirs)
    common = sorted(parts & {part for entry in touched for part in _parts_now(now, entry)})
    what = ", ".join(part.lstrip(".") for part in common)
    return Conflict(
        row=row,
        base_revision=base,
        revision=theirs.revision,
        client=last.client,
        time=last.time,
        parts=tuple(common),
        yours=yours,
        theirs=theirs,
        message=f"image {row}: {last.client} has changed {what} meanwhile; nothing was "
        "overwritten; look at both and decide",
    )


def skeleton_conflict(now: Replay, row: int | None, asked: Asked) -> Conflict | None:
    """A conflict when somebody else has changed the skeleton; ``row`` is what it was about."""
    if now.skeleton_version.seq <= asked.base or now.journal is None:
        return None
    for entry in now.journal.entries(asked.base, kind=SKELETON):
        if entry.client != asked.client:
            return _refusal(now, entry, asked.base, row)
    return None


def removal_conflict(now: Replay, parts: set[str], asked: Asked) -> Conflict | None:
    """A conflict when somebody else has labelled keypoints that would go."""
    if not parts or now.journal is None:
        return None
    for entry in now.journal.each(asked.base):
        if entry.client != asked.client and entry.kind == EDIT and parts & _parts_now(now, entry):
            return _refusal(now, entry, asked.base, None)
    return None


def _parts_now(now: Replay, entry: Entry) -> set[str]:
    """What an entry touched, by the names that keypoints have now."""
    version = now.skeleton_version
    if entry.skeleton == version.seq:
        return set(entry.parts)
    then = now.skeleton_at(entry.skeleton)
    parts = set()
    for part in entry.parts:
        if not part.startswith("."):
            parts.add(part)
        elif (name := version.name_of(then.identity_of(part[1:]))) is not None:
            parts.add(f".{name}")
    return parts


def _row_at(now: Replay, row: int, seq: int) -> RowState:
    """One image as it was; ValidationError when the skeleton has changed since."""
    assert now.journal is not None
    if now.skeleton_version.seq > seq:
        raise ValidationError("the skeleton has changed since")
    state = now.state(row)
    for entry in reversed(now.journal.entries(seq, row=row)):
        state = edit_from_json(entry.inverse).apply(state)
    return attrs.evolve(state, revision=seq)


def _refusal(now: Replay, entry: Entry, base: int, row: int | None) -> Conflict:
    what = "the skeleton" if entry.kind == SKELETON else f"labels of image {entry.row}"
    return Conflict(
        row=row,
        base_revision=base,
        revision=now.seq,
        client=entry.client,
        time=entry.time,
        parts=entry.parts,
        yours=None,
        theirs=None if row is None else now.state(row),
        message=f"{entry.client} has changed {what} meanwhile; nothing was done; look at the "
        "set as it is now and do it again",
    )
