"""ONNX detectors: small graphs whose outputs are known, and what cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import FileMissingError, ModelFileError, ValidationError
from dpk_trackers.onnx_detector import OnnxDetector, distinct, letterbox
from dpk_trackers.turned_boxes import turned_iou

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FRAME = np.zeros((96, 128, 3), np.uint8)


def write(path, nodes, inputs, outputs, *, constants=(), metadata=None):
    """An ONNX file; inputs and outputs are (name, type, shape)."""
    kinds = {"float": onnx.TensorProto.FLOAT, "int": onnx.TensorProto.INT64,
             "uint8": onnx.TensorProto.UINT8, "half": onnx.TensorProto.FLOAT16}  # fmt: skip
    told = [
        [onnx.helper.make_tensor_value_info(n, kinds[k], shape) for n, k, shape in values]
        for values in (inputs, outputs)
    ]
    initial = [onnx.numpy_helper.from_array(array, name) for name, array in constants]
    graph = onnx.helper.make_graph(nodes, "detector", *told, initial)
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def saying(path, values, shape=(1, 3, 96, 128), kind="float", metadata=None):
    """A network that always gives the same outputs, (name, array), whatever it sees.

    Its input takes part, or ONNX Runtime would take it away.
    """
    nodes, outputs, constants = [], [], [("zero", np.float32(0))]
    nodes.append(onnx.helper.make_node("Cast", ["images"], ["seen"], to=onnx.TensorProto.FLOAT))
    nodes.append(onnx.helper.make_node("ReduceMean", ["seen"], ["mean"], keepdims=0))
    nodes.append(onnx.helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    for name, array in values:
        said = "int" if array.dtype.kind == "i" else "float"
        constants.append((f"{name}_said", array if said == "int" else array.astype(np.float32)))
        if said == "int":
            nodes.append(onnx.helper.make_node("Identity", [f"{name}_said"], [name]))
        else:
            nodes.append(onnx.helper.make_node("Add", [f"{name}_said", "nothing"], [name]))
        outputs.append((name, said, array.shape))
    inputs = [("images", kind, list(shape))]
    return write(path, nodes, inputs, outputs, constants=constants, metadata=metadata)


CELLS = 16 * 12 + 8 * 6 + 4 * 3  # of a 128x96 input at the strides 8, 16 and 32
# Two animals, the first one found twice, and a faint one: cx, cy, w, h from the pixels' corners.
BOXES = np.array([[40, 30, 20, 10], [41, 30, 20, 10], [90, 60, 12, 24], [20, 80, 8, 8]], float)
SCORES = np.array([0.9, 0.8, 0.7, 0.1])


def yolov8(n_classes=2, extra=0):
    """(1, 4 + classes + extra, cells); the first one's class is 0, the third's 1."""
    array = np.zeros((4 + n_classes + extra, CELLS))
    array[:4, :4] = BOXES.T
    array[4, :4] = SCORES
    if n_classes > 1:
        array[4, 2], array[5, 2] = 0.05, SCORES[2]
    return array[None]


def yolov5():
    """(1, 3 * cells, 7): objectness times class."""
    array = np.zeros((3 * CELLS, 7))
    array[:4, :4] = BOXES
    array[:4, 4] = SCORES / 0.95
    array[:4, 5] = 0.95
    array[2, 5:] = 0.1, 0.95
    return array[None]


def end2end():
    array = np.zeros((30, 6))
    low, high = BOXES[:, :2] - BOXES[:, 2:] / 2, BOXES[:, :2] + BOXES[:, 2:] / 2
    rows = np.column_stack([low, high, SCORES, [0, 0, 1, 0]])
    array[:3] = rows[[0, 2, 3]]
    return array[None]


def separate():
    rows = end2end()[0, :3]
    return [
        ("boxes", rows[:, :4]),
        ("labels", rows[:, 5].astype(np.int64)),
        ("scores", rows[:, 4]),
    ]


def check_two(found):
    """Centres count from the centre of the first pixel: half a pixel less than the networks'."""
    np.testing.assert_allclose(found.x, [39.5, 89.5], atol=1e-4)
    np.testing.assert_allclose(found.y, [29.5, 59.5], atol=1e-4)
    np.testing.assert_allclose(found.width, [20, 12], atol=1e-4)
    np.testing.assert_allclose(found.height, [10, 24], atol=1e-4)
    np.testing.assert_allclose(found.score, [0.9, 0.7], atol=1e-4)
    assert np.isnan(found.angle).all()


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([("output0", yolov8())], id="yolov8"),
        pytest.param([("output0", yolov8().swapaxes(1, 2))], id="yolov8 turned"),
        pytest.param([("output", yolov5())], id="yolov5"),
        pytest.param([("output0", end2end())], id="end2end"),
        pytest.param(separate(), id="faster-rcnn"),
        pytest.param([(n, a[None]) for n, a in separate()], id="faster-rcnn batched"),
        pytest.param([("3", separate()[2][1]), ("1", separate()[0][1]), ("2", separate()[1][1])],
                     id="faster-rcnn without names"),
    ],
)  # fmt: skip
def test_each_head_finds_the_same_two(tmp_path, values):
    check_two(OnnxDetector(saying(tmp_path / "m.onnx", values)).detect(FRAME))


