"""Sheets of tags to print and cut out, at an exact size, as SVG or PDF.

Both are written here, with nothing but rectangles and numbers, so that a printer gets lines and no
pixels. Print at 100 %, not "fit to page". One page is one SVG; further pages get further files.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import attrs
import numpy as np

from dpk_core.checks import check_positive
from dpk_core.errors import ValidationError
from dpk_trackers.barcodes.dictionary import TagDictionary

POINTS = 72 / 25.4
"""PostScript points in a millimetre."""
MAX_PAGES = 1000
PAPER = {"a4": (210.0, 297.0), "letter": (215.9, 279.4), "a3": (297.0, 420.0)}
"""(width, height) in millimetres."""


@attrs.frozen
class _Layout:
    page: tuple[float, float]
    margin: float
    side: float
    cell: tuple[float, float]
    columns: int
    rows: int


def print_sheet(
    dictionary: TagDictionary,
    path: str | PathLike[str],
    *,
    side: float,
    ids: Sequence[int] | None = None,
    paper: str | tuple[float, float] = "a4",
    border: float = 10.0,
    gap: float | None = None,
    numbers: bool = True,
    overwrite: bool = False,
) -> list[Path]:
    """Write tags as PDF (all pages in one file) or SVG (a file for each page).

    Parameters
    ----------
    path
        Ends with .pdf or .svg. Of several SVG pages, those after the first are called
        ``name-2.svg``, ``name-3.svg``, ...
    side
        Of the black square in millimetres.
    ids
        Which tags, in this order; an id may stand several times. Default: all, once each.
    paper
        "a4", "a3", "letter", or (width, height) in millimetres.
    border
        Around everything, in millimetres; few printers reach farther.
    gap
        White between tags in millimetres. Default: two modules at least, and enough for the number.
    numbers
        Print each id under its tag, with a mark that points to its top.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValidationError
        When a tag is larger than the page, an id is unknown, or the suffix is another.
    OutputExistsError
        When one of the files exists and ``overwrite`` is False; then none is written.
    """
    from dpk_core.services.storage import atomic_path
    from dpk_core.services.storage.atomic import check_output

    path = Path(path)
    if path.suffix.lower() not in (".pdf", ".svg"):
        raise ValidationError(f"expected a file that ends with .pdf or .svg, found {path.name}")
    chosen = dictionary.ids.tolist() if ids is None else [int(tag_id) for tag_id in ids]
    if not chosen:
        raise ValidationError("ids: expected at least one")
    layout = _plan(dictionary, side, paper, border, gap, numbers)
    pages = _pages(dictionary, chosen, layout, numbers)
    if path.suffix.lower() == ".pdf":
        contents = {path: _pdf(pages, layout)}
    else:
        further = [path.with_stem(f"{path.stem}-{i}") for i in range(2, len(pages) + 1)]
        names = [path, *further]
        contents = {
            name: _svg(page, layout).encode() for name, page in zip(names, pages, strict=True)
        }
    for name in contents:
        check_output(name, overwrite=overwrite)
    for name, content in contents.items():
        with atomic_path(name, overwrite=overwrite) as temporary:
            temporary.write_bytes(content)
    return list(contents)


@attrs.define
class _Page:
    """Black rectangles (x, y, width, height) and texts (x, y, size, text), in millimetres from the
    top-left; a text's y is its baseline and its x its middle."""

    boxes: list[tuple[float, float, float, float]] = attrs.field(factory=list)
    texts: list[tuple[float, float, float, str]] = attrs.field(factory=list)


