"""``dpk plugins``."""

from __future__ import annotations

import typer

from dpk_core.cli.console import note, say, table


def command() -> None:
    """Show what is installed: models, formats, trackers and all else, and where it came from.

    [bold]Example:[/bold] dpk plugins

    Exit code 1 when a plugin failed to load or two share a name, so that a script can ask.
    """
    from dpk_core.services.plugins import registry

    found = registry()
    rows = [
        (kind.replace("_", " "), spec.name, spec.summary, plugin.origin)
        for plugin in found.plugins
        for kind, spec in plugin.specs
    ]
    table(("kind", "name", "summary", "from"), sorted(rows, key=lambda r: (r[0], r[1].lower())))
    for plugin in found.plugins:
        if not plugin.specs and not plugin.error:
            say(f"{plugin.name} ({plugin.origin}) is installed and brings nothing yet")
    for plugin in found.failed:
        note(f"FAILED: plugin {plugin.name!r} ({plugin.origin}, {plugin.module}): {plugin.error}")
    for (kind, name), claimants in found.conflicts.items():
        note(
            f"CONFLICT: {' and '.join(claimants)} both have {kind.replace('_', ' ')} named "
            f"{name!r}; neither can be used until one of them is uninstalled"
        )
    from dpk_core.cli.app import COMMANDS

    shadowed = [spec.name for spec in found.specs("commands") if spec.name in COMMANDS]
    for name in shadowed:
        note(f"CONFLICT: a plugin's command {name!r} is hidden by dpk's own of that name")
    if found.failed or found.conflicts or shadowed:
        raise typer.Exit(1)
