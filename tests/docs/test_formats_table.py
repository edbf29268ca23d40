"""What the docs say of each format is what the format does.

Run as a program it prints the table.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from dpk_core import LossReport
from dpk_core.services.formats import format_specs, get_format
from dpk_core.specs import FormatSpec
from dpk_core.testing import sample_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "formats.md"
KINDS = {"annotations": "labels", "poses": "poses", "tracks": "tracks"}
ONE_ANIMAL = ("lightning-pose",)
HEAD = "| format | what | labels | poses | tracks | not carried |\n|---|---|---|---|---|---|"


def table() -> str:
    """The whole table as Markdown."""
    return "\n".join([HEAD, *(row(spec) for spec in sorted(format_specs(), key=lambda s: s.name))])


def row(spec: FormatSpec) -> str:
    """One line of it."""
    cells = [f"`{spec.name}`", spec.summary]
    for kind in KINDS:
        ways = [way for way, able in (("in", spec.reads), ("out", spec.writes)) if kind in able]
        cells.append(", ".join(ways))
    return f"| {' | '.join([*cells, _losses(spec)])} |"


def _losses(spec: FormatSpec) -> str:
    """What is lost of a little of everything, by kind."""
    if not spec.writes:
        return ""
    found = []
    for kind in spec.writes:
        lost = ", ".join(dict.fromkeys(_lost(spec, kind))) or "nothing is lost"
        found.append(lost if len(spec.writes) == 1 else f"{KINDS[kind]}: {lost}")
    return "; ".join(found)


def _lost(spec: FormatSpec, kind: str) -> list[str]:
    data = sample_of(kind)
    if kind == "annotations" and spec.name in ONE_ANIMAL:
        data = data.subset([0, 2, 3])
    report = LossReport()
    with tempfile.TemporaryDirectory() as folder:
        name = f"sample{spec.suffixes[0] if spec.suffixes else ''}"
        get_format(spec.name)[1].write(Path(folder) / name, data, report=report)
    return [loss.what for loss in report]


@pytest.mark.parametrize("spec", format_specs(), ids=lambda spec: spec.name)
def test_each_format_has_its_row(spec):
    if not spec.is_available:
        pytest.skip(f"{spec.name} needs {spec.install}")
    assert row(spec) in PAGE.read_text(encoding="utf-8"), "the page should have this row"


def test_the_page_names_no_other_format():
    rows = re.findall(r"^\| `([\w.-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == sorted(spec.name for spec in format_specs())


if __name__ == "__main__":
    print(table())
