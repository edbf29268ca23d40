"""``dpk export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import say
from dpk_core.cli.options import Precision


def command(
    model: Annotated[Path, typer.Argument(help="A trained model.")],
    output: Annotated[
        Path, typer.Argument(help="The file to write: .onnx, .xml (OpenVINO) or .tflite (LiteRT).")
    ],
    precision: Annotated[
        Precision, typer.Option(help="int8 is faster and less exact (.onnx only).")
    ] = Precision.float32,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="For int8: a video, labelled set or folder of images like those to come."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a model as one file that takes uint8 images and gives coordinates.

    [bold]Example:[/bold] dpk export model.keras model.onnx

    [bold]dpk predict model.onnx video.mp4[/bold] runs it with ONNX Runtime alone; skeleton and
    image size are in the file.
    """
    from dpk_core.workflow.export import export_model

    facts = export_model(
        model, output, precision=precision.value, calibrate=calibrate, overwrite=force
    )
    say(f"{output}: {facts}")
