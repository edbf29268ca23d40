"""Head from tail: axes of bodies become headings, by how the animals move."""

from __future__ import annotations

import attrs
import numpy as np

from dpk_core.tracks import Tracks

_REACH = 2
"""Rows before and after one over which its motion is taken."""
_STILL = 0.01
"""Of a body length in a frame: what is slower says nothing."""
_PUSH = 4.0
"""What a body length forwards says, in terms of the squares of turns below."""
_TURN = 0.35
"""Radians that an animal may well turn in a frame."""
_MOST = 30.0
"""Cost of the largest turn: more than any motion says in a frame, less than that in many."""


def are_axes(angle: np.ndarray) -> bool:
    """Whether no angle lies outside of [-pi/2, pi/2]: whoever gave it knew no head from a tail."""
    return bool(np.nanmax(np.abs(angle), initial=0.0) <= np.pi / 2 + 1e-6)


def orient(tracks: Tracks, axes: bool | None = None) -> Tracks:
    """Turn angles that know no head to the side that the animal goes to.

    Of the two ways in which an axis can point, for each individual that sequence is chosen that
    turns least from row to row and in which the animal goes forwards on the whole (dynamic
    programming; Viterbi 1967). One that rests points as it did before; one that never went
    anywhere points to one side all the time.

    Parameters
    ----------
    tracks
        In any order.
    axes
        Whether angles are axes of bodies only; otherwise all stay as they are. Default: what
        `are_axes` says of them.

    Returns
    -------
    Tracks
        The same rows; angles in (-pi, pi], NaN where they were.

    Examples
    --------
    >>> walk = Tracks(range(4), [0] * 4, [30.0, 20, 10, 0], [5.0] * 4, [9.0] * 4, angle=[0.0] * 4)
    >>> orient(walk).angle.round(2).tolist()
    [3.14, 3.14, 3.14, 3.14]
    """
    if not (are_axes(tracks.angle) if axes is None else axes):
        return tracks
    angle = tracks.angle.copy()
    rows = np.flatnonzero(np.isfinite(tracks.angle) & np.isfinite(tracks.x + tracks.y))
    rows = rows[np.lexsort((tracks.frame[rows], tracks.id[rows]))]
    for part in np.split(rows, np.flatnonzero(np.diff(tracks.id[rows])) + 1):
        if len(part) > 1:
            turned = _which_end(tracks[part])
            angle[part] = np.angle(np.exp(1j * (angle[part] + np.pi * turned)))
    return attrs.evolve(tracks, angle=angle)


def _which_end(tracks: Tracks) -> np.ndarray:
    """(n,) 1 where the axis of one individual's row must be turned round, else 0."""
    forwards = _forwards(tracks)
    cost = np.stack([-forwards, forwards], axis=1)
    frames = np.diff(tracks.frame)
    turn = np.abs(np.angle(np.exp(1j * np.diff(tracks.angle))))
    stay, flip = (
        np.minimum((t / _TURN) ** 2, _MOST) / np.sqrt(frames) for t in (turn, np.pi - turn)
    )
    # Plain numbers: NumPy would take most of its time to find out that there are but two of them.
    ahead, back = cost[0].tolist()
    came = np.zeros((len(tracks), 2), np.int64)
    steps = zip(stay.tolist(), flip.tolist(), cost[1:].tolist(), strict=True)
    for i, (same, other, (costs_ahead, costs_back)) in enumerate(steps, start=1):
        came[i] = back + other < ahead + same, back + same < ahead + other
        ahead, back = (
            min(ahead + same, back + other) + costs_ahead,
            min(ahead + other, back + same) + costs_back,
        )
    found = np.empty(len(tracks), np.int64)
    found[-1] = back < ahead
    for i in range(len(tracks) - 1, 0, -1):
        found[i - 1] = came[i, found[i]]
    return found


def _forwards(tracks: Tracks) -> np.ndarray:
    """(n,) how much motion says that the axis points ahead; below 0, that it points back."""
    n = len(tracks)
    low, high = np.maximum(np.arange(n) - _REACH, 0), np.minimum(np.arange(n) + _REACH, n - 1)
    frames = tracks.frame[high] - tracks.frame[low]
    way_x, way_y = tracks.x[high] - tracks.x[low], tracks.y[high] - tracks.y[low]
    along = (np.cos(tracks.angle) * way_x + np.sin(tracks.angle) * way_y) / frames
    known = tracks.width[np.isfinite(tracks.width) & (tracks.width > 0)]
    length = float(np.median(known)) if len(known) else 25.0
    speed = along / length
    return _PUSH * np.sign(speed) * np.maximum(np.abs(speed) - _STILL, 0)
