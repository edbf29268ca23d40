"""Sets that have no skeleton yet: it is made on the first image, by clicking."""

from __future__ import annotations

from dpk_core.skeleton import Skeleton

PLACEHOLDER = "new_keypoint"
"""Name of the one keypoint of a set whose skeleton has not been made: a file must have one."""


def placeholder_skeleton() -> Skeleton:
    """What a new set has until somebody makes its skeleton."""
    return Skeleton((PLACEHOLDER,))


def is_placeholder(skeleton: Skeleton) -> bool:
    """Whether the skeleton is still to be made."""
    return skeleton.names == (PLACEHOLDER,)
