"""What dpk-annotator brings."""

from __future__ import annotations

from dpk_core.hookspecs import hookimpl
from dpk_core.specs import CommandSpec


@hookimpl
def dpk_commands() -> list[CommandSpec]:
    return [
        CommandSpec("annotate", "Label images in the browser.", "dpk_annotator.command:command")
    ]
