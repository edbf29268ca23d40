"""DeepLabCut projects: read right, and refused with a reason."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from dpk_core.errors import FileFormatError, FileMissingError
from dpk_core.services.plugins import registry
from dpk_core.testing import check_dataset
from dpk_io_formats.deeplabcut import DeepLabCutFormat, make_skeleton

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
