"""What a place looks like without its animals, made from frames all over a video.

Each pixel was looked at many times. Where an animal came by, it took two looks: the ground's and
the animal's. The usual choice, the look it had most often, makes a ghost of every animal that sits
still for more than half of the video. Here another question decides: which of the two looks goes on
in the surroundings of the place? At the outline of a place where an animal sat, the ground goes on,
and the animal ends. All outlines together say whether the animals are darker or brighter than
the ground; then the ground is the look at the other end, even where it was seen but in a twentieth
of the frames. An animal that never moved at all has one look only; when the number of animals is
known and some are missing, what stands out from its surroundings like the others do is taken for
one and filled in.
"""

from __future__ import annotations

import attrs
import cv2
import numpy as np

from dpk_core.errors import ValidationError, VideoError
from dpk_core.interfaces import Frames
from dpk_trackers.blobs import Blob, find_blobs, fit_ellipse

POLARITIES = ("dark", "bright", "both")
MIN_FRAMES = 3
MAX_BYTES = 400_000_000
"""Of gray frames that are held at once."""

SEEN = 0.05
"""Share of the frames in which the ground must be seen for it to be found."""
DECISIVE = 1.5
"""Ratio of misfits at the outlines from which animals count as dark, or bright, all of them."""
NOISE_FLOOR = 1.0
MIN_CONTRAST = 8.0
"""Gray levels: what changes less was never an animal."""


@attrs.frozen(eq=False, repr=False)
class BackgroundModel:
    """The ground, and how animals stand out from it.

    Parameters
    ----------
    image
        (h, w) uint8.
    polarity
        "dark" or "bright": what animals are before the ground; "both" where some are this and
        some that.
    noise
        Standard deviation of a pixel without animals, gray levels.
    threshold
        Gray levels from which a pixel is an animal's.
    contrast
        By which animals usually stand out, gray levels.
    area, length, width
        Of an animal in pixels; NaN where none was seen.
    """

    image: np.ndarray
    polarity: str
    noise: float
    threshold: float
    contrast: float
    area: float = np.nan
    length: float = np.nan
    width: float = np.nan

    def difference(self, gray: np.ndarray) -> np.ndarray:
        """(h, w) uint8: how far each pixel is from the ground, on the animals' side of it.

        Light that changes in the whole picture is no animal: the middle difference is taken off.
        """
        ground = self.image
        step = max(1, int(np.sqrt(gray.size / 4096)))
        apart = gray[::step, ::step].astype(np.int16) - ground[::step, ::step]
        shift = round(float(np.median(apart)))
        if shift:
            ground = np.clip(ground.astype(np.int16) + shift, 0, 255).astype(np.uint8)
        if self.polarity == "bright":
            return cv2.subtract(gray, ground)
        if self.polarity == "dark":
            return cv2.subtract(ground, gray)
        return cv2.absdiff(gray, ground)

    def __repr__(self) -> str:
        height, width = self.image.shape
        return (
            f"BackgroundModel({width}x{height}, {self.polarity} animals of {self.area:.0f} pixels, "
            f"threshold {self.threshold:.0f})"
        )


