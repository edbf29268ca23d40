"""Loading plugins: a broken one is reported by name and takes nobody down."""

from __future__ import annotations

import importlib.metadata
import sys
import textwrap

import pytest

from dpk_core import hookspecs
from dpk_core.errors import PluginError, ValidationError
from dpk_core.services.plugins import Registry, registry
from dpk_core.specs import FormatSpec, ModelSpec, Spec

GOOD = """
from dpk_core import hookimpl
from dpk_core.specs import ModelSpec

@hookimpl
def dpk_models():
    return [ModelSpec("Good", "a model that is there", "json:JSONDecoder")]
"""
BROKEN = {
    "raises_at_import": "raise RuntimeError('no licence')",
    "exits_at_import": "import sys; sys.exit(3)",
    "syntax_error": "def (",
    "raises_in_the_hook": """
        from dpk_core import hookimpl
        @hookimpl
        def dpk_models():
            raise KeyError("forgot something")
        """,
    "returns_no_list": """
        from dpk_core import hookimpl
        @hookimpl
        def dpk_models():
            return "Good"
        """,
    "returns_the_wrong_spec": """
        from dpk_core import hookimpl
        from dpk_core.specs import TrackerSpec
        @hookimpl
        def dpk_models():
            return [TrackerSpec("t", "a tracker among models", "json:loads")]
        """,
    "takes_an_argument": """
        from dpk_core import hookimpl
        @hookimpl
        def dpk_models(config):
            return []
        """,
    "unknown_hook": """
        from dpk_core import hookimpl
        @hookimpl
        def dpk_modles():
            return []
        """,
}


@pytest.fixture
def make_registry(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**sources: str) -> Registry:
        points = []
        for name, source in sources.items():
            module = f"plugin_under_test_{name}"
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
            sys.modules.pop(module, None)
            points.append(importlib.metadata.EntryPoint(name, module, "dpk"))
        return Registry(points)

    return make


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_reported_and_the_good_one_works(make_registry, kind):
    found = make_registry(**{kind: BROKEN[kind], "good": GOOD})
    assert [plugin.name for plugin in found.failed] == [kind]
    assert found.failed[0].error
    assert found.get("models", "Good").name == "Good"
    assert found.get("models", "good").load() is not None


def test_the_cause_is_told(make_registry):
    found = make_registry(bad=BROKEN["raises_at_import"])
    assert "no licence" in found.failed[0].error
    with pytest.raises(PluginError, match="no licence"):
        found.get("models", "Anything")


def test_two_plugins_with_one_name_is_an_error_that_names_both(make_registry):
    found = make_registry(first=GOOD, second=GOOD.replace('"Good"', '"good"'))
    assert found.specs("models") == []
    with pytest.raises(PluginError, match="two plugins"):
        found.get("models", "Good")
    assert len(found.conflicts[("models", "good")]) == 2


def test_a_wrong_name_suggests_the_right_one(make_registry):
    with pytest.raises(PluginError, match="did you mean 'Good'"):
        make_registry(good=GOOD).get("models", "God")


def test_without_plugins_it_says_what_to_install(make_registry):
    with pytest.raises(PluginError, match="pip install dpk-models"):
        make_registry().get("models", "StackedDenseNet")


def test_our_packages_register_through_the_same_hooks():
    names = {plugin.name for plugin in registry().plugins}
    assert {"core", "models", "trackers", "annotator", "io-formats"} <= names
    assert registry().failed == []
    assert registry().conflicts == {}


def test_every_hook_has_a_docstring_of_one_sentence_and_a_spec():
    names = {name for name in vars(hookspecs) if name.startswith("dpk_")}
    assert names == set(hookspecs.HOOKS)
    for name, spec_type in hookspecs.HOOKS.items():
        doc = getattr(hookspecs, name).__doc__
        assert doc.strip().endswith(".")
        assert "\n" not in doc.strip()
        assert issubclass(spec_type, Spec)


def test_specs_are_checked():
    with pytest.raises(ValidationError, match="module:attribute"):
        ModelSpec("Name", "summary", "nocolon")
    with pytest.raises(ValidationError, match="one line"):
        ModelSpec("Name", "two\nlines", "a:b")
    with pytest.raises(ValidationError, match="name"):
        ModelSpec("a name", "summary", "a:b")
    with pytest.raises(ValidationError, match="reads"):
        FormatSpec("x", "summary", "a:b", reads=("labels",))


def test_a_target_that_is_not_there_says_so():
    with pytest.raises(PluginError, match=r"Gone.*json:Gone"):
        ModelSpec("Gone", "not there", "json:Gone").load()
