"""Criteria by name: what each gives for every row of poses, and how it says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np

from dpk_core.poses import Poses
from dpk_core.services.suggestions.autoregression import autoregressive_residuals
from dpk_core.services.suggestions.confidence import low_confidence
from dpk_core.services.suggestions.motion import acceleration, speed
from dpk_core.services.suggestions.outliers import robust_outliers, worst
from dpk_core.services.suggestions.ranks import ranks

_NOTABLE = 0.9
"""A row in the highest tenth of a criterion is told of it."""


@attrs.frozen(eq=False, repr=False)
class Criterion:
    """One criterion over all rows.

    Parameters
    ----------
    name
        As a user types it.
    values
        (n,) by which rows are ranked, higher first; NaN unknown.
    keypoints
        (n, k) of each keypoint, in the unit that ``text`` tells.
    standing
        (n, k) by which the keypoint to name is chosen: the highest.
    text
        With the fields ``keypoint`` and ``value``.
    """

    name: str
    values: np.ndarray
    keypoints: np.ndarray
    standing: np.ndarray
    text: str

    def reason(self, row: int, names: Sequence[str]) -> str:
        """Why this row, in words; empty when nothing is known."""
        if not np.isfinite(self.standing[row]).any():
            return ""
        j = int(np.nanargmax(self.standing[row]))
        return self.text.format(keypoint=names[j], value=self.keypoints[row, j])


def confidence(poses: Poses) -> Criterion:
    """See `dpk_core.services.suggestions.low_confidence`."""
    each = low_confidence(poses.scores)
    return Criterion(
        "confidence", each.mean(axis=1), 1 - each, each, "low scores, {keypoint} {value:.2f}"
    )


def entropy(each: np.ndarray) -> Criterion:
    """Of (n, k) from `dpk_core.services.suggestions.map_entropy`, NaN where maps were not made.

    Widths of peaks differ between keypoints, so each is compared with its own: the mean over
    keypoints of robust deviations above the median.
    """
    standing = robust_outliers(each)
    known = np.isfinite(standing).any(axis=1)
    values = np.full(len(each), np.nan)
    values[known] = np.nanmean(standing[known], axis=1)
    return Criterion("entropy", values, each, standing, "wide map, {keypoint} {value:.2f}")


def motion(name: str, text: str, compute: Callable[..., np.ndarray], poses: Poses) -> Criterion:
    """A criterion in pixels: the keypoint that lies farthest above its own median decides."""
    each = compute(poses.keypoints, poses.frames, poses.track_ids)
    standing = robust_outliers(each)
    return Criterion(name, worst(standing), each, standing, text)


MOTION = {
    "speed": (speed, "{keypoint} moved {value:.1f} px a frame"),
    "acceleration": (acceleration, "{keypoint} changed its way by {value:.1f} px"),
    "autoregression": (autoregressive_residuals, "{keypoint} {value:.1f} px from where expected"),
}
"""Criteria that need frames in the order of time."""


def reasons(
    criteria: Sequence[Criterion], rows: np.ndarray, names: Sequence[str]
) -> list[tuple[str, ...]]:
    """Why each row: of the criteria in whose highest tenth it is, or of its highest if in none."""
    if not criteria:
        return [()] * len(rows)
    standing = np.nan_to_num([ranks(c.values)[rows] for c in criteria]).T
    return [
        _reasons_of(criteria, int(row), place, names)
        for row, place in zip(rows, standing, strict=True)
    ]


def _reasons_of(
    criteria: Sequence[Criterion], row: int, standing: np.ndarray, names: Sequence[str]
) -> tuple[str, ...]:
    order = np.argsort(-standing, kind="stable")
    notable = [i for i in order if standing[i] >= _NOTABLE] or [order[0]]
    texts = (criteria[i].reason(row, names) for i in notable)
    return tuple(text for text in texts if text)
