"""Run by ``nox -s isolated`` in an environment that holds core and one other package.

Usage: python tests/isolated.py NAME
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

from dpk_core.services.plugins import registry

OURS = ("core", "models", "trackers", "annotator", "io-formats")


def main(package: str) -> None:
    for name in OURS:
        installed = importlib.util.find_spec(_module(name)) is not None
        wanted = name in {"core", package}
        assert installed == wanted, f"{name}: expected installed={wanted}, found {installed}"
    importlib.import_module(_module(package))
    plugins = {plugin.name: plugin for plugin in registry().plugins}
    assert package in plugins, f"{package} does not announce itself; found {sorted(plugins)}"
    assert plugins[package].error is None, plugins[package].error
    targets = [spec for _, spec in plugins[package].specs]
    for spec in targets:
        # What core announces for training needs its extra; everything else must load as it is.
        if package != "core":
            spec.load()
    print(f"{package}: works with only core beside it ({len(targets)} things announced)")


def _module(package: str) -> str:
    return f"dpk_{package.replace('-', '_')}"


if __name__ == "__main__":
    main(sys.argv[1])
