"""What dpk-trackers brings."""

from __future__ import annotations

from dpk_core.hookspecs import hookimpl
from dpk_core.specs import CommandSpec, DetectorSpec, TrackerSpec


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
        DetectorSpec(
            "callable",
            "any Python function: function=package.module:function",
            "dpk_trackers.callable_detector:CallableDetector",
        ),
        DetectorSpec(
            "centroids",
            "a point for each animal, by a model trained with dpk train --target centroids",
            "dpk_trackers.centroid_detector:CentroidDetector",
        ),
        DetectorSpec(
            "keypoints",
            "the box around the keypoints that a pose model finds: one animal",
            "dpk_trackers.keypoint_detector:KeypointDetector",
        ),
        DetectorSpec(
            "onnx",
            "a network in an ONNX file: YOLO, Faster R-CNN and the like",
            "dpk_trackers.onnx_detector:OnnxDetector",
        ),
    ]


@hookimpl
def dpk_trackers() -> list[TrackerSpec]:
    return [
        TrackerSpec(
            "barcode",
            "who is who by their tags; doubtful readings count where that very tag is expected",
            "dpk_trackers.barcodes.tracking:BarcodeTracker",
            detector="barcode",
        ),
        TrackerSpec(
            "fixed_count",
            "a known number of animals: identities are never created or given up; swaps mended",
            "dpk_trackers.fixed_count:FixedCountTracker",
            shares=("count",),
        ),
        TrackerSpec(
            "kalman",
            "constant velocity, weak detections in a second stage, pieces joined, camera on demand",
            "dpk_trackers.kalman:KalmanTracker",
        ),
        TrackerSpec(
            "munkres",
            "linear assignment on positions (Graving et al. 2019)",
            "dpk_trackers.munkres:MunkresTracker",
        ),
    ]


@hookimpl
def dpk_commands() -> list[CommandSpec]:
    return [
        CommandSpec(
            "tags",
            "Make, look at, convert and print tags with 2-D barcodes.",
            "dpk_trackers.tags_command:app",
        )
    ]
