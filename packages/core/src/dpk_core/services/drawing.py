"""Draws skeletons, keypoints and their trails onto frames, exact to a fraction of a pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np

from dpk_core.checks import as_array, check_positive, check_shape
from dpk_core.errors import ValidationError
from dpk_core.services.palette import keypoint_colors
from dpk_core.skeleton import Skeleton

MIN_SCORE = 0.2
"""Keypoints with a lower score are drawn hollow and faint."""

_SHIFT = 8
_ONE_PIXEL = 1 << _SHIFT
_FAR = 1e5  # coordinates are clipped here, so that fixed-point numbers can't overflow


def _check_fraction(_: object, attribute: attrs.Attribute, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValidationError(f"{attribute.name}: expected a number from 0 to 1, found {value}")


def _check_positive(_: object, attribute: attrs.Attribute, value: float) -> None:
    check_positive(attribute.name, value)


@attrs.frozen
class DrawStyle:
    """How a pose looks.

    Parameters
    ----------
    size
        Factor on the size of points, lines and letters, which otherwise grow with the image.
    edges, points
        Whether to draw them.
    opacity, faint_opacity
        Of what is drawn, and of keypoints below the lowest score and the edges that meet there.
    colors
        (k, 3) RGB values from 0 to 255, one a keypoint. Default: see `palette.keypoint_colors`.
    """

    size: float = attrs.field(default=1.0, validator=_check_positive)
    edges: bool = True
    points: bool = True
    opacity: float = attrs.field(default=1.0, validator=_check_fraction)
    faint_opacity: float = attrs.field(default=0.45, validator=_check_fraction)
    colors: np.ndarray | None = attrs.field(default=None, eq=False)

    def point_radius(self, image_size: tuple[int, int]) -> float:
        """Radius of a point in pixels, on an image of (height, width)."""
        return max(1.0, np.sqrt(image_size[0] * image_size[1]) / 150) * self.size

    def line_width(self, image_size: tuple[int, int]) -> int:
        """Width of an edge in pixels: always thinner than a point."""
        return max(1, round(0.75 * self.point_radius(image_size)))

    def keypoint_colors(self, skeleton: Skeleton) -> np.ndarray:
        """(k, 3) uint8 RGB."""
        if self.colors is None:
            return keypoint_colors(skeleton)
        return as_array("colors", self.colors, np.uint8, (len(skeleton), 3))


def draw_pose(
    frame: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray | None,
    skeleton: Skeleton,
    *,
    min_score: float = MIN_SCORE,
    style: DrawStyle | None = None,
) -> np.ndarray:
    """Draw the skeleton of one individual, or of several, onto a frame.

    Parameters
    ----------
    frame
        (h, w), (h, w, 1) gray or (h, w, 3) RGB uint8; it stays as it is.
    keypoints
        (k, 2) or (m, k, 2) of x, y in pixels; (0, 0) is the centre of the top-left pixel. NaN is
        left out, and so is what lies outside the frame.
    scores
        (k,) or (m, k) in [0, 1], or None when all are sure. With a score below ``min_score`` a
        keypoint is drawn as a faint ring and its edges faintly.
    skeleton
        The `Skeleton` with k keypoints.

    Returns
    -------
    (h, w, 3) uint8 RGB.

    Raises
    ------
    ValidationError
        When shapes disagree or the frame is not uint8.

    Examples
    --------
    >>> skeleton = Skeleton(("head", "tail"), parent=(-1, 0))
    >>> frame = np.zeros((48, 64, 1), np.uint8)
    >>> drawn = draw_pose(frame, [[10, 10], [30.5, 20.25]], None, skeleton)
    >>> drawn.shape, bool(frame.any()), bool(drawn.any())
    ((48, 64, 3), False, True)
    """
    style = style or DrawStyle()
    k = len(skeleton)
    keypoints = np.asarray(keypoints, dtype=np.float64)
    keypoints = keypoints[None] if keypoints.ndim == 2 else keypoints
    check_shape("keypoints", keypoints.shape, ("m", k, 2))
    scores = np.ones(keypoints.shape[:2]) if scores is None else np.atleast_2d(scores)
    check_shape("scores", scores.shape, keypoints.shape[:2])
    canvas = to_rgb(frame)
    colors = style.keypoint_colors(skeleton)
    for points, values in zip(keypoints, scores, strict=True):
        _draw_individual(canvas, points, values >= min_score, skeleton, colors, style)
    return canvas


def draw_trails(
    frame: np.ndarray,
    history: np.ndarray,
    skeleton: Skeleton,
    *,
    style: DrawStyle | None = None,
) -> np.ndarray:
    """Draw where the keypoints of one individual came from, fading with age.

    Parameters
    ----------
    frame
        As in `draw_pose`.
    history
        (t, k, 2) of x, y in pixels, the oldest first. A line is interrupted at NaN.
    skeleton
        The `Skeleton` with k keypoints.

    Returns
    -------
    (h, w, 3) uint8 RGB.
    """
    import cv2

    style = style or DrawStyle()
    history = as_array("history", history, np.float64, ("t", len(skeleton), 2))
    canvas = to_rgb(frame)
    box = _bounding_box(history.reshape(-1, 2), canvas.shape, margin=style.line_width)
    if box is None or len(history) < 2:
        return canvas
    top, bottom, left, right = box
    region = canvas[top:bottom, left:right]
    color_layer, alpha = np.zeros_like(region), np.zeros(region.shape[:2], np.uint8)
    width = max(1, style.line_width(canvas.shape[:2]) - 1)
    fixed = _fixed_point(history - (left, top))
    known = ~np.isnan(history).any(axis=2)
    colors = style.keypoint_colors(skeleton)
    for t in range(1, len(history)):
        age = t / (len(history) - 1)
        strength = round(255 * style.opacity * (0.08 + 0.72 * age))
        for j in np.flatnonzero(known[t] & known[t - 1]):
            a, b = fixed[t - 1, j].tolist(), fixed[t, j].tolist()
            cv2.line(color_layer, a, b, colors[j].tolist(), width + 2, cv2.LINE_8, _SHIFT)
            cv2.line(alpha, a, b, strength, width, cv2.LINE_AA, _SHIFT)
    drawn = alpha > 0
    share = alpha[drawn][:, None].astype(np.float32) / 255
    blended = region[drawn] * (1 - share) + color_layer[drawn] * share
    region[drawn] = np.rint(blended).astype(np.uint8)
    return canvas


def draw_box(
    frame: np.ndarray,
    corners: np.ndarray,
    color: Sequence[int],
    *,
    axis: bool = False,
    style: DrawStyle | None = None,
) -> np.ndarray:
    """Draw the outline of a box, or a dot where all its corners are one point.

    Parameters
    ----------
    corners
        (4, 2) x, y in pixels; the front is between the first two.
    axis
        Draw a line from the middle to the front.
    """
    import cv2

    style = style or DrawStyle()
    canvas = to_rgb(frame)
    corners = as_array("corners", corners, np.float64, (4, 2))
    if not np.isfinite(corners).all():
        return canvas
    drawn = canvas.copy()
    ink, width = [int(v) for v in color], style.line_width(canvas.shape[:2])
    middle, front = corners.mean(axis=0), corners[:2].mean(axis=0)
    if np.ptp(corners, axis=0).max() < 1:
        radius = round(style.point_radius(canvas.shape[:2]) * _ONE_PIXEL)
        cv2.circle(drawn, _fixed_point(middle).tolist(), radius, ink, -1, cv2.LINE_AA, _SHIFT)
    else:
        outline = [_fixed_point(corners).reshape(-1, 1, 2)]
        cv2.polylines(drawn, outline, True, ink, width, cv2.LINE_AA, _SHIFT)
        if axis:
            ends = _fixed_point(middle).tolist(), _fixed_point(front).tolist()
            cv2.line(drawn, *ends, ink, width, cv2.LINE_AA, _SHIFT)
    return cv2.addWeighted(drawn, style.opacity, canvas, 1 - style.opacity, 0)


def draw_label(
    frame: np.ndarray,
    text: str,
    position: Sequence[float],
    *,
    color: Sequence[int] = (255, 255, 255),
    style: DrawStyle | None = None,
) -> np.ndarray:
    """Write a short text with its lower left corner at (x, y), outlined so that it can be read."""
    canvas = to_rgb(frame)
    if np.isfinite(position).all():
        x, y = np.clip(position, -_FAR, _FAR).round().astype(int).tolist()
        _write(canvas, text, (x, y), color, _letter_scale(canvas, style or DrawStyle()))
    return canvas


def draw_legend(
    frame: np.ndarray, skeleton: Skeleton, *, style: DrawStyle | None = None
) -> np.ndarray:
    """List the names of the keypoints in their colours in the top-left corner.

    Letters shrink until all names fit below each other. Where that would make them unreadable the
    list is left out.
    """
    import cv2

    style = style or DrawStyle()
    canvas = to_rgb(frame)
    height, width = canvas.shape[:2]
    scale = _letter_scale(canvas, style)
    line_heights = [
        1.7 * cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][1]
        for name in skeleton.names
    ]
    widest = max(
        cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] for name in skeleton.names
    )
    shrink = min(1.0, 0.95 * height / sum(line_heights), 0.6 * width / widest)
    if scale * shrink < 0.25:
        return canvas
    line_height = max(line_heights) * shrink
    for i, color in enumerate(style.keypoint_colors(skeleton)):
        position = (round(0.4 * line_height), round((i + 0.9) * line_height))
        _write(canvas, skeleton.names[i], position, color.tolist(), scale * shrink)
    return canvas


def to_rgb(frame: np.ndarray) -> np.ndarray:
    """A copy of a gray or colour frame as contiguous (h, w, 3) uint8.

    Raises
    ------
    ValidationError
        When it is not uint8, or has neither one nor three channels.
    """
    frame = np.asarray(frame)
    if frame.dtype != np.uint8:
        raise ValidationError(f"frame: expected uint8, found {frame.dtype}")
    if frame.ndim == 2:
        frame = frame[..., None]
    if frame.ndim != 3 or frame.shape[2] not in (1, 3) or 0 in frame.shape:
        raise ValidationError(
            f"frame: expected (height, width), or with 1 or 3 channels, found {frame.shape}"
        )
    if frame.shape[2] == 1:
        return np.repeat(frame, 3, axis=2)
    return np.array(frame, order="C")


def _draw_individual(
    canvas: np.ndarray,
    points: np.ndarray,
    sure: np.ndarray,
    skeleton: Skeleton,
    colors: np.ndarray,
    style: DrawStyle,
) -> None:
    """Faint parts first, so that sure ones lie on top; each group is blended in at once."""
    known = ~np.isnan(points).any(axis=1)
    edges = [(c, p) for c, p in skeleton.edges if known[c] and known[p]] if style.edges else []
    for solid, opacity in ((False, style.faint_opacity), (True, style.opacity)):
        chosen_edges = [(c, p) for c, p in edges if (sure[c] and sure[p]) == solid]
        chosen = np.flatnonzero(known & (sure == solid)) if style.points else np.array([], int)
        involved = sorted({*chosen.tolist(), *(i for edge in chosen_edges for i in edge)})
        box = _bounding_box(points[involved], canvas.shape, margin=style.point_radius)
        if box is None or opacity == 0:
            continue
        top, bottom, left, right = box
        region = canvas[top:bottom, left:right]
        layer = region.copy()
        local = points - (left, top)
        _draw_edges(
            layer, chosen_edges, _fixed_point(local), colors, style.line_width(canvas.shape[:2])
        )
        radius = style.point_radius(canvas.shape[:2])
        _draw_points(layer, local[chosen], colors[chosen], radius, solid)
        if opacity < 1:
            mixed = region * (1 - opacity) + layer * opacity
            layer = np.rint(mixed).astype(np.uint8)
        region[...] = layer


def _draw_edges(
    layer: np.ndarray,
    edges: list[tuple[int, int]],
    fixed: np.ndarray,
    colors: np.ndarray,
    width: int,
) -> None:
    import cv2

    for child, parent in edges:
        a, b = fixed[child].tolist(), fixed[parent].tolist()
        cv2.line(layer, a, b, colors[child].tolist(), width, cv2.LINE_AA, _SHIFT)


def _draw_points(
    layer: np.ndarray,
    points: np.ndarray,
    colors: np.ndarray,
    radius: float,
    solid: bool,
) -> None:
    line = max(1.0, 0.3 * radius)
    for point, color in zip(points, colors, strict=True):
        if not solid:
            outer = max(1.5, radius) + line / 2
            _draw_disc(layer, point, outer, color, hole=outer - line)
            continue
        if radius >= 2:  # a dark rim keeps points visible on bright fur and snow
            _draw_disc(layer, point, radius + line, np.zeros(3), hole=radius - 0.5)
        _draw_disc(layer, point, radius, color)


def _draw_disc(
    layer: np.ndarray, point: np.ndarray, radius: float, color: np.ndarray, hole: float = -1.0
) -> None:
    """Blend in a disc or a ring by how much of each pixel it covers.

    OpenCV's circles are off by up to a quarter of a pixel, differently in each version.
    """
    height, width = layer.shape[:2]
    left, top = np.maximum(0, np.floor(np.clip(point, -_FAR, _FAR) - radius - 1)).astype(int)
    right, bottom = np.ceil(np.clip(point, -_FAR, _FAR) + radius + 2).astype(int)
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        return
    patch = layer[top:bottom, left:right]
    rows, columns = patch.shape[:2]
    n = 4 if radius < 4 else 1  # small discs are measured at 4 x 4 places in each pixel
    places = (np.arange(n * max(rows, columns)) + 0.5) / n - 0.5
    dy = top + places[: n * rows, None] - point[1]
    dx = left + places[: n * columns] - point[0]
    distance = np.sqrt(dx * dx + dy * dy)
    covered = np.clip(np.minimum(radius - distance, distance - hole) * n + 0.5, 0, 1)
    covered = covered.reshape(rows, n, columns, n).mean(axis=(1, 3))[..., None]
    patch[...] = np.rint(patch + covered * (color - patch)).astype(np.uint8)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    """Integers of 1/256 pixel; NaN becomes 0 and must not be used."""
    return np.rint(np.clip(np.nan_to_num(points), -_FAR, _FAR) * _ONE_PIXEL).astype(np.int32)


def _bounding_box(
    points: np.ndarray, shape: tuple[int, ...], margin: Callable[[tuple[int, int]], float]
) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of the part of the frame that the points touch, or None."""
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    reach = 2 * margin(shape[:2]) + 4
    low = np.floor(np.clip(points.min(axis=0) - reach, -_FAR, _FAR)).astype(int)
    high = np.ceil(np.clip(points.max(axis=0) + reach, -_FAR, _FAR)).astype(int) + 1
    left, top = (max(0, int(v)) for v in low)
    right, bottom = min(shape[1], int(high[0])), min(shape[0], int(high[1]))
    return (top, bottom, left, right) if left < right and top < bottom else None


def _letter_scale(canvas: np.ndarray, style: DrawStyle) -> float:
    """OpenCV's font scale such that a capital is 1/40 of the image."""
    return max(0.3, np.sqrt(canvas.shape[0] * canvas.shape[1]) / 40 / 22) * style.size


def _write(
    canvas: np.ndarray, text: str, position: tuple[int, int], color: Sequence[int], scale: float
) -> None:
    import cv2

    width, rim = max(1, round(1.6 * scale)), max(1, round(1.2 * scale))
    around = [(dx, dy) for dx in (-rim, 0, rim) for dy in (-rim, 0, rim) if dx or dy]
    values = [int(v) for v in color]
    x, y = position
    for (dx, dy), ink in [*((offset, (0, 0, 0)) for offset in around), ((0, 0), values)]:
        place = (x + dx, y + dy)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, width, cv2.LINE_AA)
