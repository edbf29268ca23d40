"""How long the page takes from the timeline to the frame on the screen, in a long H.264 video.

    python benchmarks/annotator/video.py --output benchmarks/annotator/results/video_2cores.txt

Makes a video of textured frames, 640x480 by default, with moving shapes (H.264 with B-frames, a
key frame every 250), serves it with `dpk annotate`, and goes to frames chosen at random, one by
one, dragging, and playing. Time is taken in the browser, from the call that the timeline makes to
the first task after the frame in which the picture was drawn. Beside it stand the parts: reading
the same frames with `VideoReader` alone, decoding the half of a group of pictures that a random
frame lies behind on average with PyAV alone, and making a JPEG. The processor time of a random
frame depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import cv2
import numpy as np
from machine import describe_machine
from page import serve

from dpk_annotator.images import jpeg
from dpk_core import VideoReader
from dpk_core.annotations import AnnotationSet, Source
from dpk_core.services.storage import atomic_path, write_annotations
from dpk_core.skeleton import Skeleton

TARGET_MS = 200.0
FPS, GROUP = 30, 250
SEGMENT = 8 * GROUP
_GO = """(frames) => new Promise((done) => {
  const { mode } = dpk.tabs.panels.find(({ id }) => id === "videos").view;
  const channel = new MessageChannel();
  const times = [];
  let begun = 0;
  const next = () => {
    if (times.length === frames.length) { done(times); return; }
    setTimeout(() => {
      begun = performance.now();
      mode.go(frames[times.length]);
      const look = () => requestAnimationFrame(() => {
        if (mode.painted === frames[times.length]) channel.port2.postMessage(0);
        else look();
      });
      look();
    }, PAUSE);
  };
  channel.port1.onmessage = () => { times.push(performance.now() - begun); next(); };
  next();
})"""
_DRAG = """([from, to, steps]) => new Promise((done) => {
  const { mode } = dpk.tabs.panels.find(({ id }) => id === "videos").view;
  const painted = [];
  mode.on("painted", () => painted.push(performance.now()));
  let step = 0;
  const move = () => {
    mode.go(Math.round(from + ((to - from) * step) / steps));
    step += 1;
    if (step <= steps) setTimeout(move, 16);
    else {
      const last = performance.now();
      const look = () => requestAnimationFrame(() => {
        if (mode.painted === to) done([painted, last, performance.now()]);
        else look();
      });
      look();
    }
  };
  move();
})"""
_PLAY = """(ms) => new Promise((done) => {
  const { mode } = dpk.tabs.panels.find(({ id }) => id === "videos").view;
  const seen = new Set();
  mode.on("painted", () => seen.add(mode.painted));
  mode.player.toggle();
  setTimeout(() => { mode.player.stop(); done(seen.size); }, ms);
})"""


def main() -> None:
    options = parse()
    lines = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        video = Path(folder) / "long.mp4"
        write_video(video, options.frames, options.size)
        size = video.stat().st_size / 2**20
        lines += [
            f"video     {options.frames} frames of {options.size[0]}x{options.size[1]}, H.264 with "
            f"B-frames, a key frame every {GROUP}, {size:.0f} MiB "
            f"(made in {time.perf_counter() - began:.0f} s)",
            f"target    {TARGET_MS:.0f} ms from the timeline to the painted frame",
            "",
            *reading(video, options),
            "",
        ]
        print("\n".join(lines), flush=True)
        write_set(Path(folder) / "labels.h5", options.size)
        process, url = serve(Path(folder) / "labels.h5")
        try:
            found = browsing(url, options)
        finally:
            process.terminate()
            process.wait(30)
    print("\n".join(found))
    if options.output is not None:
        with atomic_path(options.output, overwrite=True) as temporary:
            Path(temporary).write_text("\n".join([*lines, *found]) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--tries", type=int, default=60)
    parser.add_argument("--size", type=_size, default=(640, 480), help="WIDTHxHEIGHT")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


# -- what is looked at ----------------------------------------------------------------------------


def write_video(path: Path, n: int, size: tuple[int, int]) -> None:
    """So many frames of (width, height): a segment is encoded once, and its packets repeated."""
    segment = path.with_suffix(".segment.mp4")
    with av.open(str(segment), "w") as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "22", "g": str(GROUP), "sc_threshold": "0"}
        for image in _pictures(min(n, SEGMENT), size):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        file.mux(stream.encode(None))
    with av.open(str(segment)) as file, av.open(str(path), "w") as long:
        stream = file.streams.video[0]
        copy = long.add_stream_from_template(stream)
        packets = [packet for packet in file.demux(stream) if packet.dts is not None]
        tick = round(Fraction(1, FPS) / stream.time_base)
        stamps = [(packet.pts, packet.dts) for packet in packets]
        for begin in range(0, n, len(packets)):
            for packet, (pts, dts) in zip(packets, stamps, strict=True):
                if round(pts / tick) + begin >= n + len(packets):
                    continue
                packet.pts, packet.dts = pts + begin * tick, dts + begin * tick
                packet.stream = copy
                long.mux(packet)
    segment.unlink()


def _pictures(n: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    width, height = size
    ground = cv2.resize(rng.uniform(90, 170, (60, 80)).astype(np.float32), size)
    for i in range(n):
        image = ground + rng.normal(0, 3, ground.shape).astype(np.float32)
        for animal in range(5):
            angle = i / 40 + animal
            centre = (
                int(width * (0.5 + 0.39 * np.cos(angle * 0.9 + animal))),
                int(height * (0.5 + 0.375 * np.sin(angle))),
            )
            cv2.ellipse(
                image, centre, (width // 21, height // 40), np.degrees(angle), 0, 360, 30.0, -1
            )
        yield np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def write_set(path: Path, size: tuple[int, int]) -> None:
    images = np.zeros((1, size[1], size[0], 1), np.uint8)
    keypoints = np.full((1, 1, 2), np.nan)
    sources = (Source("long.mp4", 0),)
    write_annotations(path, AnnotationSet(images, keypoints, Skeleton(("body",)), sources=sources))


# -- the parts ------------------------------------------------------------------------------------


def reading(video: Path, options: argparse.Namespace) -> list[str]:
    began = time.perf_counter()
    with VideoReader(video) as reader:
        opened = time.perf_counter() - began
        assert len(reader) >= options.frames
        frames = _random(options)
        began_cpu = time.process_time()
        random = [_took(lambda f=f: reader[f]) for f in frames]
        processor = 1000 * (time.process_time() - began_cpu) / len(frames)
        steps = [_took(lambda f=f: reader[f]) for f in range(frames[-1] + 1, frames[-1] + 61)]
        back = [_took(lambda f=f: reader[f]) for f in range(frames[-1] - 100, frames[-1] - 160, -1)]
        image = reader[frames[0]]
    with av.open(str(video)) as file:
        stream = file.streams.video[0]
        stream.thread_type = "AUTO"
        half = [_took(lambda f=f: _decode_half(file, stream, f)) for f in frames[:20]]
    return [
        "without a browser                    median      p95      most  ms",
        _line("open the video", [opened * 1000]),
        _line("VideoReader, random frame", random) + f"   processor time, mean: {processor:.1f}",
        _line("  PyAV alone, half a group", half),
        _line("VideoReader, next frame", steps),
        _line("VideoReader, frame before", back),
        _line("JPEG of a frame", [_took(lambda: jpeg(image)) for _ in range(30)]),
    ]


def _decode_half(file: Any, stream: Any, frame: int) -> None:
    start = frame // GROUP * GROUP
    file.seek(round(start / FPS / stream.time_base), stream=stream)
    for n, _ in enumerate(file.decode(stream)):
        if n >= GROUP // 2:
            break


def _random(options: argparse.Namespace) -> list[int]:
    rng = np.random.default_rng(1)
    return [int(f) for f in rng.integers(1000, options.frames - 1000, options.tries)]


def _took(work: Any) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


# -- the page -------------------------------------------------------------------------------------


def browsing(url: str, options: argparse.Namespace) -> list[str]:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("DPK_BROWSER") or shutil.which("chromium")
    frames = _random(options)[::-1]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(url)
        page.locator('#stage[data-row="0"]').wait_for()
        page.locator("#tab-videos").click()
        page.locator(".video").click()
        page.locator('#film[data-frame="0"]').wait_for(timeout=120_000)
        page.wait_for_timeout(2000)
        one = page.evaluate(_GO.replace("PAUSE", "700"), frames)
        hasty = page.evaluate(_GO.replace("PAUSE", "0"), [f + 400 for f in frames])
        start = frames[0]
        steps = page.evaluate(_GO.replace("PAUSE", "60"), list(range(start, start + 60)))
        painted, last, there = page.evaluate(_DRAG, [2000, options.frames - 2000, 240])
        page.wait_for_timeout(2000)
        played = page.evaluate(_PLAY, 5000)
        version = browser.version
    return [
        f"in Chromium {version}, 1920x1080, without a window and without a GPU",
        "from the timeline to the screen      median      p95      most  ms",
        _line("random frame", one, TARGET_MS),
        _line("random frames, one after another", hasty, TARGET_MS),
        _line("next frame", steps, TARGET_MS),
        _line("between two paints, dragging", list(np.diff(painted))),
        _line("the last one, once the hand rests", [there - last], TARGET_MS),
        f"frames seen in 5 s of playing at {FPS} a second: {played}, of {5 * FPS}",
    ]


def _line(name: str, times: Sequence[float], target: float | None = None) -> str:
    middle, high = np.percentile(times, [50, 95])
    line = f"{name:<34}{middle:>9.1f}{high:>9.1f}{max(times):>10.1f}"
    return line if target is None else f"{line}   p95/target {high / target:.2f}"


if __name__ == "__main__":
    main()
