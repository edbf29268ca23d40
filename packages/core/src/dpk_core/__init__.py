"""dpk-core: the data, the interfaces and the workflow of dpk.

Names are imported when they are first used, so ``import dpk_core`` is quick and light.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "AnnotationSet": "dpk_core.annotations",
    "Source": "dpk_core.annotations",
    "Augmenter": "dpk_core.interfaces",
    "Dataset": "dpk_core.interfaces",
    "Detections": "dpk_core.detections",
    "Detector": "dpk_core.interfaces",
    "Model": "dpk_core.interfaces",
    "PeakDetector": "dpk_core.interfaces",
    "PoseFormat": "dpk_core.interfaces",
    "Sample": "dpk_core.interfaces",
    "Tracker": "dpk_core.interfaces",
    "DpkError": "dpk_core.errors",
    "LossReport": "dpk_core.losses",
    "Poses": "dpk_core.poses",
    "PoseStream": "dpk_core.streams",
    "Skeleton": "dpk_core.skeleton",
    "Task": "dpk_core.task",
    "Tracks": "dpk_core.tracks",
    "hookimpl": "dpk_core.hookspecs",
    "load_model": "dpk_core.services.engines",
    "TrainingGenerator": "dpk_core.services.generator",
    "VideoReader": "dpk_core.services.video",
    "VideoWriter": "dpk_core.services.video",
    "read_annotations": "dpk_core.services.storage",
    "read_poses": "dpk_core.services.storage",
    "read_tracks": "dpk_core.services.storage",
    "write_annotations": "dpk_core.services.storage",
    "write_poses": "dpk_core.services.storage",
    "write_tracks": "dpk_core.services.storage",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'dpk_core' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
