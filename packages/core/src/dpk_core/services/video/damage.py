"""What is known of a video's damage, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs
import numpy as np

from dpk_core.errors import VideoError


@attrs.frozen
class VideoCheck:
    """What decoding a whole video found.

    Attributes
    ----------
    n_frames : frames in the container.
    n_readable : frames that decode without an error.
    readable : ranges (first, last) of frame numbers that decode, both included.
    problem : the first problem in words, or None for a sound video.
    """

    n_frames: int
    n_readable: int
    readable: tuple[tuple[int, int], ...]
    problem: str | None

    @property
    def ok(self) -> bool:
        """Whether every frame decodes and the file ends where it should."""
        return self.problem is None

    def __str__(self) -> str:
        if self.ok:
            return f"all {self.n_frames} frames decode"
        ranges = ", ".join(f"{a} to {b}" for a, b in self.readable) or "none"
        return (
            f"{self.n_readable} of {self.n_frames} frames decode ({ranges}); "
            f"first problem: {self.problem}"
        )


class DamageLog:
    """The frames of one video that are known not to decode; shared by all that read it."""

    def __init__(self, path: Path, n_frames: int, cut: str) -> None:
        self.careful = False  # one decoder thread from now on, so that errors are not misplaced
        self._path = path
        self._n_frames = n_frames
        self._reasons: dict[int, str] = {}
        self.cut = cut
        self.sound: set[int] = set()  # packets whose pictures came out of an undisturbed decoder

    def add(self, numbers: Iterable[int], reason: str) -> None:
        """Note frames that do not decode; the first reason given for each stays."""
        for number in numbers:
            self._reasons.setdefault(int(number), reason)

    def __contains__(self, number: int) -> bool:
        return number in self._reasons

    def reason(self, number: int) -> str:
        """Why this frame does not decode."""
        return self._reasons[number]

    def error(self, number: int) -> VideoError:
        """The error for a frame that does not decode."""
        first = last = number
        while first - 1 in self._reasons:
            first -= 1
        while last + 1 in self._reasons:
            last += 1
        lost = f"frame {first} does" if first == last else f"frames {first} to {last} do"
        before = f"frames 0 to {first - 1} of {self._n_frames} decode as far as they were read; "
        return VideoError(
            f"{self._path}: frame {number} cannot be read: {self._reasons[number]}. "
            f"{before if first else ''}{lost} not. VideoReader.check() lists all that can be read; "
            "VideoReader(..., strict=False) gives damaged frames as players show them"
        )

    def end_error(self, stop: int) -> VideoError:
        """The error at the end of a file that was cut short where nobody knows how long it was."""
        return VideoError(
            f"{self._path}: the video does not end after frame {stop - 1}, but nothing more can be "
            f"read: {self.cut}. Frames 0 to {stop - 1} are there: frames(stop={stop}) gives them "
            "without this error"
        )

    def report(self) -> VideoCheck:
        """The report, after every frame was decoded."""
        good = np.ones(self._n_frames, dtype=bool)
        good[sorted(self._reasons)] = False
        problem: str | None = self.cut or None
        if self._reasons:
            first = min(self._reasons)
            problem = f"frame {first}: {self._reasons[first]}"
        return VideoCheck(
            n_frames=self._n_frames,
            n_readable=int(good.sum()),
            readable=_ranges(good),
            problem=problem,
        )


def _ranges(good: np.ndarray) -> tuple[tuple[int, int], ...]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(np.int8), [0]])))
    return tuple(
        (int(first), int(end) - 1) for first, end in zip(edges[::2], edges[1::2], strict=True)
    )
