"""How long the labelling page takes from a key to the next image on the screen.

    python benchmarks/annotator/page.py --output benchmarks/annotator/results/page_2cores.txt

Serves a set of textured 1024x1024 images with `dpk annotate`, opens it in Chromium without a
window, presses keys, and measures in the browser from the key's time stamp to the first task after
the frame in which the new image was drawn.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import attrs
import numpy as np
from machine import describe_machine

from dpk_core.annotations import AnnotationSet
from dpk_core.services.storage import atomic_path, write_annotations
from dpk_core.skeleton import Skeleton

TARGET_MS = 50.0
N_KEYPOINTS = 32

# The page's policy allows no script but its own; what is evaluated from outside is no script of it.
_FORGET = "() => { globalThis.keyTimes.length = globalThis.frameTimes.length = 0; }"
_WATCH = """() => {
  const channel = new MessageChannel();
  const begun = [];
  globalThis.keyTimes = [];
  globalThis.frameTimes = [];
  new PerformanceObserver((list) => {
    for (const { name, duration } of list.getEntries()) {
      if (name === "keydown") globalThis.frameTimes.push(duration);
    }
  }).observe({ type: "event", durationThreshold: 16 });
  channel.port1.onmessage = () => {
    globalThis.keyTimes.push(performance.now() - begun.shift());
  };
  addEventListener("keydown", ({ timeStamp }) => {
    const before = dpk.row;
    const look = () => {
      const drawn = dpk.row !== before && dpk.stage.host.dataset.row === String(dpk.row);
      if (!drawn) { requestAnimationFrame(look); return; }
      begun.push(timeStamp);
      channel.port2.postMessage(0);
    };
    requestAnimationFrame(look);
  }, true);
}"""


@attrs.frozen
class Times:
    """Milliseconds of each press.

    Parameters
    ----------
    painted
        From the key's time stamp to the first task after the frame with the new image.
    frame
        The browser's own measure from the key to the next frame (Event Timing, in steps of 8 ms;
        what is quicker than 16 ms is not told).
    """

    painted: list[float]
    frame: list[float]


def main() -> None:
    options = parse()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.h5"
        write_annotations(path, textured(options.images, options.side))
        process, url = serve(path)
        try:
            found, version = measure(url, options)
        finally:
            process.terminate()
            process.wait(30)
    text = "\n".join([*machine, *table(found, version, options)])
    if options.output is not None:
        with atomic_path(options.output, overwrite=True) as temporary:
            Path(temporary).write_text(text + "\n", encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--presses", type=int, default=40)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def textured(n: int, side: int) -> AnnotationSet:
    """(n, side, side, 1) images with noise of several sizes, all keypoints labelled."""
    import cv2

    rng = np.random.default_rng(0)
    images = np.empty((n, side, side, 1), np.uint8)
    for image in images:
        total = np.zeros((side, side), np.float32)
        for size in (side // 64, side // 8, side):
            noise = rng.standard_normal((size, size), dtype=np.float32)
            total += cv2.resize(noise, (side, side)) * (1.0 if size < side else 0.15)
        image[..., 0] = cv2.normalize(total, None, 0, 255, cv2.NORM_MINMAX)
    keypoints = rng.uniform(0, side - 1, (n, N_KEYPOINTS, 2))
    names = tuple(f"keypoint {i}" for i in range(N_KEYPOINTS))
    return AnnotationSet(images, keypoints, Skeleton(names, range(-1, N_KEYPOINTS - 1)))


def serve(path: Path) -> tuple[subprocess.Popen[str], str]:
    command = "from dpk_core.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "annotate", str(path), "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "1000", "NO_COLOR": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if address := re.search(r"http://\S+/", line):
            return process, address[0]
    raise SystemExit("dpk annotate did not start")


def measure(url: str, options: argparse.Namespace) -> tuple[dict[str, Times], str]:
    """What was measured by what was done, and the browser's version."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("DPK_BROWSER") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(url)
        page.locator('#stage[data-row="0"]').wait_for()
        page.wait_for_timeout(3000)
        page.evaluate(_WATCH)
        found = {
            "next image, one a second": _press(page, ["l"] * options.presses, 1000),
            "next image, three a second": _press(page, ["l"] * options.presses, 333),
            "10 images on, one a second": _press(page, [">"] * (options.presses // 2), 1000),
            "an image not fetched before": _jump(page, options),
        }
        return found, browser.version


def _press(page: Any, keys: Sequence[str], pause: int) -> Times:
    page.evaluate(_FORGET)
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(pause)
    page.wait_for_timeout(1000)
    return Times(*page.evaluate("[globalThis.keyTimes, globalThis.frameTimes]"))


def _jump(page: Any, options: argparse.Namespace) -> Times:
    """By number, to images that are in nobody's cache."""
    times = []
    start = 2 * options.presses + 15
    for row in range(start, options.images - 12, 25):
        page.keyboard.press("/")
        page.keyboard.type(str(row))
        page.wait_for_timeout(300)
        page.evaluate(_FORGET)
        page.keyboard.press("Enter")
        page.locator(f'#stage[data-row="{row}"]').wait_for()
        page.wait_for_timeout(1500)
        times += page.evaluate("globalThis.keyTimes.slice(-1)")
    return Times(times, [])


def table(found: dict[str, Times], version: str, options: argparse.Namespace) -> list[str]:
    """A line for each way of going on; the ratio is of the 95th percentile to the target."""
    lines = [
        f"page      {options.side}x{options.side}x1, {options.images} images, {N_KEYPOINTS} "
        f"keypoints, 1920x1080, Chromium {version} without a window and without a GPU",
        f"target    {TARGET_MS:.0f} ms from the key to the painted frame",
        "",
        f"{'key to painted, ms':<30}{'n':>4}{'median':>9}{'p95':>8}{'most':>8}{'p95/target':>12}"
        f"{'frame, median':>15}{'p95':>6}",
    ]
    for name, times in found.items():
        middle, high = np.percentile(times.painted, [50, 95])
        line = (
            f"{name:<30}{len(times.painted):>4}{middle:>9.1f}{high:>8.1f}"
            f"{max(times.painted):>8.1f}{high / TARGET_MS:>12.2f}"
        )
        if times.frame:
            middle, high = np.percentile(times.frame, [50, 95])
            line += f"{middle:>15.0f}{high:>6.0f}"
        lines.append(line)
    return lines


if __name__ == "__main__":
    main()
