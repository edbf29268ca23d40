"""A plugin as a stranger would publish it; on the path, it is installed: see its dist-info."""

from __future__ import annotations

from dpk_core import hookimpl
from dpk_core.specs import CommandSpec, EngineSpec, ModelSpec


@hookimpl
def dpk_models():
    return [ModelSpec("FakeNet", "finds the brightest pixel", "fake_engine:FakeNet")]


@hookimpl
def dpk_engines():
    return [EngineSpec("fake", "FakeNet's files", "fake_engine:load", (".fake",))]


@hookimpl
def dpk_commands():
    return [
        CommandSpec("greet", "say hello", "fake_engine:greet"),
        CommandSpec("absent", "a command whose module is not there", "fake_engine_absent:run"),
    ]
