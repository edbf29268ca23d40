"""Other programs' readers behind our interface: OpenCV's ArUco module and AprilTag."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpk_core.errors import MissingDependencyError, ValidationError
from dpk_trackers.barcodes.dictionary import TagDictionary, rotations
from dpk_trackers.barcodes.readers import Readings, TagReader

APRILTAG_FAMILIES = {
    "tag16h5": "DICT_APRILTAG_16h5",
    "tag25h9": "DICT_APRILTAG_25h9",
    "tag36h10": "DICT_APRILTAG_36h10",
    "tag36h11": "DICT_APRILTAG_36h11",
}
"""Families of the AprilTag project that OpenCV has the codes of."""


class ArucoReader(TagReader):
    """``cv2.aruco.ArucoDetector`` for any of our dictionaries.

    Its corners are in our convention: whole numbers are centres of pixels (seen on a painted tag,
    OpenCV 4.9 to 4.11). Its outlines run through the outermost dark pixels, so that without
    refinement corners lie up to half a pixel inside.

    Parameters
    ----------
    dictionary
        What tags there are.
    **options
        Fields of ``cv2.aruco.DetectorParameters``, such as ``adaptiveThreshWinSizeMax=33`` or
        ``cornerRefinementMethod=cv2.aruco.CORNER_REFINE_SUBPIX``.
    """

    def __init__(self, dictionary: TagDictionary, **options: Any) -> None:
        super().__init__(dictionary)
        import cv2

        parameters = cv2.aruco.DetectorParameters()
        for name, value in options.items():
            if not hasattr(parameters, name):
                known = [entry for entry in dir(parameters) if not entry.startswith("_")]
                raise ValidationError(f"aruco: expected one of {', '.join(known)}, found {name!r}")
            setattr(parameters, name, value)
        self._detector = cv2.aruco.ArucoDetector(dictionary.to_opencv(), parameters)

    def _read(self, gray: np.ndarray) -> Readings:
        import cv2

        if min(gray.shape) < 8:  # its thresholds need some pixels; no tag fits anyway
            return Readings.none()
        try:
            corners, found, _ = self._detector.detectMarkers(gray)
        except cv2.error as error:
            raise ValidationError(f"aruco: OpenCV cannot read this frame: {error}") from error
        if found is None or not len(found):
            return Readings.none()
        ids = self.dictionary.ids[np.asarray(found).ravel()]
        places = np.concatenate(corners).reshape(-1, 4, 2).astype(np.float64)
        # It says nothing about how sure it is.
        return Readings(ids, places, np.ones(len(ids)), np.ones(len(ids)))


class AprilTagReader(TagReader):
    """The AprilTag project's detector, for dictionaries whose codes are one of its families.

    Its corners count from the corner of the top-left pixel, run counter-clockwise, and begin at
    the bottom-left of its own pictures (AprilTag 3, ``apriltag.h``, ``apriltag_detection_t``).
    OpenCV's pictures, which `TagDictionary.predefined` gives, are those turned by half; here
    corners are as everywhere, and upright is what the dictionary says (seen on a painted tag,
    pyapriltags 3.4.3).

    Parameters
    ----------
    dictionary
        ``TagDictionary.predefined("DICT_APRILTAG_36h11")``, ``..._25h9``, ``..._16h5`` or
        ``..._36h10``, or some ids of one.
    **options
        Of ``pyapriltags.Detector``: ``nthreads``, ``quad_decimate``, ``quad_sigma``,
        ``refine_edges``, ``decode_sharpening``. ``quad_decimate`` is 1 here unless given.

    Raises
    ------
    MissingDependencyError
        When pyapriltags is not installed.
    ValidationError
        When the dictionary is not of one of its families.
    """

    def __init__(self, dictionary: TagDictionary, **options: Any) -> None:
        super().__init__(dictionary)
        try:
            import pyapriltags
        except ImportError as error:
            raise MissingDependencyError(
                "the reader 'apriltag' needs pyapriltags: pip install dpk-trackers[apriltag]"
            ) from error
        family, self._turn, self._ids = _family(dictionary)
        known = ("nthreads", "quad_decimate", "quad_sigma", "refine_edges", "decode_sharpening")
        for name in options:
            if name not in known:
                raise ValidationError(
                    f"apriltag: expected one of {', '.join(known)}, found {name!r}"
                )
        options = {"quad_decimate": 1.0, "nthreads": 2, **options}
        self._detector = pyapriltags.Detector(families=family, **options)

    def _read(self, gray: np.ndarray) -> Readings:
        if min(gray.shape) < 8:
            return Readings.none()
        found = [tag for tag in self._detector.detect(gray) if tag.tag_id in self._ids]
        if not found:
            return Readings.none()
        places = np.array([tag.corners for tag in found])[:, ::-1] - 0.5
        places = np.roll(places, 2 - self._turn, axis=1)
        sure = np.array([tag.decision_margin for tag in found], float) / 255
        right = np.array([1 - tag.hamming / self.dictionary.n**2 for tag in found])
        ids = np.array([self._ids[tag.tag_id] for tag in found])
        return Readings(ids, places, right, np.clip(sure, 0, 1))


def _family(dictionary: TagDictionary) -> tuple[str, int, dict[int, int]]:
    """The family that has all codes, the turn of its corners, and ids there -> ids here."""
    for family, name in APRILTAG_FAMILIES.items():
        if dictionary.rings != "single":
            break
        theirs = TagDictionary.predefined(name)
        if theirs.n != dictionary.n:
            continue
        known = {code.tobytes(): i for i, code in enumerate(theirs.codes)}
        for turn, turned in enumerate(rotations(dictionary.codes)):
            numbers = [known.get(np.ascontiguousarray(code).tobytes()) for code in turned]
            found = [number for number in numbers if number is not None]
            if len(found) == len(numbers):
                return family, turn, dict(zip(found, dictionary.ids.tolist(), strict=True))
    raise ValidationError(
        f"apriltag: expected a dictionary of one of {', '.join(APRILTAG_FAMILIES)} "
        f"(TagDictionary.predefined), found {dictionary!r}"
    )
