"""Label Studio's exports: percent to the half pixel, animals by regions, refused with a reason."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.services.formats import identify
from dpk_core.testing import check_dataset
from dpk_core.testing.formats import check_format
from dpk_io_formats.images import write_png
from dpk_io_formats.label_studio import LabelStudioFormat

WIDTH, HEIGHT = 40, 20


def keypoint(name, x, y, identity=None, **more):
    """A keypoint on the centre of a pixel, as the percentage of the image's extent."""
    value = {"x": 100 * (x + 0.5) / WIDTH, "y": 100 * (y + 0.5) / HEIGHT, "width": 0.4}
    return {
        "id": identity or f"{name}-{x}-{y}", "type": "keypointlabels", "from_name": "kp",
        "to_name": "image", "original_width": WIDTH, "original_height": HEIGHT,
        "image_rotation": 0, "value": {**value, "keypointlabels": [name]}, **more,
    }  # fmt: skip


def box(identity, label, x, y, width, height):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    return {
        "id": identity, "type": "rectanglelabels", "value": {**value, "rectanglelabels": [label]}
    }  # fmt: skip


def relation(a, b):
    return {"type": "relation", "from_id": a, "to_id": b, "direction": "right"}


def task(identity, image, *results, **more):
    annotation = {"id": 70 + identity, "was_cancelled": False, "result": list(results)}
    return {"id": identity, "data": {"image": image}, "annotations": [annotation], **more}


TASKS = [
    task(1, "/data/upload/3/0a1b2c3d-dot.png", keypoint("nose", 11, 4), keypoint("ear_l", 3, 7)),
    task(2, "/data/local-files/?d=flies%2Fb.png", keypoint("ear_r", 39, 19)),
]


@pytest.fixture
def folder(tmp_path):
    dot = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    dot[4, 11] = (255, 0, 0)
    write_png(tmp_path / "dot.png", dot)
    (tmp_path / "images" / "flies").mkdir(parents=True)
    write_png(tmp_path / "images" / "flies" / "b.png", dot[::-1, ::-1])
    return tmp_path


def put(folder, tasks=None, change=None):
    tasks = copy.deepcopy(TASKS if tasks is None else tasks)
    if change is not None:
        change(tasks)
    path = folder / "export.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def read(path, **options):
    return LabelStudioFormat().read(path, **options)


def one(folder, *results, **options):
    return read(put(folder, [task(1, "dot.png", *results)]), **options)


def animals(labels):
    """Individual, and the names and places of its keypoints."""
    found = {}
    for points, source in zip(labels.keypoints, labels.sources, strict=True):
        placed = np.isfinite(points).all(axis=1)
        names = [n for n, here in zip(labels.skeleton.names, placed, strict=True) if here]
        places = np.round(points[placed], 6).tolist()
        found[source.individual] = dict(zip(names, places, strict=True))
    return found


def test_a_painted_dot_lies_at_its_label(folder):
    report = LossReport()
    labels = read(put(folder), report=report)
    x, y = labels.keypoints[0, 0]
    assert (x, y) == pytest.approx((11, 4))
    assert labels.images[0][round(y), round(x)].tolist() == [255, 0, 0]
    assert labels.keypoints[1, 2] == pytest.approx((39, 19))
    assert labels.visibility.tolist() == [[2, 2, 0], [0, 0, 2]]
    assert labels.skeleton.names == ("nose", "ear_l", "ear_r")
    assert labels.skeleton.swap == (-1, 2, 1)
    assert [s.video for s in labels.sources] == ["data/upload/3/0a1b2c3d-dot.png", "flies/b.png"]
    assert not report
    check_dataset(labels)
    check_format("label-studio", put(folder))


def test_images_that_were_scaled_since(folder):
    write_png(folder / "dot.png", np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8))
    # the centre of the pixel at 11.5 from the edge lies at 23 now
    assert read(put(folder)).keypoints[0, 0] == pytest.approx((22.5, 8.5))


def test_the_short_export(folder):
    points = [{**keypoint("nose", 11, 4)["value"], "original_width": WIDTH}]
    points.append({**keypoint("tail", 2, 3)["value"], "original_width": WIDTH})
    path = put(folder, [{"image": "dot.png", "id": 4, "kp": points, "annotator": 1}])
    labels = read(path)
    assert animals(labels) == {"": {"nose": [11, 4], "tail": [2, 3]}}


def test_animals_by_parent(folder):
    labels = one(
        folder,
        box("a", "anna", 0, 0, 10, 10), box("b", "bert", 0, 0, 100, 100),
        keypoint("nose", 11, 4, parentID="a"), keypoint("nose", 20, 9, parentID="b"),
        keypoint("tail", 1, 1, parentID="b"),
    )  # fmt: skip
    assert animals(labels) == {
        "anna": {"nose": [11, 4]}, "bert": {"nose": [20, 9], "tail": [1, 1]}
    }  # fmt: skip


def test_animals_by_relation(folder):
    report = LossReport()
    labels = one(
        folder,
        box("a", "fly", 0, 0, 1, 1), keypoint("nose", 11, 4, "1"), keypoint("nose", 20, 9, "2"),
        keypoint("tail", 1, 1, "3"), relation("1", "a"), relation("3", "2"),
        {"type": "choices", "id": "c", "value": {"choices": ["good"]}},
        report=report,
    )  # fmt: skip
    assert animals(labels) == {"1": {"nose": [11, 4]}, "2": {"nose": [20, 9], "tail": [1, 1]}}
    assert {loss.what: loss.count for loss in report} == {"boxes": 1, "regions": 1}


