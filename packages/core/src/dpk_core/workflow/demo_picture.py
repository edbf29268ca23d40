"""The picture that the demo makes for a README: frames with what was found, and the way walked."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from dpk_core.poses import Poses
from dpk_core.services.drawing import MIN_SCORE, DrawStyle, draw_pose, draw_trails
from dpk_core.services.imaging import resize_image, scale_keypoints
from dpk_core.services.storage import atomic_path

_TILE = 360  # height of a frame in the picture, pixels
_GAP = 10
_TRAIL = 12
_EARLY, _LATE = np.array([68.0, 1.0, 84.0]), np.array([240.0, 190.0, 40.0])


def draw_picture(
    video: str | PathLike[str],
    poses: Poses,
    output: str | PathLike[str],
    *,
    n_frames: int = 4,
    overwrite: bool = False,
) -> None:
    """A row of frames with poses and short trails, then the way of the body in all frames.

    Frames are chosen evenly in time; each is the one nearby whose poses are the surest.

    Parameters
    ----------
    poses
        One row a frame.
    output
        A ``.png`` file.
    """
    import cv2

    from dpk_core.services.video import VideoReader

    with VideoReader(video) as reader:
        height, width = reader.shape[:2]
        size = (_TILE, round(_TILE * width / height))
        chosen = _choose(poses, n_frames)
        tiles = [_tile(reader[i], poses, i, size) for i in chosen]
        background = np.median(reader[:: max(1, len(reader) // 40)], axis=0).astype(np.uint8)
    tiles.append(_ways(background, poses, chosen, size))
    gap = np.full((_TILE, _GAP, 3), 255, np.uint8)
    row = [part for tile in tiles for part in (tile, gap)][:-1]
    picture = np.concatenate(row, axis=1)
    with atomic_path(output, overwrite=overwrite) as temporary:
        encoded, data = cv2.imencode(".png", picture[..., ::-1])
        assert encoded
        Path(temporary).write_bytes(data.tobytes())


def _choose(poses: Poses, n: int) -> list[int]:
    """Frame numbers: in each of n stretches the one with the highest lowest score."""
    stretches = np.array_split(np.arange(len(poses)), n)
    return [
        int(poses.frames[rows[np.argmax(poses.scores[rows].min(axis=1))]])
        for rows in stretches
        if len(rows)
    ]


def _tile(frame: np.ndarray, poses: Poses, number: int, size: tuple[int, int]) -> np.ndarray:
    canvas = resize_image(frame, size)
    style = DrawStyle(size=1.15)
    until = poses[(poses.frames > number - _TRAIL) & (poses.frames <= number)]
    keypoints = scale_keypoints(until.keypoints, frame.shape[:2], size)
    canvas = draw_trails(canvas, keypoints, poses.skeleton, style=style)
    return draw_pose(canvas, keypoints[-1], until.scores[-1], poses.skeleton, style=style)


def _ways(
    background: np.ndarray, poses: Poses, chosen: list[int], size: tuple[int, int]
) -> np.ndarray:
    """The way of the body over a pale image of the scene, dark to bright with time.

    The poses of the chosen frames stand along it.
    """
    import cv2

    gray = resize_image(background, size).mean(axis=2, keepdims=True).repeat(3, axis=2)
    canvas = np.clip(215 + 0.25 * (gray - gray.mean()), 0, 255).astype(np.uint8)
    keypoints = scale_keypoints(poses.keypoints, background.shape[:2], size).astype(np.float64)
    keypoints[poses.scores < MIN_SCORE] = np.nan
    known = np.isfinite(keypoints).all(axis=2)
    total = np.where(known[..., None], keypoints, 0).sum(axis=1)
    middle = np.rint(256 * total / np.maximum(known.sum(axis=1), 1)[:, None]).astype(int)
    there = known.any(axis=1)
    for i in np.flatnonzero(there[1:] & there[:-1]):
        color = (1 - i / len(poses)) * _EARLY + i / len(poses) * _LATE
        ends = middle[i].tolist(), middle[i + 1].tolist()
        cv2.line(canvas, *ends, color.tolist(), 2, cv2.LINE_AA, 8)
    for number in chosen:
        row = int(np.flatnonzero(poses.frames == number)[0])
        style = DrawStyle(size=0.75, opacity=0.9)
        canvas = draw_pose(canvas, keypoints[row], None, poses.skeleton, style=style)
    return canvas
