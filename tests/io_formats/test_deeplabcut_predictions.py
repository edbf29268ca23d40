"""Predictions of DeepLabCut: as pandas has them, in pieces, and nothing lost unsaid."""

from __future__ import annotations

from contextlib import suppress

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.testing.formats import check_format
from dpk_io_formats.deeplabcut_predictions import DeepLabCutPredictionsFormat

HEADER = (
    "scorer,DLC,DLC,DLC,DLC,DLC,DLC\nbodyparts,nose,nose,nose,tail,tail,tail\n"
    "coords,x,y,likelihood,x,y,likelihood\n"
)
FORMAT = DeepLabCutPredictionsFormat()
SUFFIXES = (".h5", ".csv")


def write(path, poses, **options):
    report = LossReport()
    stream = poses if isinstance(poses, PoseStream) else PoseStream.of(poses, piece=3)
    FORMAT.write(path, stream, report=report, **options)
    return {loss.what: loss.count for loss in report}


def read(path, **options):
    report = LossReport()
    stream = FORMAT.read(path, report=report, **options)
    first, second = stream.read(), stream.read()
    assert np.array_equal(first.keypoints, second.keypoints, equal_nan=True)
    assert stream.length in (None, len(first))
    lost: dict[str, int] = {}
    for loss in report:
        lost[loss.what] = lost.get(loss.what, 0) + loss.count
    return first, lost


def table(pandas, n, individuals=(), scorer="DLC_resnet50_walkOct30shuffle1_50000", seed=0):
    """As analyze_videos makes it."""
    parts = [("nose",), ("tail",)]
    if individuals:
        parts = [(name, *part) for name in individuals for part in parts] + [("single", "corner")]
    names = ["scorer", *(["individuals"] if individuals else []), "bodyparts", "coords"]
    columns = pandas.MultiIndex.from_tuples(
        [(scorer, *part, c) for part in parts for c in ("x", "y", "likelihood")], names=names
    )
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 600, (n, len(columns))).astype(np.float32).astype(float)
    values[:, 2::3] /= 600
    values[:, 2::3] = values[:, 2::3].astype(np.float32)
    return pandas.DataFrame(values, range(n), columns)


@pytest.fixture
def pandas():
    pytest.importorskip("tables")
    return pytest.importorskip("pandas")


def test_it_keeps_the_contract():
    check_format("deeplabcut-predictions")


@pytest.mark.parametrize("how", ["table", "fixed", "csv"])
@pytest.mark.parametrize("key", ["df_with_missing", "tracks"])
def test_one_animal_as_pandas_reads_it(tmp_path, pandas, how, key):
    frame = table(pandas, 20)
    frame.iloc[4:6, 3:6] = np.nan
    path = tmp_path / ("a.csv" if how == "csv" else "a.h5")
    if how == "csv":
        frame.to_csv(path)
    else:
        frame.to_hdf(path, key=key, format=how, mode="w")
    assert FORMAT.sniff(path)
    assert FORMAT.kinds(path) == ("poses",)
    poses, lost = read(path)
    assert lost == {}
    expected = frame.to_numpy().reshape(20, 2, 3)
    assert np.array_equal(poses.keypoints, expected[..., :2], equal_nan=True)
    assert np.array_equal(poses.scores, np.nan_to_num(expected[..., 2]))
    assert poses.skeleton.names == ("nose", "tail")
    assert poses.provenance["scorer"] == "DLC_resnet50_walkOct30shuffle1_50000"
    assert poses.track_ids.tolist() == [-1] * 20


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("individuals", [(), ("mus1", "müs2")])
def test_what_pandas_wrote_comes_back_to_pandas(tmp_path, pandas, suffix, individuals):
    frame = table(pandas, 30, individuals)
    frame.iloc[3, :] = np.nan
    frame.iloc[5:9, :3] = np.nan
    frame.iloc[28:, :] = np.nan
    if individuals:
        frame.iloc[7:, 6:12] = np.nan
    frame.to_hdf(tmp_path / "a.h5", key="df_with_missing", format="table", mode="w")
    stream = FORMAT.read(tmp_path / "a.h5")
    assert write(tmp_path / f"b{suffix}", stream) == {}
    if suffix == ".h5":
        again = pandas.read_hdf(tmp_path / "b.h5")
        same = pandas.read_hdf(tmp_path / "b.h5", "df_with_missing")
        pandas.testing.assert_frame_equal(same, again)
    else:
        header = list(range(frame.columns.nlevels))
        again = pandas.read_csv(tmp_path / "b.csv", header=header, index_col=0)
        again = again.astype(np.float32).astype(float)  # nine digits tell single precision apart
    pandas.testing.assert_frame_equal(
        again, frame, check_index_type=False, check_column_type=False, check_names=False
    )
    assert list(again.columns.names) == list(frame.columns.names)


