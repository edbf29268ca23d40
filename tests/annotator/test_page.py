"""The labelling page's files: complete, with nothing from elsewhere, and documented as they are."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

PAGE = Path(str(files("dpk_annotator") / "page"))
SCRIPTS = sorted(PAGE.rglob("*.js"))
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "annotate.md"


def _actions() -> list[dict]:
    text = (PAGE / "keys_table.js").read_text(encoding="utf-8")
    return json.loads(re.search(r"ACTIONS = (\[.*\]);", text, re.DOTALL)[1])


def test_the_guide_has_every_key():
    text = GUIDE.read_text(encoding="utf-8").split("## Keys")[1].split("\n## ")[0]
    table = re.findall(r"^\| (?!\*\*)(.+?) \| ((?:`.+`)+) \|$", text, re.MULTILINE)
    found = [(name, re.findall(r"`(.+?)`", keys)) for name, keys in table]
    assert found == [(action["text"], action["keys"]) for action in _actions()]


@pytest.mark.parametrize("place", ["images", "video"])
def test_no_key_means_two_things_in_one_place(place):
    there = [a for a in _actions() if a.get("where", "images") in (place, "everywhere")]
    assert {action["group"] == "Video" for action in there} == {place == "video", False}
    keys = [key for action in there for key in action["keys"]]
    assert len(keys) == len(set(keys))


def test_the_left_hand_reaches_all():
    left = set("qwertasdfgzxcvb123456") | {"Tab", "Escape", "Space", "F1", "F6"}
    right_too = {"zoom-in", "zoom-out"}  # beside these there are zoom-in-left, zoom-out-left
    for action in _actions():
        reach = [key.rsplit("+", 1)[-1] in left or key in left for key in action["keys"]]
        assert any(reach) or action["id"] in right_too, action["id"]


@pytest.mark.parametrize(
    ("script", "places"),
    [("commands.js", ("images", "everywhere")), ("film/commands.js", ("video", "everywhere"))],
)
def test_every_action_is_done_somewhere(script, places):
    done = (PAGE / script).read_text(encoding="utf-8")
    for action in _actions():
        name = action["id"]
        nudge = name.split("-")[0] in ("up", "down", "left", "right")
        if action.get("where", "images") in places and not nudge:
            assert re.search(rf'^  "?{name}"?[:,]', done, re.MULTILINE), name


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_find_what_they_import_and_make_no_markup(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r'^(?:import|export) .*?from "(.+?)";|^} from "(.+?)";', text, re.M):
        assert (path.parent / "".join(name)).is_file(), name
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in text
    assert not re.search(r"\bnew Function\b", text)
    elsewhere = set(re.findall(r"https?://[^\s\"')]+", text))
    assert elsewhere <= {"http://www.w3.org/2000/svg", *re.findall(r"\* .*?(https?://\S+)", text)}


def test_the_html_has_no_script_style_or_address_of_its_own():
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?:", text)
    assert re.findall(r"<script(.*?)>(.*?)</script>", text) == [
        (' type="module" src="static/main.js"', "")
    ]
    for name in re.findall(r'(?:src|href)="static/(.+?)"', text):
        assert (PAGE / name).is_file()