@pytest.mark.parametrize("shape", [(1, 3, 96, 128), (1, 96, 128, 3), (1, 1, 96, 128), (3, 96, 128),
                                   (1, 3, "h", "w"), ("n", "c", "h", "w")])  # fmt: skip
@pytest.mark.parametrize("kind", ["float", "uint8", "half"])
def test_inputs_of_many_forms(tmp_path, shape, kind):
    path = saying(tmp_path / "m.onnx", [("output0", yolov8())], shape, kind)
    detector = OnnxDetector(path)
    check_two(detector.detect(FRAME))
    check_two(detector.detect(FRAME[..., :1]))


def test_classes_count_and_thresholds(tmp_path):
    path = saying(tmp_path / "m.onnx", [("output0", yolov8())])
    assert OnnxDetector(path, classes=1).detect(FRAME).x.tolist() == [89.5]
    assert OnnxDetector(path, classes=[0, 1], count=1).detect(FRAME).x.tolist() == [39.5]
    assert len(OnnxDetector(path, threshold=0.05).detect(FRAME)) == 3
    assert len(OnnxDetector(path, iou=0.95).detect(FRAME)) == 3
    assert len(OnnxDetector(path, threshold=0.95).detect(FRAME)) == 0


def test_poses_come_along(tmp_path):
    array = yolov8(n_classes=1, extra=6)
    array[0, 5:11, 0] = 35, 30, 0.9, 45, 31, 0.1  # the second keypoint is hidden
    metadata = {"names": "{0: 'fly'}", "task": "pose", "kpt_shape": "[2, 3]"}
    path = saying(tmp_path / "m.onnx", [("output0", array)], metadata=metadata)
    found = OnnxDetector(path).detect(FRAME)
    np.testing.assert_allclose(found.keypoints[0], [[34.5, 29.5], [np.nan, np.nan]])


def test_oriented_boxes_have_an_angle(tmp_path):
    array = yolov8(n_classes=1, extra=1)
    array[0, 5, 0] = 0.5
    metadata = {"names": "{0: 'fly'}", "task": "obb"}
    path = saying(tmp_path / "m.onnx", [("output0", array)], metadata=metadata)
    found = OnnxDetector(path).detect(FRAME)
    assert found.angle[0] == pytest.approx(0.5)
    assert (found.width[0], found.height[0]) == (20, 10)


@pytest.mark.parametrize(("said", "angle"), [(0.5, 0.5 - np.pi / 2), (2.0, 2.0 - np.pi / 2)])
def test_width_of_an_oriented_box_is_along_the_body_and_its_angle_an_axis(tmp_path, said, angle):
    """Networks give either side first, with angles from -pi/4 to 3 pi/4."""
    array = yolov8(n_classes=1, extra=1)
    array[0, 5, 0] = said
    array[0, [2, 3], 0] = array[0, [3, 2], 0]
    path = saying(
        tmp_path / "m.onnx",
        [("output0", array)],
        metadata={"names": "{0: 'fly'}", "task": "obb"},
    )
    found = OnnxDetector(path).detect(FRAME)
    assert found.angle[0] == pytest.approx(angle)
    assert (found.width[0], found.height[0]) == (20, 10)


