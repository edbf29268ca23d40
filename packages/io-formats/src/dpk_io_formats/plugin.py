"""What dpk-io-formats brings."""

from __future__ import annotations

from dpk_core.hookspecs import hookimpl
from dpk_core.specs import FormatSpec


@hookimpl
def dpk_formats() -> list[FormatSpec]:
    return [
        FormatSpec(
            "deeplabcut",
            "labelled frames of a DeepLabCut project (a folder with config.yaml)",
            "dpk_io_formats.deeplabcut:DeepLabCutFormat",
            reads=("annotations",),
        )
    ]
