"""Lightning Pose: labels in and out, predictions in."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.skeleton import Skeleton
from dpk_core.testing import check_dataset
from dpk_core.testing.formats import check_format, sample_of
from dpk_io_formats.deeplabcut import DeepLabCutFormat
from dpk_io_formats.deeplabcut_predictions import DeepLabCutPredictionsFormat
from dpk_io_formats.lightning_pose import LightningPoseFormat

FORMAT = LightningPoseFormat()
HEADER = "scorer,lab,lab,lab,lab\nbodyparts,ear_l,ear_l,ear_r,ear_r\ncoords,x,y,x,y\n"
PREDICTED = (
    "scorer,heatmap_tracker,heatmap_tracker,heatmap_tracker\nbodyparts,nose,nose,nose\n"
    "coords,x,y,likelihood\n"
)


def read(path, kind="annotations", **options):
    report = LossReport()
    found = FORMAT.read(path, kind, report=report, **options)
    if kind == "poses":
        found = found.read()
    return found, {loss.what: loss.count for loss in report}


def write(path, annotations, **options):
    report = LossReport()
    FORMAT.write(path, annotations, report=report, **options)
    return {loss.what: loss.count for loss in report}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "labeled-data" / "walk").mkdir(parents=True)
    for i in (5, 30):
        image = np.zeros((20, 30, 3), np.uint8)
        image[i // 3, 11] = (0, 0, 255)  # OpenCV writes BGR: a red dot
        name = folder / "labeled-data" / "walk" / f"img{i:04d}.png"
        cv2.imencode(".png", image)[1].tofile(name)
    (folder / "CollectedData.csv").write_text(
        HEADER + "labeled-data/walk/img0005.png,11,1,2,3\nlabeled-data/walk/img0030.png,11,10,,\n"
    )
    return folder


def test_it_keeps_the_contract():
    several = sample_of("annotations")
    check_format("lightning-pose", samples={"annotations": several.subset([0, 2, 3, 4])})


def test_labels_lie_on_their_dots(data):
    for path in (data, data / "CollectedData.csv"):
        assert FORMAT.sniff(path)
        assert FORMAT.kinds(path) == ("annotations",)
        annotations, lost = read(path)
        assert lost == {"scorers' names": 1}
        for i, (x, y) in enumerate(annotations.keypoints[:, 0].astype(int)):
            assert annotations.images[i][y, x].tolist() == [255, 0, 0]
        assert np.isnan(annotations.keypoints[1, 1]).all()
        assert [(s.video, s.frame) for s in annotations.sources] == [("walk", 5), ("walk", 30)]
        assert annotations.skeleton.flip_order.tolist() == [1, 0]
        check_dataset(annotations)


def test_labels_come_back_as_pandas_reads_them(data, tmp_path):
    pandas = pytest.importorskip("pandas")
    annotations, _ = read(data)
    assert write(tmp_path / "again", annotations, scorer="lab") == {}
    assert (tmp_path / "again" / "CollectedData.csv").read_text() == (
        data / "CollectedData.csv"
    ).read_text().replace("11,1,2,3", "11.0,1.0,2.0,3.0").replace("11,10,", "11.0,10.0,")
    tables = [
        pandas.read_csv(root / "CollectedData.csv", header=[0, 1, 2], index_col=0)
        for root in (data, tmp_path / "again")
    ]
    pandas.testing.assert_frame_equal(*tables, check_dtype=False)  # 11 and 11.0
    again, _ = read(tmp_path / "again")
    assert np.array_equal(np.asarray(again.images[:]), np.asarray(annotations.images[:]))


def test_the_real_labels_of_deeplabcut_come_back(test_data, tmp_path):
    annotations = DeepLabCutFormat().read(test_data / "openfield").subset([0, 5, 9])
    assert write(tmp_path / "lp", annotations) == {}
    again, lost = read(tmp_path / "lp")
    assert lost == {}
    assert np.array_equal(again.keypoints, annotations.keypoints, equal_nan=True)
    assert again.sources == annotations.sources
    assert np.array_equal(np.asarray(again.images[:]), np.asarray(annotations.images[:]))


def test_deeper_folders_are_told_apart_and_renamed_images_counted(data):
    for folder in ("cam0", "cam1"):
        (data / "labeled-data" / "walk" / folder).mkdir()
        source = data / "labeled-data" / "walk" / "img0005.png"
        (data / "labeled-data" / "walk" / folder / "frame7.png").write_bytes(source.read_bytes())
    (data / "CollectedData.csv").write_text(
        HEADER + "".join(f"labeled-data/walk/cam{i}/frame7.png,1,2,3,4\n" for i in (0, 1))
    )
    annotations, lost = read(data)
    assert [(s.video, s.frame) for s in annotations.sources] == [("walk/cam0", 7), ("walk/cam1", 7)]
    assert lost["names of images"] == 2


def test_missing_images_and_bad_tables(data):
    (data / "labeled-data" / "walk" / "img0005.png").unlink()
    with pytest.raises(FileMissingError, match=r"img0005\.png"):
        read(data)
    annotations, lost = read(data, missing="skip")
    assert (len(annotations), lost["labelled images"]) == (1, 1)
    table = data / "CollectedData.csv"
    for content, message in (
        (HEADER + "../../a.png,1,2,3,4\n", "leads out"),
        (HEADER + "a/b.png,1,2,3,x\n", "row 4: expected a number"),
        (HEADER + "a/b.png,1,2,3,4\na/b.png,1,2,3,4\n", "labelled twice"),
        (HEADER, "no labelled frame"),
        (HEADER.replace("ear_r", "ear_l") + "a/b.png,1,2,3,4\n", "'ear_l' stands twice"),
        (HEADER + "a/b.png,1,2,3,4", "cut short"),
        (
            "scorer,A,A\nindividuals,m,m\nbodyparts,a,a\ncoords,x,y\na/b.png,1,2\n",
            "knows one animal",
        ),
    ):
        table.write_text(content)
        with pytest.raises(FileFormatError, match=message):
            read(data)
    table.unlink()
    with pytest.raises(FileFormatError, match=r"has no CollectedData\.csv"):
        read(data)
    with pytest.raises(ValidationError, match="unknown options"):
        read(data / "a.csv", nothing=1)
    with pytest.raises(ValidationError, match="not tracks"):
        read(data / "a.csv", kind="tracks")


def test_several_animals_are_refused_and_losses_counted(tmp_path):
    annotations = AnnotationSet(
        np.zeros((2, 8, 9, 3), np.uint8), np.ones((2, 2, 2)),
        Skeleton(("a", "b"), parent=(-1, 0), swap=(1, 0)),
        visibility=np.full((2, 2), 1), sources=(Source("v", 1, "x"), Source("v", 1, "y")),
    )  # fmt: skip
    with pytest.raises(ValidationError, match="several animals share a frame"):
        write(tmp_path / "p", annotations)
    assert write(tmp_path / "p", annotations.subset([0])) == {
        "visibilities": 2, "names of individuals": 1, "skeleton edges": 1, "swap partners": 2,
    }  # fmt: skip


# -- predictions --------------------------------------------------------------------------------


def test_predictions_belong_to_whom_they_say(tmp_path):
    path = tmp_path / "walk.csv"
    path.write_text(PREDICTED + "0,1,2,0.5\n1,3,4,0.25\n")
    assert FORMAT.sniff(path)
    assert FORMAT.kinds(path) == ("poses",)
    assert not DeepLabCutPredictionsFormat().sniff(path)
    poses, lost = read(path, "poses")
    assert lost == {}
    assert poses.keypoints[:, 0].tolist() == [[1, 2], [3, 4]]
    assert poses.scores[:, 0].tolist() == [0.5, 0.25]
    assert poses.provenance["scorer"] == "heatmap_tracker"
    path.write_text(PREDICTED.replace("heatmap_tracker", "DLC_resnet50") + "0,1,2,0.5\n")
    assert not FORMAT.sniff(path)
    assert DeepLabCutPredictionsFormat().sniff(path)


def test_further_columns_are_counted(tmp_path):
    columns = ["x", "y", "likelihood", "x_ens_median", "y_ens_median"]
    head = f"scorer{',ensemble-kalman_tracker' * 10}\nbodyparts{',a' * 5}{',b' * 5}\n"
    body = "0,1,2,0.5,9,9,3,4,,9,9\n"
    (tmp_path / "e.csv").write_text(head + "coords," + ",".join(columns * 2) + "\n" + body)
    assert FORMAT.kinds(tmp_path / "e.csv") == ("poses",)
    poses, lost = read(tmp_path / "e.csv", "poses")
    assert poses.keypoints[0].tolist() == [[1, 2], [3, 4]]
    assert poses.scores[0].tolist() == [0.5, 1.0]
    assert lost == {"columns": 4, "scores": 1}


def test_predictions_of_labelled_images_come_without_their_split(tmp_path):
    lines = PREDICTED.splitlines()
    text = "\n".join([f"{lines[0]},set", f"{lines[1]},", f"{lines[2]},"])
    body = "labeled-data/v/img03.png,1,2,0.5,train\nlabeled-data/v/img11.png,3,4,0.5,test\n"
    (tmp_path / "p.csv").write_text(f"{text}\n{body}")
    assert FORMAT.kinds(tmp_path / "p.csv") == ("poses",)
    poses, lost = read(tmp_path / "p.csv", "poses")
    assert poses.frames.tolist() == [3, 11]
    assert poses.keypoints[1, 0].tolist() == [3, 4]
    assert lost["splits"] == 1


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_is_written_comes_back(tmp_path_factory, data):
    n, k = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    names = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs")), min_size=1, max_size=9)
    parts = tuple(data.draw(st.lists(names, min_size=k, max_size=k, unique=True)))
    keypoints = np.array(
        data.draw(st.lists(st.floats(-60, 60), min_size=n * k * 2, max_size=n * k * 2))
    ).reshape(n, k, 2)
    keypoints[data.draw(st.integers(0, n - 1)), 0] = np.nan
    annotations = AnnotationSet(
        np.zeros((n, 32, 32, 1), np.uint8), keypoints, Skeleton(parts),
        sources=tuple(Source("v", i * 3) for i in range(n)),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("made") / "p"
    assert set(write(path, annotations)) <= {"swap partners"}
    again, lost = read(path, guess_swaps=False)
    assert lost == {}
    assert np.array_equal(again.keypoints, keypoints, equal_nan=True)
    assert again.sources == annotations.sources
    assert again.skeleton == annotations.skeleton
