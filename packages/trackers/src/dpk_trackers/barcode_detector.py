"""Tags as detections: every animal says who it is."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import ValidationError
from dpk_core.interfaces import Detector
from dpk_trackers.barcodes import TagDictionary, make_reader


class BarcodeDetector(Detector):
    """Reads 2-D barcodes (Graving 2017, pinpoint); ids are those of the dictionary.

    Width and height of a detection are the side of its tag's black square; its angle is that of
    the tag's own x axis. Doubtful readings have a score below 0.4 (by default): `BarcodeTracker`
    takes them where that very tag is expected, and a tracker for any detections takes them for weak
    ones.

    Parameters
    ----------
    dictionary
        A file of tags (JSON, or pinpoint's master list), the name of one of OpenCV's, such as
        "DICT_4X4_50" or "DICT_APRILTAG_36h11", or a `TagDictionary`.
    reader
        "soft" (ours), "aruco" or "apriltag".
    ids
        Those in use; readings of others are left out. All tags of the dictionary are compared
        nevertheless, so that a stranger's tag is not taken for one of these. Default: all.
    doubtful
        Give doubtful readings, too; the reader "soft" alone knows them.
    options
        Of the reader.

    Raises
    ------
    ValidationError
        Without a dictionary, or on an option that the reader does not have.
    FileMissingError, FileFormatError
        About the dictionary's file.
    """

    def __init__(
        self,
        dictionary: str | PathLike[str] | TagDictionary | None = None,
        *,
        reader: str = "soft",
        ids: Sequence[int] | None = None,
        doubtful: bool = True,
        **options: Any,
    ) -> None:
        if dictionary is None:
            raise ValidationError(
                "barcode: expected a dictionary of tags; name its file (--detector-set "
                "dictionary=tags.json), or one of OpenCV's (dictionary=DICT_4X4_50)"
            )
        if reader == "soft":
            options["doubtful"] = doubtful
        if isinstance(dictionary, TagDictionary):
            tags = dictionary
        else:
            tags = TagDictionary.named(dictionary)
        self.ids = tags.ids if ids is None else tags.choose(_whole(ids)).ids
        self.reader = make_reader(reader, tags, **options)

    def detect(self, frame: np.ndarray) -> Detections:
        readings = self.reader.read(frame)
        height, width = frame.shape[:2]
        x, y = readings.centre.T
        inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        readings = readings[np.flatnonzero(inside & np.isin(readings.id, self.ids))]
        (x, y), side = readings.centre.T, readings.side
        return Detections(
            x, y, side, side, readings.angle, np.clip(readings.score, 0, 1), readings.id
        )


def _whole(ids: Sequence[int]) -> list[int]:
    given = np.atleast_1d(np.asarray(sorted(ids) if isinstance(ids, (set, frozenset)) else ids))
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ValidationError(
            f"barcode: ids: expected numbers of tags, such as [1,2,7], found {ids!r}"
        )
    return given.tolist()
