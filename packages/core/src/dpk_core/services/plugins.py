"""Finding and loading plugins; one that is broken is reported and never takes the others down."""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
from collections.abc import Iterable
from typing import cast

import attrs
import pluggy

from dpk_core import hookspecs
from dpk_core.errors import PluginError
from dpk_core.specs import Spec

_INSTALL_HINT = {
    "models": "python -m pip install dpk-models",
    "peak_detectors": "python -m pip install dpk-models",
    "engines": "python -m pip install dpk-models",
    "formats": "python -m pip install dpk-io-formats",
    "trackers": "python -m pip install dpk-trackers",
    "detectors": "python -m pip install dpk-trackers",
}


@attrs.frozen
class PluginInfo:
    """One plugin: where it came from, what it brought, and why it failed if it did."""

    name: str
    distribution: str
    version: str
    module: str
    specs: tuple[tuple[str, Spec], ...] = ()
    error: str | None = None

    @property
    def origin(self) -> str:
        """Distribution with version, as in ``dpk-models 0.1.0``."""
        return f"{self.distribution} {self.version}".strip()


@attrs.frozen
class _Entry:
    kind: str
    spec: Spec
    plugin: str


class Registry:
    """Every plugin that was found, and what they brought, by kind and name.

    Kinds are the hooks' names without ``dpk_``: models, peak_detectors, augmenters, detectors,
    trackers, formats, engines, commands.

    Parameters
    ----------
    entry_points
        The entry points of the group ``dpk``.
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint]) -> None:
        self.plugins: list[PluginInfo] = []
        self._entries: list[_Entry] = []
        for entry_point in sorted(entry_points, key=lambda e: e.name):
            info = _load(entry_point)
            self.plugins.append(info)
            self._entries += [_Entry(kind, spec, info.origin) for kind, spec in info.specs]

    def specs(self, kind: str) -> list[Spec]:
        """All specs of a kind, by name; a name that two plugins claim is left out.

        `conflicts` tells of those, and `get` raises for them.
        """
        conflicts = self.conflicts
        entries = [e for e in self._entries if e.kind == kind]
        specs = [e.spec for e in entries if (kind, e.spec.name.lower()) not in conflicts]
        return sorted(specs, key=lambda spec: spec.name.lower())

    def get(self, kind: str, name: str) -> Spec:
        """The spec of that name, upper or lower case.

        Raises
        ------
        PluginError
            When there is none (with what there is, and what failed to load), or two plugins
            claim the name.
        """
        key = (kind, name.lower())
        if key in self.conflicts:
            raise PluginError(
                f"two plugins have {kind} named {name!r}: {' and '.join(self.conflicts[key])}; "
                "uninstall one of them"
            )
        specs = self.specs(kind)
        for spec in specs:
            if spec.name.lower() == key[1]:
                return spec
        raise PluginError(self._absent(kind, name, [spec.name for spec in specs]))

    @property
    def conflicts(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """(kind, lower-case name) -> the plugins that claim it, where more than one does."""
        claims: dict[tuple[str, str], list[str]] = {}
        for entry in self._entries:
            claims.setdefault((entry.kind, entry.spec.name.lower()), []).append(entry.plugin)
        return {key: tuple(plugins) for key, plugins in claims.items() if len(plugins) > 1}

    @property
    def failed(self) -> list[PluginInfo]:
        """Plugins that could not be loaded."""
        return [plugin for plugin in self.plugins if plugin.error]

    def _absent(self, kind: str, name: str, known: list[str]) -> str:
        label = kind.replace("_", " ")
        message = f"no {label} plugin named {name!r}; there is {', '.join(known) or 'none'}"
        close = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1)
        if close:
            message += f"; did you mean {next(k for k in known if k.lower() == close[0])!r}?"
        for plugin in self.failed:
            message += f"\nplugin {plugin.name!r} ({plugin.origin}) failed: {plugin.error}"
        if not known and kind in _INSTALL_HINT:
            message += f"\ninstall one, for instance: {_INSTALL_HINT[kind]}"
        return message


@functools.cache
def registry() -> Registry:
    """The plugins installed in this environment, found once a process."""
    return Registry(importlib.metadata.entry_points(group=hookspecs.ENTRY_POINT_GROUP))


def _load(entry_point: importlib.metadata.EntryPoint) -> PluginInfo:
    """Import one plugin and ask its hooks; whatever goes wrong becomes `PluginInfo.error`."""
    distribution = entry_point.dist
    info = PluginInfo(
        name=entry_point.name,
        distribution=distribution.name if distribution else "unknown distribution",
        version=distribution.version if distribution else "",
        module=entry_point.value,
    )
    try:
        module = entry_point.load()
        return attrs.evolve(info, specs=tuple(_ask(module)))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # a stranger's module may raise anything, SystemExit too
        return attrs.evolve(info, error=f"{type(error).__name__}: {error}")


def _ask(module: object) -> list[tuple[str, Spec]]:
    """(kind, spec) pairs of one plugin, each checked for its type.

    Each plugin has a manager of its own, so that an error in one cannot reach another: pluggy's
    call loop stops at the first.
    """
    manager = pluggy.PluginManager("dpk")
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()
    found: list[tuple[str, Spec]] = []
    for hook, spec_type in hookspecs.HOOKS.items():
        for specs in getattr(manager.hook, hook)():
            if not isinstance(specs, (list, tuple)):
                raise TypeError(f"{hook} returned {type(specs).__name__}, expected a list")
            for spec in specs:
                if not isinstance(spec, spec_type):
                    raise TypeError(f"{hook} returned {spec!r}, expected {spec_type.__name__}")
                found.append((hook.removeprefix("dpk_"), cast(Spec, spec)))
    return found