def test_animals_by_rectangle(folder):
    labels = one(
        folder,
        box("a", "fly", 0, 0, 50, 100), box("b", "fly", 50, 0, 50, 100),
        keypoint("nose", 11, 4), keypoint("nose", 30, 9), keypoint("tail", 31, 9),
    )  # fmt: skip
    assert animals(labels) == {"1": {"nose": [11, 4]}, "2": {"nose": [30, 9], "tail": [31, 9]}}


def test_which_annotation_counts(folder):
    def change(tasks):
        first = tasks[0]["annotations"][0]
        cancelled = {**first, "was_cancelled": True, "result": [keypoint("nose", 1, 1)]}
        true = {**first, "ground_truth": True, "result": [keypoint("nose", 2, 2)]}
        tasks[0]["annotations"] = [cancelled, first, true]
        tasks[0]["predictions"] = [{"result": []}]
        tasks[1]["annotations"][0]["was_cancelled"] = True

    report = LossReport()
    labels = read(put(folder, change=change), report=report)
    assert animals(labels.subset([0])) == {"": {"nose": [2, 2]}}
    assert len(labels) == 2, "a task that was skipped is an image without labels"
    assert {(loss.what, loss.count) for loss in report} == {
        ("annotations", 2), ("annotations", 1), ("predictions", 1),
    }  # fmt: skip


def test_chosen_names(folder):
    report = LossReport()
    labels = read(put(folder), names="ear_r, nose", report=report)
    assert labels.skeleton.names == ("ear_r", "nose")
    assert labels.keypoints[0, 1] == pytest.approx((11, 4))
    assert {loss.what: loss.count for loss in report} == {"keypoints": 1}


def test_sniffs_by_content(folder):
    assert identify(put(folder)).spec.name == "label-studio"
    (folder / "x.json").write_text('{"keypointlabels": 1}')
    assert not LabelStudioFormat().sniff(folder / "x.json")
    assert not LabelStudioFormat().sniff(folder)


# -- bad input ------------------------------------------------------------------------------------


def test_missing_images_are_named(folder):
    (folder / "dot.png").unlink()
    with pytest.raises(FileMissingError, match=r"1 of 2 labelled images.*dot\.png.*missing=skip"):
        read(put(folder))
    assert len(read(put(folder), missing="skip")) == 1
    with pytest.raises(FileMissingError, match="no folder"):
        read(put(folder), images=folder / "nowhere")


@pytest.mark.parametrize("image", ["../x.png", "/data/local-files/?d=../../x.png", "a\\..\\x.png"])
def test_paths_that_lead_out(folder, image):
    with pytest.raises(FileFormatError, match="leads out of its folder"):
        read(put(folder, [task(1, image, keypoint("nose", 1, 1))]))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: r.update(image_rotation=90), "turned by 90 degrees"),
        (lambda r: r["value"].update(x="1"), "'nose': expected a number, found '1'"),
        (lambda r: r["value"].update(x=None), "'nose': expected a number"),
        (lambda r: r["value"].update(y=float("nan")), "expected finite coordinates"),
        (lambda r: r["value"].update(y=10**999), "expected finite coordinates"),
        (lambda r: r["value"].update(keypointlabels=["a", "b"]), "a keypoint with one label"),
        (lambda r: r["value"].update(keypointlabels=[]), "a keypoint with one label"),
    ],
)
def test_regions_that_cannot_be(folder, change, match):
    with pytest.raises(FileFormatError, match=match):
        read(put(folder, change=lambda tasks: change(tasks[0]["annotations"][0]["result"][0])))


def test_a_keypoint_twice(folder):
    with pytest.raises(FileFormatError, match=r"id 1.*'nose' stands twice in one animal"):
        one(folder, keypoint("nose", 1, 1), keypoint("nose", 2, 2))


def test_the_same_image_twice(folder):
    tasks = [TASKS[0], {**copy.deepcopy(TASKS[0]), "id": 9}]
    with pytest.raises(FileFormatError, match=r"id 9.*has a task already"):
        read(put(folder, tasks))


def test_far_outside_stays(folder):
    assert one(folder, keypoint("nose", -300, 4000)).keypoints[0, 0] == pytest.approx((-300, 4000))


def test_what_is_no_export(folder):
    path = put(folder)
    content = path.read_bytes()
    for text, match in [
        (b"", "is empty"),
        (content[:300], "cut short"),
        (b"[" * 100_000, "nested deeper|not JSON"),
        (b"{}", "expected a list"),
        (b"[1]", "task 1: expected an object"),
        (b"[]", "has no keypoint"),
        (b'[{"data": {}}]', "expected an image in its data"),
        (b'[{"data": {"image": "dot.png"}, "annotations": 3}]', "annotations: expected a list"),
    ]:
        path.write_bytes(text)
        with pytest.raises(FileFormatError, match=match):
            read(path)
    with pytest.raises(FileMissingError):
        read(folder / "absent.json")
    with pytest.raises(ValidationError):
        read(put(folder), colour=3)


def test_long_and_foreign_names(folder):
    labels = one(folder, keypoint("鼻" * 700, 1, 1), keypoint("ухо\n", 2, 2))
    assert labels.skeleton.names == ("鼻" * 700, "ухо\n")


def test_damaged_files_are_refused_or_read(folder, damaged):
    path = put(
        folder,
        [*TASKS, task(3, "dot.png?x", box("a", "x", 1, 2, 3, 4), keypoint("nose", 1, 1),
                      relation("a", "b"))],
    )  # fmt: skip
    for content in damaged(path.read_bytes(), 300, seed=1):
        path.write_bytes(content)
        LabelStudioFormat().sniff(path)
        try:
            labels = read(path, missing="skip")
        except DpkError:
            continue
        assert labels.keypoints.shape[1:] == (len(labels.skeleton), 2)
