"""DeepLabCut projects: read right, and refused with a reason."""

from __future__ import annotations

import shutil
import warnings
from contextlib import suppress
from pathlib import PureWindowsPath

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import (
    DpkError,
    DpkWarning,
    FileFormatError,
    FileMissingError,
    ValidationError,
)
from dpk_core.losses import LossReport
from dpk_core.services.individuals import keypoints_in_frames
from dpk_core.services.plugins import registry
from dpk_core.skeleton import Skeleton
from dpk_core.testing import check_dataset
from dpk_core.testing.formats import check_format
from dpk_io_formats.deeplabcut import DeepLabCutFormat
from dpk_io_formats.deeplabcut_hdf_write import write_frame
from dpk_io_formats.deeplabcut_labels import read_label_hdf
from dpk_io_formats.deeplabcut_project import make_skeleton
from dpk_io_formats.deeplabcut_table import LEVELS, read_table

HEADER = "scorer,Ann,Ann,Ann,Ann\nbodyparts,leftear,leftear,rightear,rightear\ncoords,x,y,x,y\n"


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "prøject"
    labels = folder / "labeled-data" / "day1"
    labels.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        "Task: t\nscorer: Ann\nbodyparts: [leftear, rightear]\nskeleton: [[leftear, rightear]]\n"
    )
    for i in (0, 7):
        image = np.zeros((20, 30, 3), np.uint8)
        image[4, 11] = (0, 0, 255)  # OpenCV writes BGR: a red dot
        cv2.imencode(".png", image)[1].tofile(labels / f"img{i:04d}.png")
    _write(labels, "labeled-data/day1/img0000.png,11,4,1,2\nlabeled-data/day1/img0007.png,11,4,,\n")
    return folder


def _write(labels, body, header=HEADER):
    (labels / "CollectedData_Ann.csv").write_text(header + body)


def read(project, **options):
    return DeepLabCutFormat().read(project, **options)


def test_a_painted_dot_lies_at_its_label(project):
    annotations = read(project)
    x, y = annotations.keypoints[0, 0]
    assert annotations.images[0][int(y), int(x)].tolist() == [255, 0, 0]
    assert annotations.images[0].sum() == 255
    assert np.isnan(annotations.keypoints[1, 1]).all()
    assert [(s.video, s.frame) for s in annotations.sources] == [("day1", 0), ("day1", 7)]
    assert annotations.skeleton.edges == ((1, 0),)
    assert annotations.skeleton.flip_order.tolist() == [1, 0]
    check_dataset(annotations)


def test_it_keeps_the_contract():
    check_format("deeplabcut")


def test_sniffs_by_content(project, tmp_path):
    plugin = registry().get("formats", "deeplabcut").load()()
    assert plugin.sniff(project)
    assert plugin.sniff(project / "config.yaml")
    assert not plugin.sniff(tmp_path)
    assert not plugin.sniff(tmp_path / "absent")
    (project / "config.yaml").write_text("[not, a, project]")
    assert not plugin.sniff(project)


def test_both_index_styles_and_backslashes_agree(project):
    one_column = read(project)
    labels = project / "labeled-data" / "day1"
    wide = "".join(line.replace(",", ",,,", 1) + "\n" for line in HEADER.strip().split("\n"))
    _write(labels, "labeled-data,day1,img0000.png,11,4,1,2\n", wide)
    assert np.array_equal(read(project).keypoints[0], one_column.keypoints[0])
    _write(labels, "labeled-data\\day1\\img0000.png,11,4,1,2\n")
    assert np.array_equal(read(project).keypoints[0], one_column.keypoints[0])


