"""What people say of whole images, beside their labels: flags, notes, and whether they are done.

A group ``dpk_annotator`` in the file of an annotation set: ``flag`` and ``finished`` (n,) bool, and
``notes``, JSON by row as uint8. Other programs' files have none, and other programs let it be.
"""

from __future__ import annotations

import json
import warnings
from os import PathLike
from pathlib import Path

import attrs
import h5py
import numpy as np

from dpk_core.errors import DpkWarning
from dpk_core.services.storage.hdf5 import reading

GROUP = "dpk_annotator"
LONGEST_NOTE = 10_000
"""Characters of a note."""

_NOTE_BYTES = 32


@attrs.frozen(eq=False)
class Marks:
    """Of n images: flags, finished marks, notes.

    Parameters
    ----------
    flag, finished
        (n,) bool.
    notes
        By row; images without one are not in it.
    notes_damaged
        Whether the file has notes that could not be read, and are not in ``notes``.
    """

    flag: np.ndarray
    finished: np.ndarray
    notes: dict[int, str] = attrs.Factory(dict)
    notes_damaged: bool = False

    @classmethod
    def none(cls, n: int) -> Marks:
        """Of n images of which nothing is said."""
        return cls(np.zeros(n, bool), np.zeros(n, bool))

    def __bool__(self) -> bool:
        return bool(self.flag.any() or self.finished.any() or self.notes)

    @property
    def room(self) -> int:
        """Bytes that they take in a file, rather more than less."""
        notes = sum(len(note.encode()) + _NOTE_BYTES for note in self.notes.values())
        return 2 * len(self.flag) + notes + 4096


def read_marks(path: str | PathLike[str], n: int) -> Marks | None:
    """The marks of a set of n images; None when its file has none.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    with reading(Path(path)) as file:
        return marks_of(file, n)


def marks_of(file: h5py.File, n: int) -> Marks | None:
    """The same of an open file. Images that another program added have none.

    Notes that are damaged are left out, with a `DpkWarning`: labels can be read without them. Who
    has them elsewhere is told by ``notes_damaged``.
    """
    group = file.get(GROUP)
    if not isinstance(group, h5py.Group):
        return None
    flag, finished, notes = (group.get(name) for name in ("flag", "finished", "notes"))
    if not all(isinstance(item, h5py.Dataset) for item in (flag, finished, notes)):
        return None
    marks = Marks.none(n)
    for stored, kept in ((flag, marks.flag), (finished, marks.finished)):
        values = np.asarray(stored[()]).astype(bool).reshape(-1)[:n]
        kept[: len(values)] = values
    try:
        marks.notes.update(_notes(notes[()], n))
    except (ValueError, TypeError, AttributeError) as error:
        warnings.warn(
            f"{file.filename}: the notes about its images are damaged and left out ({error}); a "
            "backup of the set may have them",
            DpkWarning,
            stacklevel=3,
        )
        return attrs.evolve(marks, notes_damaged=True)
    return marks


def write_marks(file: h5py.File, marks: Marks) -> h5py.Group:
    """Put marks into an open file, over those that it has; their group."""
    if GROUP in file and not isinstance(file.get(GROUP, getlink=True), h5py.HardLink):
        del file[GROUP]
    group = file.require_group(GROUP)
    notes = json.dumps({str(row): note for row, note in sorted(marks.notes.items())})
    columns = {
        "flag": marks.flag,
        "finished": marks.finished,
        "notes": np.frombuffer(notes.encode(), np.uint8),
    }
    for name, value in columns.items():
        if name in group:
            stored = group[name]
            if stored.shape == value.shape and stored.dtype == value.dtype:
                stored[...] = value
                continue
            del group[name]
        group.create_dataset(name, data=value)
    return group


def _notes(stored: np.ndarray, n: int) -> dict[int, str]:
    values = json.loads(np.asarray(stored, np.uint8).tobytes() or b"{}")
    notes = {int(row): str(note) for row, note in values.items()}
    return {row: note for row, note in notes.items() if 0 <= row < n and note}