def test_individuals_become_tracks_with_names(tmp_path, pandas):
    frame = table(pandas, 10, ("a", "b"))
    frame.iloc[2, :6] = np.nan
    frame.to_csv(tmp_path / "a.csv")
    poses, lost = read(tmp_path / "a.csv")
    assert lost == {}
    assert poses.skeleton.names == ("nose", "tail", "corner")
    assert poses.provenance["track_names"] == {"0": "a", "1": "b", "2": "single"}
    assert poses.track_ids[poses.frames == 2].tolist() == [1, 2]
    assert len(poses) == 29
    corner = poses.keypoints[poses.track_ids == 2]
    assert np.isnan(corner[:, :2]).all()
    assert np.isfinite(corner[:, 2]).all()


def test_a_painted_dot_is_found_again(tmp_path):
    image = np.zeros((40, 50), np.uint8)
    image[7, 31] = 255
    y, x = np.argwhere(image)[0]
    poses = Poses(np.array([[[x, y]]], float), np.ones((1, 1)), Skeleton(("dot",)))
    for suffix in SUFFIXES:
        write(tmp_path / f"a{suffix}", poses)
        found_x, found_y = read(tmp_path / f"a{suffix}")[0].keypoints[0, 0]
        assert image[int(found_y), int(found_x)] == 255
        cropped, _ = read(tmp_path / f"a{suffix}", offset=(100, 20))
        assert cropped.keypoints[0, 0].tolist() == [131, 27]


# -- what is lost -------------------------------------------------------------------------------


def test_what_streams_past_is_counted_once(tmp_path):
    rows = [
        "0,1,2,1.2,3,4,-0.1",
        "1,1,2,,3,4,0.5",
        "2,,,0.4,3,4,0.5",
        "3,-1,-1,-1,3,4,0",
        "6,1,2,1,,,",
    ]
    (tmp_path / "a.csv").write_text(HEADER + "\n".join(rows) + "\n")
    poses, lost = read(tmp_path / "a.csv")
    assert lost == {"scores": 4, "placeholders": 1, "gaps in the frames": 2}
    assert poses.scores.round(3).tolist() == [[1, 0], [1, 0.5], [0, 0.5], [0, 0], [1, 0]]
    assert np.isnan(poses.keypoints[3, 0]).all()
    assert poses.keypoints[0, 1].tolist() == [3, 4]


def test_columns_of_others_are_counted(tmp_path):
    header = HEADER.replace(",DLC,DLC,DLC\n", ",Bob,Bob,Bob\n", 1)
    (tmp_path / "a.csv").write_text(header + "0,1,2,0.5,3,4,0.25\n")
    poses, lost = read(tmp_path / "a.csv")
    assert (poses.skeleton.names, lost) == (("nose",), {"scorers": 1})
    poses, _ = read(tmp_path / "a.csv", scorer="Bob")
    assert poses.skeleton.names == ("tail",)
    assert poses.keypoints[0, 0].tolist() == [3, 4]


