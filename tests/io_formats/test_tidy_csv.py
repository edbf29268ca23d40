"""Tidy CSV: what pandas sees in it, what it refuses, and which row it blames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.tidy_csv import TidyCsvFormat

CSV = TidyCsvFormat()
HEADER = "frame,track,keypoint,x,y,score\n"
GOOD = HEADER + "0,,a,1.5,2.5,0.5\n0,,b,,,0\n1,,a,3,4,1\n1,,b,5,6,1\n"


def _read(tmp_path, text, kind="poses", **options):
    path = tmp_path / "p.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = CSV.read(path, kind, **options)
    return found.read() if kind == "poses" else found


def test_reads_what_a_person_wrote(tmp_path):
    poses = _read(tmp_path, GOOD)
    np.testing.assert_array_equal(
        poses.keypoints, np.array([[[1.5, 2.5], [np.nan] * 2], [[3, 4], [5, 6]]], np.float32)
    )
    assert poses.scores.tolist() == [[0.5, 0], [1, 1]]
    assert poses.frames.tolist() == [0, 1]
    assert poses.track_ids.tolist() == [-1, -1]
    assert poses.skeleton.names == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.rstrip("\n"),
        GOOD.replace(",b,,,", ",b,NaN,nan,").replace(",,a", ",NA,a"),
        GOOD.replace(",,a", ",-1,a").replace(",,b", ",-1,b"),
        HEADER.replace("frame,track", '"frame","track"') + GOOD.partition("\n")[2],
    ],
    ids=["bom", "windows", "no last newline", "pandas and R", "-1 for no track", "quotes"],
)
def test_reads_what_other_programs_make_of_it(tmp_path, text):
    np.testing.assert_array_equal(_read(tmp_path, text).keypoints, _read(tmp_path, GOOD).keypoints)


def test_columns_may_stand_in_another_order(tmp_path):
    text = "score,y,x,keypoint,track,frame\n0.5,2.5,1.5,a,,0\n1,4,3,a,,1\n"
    assert _read(tmp_path, text).keypoints.tolist() == [[[1.5, 2.5]], [[3, 4]]]


def test_pandas_reads_the_same_numbers(tmp_path):
    rng = np.random.default_rng(1)
    keypoints = rng.normal(0, 500, (50, 3, 2)).astype(np.float32)
    keypoints[4, 1] = np.nan
    scores = rng.random((50, 3)).astype(np.float32)
    names = ("nose", 'left, "ear"', "Schwanz 尾")
    poses = Poses(keypoints, scores, Skeleton(names), track_ids=np.arange(50) % 2)
    poses.provenance["track_names"] = {"1": "Anna"}
    path = tmp_path / "p.csv"
    CSV.write(path, PoseStream.of(poses, 16))
    table = pd.read_csv(path, dtype={"x": np.float32, "y": np.float32, "score": np.float32})
    assert list(table) == ["frame", "track", "track_name", "keypoint", "x", "y", "score"]
    assert path.read_text(encoding="utf-8").startswith(
        "frame,track,track_name,keypoint,x,y,score\n"
    )
    np.testing.assert_array_equal(table[["x", "y"]].to_numpy().reshape(50, 3, 2), keypoints)
    np.testing.assert_array_equal(table["score"].to_numpy().reshape(50, 3), poses.scores)
    assert table["keypoint"].tolist() == list(names) * 50
    assert table["track_name"].fillna("").tolist() == (([""] * 3 + ["Anna"] * 3) * 25)
    # and back from what pandas makes of it
    table.to_csv(path, index=False)
    again = CSV.read(path, "poses").read()
    np.testing.assert_array_equal(again.keypoints, keypoints)
    assert again.provenance == {"track_names": {"1": "Anna"}}


def test_numbers_are_as_short_as_they_can_be(tmp_path):
    poses = Poses(np.array([[[0.1, 16777216]]], np.float32), [[1 / 3]], Skeleton(("a",)))
    CSV.write(tmp_path / "p.csv", PoseStream.of(poses))
    row = (tmp_path / "p.csv").read_text().splitlines()[1]
    assert row.replace('"', "") == "0,,a,0.1,16777216,0.33333334"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("frame,track,keypoint,x,y\n", "missing: 'score'"),
        ("frame,track,bodypart,keypoint,x,y,score\n", "unknown: 'bodypart'"),
        ("Frame,track,keypoint,x,y,score\n", "missing: 'frame'; unknown: 'Frame'"),
        ("frame,track,keypoint,x,x,y,score\n", "twice there: 'x'"),
    ],
)
def test_a_changed_header_says_what_is_wrong(tmp_path, header, message):
    path = tmp_path / "p.csv"
    path.write_text(header + "0,,a,1,2,1\n")
    assert CSV.sniff(path)
    with pytest.raises(FileFormatError, match=message) as caught:
        CSV.read(path, "poses")
    assert "frame, track, track_name, keypoint, x, y, score" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1,,a,3,4,1", "1,,a,3,vier,1", "row 4: expected a number in the column 'y', found 'vier'"),
        ("1,,a,3,4,1", "1.5,,a,3,4,1", "row 4: expected a whole number in the column 'frame'"),
        ("1,,a,3,4,1", "1,99999999999,a,3,4,1", "row 4: expected a whole number .*'track'"),
        ("1,,a,3,4,1", "1,,a,3,4", "row 4: expected 6 cells.*, found 5"),
        ("1,,a,3,4,1", "1,,a,3,4,1,7", "row 4: expected 6 cells.*, found 7"),
        ("1,,a,3,4,1", "", "row 4: expected 6 cells.*, found 0"),
        ("1,,a,3,4,1", "1,,a,inf,4,1", "row 4: a coordinate is infinite"),
        ("1,,a,3,4,1", "1,,a,3,4,1.5", "row 4: expected a score from 0 to 1, found 1.5"),
        ("1,,a,3,4,1", "1,,a,3,4,", "row 4: expected a score from 0 to 1, found nothing"),
        ("1,,a,3,4,1", "1,,c,3,4,1", "row 4: found the keypoint 'c', expected 'a'"),
        ("1,,a,3,4,1", ",,a,3,4,1", "row 4: frame is empty"),
        ("1,,b,5,6,1", "2,,b,5,6,1", "row 5: the frame changes within an individual"),
        ("1,,b,5,6,1", "1,3,b,5,6,1", "row 5: the track changes within an individual"),
        ("1,,b,5,6,1\n", "", "row 4: the table ends within an individual, after 1 of 2"),
        ("1,,b,5,6,1", "1,,a,5,6,1", "row 5: found the keypoint 'a', expected 'b'"),
    ],
)
def test_a_bad_row_is_named(tmp_path, old, new, message):
    with pytest.raises(FileFormatError, match=message):
        _read(tmp_path, GOOD.replace(old, new))


def test_the_one_bad_row_among_a_million_is_named(tmp_path):
    rows = [f"{i // 2},,{'ab'[i % 2]},1.5,2.5,1\n" for i in range(1000)]
    path = tmp_path / "p.csv"
    with path.open("w") as file:
        file.write(HEADER)
        for block in range(1000):
            if block == 777:
                bad = list(rows)
                bad[122] = bad[122].replace("2.5", "2.5.1")
                file.writelines(bad)
            else:
                file.writelines(rows)
    with pytest.raises(FileFormatError, match=r"row 777124: expected a number .* found '2.5.1'"):
        for _ in CSV.read(path, "poses"):
            pass


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (HEADER, FileFormatError, "no rows"),
        (b"", FileFormatError, "missing: 'frame'"),
        (GOOD.encode("utf-16"), FileFormatError, "UTF-8"),
        (GOOD.replace("b", "ö").encode("latin-1"), FileFormatError, "UTF-8"),
        (HEADER + "0,,,1,2,1\n", FileFormatError, "row 2: the keypoint has no name"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, content, error, message):
    with pytest.raises(error, match=message):
        _read(tmp_path, content)


def test_other_tables_are_not_claimed(tmp_path):
    for text in (
        "scorer,a,a\nbodyparts,nose,nose\ncoords,x,y\n",
        "time,x1,y1\n0,1,2\n",
        "frame,time,individual,x,y,probability\n0,0,0,1,2,1\n",
        "track,frame_idx,instance.score,nose.x,nose.y,nose.score\n",
        "name,parent,swap\n",
    ):
        (tmp_path / "p.csv").write_text(text)
        assert not CSV.sniff(tmp_path / "p.csv")


def test_the_same_frame_twice_stays_two_rows_of_poses(tmp_path):
    text = HEADER + "3,,a,1,2,1\n3,,a,4,5,1\n"
    poses = _read(tmp_path, text)
    assert poses.frames.tolist() == [3, 3]
    assert poses.keypoints[:, 0].tolist() == [[1, 2], [4, 5]]


def test_half_a_coordinate_and_a_score_without_one_are_reported(tmp_path):
    report = LossReport()
    poses = _read(tmp_path, HEADER + "0,,a,1,,0.7\n0,,b,1,2,1\n", report=report)
    assert np.isnan(poses.keypoints[0, 0]).all()
    assert poses.scores[0].tolist() == [0, 1]
    assert {loss.what: loss.count for loss in report} == {"coordinates": 1, "keypoint scores": 1}


def test_a_skeleton_can_be_given_back(tmp_path):
    skeleton = Skeleton(("a", "b"), [-1, 0])
    (tmp_path / "s.csv").write_text("name,parent,swap\na,,\nb,a,\n")
    assert _read(tmp_path, GOOD, skeleton=skeleton).skeleton == skeleton
    assert _read(tmp_path, GOOD, skeleton=tmp_path / "s.csv").skeleton == skeleton
    with pytest.raises(ValidationError, match="same in the same order"):
        _read(tmp_path, GOOD, skeleton=Skeleton(("b", "a")))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,1,anna,a,1,2,1\n1,1,bert,a,1,2,1\n", "track 1 is called 'anna' and 'bert'"),
        ("0,,anna,a,1,2,1\n", "'anna' stands in rows that have no track"),
    ],
)
def test_names_of_tracks_are_unambiguous(tmp_path, rows, message):
    with pytest.raises(FileFormatError, match=message):
        _read(tmp_path, "frame,track,track_name,keypoint,x,y,score\n" + rows)


def test_a_bad_row_of_tracks_is_named(tmp_path):
    header = "frame,track,x,y,width,height,angle,score,interpolated\n"
    good = header + "0,0,1,2,,,,1,false\n1,0,1,2,,,,1,true\n"
    assert _read(tmp_path, good, "tracks").interpolated.tolist() == [False, True]
    for new, message in (
        ("1,0,1,2,,,,1,maybe", "row 3: expected true or false .* found 'maybe'"),
        ("1,,1,2,,,,1,true", "row 3: track is empty"),
        ("0,0,1,2,,,,1,true", "row 3: the individual 0 stands in frame 0 a second time"),
        ("1,0,1,inf,,,,1,true", "row 3: y is infinite"),
    ):
        with pytest.raises(FileFormatError, match=message):
            _read(tmp_path, good.replace("1,0,1,2,,,,1,true", new), "tracks")


def test_empty_tables(tmp_path):
    report = LossReport()
    empty = Poses(np.empty((0, 2, 2)), np.empty((0, 2)), Skeleton(("a", "b")))
    CSV.write(tmp_path / "p.csv", PoseStream.of(empty), report=report)
    assert {loss.what: loss.count for loss in report} == {"keypoint names": 2}
    CSV.write(tmp_path / "t.csv", Tracks([], [], [], []))
    assert len(CSV.read(tmp_path / "t.csv", "tracks")) == 0


def test_absent_files_folders_and_options(tmp_path):
    assert not CSV.sniff(tmp_path)
    with pytest.raises(FileMissingError):
        CSV.read(tmp_path / "none.csv", "poses")
    with pytest.raises(FileFormatError, match="folder"):
        CSV.read(tmp_path, "poses")
    (tmp_path / "p.csv").write_text(GOOD)
    with pytest.raises(ValidationError, match="unknown options scorer"):
        CSV.read(tmp_path / "p.csv", "poses", scorer="me")
    with pytest.raises(DpkError, match="unknown options"):
        CSV.write(tmp_path / "q.csv", Tracks([], [], [], []), units="cm")
