"""Ultralytics pose datasets: shares of the image to the half pixel, and refused with a reason."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.services.formats import identify
from dpk_core.testing import check_dataset
from dpk_core.testing.formats import check_format
from dpk_io_formats.images import read_image, write_png
from dpk_io_formats.ultralytics import UltralyticsFormat

CONFIG = {
    "train": "images/train",
    "val": "images/val",
    "names": {0: "animal"},
    "kpt_shape": [3, 3],
    "flip_idx": [0, 2, 1],
    "kpt_names": {0: ["nose", "ear_l", "ear_r"]},
}
# a 30x20 image: (11 + 0.5) / 30, (4 + 0.5) / 20; the pixels from (3, 4) to (11, 7)
LINE = "0 0.25 0.3 0.3 0.2  0.38333333 0.225 2  0.11666667 0.375 1  0 0 0"


@pytest.fixture
def folder(tmp_path):
    put(tmp_path, CONFIG)
    dot = np.zeros((20, 30, 3), np.uint8)
    dot[4, 11] = (255, 0, 0)
    for split, name, shape in (("train", "a.png", None), ("val", "b.png", (36, 40, 3))):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        write_png(
            tmp_path / "images" / split / name, dot if shape is None else np.zeros(shape, np.uint8)
        )
    label(tmp_path, LINE)
    return tmp_path


def put(folder, config, **changes):
    text = yaml.safe_dump({**config, **changes}, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def label(folder, *lines, name="train/a.txt"):
    (folder / "labels" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(folder, **options):
    return UltralyticsFormat().read(folder, **options)


def write(folder, labels, **options):
    UltralyticsFormat().write(folder, labels, **options)
    return folder


def error(folder, match, *lines, kind=FileFormatError, **options):
    if lines:
        label(folder, *lines)
    with pytest.raises(kind, match=match):
        read(folder, **options)


# -- reading --------------------------------------------------------------------------------------


def test_a_painted_dot_lies_at_its_label(folder):
    report = LossReport()
    labels = read(folder, report=report)
    x, y = labels.keypoints[0, 0]
    assert (x, y) == pytest.approx((11, 4), abs=1e-5)
    assert labels.images[0][round(y), round(x)].tolist() == [255, 0, 0]
    assert labels.keypoints[0, 1] == pytest.approx((3, 7), abs=1e-5)
    assert labels.visibility.tolist() == [[2, 1, 0], [0, 0, 0]]
    assert labels.image_shape == (36, 40, 3)
    assert [(s.video, s.frame, s.size) for s in labels.sources] == [
        ("a.png", 0, (20, 30)),
        ("b.png", 0, None),
    ]
    assert labels.skeleton.names == ("nose", "ear_l", "ear_r")
    assert labels.skeleton.swap == (-1, 2, 1)
    assert {loss.what: loss.count for loss in report} == {"splits": 2}
    check_dataset(labels)


def test_shares_from_the_center(folder):
    assert read(folder, origin="center").keypoints[0, 0] == pytest.approx((11.5, 4.5), abs=1e-5)


def test_one_split(folder):
    report = LossReport()
    assert len(read(folder, split="val", report=report)) == 1
    assert not report


def test_two_values(folder):
    put(folder, CONFIG, kpt_shape=[3, 2])
    label(folder, "0 0.5 0.5 1 1  0.38333333 0.225  -1 0.5  0 0")
    labels = read(folder)
    assert labels.visibility[0].tolist() == [2, 0, 0]
    assert labels.keypoints[0, 0] == pytest.approx((11, 4), abs=1e-5)


def test_several_animals_classes_and_boxes(folder):
    put(folder, CONFIG, names=["cat", "dog"], download="x")
    far = "1 0.5 0.5 1 1  1.5 -0.25 2  0.1 0.1 0.7  0 0 0"
    empty = "0 0.5 0.5 1 1  0 0 0 0 0 0 0 0 0"
    label(folder, LINE, far, "", LINE, empty)
    report = LossReport()
    labels = read(folder, report=report)
    assert [s.individual for s in labels.sources] == ["1", "2", ""]
    assert labels.keypoints[1, 0] == pytest.approx((1.5 * 30 - 0.5, -0.25 * 20 - 0.5))
    assert {(loss.what, loss.count) for loss in report} == {
        ("splits", 2), ("classes", 2), ("settings", 1), ("visibilities", 1), ("boxes", 1),
        ("animals", 1),
    }  # fmt: skip
    assert sum(loss.count for loss in report if loss.what == "animals") == 2


def test_the_same_name_in_two_splits(folder):
    (folder / "images" / "val" / "b.png").rename(folder / "images" / "val" / "a.png")
    label(folder, LINE, name="val/a.txt")
    assert [s.video for s in read(folder).sources] == ["a.png", "val/a.png"]


def test_places_of_roboflow_and_lists(folder):
    put(folder, CONFIG, train="../images/train", val="list.txt")
    (folder / "list.txt").write_text("./images/val/b.png\n\n")
    labels = read(folder / "data.yaml")
    assert [s.video for s in labels.sources] == ["a.png", "images/val/b.png"]
    put(folder, CONFIG, path=str(folder), train=["images/train", "images/val"], val=None)
    assert len(read(folder)) == 2
    put(folder, CONFIG, path="elsewhere/on/another/computer")
    assert len(read(folder)) == 2


def test_skeletons(folder):
    put(folder, CONFIG, skeleton=[[0, 1], [1, 2], [2, 0]])
    report = LossReport()
    assert read(folder, report=report).skeleton.edges == ((1, 0), (2, 1))
    assert {loss.what: loss.count for loss in report}["skeleton edges"] == 1
    put(folder, {key: CONFIG[key] for key in ("train", "val", "kpt_shape", "names")})
    assert read(folder).skeleton.names == ("keypoint_0", "keypoint_1", "keypoint_2")


def test_sniffs_by_content(folder):
    plugin = UltralyticsFormat()
    assert identify(folder).spec.name == "ultralytics"
    assert plugin.sniff(folder / "data.yaml")
    (folder / "data.yaml").rename(folder / "flies.yml")
    assert plugin.sniff(folder)
    (folder / "flies.yml").write_text("names: [a]\ntrain: images\n")
    assert not plugin.sniff(folder)
    assert not plugin.sniff(folder / "images")
    assert not plugin.sniff(folder / "absent")


# -- writing --------------------------------------------------------------------------------------


def test_keeps_its_contract():
    check_format("ultralytics")


def loaded(path, image, k, values):
    """What the loader makes of a text file, by its documented formula: class, box, keypoints."""
    height, width = read_image(image).shape[:2]
    rows = np.array([line.split() for line in path.read_text().splitlines()], float)
    assert rows.shape[1] == 5 + k * values
    assert rows.min() >= 0
    points = rows[:, 5:].reshape(len(rows), k, values)
    assert points[..., :2].max() <= 1
    assert rows[:, 1:5].max() <= 1
    boxes = rows[:, 1:5] * (width, height, width, height)
    points[..., :2] *= (width, height)
    return rows[:, 0], boxes, points


@pytest.mark.parametrize("values", [2, 3])
def test_what_the_loader_makes_of_it(tmp_path, made_labels, values):
    labels = made_labels(seed=3, frames=4, animals=3)
    write(tmp_path / "set", labels, values=values)
    config = yaml.safe_load((tmp_path / "set" / "data.yaml").read_text(encoding="utf-8"))
    assert config["kpt_shape"] == [4, values]
    assert config["flip_idx"] == [0, 2, 1, 3]
    assert config["kpt_names"] == {0: list(labels.skeleton.names)}
    assert "path" not in config, "Ultralytics would look for a relative one elsewhere"
    rows = 0
    for image in sorted((tmp_path / "set" / config["train"]).iterdir()):
        text = tmp_path / "set" / "train" / "labels" / f"{image.stem}.txt"
        classes, boxes, points = loaded(text, image, 4, values)
        mine = [i for i, s in enumerate(labels.sources) if s.frame == int(image.stem[5:])]
        assert classes.tolist() == [0] * len(mine)
        for i, box, found in zip(mine, boxes, points, strict=True):
            placed = np.isfinite(labels.keypoints[i]).all(axis=1)
            # from the corner: a pixel's centre lies half a pixel further
            assert np.allclose(found[placed, :2], labels.keypoints[i][placed] + 0.5, atol=1e-9)
            assert not found[~placed].any()
            low, high = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
            assert np.allclose(low, labels.keypoints[i][placed].min(axis=0), atol=1e-9)
            assert np.allclose(high, labels.keypoints[i][placed].max(axis=0) + 1, atol=1e-9)
            if values == 3:
                assert np.array_equal(found[:, 2], labels.visibility[i])
            rows += 1
    assert rows == len(labels)


def test_sleap_io_reads_it(tmp_path, made_labels):
    sio = pytest.importorskip("sleap_io")
    labels = made_labels(seed=5, frames=2, animals=1)
    write(tmp_path / "set", labels)
    theirs = sio.load_ultralytics(str(tmp_path / "set"), split="train")
    assert len(theirs) == 2
    assert theirs.skeleton.node_names == list(labels.skeleton.names)
    for i, frame in enumerate(theirs.labeled_frames):
        # sleap-io takes shares of the image as they are, without the half pixel
        assert np.allclose(
            frame.instances[0].numpy() - 0.5, labels.keypoints[i], equal_nan=True, atol=1e-4
        )


@given(seed=st.integers(0, 10**6), frames=st.integers(1, 4), animals=st.integers(1, 3))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_ours_and_back(tmp_path_factory, made_labels, seed, frames, animals):
    labels = made_labels(seed, frames, animals)
    report = LossReport()
    again = read(write(tmp_path_factory.mktemp("yolo") / "set", labels, report=report))
    assert np.allclose(again.keypoints, labels.keypoints, equal_nan=True, atol=1e-9)
    assert np.array_equal(again.visibility, labels.visibility)
    height, width = again.image_shape[:2]
    assert np.array_equal(again.images[:], labels.images[:, :height, :width])
    assert again.skeleton == labels.skeleton
    assert {loss.what for loss in report} == {"identities", "videos and frame numbers"}


@given(seed=st.integers(0, 10**6))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_theirs_and_back(tmp_path_factory, seed):
    """Ultralytics -> ours -> Ultralytics: only what the report names changes."""
    rng = np.random.default_rng(seed)
    a = tmp_path_factory.mktemp("yolo")
    put(a, CONFIG, val="images/train", skeleton=[[0, 1], [0, 2]])
    for kind in ("images", "labels"):
        (a / kind / "train").mkdir(parents=True)
    expected = {}
    for i in range(3):
        size = rng.integers(16, 40, 2)
        write_png(a / "images" / "train" / f"{i}.png", np.zeros((*size, 3), np.uint8))
        rows = []
        for _ in range(int(rng.integers(0, 3))):
            points = np.column_stack([rng.uniform(0.05, 0.95, (3, 2)), rng.integers(0, 3, 3)])
            points[0, 2] = 2
            points[points[:, 2] == 0] = 0
            rows.append([0, 0.5, 0.5, 1, 1, *points.ravel()])
        lines = (" ".join(map(repr, map(float, row))) for row in rows)
        (a / "labels" / "train" / f"{i}.txt").write_text("\n".join(lines))
        expected[f"{i}.txt"] = rows
    report = LossReport()
    b = write(a / "again", read(a, report=report), report=report)
    for name, rows in expected.items():
        text = (b / "train" / "labels" / name).read_text()
        found = [[float(cell) for cell in line.split()] for line in text.splitlines()]
        assert len(found) == len(rows)
        for before, after in zip(rows, found, strict=True):
            assert np.allclose(before[5:], after[5:], atol=1e-12)
    config = yaml.safe_load((b / "data.yaml").read_text())
    for key in ("kpt_shape", "flip_idx", "kpt_names", "names", "skeleton"):
        assert config[key] == {**CONFIG, "skeleton": [[0, 1], [0, 2]]}[key]
    boxes = sum(map(len, expected.values()))
    assert {loss.what: loss.count for loss in report} == ({"boxes": boxes} if boxes else {})


def test_losses_of_writing(tmp_path, made_labels):
    labels = made_labels(frames=1, animals=1, sizes=((24, 32),))
    keypoints = labels.keypoints.copy()
    keypoints[0] = [[-0.5, 3], [-0.6, 3], [31.5, 23.5], [np.nan] * 2]
    visibility = np.array([[1, 2, 2, 0]])
    changed = attrs.evolve(labels, keypoints=keypoints, visibility=visibility, annotated=None)
    report = LossReport()
    write(tmp_path / "three", changed, report=report)
    found = {loss.what: loss.count for loss in report}
    assert found["keypoints"] == 1, "outside the image"
    line = (tmp_path / "three" / "train" / "labels" / "walk_000000.txt").read_text().split()
    assert [float(cell) for cell in line[5:8]] == [0, 3.5 / 24, 1]
    assert line[8:14] == ["0", "0", "0", "1", "1", "2"]
    report = LossReport()
    write(tmp_path / "two", changed, values=2, report=report)
    found = {loss.what: loss.count for loss in report}
    assert (found["visibilities"], found["missing keypoints"]) == (1, 2)


# -- bad input ------------------------------------------------------------------------------------


def test_missing_images_are_named(folder):
    (folder / "images" / "train" / "a.png").unlink()
    error(folder, r"1 of 2 labelled images.*a\.png.*missing=skip", kind=FileMissingError)
    report = LossReport()
    assert len(read(folder, missing="skip", report=report)) == 1
    assert "images" in {loss.what for loss in report}


def test_lines_that_cannot_be(folder):
    error(folder, r"a\.txt, line 2: expected 14 numbers .*found 5", LINE, "0 0.5 0.5 1 1")
    error(folder, r"line 1: .*could not convert", LINE.replace("0.225", "x"))
    error(folder, r"line 1: expected finite", LINE.replace("0.225", "nan"))
    error(folder, r"line 1: expected finite", LINE.replace("0.225", "1e999"))
    error(folder, r"line 1: expected a class from 0 to 0, found 3", "3" + LINE[1:])
    error(folder, r"line 1: expected a class", "0.5" + LINE[1:])
    (folder / "labels" / "train" / "a.txt").write_bytes(b"\xff\xfe0")
    error(folder, "not readable text")


def test_settings_that_cannot_be(folder):
    for change, match in [
        ({"kpt_shape": [3]}, r"expected kpt_shape: \[keypoints, 2 or 3\]"),
        ({"kpt_shape": [0, 3]}, "expected kpt_shape"),
        ({"kpt_shape": [3, 4]}, "expected kpt_shape"),
        ({"kpt_shape": None}, "has boxes and no poses"),
        ({"kpt_names": {0: ["a", "b"]}}, "expected 3 names"),
        ({"kpt_names": {0: ["a", "b", "a"]}}, "'a' stands twice"),
        ({"kpt_names": {0: ["a", ["b"], "c"]}}, "expected 3 names"),
        ({"flip_idx": [0, 1, 7]}, "expected flip_idx with 3 numbers from 0 to 2"),
        ({"skeleton": [[0, 3]]}, "pairs of keypoints from 0 to 2"),
        ({"train": 3}, "train: expected a folder"),
        ({"train": "images/../../secret"}, "leads out of the dataset"),
        ({"val": "list.txt"}, r"leads out of its folder"),
    ]:
        (folder / "list.txt").write_text("../x.png\n")
        put(folder, CONFIG, **change)
        error(folder, match)
    put(folder, CONFIG, train="nowhere")
    error(folder, "train: no folder at", kind=FileMissingError)


def test_yaml_that_is_none(folder):
    path = folder / "data.yaml"
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
    )
    for text, match in [
        ("", "found none"),
        ("[1, 2", "not readable YAML"),
        ("- 1", "found none"),
        ("[" * 100_000, "not readable YAML|larger"),
        ("kpt_shape: !!python/object/apply:os.system ['true']", "not readable YAML"),
        (bomb + "kpt_shape: [3, 3]\nnames: *j\nkpt_names: *j\n", "unfolds to more than"),
    ]:
        path.write_text(text)
        UltralyticsFormat().sniff(folder)
        error(folder, match)
    path.write_bytes(b"\xff\xfe\x00")
    error(folder, "not readable YAML")
    path.unlink()
    error(folder, "no Ultralytics dataset at", kind=FileMissingError)


def test_names_of_any_kind(folder):
    names = ["鼻" * 400, "ухо\n", "c"]
    put(folder, CONFIG, kpt_names=[names])
    assert read(folder).skeleton.names == tuple(names)


def test_unknown_options(folder):
    for options in ({"colour": 1}, {"split": "x"}, {"origin": "x"}, {"kind": "poses"}):
        with pytest.raises(ValidationError):
            read(folder, **options)
    with pytest.raises(ValidationError, match="values: expected 2 or 3"):
        write(folder / "x", read(folder), values=4)


def test_damaged_files_are_refused_or_read(folder, damaged):
    put(folder, CONFIG, skeleton=[[0, 1], [0, 2]])
    for name in ("data.yaml", "labels/train/a.txt"):
        path = folder / name
        content = path.read_bytes()
        for changed in damaged(content, 150):
            path.write_bytes(changed)
            UltralyticsFormat().sniff(folder)
            try:
                labels = read(folder)
            except DpkError:
                continue
            assert labels.keypoints.shape[1:] == (len(labels.skeleton), 2)
        path.write_bytes(content)
