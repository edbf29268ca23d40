"""What a person can do to one image: small values that can be kept, applied and undone.

An edit changes a `RowState`; `Edit.invert` gives the `Patch` that takes it back. Edits come from
the page as JSON, so that every field is checked, and every refusal says what was expected.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from dpk_annotator.row_state import MARKS, Point, RowState, check_bool
from dpk_core.annotations import HIDDEN, NOT_LABELLED, VISIBLE
from dpk_core.errors import ValidationError
from dpk_core.services.storage.marks import LONGEST_NOTE

_LONGEST_NAME = 1000

Points = tuple[tuple[str, Point], ...]


def _points(value: Any) -> Points:
    """From a mapping of names to `Point` or to its JSON."""
    if isinstance(value, Mapping):
        value = value.items()
    elif not isinstance(value, (list, tuple)):
        raise ValidationError(f"points: expected keypoints by name, found {value!r}")
    pairs = []
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValidationError(f"points: expected a name and a keypoint, found {pair!r}")
        name, point = pair
        if not isinstance(name, str):
            raise ValidationError(f"points: expected the name of a keypoint, found {name!r}")
        pairs.append((name, point if isinstance(point, Point) else Point.from_json(point)))
    if len(dict(pairs)) != len(pairs):
        raise ValidationError("points: a keypoint stands there twice")
    return tuple(pairs)


def _check_name(_: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise ValidationError(f"{attribute.name}: expected a keypoint's name, found {value!r}")


def _check_note(_: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str):
        raise ValidationError(f"{attribute.name}: expected text, found {value!r}")
    if len(value) > LONGEST_NOTE:
        raise ValidationError(
            f"{attribute.name}: expected up to {LONGEST_NOTE} characters, found {len(value)}; "
            "shorten it"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError(
            f"{attribute.name}: it holds half a character; type it anew"
        ) from None


def _check_row(_: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValidationError(f"{attribute.name}: expected the number of an image, found {value!r}")


def _with_labels(state: RowState, points: Points, *, over: bool = False) -> RowState:
    """The state with labels where there are none yet, or (``over``) in place of those there are."""
    return state.with_points(
        {
            name: attrs.evolve(point, annotated=True)
            for name, point in points
            if not point.is_missing and (over or not state.point(name).annotated)
        }
    )


class Edit(ABC):
    """One thing done to one image. Frozen, compared by value, and plain JSON on the way."""

    kind: ClassVar[str]

    @abstractmethod
    def apply(self, state: RowState) -> RowState:
        """The state after it; ValidationError when it cannot be done to this state."""

    @abstractmethod
    def __str__(self) -> str:
        """What was done, for a list of what happened."""

    def invert(self, before: RowState) -> Patch:
        """What takes it back when it was applied to ``before``."""
        return difference(self.apply(before), before)

    def to_json(self) -> dict[str, Any]:
        """Plain values that `edit_from_json` reads."""
        values = {}
        for name in attrs.fields_dict(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if name == "points":
                value = {key: point.to_json() for key, point in value}
            values[name] = value
        return {"kind": self.kind} | values


@attrs.frozen
class KeypointEdit(Edit):
    """What is done to one keypoint."""

    keypoint: str = attrs.field(validator=_check_name)

    @abstractmethod
    def point(self, state: RowState) -> Point:
        """What becomes of it."""

    def apply(self, state: RowState) -> RowState:
        return state.with_points({self.keypoint: self.point(state)})


@attrs.frozen
class MoveKeypoint(KeypointEdit):
    """Place a keypoint, or move it; a hidden one stays hidden."""

    kind: ClassVar[str] = "move"
    x: float
    y: float

    def __attrs_post_init__(self) -> None:
        if Point(self.x, self.y).is_missing:
            raise ValidationError("move: expected x and y in pixels; to clear it, use 'clear'")

    def point(self, state: RowState) -> Point:
        hidden = state.point(self.keypoint).visibility == HIDDEN
        return Point(self.x, self.y, HIDDEN if hidden else VISIBLE, True)

    def __str__(self) -> str:
        return f"{self.keypoint} at ({self.x:.1f}, {self.y:.1f})"


@attrs.frozen
class SetVisibility(KeypointEdit):
    """Say that a keypoint is visible (2), hidden (1), or absent from the image (0)."""

    kind: ClassVar[str] = "visibility"
    visibility: int

    def __attrs_post_init__(self) -> None:
        Point(visibility=self.visibility)

    def point(self, state: RowState) -> Point:
        if self.visibility == NOT_LABELLED:
            return Point(annotated=True)
        point = state.point(self.keypoint)
        if point.is_missing:
            raise ValidationError(
                f"{self.keypoint} has no place yet; place it first, then say whether it is hidden"
            )
        return attrs.evolve(point, visibility=self.visibility, annotated=True)

    def __str__(self) -> str:
        return f"{self.keypoint} {('absent', 'hidden', 'visible')[self.visibility]}"


@attrs.frozen
class ClearKeypoint(KeypointEdit):
    """Take a keypoint back to where nobody has dealt with it."""

    kind: ClassVar[str] = "clear"

    def point(self, state: RowState) -> Point:
        return Point()

    def __str__(self) -> str:
        return f"{self.keypoint} cleared"


@attrs.frozen
class MarkEdit(Edit):
    """What is said of the image as a whole; the mark is the field that is named as the kind is."""

    def apply(self, state: RowState) -> RowState:
        return attrs.evolve(state, **{self.kind: getattr(self, self.kind)})


@attrs.frozen
class SetFlag(MarkEdit):
    """Flag the image, or take the flag away."""

    kind: ClassVar[str] = "flag"
    flag: bool = attrs.field(validator=check_bool)

    def __str__(self) -> str:
        return "flagged" if self.flag else "flag taken away"


@attrs.frozen
class SetNote(MarkEdit):
    """Write a note to the image; an empty one takes it away."""

    kind: ClassVar[str] = "note"
    note: str = attrs.field(validator=_check_note)

    def __str__(self) -> str:
        return f"note {self.note[:40]!r}" if self.note else "note taken away"


@attrs.frozen
class SetFinished(MarkEdit):
    """Mark the image finished: every keypoint counts as dealt with, a missing one as absent.

    As DeepPoseKit's annotator does on F. Taking the mark away leaves the labels.
    """

    kind: ClassVar[str] = "finished"
    finished: bool = attrs.field(validator=check_bool)

    def apply(self, state: RowState) -> RowState:
        if self.finished:
            points = state.points().items()
            state = state.with_points({n: attrs.evolve(p, annotated=True) for n, p in points})
        return super().apply(state)

    def __str__(self) -> str:
        return "finished" if self.finished else "not finished"


@attrs.frozen
class SwapSides(Edit):
    """Swap left and right: each keypoint takes what its swap partner had."""

    kind: ClassVar[str] = "swap"

    def apply(self, state: RowState) -> RowState:
        order = state.skeleton.flip_order
        return attrs.evolve(
            state,
            keypoints=state.keypoints[order],
            visibility=state.visibility[order],
            annotated=state.annotated[order],
        )

    def __str__(self) -> str:
        return "left and right swapped"


@attrs.frozen
class CopyPoints(Edit):
    """Take over keypoints of another image; those that are labelled here stay by default."""

    kind: ClassVar[str] = "copy"
    source: int = attrs.field(validator=_check_row)
    points: Points = attrs.field(converter=_points)
    overwrite: bool = attrs.field(default=False, validator=check_bool)

    def apply(self, state: RowState) -> RowState:
        return _with_labels(state, self.points, over=self.overwrite)

    def __str__(self) -> str:
        return f"copied from image {self.source}"


@attrs.frozen
class ConfirmGuesses(Edit):
    """A person says that a model's keypoints are right. What is labelled already stays."""

    kind: ClassVar[str] = "confirm"
    points: Points = attrs.field(converter=_points)

    def apply(self, state: RowState) -> RowState:
        return _with_labels(state, self.points)

    def __str__(self) -> str:
        return f"{len(self.points)} guesses confirmed"


