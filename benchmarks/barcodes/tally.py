"""What readers did on pictures with known truth, kept on disk as it grows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import ValidationError
from dpk_trackers.barcodes import Readings
from dpk_trackers.barcodes.synthetic import Scene

NEAR = 3.0
"""Pixels within which a reading's centre is that of a tag."""


@attrs.define
class Tally:
    """What one arm did on some pictures.

    Parameters
    ----------
    tags, right, wrong, false
        How many tags there were, how many of them were read, readings of a tag with another's id,
        and readings where no tag is.
    centre, corner
        Pixels from the truth of each that was read; of corners the mean of four.
    seconds
        Of each picture, by the clock.
    work
        The same of processor time, all threads together: what a busy machine does not change much.
    """

    tags: int = 0
    right: int = 0
    wrong: int = 0
    false: int = 0
    centre: list[float] = attrs.field(factory=list)
    corner: list[float] = attrs.field(factory=list)
    seconds: list[float] = attrs.field(factory=list)
    work: list[float] = attrs.field(factory=list)

    def add(self, scene: Scene, readings: Readings, seconds: float, work: float) -> None:
        self.tags += len(scene.ids)
        self.seconds.append(round(seconds, 4))
        self.work.append(round(work, 4))
        seen = np.zeros(len(scene.ids), bool)
        for reading in readings:
            apart = np.hypot(*(scene.centres - reading.centre).T)
            nearest = int(apart.argmin())
            if apart[nearest] > NEAR:
                self.false += 1
            elif scene.ids[nearest] != reading.id:
                self.wrong += 1
            elif not seen[nearest]:
                seen[nearest] = True
                self.centre.append(round(float(apart[nearest]), 4))
                corners = np.hypot(*(scene.corners[nearest] - reading.corners).T)
                self.corner.append(round(float(corners.mean()), 4))
        self.right += int(seen.sum())

    def plus(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, a.name) + getattr(other, a.name) for a in attrs.fields(Tally)))

    def row(self) -> str:
        centre = f"{np.mean(self.centre):7.3f}" if self.centre else "      -"
        corner = f"{np.mean(self.corner):7.3f}" if self.corner else "      -"
        return (
            f"{self.right / max(self.tags, 1):7.4f} {self.wrong:6d} {self.false:6d} {centre} "
            f"{corner} {1e3 * np.median(self.seconds):7.0f} {1e3 * np.min(self.seconds):7.0f} "
            f"{1e3 * np.median(self.work):7.0f}"
        )


class Log:
    """Results by name in a file of JSON lines: what was measured before is not measured again.

    Parameters
    ----------
    path
        The file; made when needed.
    settings
        What the results depend on; a file with others is an error.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        if path.exists():
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
            if not lines or lines[0] != settings:
                raise ValidationError(
                    f"{path} is of a run with other settings; remove it, or name another folder"
                )
            self._known = {line["name"]: line["result"] for line in lines[1:]}
        else:
            path.write_text(json.dumps(settings) + "\n", encoding="utf-8")

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The result of that name, measured now if it is not known."""
        if name not in self._known:
            self._known[name] = measure()
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"name": name, "result": self._known[name]}) + "\n")
        return self._known[name]
