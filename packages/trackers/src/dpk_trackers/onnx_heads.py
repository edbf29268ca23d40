"""What the outputs of an ONNX detector mean: YOLO-style and Faster-R-CNN-style heads.

Layouts, n candidates and c classes, boxes in pixels of the network's input, (0, 0) the corner of
its top-left pixel:

- ``yolov8``: (1, 4 + c, n): cx, cy, w, h, a score for each class. Ultralytics' export of YOLOv8,
  9, 11, 12 (``ultralytics/nn/modules/head.py``, ``Detect``); of its pose models further
  (x, y[, visibility]) for each keypoint, of its oriented boxes a last row with the angle, of
  segmentation models coefficients of masks, which are left out. The model's metadata (``names``,
  ``task``, ``kpt_shape``) say which; without them every row after the box is a class.
- ``yolov5``: (1, n, 5 + c): cx, cy, w, h, objectness, a score for each class; the score is their
  product. YOLOv5's and v7's export (``yolov5/models/yolo.py``, ``Detect``).
- ``end2end``: (1, n, 6): x0, y0, x1, y1, score, class; duplicates are gone already. YOLOv10, and
  Ultralytics' export with ``nms=True`` (``ultralytics/engine/exporter.py``, ``NMSModel``). Where
  the metadata say so, keypoints or coefficients of masks follow; oriented boxes are cx, cy, w, h,
  score, class, angle.
- ``faster-rcnn``: outputs of their own for boxes (n, 4) x0, y0, x1, y1, scores (n,), labels (n,):
  torchvision's detection models, ``torchvision/models/detection/faster_rcnn.py``.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import ModelFileError

HEADS = ("yolov5", "yolov8", "end2end", "faster-rcnn")
_STRIDES = (8, 16, 32)
_ANCHORS = 3
"""Boxes that YOLOv5 predicts in each cell."""
_MOST_END2END = 1000
"""Detections that a network gives that removes duplicates itself; usually 300."""
_COEFFICIENTS = 32
"""Of a mask, in Ultralytics' models."""


@attrs.frozen(eq=False)
class Candidates:
    """What a head found, in pixels of the network's input, (0, 0) the corner of the first one.

    boxes (n, 4) x0, y0, x1, y1, before they are turned; scores (n,); classes (n,) integers;
    angles (n,) radians or None; keypoints (n, k, 2) or None; whether duplicates are gone.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    angles: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    distinct: bool = False

    def __getitem__(self, rows: np.ndarray) -> Candidates:
        def pick(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[rows]

        return Candidates(
            self.boxes[rows],
            self.scores[rows],
            self.classes[rows],
            pick(self.angles),
            pick(self.keypoints),
            self.distinct,
        )


def read_outputs(
    outputs: Mapping[str, np.ndarray],
    input_size: tuple[int, int],
    head: str = "auto",
    metadata: Mapping[str, str] | None = None,
) -> Candidates:
    """Make out what the outputs of a detector mean.

    Parameters
    ----------
    outputs
        Arrays by name.
    input_size
        (height, width) that the network got.
    head
        One of `HEADS`; "auto" goes by the shapes.
    metadata
        Of the ONNX file.

    Raises
    ------
    ModelFileError
        On outputs of other forms, NaN, scores outside [0, 1].
    """
    head = head_of(outputs, input_size, metadata) if head == "auto" else head
    if head == "faster-rcnn":
        found = _separate(outputs)
    else:
        array = _single(outputs)[0].astype(np.float64)
        if head == "yolov8":
            cells = _cells(input_size)
            rows = array if array.shape[0] == cells != array.shape[1] else array.T
            found = _yolov8(rows, _facts(metadata or {}))
        elif head == "yolov5":
            found = _yolov5(array)
        else:
            found = _end2end(array, _facts(metadata or {}))
    return _checked(found)


def head_of(
    outputs: Mapping[str, np.ndarray],
    input_size: tuple[int, int],
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Name of the head, by the shapes of its outputs; ModelFileError when there is none."""
    if _parts(outputs) is not None:
        return "faster-rcnn"
    array = _single(outputs)
    _, a, b = array.shape
    cells = _cells(input_size)
    if a == _ANCHORS * cells and b >= 6:
        return "yolov5"
    if b == cells or a == cells:
        return "yolov8"
    if a <= _MOST_END2END and b == 6 + _extra(_facts(metadata or {})):
        return "end2end"
    if b > a >= 5:
        return "yolov8"
    if a > b >= 6:
        return "yolov5"
    raise _unknown(outputs)


def _extra(facts: dict[str, Any]) -> int:
    """Numbers that a candidate has besides its box and its classes."""
    n_keypoints, per_keypoint = facts.get("kpt_shape", (0, 0))
    extras = {"pose": n_keypoints * per_keypoint, "obb": 1, "segment": _COEFFICIENTS}
    return extras.get(facts.get("task", "detect"), 0)