def test_two_that_lie_side_by_side_on_the_slant_are_two(tmp_path):
    """Long animals, parallel, at 45 degrees: upright, their boxes would nearly coincide."""
    array = yolov8(n_classes=1, extra=1)
    array[0, :, :] = 0
    array[0, :, 0] = 60, 48, 60, 8, 0.9, np.pi / 4
    array[0, :, 1] = 60 + 9, 48 - 9, 60, 8, 0.8, np.pi / 4  # beside it
    array[0, :, 2] = 61, 49, 8, 60, 0.7, np.pi / 4 - np.pi / 2  # the first one, by the other side
    array[0, :, 3] = 60, 48, 60, 8, 0.6, -np.pi / 4  # across the first one
    metadata = {"names": "{0: 'fly'}", "task": "obb"}
    path = saying(tmp_path / "m.onnx", [("output0", array)], metadata=metadata)
    found = OnnxDetector(path).detect(FRAME)
    np.testing.assert_allclose(found.score, [0.9, 0.8, 0.6], atol=1e-6)
    np.testing.assert_allclose(found.angle, [np.pi / 4, np.pi / 4, -np.pi / 4], atol=1e-6)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_turned_boxes_overlap_as_polygons_do(seed):
    shapely = pytest.importorskip("shapely")
    affinity = pytest.importorskip("shapely.affinity")
    rng = np.random.default_rng(seed)
    extent = rng.uniform(2, 40, (12, 2))
    centre = rng.uniform(0, 50, (12, 2)) + rng.choice([0, 5000])
    angles = rng.uniform(-4, 4, 12)
    extent[1], centre[1], angles[1] = extent[0], centre[0], angles[0] + 1e-7  # all but the same
    extent[2], centre[2], angles[2] = extent[0][::-1], centre[0], angles[0] + np.pi / 2
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    polygons = [
        affinity.rotate(shapely.box(*box), angle, use_radians=True)
        for box, angle in zip(boxes, angles, strict=True)
    ]
    first = polygons[0]
    expected = [first.intersection(p).area / first.union(p).area for p in polygons[1:]]
    np.testing.assert_allclose(turned_iou(boxes, angles), expected, atol=1e-3)
    assert turned_iou(boxes, angles)[:2] == pytest.approx(1, abs=1e-3)


def test_a_box_overlaps_itself_however_it_is_written():
    rng = np.random.default_rng(0)
    for _ in range(300):
        extent, angle = rng.uniform(2, 40, 2), rng.uniform(-4, 4)
        apart = 10.0 ** rng.uniform(-8, -3)
        extents = np.stack([extent, extent[::-1], extent, extent[::-1]])
        boxes = np.concatenate([100 - extents / 2, 100 + extents / 2], axis=1) + apart
        angles = angle + apart + np.array([0, 1, 2, -5]) * np.pi / 2
        assert turned_iou(boxes, angles) == pytest.approx(1, abs=1e-2)


def test_a_turned_box_without_an_area_overlaps_none():
    boxes = np.array([[0.0, 0, 10, 10], [5, 5, 5, 9], [5, 5, 5, 5]])
    assert turned_iou(boxes, np.array([0.3, 0.1, 0.0])).tolist() == [0, 0]
    assert distinct(boxes, 0.5, np.zeros(3)).tolist() == [0, 1, 2]


def test_oriented_boxes_of_a_network_that_removes_duplicates_itself(tmp_path):
    """As Ultralytics exports them with nms=True: the middle, the extent, score, class, angle."""
    array = np.zeros((1, 300, 7))
    array[0, 0] = 40, 30, 20, 10, 0.9, 0, 0.5
    array[0, 1] = 41, 30, 20, 10, 0.8, 0, 0.5  # what it keeps is kept
    metadata = {"names": "{0: 'fly'}", "task": "obb"}
    path = saying(tmp_path / "m.onnx", [("output0", array)], metadata=metadata)
    found = OnnxDetector(path).detect(FRAME)
    np.testing.assert_allclose(found.x, [39.5, 40.5], atol=1e-4)
    np.testing.assert_allclose(found.width, [20, 20], atol=1e-4)
    np.testing.assert_allclose(found.angle, [0.5, 0.5], atol=1e-6)


def test_poses_and_masks_of_a_network_that_removes_duplicates_itself(tmp_path):
    array = np.zeros((1, 300, 12))
    array[0, :3, :6] = end2end()[0, :3]
    array[0, 0, 6:] = 35, 30, 0.9, 45, 31, 0.1
    metadata = {"names": "{0: 'fly', 1: 'bee'}", "task": "pose", "kpt_shape": "[2, 3]"}
    path = saying(tmp_path / "pose.onnx", [("output0", array)], metadata=metadata)
    found = OnnxDetector(path).detect(FRAME)
    check_two(found)
    np.testing.assert_allclose(found.keypoints[0], [[34.5, 29.5], [np.nan, np.nan]])
    masks = np.concatenate([end2end(), np.ones((1, 30, 32))], axis=2)
    values = [("output0", masks), ("output1", np.zeros((1, 32, 24, 32)))]
    told = {"names": "{0: 'fly', 1: 'bee'}", "task": "segment"}
    check_two(OnnxDetector(saying(tmp_path / "s.onnx", values, metadata=told)).detect(FRAME))


