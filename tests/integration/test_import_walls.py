"""Who may import whom: packages meet in core only, and core's floors import downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
OURS = {"dpk_core", "dpk_models", "dpk_trackers", "dpk_annotator", "dpk_io_formats"}
FLOORS = ("model", "services", "workflow", "cli")
MODEL_FLOOR_MAY_IMPORT = {"numpy", "attrs", "pluggy"}
HEAVY = ("keras", "tensorflow", "cv2", "sklearn", "matplotlib", "av", "imgaug", "h5py")


def imports(source: str, module: str) -> set[str]:
    """Absolute names of all modules that a source imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found.add(name)
            found.update(f"{name}.{alias.name}" for alias in node.names)
    return found


def sibling_violations(package: str, imported: set[str]) -> set[str]:
    allowed = {package, "dpk_core"}
    return {name for name in imported if name.split(".")[0] in OURS - allowed}


def floor_of(module: str) -> str:
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "cli"  # python -m dpk_core
    if len(parts) > 1 and parts[1] in (*FLOORS[1:], "testing"):
        return parts[1]
    return "model"


def floor_violations(module: str, imported: set[str]) -> set[str]:
    floor = floor_of(module)
    height = FLOORS.index("workflow") if floor == "testing" else FLOORS.index(floor)
    wrong = set()
    for name in imported:
        if not name.startswith("dpk_core."):
            continue
        other = floor_of(name)
        if other == "testing":
            if floor != "testing":
                wrong.add(name)
        elif FLOORS.index(other) > height:
            wrong.add(name)
    return wrong


def foreign_violations(imported: set[str]) -> set[str]:
    roots = {name.split(".")[0] for name in imported if name}
    return roots - MODEL_FLOOR_MAY_IMPORT - {"dpk_core"} - set(sys.stdlib_module_names)


def _modules():
    for path in sorted(PACKAGES.glob("*/src/**/*.py")):
        relative = path.relative_to(PACKAGES).parts[2:]
        module = ".".join(relative).removesuffix(".py").removesuffix(".__init__")
        yield pytest.param(path, module, id=module)


@pytest.mark.parametrize(("path", "module"), list(_modules()))
def test_walls(path, module):
    imported = imports(path.read_text(encoding="utf-8"), module)
    package = module.split(".")[0]
    assert not sibling_violations(package, imported)
    if package == "dpk_core":
        assert not floor_violations(module, imported)
        if floor_of(module) == "model":
            assert not foreign_violations(imported)


def test_the_checkers_can_fail():
    assert sibling_violations("dpk_models", {"dpk_trackers.x"}) == {"dpk_trackers.x"}
    assert floor_violations("dpk_core.poses", {"dpk_core.services.storage"})
    assert floor_violations("dpk_core.services.video.reader", {"dpk_core.workflow.train"})
    assert floor_violations("dpk_core.workflow.train", {"dpk_core.cli"})
    assert not floor_violations("dpk_core.cli.train", {"dpk_core.workflow.train"})
    assert foreign_violations({"h5py", "numpy", "json"}) == {"h5py"}
    assert imports("def f():\n    from . import poses", "dpk_core.tracks") >= {"dpk_core.poses"}


def _in_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("package", ["dpk_core", "dpk_models", "dpk_models.plugin"])
def test_importing_is_light(package):
    loaded = _in_new_process(
        f"import sys, {package}; print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert loaded == "[]"


def test_importing_core_is_quick():
    # Of the processor's time: what counts is the work to be done, not what else the machine does.
    clock = "time.process_time()"
    code = f"import time; t = {clock}; import dpk_core; print({clock} - t)"
    assert min(float(_in_new_process(code)) for _ in range(3)) < 0.3