def test_the_real_project_equals_what_pandas_reads(test_data):
    pandas = pytest.importorskip("pandas")
    project = test_data / "openfield"
    annotations = read(project)
    table = pandas.read_csv(
        project / "labeled-data" / "m4s1" / "CollectedData_Pranav.csv",
        header=[0, 1, 2],
        index_col=0,
    )
    expected = table.to_numpy(float).reshape(len(table), -1, 2)
    # Older versions of pandas round the last digit of what they read.
    np.testing.assert_allclose(annotations.keypoints, expected, rtol=1e-14)
    assert repr(annotations) == "AnnotationSet(93 images 480x640x3, 4 keypoints, 93 labelled)"
    assert annotations.skeleton.names == ("snout", "leftear", "rightear", "tailbase")
    assert annotations.skeleton.flip_order.tolist() == [0, 2, 1, 3]
    assert annotations.sources[2].frame == 3


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        ("", "", "an empty file"),
        (HEADER, "", "no labelled frame"),
        (HEADER.replace("bodyparts", "parts"), "a/b/c.png,1,2,3,4\n", "expected rows that begin"),
        (HEADER.replace("rightear", "leftear"), "a/d/c.png,1,2,3,4\n", "'leftear' stands twice"),
        (HEADER.replace("x,y,x,y", "x,y,y,x"), "a/d/c.png,1,2,3,4\n", "an x and a y column"),
        (HEADER, "a/d/c.png,1,2,3\n", "row 4: expected 5 columns, found 4"),
        (HEADER, "a/d/c.png,1,2,3,inf\n", "row 4: expected a finite number"),
        (HEADER, "a/d/c.png,1,2,three,4\n", "expected a number, found 'three'"),
        (HEADER, "a/d/c.png,1,2,3,4\na/d/c.png,1,2,3,4\n", "d/c.png is labelled twice"),
        (HEADER, "../../etc/c.png,1,2,3,4\n", "leads out of the project"),
        (HEADER, "c.png,1,2,3,4\n", "expected labeled-data/VIDEO/IMAGE"),
    ],
)
def test_bad_tables(project, header, body, message):
    _write(project / "labeled-data" / "day1", body, header)
    with pytest.raises(FileFormatError, match=message):
        read(project)


def test_missing_images_are_named_or_skipped(project):
    (project / "labeled-data" / "day1" / "img0000.png").unlink()
    with pytest.raises(FileMissingError, match=r"1 of 2 labelled images.*img0000\.png"):
        read(project)
    assert [s.frame for s in read(project, missing="skip").sources] == [7]


def test_images_of_two_sizes_are_padded_and_broken_images_are_named(project):
    labels = project / "labeled-data" / "day1"
    cv2.imencode(".png", np.full((8, 9, 3), 7, np.uint8))[1].tofile(labels / "img0007.png")
    annotations = read(project)
    assert annotations.image_shape == (20, 30, 3)
    assert [source.size for source in annotations.sources] == [None, (8, 9)]
    assert annotations.images[1].sum() == 7 * 8 * 9 * 3
    assert (annotations.images[1][:8, :9] == 7).all()
    (labels / "img0007.png").write_bytes(b"\x89PNG")
    with pytest.raises(FileFormatError, match=r"img0007\.png is not an image"):
        read(project).images[1]


def test_other_scorers_and_no_project(project, tmp_path):
    with pytest.raises(FileMissingError, match="found CollectedData_Ann"):
        read(project, scorer="Bob")
    with pytest.raises(FileMissingError, match=r"expected .*config\.yaml"):
        read(tmp_path)
    (project / "config.yaml").write_text("{")
    with pytest.raises(FileFormatError, match="not readable YAML"):
        read(project)


def test_videos_with_other_body_parts_are_refused(project):
    other = project / "labeled-data" / "day2"
    shutil.copytree(project / "labeled-data" / "day1", other)
    text = (other / "CollectedData_Ann.csv").read_text().replace("rightear", "tail")
    (other / "CollectedData_Ann.csv").write_text(text)
    with pytest.raises(FileFormatError, match=r"day2.*leftear, tail"):
        read(project)


def test_links_become_trees():
    parts = ("a", "b", "c", "d", "e")
    skeleton = make_skeleton(parts, [["b", "a"], ["b", "c"], ["c", "a"], ["d", "x"], ["e", "d"]])
    assert set(skeleton.edges) == {(1, 0), (2, 1), (4, 3)}


def test_partners_are_guessed_only_when_the_names_agree():
    skeleton = make_skeleton(("ear_l", "ear_r", "leftpaw", "rightfoot", "bright"), [])
    assert skeleton.flip_order.tolist() == [1, 0, 2, 3, 4]


