"""Hyperparameters read from source, without importing what would be imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from dpk_core.cli.app import app
from dpk_core.services.model_settings import Setting, read_settings
from dpk_core.specs import ModelSpec

SOURCE = '''
import no_such_framework
from typing import ClassVar
import attrs
from .other import Base
from .other import Elsewhere as Moved


class ByAttributes(Base):
    """A network.

    Parameters
    ----------
    source
        Where the images are from.
    depth, width
        How deep it is, and how
        wide in `channels`.
    kind : str
        "a" or "b".

    Notes
    -----
    flag
        Is not described here.
    """

    source: object
    depth: int = 3
    width: float = 0.5
    kind: str = attrs.field(default="a", kw_only=True)
    flag: bool = False
    shared: int = 2
    _hidden: int = 1
    constant: ClassVar[int] = 4
    computed: int = attrs.field(init=False, default=0)
    needed: int


class ByInit:
    def __init__(self, source, depth=2, *, width: float = 1.5, **more):
        self.depth = depth


def by_function(source):
    return ByInit(source)
'''

OTHER = '''
class Base:
    """Parameters are inherited.

    Parameters
    ----------
    shared
        Overridden below.
    detector
        What finds peaks.
    """

    shared: int = 1
    detector: str = "maxima"


class Elsewhere:
    a: int = 1
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "strangers_networks"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(SOURCE)
    (folder / "other.py").write_text(OTHER)
    (folder / "broken.py").write_text("class Net(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    for name in [m for m in sys.modules if m.startswith(folder.name)]:
        del sys.modules[name]


def settings_of(package, target):
    return read_settings(ModelSpec("net", "a network", f"{package}.{target}"))


def test_attributes_with_defaults_and_their_descriptions(package):
    found = {s.name: s for s in settings_of(package, "nets:ByAttributes")}
    assert list(found) == ["depth", "width", "kind", "flag", "shared", "detector"]
    text = "How deep it is, and how wide in channels."
    assert found["depth"] == Setting("depth", "3", "int", text)
    assert found["width"] == Setting("width", "0.5", "float", text)
    assert found["kind"] == Setting("kind", "'a'", "str", '"a" or "b".')
    assert found["flag"].description == ""
    assert found["shared"].default == "2"
    assert found["detector"].description == "What finds peaks."
    assert f"{package}.nets" not in sys.modules


def test_parameters_of_init(package):
    assert settings_of(package, "nets:ByInit") == [
        Setting("depth", "2"),
        Setting("width", "1.5", "float"),
    ]


def test_a_class_that_is_imported_from_elsewhere(package):
    assert settings_of(package, "nets:Moved") == [Setting("a", "1", "int")]


@pytest.mark.parametrize(
    "target", ["nets:by_function", "nets:Absent", "broken:Net", "absent:Net", "nets:no_such"]
)
def test_what_cannot_be_told_is_not_guessed(package, target):
    assert settings_of(package, target) is None


def test_the_listing_of_our_models_imports_no_framework():
    code = (
        "import sys; from dpk_core.cli.app import app\n"
        "try: app(['train', '--model', 'stackeddensenet', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "growth_rate\t48\tint" in done.stdout


def test_the_command_lists_models_and_suggests_the_nearest():
    result = CliRunner().invoke(app, ["models"])
    assert "StackedDenseNet" in result.output
    result = CliRunner().invoke(app, ["models", "StackedDensNet"])
    assert result.exit_code == 1
    assert "did you mean 'StackedDenseNet'" in result.output
    result = CliRunner().invoke(app, ["train", "--help", "--model=StackedDensNet"])
    assert result.exit_code == 0
    assert "did you mean 'StackedDenseNet'" in result.output
