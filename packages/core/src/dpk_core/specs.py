"""Specs: how a plugin names what it brings, without importing it."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable
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
        raise ValidationError(f"{attribute.name}: expected 'module:attribute', found {value!r}")


def _check_target_or_empty(instance: Any, attribute: attrs.Attribute, value: str) -> None:
    if value != "":
        _check_target(instance, attribute, value)


def _check_summary(_: Any, attribute: attrs.Attribute, value: str) -> None:
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise ValidationError(f"summary: expected one line of text, found {value!r}")


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


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
    """A class with the `Tracker` interface.

    Parameters
    ----------
    detector
        Names the one that suits it, taken when a user names none; empty: any.
    shares
        Names of settings that a detector with a setting of the same name is told as well, unless
        the user gives it another value: the number of animals, say.
    """

    detector: str = ""
    shares: tuple[str, ...] = attrs.field(default=(), converter=_texts)


_KINDS = ("annotations", "poses", "tracks")


def _check_kinds(_: Any, attribute: attrs.Attribute, value: tuple[str, ...]) -> None:
    if not set(value) <= set(_KINDS):
        raise ValidationError(f"{attribute.name}: expected some of {_KINDS}, found {value!r}")


@attrs.frozen
class FormatSpec(Spec):
    """A class with the `PoseFormat` interface, and what it reads and writes.

    Parameters
    ----------
    reads, writes
        Some of "annotations", "poses", "tracks".
    suffixes
        Of the files that it writes, such as ``(".slp",)``, the usual one first; compound ones
        (".pkg.slp") count. Empty when it writes a folder.
    requires, install
        Modules without which it can't do anything, and what a user types to get them.
    """

    reads: tuple[str, ...] = attrs.field(default=(), converter=_texts, validator=_check_kinds)
    writes: tuple[str, ...] = attrs.field(default=(), converter=_texts, validator=_check_kinds)
    suffixes: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    requires: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    install: str = ""

    @property
    def is_available(self) -> bool:
        """Whether what it requires is installed."""
        return _are_installed(self.requires)


@attrs.frozen
class EngineSpec(Spec):
    """A function ``load(path, precision="float32") -> Model`` for files with these suffixes.

    Parameters
    ----------
    suffixes
        Of the model files that it opens, such as ``(".onnx",)``.
    precisions
        That it computes in: some of "float32", "bfloat16", "int8".
    requires
        Modules without which it can't run.
    exports, export_requires
        Suffixes of files that its models can be exported to for other engines, and the modules
        without which that fails.
    install
        What a user types to get all those modules.
    priority
        ``"module:function"`` that gives a number: of the engines that can run a file, "auto"
        takes that with the highest. It must be quick to import. Empty: 10.
    """

    suffixes: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    precisions: tuple[str, ...] = attrs.field(default=("float32",), converter=_texts)
    requires: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    exports: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    export_requires: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    install: str = ""
    priority: str = attrs.field(default="", validator=_check_target_or_empty)

    @property
    def is_available(self) -> bool:
        """Whether what it requires is installed."""
        return _are_installed(self.requires)

    @property
    def can_export(self) -> bool:
        """Whether what exporting requires is installed."""
        return bool(self.exports) and _are_installed(self.export_requires)

    def rank(self) -> int:
        """The number that `priority` gives."""
        if not self.priority:
            return 10
        return int(Spec(self.name, self.summary, self.priority).load()())


def _are_installed(modules: tuple[str, ...]) -> bool:
    return all(_is_installed(module) for module in modules)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent package is absent, or it is half imported
        return False


@attrs.frozen
class CommandSpec(Spec):
    """A typer app or function that becomes ``dpk NAME``."""