def test_wrong_options_and_kinds_are_named(project):
    with pytest.raises(ValidationError, match=r"unknown options \['scorers'\]"):
        read(project, scorers="Ann")
    with pytest.raises(ValidationError, match="annotations, not poses"):
        read(project, kind="poses")
    with pytest.raises(ValidationError, match="'auto', 'csv' or 'h5'"):
        read(project, table="xlsx")


def test_labels_of_others_and_links_that_are_lost_are_reported(project):
    labels = project / "labeled-data" / "day1"
    shutil.copy(labels / "CollectedData_Ann.csv", labels / "CollectedData_Bob.csv")
    (project / "config.yaml").write_text(
        "Task: t\nscorer: Ann\nbodyparts: [leftear, rightear, tail]\n"
        "skeleton: [[leftear, rightear], [rightear, leftear], [leftear, tail]]\n"
        "corner2move2: !!python/tuple [50, 50]\n"
    )
    assert losses(project) == {
        "tables of other scorers": 1,
        "settings of the project": 2,  # Task and scorer; corner2move2 is as it always is
        "skeleton edges": 2,
        "body parts": 1,
    }


def test_a_crop_of_the_video_is_noted_when_the_images_show_it(project):
    config = (project / "config.yaml").read_text()
    (project / "config.yaml").write_text(
        config + "video_sets:\n  C:\\\\films\\day1.avi:\n    crop: 100, 130, 40, 60\n"
    )
    annotations = read(project)
    assert annotations.sources[0].crop == (1, 0, -100, 0, 1, -40)
    assert keypoints_in_frames(annotations)[0, 0].tolist() == [111, 44]
    (project / "config.yaml").write_text(
        config + "video_sets:\n  day1.avi:\n    crop: 100, 140, 40, 60\n"
    )
    assert read(project).sources[0].crop is None


def test_labels_outside_of_the_image_are_kept_and_far_ones_told_of(project):
    labels = project / "labeled-data" / "day1"
    _write(labels, "labeled-data/day1/img0000.png,-3.5,4,31,2\n")
    assert read(project).keypoints[0].tolist() == [[-3.5, 4], [31, 2]]
    _write(labels, "labeled-data/day1/img0000.png,11,4,900,2\n")
    with pytest.warns(DpkWarning, match=r"day1/img0000\.png has rightear at \(900, 2\)"):
        assert read(project).keypoints[0, 1].tolist() == [900, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((HEADER + "a/day1/img0000.png,1,2,3,4").encode(), "cut short: its last row"),
        ((HEADER + "a/day1/img0000.png,1,2,3,4\n").encode("utf-16"), "not UTF-8"),
        (b"\x89HDF\r\n\x1a\n", "not UTF-8"),
        ((HEADER + f"a/day1/{'x' * 300}.png,1,2,3,4\n").encode(), "has 304 characters"),
        ((HEADER + "a/day1/a\0.png,1,2,3,4\n").encode(), "no name|cannot be the name|not a CSV"),
        ((HEADER + "a\\..\\..\\b.png,1,2,3,4\n").encode(), "leads out of the project"),
        ((HEADER + "a/day1/img0000.png,1,2,3,NaN\na/day1/x.png,,,,1e999\n").encode(), "row 5"),
        (b'scorer,"A\n', "cut short|expected rows|not a CSV|columns"),
    ],
)
def test_damaged_tables(project, content, message):
    (project / "labeled-data" / "day1" / "CollectedData_Ann.csv").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        read(project)


def test_non_ascii_and_long_names(project):
    labels = project / "labeled-data" / "day1"
    long = "hind leg " * 300
    _write(labels, "labeled-data/day1/img0000.png,1,2,3,4\n",
           HEADER.replace("leftear", "ухо").replace("rightear", long.strip()))  # fmt: skip
    assert read(project).skeleton.names == ("ухо", long.strip())


