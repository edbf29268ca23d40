"""Entropy of confidence maps, from the model itself: files of poses hold none."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.interfaces import Model
from dpk_core.services.engines import load_model
from dpk_core.services.plugins import registry
from dpk_core.services.suggestions import map_entropy
from dpk_core.specs import EngineSpec
from dpk_core.workflow.progress import Progress
from dpk_core.workflow.suggest_images import RowImages

MOST = 1000
"""Rows that the model looks at again at most, at equal distances: maps take as long as poses."""
_BATCH = 16


def entropy_of_rows(
    model: str | PathLike[str] | Model,
    images: RowImages,
    candidates: np.ndarray,
    notes: list[str],
    progress: Progress,
) -> np.ndarray:
    """(n, k) of each row of the poses, NaN for those that the model did not look at again.

    Raises
    ------
    ValidationError
        When the model has other keypoints than the poses.
    DpkError
        When it gives no confidence maps: exported models end in coordinates.
    """
    if not isinstance(model, Model):
        progress(0, None, "opening the model")
        model = _open_itself(Path(model))
    names = images.poses.skeleton.names
    if model.skeleton.names != names:
        raise ValidationError(
            f"the poses have the keypoints {', '.join(names)}; the model has "
            f"{', '.join(model.skeleton.names)}; give the model that found them"
        )
    rows = np.flatnonzero(candidates)
    if len(rows) > MOST:
        rows = rows[np.linspace(0, len(rows) - 1, MOST).astype(int)]
        notes.append(
            f"entropy is known of {MOST} frames at equal distances: the model had to look at them "
            "again"
        )
    found = np.full((len(images.poses), len(names)), np.nan)
    for start in range(0, len(rows), _BATCH):
        progress(start, len(rows), "looking at confidence maps")
        part = rows[start : start + _BATCH]
        maps = model.confidence_maps(np.stack([images.image(int(row)) for row in part]))
        found[part] = map_entropy(maps)
    progress(len(rows), len(rows), "looking at confidence maps")
    return found


def _open_itself(path: Path) -> Model:
    """The model with the engine that opens its file: what it is converted to for others may end in
    coordinates."""
    own = (
        spec.name
        for spec in registry().specs("engines")
        if isinstance(spec, EngineSpec) and path.suffix in spec.suffixes and spec.is_available
    )
    return load_model(path, next(own, "auto"))