@attrs.frozen
class Reset(Edit):
    """Clear all labels of the image; flag and note stay."""

    kind: ClassVar[str] = "reset"

    def apply(self, state: RowState) -> RowState:
        blank = RowState.blank(state.skeleton)
        return attrs.evolve(blank, flag=state.flag, note=state.note, revision=state.revision)

    def __str__(self) -> str:
        return "labels reset"


@attrs.frozen
class Patch(Edit):
    """Set parts of a state to given values: what undoes an edit, restores, or takes over."""

    kind: ClassVar[str] = "patch"
    points: Points = attrs.field(default=(), converter=_points)
    flag: bool | None = attrs.field(default=None, validator=attrs.validators.optional(check_bool))
    note: str | None = attrs.field(default=None, validator=attrs.validators.optional(_check_note))
    finished: bool | None = attrs.field(
        default=None, validator=attrs.validators.optional(check_bool)
    )

    @property
    def parts(self) -> frozenset[str]:
        """What it touches: keypoints as ``.NAME``, else ``flag``, ``note``, ``finished``."""
        return frozenset({*self._marks(), *(f".{name}" for name, _ in self.points)})

    def only(self, parts: Iterable[str]) -> Patch:
        """The same for some parts alone."""
        parts = set(parts)
        return Patch(
            tuple((name, point) for name, point in self.points if f".{name}" in parts),
            **{name: value for name, value in self._marks().items() if name in parts},
        )

    def apply(self, state: RowState) -> RowState:
        return attrs.evolve(state.with_points(dict(self.points)), **self._marks())

    def _marks(self) -> dict[str, bool | str]:
        """The marks that it sets."""
        known = {name: getattr(self, name) for name in MARKS}
        return {name: value for name, value in known.items() if value is not None}

    def __str__(self) -> str:
        parts = sorted(self.parts)
        shown = ", ".join(part.lstrip(".") for part in parts[:4])
        return f"{shown or 'nothing'}{', ...' if len(parts) > 4 else ''} set"


