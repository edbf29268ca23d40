"""Motion: keypoints that jump between frames."""

from __future__ import annotations

import numpy as np

from dpk_core.checks import as_array


def speed(
    keypoints: np.ndarray, frames: np.ndarray, track_ids: np.ndarray | None = None
) -> np.ndarray:
    """Pixels a frame that each keypoint moved since the row before it of the same track.

    A wrong keypoint in one frame shows there and in the frame after.

    Parameters
    ----------
    keypoints
        (n, k, 2) pixels, NaN missing.
    frames
        (n,) numbers of the frames, in any order. Where some are missing between two rows, the way
        is divided by their distance.
    track_ids
        (n,) of whom each row is. Default: one animal.

    Returns
    -------
    np.ndarray
        (n, k) float64; NaN where there is no row before, or a keypoint is missing.

    References
    ----------
    "jump" in Nath et al. 2019, Nature Protocols 14:2152 (there with a fixed threshold in pixels);
    Graving et al. 2019, eLife 8:e47994, Appendix 3 (temporal derivatives find outliers).

    Examples
    --------
    >>> points = np.array([[[0.0, 0]], [[3, 4]], [[3, 10]]])
    >>> speed(points, np.array([0, 1, 3])).ravel().tolist()
    [nan, 5.0, 3.0]
    """
    keypoints, frames = _checked(keypoints, frames)
    before, _ = neighbours(frames, track_ids)
    return np.linalg.norm(_velocity(keypoints, frames, before), axis=2)


def acceleration(
    keypoints: np.ndarray, frames: np.ndarray, track_ids: np.ndarray | None = None
) -> np.ndarray:
    """Change of velocity at each row, pixels a frame squared: the second difference.

    A keypoint that is wrong in a single frame has it highest just there.

    Parameters
    ----------
    keypoints, frames, track_ids
        As for `speed`.

    Returns
    -------
    np.ndarray
        (n, k) float64; NaN where a neighbour, or the keypoint in one of the three, is missing.

    References
    ----------
    Graving et al. 2019, eLife 8:e47994, Appendix 3. Differences over uneven distances: Fornberg
    1988, Mathematics of Computation 51:699.

    Examples
    --------
    >>> points = np.array([[[0.0, 0]], [[1, 0]], [[9, 0]], [[3, 0]]])
    >>> acceleration(points, np.arange(4)).ravel().tolist()
    [nan, 7.0, 14.0, nan]
    """
    keypoints, frames = _checked(keypoints, frames)
    before, after = neighbours(frames, track_ids)
    arriving = _velocity(keypoints, frames, before)
    leaving = np.full_like(arriving, np.nan)
    known = after >= 0
    leaving[known] = arriving[after[known]]
    span = np.full(len(frames), np.nan)
    both = known & (before >= 0)
    span[both] = (frames[after[both]] - frames[before[both]]) / 2
    return np.linalg.norm((leaving - arriving) / span[:, None, None], axis=2)


def neighbours(
    frames: np.ndarray, track_ids: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) rows before and after each row in time, of the same track; -1 for none.

    Rows that share frame and track can't be told apart, so they have no neighbours.
    """
    n = len(frames)
    tracks = np.zeros(n, np.int64) if track_ids is None else np.asarray(track_ids)
    order = np.lexsort((frames, tracks))
    same = tracks[order][1:] == tracks[order][:-1]
    twice = same & (frames[order][1:] == frames[order][:-1])
    doubtful = np.zeros(n, bool)
    doubtful[order[1:][twice]] = doubtful[order[:-1][twice]] = True
    linked = same & ~doubtful[order[1:]] & ~doubtful[order[:-1]]
    before, after = np.full(n, -1), np.full(n, -1)
    before[order[1:][linked]] = order[:-1][linked]
    after[order[:-1][linked]] = order[1:][linked]
    return before, after


def _velocity(keypoints: np.ndarray, frames: np.ndarray, before: np.ndarray) -> np.ndarray:
    velocity = np.full(keypoints.shape, np.nan)
    known = before >= 0
    way = keypoints[known] - keypoints[before[known]]
    velocity[known] = way / (frames[known] - frames[before[known]])[:, None, None]
    return velocity


def _checked(keypoints: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keypoints = as_array("keypoints", keypoints, np.float64, ("n", "k", 2))
    return keypoints, as_array("frames", frames, np.int64, (len(keypoints),))
