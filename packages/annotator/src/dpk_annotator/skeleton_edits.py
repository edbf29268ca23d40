"""Changing the skeleton of a set that has labels: they follow their keypoint by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from dpk_annotator.new_set import is_placeholder
from dpk_annotator.row_state import Point
from dpk_annotator.wording import count_of
from dpk_core.errors import SkeletonError, ValidationError
from dpk_core.skeleton import NONE, Skeleton

Column = tuple[tuple[int, Point], ...]
"""(row, point) of one keypoint wherever it is labelled."""


def _column(value: Any) -> Column:
    return tuple(
        (int(row), point if isinstance(point, Point) else Point.from_json(point))
        for row, point in value
    )


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    items = value.items() if isinstance(value, Mapping) else value
    pairs = tuple((old, new) for old, new in items)
    if not all(isinstance(name, str) for pair in pairs for name in pair):
        raise ValidationError(f"renamed: expected old names with new ones, found {value!r}")
    return pairs


def _restored(value: Any) -> tuple[tuple[str, Column], ...]:
    items = value.items() if isinstance(value, Mapping) else value
    return tuple((name, _column(column)) for name, column in items)


def _identities(value: Any) -> tuple[tuple[str, int], ...]:
    items = value.items() if isinstance(value, Mapping) else value
    return tuple((name, int(number)) for name, number in items)


@attrs.frozen
class SkeletonChange:
    """A new skeleton, and which of its keypoints had another name before.

    Keypoints with the same name, or renamed ones, keep their labels; others are new and
    unlabelled; those that the new skeleton lacks go, with their labels (the journal has them).

    Parameters
    ----------
    skeleton
        The new one.
    renamed
        Old name to new name.
    restored
        Labels of new keypoints: what a removal took away, when it is undone.
    identities
        Numbers by which the journal knows new keypoints again; the journal fills them in.

    Raises
    ------
    SkeletonError
        When a name is renamed twice, or to one that the new skeleton lacks.
    """

    skeleton: Skeleton
    renamed: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    restored: tuple[tuple[str, Column], ...] = attrs.field(default=(), converter=_restored)
    identities: tuple[tuple[str, int], ...] = attrs.field(default=(), converter=_identities)

    def __attrs_post_init__(self) -> None:
        old, new = [pair[0] for pair in self.renamed], [pair[1] for pair in self.renamed]
        for names in (old, new):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise SkeletonError(f"{', '.join(sorted(twice))}: renamed twice; expected once")
        for name in new:
            self.skeleton.index(name)

    def origins(self, before: Skeleton) -> tuple[str | None, ...]:
        """For each keypoint of the new skeleton its name in the old one, None when it is new.

        Raises
        ------
        SkeletonError
            When a renamed keypoint is not in the old skeleton, or is in both.
        """
        backwards = {new: old for old, new in self.renamed}
        gone = {old for old, _ in self.renamed}
        for old in gone:
            before.index(old)
        origins = []
        for name in self.skeleton.names:
            origin = backwards.get(name, name if name not in gone else None)
            origins.append(origin if origin in before.names else None)
        return tuple(origins)

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads."""
        value: dict[str, Any] = {
            "skeleton": [list(row) for row in self.skeleton.to_rows()],
            "renamed": dict(self.renamed),
        }
        if self.restored:
            value["restored"] = {
                name: [[row, point.to_json()] for row, point in column]
                for name, column in self.restored
            }
        if self.identities:
            value["identities"] = dict(self.identities)
        return value

    @classmethod
    def from_json(cls, value: Any) -> SkeletonChange:
        """The inverse of `to_json`; ValidationError when it is none."""
        known = {"skeleton", "renamed", "restored", "identities"}
        if not isinstance(value, Mapping) or "skeleton" not in value or set(value) - known:
            raise ValidationError(
                "a change of skeleton: expected 'skeleton' and 'renamed', found "
                + (", ".join(map(str, value)) if isinstance(value, Mapping) else repr(value))
            )
        try:
            rows = [tuple(row) for row in value["skeleton"]]
            if not all(len(row) == 3 and isinstance(row[0], str) for row in rows):
                raise TypeError
            skeleton = Skeleton.from_rows(rows)
            rest = {key: value[key] for key in known - {"skeleton"} if key in value}
            return cls(skeleton, **rest)
        except (TypeError, AttributeError) as error:
            raise ValidationError(
                "a change of skeleton: expected rows of name, parent, swap partner and old names "
                f"with new ones ({error})"
            ) from None
        except ValidationError:
            raise
        except ValueError as error:
            raise ValidationError(f"a change of skeleton: {error}") from None

    def __str__(self) -> str:
        return f"skeleton changed to {len(self.skeleton)} keypoints"