def test_images_without_a_number_or_with_one_twice_stay_apart(project):
    labels = project / "labeled-data" / "day1"
    names = ["img0000.png", "x0000.png", "face.png", "img0007.png"]
    for name in names[1:3]:
        shutil.copy(labels / names[0], labels / name)
    _write(labels, "".join(f"labeled-data/day1/{name},1,2,3,4\n" for name in names))
    assert [(s.video, s.frame) for s in read(project).sources] == [
        ("day1/img0000.png", 0), ("day1/x0000.png", 0), ("day1/face.png", 0), ("day1", 7),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["a: [", "a: !!python/object/apply:os.system [ls]", "2001-99-99",
                                  "? [a]\n: b", "[" * 3000])  # fmt: skip
def test_bad_configurations(project, text):
    (project / "config.yaml").write_text(text)
    assert not DeepLabCutFormat().sniff(project)
    with pytest.raises(FileFormatError, match=r"config\.yaml"):
        read(project)


# -- CSV and HDF5 -------------------------------------------------------------------------------


def frame_of(labels, n_levels=1):
    """The table as DeepLabCut reads it: with pandas."""
    pandas = pytest.importorskip("pandas")
    return pandas.read_csv(
        labels / "CollectedData_Ann.csv", header=[0, 1, 2], index_col=list(range(n_levels))
    )


def test_the_hdf5_is_taken_for_its_precision_and_differences_are_told(project):
    pytest.importorskip("tables")
    labels = project / "labeled-data" / "day1"
    frame = frame_of(labels) + 1e-7
    for options in ({}, {"format": "table"}):
        frame.to_hdf(labels / "CollectedData_Ann.h5", key="df_with_missing", mode="w", **options)
        assert read(project).keypoints[0, 0, 0] == 11 + 1e-7
        assert read(project, table="csv").keypoints[0, 0, 0] == 11
    (frame + 1).to_hdf(labels / "CollectedData_Ann.h5", key="df_with_missing", mode="w")
    with pytest.warns(DpkWarning, match=r"differ: the labels of day1/img0000\.png; the \.h5"):
        assert read(project).keypoints[0, 0, 0] == 12 + 1e-7
    (labels / "CollectedData_Ann.csv").unlink()
    assert read(project).keypoints[0, 0, 0] == 12 + 1e-7


def test_the_real_tables_agree(test_data):
    folder = test_data / "openfield" / "labeled-data" / "m4s1"
    text = read_table(folder / "CollectedData_Pranav.csv")
    exact = read_label_hdf(folder / "CollectedData_Pranav.h5")
    assert text.images == exact.images
    assert np.array_equal(text.keypoints, exact.keypoints, equal_nan=True)


def test_a_cut_hdf5_is_refused_and_a_pickled_one_replaced_by_the_csv(project):
    pytest.importorskip("tables")
    labels = project / "labeled-data" / "day1"
    path = labels / "CollectedData_Ann.h5"
    frame = frame_of(labels)
    frame.to_hdf(path, key="df_with_missing", mode="w")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FileFormatError, match=r"CollectedData_Ann\.h5"):
        read(project)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it pickles
        frame.astype(object).to_hdf(path, key="df_with_missing", mode="w")
    with pytest.warns(DpkWarning, match=r"pickled objects.*CollectedData_Ann\.csv is taken"):
        assert read(project).keypoints[0, 0, 0] == 11


# -- several animals ----------------------------------------------------------------------------


@pytest.fixture
def multi(tmp_path):
    """A project of two animals and a box, its table written by pandas."""
    pandas = pytest.importorskip("pandas")
    folder = tmp_path / "multi"
    labels = folder / "labeled-data" / "day1"
    labels.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        "Task: t\nscorer: Ann\nmultianimalproject: true\nindividuals: [m1, m2]\n"
        "uniquebodyparts: [corner]\nmultianimalbodyparts: [nose, tail]\nbodyparts: MULTI!\n"
        "skeleton: [[nose, tail]]\n"
    )
    rng = np.random.default_rng(3)
    for i in range(4):
        image = rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)
        cv2.imencode(".png", image)[1].tofile(labels / f"img{i:04d}.png")
    animals = [("m1", "nose"), ("m1", "tail"), ("m2", "nose"), ("m2", "tail"), ("single", "corner")]
    frame = pandas.DataFrame(
        rng.uniform(0, 19, (4, 10)),
        pandas.MultiIndex.from_tuples([("labeled-data", "day1", f"img{i:04d}.png")
                                       for i in range(4)]),
        pandas.MultiIndex.from_tuples(
            [("Ann", *animal, c) for animal in animals for c in "xy"],
            names=["scorer", "individuals", "bodyparts", "coords"],
        ),
    )  # fmt: skip
    frame.iloc[0, 8:] = np.nan
    frame.iloc[1, :4] = np.nan
    frame.iloc[2, :] = np.nan
    frame.iloc[3, 2:6] = np.nan
    frame.to_csv(labels / "CollectedData_Ann.csv")
    return folder, frame


