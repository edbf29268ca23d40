"""Settings that a user gives by name to what a plugin brings: trackers, detectors, readers."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dpk_core.errors import DpkError, ValidationError


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
        For a setting that there is not, one that is lacking, or a value that it cannot use.
    """
    check_settings(name, made, settings)
    try:
        return made(**settings)
    except DpkError:
        raise
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in settings.items()) or "no settings"
        raise ValidationError(f"{name}: {error}; found {given}") from error


def check_settings(name: str, made: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """ValidationError, with what there is, on a setting that a class or function does not take.

    Examples
    --------
    >>> def tracker(max_gap=60, keep=0.5): ...
    >>> check_settings("mine", tracker, {"maxgap": 3})
    Traceback (most recent call last):
    dpk_core.errors.ValidationError: mine has no setting 'maxgap'; it has max_gap, keep; did you...
    """
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):  # one that does not say what it takes
        return
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
