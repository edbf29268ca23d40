"""``dpk tags``: make, look at, convert and print dictionaries of 2-D barcodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpk_core.cli.console import note, say, table

INK = "\u2588\u2588"
"""A black module on a terminal."""

app = typer.Typer(
    name="tags",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="""Make, look at, convert and print tags with 2-D barcodes.

    A DICTIONARY is a file (tags.json of dpk, a .pkl of pinpoint, a .yml or .xml of OpenCV) or the
    name of one of OpenCV's: DICT_4X4_50, DICT_APRILTAG_36h11, ...

    What comes next: dpk track VIDEO --tracker barcode --detector-set dictionary=tags.json""",
)

Dictionary = Annotated[str, typer.Argument(metavar="DICTIONARY", help="A file, or OpenCV's name.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


@app.command()
def generate(
    output: Annotated[Path, typer.Argument(help="The file to write, tags.json.")],
    modules: Annotated[int, typer.Option(help="Modules along a side of the code.")] = 5,
    distance: Annotated[
        int, typer.Option(help="Modules in which any two differ at least, whichever way turned.")
    ] = 7,
    count: Annotated[int, typer.Option(help="How many tags.")] = 100,
    seed: Annotated[int, typer.Option(help="Another seed gives other tags.")] = 0,
    rings: Annotated[
        str, typer.Option(help="double (white in black) or single (black, on white paper).")
    ] = "double",
    force: Force = False,
) -> None:
    """Make a dictionary of random tags that differ enough.

    [bold]Example:[/bold] dpk tags generate tags.json --modules 5 --distance 7 --count 100
    """
    from dpk_core.services.storage.atomic import check_output
    from dpk_trackers.barcodes import TagDictionary

    check_output(output, overwrite=force)
    tags = TagDictionary.generate(modules, distance, count, seed, rings=rings)
    tags.save(output, overwrite=force)
    say(f"{output}: {tags!r}")


@app.command()
def show(
    dictionary: Dictionary,
    ids: Annotated[str | None, typer.Option(help="Draw these: 0-4,17.")] = None,
) -> None:
    """Say what is in a dictionary, and draw some of its tags as text.

    [bold]Example:[/bold] dpk tags show tags.json --ids 0-2
    """
    from dpk_trackers.barcodes import TagDictionary

    tags = TagDictionary.named(dictionary)
    rows = [
        ("tags", len(tags)),
        ("ids", f"{tags.ids.min()} to {tags.ids.max()}"),
        ("modules", f"{tags.n} x {tags.n}, {tags.modules} with the rings"),
        ("distance", tags.distance),
        ("rings", tags.rings),
    ]
    table((tags.name, ""), rows)
    for tag_id in [] if ids is None else numbers_of(ids):
        picture = tags.picture(tag_id)
        say(f"\n{tag_id}")
        say(
            "\n".join(
                "".join("  " if white else "\u2588\u2588" for white in row) for row in picture
            )
        )


@app.command()
def convert(
    dictionary: Dictionary,
    output: Annotated[Path, typer.Argument(help="tags.json for dpk, tags.yml for OpenCV.")],
    ids: Annotated[str | None, typer.Option(help="Only these: 0-49,77. Default: all.")] = None,
    force: Force = False,
) -> None:
    """Write a dictionary for dpk, or for OpenCV's ArUco module.

    [bold]Example:[/bold] dpk tags convert 5x5_7bit.pkl tags.json

    For OpenCV: cv2.aruco.Dictionary().readDictionary(cv2.FileStorage("tags.yml", 0).root())
    """
    from dpk_core.errors import ValidationError
    from dpk_trackers.barcodes import TagDictionary
    from dpk_trackers.barcodes.opencv_files import SUFFIXES, write_opencv

    tags = TagDictionary.named(dictionary)
    if ids is not None:
        tags = tags.choose(numbers_of(ids))
    if output.suffix.lower() in SUFFIXES:
        write_opencv(tags, output, overwrite=force)
        if tags.ids.tolist() != list(range(len(tags))):
            note(
                f"OpenCV counts from 0: its number 0 is tag {tags.ids[0]} here, and so on in order"
            )
    elif output.suffix.lower() == ".json":
        tags.save(output, overwrite=force)
    else:
        raise ValidationError(
            f"expected a file that ends with .json, .yml or .xml, found {output.name}"
        )
    say(f"{output}: {tags!r}")


@app.command(name="print")
def print_tags(
    dictionary: Dictionary,
    output: Annotated[Path, typer.Argument(help="A .pdf, or an .svg for each page.")],
    side: Annotated[float, typer.Option(help="Of the black square, in millimetres.")],
    ids: Annotated[str | None, typer.Option(help="Only these: 0-49,77. Default: all.")] = None,
    copies: Annotated[int, typer.Option(help="Of each tag.", min=1)] = 1,
    paper: Annotated[str, typer.Option(help="a4, a3, letter, or WIDTHxHEIGHT in mm.")] = "a4",
    border: Annotated[float, typer.Option(help="Around everything, in mm.")] = 10.0,
    gap: Annotated[
        float | None, typer.Option(help="White between tags, in mm. Default: two modules.")
    ] = None,
    numbers: Annotated[
        bool, typer.Option("--numbers/--no-numbers", help="The id and a mark at each tag's foot.")
    ] = True,
    force: Force = False,
) -> None:
    """Draw a sheet of tags to print at 100 % and cut out.

    [bold]Example:[/bold] dpk tags print tags.json sheet.pdf --side 4.5
    """
    from dpk_trackers.barcodes import TagDictionary, print_sheet

    tags = TagDictionary.named(dictionary)
    chosen = tags.ids.tolist() if ids is None else numbers_of(ids)
    files = print_sheet(
        tags,
        output,
        side=side,
        ids=[tag_id for tag_id in chosen for _ in range(copies)],
        paper=_paper(paper),
        border=border,
        gap=gap,
        numbers=numbers,
        overwrite=force,
    )
    count = len(chosen) * copies
    for file in files:
        say(str(file))
    note(f"{count} tags, {side:g} mm wide without the paper around; print at 100 %, not to fit")


def numbers_of(text: str) -> list[int]:
    """Numbers and ranges, both ends included.

    Raises
    ------
    typer.BadParameter

    Examples
    --------
    >>> numbers_of("0-3, 7,9-9")
    [0, 1, 2, 3, 7, 9]
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.strip().isdecimal() and len(end.strip()) < 8 for end in ends):
            raise typer.BadParameter(f"expected numbers such as 0-49,77, found {text!r}")
        low, high = (int(end) for end in ends)
        if high < low or high - low > 100_000:
            raise typer.BadParameter(f"expected a range upwards such as 0-49, found {part.strip()}")
        numbers += range(low, high + 1)
    return numbers


def _paper(text: str) -> str | tuple[float, float]:
    width, sign, height = text.lower().partition("x")
    try:
        return (float(width), float(height)) if sign else text
    except ValueError:
        return text  # print_sheet says which there are
