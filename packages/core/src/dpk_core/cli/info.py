"""``dpk info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dpk_core.cli.console import say


def command(
    file: Annotated[Path, typer.Argument(help="Any file of dpk's, a video, or a known format.")],
    check: Annotated[
        bool, typer.Option("--check", help="Decode all of a video: which frames can be read?")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
) -> None:
    """Show what is in a file: labels, poses, tracks, a model, a skeleton, a video, a run.

    [bold]Example:[/bold] dpk info model.keras
    """
    from dpk_core.workflow.describe import describe_file

    facts = {"file": str(file), **describe_file(file, check=check)}
    if as_json:
        say(json.dumps(facts, indent=1, default=str))
        return
    for line in _lines(facts):
        say(line)


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    width = max((len(name) for name in facts), default=0)
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:{width}}  {_text(value)}")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)
