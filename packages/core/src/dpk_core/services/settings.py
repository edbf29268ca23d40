"""Settings that a user gives by name to what a plugin brings: trackers, detectors, readers."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from dpk_core.errors import DpkError, ValidationError

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "None": "null",
}


def make_with(name: str, made: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """What a class or function gives for these settings.

    Parameters
    ----------
    name
        As users know it, for messages.
    made
        Called with the settings as keyword arguments.

    Raises
    ------
    ValidationError
        For a setting that there is not, one that is lacking, or a value that it cannot use: none
        that the annotation of the parameter admits, or one that is refused when it is called.
    """
    check_settings(name, made, settings)
    try:
        return made(**settings)
    except DpkError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in settings.items()) or "no settings"
        raise ValidationError(f"{name}: {error}; found {given}") from error


def check_settings(name: str, made: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """ValidationError, with what there is, on a setting that a class or function does not take.

    So on a value of another kind than the parameter is annotated with, as far as that is of int,
    float, bool, str and None: 1.5 of something is not cut to 1, and "no" is not taken for true.

    Examples
    --------
    >>> def tracker(max_gap=60, keep=0.5): ...
    >>> check_settings("mine", tracker, {"maxgap": 3})
    Traceback (most recent call last):
    dpk_core.errors.ValidationError: mine has no setting 'maxgap'; it has max_gap, keep; did you...
    >>> def other(min_hits: int = 3): ...
    >>> check_settings("other", other, {"min_hits": 1.5})
    Traceback (most recent call last):
    dpk_core.errors.ValidationError: other: min_hits: expected a whole number, found 1.5
    """
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):  # one that does not say what it takes
        return
    for parameter in parameters:
        if parameter.name in settings:
            _check_kind(name, parameter, settings[parameter.name])
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    known = [p.name for p in parameters if p.kind not in positional]
    for setting in settings:
        if setting in known:
            continue
        close = difflib.get_close_matches(setting, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValidationError(
            f"{name} has no setting {setting!r}; it has {', '.join(known) or 'none'}{hint}"
        )


def _check_kind(name: str, parameter: inspect.Parameter, value: Any) -> None:
    kinds = _kinds(parameter.annotation)
    if not kinds or any(_is_of(kind, value) for kind in kinds):
        return
    expected = " or ".join(_EXPECTED[kind] for kind in kinds)
    raise ValidationError(f"{name}: {parameter.name}: expected {expected}, found {value!r}")


def _kinds(annotation: Any) -> list[str]:
    """Names of the plain types in an annotation; none when it has others, too."""
    if annotation is inspect.Parameter.empty:
        return []
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    text = re.sub(r"^(?:typing\.)?Optional\[(.*)\]$", r"\1 | None", text)
    kinds = [part.strip() for part in text.split("|")]
    return kinds if all(kind in _EXPECTED for kind in kinds) else []


def _is_of(kind: str, value: Any) -> bool:
    if kind in ("None", "str"):
        return value is None if kind == "None" else isinstance(value, str)
    truth = isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # NumPy's, too
    if kind == "bool":
        return truth
    if truth or not isinstance(value, Real) or math.isnan(value):
        return False
    return kind == "float" or isinstance(value, Integral) or float(value).is_integer()