def test_nobody_is_lost_unsaid(tmp_path, pandas):
    frame = table(pandas, 4, ("a", "b"))
    frame.iloc[:, 6:] = np.nan
    frame.to_csv(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv")[1] == {"individuals": 2, "unique body parts": 1}


def test_what_a_table_cannot_hold_is_counted(tmp_path):
    skeleton = Skeleton(("a", "b"), parent=(-1, 0), swap=(1, 0))
    poses = Poses(
        np.ones((3, 2, 2)), np.ones((3, 2)), skeleton, [2, 2, 5], [3, 7, 7],
        {"model": "m", "track_names": {"3": "anna"}},
    )  # fmt: skip
    assert write(tmp_path / "a.h5", poses) == {
        "skeleton edges": 1, "swap partners": 2, "entries of the provenance": 1,
        "names of tracks": 1, "track ids": 2,
    }  # fmt: skip
    again, _ = read(tmp_path / "a.h5")
    assert again.provenance["track_names"] == {"0": "anna", "1": "individual8"}
    assert again.frames.tolist() == [2, 2, 5]
    plain = attrs.evolve(poses[[0, 2]], track_ids=None, skeleton=Skeleton(("a", "b")))
    assert write(tmp_path / "b.h5", plain)["frames without poses"] == 4


# -- order, size, refusals ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_in_any_order_are_put_in_their_frames(tmp_path, suffix):
    rng = np.random.default_rng(1)
    n = 60
    poses = Poses(
        rng.uniform(0, 99, (n, 2, 2)), rng.uniform(0.1, 1, (n, 2)), Skeleton(("a", "b")),
        np.tile(np.arange(30), 2), np.repeat([0, 1], 30),
    )  # fmt: skip
    write(tmp_path / f"a{suffix}", poses)
    by_frame = poses[np.lexsort([poses.track_ids, poses.frames])]
    write(tmp_path / f"b{suffix}", by_frame)
    for name in "ab":
        again, _ = read(tmp_path / f"{name}{suffix}")
        assert np.array_equal(again.keypoints, by_frame.keypoints)
        assert np.array_equal(again.scores, by_frame.scores)
        assert np.array_equal(again.track_ids, by_frame.track_ids)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


def test_what_cannot_be_written_is_refused(tmp_path):
    skeleton = Skeleton(("a",))
    twice = Poses(np.ones((2, 1, 2)), np.ones((2, 1)), skeleton, [4, 4], [0, 0])
    with pytest.raises(ValidationError, match="frame 4 has the individual 'individual1' twice"):
        write(tmp_path / "a.h5", twice)
    with pytest.raises(ValidationError, match="several animals without a track"):
        write(tmp_path / "a.csv", attrs.evolve(twice, track_ids=None))
    with pytest.raises(ValidationError, match="expected frames from 0, found -1"):
        write(tmp_path / "a.h5", attrs.evolve(twice, frames=[-1, 3]))
    with pytest.raises(ValidationError, match="no row"):
        write(tmp_path / "a.h5", twice[:0])
    with pytest.raises(ValidationError, match="unknown options"):
        write(tmp_path / "a.h5", twice, nothing=1)
    with pytest.raises(ValidationError, match="found AnnotationSet"):
        FORMAT.write(
            tmp_path / "a.h5",
            AnnotationSet(np.zeros((1, 4, 4, 1), np.uint8), np.ones((1, 1, 2)), skeleton),
        )


def test_a_long_table_with_one_bad_row_names_it(tmp_path):
    n = 1_000_000
    line = b"%d,1.5,2.5,0.5\n"
    header = b"scorer,D,D,D\nbodyparts,a,a,a\ncoords,x,y,likelihood\n"
    body = b"".join(line % i for i in range(n))
    bad = body.replace(b"\n765432,1.5", b"\n765432,1.5.2")
    (tmp_path / "a.csv").write_bytes(header + bad)
    stream = FORMAT.read(tmp_path / "a.csv")
    assert stream.length == n
    with pytest.raises(FileFormatError, match=r"row 765436: expected a number, found '1\.5\.2'"):
        sum(len(piece) for piece in stream)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "an empty file"),
        (HEADER, "has no frame"),
        (HEADER.replace("likelihood", "score") + "0,1,2,3,4,5,6\n", "x, y and likelihood"),
        (HEADER.replace("tail", "nose") + "0,1,2,3,4,5,6\n", "'nose' stands twice"),
        (HEADER.replace("scorer,", "score,") + "0,1,2,3,4,5,6\n", "rows that begin"),
        (HEADER + "0,1,2,0.3,4,5,0.6", "cut short"),
        (HEADER + "0,1,2,0.3,4,5\n", "row 4: expected 7 columns, found 6"),
        (HEADER + "0,1,2,0.3,4,5,0.6\n0,1,2,0.3,4,5,0.6\n", "row 5: the frame 0 stands twice"),
        (HEADER + "0.5,1,2,0.3,4,5,0.6\n", "row 4: expected the number of a frame, found 0.5"),
        (HEADER + "-1,1,2,0.3,4,5,0.6\n", "row 4: expected the number of a frame"),
        (HEADER + "0,1,2,0.3,4,5,0.6\n1,inf,2,0.3,4,5,0.6\n", "row 5: expected a finite number"),
        (HEADER + "0,1,2,0.3,4,5,0.6\n,1,2,0.3,4,5,0.6\n", "row 5: expected the number"),
        (HEADER + "0,1,2,0.3,4,5,ø\n", "row 4: expected a number"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    (tmp_path / "a.h5").write_text(content, encoding="utf-8")  # a suffix that is not true
    with pytest.raises(FileFormatError, match=message):
        read(tmp_path / "a.h5")


def test_what_is_no_table(tmp_path):
    for name in ("folder", "absent"):
        assert not FORMAT.sniff(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileFormatError, match="is a folder"):
        read(tmp_path / "folder")
    with pytest.raises(FileMissingError, match="absent"):
        read(tmp_path / "absent")


def test_negative_and_far_positions_are_kept(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "0,-1.5,2,0.5,1e6,-3e5,0.25\n")
    assert read(tmp_path / "a.csv")[0].keypoints[0].tolist() == [[-1.5, 2], [1e6, -3e5]]


def test_predictions_for_images_are_read_by_video(tmp_path):
    body = "".join(
        f"labeled-data/{video}/img{i:03d}.png,{i},2,0.5,3,4,0.5\n" for video in "ab" for i in (3, 9)
    )
    (tmp_path / "a.csv").write_text(HEADER + body)
    with pytest.raises(FileFormatError, match=r"several videos \(a, b\).*video=NAME"):
        read(tmp_path / "a.csv")
    poses, _ = read(tmp_path / "a.csv", video="b")
    assert poses.frames.tolist() == [3, 9]
    assert poses.keypoints[1, 0].tolist() == [9, 2]
    assert poses.provenance["video"] == "b"
    (tmp_path / "a.csv").write_text(HEADER + "../../a.png,1,2,0.5,3,4,0.5\n")
    with pytest.raises(FileFormatError, match="leads out"):
        read(tmp_path / "a.csv")


names = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs")), min_size=1, max_size=9)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_is_written_comes_back(tmp_path_factory, data):
    k = data.draw(st.integers(1, 4))
    parts = tuple(data.draw(st.lists(names, min_size=k, max_size=k, unique=True)))
    animals = data.draw(st.lists(names, max_size=3, unique=True))
    n = data.draw(st.integers(1, 12))
    rows = [(f, a) for f in range(n) for a in range(len(animals))] or [(f, -1) for f in range(n)]
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    keypoints = rng.normal(0, 10.0 ** rng.integers(-6, 6), (len(rows), k, 2))
    keypoints[rng.random((len(rows), k)) < 0.2] = np.nan
    frames, ids = np.array(rows).T
    poses = Poses(
        keypoints, rng.random((len(rows), k)), Skeleton(parts), frames, ids,
        {"track_names": {str(i): name for i, name in enumerate(animals)}} if animals else {},
    )  # fmt: skip
    suffix = data.draw(st.sampled_from(SUFFIXES))
    path = tmp_path_factory.mktemp("made") / f"p{suffix}"
    lost = write(path, poses)
    again, lost_again = read(path)
    order = [again.skeleton.names.index(name) for name in parts]
    assert np.array_equal(again.keypoints[:, order], poses.keypoints, equal_nan=True)
    assert np.array_equal(again.scores[:, order], poses.scores)
    assert np.array_equal(again.frames, frames)
    assert np.array_equal(again.track_ids, ids)
    assert set(lost) <= {"places of body parts"}
    assert set(lost_again) <= {"individuals"}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_mutated_tables_are_refused_or_read(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("fuzz") / "a.csv"
    rows = "".join(f"{i},{i}.5,2,0.5,,,\n" for i in range(12))
    content = bytearray((HEADER + rows).encode())
    for _ in range(rng.integers(1, 6)):
        content[rng.integers(len(content))] = rng.integers(256)
    if rng.random() < 0.3:
        del content[rng.integers(len(content)) :]
    path.write_bytes(bytes(content))
    FORMAT.sniff(path)
    with suppress(DpkError):
        poses = FORMAT.read(path).read()
        assert len(poses) == bytes(content).count(b"\n") - 3


@pytest.mark.parametrize("suffix", [".csv", ".h5"])
@pytest.mark.parametrize("tracks", [[-1, -1, -1], [0, 0, 0]])
def test_infinite_coordinates_become_missing_and_are_reported(tmp_path, suffix, tracks):
    keypoints = np.array([[[1, 2], [np.inf, 3]], [[4, -np.inf], [5, 6]], [[7, 8], [9, 9]]])
    poses = Poses(keypoints, np.ones((3, 2)), Skeleton(("a", "b")), [0, 1, 2], tracks)
    report = LossReport()
    path = tmp_path / f"p{suffix}"
    FORMAT.write(path, PoseStream.of(poses, 2), report=report)
    assert {loss.what: loss.count for loss in report}["keypoints"] == 2
    back = FORMAT.read(path, "poses").read()
    expected = np.where(np.isinf(keypoints).any(axis=2)[..., None], np.nan, keypoints)
    np.testing.assert_array_equal(back.keypoints, expected)
