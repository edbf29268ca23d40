"""``dpk annotate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import note, say


def command(
    source: Annotated[
        Path,
        typer.Argument(
            help="A set (labels.h5), a folder of images, a video, or labels of another program."
        ),
    ],
    skeleton: Annotated[
        Path | None,
        typer.Option(
            "--skeleton",
            "-s",
            help="CSV with the columns name, parent, swap, for a new set; without it, the skeleton "
            "is made in the browser, by clicking.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The set to make; default: beside the source."),
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", "-n", help="Frames to choose from a video.")
    ] = 50,
    videos: Annotated[
        list[Path] | None,
        typer.Option(
            "--videos",
            help="A folder with videos or poses, besides those that are looked into anyway: that "
            "of the set, videos in it, beside it, and in the folder that is named as the set is. "
            "May be given several times.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: 8710 or the next free one.")
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Where to listen. Only programs on this computer reach the default; others see "
            "pixels and labels of whoever listens to the network (there is no encryption)."
        ),
    ] = "127.0.0.1",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Look only; nothing is written.")
    ] = False,
) -> None:
    """Label images in the browser.

    [bold]Examples:[/bold]

    dpk annotate labels.h5

    dpk annotate mouse.mp4 -n 100 -s skeleton.csv

    Every edit is on disk before the page says so; the file follows when you pause and when you
    stop with Ctrl-C.
    """
    from dpk_annotator.serving import Address, listen, serve
    from dpk_annotator.set_source import prepare_set
    from dpk_annotator.store import Store
    from dpk_core.cli.progress import shown

    with shown() as progress:
        prepared = prepare_set(
            source, output, skeleton, n_frames=frames, read_only=read_only, progress=progress
        )
    for text in prepared.notes:
        note(text)

    def ready(address: Address) -> None:
        say(f"{prepared.path} is at {address.url}")
        if address.network_url is None:
            note(f"From another computer: {address.tunnel}")
        else:
            note(f"From another computer, without encryption: {address.network_url}")
        note("Ctrl-C stops.")
        if browser:
            _open_browser(address.url)

    store = Store.open(prepared.path, read_only=read_only)
    try:
        for text in store.notices:
            note(f"Note: {text}")
        serve(store, listen(host, port), videos=videos or (), ready=ready)
    finally:
        done = store.close()
    if read_only:
        return
    if done:
        note(f"{prepared.path} is up to date.")
    else:
        for text in store.notices:
            note(f"Note: {text}")


def _open_browser(url: str) -> None:
    import webbrowser

    try:
        opened = webbrowser.open(url)
    except webbrowser.Error:
        opened = False
    if not opened:
        note("No browser could be opened here; open the address yourself.")
