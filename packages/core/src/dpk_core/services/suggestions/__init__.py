"""Which frames to label next: criteria over arrays, and choosing by them.

Each criterion is a function over arrays in a file of its own. `dpk_core.workflow.suggest` brings
them together with videos, labelled sets and models.
"""

from __future__ import annotations

from dpk_core.services.suggestions.autoregression import autoregressive_residuals
from dpk_core.services.suggestions.confidence import low_confidence
from dpk_core.services.suggestions.diversity import farthest_points
from dpk_core.services.suggestions.entropy import map_entropy
from dpk_core.services.suggestions.features import image_features, pose_features
from dpk_core.services.suggestions.motion import acceleration, speed
from dpk_core.services.suggestions.outliers import robust_outliers
from dpk_core.services.suggestions.ranks import rank_average, ranks
from dpk_core.services.suggestions.selection import select

__all__ = [
    "acceleration",
    "autoregressive_residuals",
    "farthest_points",
    "image_features",
    "low_confidence",
    "map_entropy",
    "pose_features",
    "rank_average",
    "ranks",
    "robust_outliers",
    "select",
    "speed",
]