def test_rows_that_are_too_short_for_what_the_metadata_say(tmp_path):
    path = saying(tmp_path / "m.onnx", [("o", end2end())], metadata={"task": "obb"})
    with pytest.raises(ModelFileError, match=r"expected rows of 7 numbers \(task obb\), found 6"):
        OnnxDetector(path, head="end2end").detect(FRAME)


def test_masks_of_segmentation_models_are_left_out(tmp_path):
    values = [("output0", yolov8(2, extra=32)), ("output1", np.zeros((1, 32, 24, 32)))]
    metadata = {"names": "{0: 'fly', 1: 'bee'}", "task": "segment"}
    check_two(OnnxDetector(saying(tmp_path / "m.onnx", values, metadata=metadata)).detect(FRAME))


@pytest.mark.parametrize("size", [(96, 128), (480, 640), (200, 100), (37, 211), (1, 1000)])
@pytest.mark.parametrize("target", [(96, 128), (640, 640), (33, 47)])
def test_the_letterbox_keeps_the_aspect_ratio_and_leads_back_exactly(size, target):
    way = letterbox(size, target)
    points = np.random.default_rng(0).uniform(0, 100, (20, 2))
    np.testing.assert_allclose(way.inverse().apply(way.apply(points)), points, atol=1e-9)
    corners = way.apply(np.array([[-0.5, -0.5], [size[1] - 0.5, size[0] - 0.5]]))
    assert (corners[0] >= -0.5).all()
    assert (corners[1] <= np.array(target)[::-1] - 0.5 + 1e-9).all()
    # In the middle, but for a pixel, and as large as can be.
    space = corners[0] + 0.5, np.array(target)[::-1] - 0.5 - corners[1]
    assert np.abs(space[0] - space[1]).max() <= 1 + 1e-9
    assert min(space[0] + space[1]) <= 1 + 1e-9


def brightest(path, height, width):
    """A network that really looks: its one box is 4x4 around the brightest pixel."""
    h = onnx.helper
    nodes = [
        h.make_node("ReduceMean", ["images"], ["gray"], axes=[1], keepdims=0),
        h.make_node("Reshape", ["gray", "flat"], ["line"]),
        h.make_node("ArgMax", ["line"], ["at"], axis=1, keepdims=1),
        h.make_node("Mod", ["at", "width"], ["column"]),
        h.make_node("Div", ["at", "width"], ["row"]),
        h.make_node("Concat", ["column", "row", "column", "row"], ["pixel"], axis=1),
        h.make_node("Cast", ["pixel"], ["place"], to=onnx.TensorProto.FLOAT),
        h.make_node("Add", ["place", "around"], ["boxes"]),
        h.make_node("ReduceMax", ["line"], ["scores"], axes=[1], keepdims=0),
    ]
    constants = [
        ("flat", np.array([1, -1])),
        ("width", np.array([[width]])),
        ("around", np.array([[-1.5, -1.5, 2.5, 2.5]], np.float32)),
    ]
    outputs = [("boxes", "float", (1, 4)), ("scores", "float", (1,))]
    inputs = [("images", "float", (1, 3, height, width))]
    return write(path, nodes, inputs, outputs, constants=constants)


@pytest.mark.parametrize(
    ("size", "at"), [((96, 128), (37, 22)), ((200, 300), (251, 90)), ((300, 200), (63, 257))]
)
def test_a_bright_spot_is_found_where_it_is(tmp_path, size, at):
    y, x = np.mgrid[: size[0], : size[1]]
    spot = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 6.0**2))
    frame = np.repeat(spot.astype(np.uint8)[..., None], 3, axis=2)
    detector = OnnxDetector(brightest(tmp_path / "m.onnx", 96, 128), threshold=0.5)
    found = detector.detect(frame)
    step = max(size[0] / 96, size[1] / 128, 1)
    assert (found.x[0], found.y[0]) == pytest.approx(at, abs=0.51 * step)


