"""Entries in the making: what they do to labels, worked out before anything is written."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from dpk_annotator.edits import Edit, Patch, difference, edit_from_json
from dpk_annotator.entries import EDIT, GROW, SKELETON, Entry, SkeletonVersion
from dpk_annotator.labels import Labels, different_rows
from dpk_annotator.row_state import RowState
from dpk_annotator.skeleton_edits import SkeletonChange
from dpk_core.errors import ValidationError


@attrs.frozen
class Planned:
    """An entry that will be written: everything but its number and time."""

    kind: str
    row: int | None
    edit: Edit | SkeletonChange | int
    inverse: Patch | SkeletonChange | int
    parts: frozenset[str]
    skeleton: int
    after: SkeletonVersion | None = None


class Draft:
    """Changes on top of labels, which stay as they are.

    Parameters
    ----------
    labels
        What is changed in thought.
    version
        Their skeleton.
    seq
        Number of the last entry there is; the first of the draft is the next.
    next_identity
        Gives a number that no keypoint has had; asked when there is a new one.
    """

    def __init__(
        self,
        labels: Labels,
        version: SkeletonVersion,
        seq: int,
        next_identity: Callable[[], int],
    ) -> None:
        self.planned: list[Planned] = []
        self.version = version
        self._labels = labels
        self._own = False
        self._states: dict[int, RowState] = {}
        self._seq = seq
        self._next_identity = next_identity

    def state(self, row: int) -> RowState:
        """One image as the draft has it."""
        return self._states[row] if row in self._states else self._labels.row(row)

    def edit(self, row: int, edit: Edit, *, even_if_nothing: bool = False) -> frozenset[str]:
        """Do an edit; what it changed. One that changes nothing makes no entry."""
        before = self.state(row)
        after = edit.apply(before)
        inverse = difference(after, before)
        if inverse.parts or even_if_nothing:
            self._plan(EDIT, row, edit, inverse, inverse.parts)
            self._states[row] = after
        return inverse.parts

    def grow(self, n: int) -> None:
        """Add blank images up to ``n``."""
        labels = self._flushed()
        if n > len(labels):
            self._plan(GROW, None, n, len(labels), frozenset())
            labels.grow(n)

    def change_skeleton(self, change: SkeletonChange) -> None:
        """Take another skeleton."""
        labels = self._flushed()
        before = labels.skeleton
        origins = change.origins(before)
        added = [n for n, origin in zip(change.skeleton.names, origins, strict=True) if not origin]
        new = {name: number for name, number in change.identities if name in added}
        number = max(self._next_identity(), 1 + max(self.version.identities))
        for name in added:
            if name not in new:
                new[name] = number
                number += 1
        change = attrs.evolve(change, identities=new)
        lost = {n: self.version.identity_of(n) for n in before.names if n not in origins}
        inverse = attrs.evolve(labels.migrate(change), identities=lost)
        after = next_version(self.version, self._seq + len(self.planned) + 1, change)
        parts = frozenset(f".{name}" for name in (*lost, *new))
        self._plan(SKELETON, None, change, inverse, parts, after)
        self.version = after

    def turn_into(self, target: Labels) -> None:
        """Make the images those of ``target``, which has the same keypoints; others stay."""
        labels = self._flushed()
        for row in different_rows(labels, target):
            self.edit(row, difference(labels.row(row), target.row(row)))

    def _plan(
        self,
        kind: str,
        row: int | None,
        edit: Edit | SkeletonChange | int,
        inverse: Patch | SkeletonChange | int,
        parts: frozenset[str],
        after: SkeletonVersion | None = None,
    ) -> None:
        self.planned.append(Planned(kind, row, edit, inverse, parts, self.version.seq, after))

    def _flushed(self) -> Labels:
        """Labels of the draft's own with all that was done to single images."""
        if not self._own:
            self._labels, self._own = self._labels.copy(), True
        for row, state in self._states.items():
            self._labels.set_row(row, state)
        self._states.clear()
        return self._labels


def next_version(before: SkeletonVersion, seq: int, change: SkeletonChange) -> SkeletonVersion:
    """The skeleton that a change makes, with the numbers of its keypoints."""
    new = dict(change.identities)
    identities = tuple(
        new[name] if origin is None else before.identity_of(origin)
        for name, origin in zip(change.skeleton.names, change.origins(before.skeleton), strict=True)
    )
    return SkeletonVersion(seq, change.skeleton, identities)


def way_back(now: SkeletonVersion, target: Labels, then: SkeletonVersion | None) -> SkeletonChange:
    """From a skeleton to one that was, by the numbers of keypoints; without them by name.

    Raises
    ------
    ValidationError
        When a keypoint of now has the name of another one then, and both are there.
    """
    if then is None:
        return SkeletonChange(target.skeleton)
    renamed, identities = {}, {}
    for name, identity in zip(then.skeleton.names, then.identities, strict=True):
        name_now = now.name_of(identity)
        if name_now is None:
            identities[name] = identity
        elif name_now != name:
            renamed[name_now] = name
    for name in identities:
        if name in now.skeleton.names and name not in renamed:
            raise ValidationError(
                f"the keypoint {name!r} is another one than at that moment; rename it first, "
                "then restore"
            )
    return SkeletonChange(target.skeleton, renamed, (), identities)


def apply_entry(labels: Labels, entry: Entry) -> None:
    """Do to labels what an entry says."""
    if entry.kind == SKELETON:
        labels.migrate(SkeletonChange.from_json(entry.edit))
    elif entry.kind == GROW:
        labels.grow(int(entry.edit["n"]))
    else:
        assert entry.row is not None
        edit = edit_from_json(entry.edit)
        labels.set_row(entry.row, edit.apply(labels.row(entry.row)))
