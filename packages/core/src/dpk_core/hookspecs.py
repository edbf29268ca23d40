"""The hooks through which packages announce what they bring.

A plugin is a module named by an entry point in the group ``dpk``. It implements any of these with
``@dpk_core.hookimpl``. No hook takes an argument; each returns a list of frozen specs.
"""

from __future__ import annotations

import pluggy

from dpk_core.specs import (
    AugmenterSpec,
    CommandSpec,
    DetectorSpec,
    EngineSpec,
    FormatSpec,
    ModelSpec,
    PeakDetectorSpec,
    TrackerSpec,
)

ENTRY_POINT_GROUP = "dpk"
hookspec = pluggy.HookspecMarker("dpk")
hookimpl = pluggy.HookimplMarker("dpk")


@hookspec
def dpk_models() -> list[ModelSpec]:
    """Pose models that can be trained by name."""


@hookspec
def dpk_peak_detectors() -> list[PeakDetectorSpec]:
    """Ways to turn confidence maps into coordinates."""


@hookspec
def dpk_augmenters() -> list[AugmenterSpec]:
    """Ways to change training images and their keypoints together."""


@hookspec
def dpk_detectors() -> list[DetectorSpec]:
    """Ways to find animals in a frame."""


@hookspec
def dpk_trackers() -> list[TrackerSpec]:
    """Ways to follow individuals through a video."""


@hookspec
def dpk_formats() -> list[FormatSpec]:
    """File formats of other programs."""


@hookspec
def dpk_engines() -> list[EngineSpec]:
    """Loaders of trained model files."""


@hookspec
def dpk_commands() -> list[CommandSpec]:
    """Further commands of the ``dpk`` program."""


HOOKS: dict[str, type] = {
    "dpk_models": ModelSpec,
    "dpk_peak_detectors": PeakDetectorSpec,
    "dpk_augmenters": AugmenterSpec,
    "dpk_detectors": DetectorSpec,
    "dpk_trackers": TrackerSpec,
    "dpk_formats": FormatSpec,
    "dpk_engines": EngineSpec,
    "dpk_commands": CommandSpec,
}
"""Every hook with the type of spec that it returns."""
