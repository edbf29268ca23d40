"""Strangers' packages, installed beside ours in an environment of their own, work by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dpk_core import read_poses, write_poses
from dpk_core.testing import sample_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STRANGERS = ("third_party_model", "third_party_format")

TRAIN = """
    from dpk_core import TrainingGenerator
    from dpk_core.services.plugins import registry
    from dpk_core.testing import dot_annotations
    spec = registry().get("models", "tinynet")
    generator = TrainingGenerator(dot_annotations(8), augmenter=None)
    model = spec.load()(generator, filters=6)
    model.fit(batch_size=4, epochs=2)
    model.save("tiny.keras")
"""
LOAD = """
    import numpy as np
    from dpk_core.services.engines import load_model
    from dpk_core.testing import dot_annotations
    model = load_model("tiny.keras", engine="keras")
    print(type(model).__name__, model.filters, model.predict(dot_annotations(2).images).shape)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh environment that also sees the packages of this one; gives its Python."""
    folder = tmp_path_factory.mktemp("stranger") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    python = folder / scripts / Path(sys.executable).name
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.check_output([python, "-c", code], text=True).strip())
    # A .pth file's own .pth files are not followed: addsitedir also finds editable installs.
    ours = sysconfig.get_paths()["purelib"]
    (site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    _install(python)
    return python


def _install(python: Path) -> None:
    folders = [str(EXAMPLES / name) for name in STRANGERS]
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    options = ["--python", str(python), "--no-deps", "--no-build-isolation", "--quiet"]
    if Path(uv).exists():
        command = [uv, "pip", "install", *options, *folders]
    else:
        command = [
            sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps",
            "--no-build-isolation", "--quiet", *folders,
        ]  # fmt: skip
    subprocess.run(command, check=True)


def _run(python, folder, *arguments):
    done = subprocess.run(
        [python, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_found_trained_saved_and_loaded(environment, tmp_path):
    command = "from dpk_core.cli import main; main()"
    listing = _run(environment, tmp_path, "-c", command, "plugins")
    assert "TinyNet" in listing
    assert "dpk-tinynet 0.1.0" in listing
    _run(environment, tmp_path, "-c", textwrap.dedent(TRAIN))
    found = _run(environment, tmp_path, "-c", textwrap.dedent(LOAD))
    assert found.splitlines()[-1] == "TinyNet 6 (2, 3, 3)"


def test_a_format_is_found_and_converts(environment, tmp_path):
    write_poses(tmp_path / "walk.h5", sample_of("poses").read())
    command = "from dpk_core.cli import main; main()"
    there = _run(environment, tmp_path, "-c", command, "convert", "walk.h5", "walk.points")
    assert "dpk -> pointlist" in there
    back = _run(environment, tmp_path, "-c", command, "convert", "walk.points", "again.h5")
    assert "pointlist -> dpk" in back
    before, after = read_poses(tmp_path / "walk.h5"), read_poses(tmp_path / "again.h5")
    np.testing.assert_array_equal(after.keypoints, before.keypoints)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_its_own_test_passes(environment, tmp_path, stranger):
    shutil.copytree(EXAMPLES / stranger / "tests", tmp_path / "tests")
    _run(environment, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")


def test_this_environment_does_not_have_it():
    """Otherwise the tests above would show nothing."""
    code = "from dpk_core.services.plugins import registry; registry().get('models', 'TinyNet')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no models plugin named 'TinyNet'" in done.stderr
