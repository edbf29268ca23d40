"""Tags as detections: ids, positions, angles, and what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core.errors import FileMissingError, ValidationError
from dpk_trackers.barcode_detector import BarcodeDetector
from dpk_trackers.barcodes import TagDictionary

TAGS = TagDictionary.generate(4, distance=4, count=10, seed=1)


def picture(tag, turn=0, size=8):
    """A frame of 200x260 with one tag, its black square's corner at (60, 50)."""
    frame = np.full((200, 260, 3), 220, np.uint8)
    code = np.kron(np.rot90(TAGS.picture(tag), -turn), np.full((size, size), 255)).astype(np.uint8)
    frame[50 : 50 + len(code), 60 : 60 + len(code)] = code[..., None]
    return frame, len(code)


@pytest.mark.parametrize("turn", range(4))
def test_a_tag_says_who_and_where_it_is(turn):
    frame, side = picture(7, turn)
    found = BarcodeDetector(TAGS).detect(frame)
    assert found.id.tolist() == [7]
    middle = (side - 1) / 2
    np.testing.assert_allclose([found.x[0], found.y[0]], [60 + middle, 50 + middle], atol=0.1)
    np.testing.assert_allclose(found.width, side, atol=0.5)
    off = (found.angle[0] - turn * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    assert abs(off) < 0.02


def test_dictionaries_by_file_and_by_name(tmp_path):
    TAGS.save(tmp_path / "tags.json")
    frame, _ = picture(3)
    assert BarcodeDetector(tmp_path / "tags.json").detect(frame).id.tolist() == [3]
    assert len(BarcodeDetector(tmp_path / "tags.json", ids=[1, 2]).detect(frame)) == 0
    assert len(BarcodeDetector("dict_4x4_50", reader="aruco").detect(frame)) == 0


def test_a_tag_that_is_not_in_use_is_not_taken_for_one_that_is():
    for tag in range(10):
        frame, _ = picture(tag)
        found = BarcodeDetector(TAGS, ids=[1, 2]).detect(frame)
        assert found.id.tolist() == ([tag] if tag in (1, 2) else [])
    with pytest.raises(ValidationError, match="no tag 99"):
        BarcodeDetector(TAGS, ids=[99])


def test_what_cannot_be_made(tmp_path):
    with pytest.raises(ValidationError, match=r"expected a dictionary.*--detector-set"):
        BarcodeDetector()
    with pytest.raises(FileMissingError, match=r"no\.json"):
        BarcodeDetector(tmp_path / "no.json")
    with pytest.raises(ValidationError, match="'soft', 'aruco' or 'apriltag', found 'soff'"):
        BarcodeDetector(TAGS, reader="soff")
    with pytest.raises(ValidationError, match="'speed'"):
        BarcodeDetector(TAGS, speed=3)


@pytest.mark.parametrize("ids", [[1.5], "1,2", [], True, [[1, 2]], {"a": 1}])
def test_ids_that_are_no_numbers_of_tags(ids):
    with pytest.raises(ValidationError, match="ids: expected numbers of tags"):
        BarcodeDetector("DICT_4X4_50", ids=ids)
    assert BarcodeDetector("DICT_4X4_50", ids=4).ids.tolist() == [4]


def test_frames_without_a_tag():
    detector = BarcodeDetector(TAGS)
    for frame in (np.zeros((1, 1, 3)), np.zeros((40, 40, 1)), np.full((40, 40, 3), 255)):
        assert len(detector.detect(frame.astype(np.uint8))) == 0
