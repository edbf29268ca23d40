"""The readers that are compared, and the tags that they read."""

from __future__ import annotations

import functools
from typing import Any

import attrs
import cv2

from dpk_trackers.barcodes import TagDictionary

TUNED = {
    "adaptiveThreshWinSizeMin": 3,
    "adaptiveThreshWinSizeMax": 15,
    "adaptiveThreshWinSizeStep": 4,
    "minMarkerPerimeterRate": 0.01,
    "polygonalApproxAccuracyRate": 0.05,
    "perspectiveRemovePixelPerCell": 8,
    "cornerRefinementMethod": cv2.aruco.CORNER_REFINE_SUBPIX,
    "cornerRefinementWinSize": 2,
    "errorCorrectionRate": 1.0,
    "minDistanceToBorder": 1,
}
"""Of ArUco, the best found for small tags by hand on other scenes."""


@attrs.frozen
class Arm:
    """A reader, the tags that it reads, and what to call it."""

    name: str
    tags: str
    reader: str
    options: dict[str, Any] = attrs.field(factory=dict)


ARMS = (
    Arm("soft (ours)", "5x5 double", "soft"),
    Arm("ArUco, defaults", "5x5 double", "aruco"),
    Arm("ArUco, tuned", "5x5 double", "aruco", TUNED),
    Arm("ArUco, defaults", "DICT_5X5_100", "aruco"),
    Arm("ArUco, tuned", "DICT_5X5_100", "aruco", TUNED),
    Arm("AprilTag, defaults", "25h9", "apriltag", {"quad_decimate": 2.0}),
    Arm("AprilTag, full size", "25h9", "apriltag"),
    Arm("soft (ours)", "25h9", "soft"),
)

EMPTY_ARMS = tuple(ARMS[i] for i in (0, 2, 5, 7))
"""Those that look for false readings: ours, and of the others those that read most of such tags
in a bearable time."""
FILM_ARMS = (
    Arm("soft (ours)", "5x5 double", "soft"),
    Arm("soft, no doubtful ones", "5x5 double", "soft", {"doubtful": False}),
    Arm("ArUco, tuned", "5x5 double", "aruco", TUNED),
    Arm("AprilTag, full size", "25h9", "apriltag"),
    Arm("soft (ours)", "25h9", "soft"),
)
"""Those that follow tags in films; options are the detector's."""


@functools.cache
def dictionaries() -> dict[str, TagDictionary]:
    return {
        "5x5 double": TagDictionary.generate(5, distance=7, count=100, seed=0),
        "DICT_5X5_100": TagDictionary.predefined("DICT_5X5_100"),
        "25h9": TagDictionary.predefined("DICT_APRILTAG_25h9"),
    }