@attrs.frozen
class SkeletonPreview:
    """What a change of skeleton would do; printed, it says so in a few lines.

    Parameters
    ----------
    added, removed
        Names.
    renamed
        (old, new) names.
    reordered
        Whether keypoints that stay change their order.
    reparented, repaired
        Keypoints (new names) that get another parent, another swap partner.
    lost
        For each removed keypoint the number of images in which it is labelled; that of a set
        whose skeleton is only being made was never a person's, and is left out.
    kept
        Labelled keypoints, over all images, that stay.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    reordered: bool
    reparented: tuple[str, ...]
    repaired: tuple[str, ...]
    lost: tuple[tuple[str, int], ...]
    kept: int

    def __str__(self) -> str:
        lines = []
        if attrs.evolve(self, lost=(), kept=0) == _NO_CHANGE:
            lines.append("nothing changes")
        if self.renamed:
            lines.append("renamed: " + ", ".join(f"{old} -> {new}" for old, new in self.renamed))
        if self.added:
            lines.append(f"new: {', '.join(self.added)}")
        for name, images in self.lost:
            lines.append(f"removed: {name}, labelled in {count_of(images, 'image')}")
        if self.reordered:
            lines.append("in another order")
        if self.reparented:
            lines.append(f"other parent: {', '.join(self.reparented)}")
        if self.repaired:
            lines.append(f"other swap partner: {', '.join(self.repaired)}")
        if self.kept or self.lost:
            lines.append(f"{count_of(self.kept, 'label')} {'stays' if self.kept == 1 else 'stay'}")
        return "\n".join(lines)


_NO_CHANGE = SkeletonPreview((), (), (), False, (), (), (), 0)


def preview(
    change: SkeletonChange, before: Skeleton, labelled: Mapping[str, int]
) -> SkeletonPreview:
    """What ``change`` does; ``labelled`` has the number of images each keypoint is labelled in."""
    origins = change.origins(before)
    after = change.skeleton
    kept = [(name, origin) for name, origin in zip(after.names, origins, strict=True) if origin]
    new_name = {origin: name for name, origin in kept}
    removed = tuple(name for name in before.names if name not in new_name)

    def relation(skeleton: Skeleton, kind: str, name: str) -> str | None:
        index = getattr(skeleton, kind)[skeleton.index(name)]
        return None if index == NONE else skeleton.names[index]

    def changed(kind: str) -> tuple[str, ...]:
        found = []
        for name, origin in kept:
            old = relation(before, kind, origin)
            if (new_name.get(old, "") if old else None) != relation(after, kind, name):
                found.append(name)
        return tuple(found)

    order = [before.index(origin) for _, origin in kept]
    return SkeletonPreview(
        added=tuple(n for n, origin in zip(after.names, origins, strict=True) if not origin),
        removed=removed,
        renamed=tuple((origin, name) for name, origin in kept if name != origin),
        reordered=order != sorted(order),
        reparented=changed("parent"),
        repaired=changed("swap"),
        lost=tuple(
            (name, images)
            for name in removed
            if (images := int(labelled.get(name, 0))) or not is_placeholder(before)
        ),
        kept=sum(int(labelled.get(origin, 0)) for _, origin in kept),
    )


# -- common changes -----------------------------------------------------------------------------


def rename_keypoint(skeleton: Skeleton, old: str, new: str) -> SkeletonChange:
    """Give a keypoint another name."""
    skeleton.index(old)
    if new != old and new in skeleton.names:
        raise SkeletonError(f"there is a keypoint {new!r} already; choose another name")

    def named(name: str | None) -> str | None:
        return new if name == old else name

    rows = [(new if n == old else n, named(p), named(s)) for n, p, s in skeleton.to_rows()]
    return SkeletonChange(Skeleton.from_rows(rows), ((old, new),) if new != old else ())


def add_keypoint(
    skeleton: Skeleton,
    name: str,
    parent: str | None = None,
    swap: str | None = None,
    position: int | None = None,
) -> SkeletonChange:
    """Add a keypoint, at the end or before the one at ``position``; its partner names it back."""
    rows = [(n, p, name if n == swap and not s else s) for n, p, s in skeleton.to_rows()]
    rows.insert(len(rows) if position is None else position, (name, parent, swap))
    return SkeletonChange(Skeleton.from_rows(rows))


def remove_keypoint(skeleton: Skeleton, name: str) -> SkeletonChange:
    """Remove a keypoint; what hung on it hangs on its parent now."""
    i = skeleton.index(name)
    up = skeleton.parent[i]
    parent = None if up == NONE else skeleton.names[up]
    rows = [
        (n, parent if p == name else p, None if s == name else s)
        for n, p, s in skeleton.to_rows()
        if n != name
    ]
    return SkeletonChange(Skeleton.from_rows(rows))


def reorder_keypoints(skeleton: Skeleton, names: Sequence[str]) -> SkeletonChange:
    """Put the keypoints into another order; ``names`` has each of them once."""
    if sorted(names) != sorted(skeleton.names):
        raise SkeletonError(
            f"expected each of {', '.join(skeleton.names)} once, found {', '.join(names)}"
        )
    rows = {row[0]: row for row in skeleton.to_rows()}
    return SkeletonChange(Skeleton.from_rows([rows[name] for name in names]))


def reparent_keypoint(skeleton: Skeleton, name: str, parent: str | None) -> SkeletonChange:
    """Hang a keypoint on another, or on none; SkeletonError when that makes a circle."""
    skeleton.index(name)
    rows = [(n, parent if n == name else p, s) for n, p, s in skeleton.to_rows()]
    return SkeletonChange(Skeleton.from_rows(rows))


def pair_keypoints(skeleton: Skeleton, name: str, partner: str | None) -> SkeletonChange:
    """Make two keypoints left and right of each other, or (None) part them."""
    skeleton.index(name)
    new = {name: partner} | ({partner: name} if partner else {})
    rows = [(n, p, new.get(n, None if s in new else s)) for n, p, s in skeleton.to_rows()]
    return SkeletonChange(Skeleton.from_rows(rows))
