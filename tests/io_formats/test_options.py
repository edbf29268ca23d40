"""Options: whatever a format documents, `dpk formats NAME` shows, and the command line can set."""

from __future__ import annotations

import inspect
import re

import pytest
from typer.testing import CliRunner

from dpk_core.cli.app import app
from dpk_core.errors import ValidationError
from dpk_core.services.formats import get_format
from dpk_core.testing import sample_of
from dpk_core.workflow.convert import convert
from dpk_io_formats.deeplabcut_predictions_write import write_predictions
from dpk_io_formats.deeplabcut_write import write_project
from dpk_io_formats.plugin import dpk_formats

NAMES = [spec.name for spec in dpk_formats()]


def documented(method) -> set[str]:
    """Names under Parameters in a docstring, apart from those that every format has."""
    text = inspect.getdoc(method) or ""
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n\w+\n-+|\Z)", text, re.S)
    lines = re.findall(r"^(\w[\w, ]*)$", section[1], re.M) if section else []
    names = {name.strip() for line in lines for name in line.split(",")}
    return names - {"path", "kind", "data", "report"}


def keywords(function) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"report"}


@pytest.mark.parametrize("name", NAMES)
def test_documented_options_are_shown(name):
    _, found = get_format(name)
    output = CliRunner().invoke(app, ["formats", name]).output
    for method, use in ((found.read, "--source-set"), (found.write, "--set")):
        shown = set(re.findall(rf"^(\w+)\s.*{use}$", output, re.M))
        assert documented(method) <= shown
        assert keywords(method) == shown


def test_options_that_are_documented_elsewhere_are_shown():
    assert keywords(get_format("deeplabcut")[1].write) == keywords(write_project)
    assert keywords(get_format("deeplabcut-predictions")[1].write) == keywords(write_predictions)
    assert {"videos", "missing", "video", "center"} <= documented(get_format("sleap")[1].read)


@pytest.mark.parametrize(
    ("target", "name", "options"),
    [
        ("a.nwb", "nwb", {"identifier": 20240531, "description": 3}),
        ("a.csv", "deeplabcut-predictions", {"scorer": 7}),
        ("a.json", "coco", {"category_id": "4"}),
    ],
)
def test_names_may_be_numbers_and_numbers_texts(tmp_path, target, name, options):
    get_format("dpk")[1].write(tmp_path / "a.h5", sample_of("poses"))
    convert(
        tmp_path / "a.h5", tmp_path / target, target_format=name, target_options=options
    )  # fmt: skip
    assert (tmp_path / target).is_file()


def test_the_corner_of_an_analysed_rectangle_as_it_is_typed(tmp_path):
    get_format("dpk")[1].write(tmp_path / "a.h5", sample_of("poses"))
    convert(tmp_path / "a.h5", tmp_path / "a.csv", target_format="deeplabcut-predictions")
    for number, offset in enumerate(("3,4", [3, 4])):
        convert(
            tmp_path / "a.csv", tmp_path / f"{number}.h5",
            source_options={"offset": offset}, source_format="deeplabcut-predictions",
        )  # fmt: skip
        moved = get_format("dpk")[1].read(tmp_path / f"{number}.h5", "poses").read().keypoints
        before = get_format("dpk")[1].read(tmp_path / "a.h5", "poses").read().keypoints
        assert abs(moved - before - (3, 4))[0].max() < 1e-3
    with pytest.raises(ValidationError, match="offset: expected 2 numbers, found 'corner'"):
        convert(tmp_path / "a.csv", tmp_path / "b.h5", source_options={"offset": "corner"})


def test_options_of_one_kind_are_refused_for_another(tmp_path, test_data):
    sleap = get_format("sleap")[1]
    with pytest.raises(ValidationError, match="no option 'videos' to read poses"):
        sleap.read(test_data / "flies-clip/clip.slp", "poses", videos="a")
    with pytest.raises(ValidationError, match="no option 'embed' to write poses"):
        sleap.write(tmp_path / "a.slp", sample_of("poses"), embed=True)
