"""The examples in README and docs run as they stand, and what they say of hooks is true."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import numpy as np
import pytest
import typer

from dpk_core import hookspecs
from dpk_core.cli.app import app
from dpk_models import PoseModel

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL)
_SHELL = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^ *(dpk [a-z].*)$", re.MULTILINE)


def _commands(page: Path) -> list[str]:
    """Every ``dpk ...`` line of a page, without its comment."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in _SHELL.findall(text) for line in _COMMAND.findall(block)]
    return [line.split("#")[0].strip() for line in lines]


def _blocks(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [textwrap.dedent(match["code"]) for match in _BLOCK.finditer(text)]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if _blocks(p)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_python_examples_run(page, tmp_path, monkeypatch, example_files):
    example_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    # The pages say model.fit(...) as a user would; here it ends after two epochs.
    until_good = PoseModel.fit
    monkeypatch.setattr(PoseModel, "fit", lambda *a, **k: until_good(*a, **{"epochs": 2, **k}))
    images = np.zeros((2, 48, 48, 1), np.uint8)
    namespace: dict[str, object] = {"__name__": "example", "images": images}
    for code in _blocks(page):
        exec(compile(code, str(page), "exec"), namespace)


def test_the_table_of_hooks_matches_the_code():
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(dpk_\w+)` \| `(\w+)` \|", text, re.MULTILINE))
    assert rows == {name: spec.__name__ for name, spec in hookspecs.HOOKS.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    "line", sorted({line for page in PAGES for line in _commands(page)}), ids=str
)
def test_commands_are_ones_that_dpk_knows(line):
    """Parsed by the real command line, options and all, without being run."""
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    with command.make_context("dpk", words, resilient_parsing=False) as context:
        name, sub, rest = command.resolve_command(context, [*words])
        sub.make_context(name, rest, parent=context)
