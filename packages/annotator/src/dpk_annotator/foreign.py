"""Labels that another program put into the file, brought together with those of the journal.

Three versions meet: the base (the file as the store wrote it), theirs (the file as it is) and ours
(base and all edits since). What one side alone has changed is taken; where both have changed the
same keypoint differently, both go into the journal, theirs first, and ours stands.
"""

from __future__ import annotations

import attrs

from dpk_annotator.draft import Draft
from dpk_annotator.edits import difference
from dpk_annotator.entries import SkeletonVersion
from dpk_annotator.labels import Labels, different_rows
from dpk_annotator.row_state import Point, RowState
from dpk_annotator.skeleton_edits import SkeletonChange
from dpk_annotator.wording import count_of
from dpk_core.skeleton import Skeleton


@attrs.frozen
class FileConflict:
    """A keypoint (or flag, note) changed here and in the file, differently; here was kept."""

    row: int
    part: str
    here: Point | bool | str
    in_file: Point | bool | str


@attrs.define
class FileChanges:
    """What was found in the file and taken over; printed, it says so in a few lines.

    Parameters
    ----------
    images
        Images that were added at the end, with or without labels.
    labels
        Images that were there before, of which labels were taken over.
    skeleton
        Whether the skeleton was.
    conflicts
        What was not.
    """

    images: int = 0
    labels: int = 0
    skeleton: bool = False
    conflicts: list[FileConflict] = attrs.Factory(list)

    def __bool__(self) -> bool:
        return bool(self.images or self.more_than_images)

    @property
    def more_than_images(self) -> bool:
        """Whether anything changed that was there: new images alone are no cause for alarm."""
        return bool(self.labels or self.skeleton or self.conflicts)

    def __str__(self) -> str:
        lines = []
        if self.images:
            were = "was" if self.images == 1 else "were"
            lines.append(f"{count_of(self.images, 'image')} {were} added")
        if self.skeleton:
            lines.append("the skeleton was changed")
        if self.labels:
            lines.append(
                f"labels of {self.labels} image{'' if self.labels == 1 else 's'} were taken over"
            )
        for conflict in self.conflicts[:10]:
            lines.append(
                f"image {conflict.row}, {conflict.part}: {_shown(conflict.here)} here, "
                f"{_shown(conflict.in_file)} in the file; here was kept, the journal has both"
            )
        if len(self.conflicts) > 10:
            lines.append(f"... and {len(self.conflicts) - 10} more such keypoints")
        return "\n".join(lines)


def plan_file_changes(
    draft: Draft,
    ours: Labels,
    base: Labels,
    theirs: Labels,
    base_version: SkeletonVersion,
    *,
    has_marks: bool,
) -> FileChanges:
    """Put into a draft what a file has that the journal has not; ``ours`` is what it starts from.

    ``base_version`` is the skeleton of ``base``. Without marks, flags and notes are nobody's.
    """
    found = FileChanges()
    ours, base, theirs = ours.copy(), base.copy(), theirs.copy()
    if len(theirs) > len(ours):
        found.images = len(theirs) - len(ours)
        draft.grow(len(theirs))
        ours.grow(len(theirs))
    base.grow(len(theirs))
    change = _skeleton_change(ours, base, theirs, base_version, draft.version)
    if change is not None:
        found.skeleton = True
        draft.change_skeleton(change)
        ours.migrate(change)
    _match(base, theirs, ours.skeleton, base_version, draft.version)
    if not has_marks:
        theirs.flag, theirs.finished = base.flag.copy(), base.finished.copy()
        theirs.notes = dict(base.notes)
    _take(draft, ours, base, theirs, found)
    return found


def _skeleton_change(
    ours: Labels, base: Labels, theirs: Labels, then: SkeletonVersion, now: SkeletonVersion
) -> SkeletonChange | None:
    """The file's skeleton when ours is as it was; else ours with the keypoints it has more."""
    if theirs.skeleton in (base.skeleton, ours.skeleton):
        return None
    if ours.skeleton == base.skeleton:
        return SkeletonChange(theirs.skeleton)
    known = {*base.skeleton.names, *ours.skeleton.names}
    new = [row for row in theirs.skeleton.to_rows() if row[0] not in known]
    if not new:
        return None
    names = {name: name for name, _, _ in new} | _names_now(then, now)
    rows = [(name, names.get(up or ""), names.get(swap or "")) for name, up, swap in new]
    return SkeletonChange(Skeleton.from_rows([*ours.skeleton.to_rows(), *rows]))


def _names_now(then: SkeletonVersion, now: SkeletonVersion) -> dict[str, str]:
    """Names that keypoints had, with those that they have."""
    pairs = zip(then.skeleton.names, then.identities, strict=True)
    return {name: new for name, number in pairs if (new := now.name_of(number)) is not None}


def _match(
    base: Labels, theirs: Labels, skeleton: Skeleton, then: SkeletonVersion, now: SkeletonVersion
) -> None:
    """Give base and theirs the skeleton that ours has; a keypoint they lack stays as it was."""
    was = {new: name for name, new in _names_now(then, now).items()}
    unknown = [n for n in theirs.skeleton.names if n not in base.skeleton.names]
    origin = {name: was.get(name, name if name in unknown else None) for name in skeleton.names}
    lacking = [name for name, old in origin.items() if old not in theirs.skeleton.names]
    base.reindex(skeleton, was.get)
    theirs.reindex(skeleton, origin.get)
    for name in lacking:
        j, n = skeleton.index(name), len(theirs)
        theirs.keypoints[:, j] = base.keypoints[:n, j]
        theirs.visibility[:, j] = base.visibility[:n, j]
        theirs.annotated[:, j] = base.annotated[:n, j]


def _take(draft: Draft, ours: Labels, base: Labels, theirs: Labels, found: FileChanges) -> None:
    known = len(theirs) - found.images
    for row in different_rows(base, theirs):
        was, here, there = base.row(row), ours.row(row), theirs.row(row)
        new = difference(here, there)
        new = new.only(new.parts & difference(was, there).parts)
        both = new.parts & difference(was, here).parts
        if row < known and new.parts - both:
            found.labels += 1
        if new.parts:
            draft.edit(row, new)
        if both:
            draft.edit(row, difference(there, here).only(both))
        for part in sorted(both):
            found.conflicts.append(
                FileConflict(row, part.lstrip("."), _value(here, part), _value(there, part))
            )


def _value(state: RowState, part: str) -> Point | bool | str:
    if part.startswith("."):
        return state.point(part[1:])
    value: bool | str = getattr(state, part)
    return value


def _shown(value: Point | bool | str) -> str:
    if not isinstance(value, Point):
        return repr(value)
    return "absent" if value.is_missing else f"({value.x:.1f}, {value.y:.1f})"
