"""Values on the command line that need more than typer knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any

import typer

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Precision(str, Enum):
    """What a network computes in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


def seconds(text: str) -> float:
    """``90``, ``90s``, ``20m``, ``1.5h`` or ``1h30m`` as seconds; `typer.BadParameter` otherwise.

    Examples
    --------
    >>> seconds("20m"), seconds("1h30m"), seconds("90")
    (1200.0, 5400.0, 90.0)
    """
    parts = re.findall(r"([\d.]+)\s*(min|[smh]?)", text.strip().lower())
    rest = re.sub(r"([\d.]+)\s*(min|[smh]?)", "", text.strip().lower()).strip()
    try:
        total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    except ValueError:
        total = 0.0
    if rest or not total > 0:
        raise typer.BadParameter(f"expected a time such as 90s, 20m or 1h30m, found {text!r}")
    return total


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """``name=value`` pairs; values are numbers, true, false, null, or else text.

    Examples
    --------
    >>> assignments(["growth_rate=32", "pretrained=true", "backbone=resnet50"])
    {'growth_rate': 32, 'pretrained': True, 'backbone': 'resnet50'}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip().isidentifier():
            raise typer.BadParameter(f"expected name=value, such as growth_rate=32, found {text!r}")
        found[name.strip()] = _value(value.strip())
    return found


def image_shape(text: str) -> tuple[int, int, int]:
    """``HxWxC`` or ``HxW`` (one channel) as numbers; `typer.BadParameter` otherwise.

    Examples
    --------
    >>> image_shape("192x256x3"), image_shape("192x256")
    ((192, 256, 3), (192, 256, 1))
    """
    parts = text.lower().split("x")
    if len(parts) not in (2, 3) or not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(f"expected height x width x channels, as 192x192x1, not {text!r}")
    height, width, channels = (int(part) for part in [*parts, "1"][:3])
    return height, width, channels


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _value(text: str) -> Any:
    if text in ("True", "False", "None"):
        text = {"True": "true", "False": "false", "None": "null"}[text]
    try:
        return json.loads(text)
    except ValueError:
        return text
