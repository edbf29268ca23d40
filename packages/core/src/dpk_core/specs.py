"""Specs: how a plugin names what it brings, without importing it."""

from __future__ import annotations

import importlib
import re
from typing import Any

import attrs

from dpk_core.errors import PluginError, ValidationError

_TARGET = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")


def _check_name(_: Any, attribute: attrs.Attribute, value: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][\w.-]*", value):
        raise ValidationError(
            f"{attribute.name}: expected a letter followed by letters, digits, '_', '-' or '.', "
            f"found {value!r}"
        )


def _check_target(_: Any, attribute: attrs.Attribute, value: str) -> None:
    if not isinstance(value, str) or not _TARGET.match(value):
        raise ValidationError(f"target: expected 'module:attribute', found {value!r}")


def _check_summary(_: Any, attribute: attrs.Attribute, value: str) -> None:
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise ValidationError(f"summary: expected one line of text, found {value!r}")


@attrs.frozen
class Spec:
    """A name, a one-line summary, and where the thing is (``"module:attribute"``).

    Raises
    ------
    ValidationError
        On a name, summary or target of the wrong form.
    """

    name: str = attrs.field(validator=_check_name)
    summary: str = attrs.field(validator=_check_summary)
    target: str = attrs.field(validator=_check_target)

    def load(self) -> Any:
        """Import the target and return it; PluginError with the cause when that fails."""
        module_name, _, attribute = self.target.partition(":")
        try:
            thing: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                thing = getattr(thing, part)
        except Exception as error:
            raise PluginError(
                f"{type(self).__name__} {self.name!r} could not be loaded from {self.target}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return thing


@attrs.frozen
class ModelSpec(Spec):
    """A class with the `Model` interface."""


@attrs.frozen
class PeakDetectorSpec(Spec):
    """A class with the `PeakDetector` interface."""


@attrs.frozen
class AugmenterSpec(Spec):
    """A class with the `Augmenter` interface, or a function that makes one."""


@attrs.frozen
class DetectorSpec(Spec):
    """A class with the `Detector` interface."""


@attrs.frozen
class TrackerSpec(Spec):
    """A class with the `Tracker` interface."""


_KINDS = ("annotations", "poses", "tracks")


def _check_kinds(_: Any, attribute: attrs.Attribute, value: tuple[str, ...]) -> None:
    if not set(value) <= set(_KINDS):
        raise ValidationError(f"{attribute.name}: expected some of {_KINDS}, found {value!r}")


@attrs.frozen
class FormatSpec(Spec):
    """A class with the `PoseFormat` interface, and what it reads and writes."""

    reads: tuple[str, ...] = attrs.field(default=(), converter=tuple, validator=_check_kinds)
    writes: tuple[str, ...] = attrs.field(default=(), converter=tuple, validator=_check_kinds)


@attrs.frozen
class EngineSpec(Spec):
    """A function ``load(path) -> Model`` for model files with these suffixes."""

    suffixes: tuple[str, ...] = attrs.field(default=(), converter=tuple)


@attrs.frozen
class CommandSpec(Spec):
    """A typer app or function that becomes ``dpk NAME``."""
