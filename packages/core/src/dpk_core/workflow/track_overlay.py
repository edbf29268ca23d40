"""Draws tracks onto frames: boxes turned to the body axis, ids, trails."""

from __future__ import annotations

from collections import deque

import numpy as np

from dpk_core.services.drawing import DrawStyle, draw_box, draw_label, draw_trails
from dpk_core.services.imaging import scale_keypoints
from dpk_core.services.palette import number_color
from dpk_core.skeleton import Skeleton
from dpk_core.tracks import Tracks

_CENTER = Skeleton(("center",))
_FAINT = 0.45
"""Opacity of rows that were filled in."""


class TrackOverlay:
    """Paints the tracks of one frame after the other, remembering what trails need.

    Parameters
    ----------
    tracks
        In pixels of the video.
    source_size, size
        (height, width) of the video's frames and of the canvas.
    trail
        Frames before that a trail goes back.
    style
        Only its size is used: each individual has a colour of its own.
    """

    def __init__(
        self,
        tracks: Tracks,
        source_size: tuple[int, int],
        size: tuple[int, int],
        trail: int = 0,
        style: DrawStyle | None = None,
    ) -> None:
        order = np.argsort(tracks.frame, kind="stable")
        self._tracks = tracks[order]
        self._sizes = source_size, size
        self._trail = trail
        self._size = 1.0 if style is None else style.size
        self._names = {
            int(key): str(value) for key, value in tracks.provenance.get("track_names", {}).items()
        }
        self._past: deque[dict[int, np.ndarray]] = deque(maxlen=trail + 1)

    def look_back(self, start: int) -> None:
        """Fill the trails with what was before the first frame."""
        for number in range(max(0, start - self._trail), start):
            self._remember(self._rows(number))

    def count(self, number: int) -> int:
        """Rows of that frame."""
        return len(self._rows(number))

    def paint(self, canvas: np.ndarray, number: int) -> np.ndarray:
        """The canvas with what is in that frame; frames come in order."""
        rows = self._rows(number)
        self._remember(rows)
        for i in range(len(rows)):
            individual = int(rows.id[i])
            color = number_color(individual)
            style = DrawStyle(
                size=self._size,
                opacity=_FAINT if rows.interpolated[i] else 1.0,
                colors=np.array([color], np.uint8),
            )
            if self._trail:
                canvas = draw_trails(canvas, self._history(individual), _CENTER, style=style)
            corners = self._on_canvas(_corners(rows, i))
            canvas = draw_box(canvas, corners, color, axis=_has_angle(rows, i), style=style)
            place = np.nanmax(corners[:, 0]), np.nanmin(corners[:, 1])
            name = self._names.get(individual, str(individual))
            canvas = draw_label(canvas, name, place, color=color, style=style)
        return canvas

    def _rows(self, number: int) -> Tracks:
        low, high = np.searchsorted(self._tracks.frame, [number, number + 1])
        rows = self._tracks[low:high]
        return rows[np.flatnonzero(np.isfinite(rows.x) & np.isfinite(rows.y))]

    def _remember(self, rows: Tracks) -> None:
        centers = self._on_canvas(np.stack([rows.x, rows.y], axis=1))
        self._past.append(dict(zip(rows.id.tolist(), centers, strict=True)))

    def _history(self, individual: int) -> np.ndarray:
        nowhere = np.full(2, np.nan)
        return np.stack([past.get(individual, nowhere) for past in self._past])[:, None]

    def _on_canvas(self, points: np.ndarray) -> np.ndarray:
        return scale_keypoints(points, *self._sizes)


def _has_angle(rows: Tracks, i: int) -> bool:
    return bool(np.isfinite(rows.angle[i]))


def _corners(rows: Tracks, i: int) -> np.ndarray:
    """(4, 2) x, y of the turned box, from its front right corner on; the centre four times where
    it has no extent."""
    width, height = np.nan_to_num([rows.width[i], rows.height[i]])
    angle = np.nan_to_num(rows.angle[i])
    along = np.array([np.cos(angle), np.sin(angle)]) * width / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * height / 2
    center = np.array([rows.x[i], rows.y[i]])
    return center + np.stack([along + across, along - across, -along - across, -along + across])