def test_animals_have_rows_of_their_own(multi):
    folder, frame = multi
    annotations = read(folder)
    assert annotations.skeleton.names == ("nose", "tail", "corner")
    assert [(s.frame, s.individual) for s in annotations.sources] == [
        (0, "m1"), (0, "m2"), (1, "m2"), (1, "single"), (2, ""),
        (3, "m1"), (3, "m2"), (3, "single"),
    ]  # fmt: skip
    expected = frame.iloc[0].to_numpy()
    assert np.array_equal(annotations.keypoints[1, :2].ravel(), expected[4:8])
    assert np.isnan(annotations.keypoints[1, 2]).all()
    assert np.array_equal(annotations.keypoints[7, 2], frame.iloc[3].to_numpy()[8:])
    assert np.array_equal(annotations.images[0], annotations.images[1])


@pytest.mark.parametrize("n_levels", [1, 3])
def test_a_multi_animal_project_comes_back_whole(multi, tmp_path, n_levels):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    folder, frame = multi
    annotations = read(folder)
    report = LossReport()
    DeepLabCutFormat().write(
        tmp_path / "again", annotations, report=report, scorer="Ann", task="t",
        index_levels=n_levels,
    )  # fmt: skip
    assert not report, str(report)
    labels = tmp_path / "again" / "labeled-data" / "day1"
    again = pandas.read_hdf(labels / "CollectedData_Ann.h5", "df_with_missing")
    if n_levels == 1:
        frame = frame.set_axis(["/".join(row) for row in frame.index])
    pandas.testing.assert_frame_equal(again, frame, check_index_type=False)
    text = pandas.read_csv(
        labels / "CollectedData_Ann.csv", header=[0, 1, 2, 3], index_col=list(range(n_levels))
    )
    assert np.allclose(text.to_numpy(), frame.to_numpy(), rtol=1e-14, atol=0, equal_nan=True)
    assert text.columns.equals(frame.columns)
    config = yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())
    assert config["individuals"] == ["m1", "m2"]
    assert config["uniquebodyparts"] == ["corner"]
    assert config["multianimalbodyparts"] == ["nose", "tail"]
    assert config["bodyparts"] == "MULTI!"
    assert_same(read(tmp_path / "again"), annotations)


def test_nobody_is_lost_unsaid(multi):
    folder, frame = multi
    frame.loc[:, ("Ann", "m2")] = np.nan
    frame.loc[:, ("Ann", "single")] = np.nan
    frame.to_csv(folder / "labeled-data" / "day1" / "CollectedData_Ann.csv")
    found = losses(folder)
    assert found.pop("settings of the project") == 2
    assert found == {"individuals": 2, "unique body parts": 1}


# -- writing ------------------------------------------------------------------------------------


def losses(project, **options):
    report = LossReport()
    read(project, report=report, **options)
    return {loss.what: loss.count for loss in report}


def assert_same(a, b):
    assert a.sources == b.sources
    assert a.skeleton == b.skeleton
    assert np.array_equal(a.keypoints, b.keypoints, equal_nan=True)
    assert np.array_equal(a.annotated, b.annotated)
    assert np.array_equal(np.asarray(a.images[:]), np.asarray(b.images[:]))


