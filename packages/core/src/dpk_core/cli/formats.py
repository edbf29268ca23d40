"""``dpk formats``."""

from __future__ import annotations

from typing import Annotated

import typer

from dpk_core.cli.console import say, table
from dpk_core.specs import FormatSpec


def command(
    name: Annotated[str | None, typer.Argument(help="A format, to see its options.")] = None,
) -> None:
    """List what can be read and written, or the options of one format.

    [bold]Example:[/bold] dpk formats deeplabcut
    """
    from dpk_core.services.formats import format_specs, get_format

    if name is None:
        rows = [
            (spec.name, _words(spec, "reads"), _words(spec, "writes"), _summary(spec))
            for spec in format_specs()
        ]
        table(("format", "in", "out", "summary"), rows)
        return
    spec, found = get_format(name)
    say(f"{spec.name}: {spec.summary}")
    say(f"in: {_words(spec, 'reads')}; out: {_words(spec, 'writes')}")
    options = [
        (*row, use)
        for use, method in (("--source-set", found.read), ("--set", found.write))
        for row in _options(method)
    ]
    if options:
        table(("option", "default", "with"), options)
    else:
        say("It has no options.")


def _words(spec: FormatSpec, field: str) -> str:
    return ", ".join(getattr(spec, field)) or "-"


def _summary(spec: FormatSpec) -> str:
    return spec.summary if spec.is_available else f"{spec.summary} (needs: {spec.install})"


def _options(method: object) -> list[tuple[str, str]]:
    import inspect

    parameters = inspect.signature(method).parameters.values()  # type: ignore[arg-type]
    return [
        (p.name, str(p.default))
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name != "report"
    ]
