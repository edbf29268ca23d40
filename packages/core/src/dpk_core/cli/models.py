"""``dpk models``, and the hyperparameters in ``dpk train --model NAME --help``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from dpk_core.cli.console import say, table
from dpk_core.errors import DpkError


def command(
    name: Annotated[str | None, typer.Argument(help="A model, to see its hyperparameters.")] = None,
) -> None:
    """List the models that can be trained, or the hyperparameters of one.

    [bold]Example:[/bold] dpk models StackedDenseNet
    """
    from dpk_core.services.plugins import registry

    if name is None:
        specs = registry().specs("models")
        table(("model", "summary"), [(spec.name, spec.summary) for spec in specs])
        return
    show_settings(name)


def show_settings(name: str) -> None:
    """Print the hyperparameters of a model.

    Raises
    ------
    PluginError
        When there is no such model.
    """
    from dpk_core.services.model_settings import read_settings
    from dpk_core.services.plugins import registry

    spec = registry().get("models", name)
    settings = read_settings(spec)
    say(f"{spec.name}: {spec.summary}")
    if settings is None:
        say("Its hyperparameters cannot be told from its source; see its documentation.")
        return
    rows = [(s.name, s.default, s.kind, s.description) for s in settings]
    table(("hyperparameter", "default", "type", "meaning"), rows)
    say("Set them with: --set NAME=VALUE")


class TrainCommand(TyperCommand):
    """``dpk train``, whose help also tells of the model that ``--model`` names."""

    _arguments: Sequence[str] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self._arguments = tuple(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        name = _value_of("--model", self._arguments)
        if name is None:
            return
        try:
            show_settings(name)
        except DpkError as error:
            say(f"--model: {error}")


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(option + "="):
            return argument.partition("=")[2]
    return None