def test_the_real_project_comes_back_as_pandas_reads_it(test_data, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    project = test_data / "openfield"
    report = LossReport()
    annotations = read(project, report=report)
    assert {loss.what for loss in report} == {"settings of the project"}
    DeepLabCutFormat().write(
        tmp_path / "p", annotations.subset(range(8)), report=report, scorer="Pranav",
        index_levels=1,
    )  # fmt: skip
    assert {loss.what for loss in report} == {"settings of the project"}
    name = "labeled-data/m4s1/CollectedData_Pranav.h5"
    key = "df_with_missing"
    expected, found = (pandas.read_hdf(root / name, key) for root in (project, tmp_path / "p"))
    pandas.testing.assert_frame_equal(found, expected.iloc[:8], check_index_type=False)
    assert_same(read(tmp_path / "p"), annotations.subset(range(8)))


def test_a_new_project_has_what_deeplabcut_looks_for(project, tmp_path):
    DeepLabCutFormat().write(tmp_path / "new", read(project), task="walk", date="Oct30")
    config = yaml.safe_load((tmp_path / "new" / "config.yaml").read_text())
    # Source: create_config_template and create_new_project of DeepLabCut 3.0
    assert set(config) >= {
        "Task", "scorer", "date", "multianimalproject", "identity", "project_path", "engine",
        "video_sets", "bodyparts", "start", "stop", "numframes2pick", "skeleton",
        "skeleton_color", "pcutoff", "dotsize", "alphavalue", "colormap", "TrainingFraction",
        "iteration", "default_net_type", "default_augmenter", "snapshotindex", "batch_size",
        "cropping", "x1", "x2", "y1", "y2", "corner2move2", "move2corner",
    }  # fmt: skip
    assert (config["Task"], config["date"], config["scorer"]) == ("walk", "Oct30", "dpk")
    assert config["video_sets"] == {"day1.mp4": {"crop": "0, 30, 0, 20"}}
    assert config["skeleton"] == [["leftear", "rightear"]]
    for folder in ("videos", "training-datasets", "dlc-models", "labeled-data/day1"):
        assert (tmp_path / "new" / folder).is_dir()


def test_a_painted_dot_stays_under_its_label(tmp_path):
    rng = np.random.default_rng(0)
    places = rng.integers(0, [30, 20], (3, 2))
    images = np.zeros((3, 20, 30, 3), np.uint8)
    images[np.arange(3), places[:, 1], places[:, 0]] = (255, 120, 7)
    skeleton = Skeleton(("dot",))
    sources = tuple(Source("videos/walk.mp4", i) for i in (0, 70, 12345))
    annotations = AnnotationSet(images, places[:, None].astype(float), skeleton, sources=sources)
    report = LossReport()
    DeepLabCutFormat().write(tmp_path / "p", annotations, report=report)
    assert [loss.what for loss in report] == ["paths of images"]
    again = read(tmp_path / "p")
    for i, (x, y) in enumerate(again.keypoints[:, 0].astype(int)):
        assert again.images[i][y, x].tolist() == [255, 120, 7]
    assert [(s.video, s.frame) for s in again.sources] == [
        ("walk", 0), ("walk", 70), ("walk", 12345),
    ]  # fmt: skip


def test_what_a_project_cannot_hold_is_counted(tmp_path):
    keypoints = np.array([[[1, 2], [3, 4], [5, 6]], [[1, 2], [np.nan, np.nan], [5, 6]]], float)
    annotations = AnnotationSet(
        np.zeros((2, 8, 9, 1), np.uint8),
        keypoints,
        Skeleton(("a", "b", "c"), parent=(1, -1, -1), swap=(2, -1, 0)),
        annotated=np.array([[1, 1, 0], [1, 1, 1]], bool),
        visibility=np.array([[1, 2, 0], [2, 0, 2]], np.uint8),
        sources=(Source("v.mp4", 4, crop=(2, 0, 0, 0, 2, 0)), Source("", -1)),
    )
    report = LossReport()
    DeepLabCutFormat().write(tmp_path / "p", annotations, report=report)
    assert {loss.what: loss.count for loss in report} == {
        "unconfirmed keypoints": 1,
        "keypoints marked absent": 1,
        "visibilities": 1,
        "paths of images": 2,
        "crops": 1,
        "parents": 2,
        "swap partners": 2,
    }
    again = read(tmp_path / "p")
    row = [source.video for source in again.sources].index("v")
    assert again.keypoints[row, :2].tolist() == [[1, 2], [3, 4]]
    assert np.isnan(again.keypoints[row, 2]).all()
    assert again.image_shape == (8, 9, 3)


def test_animals_cropped_out_of_one_frame_keep_their_images(tmp_path):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, 2, 3] = images[1, 5, 1] = 200
    crops = [(1.0, 0.0, -x, 0.0, 1.0, -4.0) for x in (10.0, 20.0)]
    annotations = AnnotationSet(
        images, np.array([[[3, 2]], [[1, 5]]], float), Skeleton(("dot",)),
        sources=tuple(Source("v.mp4", 3, name, crop)
                      for name, crop in zip("ab", crops, strict=True)),
    )  # fmt: skip
    report = LossReport()
    DeepLabCutFormat().write(tmp_path / "p", annotations, report=report)
    assert {loss.what for loss in report} == {"paths of images", "crops"}
    again = read(tmp_path / "p")
    assert {s.individual for s in again.sources} == {"a", "b"}
    for i, (x, y) in enumerate(again.keypoints[:, 0].astype(int)):
        assert again.images[i][y, x, 0] == 200


