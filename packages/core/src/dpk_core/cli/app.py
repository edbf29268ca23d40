"""The ``dpk`` program: our commands in the order of the workflow, then those of plugins."""

from __future__ import annotations

import importlib
import inspect
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from dpk_core.cli.console import INTERRUPTED, complain, note, say
from dpk_core.errors import DpkError, PluginError
from dpk_core.specs import CommandSpec

COMMANDS = (
    "sample",
    "models",
    "train",
    "evaluate",
    "track",
    "swaps",
    "crop",
    "align",
    "predict",
    "suggest",
    "merge",
    "export",
    "bench",
    "render",
    "convert",
    "formats",
    "relink",
    "demo",
    "plugins",
    "info",
    "doctor",
)


class PluginCommand(TyperCommand):
    """Stands for a plugin's command in the list; the plugin is imported when it is run."""

    spec: CommandSpec


class DpkGroup(TyperGroup):
    """Adds plugins' commands, and turns errors into messages and exit codes."""

    def list_commands(self, ctx: Any) -> list[str]:
        ours = super().list_commands(ctx)
        return [*ours, *(name for name in _plugin_specs() if name not in ours)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        ours = super().get_command(ctx, cmd_name)
        spec = _plugin_specs().get(cmd_name) if ours is None else None
        if spec is None:
            return ours
        placeholder = PluginCommand(name=spec.name, help=spec.summary, callback=lambda: None)
        placeholder.spec = spec
        return placeholder

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, PluginCommand):
            command = _load(command.spec)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DpkError as error:
            complain(str(error))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            note("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="dpk",
    cls=DpkGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Animal pose estimation: from videos to keypoint coordinates.

    The way through it: [bold]sample[/bold] frames of your videos, annotate them,
    [bold]train[/bold] a model, [bold]evaluate[/bold] it, [bold]predict[/bold] whole videos,
    [bold]render[/bold] what was found. [bold]dpk demo[/bold] does all of it on a made-up animal.

    Every command has its own help with an example: [bold]dpk train --help[/bold].

    Exit codes: 0 done, 1 an error, 2 wrong usage, 130 interrupted.""",
)


def _print_version(asked: bool) -> None:
    if asked:
        from dpk_core import __version__

        say(f"dpk-core {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """Only what all commands share."""


def _plugin_specs() -> dict[str, CommandSpec]:
    from dpk_core.services.plugins import registry

    specs = registry().specs("commands")
    return {spec.name: spec for spec in specs if isinstance(spec, CommandSpec)}


def _load(spec: CommandSpec) -> Any:
    """The command of a plugin: a typer app, or a function that becomes one."""
    target = spec.load()
    if not isinstance(target, typer.Typer):
        if not inspect.isroutine(target):
            raise PluginError(
                f"CommandSpec {spec.name!r}: expected a typer app or a function at {spec.target}, "
                f"found {type(target).__name__}"
            )
        function, target = target, typer.Typer(add_completion=False)
        target.command(name=spec.name, help=inspect.getdoc(function) or spec.summary)(function)
    return typer.main.get_command(target)


for _name in COMMANDS:
    _module = importlib.import_module(f"dpk_core.cli.{_name}")
    app.command(_name, cls=getattr(_module, "COMMAND_CLASS", None))(_module.command)
