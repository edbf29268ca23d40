"""A real server, a real browser, and a hand that labels."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from dpk_core.annotations import AnnotationSet
from dpk_core.services.storage import read_annotations, write_annotations
from dpk_core.skeleton import Skeleton

pytest.importorskip("playwright", reason="playwright is not installed: no tests in a browser")

_SECONDS = 30_000


def _browser_path() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("DPK_BROWSER") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; skips where none is installed.

    Ends with its module: Playwright has a loop running in this thread as long as it lives, beside
    which other tests could not run loops of theirs.
    """
    from playwright.sync_api import sync_playwright

    path = _browser_path()
    if path is None:
        pytest.skip("no browser here: install chromium, or set DPK_BROWSER to one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@attrs.define
class Served:
    """A running ``dpk annotate``."""

    path: Path
    url: str
    process: subprocess.Popen[str]

    def row(self, row: int) -> dict[str, Any]:
        """What the server says of an image."""
        with urllib.request.urlopen(f"{self.url}api/rows/{row}") as answer:
            return json.load(answer)

    def point(self, row: int, name: str) -> list[Any]:
        """One keypoint: x, y, visibility, annotated."""
        return self.row(row)["points"][name]

    def stop(self) -> AnnotationSet:
        """End it as Ctrl-C does; gives what the file has then."""
        self.kill(signal.SIGINT)
        return read_annotations(self.path)

    def kill(self, sign: int = signal.SIGKILL) -> None:
        if self.process.poll() is None:
            self.process.send_signal(sign)
            self.process.wait(120)


@pytest.fixture
def serve(browser: Any) -> Iterator[Callable[..., Served]]:
    """Starts ``dpk annotate`` on a file; stopped when the test ends."""
    running: list[Served] = []

    def start(path: Path, *options: str) -> Served:
        command = "from dpk_core.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", command, "annotate", str(path), "--no-browser", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"COLUMNS": "1000", "NO_COLOR": "1"},
        )
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if address := re.search(r"http://\S+/", line):
                running.append(Served(path, address[0], process))
                return running[-1]
        raise AssertionError(f"the server did not start:\n{said}")

    yield start
    for served in running:
        served.kill()


class Hand:
    """What a person does in one tab."""

    def __init__(self, page: Any, served: Served) -> None:
        self.page = page
        self.served = served
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: self.problems.append(f"a dialog: {dialog.message}"))
        page.set_default_timeout(_SECONDS)

    def open(self) -> Hand:
        self.page.goto(self.served.url)
        return self.on_image()

    def on_image(self, row: int | None = None) -> Hand:
        """Wait until an image (this one) is on the stage and painted."""
        which = '[data-row]:not([data-row=""])' if row is None else f'[data-row="{row}"]'
        self.page.locator(f"#stage{which}").wait_for()
        return self.settled()

    def settled(self) -> Hand:
        """Wait until all that has changed in the page by now is painted and has its size."""
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
        )
        return self

    @property
    def row(self) -> int:
        return int(self.page.locator("#stage").get_attribute("data-row"))

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the image is on the page, in CSS pixels."""
        self.settled()  # notices that come and go make the stage smaller and larger
        left, top = self.page.evaluate(
            "([x, y]) => { const box = dpk.stage.image.getBoundingClientRect();"
            " const [u, v] = dpk.stage.view.toDevice(x, y);"
            " return [box.left + u * box.width / dpk.stage.image.width,"
            " box.top + v * box.height / dpk.stage.image.height]; }",
            [x, y],
        )
        return left, top

    def click(self, x: float, y: float, **options: Any) -> None:
        """Click on a place of the image."""
        self.page.mouse.click(*self.place(x, y), **options)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.place(*start))
        mouse.down()
        mouse.move(*self.place((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
        mouse.move(*self.place(*end))
        mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def saved(self) -> Hand:
        """Wait until all edits are on the disk."""
        self.page.locator('#save[data-status="saved"]').wait_for()
        assert self.page.evaluate("dpk.queue.waiting.length") == 0
        return self

    @property
    def active(self) -> str:
        return self.page.evaluate("dpk.activeName")

    def focused(self) -> str:
        """The id of the element that has the focus."""
        return self.page.evaluate("document.activeElement.id")


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Hand]]:
    """Opens a tab, in a browser of its own unless a context is given."""
    contexts: list[Any] = []
    hands: list[Hand] = []

    def open_one(served: Served, context: Any = None, wait: bool = True, **options: Any) -> Hand:
        if context is None:
            settings = {"viewport": {"width": 1280, "height": 720}} | options
            context = browser.new_context(**settings)
            contexts.append(context)
        hands.append(Hand(context.new_page(), served))
        return hands[-1].open() if wait else hands[-1]

    yield open_one
    problems = [problem for hand in hands for problem in hand.problems]
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    """Writes a set of noise: ``make_set(names=(...), n=4, size=(96, 128))``."""

    def make(
        names: tuple[str, ...] = ("nose", "earL", "earR", "tail"),
        n: int = 4,
        size: tuple[int, int] = (96, 128),
        images: np.ndarray | None = None,
        skeleton: Skeleton | None = None,
        **columns: Any,
    ) -> Path:
        if skeleton is None:
            swap = [names.index(o) if (o := _other_side(name)) in names else -1 for name in names]
            parent = [-1 if i == 0 else 0 for i in range(len(names))]
            skeleton = Skeleton(names, parent, swap)
        if images is None:
            rng = np.random.default_rng(3)
            images = rng.integers(0, 256, (n, *size, 1), np.uint8)
        keypoints = columns.pop("keypoints", None)
        if keypoints is None:
            keypoints = np.full((len(images), len(skeleton), 2), np.nan)
        path = tmp_path / "labels.h5"
        write_annotations(path, AnnotationSet(images, keypoints, skeleton, **columns))
        return path

    return make


def _other_side(name: str) -> str:
    return {"L": name[:-1] + "R", "R": name[:-1] + "L"}.get(name[-1], "")