def build_background(
    frames: Frames,
    *,
    count: int | None = None,
    polarity: str = "auto",
    threshold: float | None = None,
    samples: int = 80,
) -> BackgroundModel:
    """Look at frames all over a video and tell the ground from the animals.

    Parameters
    ----------
    frames
        Of a camera that stands still.
    count
        Number of animals, when known.
    polarity
        "dark" or "bright" animals; "both"; "auto" finds out.
    threshold
        Gray levels; None finds out.
    samples
        Frames to look at, fewer when they are very large.

    Raises
    ------
    ValidationError
        On a video that is too short, or frames of different sizes.
    """
    stack = _usual(_sample(frames, samples))
    ordered = _sorted_in_time(stack)
    noise = _noise(stack, ordered[len(ordered) // 2])
    found = polarity if polarity != "auto" else _find_polarity(ordered, noise)
    ground = _ground(ordered, found, noise)
    model = BackgroundModel(ground, found, noise, 0.0, 0.0)
    model = measure(model, stack, count, threshold)
    if count is not None:
        from dpk_trackers.sitters import take_out_sitters  # it builds on this module

        change = np.where(changed_region(ordered, noise), cv2.subtract(*_ends(ordered)[::-1]), 0)
        model = take_out_sitters(model, stack, change, count, polarity, threshold)
    return model


def to_gray(frame: np.ndarray) -> np.ndarray:
    """(h, w), (h, w, 1), or (h, w, 3 or 4) of red, green, blue -> (h, w) uint8."""
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or 0 in frame.shape:
        raise ValidationError(
            f"expected a frame (height, width, channels) of uint8, found {frame.shape} of "
            f"{frame.dtype}"
        )
    if frame.ndim == 2 or frame.shape[2] == 1:
        return np.ascontiguousarray(frame.reshape(frame.shape[:2]))
    if frame.shape[2] not in (3, 4):
        raise ValidationError(f"expected 1, 3 or 4 channels, found {frame.shape[2]}")
    rgb = np.ascontiguousarray(frame)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY if frame.shape[2] == 3 else cv2.COLOR_RGBA2GRAY)


def _sample(frames: Frames, samples: int) -> np.ndarray:
    """(n, h, w) uint8 gray frames, evenly from the first to the last."""
    total = len(frames)
    if total < MIN_FRAMES:
        raise ValidationError(
            f"expected a video of at least {MIN_FRAMES} frames to tell its ground from what moves, "
            f"found {total}"
        )
    first = to_gray(frames[0])
    n = min(total, samples, max(MIN_FRAMES, MAX_BYTES // first.size))
    chosen = []
    for number in np.unique(np.linspace(0, total - 1, n).round().astype(int)).tolist():
        try:
            gray = to_gray(frames[number])
        except VideoError:  # damaged there; whoever reads the whole video says so
            continue
        if gray.shape != first.shape:
            raise ValidationError(
                f"frame {number}: expected {first.shape[1]}x{first.shape[0]} pixels as in the "
                f"first frame, found {gray.shape[1]}x{gray.shape[0]} (width x height); a "
                "background needs frames of one size"
            )
        chosen.append(gray)
    if len(chosen) < MIN_FRAMES:
        raise ValidationError(
            f"expected at least {MIN_FRAMES} readable frames, found {len(chosen)}: the video is "
            "damaged"
        )
    return np.stack(chosen)


def _usual(stack: np.ndarray) -> np.ndarray:
    """Without frames in another light: a lamp that was off, a hand before the lens."""
    step = max(1, int(np.sqrt(stack[0].size / 16384)))
    levels = np.median(stack[:, ::step, ::step].reshape(len(stack), -1), axis=1)
    usual = np.abs(levels - np.median(levels)) <= max(10.0, 0.2 * float(np.median(levels)))
    return stack[usual] if usual.sum() >= MIN_FRAMES else stack


def _sorted_in_time(stack: np.ndarray) -> np.ndarray:
    """(n, h, w): the looks of each pixel from the darkest to the brightest."""
    n, height, width = stack.shape
    ordered = np.empty_like(stack)
    band = max(1, 2_000_000 // (n * width))
    for top in range(0, height, band):
        piece = np.ascontiguousarray(np.moveaxis(stack[:, top : top + band], 0, -1))
        piece.sort(axis=-1)
        ordered[:, top : top + band] = np.moveaxis(piece, -1, 0)
    return ordered


def _noise(stack: np.ndarray, middle: np.ndarray) -> float:
    """Standard deviation of a pixel in time: of the middle pixel, that no animal visited."""
    step = max(1, int(np.sqrt(middle.size / 16384)))
    apart = stack[:, ::step, ::step].astype(np.float32) - middle[::step, ::step]
    deviation = np.abs(apart).mean(axis=0) * 1.2533  # of a normal distribution
    return max(NOISE_FLOOR, float(np.median(deviation)))


def _find_polarity(ordered: np.ndarray, noise: float) -> str:
    """Which of the two ends, darkest or brightest, breaks off at the outlines of what changed."""
    low, high = _ends(ordered)
    changed = changed_region(ordered, noise)
    rim = changed & ~_eroded(changed)
    if not rim.any():
        return "both"
    misfit_low = _misfit(low, changed)[rim].sum()
    misfit_high = _misfit(high, changed)[rim].sum()
    if misfit_high > DECISIVE * misfit_low:
        return "bright"
    return "dark" if misfit_low > DECISIVE * misfit_high else "both"


def _ends(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The darkest and the brightest look of each pixel, without one freak in forty frames."""
    freaks = len(ordered) // 40
    return ordered[freaks], ordered[len(ordered) - 1 - freaks]


def changed_region(ordered: np.ndarray, noise: float) -> np.ndarray:
    """(h, w) bool: where more than noise was seen, from the looks sorted in time."""
    low, high = _ends(ordered)
    mask = (cv2.subtract(high, low) > max(8 * noise, MIN_CONTRAST)).astype(np.uint8)
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(bool)


def _eroded(mask: np.ndarray) -> np.ndarray:
    return cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def _misfit(look: np.ndarray, region: np.ndarray) -> np.ndarray:
    """(h, w) how far a look is from what the surroundings of the region suggest."""
    return np.abs(look - continued(look, region, 4.0))


def continued(image: np.ndarray, region: np.ndarray, sigma: float) -> np.ndarray:
    """(h, w) float32: the mean of what lies outside of the region, the nearest above all."""
    outside = (~region).astype(np.float32)
    weight = cv2.GaussianBlur(outside, (0, 0), sigma)
    total = cv2.GaussianBlur(image * outside, (0, 0), sigma)
    return total / np.maximum(weight, 1e-6)


def _ground(ordered: np.ndarray, polarity: str, noise: float) -> np.ndarray:
    """(h, w) uint8: the look on the other side from the animals', or what fits the surroundings."""
    if polarity == "bright":
        return _mode_at(ordered, noise)
    if polarity == "dark":
        return 255 - _mode_at(255 - ordered[::-1], noise)
    low, high = _ends(ordered)
    changed = changed_region(ordered, noise)
    n, labels = cv2.connectedComponents(changed.astype(np.uint8))
    rim = changed & ~_eroded(changed)
    of = labels[rim]
    misfit_low = np.bincount(of, _misfit(low, changed)[rim], n)
    misfit_high = np.bincount(of, _misfit(high, changed)[rim], n)
    dark_ground = (misfit_low < misfit_high)[labels]
    darker, brighter = _mode_at(ordered, noise), 255 - _mode_at(255 - ordered[::-1], noise)
    sides = np.where(dark_ground, darker, brighter)
    return np.where(changed, sides, ordered[len(ordered) // 2])


def _mode_at(ordered: np.ndarray, noise: float) -> np.ndarray:
    """The middle of the looks that are, but for noise, as dark as the darkest twentieth."""
    n = len(ordered)
    first = ordered[min(n - 1, max(n // 40, round(SEEN * n)))].astype(np.float32)
    limit = first + 3 * noise
    alike = np.zeros(first.shape, np.int32)
    for look in ordered:
        alike += look <= limit
    return np.take_along_axis(ordered, (alike // 2)[None], axis=0)[0]


def measure(
    model: BackgroundModel, stack: np.ndarray, count: int | None, threshold: float | None
) -> BackgroundModel:
    """The model with threshold, usual contrast, and size of an animal."""
    differences = [model.difference(gray) for gray in stack[:: max(1, len(stack) // 40)]]
    least = max(6 * model.noise, MIN_CONTRAST)
    contrast = _usual_contrast(differences, least)
    if threshold is None:
        threshold = max(least, 0.2 * contrast)
    blobs = [without_specks(find_blobs(d, threshold, 4)) for d in differences]
    model = attrs.evolve(model, threshold=float(threshold), contrast=float(contrast))
    return _with_size(model, blobs, count)


def _usual_contrast(differences: list[np.ndarray], least: float) -> float:
    """By which the pixels of animals stand out: the upper quartile of those beyond noise."""
    histogram = sum(np.bincount(d.ravel(), minlength=256) for d in differences)
    above = np.where(np.arange(256) > least, histogram, 0).cumsum()
    if not above[-1]:
        return least
    return float(np.searchsorted(above, 0.75 * above[-1]))


def without_specks(blobs: list[Blob]) -> list[Blob]:
    return [b for b in blobs if b.area >= 0.05 * blobs[0].area]


def _with_size(
    model: BackgroundModel, blobs: list[list[Blob]], count: int | None
) -> BackgroundModel:
    everything = [b for frame in blobs for b in frame]
    if not everything:
        return model
    if count is None:
        # Weighted by area, so that specks, however many, don't count.
        areas = np.sort([b.area for b in everything])
        area = float(areas[np.searchsorted(areas.cumsum(), areas.sum() / 2)])
    else:
        area = _usual_area([f[:count] for f in blobs if f], count)
    alone = [b for b in everything if 0.6 * area < b.area < 1.5 * area] or everything
    axes = np.median([fit_ellipse(b.points)[2:4] for b in alone], axis=0)
    return attrs.evolve(model, area=area, length=float(axes[0]), width=float(axes[1]))


def _usual_area(blobs: list[list[Blob]], count: int) -> float:
    """Of one animal, by frames with all of them apart; by the sum of all where those are rare."""
    sums = [sum(b.area for b in frame) for frame in blobs]
    apart = [
        total
        for frame, total in zip(blobs, sums, strict=True)
        if len(frame) == count and frame[-1].area > 0.3 * frame[0].area
    ]
    return float(np.median(apart if len(apart) > 0.1 * len(blobs) else sums)) / count
