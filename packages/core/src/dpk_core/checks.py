"""Field validators that say what was expected and what was found."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpk_core.errors import ValidationError


def as_array(name: str, value: Any, dtype: Any, shape: tuple[int | str, ...]) -> np.ndarray:
    """``value`` as an array of ``dtype`` with the given shape.

    Letters in ``shape`` stand for any length, numbers for exactly that length.

    Raises
    ------
    ValidationError
        When the shape differs, or values cannot be held by ``dtype``: fractions in a field of
        integers, numbers that are too large for it.
    """
    try:
        array = np.asarray(value)
        if array.dtype == object or array.dtype.kind in "SU":
            raise TypeError(f"found {array.dtype}")
        kind = np.dtype(dtype).kind
        if kind in "iu" and array.dtype.kind == "f" and not np.all(np.mod(array, 1) == 0):
            raise TypeError("found fractions or NaN")
        if kind == "u" and array.size and array.min() < 0:
            raise TypeError("found negative values")
        if kind in "iu" and array.size and not np.can_cast(array.dtype, dtype):
            _check_range(array, np.iinfo(dtype))
        converted = array.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise ValidationError(f"{name}: expected {np.dtype(dtype)} numbers; {error}") from None
    check_shape(name, converted.shape, shape)
    return converted


def _check_range(array: np.ndarray, limits: np.iinfo) -> None:
    """TypeError for numbers that would come out as others: NumPy's casts go round in a circle."""
    for value in (array.min().item(), array.max().item()):
        if not limits.min <= value <= limits.max:
            raise TypeError(f"found {value}, which is beyond {limits.min} to {limits.max}")


def check_shape(name: str, found: tuple[int, ...], expected: tuple[int | str, ...]) -> None:
    """ValidationError unless ``found`` matches ``expected`` (letters match any length)."""
    fits = len(found) == len(expected) and all(
        isinstance(e, str) or e == f for e, f in zip(expected, found, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join(map(str, expected)) + ("," if len(expected) == 1 else "") + ")"
        raise ValidationError(f"{name}: expected shape {wanted}, found {tuple(found)}")


def check_positive(name: str, value: float) -> None:
    """ValidationError unless ``value`` is a finite number above zero."""
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not is_number or not np.isfinite(value) or value <= 0:
        raise ValidationError(f"{name}: expected a number above 0, found {value!r}")
