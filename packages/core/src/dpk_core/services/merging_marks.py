"""Merging labelled sets: what becomes of flags, notes and finished marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from dpk_core.services.merging import Place
from dpk_core.services.storage.marks import LONGEST_NOTE, Marks

_SHOWN = 10
_NEXT = re.compile(r"\n[^\n]*\.\w+( row \d+)?: ")
"""A line that begins with the name of a file, as `_joined` puts it before each note."""


@attrs.frozen(eq=False)
class MergedMarks:
    """The marks of a merged set.

    Parameters
    ----------
    marks
        Of all its images.
    together
        Rows whose note was put together of different ones.
    too_long
        (row, place) of notes that did not fit behind the one before them.
    unfinished
        Rows that one set calls finished, while another has keypoints that nobody dealt with there.
    """

    marks: Marks
    together: tuple[int, ...]
    too_long: tuple[tuple[int, Place], ...]
    unfinished: tuple[int, ...]

    def report(self, paths: Sequence[Path]) -> list[str]:
        """What a user should know of them."""
        lines = []
        if self.marks:
            flags, finished = int(self.marks.flag.sum()), int(self.marks.finished.sum())
            lines.append(
                f"taken over: flags of {flags} images, notes of {len(self.marks.notes)}, finished "
                f"marks of {finished}"
            )
        if self.together:
            lines.append(
                f"different notes to one image stand together, each with its file's name: "
                f"{_rows(self.together)}"
            )
        lines += [
            f"row {row}: the note of {paths[number]} row {i} was not taken, for with the one "
            f"before it has more than {LONGEST_NOTE} characters"
            for row, (number, i) in self.too_long
        ]
        if self.unfinished:
            lines.append(
                "finished in one set, with keypoints that only others know and nobody dealt with "
                f"there: not marked finished: {_rows(self.unfinished)}"
            )
        return lines


def merge_marks(
    marks: Sequence[Marks | None],
    rows: Sequence[Sequence[Place]],
    annotated: np.ndarray,
    paths: Sequence[Path],
) -> MergedMarks:
    """Bring together what several sets say of the same images.

    An image is flagged when any set flags it. Different notes are all kept, one below the other,
    each behind the name of its file. It is finished when any set says so and all keypoints of the
    merged set are dealt with.

    Parameters
    ----------
    marks
        Of each set, None when it has none.
    rows
        For each image of the merged set, the places where it stands.
    annotated
        (n, k) bool of the merged set.
    paths
        Of the sets.
    """
    merged, names = Marks.none(len(rows)), _names(paths)
    together, too_long, unfinished = [], [], []
    for row, places in enumerate(rows):
        known = [(p, one) for p in places if (one := marks[p[0]]) is not None]
        merged.flag[row] = any(one.flag[i] for (_, i), one in known)
        if any(one.finished[i] for (_, i), one in known):
            merged.finished[row] = annotated[row].all()
            if not merged.finished[row]:
                unfinished.append(row)
        notes = [(place, one.notes[place[1]]) for place, one in known if place[1] in one.notes]
        if notes:
            kept, n_kept, left = _together(notes, names)
            merged.notes[row] = kept
            too_long += [(row, place) for place in left]
            if n_kept > 1:
                together.append(row)
    return MergedMarks(merged, tuple(together), tuple(too_long), tuple(unfinished))


def _together(
    notes: Sequence[tuple[Place, str]], names: Sequence[str]
) -> tuple[str, int, list[Place]]:
    """The notes as one, of how many it is made, and the places of those that did not fit."""
    many = len({place[0] for place, _ in notes}) < len(notes)
    kept: list[tuple[str, str]] = []
    left = []
    for place, text in notes:
        name = f"{names[place[0]]} row {place[1]}" if many else names[place[0]]
        # A set that is merged again with what came of it before, in either order, says nothing new.
        if any(_says(other, name, text) for _, other in kept):
            continue
        more = [*(one for one in kept if not _says(text, *one)), (name, text)]
        if len(_joined(more)) > LONGEST_NOTE:
            left.append(place)
        else:
            kept = more
    return _joined(kept), len(kept), left


def _says(note: str, name: str, text: str) -> bool:
    """Whether a note is that of a file, or has it whole among others that stand together."""
    if note == text:
        return True
    said = f"\n{name}: {text}"
    parts = f"\n{note}".split(said)
    # Whole is what ends there, or where the next file's name is: "torn" is not "torn off".
    return any(not rest or _NEXT.match(rest) for rest in parts[1:])


def _joined(notes: Sequence[tuple[str, str]]) -> str:
    if len(notes) == 1:
        return notes[0][1]
    return "\n".join(f"{name}: {text}" for name, text in notes)


def _names(paths: Sequence[Path]) -> list[str]:
    """What the files are called in notes: their names, or paths where these are the same."""
    names = [path.name for path in paths]
    return [str(path) if names.count(path.name) > 1 else path.name for path in paths]


def _rows(rows: Sequence[int]) -> str:
    text = ", ".join(map(str, rows[:_SHOWN]))
    more = len(rows) - _SHOWN
    return f"row{'s' if len(rows) > 1 else ''} {text}{f' and {more} more' if more > 0 else ''}"
