"""Options of formats, as they come from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import pytest

from dpk_core.errors import ValidationError
from dpk_core.services.format_options import checked_options


def read(
    path,
    kind="poses",
    *,
    report=None,
    name: str = "",
    count: int = 0,
    fps: float | None = None,
    first: int | str = 0,
    offset: tuple[float, float] = (0.0, 0.0),
    names: str | Sequence[str] | None = None,
    parts: tuple[str, ...] = (),
    images: str | PathLike[str] | None = None,
    guess: bool = True,
    other: list[Path] | None = None,
    plain=None,
):
    """All kinds of options."""


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        ("name", 20240531, "20240531"),  # a number to the command line, a name to its owner
        ("name", True, "true"),
        ("name", "a,b", "a,b"),
        ("count", 3, 3),
        ("count", 3.0, 3),
        ("count", "3", 3),
        ("fps", 30, 30.0),
        ("fps", "29.97", 29.97),
        ("fps", None, None),
        ("first", 7, 7),
        ("first", "auto", "auto"),
        ("offset", "3,4", (3.0, 4.0)),
        ("offset", [3, 4.5], (3.0, 4.5)),
        ("parts", "nose, tail", ("nose", "tail")),
        ("parts", "nose", ("nose",)),
        ("parts", ["nose", 2], ("nose", "2")),
        ("names", "nose,tail", "nose,tail"),  # the format takes texts apart itself
        ("names", ["nose"], ("nose",)),
        ("images", Path("a"), Path("a")),
        ("images", 3, "3"),
        ("guess", False, False),
        ("guess", "no", False),
        ("guess", "True", True),
        ("guess", 1, True),
        ("other", 3, 3),  # of a kind that nobody can check here
        ("plain", [3], [3]),
    ],
)
def test_values_become_what_the_option_is(option, given, expected):
    found = checked_options(read, "all", {option: given})
    assert found == {option: expected}
    assert type(found[option]) is type(expected)


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        ("count", "three", "count: expected a whole number, found 'three'"),
        ("count", 1.5, "count: expected a whole number, found 1.5"),
        ("count", float("nan"), "count: expected a whole number, found nan"),
        ("count", True, "count: expected a whole number, found True"),
        ("count", None, "count: expected a whole number, found None"),
        ("fps", "fast", "fps: expected a number, found 'fast'"),
        ("fps", 10**400, "fps: expected a number, found 1"),
        ("offset", "3", "offset: expected 2 numbers, found '3'"),
        ("offset", [1, 2, 3], r"offset: expected 2 numbers, found \[1, 2, 3\]"),
        ("offset", "a,b", "offset: expected 2 numbers, found 'a,b'"),
        ("name", [1], r"name: expected a text, found \[1\]"),
        ("name", {"a": 1}, "name: expected a text, found"),
        ("images", [1], r"images: expected a text or a path, found \[1\]"),
        ("guess", "perhaps", "guess: expected yes or no, found 'perhaps'"),
        ("parts", 3, "parts: expected texts, found 3"),
    ],
)
def test_values_that_cannot_be_say_what_was_expected(option, given, message):
    with pytest.raises(ValidationError, match=f"the format all: {message}"):
        checked_options(read, "all", {option: given})


def test_an_option_that_there_is_not_names_those_that_there_are():
    with pytest.raises(ValidationError, match=r"has no option 'fsp' to read with; it has name, "):
        checked_options(read, "all", {"fsp": 3})
    with pytest.raises(ValidationError, match="has no option 'kind'"):
        checked_options(read, "all", {"kind": "tracks"})


def test_a_format_that_checks_its_options_itself():
    def write(path, data, *, report=None, **options):
        """Anything."""

    assert checked_options(write, "own", {"any": [1]}) == {"any": [1]}


def test_annotations_that_cannot_be_resolved_are_not_checked():
    def write(path, data, *, report: Unknown = None, level: Unknown = 3):  # noqa: F821
        """Types that only a type checker imports."""

    assert checked_options(write, "own", {"level": "high"}) == {"level": "high"}
