"""Films of tags that walk and are hidden for a second: whether each keeps its identity."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from arms import Arm, dictionaries
from tally import Log

from dpk_core.tracks import Tracks
from dpk_trackers.assignment import join
from dpk_trackers.barcode_detector import BarcodeDetector
from dpk_trackers.barcodes.synthetic import SceneSettings
from dpk_trackers.barcodes.synthetic_film import FilmFrame, FilmSettings, render_film
from dpk_trackers.barcodes.tracking import BarcodeTracker

SCENE = SceneSettings(size=(1024, 1024), count=30, side=18.0)
FILMS = {
    "clean": FilmSettings(scene=SCENE, frames=100),
    "soiled": FilmSettings(scene=attrs.evolve(SCENE, dirt=(0.0, 0.15)), frames=100),
}


@attrs.define
class Followed:
    """What became of all tags of some films.

    Parameters
    ----------
    visible, seen
        Tags in all frames that were to be seen, and how many of these have a row that is no more
        than half a tag's side away and not filled in.
    hidden, filled
        The same for those hidden, and rows that were filled in, wherever they lie.
    wrong
        Rows, not filled in, that lie elsewhere: another tag's, or none's.
    held, gaps
        Hidden stretches after which the tag has its identity again before 5 frames have passed,
        and all.
    seen_error, filled_error
        Sums of distances in pixels.
    """

    visible: int = 0
    seen: int = 0
    hidden: int = 0
    filled: int = 0
    wrong: int = 0
    held: int = 0
    gaps: int = 0
    seen_error: float = 0.0
    filled_error: float = 0.0

    def plus(self, other: Followed) -> Followed:
        return Followed(
            *(getattr(self, a.name) + getattr(other, a.name) for a in attrs.fields(Followed))
        )

    def row(self) -> str:
        return (
            f"{self.seen / self.visible:7.4f} {self.wrong:6d} {self.held:4d} of {self.gaps:3d} "
            f"{self.filled / self.hidden:8.3f} {self.seen_error / max(self.seen, 1):8.3f} "
            f"{self.filled_error / max(self.filled, 1):8.1f}"
        )


def film_table(arms: tuple[Arm, ...], films: int, seed: int, output: Path) -> list[str]:
    log = Log(output / "film.jsonl", {"part": "film", "seed": seed})
    first = FILMS["clean"]
    lines = [
        f"{films} films of {first.frames} frames, {SCENE.size[0]} x {SCENE.size[1]}, "
        f"{SCENE.count} tags of {SCENE.side:.0f} px, each hidden once for {first.hidden} frames",
        "seen: part of the visible; wrong: rows elsewhere; held: identities after hiding; filled:",
        "part of the hidden; errors of rows seen and filled in, in pixels",
        "",
    ]
    for kind, settings in FILMS.items():
        totals = [Followed() for _ in arms]
        for tags in dict.fromkeys(arm.tags for arm in arms):
            rows = [i for i, arm in enumerate(arms) if arm.tags == tags]
            for film in range(films):
                measure = functools.partial(
                    _follow_all, [arms[i] for i in rows], settings, seed + 800_000 + film
                )
                for i, one in zip(rows, log.get(f"{kind} {tags} {film}", measure), strict=True):
                    totals[i] = totals[i].plus(Followed(**one))
        lines += [
            f"{kind} tags",
            f"  {'reader':23s} {'tags':13s}    seen  wrong        held   filled    error    error",
        ]
        for arm, total in zip(arms, totals, strict=True):
            lines.append(f"  {arm.name:23s} {arm.tags:13s} {total.row()}")
        lines.append("")
    return lines


def _follow_all(arms: list[Arm], settings: FilmSettings, seed: int) -> list[dict[str, Any]]:
    """What became of the tags of one film with each arm; all of them read the same tags."""
    tags = dictionaries()[arms[0].tags]
    detectors = [BarcodeDetector(tags, reader=arm.reader, **arm.options) for arm in arms]
    trackers = [BarcodeTracker() for _ in arms]
    frames: list[FilmFrame] = []
    rows: list[list[Tracks]] = [[] for _ in arms]
    for number, frame in enumerate(render_film(tags, settings, seed)):
        for detector, tracker, mine in zip(detectors, trackers, rows, strict=True):
            mine.append(tracker.update(number, detector.detect(frame.scene.image)))
        without = attrs.evolve(frame.scene, image=np.zeros((0, 0), np.uint8))
        frames.append(attrs.evolve(frame, scene=without))
    return [
        attrs.asdict(_judge(frames, tracker.finish(join(mine)), settings))
        for tracker, mine in zip(trackers, rows, strict=True)
    ]


def _judge(frames: list[FilmFrame], tracks: Tracks, settings: FilmSettings) -> Followed:
    ids = frames[0].scene.ids
    centres = np.stack([frame.scene.centres for frame in frames])
    visible = np.stack([frame.visible for frame in frames])
    result = Followed(visible=int(visible.sum()), hidden=int((~visible).sum()))
    column = np.full(int(max(ids.max(), tracks.id.max(initial=0))) + 1, -1)
    column[ids] = np.arange(len(ids))
    column = column[tracks.id]
    places = np.column_stack([tracks.x, tracks.y])
    away = np.hypot(*(places - centres[tracks.frame, column]).T)
    away[column < 0] = np.inf
    near = away <= settings.scene.side / 2
    seen = ~tracks.interpolated
    right = seen & near & visible[tracks.frame, column]
    result.seen, result.seen_error = int(right.sum()), float(away[right].sum())
    result.wrong = int((seen & ~right).sum())
    filled = tracks.interpolated & (column >= 0) & ~visible[tracks.frame, column]
    result.filled, result.filled_error = int(filled.sum()), float(away[filled].sum())
    is_right = np.zeros(visible.shape, bool)
    is_right[tracks.frame[right], column[right]] = True
    for tag in range(len(ids)):
        back = int(np.flatnonzero(~visible[:, tag]).max(initial=0)) + 1
        result.gaps += 1
        result.held += bool(is_right[back : back + 5, tag].any())
    return result
