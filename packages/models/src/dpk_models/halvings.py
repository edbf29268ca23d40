"""How many times a network halves its images, for those that can do it any number of times."""

from __future__ import annotations

import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.task import Task

MAX_PADDING = 1.2
"""Automatic padding may enlarge the image's area by this factor to gain another halving."""


def count_transitions(
    task: Task, n_transitions: int = -1, *, model: str = "StackedDenseNet", least: int = 2
) -> int:
    """How many times the network halves an image, from 1 up.

    -1 halves as often as both sides stay whole numbers (and above 2), as DeepPoseKit does. Where
    that is not more than `downsample_factor`, the image is padded: the most halvings for which
    padding to a multiple adds at most 20 % to the area and at least 3 pixels a side are left
    innermost, and always one more than `downsample_factor`. A positive number is taken as it is.

    Parameters
    ----------
    model
        Its name, for messages.
    least
        The least `downsample_factor` that it can have.

    Raises
    ------
    ValidationError
        When `downsample_factor` is below `least`, `n_transitions` not above it, or the image
        smaller than two cells of the maps.
    """
    height, width, _ = task.image_shape
    fewest = task.downsample_factor + 1
    if task.downsample_factor < least:
        raise ValidationError(
            f"{model}: expected downsample_factor >= {least}, found {task.downsample_factor}; "
            f"give the TrainingGenerator downsample_factor={least} or more"
        )
    if min(task.output_shape) < 2:
        raise ValidationError(
            f"{model}: images of {height}x{width} pixels leave maps of "
            f"{task.output_shape[0]}x{task.output_shape[1]} at downsample_factor "
            f"{task.downsample_factor}, at least 2x2 is needed; use a smaller downsample_factor "
            "or larger images"
        )
    if isinstance(n_transitions, bool) or not isinstance(n_transitions, (int, np.integer)):
        raise ValidationError(f"n_transitions: expected an integer, found {n_transitions!r}")
    chosen = int(n_transitions)
    if chosen < 0:
        most = min(_count_halvings(height), _count_halvings(width))
        if most < fewest:
            most = _count_halvings_with_padding(height, width, fewest)
        chosen += most + 1
    if chosen < fewest or n_transitions == 0:
        raise ValidationError(
            f"n_transitions: {n_transitions} gives {max(chosen, 0)} for images of "
            f"{height}x{width}; expected at least {fewest}, one more than downsample_factor "
            f"({task.downsample_factor})"
        )
    if 2 ** (chosen - 1) > max(height, width):
        raise ValidationError(
            f"n_transitions: {chosen} halvings need images of about {2**chosen} pixels, found "
            f"{height}x{width}; use a smaller number, or -1 to choose by image size"
        )
    return chosen


def _count_halvings(side: int) -> int:
    n = 0
    while side % 2 == 0 and side > 2:
        side //= 2
        n += 1
    return n


def _count_halvings_with_padding(height: int, width: int, fewest: int) -> int:
    best = fewest
    for n in range(fewest + 1, fewest + 8):
        padded = [-(-side // 2**n) * 2**n for side in (height, width)]
        fits = padded[0] * padded[1] <= MAX_PADDING * height * width
        if fits and min(padded) >= 3 * 2**n:
            best = n
    return best
