"""Whether the annotator's server stays small: its memory during an hour of labelling.

    python benchmarks/annotator/memory.py -o benchmarks/annotator/results/memory_2cores.txt

Serves 3000 images of 1024x1024 and a video of 3000 frames with `dpk annotate`, and labels at a
person's pace over HTTP, without a browser: images one after another with the next ones fetched
ahead, keypoints moved, undone and done again, strips of thumbnails, frames of the video, rows,
history, pauses in which the file is brought up to date, and an open stream of events. Once a
minute it notes the resident memory of the server and of its children. The line through the second
half of the minutes tells whether it grows.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import attrs
import av
import numpy as np
from machine import describe_machine
from page import serve, textured

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.lazy_images import LazyImages
from dpk_core.services.storage import atomic_path, write_annotations

SIDE, PICTURES, GROUP = 1024, 40, 250
STRIP = 24
_PAUSE = 20.0  # seconds without an edit, after which the file follows


def main() -> None:
    options = parse()
    lines = describe_machine()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        began = time.perf_counter()
        make(Path(folder), options.images, options.frames)
        lines += [
            f"set       {options.images} images of {SIDE}x{SIDE}x1; a video of {options.frames} "
            f"frames of {SIDE}x{SIDE}, H.264 (made in {time.perf_counter() - began:.0f} s)",
            f"labelling {options.minutes:g} minutes, something every {options.pace / 2:g} to "
            f"{options.pace * 3 / 2:g} s",
            "",
        ]
        print("\n".join(lines), flush=True)
        process, url = serve(Path(folder) / "labels.h5")
        try:
            samples, counts = label(url, process.pid, options)
        finally:
            process.terminate()
            process.wait(600)  # the file is brought up to date, which copies it
    found = [*(sample.line() for sample in samples), "", *summary(samples, counts)]
    print("\n".join(summary(samples, counts)))
    if options.output is not None:
        with atomic_path(options.output, overwrite=True) as temporary:
            text = "\n".join([*lines, Sample.head(), *found])
            Path(temporary).write_text(text + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pace", type=float, default=1.5, help="seconds for one thing, on average")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--folder", type=Path, help="where set and video go for the time (4 GB)")
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args()


# -- what is served -------------------------------------------------------------------------------


class Shifted(LazyImages):
    """(n, h, w, 1) images: some pictures over and over, each time moved on."""

    def __init__(self, pictures: np.ndarray, n: int) -> None:
        self._pictures = pictures
        self.shape = (n, *pictures.shape[1:])

    def image(self, row: int) -> np.ndarray:
        turn, picture = divmod(row, len(self._pictures))
        return np.roll(self._pictures[picture], 7 * turn, axis=(0, 1))


def make(folder: Path, n_images: int, n_frames: int) -> None:
    """A set with labels in its first half, and a video of the same pictures."""
    some = textured(PICTURES, SIDE)
    with av.open(str(folder / "film.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "28", "g": str(GROUP), "bf": "2"}
        for i in range(n_frames):
            gray = np.roll(some.images[i // GROUP % PICTURES], 3 * i, axis=1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(gray[..., 0], "gray")))
        file.mux(stream.encode(None))
    keypoints = np.tile(some.keypoints, (-(-n_images // PICTURES), 1, 1))[:n_images]
    keypoints[n_images // 2 :] = np.nan
    sources = tuple(Source("film.mp4", i) for i in range(n_images))
    images = Shifted(np.asarray(some.images), n_images)
    found = AnnotationSet(images, keypoints, some.skeleton, sources=sources)
    write_annotations(folder / "labels.h5", found)


# -- a person -------------------------------------------------------------------------------------


class Person:
    """Looks and labels over HTTP, as the page does."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address, self._root = parts.netloc, parts.path
        self._server = http.client.HTTPConnection(self._address, timeout=120)
        self._rng = np.random.default_rng(0)
        self.counts: dict[str, int] = {}
        found = self._json("GET", "api/set")
        self._n, self._names, self._set = found["n"], found["skeleton"]["names"], found["set_id"]
        self._revision, self._row, self._edits = found["revision"], 0, 0
        self._json("GET", "api/rows")
        video = self._json("GET", "api/videos")["videos"][0]["id"]
        self._video, self._frames = video, self._json("GET", f"api/videos/{video}")["n_frames"]
        threading.Thread(target=self._listen, daemon=True).start()

    def do_something(self) -> float:
        """One thing of those that a person does; how long it keeps them, in paces."""
        doing = {
            self.next_image: 40, self.move: 36, self.undo: 6, self.redo: 3, self.strip: 6,
            self.frame: 4, self.rows: 2, self.history: 2, self.rest: 1,
        }  # fmt: skip
        weights = np.array(list(doing.values()), float)
        what = list(doing)[self._rng.choice(len(doing), p=weights / weights.sum())]
        self.counts[what.__name__] = self.counts.get(what.__name__, 0) + 1
        what()
        return _PAUSE if what == self.rest else float(self._rng.uniform(0.5, 1.5))

    def next_image(self) -> None:
        near = self._rng.random() < 0.9
        self._row = (self._row + 1 if near else int(self._rng.integers(self._n))) % self._n
        self._json("GET", f"api/rows/{self._row}")
        for row in range(self._row, min(self._row + 4, self._n)):  # those behind it are ahead
            if row == self._row or self._rng.random() < 0.4:
                self._ask("GET", f"api/images/{row}?set={self._set}")

    def move(self) -> None:
        self._edits += 1
        x, y = self._rng.uniform(0, SIDE - 1, 2)
        keypoint = self._names[self._edits % len(self._names)]
        edit = {"kind": "move", "keypoint": keypoint, "x": float(x), "y": float(y)}
        self._change("edit", changes=[{"row": self._row, "edit": edit}])

    def undo(self) -> None:
        self._change("undo")

    def redo(self) -> None:
        self._change("redo")

    def strip(self) -> None:
        first = int(self._rng.integers(max(1, self._n - STRIP)))
        for row in range(first, min(first + STRIP, self._n)):
            self._ask("GET", f"api/thumbnails/{row}?set={self._set}")

    def frame(self) -> None:
        self._ask("GET", f"api/videos/{self._video}/frames/{self._rng.integers(self._frames)}")

    def rows(self) -> None:
        self._json("GET", "api/rows")

    def history(self) -> None:
        self._json("GET", "api/history?limit=100")

    def rest(self) -> None:
        """Think, or fetch coffee."""

    def _change(self, what: str, **more: Any) -> None:
        token = f"{what}-{sum(self.counts.values())}"
        body = {"client": "person-1", "base": self._revision, "token": token, **more}
        self._revision = self._json("POST", f"api/{what}", body).get("revision", self._revision)

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(self._ask(method, path, body))

    def _ask(self, method: str, path: str, body: Any = None) -> bytes:
        text = None if body is None else json.dumps(body)
        try:
            answer, content = self._send(method, path, text)
        except (http.client.RemoteDisconnected, ConnectionError):
            # Servers end connections that nothing came through for a while; edits have tokens.
            self._server.close()
            answer, content = self._send(method, path, text)
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {content[:500]!r}")
        return content

    def _send(
        self, method: str, path: str, text: str | None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self._server.request(method, self._root + path, text, {"content-type": "application/json"})
        answer = self._server.getresponse()
        return answer, answer.read()

    def _listen(self) -> None:
        listening = http.client.HTTPConnection(self._address)
        listening.request("GET", f"{self._root}api/events?client=person-1")
        stream = listening.getresponse()
        while line := stream.readline():
            if line.startswith(b"event: "):
                name = line[7:].decode().strip()
                self.counts[f"event {name}"] = self.counts.get(f"event {name}", 0) + 1


# -- what it takes --------------------------------------------------------------------------------


@attrs.frozen
class Sample:
    """What a process and its children have at a moment, sizes in MiB.

    Parameters
    ----------
    minute
        Since labelling began.
    resident
        Of the server.
    own
        Of that, what is no file's: heap and stacks.
    children
        Resident memory of all its children, of which there are ``n_children``.
    threads, files
        How many the server has, and has open.
    seconds
        Processor time of the server so far.
    """

    minute: float
    resident: float
    own: float
    children: float
    n_children: int
    threads: int
    files: int
    seconds: float

    @staticmethod
    def head() -> str:
        return "minute  server, MiB  of that heap  children, MiB  (n)  threads  files  CPU s"

    def line(self) -> str:
        return (
            f"{self.minute:6.1f}{self.resident:13.1f}{self.own:14.1f}{self.children:15.1f}"
            f"{self.n_children:5d}{self.threads:9d}{self.files:7d}{self.seconds:7.0f}"
        )


def label(url: str, pid: int, options: argparse.Namespace) -> tuple[list[Sample], dict[str, int]]:
    """Label for so long; a sample a minute."""
    person = Person(url)
    began = time.monotonic()
    samples = [measure(pid, 0.0)]
    print(f"{Sample.head()}\n{samples[0].line()}", flush=True)
    busy_until = began
    while len(samples) <= options.minutes:
        now = time.monotonic()
        if now - began >= 60 * len(samples):
            samples.append(measure(pid, (now - began) / 60))
            print(samples[-1].line(), flush=True)
        elif now >= busy_until:
            busy_until = now + options.pace * person.do_something()
        else:
            time.sleep(min(busy_until - now, 1.0))
    return samples, person.counts


def measure(pid: int, minute: float) -> Sample:
    """What a process takes now (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    children = _children(pid)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Sample(
        minute,
        _mib(status, "VmRSS"),
        _mib(status, "RssAnon"),
        sum(_resident(child) for child in children),
        len(children),
        int(re.search(r"Threads:\s+(\d+)", status)[1]),  # type: ignore[index]
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        (int(fields[11]) + int(fields[12])) / 100,
    )


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            own = [int(text) for text in (task / "children").read_text().split()]
        except OSError:  # the thread has ended meanwhile
            continue
        found += [child for each in own for child in (each, *_children(each))]
    return found


def _resident(pid: int) -> float:
    try:
        return _mib(Path(f"/proc/{pid}/status").read_text(), "VmRSS")
    except OSError:
        return 0.0


def _mib(status: str, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


def summary(samples: Sequence[Sample], counts: dict[str, int]) -> list[str]:
    """The line through the second half, and what was done."""
    done = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
    lines = [f"done: {done}"]
    late = [s for s in samples if s.minute >= samples[-1].minute / 2]
    for name, values in (
        ("server", [s.resident for s in late]),
        ("of that heap", [s.own for s in late]),
        ("with children", [s.resident + s.children for s in late]),
    ):
        slope, error = _slope([s.minute / 60 for s in late], values)
        lines.append(
            f"{name:<14}{values[-1]:8.1f} MiB at the end, at most {max(values):.1f}; second half: "
            f"{slope:+.1f} ± {error:.1f} MiB an hour"
        )
    return lines


def _slope(hours: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Of the least squares line, with its standard error; NaN where there are too few."""
    if len(values) < 3:
        return float("nan"), float("nan")
    x = np.asarray(hours) - np.mean(hours)
    slope = float(x @ np.asarray(values) / (x @ x))
    rest = np.asarray(values) - np.mean(values) - slope * x
    return slope, float(np.sqrt(rest @ rest / (len(values) - 2) / (x @ x)))


if __name__ == "__main__":
    main()