def difference(before: RowState, after: RowState) -> Patch:
    """The patch that makes ``after`` out of ``before``; both have the same skeleton."""
    if before.skeleton.names != after.skeleton.names:
        raise ValidationError("expected two states with the same keypoints")
    old, new = before.points(), after.points()
    return Patch(
        tuple((name, point) for name, point in new.items() if old[name] != point),
        **{
            name: getattr(after, name)
            for name in MARKS
            if getattr(after, name) != getattr(before, name)
        },
    )


_EDITS = (
    MoveKeypoint,
    SetVisibility,
    ClearKeypoint,
    SetFlag,
    SetNote,
    SetFinished,
    SwapSides,
    CopyPoints,
    ConfirmGuesses,
    Reset,
    Patch,
)
EDITS: dict[str, type[Edit]] = {edit.kind: edit for edit in _EDITS}
"""Every kind of edit by its name in JSON."""


def edit_from_json(value: Any) -> Edit:
    """An edit from plain values, as `Edit.to_json` gives them.

    Raises
    ------
    ValidationError
        On an unknown kind, a field too many or too few, or a value that cannot be.

    Examples
    --------
    >>> edit = edit_from_json({"kind": "move", "keypoint": "head", "x": 3, "y": 4.5})
    >>> print(edit)
    head at (3.0, 4.5)
    """
    if not isinstance(value, Mapping):
        raise ValidationError(f"an edit: expected an object with a 'kind', found {value!r}")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in EDITS:
        raise ValidationError(f"an edit's kind: expected one of {', '.join(EDITS)}; found {kind!r}")
    fields = attrs.fields_dict(EDITS[kind])  # type: ignore[arg-type]
    given = {key: item for key, item in value.items() if key != "kind"}
    unknown = [str(key) for key in given if key not in fields]
    missing = [n for n, f in fields.items() if f.default is attrs.NOTHING and n not in given]
    if unknown or missing:
        raise ValidationError(
            f"the edit {kind!r}: expected {', '.join(fields) or 'no more fields'}; "
            + "; ".join(
                f"{what} {', '.join(names)}"
                for what, names in (("unknown", unknown), ("missing", missing))
                if names
            )
        )
    return EDITS[kind](**given)
