"""dpk-models: pose estimation networks for dpk, on Keras 3.

Names are imported when they are first used: Keras and its backend take seconds to load.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "DeepLabCut": "dpk_models.deeplabcut",
    "Dark2D": "dpk_models.peaks",
    "LEAP": "dpk_models.leap",
    "Maxima2D": "dpk_models.peaks",
    "PoseModel": "dpk_models.base",
    "StackedDenseNet": "dpk_models.stacked_densenet",
    "StackedHourglass": "dpk_models.stacked_hourglass",
    "SubpixelMaxima2D": "dpk_models.peaks",
    "load_model": "dpk_models.saving",
    "pose_model": "dpk_models.base",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'dpk_models' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
