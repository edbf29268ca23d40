"""The workflow: sample, train, evaluate, predict, render; plain functions over the services.

Nothing here prints or parses a command line. Long work tells of itself through a callback, see
`dpk_core.workflow.progress`.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Evaluation": "dpk_core.workflow.evaluate",
    "Prediction": "dpk_core.workflow.predict",
    "Progress": "dpk_core.workflow.progress",
    "Sampling": "dpk_core.workflow.sample",
    "Training": "dpk_core.workflow.train",
    "Suggestions": "dpk_core.workflow.suggest",
    "add_suggestions": "dpk_core.workflow.suggest_add",
    "describe_file": "dpk_core.workflow.describe",
    "Rendering": "dpk_core.workflow.render",
    "evaluate_model": "dpk_core.workflow.evaluate",
    "merge_sets": "dpk_core.workflow.merge",
    "predict_video": "dpk_core.workflow.predict",
    "render_video": "dpk_core.workflow.render",
    "run_demo": "dpk_core.workflow.demo",
    "sample_videos": "dpk_core.workflow.sample",
    "suggest_frames": "dpk_core.workflow.suggest",
    "train_model": "dpk_core.workflow.train",
}

__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'dpk_core.workflow' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value
