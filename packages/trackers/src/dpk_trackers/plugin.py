"""What dpk-trackers brings."""

from __future__ import annotations

from dpk_core.hookspecs import hookimpl
from dpk_core.specs import DetectorSpec


@hookimpl
def dpk_detectors() -> list[DetectorSpec]:
    return [
        DetectorSpec(
            "background",
            "what stands out from a ground that does not move; touching animals told apart",
            "dpk_trackers.background:BackgroundDetector",
        ),
        DetectorSpec(
            "barcode",
            "tags with 2-D barcodes, which say who is who",
            "dpk_trackers.barcode_detector:BarcodeDetector",
        ),
    ]
