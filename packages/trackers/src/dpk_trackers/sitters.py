"""Animals that never left their place in a whole video, told from the ground that they sit on."""

from __future__ import annotations

from typing import NamedTuple

import attrs
import cv2
import numpy as np

from dpk_trackers.background_model import (
    MIN_CONTRAST,
    BackgroundModel,
    continued,
    measure,
    without_specks,
)
from dpk_trackers.blobs import Blob, find_blobs, fit_ellipse

LARGEST = 0.2
"""Share of the picture: what is larger is part of the arena."""
TWITCH_HERE, TWITCH_AREA = 0.6, 0.8
"""When animals only twitch: the least share of all change that lies on their bodies, and the
largest share of a body that changes."""


class _Sitter(NamedTuple):
    """A part of the ground that may be an animal; side 1 is brighter than around it, -1 darker."""

    side: int
    blob: Blob


def take_out_sitters(
    model: BackgroundModel,
    stack: np.ndarray,
    change: np.ndarray,
    count: int,
    polarity: str,
    threshold: float | None,
) -> BackgroundModel:
    """The model with animals that never left their place filled in with what surrounds them.

    Parameters
    ----------
    model
        As made from what changes in time.
    stack
        (n, h, w) uint8 gray frames.
    change
        (h, w) uint8: by how much each pixel changed in time, 0 where that was but noise.
    count
        Number of animals.
    polarity, threshold
        As the user gave them.
    """
    twitching = _twitching(model, change, count)
    if twitching:
        # Legs moved, bodies did not: nothing is known yet of the size of a whole animal.
        side = {s.side for s in twitching}
        if polarity == "auto" and len(side) == 1:
            model = attrs.evolve(model, polarity="bright" if side == {1} else "dark")
        model = measure(_filled(model, twitching), stack, count, threshold)
    missing = count - _seen_at_once(model, stack, count)
    if missing < 1:
        return model
    unseen = not np.isfinite(model.area)
    sitters = _sitters(model, np.isfinite(model.area))
    sitters.sort(key=lambda s: -_likeness(s.blob, model))
    sitters = sitters[:missing]
    if not sitters:
        return model
    side = {s.side for s in sitters}
    if unseen and polarity == "auto" and len(side) == 1:
        model = attrs.evolve(model, polarity="bright" if side == {1} else "dark")
    return measure(_filled(model, sitters), stack, count, threshold)


def _twitching(model: BackgroundModel, change: np.ndarray, count: int) -> list[_Sitter]:
    """Large still bodies whose small moving parts are all that moves in the whole video."""
    if not np.isfinite(model.area) or not change.any():
        return []
    large = _sitters(attrs.evolve(model, polarity="both"), size_known=False)
    found: list[_Sitter] = []
    covered = np.zeros(change.shape, bool)
    for sitter in sorted(large, key=lambda s: -_salience(s.blob))[: 2 * count]:
        blob = sitter.blob
        own = _mask([blob], change.shape)
        reach = 2 * int(fit_ellipse(blob.points).width / 2) + 1
        near = cv2.dilate(own, np.ones((reach, reach), np.uint8))
        moved = int(np.count_nonzero(change[near > 0]))
        if 0 < moved < TWITCH_AREA * blob.area and blob.area > 2 * model.area:
            found.append(sitter)
            covered |= near > 0
        if len(found) == count:
            break
    strength = change.astype(np.float32) ** 2  # what compression makes of edges is faint
    here = strength[covered].sum()
    return found if found and here > TWITCH_HERE * strength.sum() else []


def _seen_at_once(model: BackgroundModel, stack: np.ndarray, count: int) -> int:
    """Animals that are seen in the frames with the most of them."""
    if not np.isfinite(model.area):
        return 0
    sampled = stack[:: max(1, len(stack) // 40)]
    blobs = [without_specks(find_blobs(model.difference(g), model.threshold, 4)) for g in sampled]
    largest = float(np.median([f[0].area for f in blobs if f]))
    numbers = [sum(b.area > 0.25 * largest for b in frame) for frame in blobs]
    return min(count, int(np.percentile(numbers, 90)))


def _sitters(model: BackgroundModel, size_known: bool) -> list[_Sitter]:
    """What stands out from its surroundings in the ground itself."""
    size = model.length if size_known else min(model.image.shape) / 8
    apart = model.image.astype(np.int16) - _smooth(model.image, size)
    sides = {"bright": (1,), "dark": (-1,), "both": (1, -1)}[model.polarity]
    found = []
    for side in sides:
        contrast = np.clip(side * apart, 0, 255).astype(np.uint8)
        blobs = _like_animals(contrast, model) if size_known else _salient(contrast, model)
        found += [_Sitter(side, blob) for blob in blobs]
    return found


def _like_animals(contrast: np.ndarray, model: BackgroundModel) -> list[Blob]:
    level = max(6 * model.noise, 0.4 * model.contrast)
    blobs = find_blobs(contrast, level, 0.4 * model.area)
    return [b for b in blobs if b.area < 2.5 * model.area]


def _salient(contrast: np.ndarray, model: BackgroundModel) -> list[Blob]:
    level = max(6 * model.noise, MIN_CONTRAST)
    above = contrast[contrast > level]
    if not above.size:
        return []
    split, _ = cv2.threshold(above[:, None], 0, 255, cv2.THRESH_OTSU)
    blobs = find_blobs(contrast, max(level, split / 2), 9)
    return [b for b in blobs if b.area < LARGEST * contrast.size]


def _smooth(ground: np.ndarray, size: float) -> np.ndarray:
    """(h, w) int16: the middle gray level around each pixel, in a window of some animals."""
    scale = min(1.0, 16 / size)
    small = cv2.resize(ground, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    window = min(int(3 * size * scale) // 2 * 2 + 1, 255)
    smooth = cv2.medianBlur(small, max(3, window))
    return cv2.resize(smooth, ground.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.int16)


def _filled(model: BackgroundModel, sitters: list[_Sitter]) -> BackgroundModel:
    """The ground with their surroundings in their place."""
    ground = model.image
    region = cv2.dilate(_mask([s.blob for s in sitters], ground.shape), np.ones((9, 9), np.uint8))
    width = max(fit_ellipse(s.blob.points).width for s in sitters)
    filled = np.where(region > 0, continued(ground, region > 0, max(2.0, width / 2)), ground)
    return attrs.evolve(model, image=np.clip(filled.round(), 0, 255).astype(np.uint8))


def _mask(blobs: list[Blob], shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    for blob in blobs:
        x, y = blob.points.astype(int).T
        mask[y, x] = 1
    return mask


def _salience(blob: Blob) -> float:
    return float(blob.contrast.sum())


def _likeness(blob: Blob, model: BackgroundModel) -> float:
    """How much a blob is like the animals that were seen; if none was, how large and clear."""
    if not np.isfinite(model.area):
        return _salience(blob)
    size = min(blob.area / model.area, model.area / blob.area)
    shape = fit_ellipse(blob.points)
    form = min(shape.length / model.length, model.length / shape.length)
    return size * form * min(1.0, float(blob.contrast.mean()) / model.contrast)
