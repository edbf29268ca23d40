"""``dpk bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dpk_core.cli.console import note, say, table


def command(
    model: Annotated[
        Path | None, typer.Argument(help="A trained model; default: an untrained network.")
    ] = None,
    name: Annotated[
        str, typer.Option("--model", help="The untrained network; dpk models lists them.")
    ] = "StackedDenseNet",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter of it."),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="HxWxC", help="Its images: height, width, channels.")
    ] = "192x192x1",
    keypoints: Annotated[int, typer.Option(help="How many it finds.")] = 32,
    engine: Annotated[
        list[str] | None, typer.Option(help="Only this engine; may be repeated.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="Only this precision; may be repeated.")
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Frames at once; may be repeated.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="To measure each number.")] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
) -> None:
    """Measure how fast a model predicts here, with each engine and precision.

    [bold]Example:[/bold] dpk bench model.keras

    Frames a second with peaks included, the delay of a single frame, and memory; beside them the
    speed at which the network would run if this machine multiplied matrices all the time.
    """
    import attrs

    from dpk_core.cli.options import assignments, image_shape
    from dpk_core.cli.progress import shown
    from dpk_core.services.engines import PRECISIONS
    from dpk_core.workflow.bench import BATCH_SIZES, benchmark

    with shown() as progress:
        result = benchmark(
            model,
            name=name,
            hyperparameters=assignments(settings or ()),
            image_shape=image_shape(size),
            n_keypoints=keypoints,
            engines=engine or (),
            precisions=precision or PRECISIONS,
            batch_sizes=batch_size or BATCH_SIZES,
            seconds=seconds,
            progress=progress,
        )
    if as_json:
        say(json.dumps({**attrs.asdict(result), "bound": result.bound}, indent=1))
        return
    _show(result)


def _show(result: Any) -> None:
    note(f"{result.model}\n{result.machine}")
    batches = sorted({b for speed in result.speeds for b in speed.frames_per_second})
    columns = (
        "engine", "precision", *(f"frames/s at {b}" for b in batches), "delay ms", "99 % ms",
        "memory MB", "load s",
    )  # fmt: skip
    rows = [
        (
            speed.engine,
            speed.precision,
            *(f"{speed.frames_per_second[b]:.1f}" for b in batches),
            f"{speed.latency_ms:.2f}",
            f"{speed.latency_p99_ms:.2f}",
            "-" if speed.peak_memory_mb is None else f"{speed.peak_memory_mb:.0f}",
            f"{speed.seconds_to_load:.1f}",
        )
        for speed in result.speeds
        if not speed.error
    ]
    table(columns, rows, numbers=columns[2:])
    if result.bound is not None:
        note(
            f"At best in float32: {result.bound:.0f} frames/s ({result.operations / 1e9:.2f} "
            f"billion operations a frame, {result.matmul_per_second / 1e9:.0f} billion a second "
            "in matrix products)"
        )
    for speed in result.speeds:
        if speed.error:
            note(f"{speed.engine}, {speed.precision}: not measured: {speed.error}")
