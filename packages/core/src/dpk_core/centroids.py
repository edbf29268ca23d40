"""Centroids: what a detector learns of the animals in a frame, and what it remembers of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from dpk_core.errors import ValidationError


def _count(instance: Any, attribute: attrs.Attribute, value: int | None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and (not whole or value < 1):
        raise ValidationError(f"{attribute.name}: expected a number from 1, found {value!r}")


def _anchor(instance: Any, attribute: attrs.Attribute, value: str | None) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ValidationError(f"anchor: expected the name of a keypoint, found {value!r}")


def _flag(instance: Any, attribute: attrs.Attribute, value: bool | None) -> None:
    if value is not None and not isinstance(value, bool):
        raise ValidationError(f"{attribute.name}: expected true or false, found {value!r}")


def _extent(instance: Any, attribute: attrs.Attribute, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ValidationError(f"{attribute.name}: expected pixels above 0, found {value!r}")


@attrs.frozen
class Centroids:
    """One point an animal, for any number of animals in an image.

    What a user leaves at None is found out from the labels.

    Parameters
    ----------
    anchor
        Name of the keypoint that is the point. None: the middle of the box around the labelled
        keypoints, which is where crops of single animals have their middle, too.
    max_animals
        In an image, at most. Default: twice as many as the image with most of them has.
    partly_labelled
        Whether images may show animals that nobody labelled. Default: whether the labels themselves
        say so, see `dpk_core.services.centroid_labels.label_centroids`.
    width, height
        Median extent of the upright boxes around the labelled keypoints, in pixels of the original
        images; None where there is none, as with a single keypoint.

    Raises
    ------
    ValidationError
        On a value of the wrong type or out of range.
    """

    anchor: str | None = attrs.field(default=None, validator=_anchor)
    max_animals: int | None = attrs.field(default=None, validator=_count)
    partly_labelled: bool | None = attrs.field(default=None, validator=_flag)
    width: float | None = attrs.field(default=None, validator=_extent)
    height: float | None = attrs.field(default=None, validator=_extent)

    def to_config(self) -> dict[str, Any]:
        """Plain values for JSON; `from_config` reads them back."""
        return attrs.asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Centroids:
        """The inverse of `to_config`; ValidationError names what is unknown."""
        known = {f.name for f in attrs.fields(cls)}
        if not isinstance(config, Mapping) or set(config) - known:
            found = sorted(config) if isinstance(config, Mapping) else type(config).__name__
            raise ValidationError(f"centroids: expected some of {sorted(known)}, found {found}")
        return cls(**config)
