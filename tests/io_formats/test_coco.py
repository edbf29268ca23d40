"""COCO keypoints: the same out as in, checked by COCO's own reader, and refused with a reason."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import Poses, PoseStream
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.skeleton import Skeleton
from dpk_core.testing import check_dataset
from dpk_core.testing.formats import check_format
from dpk_io_formats.coco import CocoFormat
from dpk_io_formats.images import write_png
from dpk_io_formats.json_text import holds

CONTENT = {
    "info": {},
    "images": [
        {"id": 5, "file_name": "dot.png", "width": 30, "height": 20},
        {"id": 9, "file_name": "größer.png", "width": 40, "height": 36},
    ],
    "annotations": [
        {
            "id": 1, "image_id": 5, "category_id": 3, "num_keypoints": 2, "iscrowd": 0,
            "keypoints": [11, 4, 2, 0, 0, 0, 3.5, 7.25, 1],
        },
        {"id": 2, "image_id": 9, "category_id": 3, "keypoints": [39, 35, 2, 1, 2, 2, -3, 900, 2]},
        {"id": 3, "image_id": 9, "category_id": 3, "keypoints": [2, 3, 2, 1, 2, 1, 3, 4, 2]},
    ],
    "categories": [
        {
            "id": 3, "name": "animal", "keypoints": ["nose", "ear_left", "ear_right"],
            "skeleton": [[1, 2], [1, 3]],
        }
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    dot = np.zeros((20, 30, 3), np.uint8)
    dot[4, 11] = (255, 0, 0)
    write_png(tmp_path / "dot.png", dot)
    corner = np.zeros((36, 40, 3), np.uint8)
    corner[35, 39] = 255
    write_png(tmp_path / "größer.png", corner)
    return tmp_path


def put(folder, change=None, name="labels.json", **dump):
    content = copy.deepcopy(CONTENT)
    if change is not None:
        content = change(content) or content
    path = folder / name
    path.write_text(json.dumps(content, **dump), encoding="utf-8")
    return path


def read(path, **options):
    return CocoFormat().read(path, **options)


def error(folder, change, match, kind=FileFormatError, **options):
    with pytest.raises(kind, match=match):
        read(put(folder, change), **options)


# -- reading --------------------------------------------------------------------------------------


def test_a_painted_dot_lies_at_its_label(folder):
    labels = read(put(folder))
    x, y = labels.keypoints[0, 0]
    assert labels.images[0][int(y), int(x)].tolist() == [255, 0, 0]
    x, y = labels.keypoints[1, 0]
    assert labels.images[1][int(y), int(x)].tolist() == [255, 255, 255]
    check_dataset(labels)


def test_animals_visibility_and_sizes(folder):
    report = LossReport()
    labels = read(put(folder), report=report)
    assert labels.image_shape == (36, 40, 3)
    assert labels.visibility.tolist() == [[2, 0, 1], [2, 2, 2], [2, 1, 2]]
    assert np.isnan(labels.keypoints[0, 1]).all()
    assert labels.keypoints[0, 2].tolist() == [3.5, 7.25]
    assert labels.keypoints[1, 2].tolist() == [-3, 900]
    found = [(s.video, s.frame, s.individual, s.size) for s in labels.sources]
    assert found == [
        ("dot.png", 0, "", (20, 30)),
        ("größer.png", 0, "1", None),
        ("größer.png", 0, "2", None),
    ]
    assert labels.skeleton.edges == ((1, 0), (2, 0))
    assert labels.skeleton.swap == (-1, 2, 1)
    assert {loss.what for loss in report} == {"ids"}


def test_coordinates_from_the_corner(folder):
    labels = read(put(folder), origin="corner")
    assert labels.keypoints[0, 0].tolist() == [10.5, 3.5]


def test_binary_visibility(folder):
    assert read(put(folder), visibility="binary").visibility[0].tolist() == [2, 0, 2]


def test_images_in_other_places(folder):
    for place in ("images", "val2017"):
        (folder / place).mkdir()
        for name in ("dot.png", "größer.png"):
            (folder / place / name).write_bytes((folder / name).read_bytes())
    for name in ("dot.png", "größer.png"):
        (folder / name).unlink()
    assert len(read(put(folder))) == 3
    (folder / "annotations").mkdir()
    assert len(read(put(folder / "annotations", name="keypoints_val2017.json"))) == 3
    assert len(read(put(folder), images=folder / "val2017")) == 3
    assert len(read(folder)) == 3, "a folder with one COCO file"


def test_windows_paths_of_another_computer(folder):
    def change(content):
        content["images"][0]["file_name"] = "C:\\Users\\me\\set\\dot.png"

    assert read(put(folder, change)).sources[0].video == "dot.png"


def test_images_without_animals_stay(folder):
    def change(content):
        del content["annotations"][1:]

    labels = read(put(folder, change))
    assert len(labels) == 2
    assert np.isnan(labels.keypoints[1]).all()
    assert labels.n_labelled == 1


def test_categories_are_chosen(folder):
    def change(content):
        content["categories"].append({"id": 4, "name": "foe", "keypoints": ["eye"]})
        content["annotations"].append(
            {"id": 4, "image_id": 5, "category_id": 4, "keypoints": [1, 1, 2]}
        )

    error(folder, change, r"different keypoints: animal .*foe .*category=NAME")
    report = LossReport()
    labels = read(put(folder, change), category="foe", report=report)
    assert labels.skeleton.names == ("eye",)
    assert len(labels) == 2, "an animal, and an image without a foe"
    assert {loss.what: loss.count for loss in report} == {"ids": 2, "animals": 3, "categories": 1}
    assert len(read(put(folder, change), category=3)) == 3
    with pytest.raises(ValidationError, match=r"no category 'cat'.*it has animal"):
        read(put(folder, change), category="cat")


def test_what_labels_cannot_hold_is_counted(folder):
    def change(content):
        first = content["annotations"][0]
        first |= {"bbox": [0, 0, 9, 9], "area": 81, "segmentation": [[1, 1, 2, 2, 3, 1]]}
        first |= {"iscrowd": 1, "attributes": {"mood": "good"}, "score": 0.5}
        content["images"][0]["license"] = 3
        content["categories"][0]["name"] = "mouse"
        content["categories"][0]["skeleton"] += [[2, 3]]
        content["annotations"].append({"id": 4, "image_id": 5, "category_id": 3, "bbox": [1] * 4})

    report = LossReport()
    read(put(folder, change), report=report)
    assert {loss.what: loss.count for loss in report} == {
        "ids": 2, "boxes": 1, "areas": 1, "outlines": 1, "crowd marks": 1, "attributes": 1,
        "scores": 1, "image details": 1, "categories": 1, "skeleton edges": 1, "animals": 1,
    }  # fmt: skip


def test_edges_that_count_from_0(folder):
    def change(content):
        content["categories"][0]["skeleton"] = [[0, 1], [0, 2]]

    assert read(put(folder, change)).skeleton.edges == ((1, 0), (2, 0))


def test_identities(folder):
    def change(content):
        for name, annotation in zip("ab", content["annotations"][1:], strict=True):
            annotation["attributes"] = {"track_id": name}

    assert [s.individual for s in read(put(folder, change)).sources] == ["", "a", "b"]


def test_sniffs_by_content(folder):
    plugin = CocoFormat()
    assert plugin.sniff(put(folder))
    assert plugin.sniff(put(folder, indent=1, name="wrong.txt"))
    (folder / "bom.json").write_bytes(b"\xef\xbb\xbf" + put(folder).read_bytes())
    assert plugin.sniff(folder / "bom.json")
    assert len(read(folder / "bom.json")) == 3

    def boxes(content):
        del content["categories"][0]["keypoints"]
        for annotation in content["annotations"]:
            del annotation["keypoints"], annotation["id"]
            annotation.pop("num_keypoints", None)

    assert not plugin.sniff(put(folder, boxes))
    assert not plugin.sniff(put(folder, lambda content: [content]))
    assert not plugin.sniff(folder / "absent")
    assert not plugin.sniff(folder / "dot.png")
    assert not holds(folder, b"{")


# -- writing --------------------------------------------------------------------------------------


def test_keeps_its_contract():
    check_format("coco")


def test_pycocotools_reads_it(tmp_path, made_labels, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    labels = made_labels(frames=4)
    CocoFormat().write(tmp_path / "set", labels)
    found = coco.COCO(tmp_path / "set" / "annotations.json")
    assert len(found.getImgIds()) == 4
    rows = 0
    for image in found.loadImgs(found.getImgIds()):
        frame = int(image["file_name"][5:11])
        mine = [i for i, s in enumerate(labels.sources) if s.frame == frame]
        size = labels.sources[mine[0]].size or labels.image_shape[:2]
        assert (image["height"], image["width"]) == tuple(size)
        theirs = found.loadAnns(found.getAnnIds(imgIds=image["id"]))
        for i, annotation in zip(mine, theirs, strict=True):
            points = np.array(annotation["keypoints"]).reshape(-1, 3)
            seen = points[:, 2] > 0
            assert np.array_equal(points[:, 2], labels.visibility[i])
            assert np.array_equal(points[seen, :2], labels.keypoints[i][seen])
            x, y, width, height = annotation["bbox"]
            assert (points[seen, :2] >= (x, y)).all()
            assert (points[seen, :2] + 1 <= (x + width + 1e-9, y + height + 1e-9)).all()
            rows += 1
    assert rows == len(labels)
    category = found.loadCats(found.getCatIds())[0]
    assert category["keypoints"] == list(labels.skeleton.names)
    assert category["skeleton"] == [[1, 2], [1, 3], [1, 4]]


def test_sleap_io_reads_it(tmp_path, made_labels):
    sio = pytest.importorskip("sleap_io")
    labels = made_labels(frames=2, sizes=((24, 32),))
    CocoFormat().write(tmp_path / "set", labels)
    theirs = sio.load_coco(str(tmp_path / "set" / "annotations.json"))
    found = [
        instance.numpy()
        for frame in sorted(theirs.labeled_frames, key=lambda f: f.frame_idx)
        for instance in frame.instances
    ]
    found.sort(key=lambda points: points[0].tolist())
    mine = sorted(labels.keypoints, key=lambda points: points[0].tolist())
    assert np.allclose(found, mine, equal_nan=True)


def test_pycocotools_takes_the_results(tmp_path, made_labels, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    labels = made_labels(frames=3, animals=1)
    CocoFormat().write(tmp_path / "set", labels)
    truth = coco.COCO(tmp_path / "set" / "annotations.json")
    scores = np.full(labels.keypoints.shape[:2], 0.75)
    poses = Poses(
        labels.keypoints, scores, labels.skeleton, provenance={"track_names": {"0": "x"}, "a": 1}
    )
    report = LossReport()
    CocoFormat().write(
        tmp_path / "results.json", PoseStream.of(poses, 2), report=report, first_image_id=1
    )
    found = truth.loadRes(str(tmp_path / "results.json"))
    evaluation = pytest.importorskip("pycocotools.cocoeval").COCOeval(truth, found, "keypoints")
    evaluation.params.kpt_oks_sigmas = np.full(4, 0.05)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    assert found.loadAnns([1])[0]["score"] == pytest.approx(0.75)
    assert {loss.what for loss in report} == {
        "keypoint names", "skeleton edges", "swap partners", "track names", "provenance entries",
    }  # fmt: skip


def test_rows_where_nothing_was_found_are_counted(tmp_path):
    skeleton = Skeleton(("a", "b"))
    keypoints = np.full((3, 2, 2), np.nan)
    keypoints[1, 0] = 4
    stream = PoseStream.of(Poses(keypoints, np.full((3, 2), 0.5), skeleton, track_ids=[0, 4, 0]))
    report = LossReport()
    CocoFormat().write(tmp_path / "r.json", stream, report=report, category_id=7)
    content = json.loads((tmp_path / "r.json").read_text())
    assert content == [
        {
            "image_id": 1, "category_id": 7, "keypoints": [4, 4, 0.5, 0, 0, 0], "score": 0.5,
            "track_id": 4,
        }
    ]  # fmt: skip
    assert {loss.what: loss.count for loss in report}["rows"] == 2


@given(seed=st.integers(0, 10**6), frames=st.integers(1, 4), animals=st.integers(1, 3))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_ours_and_back(tmp_path_factory, made_labels, seed, frames, animals):
    labels = made_labels(seed, frames, animals)
    folder = tmp_path_factory.mktemp("coco")
    report = LossReport()
    CocoFormat().write(folder / "set", labels, report=report)
    again = read(folder / "set", report=report)
    assert np.array_equal(again.keypoints, labels.keypoints, equal_nan=True)
    assert np.array_equal(again.visibility, labels.visibility)
    # the padding is that of the largest image which is there
    height, width = again.image_shape[:2]
    assert np.array_equal(again.images[:], labels.images[:, :height, :width])
    assert again.skeleton == labels.skeleton
    for a, b in zip(again.sources, labels.sources, strict=True):
        assert (a.video, a.frame, a.individual) == (b.video, b.frame, b.individual)
    assert not report, report


def test_theirs_and_back(folder, tmp_path):
    """COCO -> ours -> COCO changes nothing but what the report names."""
    report = LossReport()
    CocoFormat().write(tmp_path / "again", read(put(folder), report=report), report=report)
    content = json.loads((tmp_path / "again" / "annotations.json").read_text())
    assert {loss.what for loss in report} == {"ids"}
    assert [i["file_name"] for i in content["images"]] == ["dot.png", "größer.png"]
    for before, after in zip(CONTENT["annotations"], content["annotations"], strict=True):
        assert before["keypoints"] == after["keypoints"]
        assert after["image_id"] == {5: 1, 9: 2}[before["image_id"]]
        assert "attributes" not in after
    for key in ("name", "keypoints", "skeleton"):
        assert content["categories"][0][key] == CONTENT["categories"][0][key]
    again = read(tmp_path / "again")
    first = read(put(folder))
    assert np.array_equal(again.images[:], first.images[:])
    assert again.sources == first.sources


def test_each_frame_is_written_once(tmp_path, made_labels):
    labels = made_labels(seed=1, frames=2, animals=3)
    assert len(labels) > 2
    CocoFormat().write(tmp_path / "set", labels)
    assert len(list((tmp_path / "set" / "images").iterdir())) == 2


def test_names_that_no_disk_takes(tmp_path, made_labels):
    import attrs

    labels = made_labels(frames=4, animals=1)
    videos = ("../../étude<1>.mp4", "x" * 300 + ".mp4", "C:\\a\\NUL.png", "c:/b/nul.png")
    sources = tuple(attrs.evolve(s, video=v) for s, v in zip(labels.sources, videos, strict=True))
    CocoFormat().write(tmp_path / "set", attrs.evolve(labels, sources=sources))
    names = sorted(p.name for p in (tmp_path / "set" / "images").iterdir())
    assert len(names) == 4
    assert len({name.casefold() for name in names}) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    again = read(tmp_path / "set")
    assert [s.video for s in again.sources if s.frame] == list(videos[1:])


def test_losses_of_writing(tmp_path, made_labels):
    import attrs

    labels = made_labels(frames=1, animals=1, names=("a", "b", "c", "d"))
    annotated = np.array([[False, True, True, True]])
    keypoints = labels.keypoints.copy()
    keypoints[0, 3] = np.nan
    changed = attrs.evolve(labels, annotated=annotated, keypoints=keypoints)
    report = LossReport()
    CocoFormat().write(tmp_path / "set", changed, report=report)
    found = {loss.what: loss.count for loss in report}
    assert found["unconfirmed keypoints"] == 1
    assert found["keypoints marked absent"] >= 1
    assert found["swap partners"] == 2
    with pytest.raises(DpkError, match="exists already"):
        CocoFormat().write(tmp_path / "set", changed)


# -- bad input ------------------------------------------------------------------------------------


def test_missing_images_are_named(folder):
    (folder / "dot.png").unlink()
    with pytest.raises(FileMissingError, match=r"1 of 2 labelled images.*dot\.png.*missing=skip"):
        read(put(folder))
    report = LossReport()
    labels = read(put(folder), missing="skip", report=report)
    assert len(labels) == 2
    assert {loss.what: loss.count for loss in report}["images"] == 1


@pytest.mark.parametrize("name", ["../dot.png", "a/../../dot.png", "..\\dot.png"])
def test_paths_that_lead_out(folder, name):
    def change(content):
        content["images"][0]["file_name"] = name

    error(folder, change, "leads out of its folder")


def test_another_size(folder):
    def change(content):
        content["images"][0]["width"] = 60

    error(folder, change, r"dot\.png is 30x20 pixels.*60x20.*another version")


def test_the_same_image_twice(folder):
    def change(content):
        content["images"].append({"id": 11, "file_name": "dot.png"})

    error(folder, change, r"'dot\.png' \(id 11\) is listed twice")


def test_values_that_cannot_be(folder):
    def keypoints(*values):
        def change(content):
            content["annotations"][0]["keypoints"] = list(values)

        return change

    error(folder, keypoints(float("nan"), 1, 2, 0, 0, 0, 0, 0, 0), "id 1.*not finite")
    error(folder, keypoints(float("inf"), 1, 2, 0, 0, 0, 0, 0, 0), "id 1.*not finite")
    error(folder, keypoints(10**400, 1, 2, 0, 0, 0, 0, 0, 0), "id 1.*not finite")
    error(folder, keypoints(1, 1, 3, 0, 0, 0, 0, 0, 0), "id 1.*visibility of 0, 1 or 2, found 3")
    error(folder, keypoints("1", 1, 2, 0, 0, 0, 0, 0, 0), "id 1.*expected a number, found '1'")
    error(folder, keypoints(1, 1, 2), "id 1.*expected 9 numbers .*found 3")
    nothing = float("nan")
    labels = read(put(folder, keypoints(nothing, nothing, 0, 1, 2, 2, 0, 0, 0)))
    assert np.isnan(labels.keypoints[0, 0]).all()


def test_references_that_lead_nowhere(folder):
    def change(key, value):
        def inner(content):
            content["annotations"][0][key] = value

        return inner

    error(folder, change("image_id", 77), "id 1: no image has the id 77")
    error(folder, change("image_id", [5]), "id 1: expected a number as image_id")
    error(folder, change("category_id", 8), "id 1: no category has the id 8")
    error(folder, change("id", 2), "id 2: the id stands twice")

    def edges(content):
        content["categories"][0]["skeleton"] = [[1, 4]]

    error(folder, edges, r"edge \[1, 4\] is not between two of 3")

    def names(content):
        content["categories"][0]["keypoints"][1] = "nose"

    error(folder, names, "'nose' stands twice")


def test_what_is_no_json(folder):
    path = put(folder)
    content = path.read_bytes()
    for change, match in [
        (b"", "is empty"),
        (content[:200], "not JSON, or cut short"),
        (b"\xff\xfe" + content, "not UTF-8"),
        (b"[" * 100_000, "nested deeper|not JSON"),
        (b'{"images": ' * 100_000, "nested deeper|not JSON"),
        (b'{"images": [], "categories": ' + b"9" * 10_000 + b"}", "number that cannot be|expected"),
        (b"[]", "expected an object"),
        (b"{}", "categories: expected a list"),
    ]:
        path.write_bytes(change)
        with pytest.raises(FileFormatError, match=match):
            read(path)
    with pytest.raises(FileMissingError, match="no file at"):
        read(folder / "absent.json")
    with pytest.raises(FileFormatError, match="no COCO file"):
        read(folder)


def test_nothing_but_boxes(folder):
    def change(content):
        content["categories"][0].pop("keypoints")

    error(folder, change, "a COCO file of boxes has no poses")

    def empty(content):
        content["images"], content["annotations"] = [], []

    error(folder, empty, "lists no image")


def test_long_and_foreign_names(folder):
    names = ["鼻" * 500, "ухо", "a\nb\t"]

    def change(content):
        content["categories"][0]["keypoints"] = names

    assert read(put(folder, change)).skeleton.names == tuple(names)

    def too_long(content):
        content["images"][0]["file_name"] = "x" * 5000 + ".png"

    error(folder, too_long, "are not there", FileMissingError)


def test_unknown_options(folder):
    for options in ({"colour": 1}, {"origin": "middle"}, {"visibility": "x"}, {"missing": "x"}):
        with pytest.raises(ValidationError):
            read(put(folder), **options)
    with pytest.raises(ValidationError, match="reads annotations"):
        read(put(folder), kind="poses")


def test_damaged_files_are_refused_or_read(folder, damaged):
    path = put(folder)
    for content in damaged(path.read_bytes(), 300):
        path.write_bytes(content)
        CocoFormat().sniff(path)
        try:
            labels = read(path)
        except DpkError:
            continue
        assert len(labels) >= 1
        assert labels.keypoints.shape[1:] == (len(labels.skeleton), 2)


def test_infinite_coordinates_of_results_are_reported(tmp_path):
    keypoints = np.array([[[1, 2], [np.inf, 3]]])
    poses = Poses(keypoints, np.ones((1, 2)), Skeleton(("a", "b")))
    report = LossReport()
    CocoFormat().write(tmp_path / "a.json", PoseStream.of(poses), report=report)
    assert {loss.what: loss.count for loss in report}["keypoints"] == 1
    (result,) = json.loads((tmp_path / "a.json").read_text())
    assert result["keypoints"] == [1, 2, 1, 0, 0, 0]