def _plan(
    dictionary: TagDictionary,
    side: float,
    paper: str | tuple[float, float],
    border: float,
    gap: float | None,
    numbers: bool,
) -> _Layout:
    check_positive("side", side)
    if isinstance(paper, str):
        if paper.lower() not in PAPER:
            raise ValidationError(
                f"paper: expected one of {', '.join(PAPER)} or (width, height) in millimetres, "
                f"found {paper!r}"
            )
        paper = PAPER[paper.lower()]
    width, height = (float(v) for v in paper)
    if not np.isfinite(border) or border < 0:
        raise ValidationError(f"border: expected millimetres from 0, found {border}")
    space = 2 * side / dictionary.modules if gap is None else float(gap)
    if not np.isfinite(space) or space < 0:
        raise ValidationError(f"gap: expected millimetres from 0, found {gap}")
    below = _text_size(side) * 1.6 if numbers else 0.0
    cell = (side + space, side + space + below)
    columns = int((width - 2 * border + 1e-9) // cell[0])
    rows = int((height - 2 * border + 1e-9) // cell[1])
    if columns < 1 or rows < 1:
        raise ValidationError(
            f"a tag of {side} mm does not fit a page of {width} x {height} mm with a border of "
            f"{border} mm"
        )
    return _Layout((width, height), border, side, cell, columns, rows)


def _text_size(side: float) -> float:
    return float(np.clip(0.22 * side, 1.0, 4.0))


def _pages(
    dictionary: TagDictionary, chosen: list[int], layout: _Layout, numbers: bool
) -> list[_Page]:
    per_page = layout.columns * layout.rows
    if len(chosen) > per_page * MAX_PAGES:
        raise ValidationError(f"expected at most {MAX_PAGES} pages; print fewer tags at a time")
    pages = []
    size = _text_size(layout.side)
    for start in range(0, len(chosen), per_page):
        page = _Page()
        for position, tag_id in enumerate(chosen[start : start + per_page]):
            row, column = divmod(position, layout.columns)
            space = layout.cell[0] - layout.side
            left = layout.margin + column * layout.cell[0] + space / 2
            top = layout.margin + row * layout.cell[1] + space / 2
            _add_tag(page, dictionary.picture(tag_id), left, top, layout.side)
            if numbers:
                below = top + layout.side + size * 1.15
                page.texts.append((left + layout.side / 2, below, size, f"^ {tag_id}"))
        pages.append(page)
    return pages


def _add_tag(page: _Page, picture: np.ndarray, left: float, top: float, side: float) -> None:
    """Black modules, joined where they touch so that no hairline shows between them."""
    module = side / len(picture)
    for x, y, width, height in _black_boxes(picture):
        page.boxes.append((left + x * module, top + y * module, width * module, height * module))


def _black_boxes(picture: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Rectangles that cover the black modules: rows of them, grown down while they can be."""
    left = picture == 0
    boxes = []
    for y, x in np.ndindex(left.shape):
        if not left[y, x]:
            continue
        white = np.flatnonzero(~left[y, x:])
        width = int(white[0]) if len(white) else left.shape[1] - x
        height = 1
        while y + height < len(left) and left[y + height, x : x + width].all():
            height += 1
        left[y : y + height, x : x + width] = False
        boxes.append((x, y, width, height))
    return boxes


def _svg(page: _Page, layout: _Layout) -> str:
    width, height = layout.page
    path = "".join(f"M{x:.4f} {y:.4f}h{w:.4f}v{h:.4f}h{-w:.4f}z" for x, y, w, h in page.boxes)
    texts = "".join(
        f'<text x="{x:.3f}" y="{y:.3f}" font-size="{size:.3f}">{text}</text>\n'
        for x, y, size, text in page.texts
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}mm" height="{height}mm" '
        f'viewBox="0 0 {width} {height}">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        f'<path d="{path}" fill="black" shape-rendering="crispEdges"/>\n'
        f'<g font-family="Helvetica, Arial, sans-serif" text-anchor="middle">\n{texts}</g>\n'
        "</svg>\n"
    )


DIGIT, CARET, SPACE = 0.556, 0.469, 0.278
"""Widths in Helvetica, as parts of its size."""


def _pdf(pages: list[_Page], layout: _Layout) -> bytes:
    """PDF 1.4: a page tree, one content stream a page, and a font that every reader has."""
    width, height = (v * POINTS for v in layout.page)
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, page in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.4f} {height:.4f}] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * i} 0 R >>".encode()
        )
        stream = zlib.compress(_drawing(page, layout).encode("ascii"))
        head = f"<< /Length {len(stream)} /Filter /FlateDecode >>\nstream\n".encode()
        objects.append(head + stream + b"\nendstream")
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n".encode()
    return bytes(out + b"%%EOF\n")


def _drawing(page: _Page, layout: _Layout) -> str:
    """PDF counts from the bottom; one fill for all boxes, so that touching ones leave no line."""
    height = layout.page[1]
    lines = [
        f"{x * POINTS:.4f} {(height - y - h) * POINTS:.4f} {w * POINTS:.4f} {h * POINTS:.4f} re"
        for x, y, w, h in page.boxes
    ]
    lines.append("f")
    for x, y, size, text in page.texts:
        digits = sum(c.isdigit() for c in text)
        long = (digits * DIGIT + text.count("^") * CARET + text.count(" ") * SPACE) * size
        left = (x - long / 2) * POINTS
        lines.append(
            f"BT /F1 {size * POINTS:.3f} Tf {left:.4f} {(height - y) * POINTS:.4f} Td "
            f"({text}) Tj ET"
        )
    return "\n".join(lines)