def _cells(size: tuple[int, int]) -> int:
    return sum((size[0] // s) * (size[1] // s) for s in _STRIDES)


def _single(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The one output (1, a, b)."""
    fitting = [o for o in outputs.values() if o.ndim == 3 and o.shape[0] == 1]
    if len(fitting) != 1 or fitting[0].dtype.kind != "f":
        raise _unknown(outputs)
    return fitting[0]


def _unknown(outputs: Mapping[str, np.ndarray]) -> ModelFileError:
    shapes = ", ".join(f"{name} {tuple(o.shape)} {o.dtype}" for name, o in outputs.items())
    return ModelFileError(
        f"expected outputs like one of {', '.join(HEADS)}, found {shapes}; say which it is "
        "(head=...), or wrap the model in a function and take the detector 'callable'"
    )


def _parts(
    outputs: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Boxes (n, 4), scores (n,), labels (n,) when there is an output for each."""
    flat = {n: o[0] if o.ndim > 1 and o.shape[0] == 1 else o for n, o in outputs.items()}
    boxes = [o for o in outputs.values() if o.ndim == 2 and o.shape[1] == 4]
    boxes += [o[0] for o in outputs.values() if o.ndim == 3 and o.shape[::2] == (1, 4)]
    if len(boxes) != 1:
        return None
    rows = {n: o for n, o in flat.items() if o.shape == (len(boxes[0]),)}
    scores = [o for n, o in rows.items() if o.dtype.kind == "f" and not _is_label(n)]
    labels = [o for n, o in rows.items() if o.dtype.kind in "iu" or _is_label(n)]
    if len(scores) != 1 or len(labels) > 1:
        return None
    return boxes[0], scores[0], labels[0] if labels else np.zeros(len(boxes[0]), int)


def _is_label(name: str) -> bool:
    return "label" in name.lower() or "class" in name.lower()


def _separate(outputs: Mapping[str, np.ndarray]) -> Candidates:
    parts = _parts(outputs)
    if parts is None:
        raise _unknown(outputs)
    boxes, scores, labels = parts
    return Candidates(
        boxes.astype(np.float64), scores.astype(np.float64), labels.astype(int), distinct=True
    )


def _end2end(rows: np.ndarray, facts: dict[str, Any]) -> Candidates:
    task, expected = facts.get("task", "detect"), 6 + _extra(facts)
    if rows.shape[1] != expected:
        raise ModelFileError(
            f"end2end: expected rows of {expected} numbers (task {task}), found {rows.shape[1]}"
        )
    scores, classes = rows[:, 4], _numbers(rows[:, 5])
    if task == "obb":
        return Candidates(_corners(rows), scores, classes, rows[:, 6], distinct=True)
    keypoints = _keypoints(rows[:, 6:], facts) if task == "pose" else None
    return Candidates(rows[:, :4], scores, classes, None, keypoints, distinct=True)


def _keypoints(rest: np.ndarray, facts: dict[str, Any]) -> np.ndarray | None:
    """(n, k, 2), NaN where hidden."""
    n_keypoints, per_keypoint = facts.get("kpt_shape", (0, 0))
    if not n_keypoints:
        return None
    points = rest.reshape(len(rest), n_keypoints, per_keypoint)
    hidden = points[..., 2:] < 0.5 if per_keypoint > 2 else False
    return np.where(hidden, np.nan, points[..., :2])


def _numbers(classes: np.ndarray) -> np.ndarray:
    return np.nan_to_num(classes, nan=-1.0).round().astype(int)


def _yolov5(rows: np.ndarray) -> Candidates:
    if rows.shape[1] < 6:
        raise ModelFileError(f"yolov5: expected rows of 6 or more numbers, found {rows.shape[1]}")
    scores = rows[:, 4:5] * rows[:, 5:]
    return Candidates(_corners(rows), scores.max(axis=1), scores.argmax(axis=1))


def _yolov8(rows: np.ndarray, facts: dict[str, Any]) -> Candidates:
    n = rows.shape[1]
    task = facts.get("task", "detect")
    extra = 0 if task == "segment" else _extra(facts)
    n_classes = len(facts["names"]) if "names" in facts else n - 4 - extra
    expected = 4 + n_classes + extra
    if n_classes < 1 or n < expected or (n > expected and task != "segment"):
        raise ModelFileError(
            f"yolov8: expected {expected} numbers for each candidate ({n_classes} classes, task "
            f"{task}), found {n}"
        )
    scores, rest = rows[:, 4 : 4 + n_classes], rows[:, 4 + n_classes :]
    keypoints = _keypoints(rest, facts) if task == "pose" else None
    angles = rest[:, 0] if task == "obb" else None
    return Candidates(_corners(rows), scores.max(axis=1), scores.argmax(axis=1), angles, keypoints)


def _corners(rows: np.ndarray) -> np.ndarray:
    """cx, cy, w, h, ... -> x0, y0, x1, y1."""
    return np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)


def _facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Ultralytics writes Python literals as text; what is none of them is left out."""
    facts: dict[str, Any] = {}
    if metadata.get("task") in ("detect", "segment", "pose", "obb"):
        facts["task"] = metadata["task"]
    for name, kinds in (("names", (dict, list)), ("kpt_shape", (list, tuple))):
        try:
            value = ast.literal_eval(metadata.get(name, ""))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, kinds):
            facts[name] = value
    shape = facts.get("kpt_shape")
    if shape is not None and (
        len(shape) != 2 or not all(isinstance(v, int) for v in shape) or shape[1] not in (2, 3)
    ):
        raise ModelFileError(f"kpt_shape in the metadata: expected [number, 2 or 3], found {shape}")
    return facts


def _checked(found: Candidates) -> Candidates:
    bad = ~(np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores))
    if bad.any():
        raise ModelFileError(
            f"expected numbers, found NaN or infinity in {int(bad.sum())} of {len(bad)} candidates"
        )
    scores = found.scores
    if len(scores) and (scores.min() < -1e-3 or scores.max() > 1 + 1e-3):
        raise ModelFileError(
            f"scores: expected values in [0, 1], found {scores.min():.3g} to {scores.max():.3g}; "
            "export the model with its sigmoid or softmax, or say which head it has (head=...)"
        )
    return attrs.evolve(found, scores=np.clip(scores, 0, 1))
