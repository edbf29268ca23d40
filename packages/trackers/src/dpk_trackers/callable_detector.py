"""Any Python function as a detector."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import DpkError, PluginError, ValidationError
from dpk_core.interfaces import Detector

_EXPECTED = (
    "expected Detections, boxes (m, 4) of x0, y0, x1, y1, boxes and scores (m, 5), a pair of "
    "boxes and scores, or None"
)


class CallableDetector(Detector):
    """Asks a function of yours for what is in a frame.

    It is called with the frame, (h, w, c) uint8, and the options, and gives one of: `Detections`;
    (m, 4) boxes of x0, y0, x1, y1, the outer edges of their pixels where (0, 0) is the centre of
    the top-left one; (m, 5) with a score in [0, 1]; a pair of boxes and scores; None for nothing.
    The same frame must always give the same.

    Parameters
    ----------
    function
        ``"package.module:function"``, ``"folder/file.py:function"``, or the function itself.
    options
        Handed on to it as keyword arguments.

    Raises
    ------
    ValidationError
        Without a function, or on a name of another form.
    PluginError
        When it cannot be imported. From `detect`: when it raises, or gives something else than
        was agreed on, NaN, or what lies outside the frame.
    """

    def __init__(self, function: str | Callable[..., Any] | None = None, **options: Any) -> None:
        if function is None:
            raise ValidationError(
                "callable: expected a function; name it (function=package.module:function)"
            )
        if callable(function):
            self._function = function
            self.name = getattr(function, "__qualname__", repr(function))
        else:
            self.name = str(function)
            self._function = _load(self.name)
        self.options = options

    def detect(self, frame: np.ndarray) -> Detections:
        try:
            # A copy, so that a function that draws on it leaves the video as it is.
            given = self._function(frame.copy(), **self.options)
        except DpkError:
            raise
        except Exception as error:
            raise PluginError(
                f"callable: {self.name} failed: {type(error).__name__}: {error}"
            ) from error
        found = self._converted(given)
        self._check_inside(found, frame.shape[:2])
        return found

    def _converted(self, given: Any) -> Detections:
        if isinstance(given, Detections):
            return given
        if given is None:
            return Detections.none()
        boxes, scores = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        try:
            rows = np.asarray(boxes, np.float64)
            if rows.size == 0:
                return Detections.none()
            if scores is None and rows.ndim == 2 and rows.shape[1] == 5:
                rows, scores = rows[:, :4], rows[:, 4]
            if not np.isfinite(rows).all():
                raise ValidationError("boxes: found NaN or infinity")
            return Detections.from_boxes(rows, scores)
        except (TypeError, ValueError) as error:
            raise PluginError(f"callable: {self.name}: {_EXPECTED}; {error}") from None

    def _check_inside(self, found: Detections, size: tuple[int, ...]) -> None:
        height, width = size
        outside = (found.x < -0.5) | (found.x > width - 0.5)
        outside |= (found.y < -0.5) | (found.y > height - 0.5)
        if outside.any():
            i = int(np.flatnonzero(outside)[0])
            raise PluginError(
                f"callable: {self.name} found something at ({found.x[i]:.1f}, {found.y[i]:.1f}), "
                f"outside of the frame of {width}x{height} pixels (width x height)"
            )


def _load(name: str) -> Callable[..., Any]:
    place, _, attribute = name.rpartition(":")
    if not place or not attribute.isidentifier():
        raise ValidationError(
            "callable: function: expected 'package.module:function' or 'file.py:function', found "
            f"{name!r}"
        )
    try:
        module = _from_file(place) if place.endswith(".py") else importlib.import_module(place)
        function = getattr(module, attribute)
    except Exception as error:
        raise PluginError(
            f"callable: {name} could not be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(function):
        raise PluginError(f"callable: {name}: expected a function, found {type(function).__name__}")
    return function


def _from_file(place: str) -> Any:
    path = Path(place)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
