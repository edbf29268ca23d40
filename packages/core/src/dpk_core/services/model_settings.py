"""The hyperparameters of a model, read from its source: no framework is imported.

A listing has to be there in a moment, and importing Keras takes seconds. What a class says of
itself stands in its source: attributes with defaults, and the docstring's section "Parameters".
"""

from __future__ import annotations

import ast
import importlib.util
import re
import textwrap
from pathlib import Path

import attrs

from dpk_core.specs import Spec

_NOT_SETTINGS = ("self", "source", "generator")
_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)


@attrs.frozen
class Setting:
    """A hyperparameter: its name, default and type as written in the source, and what it does."""

    name: str
    default: str
    kind: str = ""
    description: str = ""


def read_settings(spec: Spec) -> list[Setting] | None:
    """The hyperparameters of a model plugin's class, its own first, then those it inherits.

    Gives None when they cannot be told from the source: the class is made in another way, or
    there is no source.
    """
    module, _, name = spec.target.partition(":")
    found = _read(module, name, set())
    if found is None:
        return None
    by_name: dict[str, Setting] = {}
    for setting in found:
        by_name.setdefault(setting.name, setting)
    return list(by_name.values())


def _read(module: str, name: str, seen: set[tuple[str, str]]) -> list[Setting] | None:
    if (module, name) in seen:
        return []
    seen.add((module, name))
    tree = _parse(module)
    if tree is None:
        return None
    definition = next(
        (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None
    )
    if definition is None:
        elsewhere = _imports(tree, module).get(name)
        return None if elsewhere is None else _read(*elsewhere, seen)
    settings = _of_class(definition)
    places = _imports(tree, module)
    for base in definition.bases:
        if isinstance(base, ast.Name):
            settings += _read(*places.get(base.id, (module, base.id)), seen) or []
    return settings


def _parse(module: str) -> ast.Module | None:
    try:
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            return None
        return ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    except (ImportError, OSError, SyntaxError, ValueError):
        return None


def _imports(tree: ast.Module, module: str) -> dict[str, tuple[str, str]]:
    """Name in the module -> where it comes from, as (module, name)."""
    package = module.rpartition(".")[0]
    places = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        source = node.module or ""
        if node.level:
            parents = module.split(".")[: -node.level] if node.level > 1 else [package]
            source = ".".join([p for p in (*parents, source) if p])
        for alias in node.names:
            places[alias.asname or alias.name] = (source, alias.name)
    return places


def _of_class(definition: ast.ClassDef) -> list[Setting]:
    descriptions = _descriptions(ast.get_docstring(definition) or "")
    attributes = [n for n in definition.body if isinstance(n, ast.AnnAssign)]
    if attributes:
        pairs = [(n.target, n.value, n.annotation) for n in attributes]
    else:
        pairs = _init_parameters(definition)
    settings = []
    for target, value, annotation in pairs:
        name = getattr(target, "id", getattr(target, "arg", ""))
        kind = ast.unparse(annotation) if annotation is not None else ""
        default = _default(value)
        hidden = name.startswith("_") or name in _NOT_SETTINGS or kind.startswith("ClassVar")
        if not hidden and default is not None:
            settings.append(Setting(name, default, kind, descriptions.get(name, "")))
    return settings


def _init_parameters(definition: ast.ClassDef) -> list[tuple]:
    """(argument, default, annotation) of the parameters of ``__init__`` that have a default."""
    init = next(
        (n for n in definition.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"),
        None,
    )
    if init is None:
        return []
    arguments, defaults = init.args.args, init.args.defaults
    pairs = list(zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True))
    pairs += [(a, d) for a, d in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True) if d]
    return [(argument, default, argument.annotation) for argument, default in pairs]


def _default(value: ast.expr | None) -> str | None:
    """The default as text; None for a field without one, or one that is set later."""
    if value is None:
        return None
    if not (isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field")):
        return ast.unparse(value)
    given = {k.arg: k.value for k in value.keywords}
    init = given.get("init")
    if "default" not in given or (isinstance(init, ast.Constant) and init.value is False):
        return None
    return ast.unparse(given["default"])


def _descriptions(docstring: str) -> dict[str, str]:
    """What the section "Parameters" of a NumPy docstring says of each name, on one line."""
    sections = {m.group(1): m for m in _SECTION.finditer(docstring)}
    if "Parameters" not in sections:
        return {}
    start = sections["Parameters"].end()
    later = [m.start() for m in sections.values() if m.start() > start]
    section = docstring[start : min(later, default=len(docstring))]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section.strip("\n")):
        head, _, body = entry.partition("\n")
        text = " ".join(textwrap.dedent(body).split()).replace("`", "")
        for name in head.partition(":")[0].split(","):
            found[name.strip()] = text
    return found
