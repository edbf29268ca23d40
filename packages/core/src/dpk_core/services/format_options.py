"""Options of file formats: known to the format, and of the type that its signature says."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

from dpk_core.errors import ValidationError

_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")
_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "yes or no",
    PathLike: "a path",
}
_SEVERAL = {str: "texts", int: "whole numbers", float: "numbers"}


def checked_options(
    function: Callable[..., Any], name: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options, each of the type that its parameter is annotated with.

    The command line cannot tell the number 3 from an animal called 3, and has no tuples; here
    numbers become texts, texts numbers, and ``"3,4"`` a pair, where that is what is asked for.
    Parameters annotated with other types than texts, numbers, yes and no, paths and sequences of
    them are passed on as they are.

    Parameters
    ----------
    function
        `PoseFormat.read` or `PoseFormat.write` of a format.
    name
        Of the format, for messages.

    Raises
    ------
    ValidationError
        For an option that the format does not have, or a value that cannot be.
    """
    parameters = inspect.signature(function).parameters
    known = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "report"]
    checks_itself = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # names that only a type checker imports
        hints = {}
    found = {}
    for option, value in options.items():
        if option not in known and not checks_itself:
            raise ValidationError(
                f"the format {name} has no option {option!r} to {function.__name__} with; it has "
                f"{', '.join(known) or 'none'}"
            )
        hint = hints.get(option) if option in known else None
        found[option] = value if hint is None else _as(value, hint, f"the format {name}: {option}")
    return found


def _as(value: Any, hint: Any, what: str) -> Any:
    """The value as one of the types that a hint allows."""
    kinds = _alternatives(hint)
    if not all(kind is type(None) or kind in _WORDS or _element(kind) for kind in kinds):
        return value
    if value is None and type(None) in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not type(None)]
    for strict in (True, False):  # what it is already, before what it may be made into
        for kind in kinds:
            try:
                return _convert(value, kind, strict=strict)
            except (ValueError, TypeError, OverflowError):
                continue
    expected = " or ".join(map(_words, kinds))
    raise ValidationError(f"{what}: expected {expected}, found {value!r:.80}")


def _alternatives(hint: Any) -> list[Any]:
    """The parts of a union; PathLike and PathLike[str] are the same here."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = typing.get_args(hint) if is_union else (hint,)
    return [PathLike if typing.get_origin(part) is PathLike else part for part in parts]


def _element(kind: Any) -> Any:
    """Of what a sequence is made, None when it is none of those that can be checked."""
    arguments = [a for a in typing.get_args(kind) if a is not Ellipsis]
    is_sequence = typing.get_origin(kind) in (tuple, Sequence) and len(set(arguments)) == 1
    return arguments[0] if is_sequence and arguments[0] in _SEVERAL else None


def _length(kind: Any) -> int | None:
    """Of a tuple, None when it may have any."""
    arguments = typing.get_args(kind)
    return len(arguments) if typing.get_origin(kind) is tuple and ... not in arguments else None


def _words(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    length = _length(kind)
    return f"{'' if length is None else f'{length} '}{_SEVERAL[_element(kind)]}"


def _convert(value: Any, kind: Any, *, strict: bool) -> Any:
    """The value as that type; ValueError, TypeError or OverflowError when it cannot be."""
    if kind not in _WORDS:
        return _sequence(value, kind, strict=strict)
    is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if is_right or strict:
        if not is_right:
            raise TypeError
        return value
    if kind is PathLike:
        raise TypeError  # a text is one already, and stands beside it
    if kind is bool:
        text = str(value).lower()
        if text not in _YES + _NO:
            raise ValueError
        return text in _YES
    if isinstance(value, bool):
        if kind is not str:
            raise TypeError
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise TypeError
    number = float(value) if kind is not str else 0.0
    if kind is int:
        if not math.isfinite(number) or number != int(number):
            raise ValueError
        return int(value)
    return kind(value)


def _sequence(value: Any, kind: Any, *, strict: bool) -> tuple[Any, ...]:
    if isinstance(value, str) and not strict:
        value = [part.strip() for part in value.split(",")]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError
    length = _length(kind)
    if length is not None and len(value) != length:
        raise ValueError
    return tuple(_convert(part, _element(kind), strict=False) for part in value)
