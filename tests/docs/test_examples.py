"""The examples in README and docs run as they stand, and what they say of hooks is true."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from dpk_core import hookspecs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^ *(?:\$ )?(dpk [a-z].*)$", re.MULTILINE)


def _blocks(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [textwrap.dedent(match["code"]) for match in _BLOCK.finditer(text)]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if _blocks(p)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_python_examples_run(page, tmp_path, monkeypatch, example_files):
    example_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "example"}
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
