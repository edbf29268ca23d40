"""Animals before a ground that does not move: background subtraction."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpk_core.detections import Detections
from dpk_core.errors import ValidationError
from dpk_core.interfaces import Detector, Frames
from dpk_trackers.background_model import (
    POLARITIES,
    BackgroundModel,
    build_background,
    to_gray,
)
from dpk_trackers.blobs import Blob, Ellipse, find_blobs, fit_ellipse
from dpk_trackers.splitting import allot, split_blob

SPECK = 0.25
"""Of the usual area: what is smaller is no animal."""
CORE = 3
"""Power of the clarity of pixels by which they say how the body lies. On two courting flies, one
of which sings with a wing spread, it is 4 degrees from the axis of the body, 15 with power 1."""


class BackgroundDetector(Detector):
    """Finds what stands out from the ground, which it learns from frames all over the video.

    For a camera that stands still. Animals that sit still for most of the video are found; when
    the number is known, also those that never move, and those that touch are told apart.

    A detection's centre, width (along the body) and height are those of the ellipse with the
    moments of the animal's pixels, the clear ones above all: a spread wing does not turn the body.
    Nothing here knows the head from the tail: angles are in
    (-pi/2, pi/2]. The score is 1 for one as large and as clear as animals usually are in this
    video, less for a smaller or fainter one.

    Parameters
    ----------
    count
        Number of animals in the video, when known: never more are found. Default: any number, each
        blob being one.
    polarity
        Whether animals are "dark" or "bright" before the ground, or "both"; "auto" finds out.
    threshold
        Gray levels by which an animal's pixels stand out at least. Default: found out, a fifth of
        what animals usually stand out by, and clear of the noise.
    min_area
        In pixels; smaller blobs are dropped. Default: a quarter of the usual area.
    samples
        Frames that the ground is learned from.

    Raises
    ------
    ValidationError
        On a setting out of its range.
    """

    def __init__(
        self,
        count: int | None = None,
        *,
        polarity: str = "auto",
        threshold: float | None = None,
        min_area: float | None = None,
        samples: int = 80,
    ) -> None:
        if polarity not in ("auto", *POLARITIES):
            raise ValidationError(
                f"background: polarity: expected auto, {', '.join(POLARITIES)}, found {polarity!r}"
            )
        self.count = None if count is None else _whole("count", count, 1)
        self.samples = _whole("samples", samples, 3)
        self.polarity = polarity
        self.threshold = _positive("threshold", threshold, 255)
        self.min_area = _positive("min_area", min_area)
        self.model: BackgroundModel | None = None

    def prepare(self, frames: Frames) -> None:
        """Learn the ground; ValidationError on fewer than 3 frames, or frames of many sizes."""
        try:
            self.model = build_background(
                frames,
                count=self.count,
                polarity=self.polarity,
                threshold=self.threshold,
                samples=self.samples,
            )
        except ValidationError as error:
            raise ValidationError(f"background: {error}") from None

    def detect(self, frame: np.ndarray) -> Detections:
        model = self._model_for(frame)
        difference = model.difference(to_gray(frame))
        known = np.isfinite(model.area)
        smallest = self.min_area or (SPECK * model.area if known else 1.0)
        blobs = find_blobs(difference, model.threshold, smallest)
        if not blobs:
            return Detections.none()
        if self.count is None or not known:
            found = [_animal(blob, model) for blob in blobs[: self.count]]
        else:
            numbers = allot([b.area for b in blobs], self.count, model.area)
            found = [
                animal
                for blob, number in zip(blobs, numbers, strict=True)
                for animal in _animals(blob, int(number), model)
            ]
        if not found:
            return Detections.none()
        columns = np.array([[*ellipse, score] for ellipse, score in found]).T
        return Detections(*columns)

    def _model_for(self, frame: np.ndarray) -> BackgroundModel:
        if self.model is None:
            raise ValidationError(
                "background: prepare(frames) comes before detect: the ground is not known yet"
            )
        (height, width), found = self.model.image.shape, np.shape(frame)[:2]
        if found != (height, width):
            raise ValidationError(
                f"background: expected a frame of {width}x{height} pixels as in the first one, "
                f"found {'x'.join(map(str, found[::-1]))} (width x height); track videos of other "
                "sizes by themselves"
            )
        return self.model


def _animals(blob: Blob, number: int, model: BackgroundModel) -> list[tuple[Ellipse, float]]:
    if number < 2:
        return [_animal(blob, model)] * number
    shares = split_blob(blob, number, model.length, model.width, _clarity(blob))
    return [_animal(blob, model, share) for share in shares if share.sum() >= 1]


def _animal(
    blob: Blob, model: BackgroundModel, share: np.ndarray | None = None
) -> tuple[Ellipse, float]:
    """Ellipse and score of an animal that has all of a blob, or this share of each pixel."""
    share = np.ones(blob.area) if share is None else share
    clarity = _clarity(blob)
    area = share.sum()
    size = min(1.0, area / model.area) if np.isfinite(model.area) else 1.0
    contrast = min(1.0, 1.5 * (share @ blob.contrast) / area / model.contrast)
    shape = fit_ellipse(blob.points, share * clarity, share * clarity**CORE)
    return shape, float(np.clip(size * contrast, 0, 1))


def _clarity(blob: Blob) -> np.ndarray:
    """(n,) in (0, 1]: 1 for the clearest tenth of the pixels.

    Outlines that are but partly an animal's, translucent wings and thin legs count less than
    bodies.
    """
    return np.minimum(blob.contrast / np.percentile(blob.contrast, 90), 1.0).astype(np.float64)


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = int(value)
        fits = number == float(value) and number >= least
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise ValidationError(
            f"background: {name}: expected a whole number of at least {least}, found {value!r}"
        )
    return number


def _positive(name: str, value: Any, most: float = np.inf) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not (np.isfinite(number) and 0 < number <= most):
        most_said = "" if np.isinf(most) else f" and not above {most:g}"
        raise ValidationError(
            f"background: {name}: expected a number above 0{most_said}, found {value!r}"
        )
    return number
