"""``dpk evaluate``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import note, say, table
from dpk_core.cli.options import Precision


class Only(str, Enum):
    """Which images to evaluate."""

    validation = "validation"
    all = "all"


def command(
    model: Annotated[Path, typer.Argument(help="A trained model.")],
    labels: Annotated[Path, typer.Argument(help="Labelled images, as for dpk train.")],
    only: Annotated[
        Only | None,
        typer.Option(
            help="validation: the images that training held out (the default where it can be); "
            "all: every labelled image."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 32,
    engine: Annotated[
        str, typer.Option(help="What runs the model; auto takes the fastest that is installed.")
    ] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="int8 and bfloat16 are faster and less exact.")
    ] = Precision.float32,
    csv: Annotated[
        Path | None, typer.Option(help="Also write the error of every image to this file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the CSV file.")] = False,
) -> None:
    """Measure a model's error in pixels against labels.

    [bold]Example:[/bold] dpk evaluate model.keras labels.h5 --csv errors.csv

    Of a detector (dpk train --target centroids): how many of the labelled animals it finds, by the
    threshold of its scores.

    Errors on images that trained the model flatter it, so by default only those are evaluated
    that its training held out, when these are the labels that it was trained on.
    """
    from dpk_core.cli.progress import shown
    from dpk_core.services.storage.atomic import check_output
    from dpk_core.workflow.evaluate import evaluate_model

    if _is_detector(model):
        if csv is not None:
            raise typer.BadParameter("--csv is for models of poses; found a detector")
        _show_detector(model, labels, only, batch_size, engine, precision)
        return
    if csv is not None:
        check_output(csv, overwrite=force)
    with shown() as progress:
        result = evaluate_model(
            model,
            labels,
            only=None if only is None else only.value,
            batch_size=batch_size,
            engine=engine,
            precision=precision.value,
            progress=progress,
        )
    note(f"On {result.images_used}. Errors in pixels:")
    rows = result.summary.to_rows()
    columns = list(rows[0])
    table(columns, [[_cell(row.get(c, "")) for c in columns] for row in rows], numbers=columns[1:])
    if csv is not None:
        result.write_csv(csv, overwrite=force)
        say(f"{csv}: errors of {len(result.rows)} images")


def _is_detector(model: Path) -> bool:
    from dpk_core.services.model_task import read_task

    task = read_task(model) if model.is_file() else None
    return task is not None and task.centroids is not None


def _show_detector(
    model: Path,
    labels: Path,
    only: Only | None,
    batch_size: int,
    engine: str,
    precision: Precision,
) -> None:
    from dpk_core.cli.progress import shown
    from dpk_core.workflow.evaluate_detector import evaluate_detector

    with shown() as progress:
        result = evaluate_detector(
            model,
            labels,
            only=None if only is None else only.value,
            batch_size=batch_size,
            engine=engine,
            precision=precision.value,
            progress=progress,
        )
    note(f"On {result.images_used}. Found is what lies within {result.limit:.0f} px of a label:")
    rows = result.to_rows()
    columns = list(rows[0])
    table(columns, [[_cell(row[c]) for c in columns] for row in rows], numbers=columns)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
