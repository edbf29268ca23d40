"""The annotator's server: opening a large set, edits, images, memory; each beside a reference.

python benchmarks/annotator/run.py -o benchmarks/annotator/results/server_2cores.txt
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dpk_annotator.edits import MoveKeypoint
from dpk_annotator.images import png, thumbnail
from dpk_annotator.store import Store
from dpk_core.annotations import AnnotationSet, Source
from dpk_core.services.storage import write_annotations
from dpk_core.skeleton import Skeleton

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import describe_machine

KEYPOINTS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="text file; default: the screen alone")
    parser.add_argument("--images", type=int, default=20_000, help="in the large set")
    parser.add_argument("--edits", type=int, default=6000, help="in its journal")
    parser.add_argument("--requests", type=int, default=3000, help="of images, for memory")
    arguments = parser.parse_args()
    lines = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        for part in (
            _opening(Path(folder), arguments.images, arguments.edits),
            _encoding(),
            _serving(Path(folder), arguments.requests),
        ):
            lines += ["", *part]
            print("\n".join(part), flush=True)
    if arguments.output is not None:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


# -- a large set ----------------------------------------------------------------------------------


def _opening(folder: Path, n: int, edits: int) -> list[str]:
    path = folder / "large.h5"
    _write_set(path, n, 64)
    lines = [f"A set of {n} images, {KEYPOINTS} keypoints (median of 5)"]

    def open_and_look() -> None:
        with Store.open(path, read_only=True) as store:
            store.image(n // 2)

    lines.append(_line("open, without a journal", _times(open_and_look, 5)))
    with Store.open(path, background=False) as store:
        names, took = store.skeleton.names, []
        for i in range(edits):
            edit = MoveKeypoint(names[i % KEYPOINTS], float(i % 60), 5.0)
            began = time.perf_counter()
            store.apply([(i % n, edit)], store.revision, "bench")
            took.append(time.perf_counter() - began)
        lines.append(_line("one edit, on disk (store alone)", took))
        lines.append(_line("  reference: append 200 bytes and fsync", _fsyncs(folder, 300)))
        lines.append(_line(f"open, {edits} edits not in the file yet", _times(open_and_look, 5)))
        began = time.perf_counter()
        store.save()
        lines.append(_line("bring the file up to date", [time.perf_counter() - began]))
    lines.append(_line(f"open, a journal of {edits} edits", _times(open_and_look, 5)))
    return lines


def _write_set(path: Path, n: int, side: int) -> None:
    rng = np.random.default_rng(0)
    skeleton = Skeleton(tuple(f"keypoint {i}" for i in range(KEYPOINTS)))
    keypoints = rng.uniform(0, side, (n, KEYPOINTS, 2))
    keypoints[n // 2 :] = np.nan
    images = np.stack([_picture(rng, side) for _ in range(min(n, 50))])
    sources = tuple(Source(f"video{i % 7}.mp4", i) for i in range(n))
    rows = np.arange(n) % len(images)
    write_annotations(path, AnnotationSet(images[rows], keypoints, skeleton, sources=sources))


def _picture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Like a camera's: shapes, uneven light, and noise in the last bits."""
    small = rng.uniform(60, 200, (6, 6)).astype(np.float32)
    light = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        centre = tuple(int(c) for c in rng.integers(0, side, 2))
        cv2.circle(light, centre, int(rng.integers(2, max(3, side // 12))), 30.0, -1)
    noisy = light + rng.normal(0, 2.5, (side, side))
    return noisy.clip(0, 255).astype(np.uint8)[..., None]


def _fsyncs(folder: Path, n: int) -> list[float]:
    took = []
    with (folder / "plain").open("ab") as file:
        for _ in range(n):
            began = time.perf_counter()
            file.write(bytes(200))
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return took


# -- images ---------------------------------------------------------------------------------------


def _encoding() -> list[str]:
    rng = np.random.default_rng(1)
    gray = _picture(rng, 1024)
    colour = np.concatenate([gray, np.roll(gray, 3, 0), np.roll(gray, 5, 1)], axis=2)
    lines = ["An image of 1024x1024 (median of 15)"]
    for name, image in (("gray", gray), ("colour", colour)):
        size = len(png(image)) / 2**20
        lines.append(_line(f"PNG, {name}, {size:.2f} MiB", _times(lambda i=image: png(i), 15)))
        for level in (3, 6):
            options = [cv2.IMWRITE_PNG_COMPRESSION, level]
            flat = image[..., 0] if name == "gray" else image
            took = _times(lambda f=flat, o=options: cv2.imencode(".png", f, o), 15)
            size = len(cv2.imencode(".png", flat, options)[1]) / 2**20
            lines.append(_line(f"  reference: level {level}, {size:.2f} MiB", took))
        lines.append(_line(f"thumbnail, {name}", _times(lambda i=image: thumbnail(i), 15)))
    return lines


# -- a server -------------------------------------------------------------------------------------


def _serving(folder: Path, requests: int) -> list[str]:
    path = folder / "served.h5"
    _write_set(path, 300, 1024)
    code = "from dpk_core.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "annotate", str(path), "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/\S+/)", process.stdout.readline())
    assert found is not None, "the server has not started"
    server = http.client.HTTPConnection("127.0.0.1", int(found[1]))
    lines = ["A server on 300 images of 1024x1024, over HTTP"]
    try:
        lines += _requests(server, found[2], requests, process.pid)
    finally:
        server.close()
        process.send_signal(signal.SIGINT)
        process.wait(60)
    return lines


def _requests(
    server: http.client.HTTPConnection, root: str, requests: int, process: int
) -> list[str]:
    def ask(method: str, path: str, body: Any = None) -> bytes:
        text = None if body is None else json.dumps(body)
        server.request(method, root + path, text, {"content-type": "application/json"})
        answer = server.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return content

    revision, edits = 0, []
    for i in range(300):
        edit = {"kind": "move", "keypoint": f"keypoint {i % KEYPOINTS}", "x": i, "y": 3}
        body = {"client": "bench", "base": revision, "token": f"t{i}"}
        body["changes"] = [{"row": i, "edit": edit}]
        began = time.perf_counter()
        revision = json.loads(ask("POST", "api/edit", body))["revision"]
        edits.append(time.perf_counter() - began)
    lines = [_line("edit, there and back", edits)]
    for name, path in (("all rows", "api/rows"), ("one row", "api/rows/5")):
        lines.append(_line(name, _times(lambda p=path: ask("GET", p), 20)))
    lines.append(
        _line("image, new", _times(_counting(lambda i: ask("GET", f"api/images/{i}")), 20))
    )
    lines.append(_line("image, again", _times(lambda: ask("GET", "api/images/19"), 20)))
    memory = []
    for i in range(requests):
        ask("GET", f"api/images/{(i * 7) % 300}")
        ask("GET", f"api/thumbnails/{i % 300}")
        if (i + 1) % max(1, requests // 6) == 0:
            memory.append(f"{i + 1}: {_resident(process):.0f} MiB")
    lines.append(f"  {'memory after images and thumbnails':44s} {', '.join(memory)}")
    return lines


def _counting(work: Callable[[int], Any]) -> Callable[[], Any]:
    numbers = iter(range(10**9))
    return lambda: work(next(numbers))


def _resident(process: int) -> float:
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return float("nan")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text())
    return int(found[1]) / 1024 if found else float("nan")


# -- small parts ----------------------------------------------------------------------------------


def _times(work: Callable[[], Any], n: int) -> list[float]:
    took = []
    for _ in range(n):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return took


def _line(name: str, took: list[float]) -> str:
    middle, late = np.median(took) * 1000, np.quantile(took, 0.95) * 1000
    return f"  {name:44s} {middle:9.2f} ms   (95 %: {late:.2f} ms)"


if __name__ == "__main__":
    main()