def test_boxes_over_the_border_are_cut_and_those_outside_left_out(tmp_path):
    rows = np.array([[-10, -10, 10, 10], [-30, 5, -10, 9], [120, 90, 140, 200], [5, 5, 5, 9.0]])
    values = [("boxes", rows), ("scores", np.full(4, 0.9))]
    found = OnnxDetector(saying(tmp_path / "m.onnx", values)).detect(FRAME)
    np.testing.assert_allclose(found.boxes, [[-0.5, -0.5, 9.5, 9.5], [119.5, 89.5, 127.5, 95.5]])


def test_of_boxes_that_overlap_the_best_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [5, 0, 15, 10], [20, 0, 30, 10.0]])
    assert distinct(boxes, 0.5).tolist() == [0, 2, 3]
    assert distinct(boxes, 0.1).tolist() == [0, 3]
    assert distinct(np.empty((0, 4)), 0.5).tolist() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param([("output0", np.zeros((1, 10)))], "expected outputs like", id="classifier"),
        pytest.param([("a", np.zeros((2, 6, 50)))], "expected outputs like", id="batch of two"),
        pytest.param([("output0", np.full((1, 6, CELLS), np.nan))], "NaN", id="nan"),
        pytest.param([("output0", np.full((1, 6, CELLS), 3.0))], "sigmoid", id="logits"),
    ],
)
def test_outputs_that_cannot_be_used(tmp_path, values, message):
    detector = OnnxDetector(saying(tmp_path / "m.onnx", values))
    with pytest.raises(ModelFileError, match=rf"onnx: .*m\.onnx.*{message}"):
        detector.detect(FRAME)


def test_metadata_that_do_not_fit(tmp_path):
    metadata = {"names": "{0: 'fly'}", "task": "pose", "kpt_shape": "[9, 3]"}
    path = saying(tmp_path / "m.onnx", [("output0", yolov8())], metadata=metadata)
    with pytest.raises(ModelFileError, match=r"expected 32 numbers .* found 6"):
        OnnxDetector(path).detect(FRAME)


def test_metadata_are_never_run(tmp_path):
    metadata = {"names": f"open({str(tmp_path / 'ran')!r}, 'w')", "task": "detect"}
    path = saying(tmp_path / "m.onnx", [("output0", yolov8())], metadata=metadata)
    check_two(OnnxDetector(path).detect(FRAME))
    assert not (tmp_path / "ran").exists()


def test_a_frame_that_the_network_cannot_take(tmp_path):
    path = saying(tmp_path / "m.onnx", [("output0", yolov8())], (1, 3, 96, 128))
    with pytest.raises(ValidationError, match="expected a frame"):
        OnnxDetector(path).detect(FRAME.astype(float))


def test_files_that_are_no_detectors(tmp_path):
    with pytest.raises(ValidationError, match="onnx: expected a model"):
        OnnxDetector()
    with pytest.raises(FileMissingError, match=r"none\.onnx is not there"):
        OnnxDetector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"text\.onnx is damaged or not"):
        OnnxDetector(tmp_path / "text.onnx")
    flat = saying(tmp_path / "flat.onnx", [("o", yolov8())], (1, 128))
    with pytest.raises(ModelFileError, match="expected one input"):
        OnnxDetector(flat)
    five = saying(tmp_path / "five.onnx", [("o", yolov8())], (1, 5, 96, 128))
    with pytest.raises(ModelFileError, match="1 or 3 channels, found 5"):
        OnnxDetector(five)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 2}, {"threshold": "high"}, {"threshold": True}, {"iou": -1}, {"iou": None},
        {"head": "ssd"}, {"size": 0}, {"size": [640]}, {"size": [640, 2.5]}, {"size": "640"},
        {"size": True}, {"count": 0}, {"count": -3}, {"count": 1.5}, {"count": float("inf")},
        {"scale": 0}, {"scale": -1}, {"scale": np.nan}, {"scale": np.inf}, {"classes": -1},
        {"classes": []}, {"classes": 1.5}, {"classes": "fly"}, {"classes": True},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(tmp_path, wrong):
    path = saying(tmp_path / "m.onnx", [("output0", yolov8())])
    (name,) = wrong
    with pytest.raises(ValidationError, match=f"onnx: {name}"):
        OnnxDetector(path, **wrong)


def test_without_onnxruntime_it_says_what_to_install(tmp_path, monkeypatch):
    import sys

    from dpk_core.errors import MissingDependencyError

    path = saying(tmp_path / "m.onnx", [("output0", yolov8())])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"dpk-trackers\[onnx\]"):
        OnnxDetector(path)