def test_a_crop_of_whole_pixels_comes_back(tmp_path):
    crop = (1.0, 0.0, -10.0, 0.0, 1.0, -4.0)
    annotations = AnnotationSet(
        np.zeros((2, 8, 9, 3), np.uint8), np.ones((2, 1, 2)), Skeleton(("dot",)),
        sources=(Source("v", 3, crop=crop), Source("v", 4, crop=crop)),
    )  # fmt: skip
    report = LossReport()
    DeepLabCutFormat().write(tmp_path / "p", annotations, report=report)
    assert not report, str(report)
    assert read(tmp_path / "p").sources == annotations.sources


def test_folders_are_safe_and_of_their_own(tmp_path):
    videos = ["/data/a/walk.mp4", "C:\\b\\Walk.avi", "../../etc/..", "we?ird:name", "п" * 300]
    annotations = AnnotationSet(
        np.zeros((5, 8, 9, 3), np.uint8), np.arange(10.0).reshape(5, 1, 2), Skeleton(("dot",)),
        sources=tuple(Source(video, 3) for video in videos),
    )  # fmt: skip
    DeepLabCutFormat().write(tmp_path / "p", annotations)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    again = read(tmp_path / "p")
    folders = {path.name.casefold() for path in (tmp_path / "p" / "labeled-data").iterdir()}
    assert len(folders) == 5
    assert {tuple(row) for row in again.keypoints[:, 0]} == {
        tuple(row) for row in annotations.keypoints[:, 0]
    }
    config = yaml.safe_load((tmp_path / "p" / "config.yaml").read_text())
    assert {PureWindowsPath(video).stem.casefold() for video in config["video_sets"]} == folders


def test_an_animal_twice_in_a_frame_and_wrong_options_are_refused(tmp_path):
    annotations = AnnotationSet(
        np.zeros((2, 8, 9, 3), np.uint8), np.ones((2, 1, 2)), Skeleton(("dot",)),
        sources=(Source("v", 3, "a"), Source("v", 3, "a")),
    )  # fmt: skip
    write = DeepLabCutFormat().write
    with pytest.raises(ValidationError, match=r"v/img0003\.png: the individual 'a' is there twice"):
        write(tmp_path / "p", annotations)
    with pytest.raises(ValidationError, match="unknown options"):
        write(tmp_path / "p", annotations, nothing=1)
    with pytest.raises(ValidationError, match="scorer"):
        write(tmp_path / "p", annotations, scorer="../a")
    with pytest.raises(ValidationError, match="1 or 3"):
        write(tmp_path / "p", annotations, index_levels=2)


names = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs")), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_is_written_comes_back(tmp_path_factory, data):
    k = data.draw(st.integers(1, 4))
    parts = data.draw(st.lists(names, min_size=k, max_size=k, unique=True))
    animals = data.draw(st.lists(names, max_size=3, unique=True).map(sorted)) or [""]
    n_frames = data.draw(st.integers(1, 3))
    rows = [(video, frame, animal) for video in ("a", "b") for frame in range(n_frames)
            for animal in data.draw(st.sampled_from([animals, animals[:1]]))]  # fmt: skip
    values = data.draw(
        st.lists(st.tuples(st.floats(-40, 40), st.floats(-40, 40), st.booleans()),
                 min_size=len(rows) * k, max_size=len(rows) * k)
    )  # fmt: skip
    keypoints = np.array([[x, y] if there else [np.nan, np.nan] for x, y, there in values])
    keypoints = keypoints.reshape(len(rows), k, 2)
    annotations = AnnotationSet(
        np.zeros((len(rows), 64, 64, 1), np.uint8), keypoints, Skeleton(tuple(parts)),
        sources=tuple(Source(video, frame, animal) for video, frame, animal in rows),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("made") / "p"
    report = LossReport()
    DeepLabCutFormat().write(path, annotations, report=report)
    again = read(path, report=report, guess_swaps=False)
    kept = np.isfinite(keypoints).any(axis=(1, 2))
    found = {(s.video, s.frame, s.individual): row
             for s, row in zip(again.sources, again.keypoints, strict=True)}  # fmt: skip
    for i, row in enumerate(rows):
        if kept[i]:
            order = [again.skeleton.names.index(name) for name in parts]
            assert np.array_equal(found[row][order], keypoints[i], equal_nan=True)
    assert sum(np.isfinite(row).any() for row in found.values()) == kept.sum()
    expected = set() if kept.all() or animals == [""] else {"rows without a label"}
    assert {loss.what for loss in report} - {"settings of the project"} <= expected | {
        "individuals", "unique body parts", "places of body parts",
    }  # fmt: skip
    assert expected <= {loss.what for loss in report}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_mutated_real_tables_are_refused_or_read(test_data, tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("fuzz")
    for suffix, reader in ((".h5", read_label_hdf), (".csv", read_table)):
        name = f"CollectedData_Pranav{suffix}"
        content = (test_data / "openfield" / "labeled-data" / "m4s1" / name).read_bytes()
        # Half of the changes where the structure is, before the numbers.
        places = rng.integers(0, [len(content), 4000][seed % 2], rng.integers(1, 9))
        changed = bytearray(content)
        for place in places:
            changed[place] = rng.integers(256)
        (folder / name).write_bytes(bytes(changed))
        with suppress(DpkError):
            table = reader(folder / name)
            assert table.keypoints.shape[0] == len(table.images)
            if table.layout.bodyparts == ("snout", "leftear", "rightear", "tailbase"):
                exact = reader(test_data / "openfield" / "labeled-data" / "m4s1" / name)
                rows = [i for i, image in enumerate(table.images) if image in exact.images]
                same = [
                    np.array_equal(table.keypoints[i], exact.keypoints[exact.images.index(image)])
                    for i, image in enumerate(table.images)
                    if i in rows
                ]
                assert same.count(False) <= len(places)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_mutated_tables_are_refused_or_read(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("fuzz")
    columns = [("A", part, c) for part in ("nose", "tail") for c in "xy"]
    index = [("labeled-data", "v", f"img{i}.png") for i in range(5)]
    content = np.arange(20.0).reshape(5, 4)
    write_frame(folder / "CollectedData_A.h5", columns, LEVELS, index, [content])
    rows = [",".join(map(repr, row)) for row in content.tolist()]
    head = "scorer,A,A,A,A\nbodyparts,nose,nose,tail,tail\ncoords,x,y,x,y\n"
    body = "".join(f"labeled-data/v/img{i}.png,{row}\n" for i, row in enumerate(rows))
    (folder / "CollectedData_A.csv").write_text(head + body)
    for path, reader in (
        ("CollectedData_A.h5", read_label_hdf),
        ("CollectedData_A.csv", read_table),
    ):
        data = bytearray((folder / path).read_bytes())
        for _ in range(rng.integers(1, 12)):
            data[rng.integers(len(data))] = rng.integers(256)
        if rng.random() < 0.3:
            del data[rng.integers(len(data)) :]
        (folder / path).write_bytes(bytes(data))
        with suppress(DpkError):
            table = reader(folder / path)
            n, k = len(table.images), len(table.layout.bodyparts)
            assert table.keypoints.shape == (n, len(table.layout.individuals), k, 2)
