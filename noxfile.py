"""What a person may want to do with this repository, one session each.

python -m pip install nox, then ``nox -s NAME``; ``nox -l`` lists them. Uses uv when it is there.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests"]

PACKAGES = ("core", "models", "trackers", "annotator", "io-formats")
BACKENDS = ("tensorflow", "jax", "torch")
BACKEND_TESTS = (
    "tests/backends",
    "tests/models/test_maps.py",
    "tests/models/test_peaks.py",
    "tests/models/test_prediction.py",
    "tests/models/test_saving.py",
    "tests/models/test_upsampling.py",
)
TEST_TOOLS = (
    "pytest", "pytest-xdist", "hypothesis", "shapely", "pandas", "tables", "pycocotools", "psutil",
    "hatchling", "uv", "playwright",
)  # fmt: skip


def _install_all(session: nox.Session, *more: str) -> None:
    """Our packages from this folder, all in one resolution, and what else is needed."""
    extras = {
        "core": "[train,onnx,openvino]",
        "models": "[onnx]",
        "trackers": "[apriltag]",
        "io-formats": "[movement]",
    }
    session.install(*(f"packages/{name}{extras.get(name, '')}" for name in PACKAGES), *more)
    # imaug asks for both builds of OpenCV, which overwrite each other's files. The one with windows
    # needs libGL, which a server may lack: the headless one has the last word
    # (imaug's bound on the version is the one here).
    session.install("--force-reinstall", "--no-deps", "opencv-python-headless<4.13")


@nox.session
def tests(session: nox.Session) -> None:
    """Install everything and run all tests; arguments after -- go to pytest."""
    _install_all(session, *TEST_TOOLS)
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "2", "-q"]))


@nox.session(venv_backend="virtualenv")
def backends(session: nox.Session) -> None:
    """The model tests on each of Keras' backends, on the CPU; arguments after -- name some only."""
    _install_all(session, *TEST_TOOLS, "jax")
    # By itself: pip takes a build for the CPU where there is one, others bring gigabytes of CUDA.
    session.install("torch==2.13.0")
    for backend in session.posargs or BACKENDS:
        session.run(
            "python", "-m", "pytest", "-n", "2", "-q", *BACKEND_TESTS,
            env={"KERAS_BACKEND": backend},
        )  # fmt: skip


@nox.session
def demo(session: nox.Session) -> None:
    """Install everything and do the main job on a video made here: dpk-demo/ has the results."""
    _install_all(session)
    session.run("dpk", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The speed here with every engine and precision; arguments after -- go to dpk bench."""
    _install_all(session)
    session.run("dpk", "bench", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting and types."""
    session.install("ruff", "mypy", "numpy>=2")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.install("packages/core")
    session.run("mypy", "--config-file", "pyproject.toml")


@nox.session
@nox.parametrize("package", [name for name in PACKAGES if name != "core"] + ["core"])
def isolated(session: nox.Session, package: str) -> None:
    """One package's wheel alone beside core's, in an environment of its own."""
    wheels = Path(session.create_tmp()).resolve()
    session.install("build")
    for name in {"core", package}:
        session.run("python", "-m", "build", "--wheel", "-o", str(wheels), f"packages/{name}")
    built = [str(path) for path in sorted(wheels.glob("*.whl"))]
    session.install(*built)
    session.run("python", "tests/isolated.py", package)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/ after running its examples."""
    _install_all(session, "mkdocs>=1.6", "mkdocs-material", "pytest")
    session.run("python", "-m", "pytest", "-q", "tests/docs")
    session.run("mkdocs", "build", "--strict")
