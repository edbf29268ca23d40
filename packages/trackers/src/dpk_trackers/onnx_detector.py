"""Detectors in ONNX files, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import (
    FileMissingError,
    MissingDependencyError,
    ModelFileError,
    ValidationError,
)
from dpk_core.geometry import Transform, crop, identity, resize
from dpk_core.interfaces import Detector
from dpk_trackers.background_model import to_gray
from dpk_trackers.onnx_heads import HEADS, Candidates, read_outputs
from dpk_trackers.turned_boxes import turned_iou

INSTALL = "python -m pip install 'dpk-trackers[onnx]'"
PADDING = 114
"""Gray level of Ultralytics' letterbox (ultralytics/data/augment.py, ``LetterBox``)."""
STRIDE = 32


class OnnxDetector(Detector):
    """Finds animals with a network that was trained elsewhere: YOLO, Faster R-CNN and the like.

    **Input**: one, (1, c, h, w) or (1, h, w, c), c 3 (red, green, blue) or 1; float32 or float16
    gets pixels times ``scale``, uint8 pixels as they are. (c, h, w) without the 1 is fine, too.
    Where h and w are fixed, the frame is scaled with its aspect ratio kept, and padded with gray
    on both sides ("letterbox"). Where they are free, the frame goes in at its own size, padded at
    the right and below to a multiple of 32.

    **Output**: as one of the heads in `dpk_trackers.onnx_heads`, told apart by their shapes.

    Boxes are mapped back into the frame exactly and cut at its border; those outside are dropped.

    Parameters
    ----------
    model
        The ONNX file.
    threshold
        Score that a detection needs.
    iou
        Of two boxes that overlap more (intersection over union, of oriented boxes as they lie),
        the one with the lower score is dropped, whatever their classes; heads that do that
        themselves are left alone.
    classes
        Numbers of those to keep. Default: all.
    count
        At most so many, the best. Default: any number.
    head
        One of "yolov5", "yolov8", "end2end", "faster-rcnn", or "auto".
    scale
        Factor of the pixels of a network that takes fractions.
    size
        (height, width), or one number for both, that frames are brought to where the network
        leaves that free. Default: their own.

    Raises
    ------
    MissingDependencyError
        Without ONNX Runtime.
    FileMissingError, ModelFileError
        About the model.
    ValidationError
        On a setting out of its range.
    """

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        threshold: float = 0.25,
        iou: float = 0.5,
        classes: int | Sequence[int] | None = None,
        count: int | None = None,
        head: str = "auto",
        scale: float = 1 / 255,
        size: int | Sequence[int] | None = None,
    ) -> None:
        if model is None:
            raise ValidationError("onnx: expected a model; name its file (model=animals.onnx)")
        if head not in ("auto", *HEADS):
            raise ValidationError(f"onnx: head: expected auto, {', '.join(HEADS)}, found {head!r}")
        self.path = Path(model)
        self.threshold, self.iou = _share("threshold", threshold), _share("iou", iou)
        self.head, self.scale = head, _factor(scale)
        self.classes = None if classes is None else _classes(classes)
        self.count = None if count is None else _whole("count", count, 1)
        self.size = None if size is None else _pair(size)
        self._session = _open(self.path)
        self._read_input()

    def detect(self, frame: np.ndarray) -> Detections:
        way = self._way(frame.shape[:2])
        outputs = self._run(self._tensor(frame, way))
        try:
            found = read_outputs(outputs, way.target_size, self.head, self._metadata)
        except ModelFileError as error:
            raise ModelFileError(f"onnx: {self.path}: {error}") from None
        return _to_frame(self._chosen(found), way)

    def _read_input(self) -> None:
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape)
        if len(inputs) != 1 or len(shape) not in (3, 4):
            raise ModelFileError(
                f"onnx: {self.path}: expected one input (1, channels, height, width), found "
                + ", ".join(f"{i.name} {i.shape}" for i in inputs)
            )
        self._batched = len(shape) == 4
        *_, a, b, c = shape
        self._channels_last = c in (1, 3) and a not in (1, 3)
        channels = c if self._channels_last else a
        if isinstance(channels, int) and channels not in (1, 3):
            raise ModelFileError(
                f"onnx: {self.path}: expected an input of 1 or 3 channels, found {channels} in "
                f"{inputs[0].name} {shape}"
            )
        self._channels = channels if isinstance(channels, int) else 3
        height, width = (a, b) if self._channels_last else (b, c)
        fixed = isinstance(height, int) and isinstance(width, int)
        self._fixed = (height, width) if fixed else None
        kinds = {
            "tensor(float)": np.float32,
            "tensor(float16)": np.float16,
            "tensor(uint8)": np.uint8,
        }
        if inputs[0].type not in kinds:
            raise ModelFileError(
                f"onnx: {self.path}: expected an input of {', '.join(kinds)}, found "
                f"{inputs[0].type}"
            )
        self._dtype = kinds[inputs[0].type]
        self._input = inputs[0].name
        self._metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def _way(self, size: tuple[int, int]) -> Transform:
        """From the frame to what the network sees."""
        target = self._fixed or self.size
        if target is not None:
            return letterbox(size, target)
        height, width = (-(-side // STRIDE) * STRIDE for side in size)
        return identity(size).then(crop(size, 0, 0, height, width))

    def _tensor(self, frame: np.ndarray, way: Transform) -> np.ndarray:
        image = to_gray(frame)[..., None] if self._channels == 1 else _to_rgb(frame)
        (height, width), matrix = way.target_size, way.matrix
        inner = (round(frame.shape[0] * matrix[1, 1]), round(frame.shape[1] * matrix[0, 0]))
        if inner != frame.shape[:2]:
            image = cv2.resize(image, inner[::-1], interpolation=cv2.INTER_LINEAR)
            image = image.reshape(*inner, self._channels)
        left, top = (round(edge) for edge in way.apply(np.array([[-0.5, -0.5]]))[0] + 0.5)
        seen = np.full((height, width, self._channels), PADDING, np.uint8)
        seen[top : top + inner[0], left : left + inner[1]] = image
        if not self._channels_last:
            seen = np.moveaxis(seen, -1, 0)
        if self._dtype != np.uint8:
            seen = (seen * np.float32(self.scale)).astype(self._dtype)
        return np.ascontiguousarray(seen[None] if self._batched else seen)

    def _run(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        names = [output.name for output in self._session.get_outputs()]
        try:
            values = self._session.run(names, {self._input: tensor})
        except Exception as error:  # each of its errors is a class of its own below Exception
            raise ModelFileError(
                f"onnx: {self.path} failed on an image {tensor.shape}: {error}"
            ) from error
        return {n: v for n, v in zip(names, values, strict=True) if isinstance(v, np.ndarray)}

    def _chosen(self, found: Candidates) -> Candidates:
        good = found.scores >= self.threshold
        if self.classes is not None:
            good &= np.isin(found.classes, self.classes)
        found = found[np.flatnonzero(good)]
        found = found[np.argsort(-found.scores, kind="stable")]
        if not found.distinct:
            found = found[distinct(found.boxes, self.iou, found.angles)]
        return found if self.count is None else found[np.arange(len(found.scores))[: self.count]]


def letterbox(size: tuple[int, int], target: tuple[int, int]) -> Transform:
    """From an image of (height, width) into a canvas: scaled to fit, in the middle.

    Rounded as Ultralytics does, and exact all the same: what is rounded is in the matrix.
    """
    scale = min(target[0] / size[0], target[1] / size[1])
    inner = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    top, left = (round((t - i) / 2 - 0.1) for t, i in zip(target, inner, strict=True))
    return resize(size, inner).then(crop(inner, -top, -left, *target))


def distinct(boxes: np.ndarray, iou: float, angles: np.ndarray | None = None) -> np.ndarray:
    """Rows of (n, 4) boxes, the best first, that overlap no better one by more than ``iou``.

    With (n,) angles in radians, boxes overlap as they lie when they have been turned by these
    about their middles.
    """
    left, kept = np.arange(len(boxes)), []
    while len(left):
        best, others = left[0], left[1:]
        kept.append(best)
        overlap = (
            _iou(boxes[best], boxes[others])
            if angles is None
            else turned_iou(boxes[left], angles[left])
        )
        left = others[overlap <= iou]
    return np.array(kept, int)


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of one upright box with each of (n, 4)."""
    common = np.prod(
        np.maximum(np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2]), 0),
        axis=1,
    )
    areas = np.prod(np.maximum(others[:, 2:] - others[:, :2], 0), axis=1)
    area = np.prod(np.maximum(box[2:] - box[:2], 0))
    return common / np.maximum(area + areas - common, 1e-9)


def _to_frame(found: Candidates, way: Transform) -> Detections:
    """Detections in the frame: cut at its border, those outside left out."""
    height, width = way.source_size
    # The networks count from the corner of the first pixel, dpk from its centre.
    corners = way.inverse().apply(found.boxes.reshape(-1, 2, 2) - 0.5)
    keypoints = None
    if found.keypoints is not None:
        keypoints = way.inverse().apply(found.keypoints - 0.5)
    limit = np.array([width, height]) - 0.5
    if found.angles is None:
        corners = np.clip(corners, -0.5, limit)
    center, extent = corners.mean(axis=1), corners[:, 1] - corners[:, 0]
    inside = (extent > 0).all(axis=1) & ((center >= -0.5) & (center <= limit)).all(axis=1)
    rows = np.flatnonzero(inside)
    (x, y), (w, h) = center[rows].T, extent[rows].T
    angle = np.full(len(rows), np.nan)
    if found.angles is not None:
        w, h, angle = _along(w, h, found.angles[rows].astype(np.float64))
    if keypoints is not None:
        keypoints = keypoints[rows]
    return Detections(x, y, w, h, angle, found.scores[rows], keypoints=keypoints)


def _along(
    w: np.ndarray, h: np.ndarray, angle: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same boxes, the longer side first; angles are axes, in (-pi/2, pi/2]."""
    angle = np.where(h > w, angle + np.pi / 2, angle)
    axis = np.pi / 2 - (np.pi / 2 - angle) % np.pi
    return np.maximum(w, h), np.minimum(w, h), axis


def _to_rgb(frame: np.ndarray) -> np.ndarray:
    if frame.ndim == 3 and frame.shape[2] in (3, 4) and frame.dtype == np.uint8:
        return frame[..., :3]
    return np.repeat(to_gray(frame)[..., None], 3, axis=2)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileMissingError(f"onnx: {path} is not there, or not a file; expected an ONNX model")
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            f"onnx: ONNX Runtime is not installed; install it with: {INSTALL}"
        ) from None
    from dpk_core.services.onnx.sessions import usable_cores

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 4  # errors are raised, too
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [p for p in wanted if p in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # each of its errors is a class of its own below Exception
        raise ModelFileError(
            f"onnx: {path} is damaged or not an ONNX model that runs here: {str(error)[:300]}"
        ) from None


def _share(name: str, value: float) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValidationError(f"onnx: {name}: expected a number in [0, 1], found {value!r}")
    return float(value)


def _factor(scale: float) -> float:
    if not _is_number(scale) or not 0 < scale < np.inf:
        raise ValidationError(f"onnx: scale: expected a number above 0, found {scale!r}")
    return float(scale)


def _classes(classes: int | Sequence[int]) -> np.ndarray:
    given = np.atleast_1d(np.asarray(classes))
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu" or given.min() < 0:
        raise ValidationError(
            f"onnx: classes: expected one or several whole numbers from 0, found {classes!r}"
        )
    return given


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    given: Any = [size, size] if _is_number(size) else size
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        raise ValidationError(f"onnx: size: expected [height, width] or one number, found {size!r}")
    height, width = (_whole("size", side, 1) for side in given)
    return height, width


def _whole(name: str, value: float, least: int) -> int:
    if not _is_number(value) or not least <= value < np.inf or value != int(value):
        raise ValidationError(
            f"onnx: {name}: expected a whole number of at least {least}, found {value!r}"
        )
    return int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
