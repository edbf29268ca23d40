"""MOT Challenge text: numbers that count from 1, and boxes that lie on the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.testing.formats import sample_of
from dpk_core.tracks import Tracks
from dpk_io_formats.mot import MotFormat

MOT = MotFormat()
GT = "1,1,912,484,97,109,0,7,1\n2,1,912,484,97,109,0,7,1\n1,4,338,418,167,379,1,1,0.5\n"


def _read(tmp_path, text, **options):
    (tmp_path / "gt.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return MOT.read(tmp_path / "gt.txt", "tracks", **options)


def test_a_painted_box_lies_where_it_was_painted(tmp_path):
    """Columns 4 to 9 and rows 2 to 4 of an image, as MATLAB counts: 5 to 10, 3 to 5."""
    image = np.zeros((20, 30))
    image[2:5, 4:10] = 1
    y, x = (axis.mean() for axis in np.nonzero(image))
    tracks = _read(tmp_path, "8,1,5,3,6,3,1,-1,-1,-1\n")
    assert (tracks.x[0], tracks.y[0], tracks.width[0], tracks.height[0]) == (x, y, 6, 3)
    assert tracks.frame.tolist() == [7]
    MOT.write(tmp_path / "out.txt", Tracks([7], [0], [x], [y], [6.0], [3.0]))
    assert (tmp_path / "out.txt").read_text() == "8,1,5,3,6,3,1,-1,-1,-1\n"


def test_ground_truth_loses_what_the_report_says(tmp_path):
    report = LossReport()
    tracks = _read(tmp_path, GT, report=report)
    assert tracks.id.tolist() == [0, 0, 3]
    assert tracks.frame.tolist() == [0, 1, 0]
    assert tracks.score.tolist() == [0, 0, 1]
    assert tracks.provenance["track_names"] == {"0": "1", "3": "4"}
    assert {loss.what: loss.count for loss in report} == {"categories": 3, "visibilities": 3}


@pytest.mark.parametrize(
    "text",
    [
        "1,1,912.37,484.1,97.25,109,0.5,-1,-1,-1\n1,4,-3.5,418,167,379,1,-1,-1,-1\n",
        "1,0,1,1,10,10,1,-1,-1,-1\n3,0,2,1,10,10,1,-1,-1,-1\n5,17,2,1,0,10,1,-1,-1,-1\n",
        "1,999,1,1,10,10,0.25,-1,-1,-1\n",
    ],
)
def test_results_come_back_as_they_were(tmp_path, text):
    report = LossReport()
    MOT.write(tmp_path / "out.txt", _read(tmp_path, text, report=report), report=report)
    assert (tmp_path / "out.txt").read_text() == text
    assert not report


def test_names_that_are_no_numbers_are_lost(tmp_path):
    report = LossReport()
    MOT.write(tmp_path / "out.txt", sample_of("tracks"), report=report)
    counts = {loss.what: loss.count for loss in report}
    assert counts == {"angles": 12, "widths": 12, "heights": 12, "interpolations": 4,
                      "track names": 2}  # fmt: skip
    ids = np.loadtxt(tmp_path / "out.txt", delimiter=",")[:, 1]
    assert set(ids) == {1, 4}


def test_a_turned_animal_gets_the_box_around_it(tmp_path):
    tracks = Tracks([0], [0], [50.0], [40.0], [20.0], [10.0], [np.pi / 6])
    MOT.write(tmp_path / "out.txt", tracks)
    back = MOT.read(tmp_path / "out.txt")
    corners = np.array([[10, 5], [10, -5], [-10, 5], [-10, -5]])
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    extent = np.ptp(corners @ np.array([[c, s], [-s, c]]), axis=0)
    np.testing.assert_allclose([back.width[0], back.height[0]], extent, atol=2e-6)
    np.testing.assert_allclose([back.x[0], back.y[0]], [50, 40], atol=2e-6)


def test_animals_without_a_size(tmp_path):
    tracks = Tracks([0, 1], [0, 0], [5.0, 6], [7.0, 8])
    report = LossReport()
    MOT.write(tmp_path / "a.txt", tracks, report=report)
    assert {loss.what: loss.count for loss in report} == {"boxes": 2}
    assert (tmp_path / "a.txt").read_text().startswith("1,1,6,8,1,1,1,")
    MOT.write(tmp_path / "b.txt", tracks, box_size=11)
    back = MOT.read(tmp_path / "b.txt")
    assert (back.x.tolist(), back.width.tolist()) == ([5, 6], [11, 11])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty|found 1"),
        (GT.replace("338", "x"), "row 3: expected a number, found 'x'"),
        (GT.replace("167,", ""), "row 3: expected 7 to 10 cells.*found 8"),
        (GT + "3,1,5", "row 4: expected 7 to 10 cells.*found 3"),
        (GT.replace("2,1,", "0,1,"), "row 2: found frame 0; .*first_frame=0"),
        (GT.replace("2,1,", "1.5,1,"), "row 2: frame and id must be whole"),
        (GT.replace("2,1,", "2,-1,"), "row 2: the id -1 is no track"),
        (GT.replace("2,1,", "1,1,"), "row 2: the individual 1 stands in frame 1 a second time"),
        (GT.replace("338", "inf"), "row 3: the box is not finite"),
        (GT.replace("338,418,167", "338,418,-167"), "row 3: the box has a negative size"),
        (GT.encode("utf-16"), "no MOT text"),
    ],
)
def test_bad_rows_are_named(tmp_path, text, message):
    with pytest.raises(FileFormatError, match=message):
        _read(tmp_path, text)


def test_frames_may_count_from_0_when_told(tmp_path):
    assert _read(tmp_path, "0,1,1,1,2,2,1\n", first_frame=0).frame.tolist() == [0]


def test_scores_outside_0_to_1_are_reported(tmp_path):
    report = LossReport()
    text = "1,1,1,1,2,2,55.5\n2,1,1,1,2,2,-1\n3,1,1,1,2,2,0.5\n"
    assert _read(tmp_path, text, report=report).score.tolist() == [1, 1, 0.5]
    assert [loss.count for loss in report] == [1, 1]


def test_other_tables_are_not_claimed(tmp_path):
    for text in ("frame,id,x,y,w,h,conf\n", "0 0.5 0.5 0.1 0.1\n", "1,2,3\n", "1,1,2,2,-5,5,1\n"):
        (tmp_path / "x.txt").write_text(text)
        assert not MOT.sniff(tmp_path / "x.txt")
    with pytest.raises(FileMissingError):
        MOT.read(tmp_path / "none.txt")
    with pytest.raises(ValidationError, match="tracks only"):
        MOT.write(tmp_path / "p.txt", sample_of("poses"))
    with pytest.raises(ValidationError, match="ids count from 0"):
        MOT.write(tmp_path / "p.txt", Tracks([0], [-1], [1.0], [1.0]))
